#include "manager/model/share.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "manager/model/events.h"

namespace berth::manager {

const char* to_string(ShareState state) noexcept {
  switch (state) {
    case ShareState::kIdle:
      return "idle";
    case ShareState::kMounting:
      return "mounting";
    case ShareState::kMounted:
      return "mounted";
    case ShareState::kStalled:
      return "stalled";
    case ShareState::kDraining:
      return "draining";
    case ShareState::kExpiring:
      return "expiring";
    case ShareState::kFailed:
      return "failed";
  }
  return "unknown";
}

const char* to_string(Event::Kind kind) noexcept {
  switch (kind) {
    case Event::Kind::kMounting:
      return "mounting";
    case Event::Kind::kMounted:
      return "mounted";
    case Event::Kind::kMountFailed:
      return "mount-failed";
    case Event::Kind::kPassedOver:
      return "passed-over";
    case Event::Kind::kUnmounting:
      return "unmounting";
    case Event::Kind::kUnmounted:
      return "unmounted";
    case Event::Kind::kUnmountFailed:
      return "unmount-failed";
    case Event::Kind::kNative:
      return "native";
    case Event::Kind::kProxied:
      return "proxied";
    case Event::Kind::kLost:
      return "lost";
    case Event::Kind::kStalled:
      return "stalled";
    case Event::Kind::kAnswers:
      return "answers";
    case Event::Kind::kAttached:
      return "attached";
    case Event::Kind::kDetached:
      return "detached";
    case Event::Kind::kRestored:
      return "restored";
    case Event::Kind::kStateDamaged:
      return "state-damaged";
    case Event::Kind::kDraining:
      return "draining";
    case Event::Kind::kDrained:
      return "drained";
    case Event::Kind::kResumed:
      return "resumed";
    case Event::Kind::kWarning:
      return "warning";
  }
  return "unknown";
}

Lease Lease::duplicate() const noexcept {
  mount_->gate.enter_again();
  return Lease(share_, mount_);
}

void Lease::count_as_writer(bool writes) noexcept {
  if (share_ == nullptr || writes_ == writes) return;
  writes_ = writes;
  if (writes) {
    ++share_->writers_;
  } else {
    --share_->writers_;
  }
}

void Lease::give_back() noexcept {
  count_as_writer(false);
  if (Share* share = std::exchange(share_, nullptr)) share->leave(*mount_, !only_looks_);
}

void Share::leave(LeasedMount& mount, bool was_use) noexcept {
  if (was_use) {
    timespec now{};
    // The vDSO's cheapest; the reaper needs no better than a few milliseconds.
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    touch(TimePoint(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec)));
  }
  switch (mount.gate.leave()) {
    case Gate::Left::kOthers:
      return;
    case Gate::Left::kIdle:
      if (spec().policy().idle_timeout.count() > 0 && standing() == Standing::kCurrent) return;
      break;
    case Gate::Left::kClosedEmpty:
      break;
  }
  listener_.on_left(*this);
}

Share::~Share() {
  delete told();
  for (LeasedMount* mount = mounts_.load(); mount != &first_mount_;) delete std::exchange(mount, mount->next);
}

std::uint64_t Share::users() const noexcept { return users_before(nullptr); }

std::uint64_t Share::users_before(const LeasedMount* mount) const noexcept {
  std::uint64_t users = 0;
  for (const LeasedMount* one = mounts_.load(std::memory_order_acquire); one != nullptr; one = one->next) {
    if (one != mount) users += one->gate.users();
  }
  return users;
}

bool Share::close_if_idle() noexcept {
  const LeasedMount* const mount = mount_.load(std::memory_order_acquire);
  // No user comes into a mount that was given up.
  if (users_before(mount) > 0) return false;
  return gate().close_if_idle() || (gate().closed() && gate().users() == 0);
}

Share::Told& Share::make_told() {
  if (told() == nullptr) told_.store(std::make_unique<Told>().release(), std::memory_order_release);
  return *told();
}

bool Share::set_spec(ShareSpec spec) {
  // One that it had before serves again, so that a policy that goes back and forth takes no more memory each time.
  const ShareSpec* next = &first_spec_;
  bool is_new = false;
  if (!(spec == first_spec_)) {
    const auto same = std::find(later_specs_.begin(), later_specs_.end(), spec);
    is_new = same == later_specs_.end();
    if (is_new) later_specs_.push_front(std::move(spec));
    next = is_new ? &later_specs_.front() : &*same;
  }
  spec_.store(next, std::memory_order_release);
  return is_new;
}

LeasedMount& Share::retire_mount() noexcept {
  LeasedMount& mount = *mount_.load();
  mount.is_retired = true;
  return mount;
}

void Share::set_root(int root) {
  LeasedMount* mount = mount_.load();
  if (mount->is_retired) {
    mount = mounts_.load();
    while (mount != nullptr && mount->is_retired) mount = mount->next;
  }
  if (mount == nullptr) {
    mount = std::make_unique<LeasedMount>().release();
    mount->next = mounts_.load();
    mounts_.store(mount, std::memory_order_release);
  }
  mount->root.store(root, std::memory_order_relaxed);
  mount_.store(mount, std::memory_order_release);
  mount_generation_.fetch_add(1, std::memory_order_release);
}

ShareStatus Share::status() const {
  ShareStatus status;
  if (Told* const told = this->told()) {
    MutexLock lock(told->mutex);
    if (told->status) status = *told->status;
    status.attachments.assign(told->attachments.begin(), told->attachments.end());
  }
  // When a native share was used last only the kernel knows.
  if (status.state == ShareState::kMounted && users() == 0 && !status.native && !status.stays) {
    const Duration left = last_left() + spec().policy().idle_timeout - std::chrono::steady_clock::now();
    status.expires_at = std::chrono::system_clock::now() + std::chrono::duration_cast<WallTime::duration>(left);
  }
  return status;
}

bool Share::has_attachment(const Attachment& attachment) const {
  Told* const told = this->told();
  if (told == nullptr) return false;
  MutexLock lock(told->mutex);
  return told->attachments.contains(attachment);
}

bool Share::has_attachments_of(const std::string& instance) const {
  Told* const told = this->told();
  if (told == nullptr) return false;
  const Attachment first{.instance = instance, .volume = {}};
  MutexLock lock(told->mutex);
  const auto at = told->attachments.lower_bound(first);
  return at != told->attachments.end() && at->instance == instance;
}

std::optional<Attacher> Share::attacher_of(const Attachment& attachment) const {
  Told* const told = this->told();
  if (told == nullptr) return std::nullopt;
  MutexLock lock(told->mutex);
  const auto found = told->attachments.find(attachment);
  if (found == told->attachments.end()) return std::nullopt;
  return found->by;
}

bool Share::has_instance(const std::string& instance) const {
  if (has_attachments_of(instance)) return true;
  Told* const told = this->told();
  if (told == nullptr) return false;
  MutexLock lock(told->mutex);
  return told->instances.contains(instance);
}

std::vector<std::string> Share::instances() const {
  Told* const told = this->told();
  if (told == nullptr) return {};
  MutexLock lock(told->mutex);
  std::set<std::string> all = told->instances;
  for (const Attachment& attachment : told->attachments) all.insert(attachment.instance);
  return {all.begin(), all.end()};
}

std::size_t Share::made_instance_count() const {
  Told* const told = this->told();
  if (told == nullptr) return 0;
  MutexLock lock(told->mutex);
  return told->instances.size();
}

bool Share::add_instance(const std::string& instance) {
  Told& told = make_told();
  MutexLock lock(told.mutex);
  return told.instances.insert(instance).second;
}

bool Share::remove_instance(const std::string& instance) {
  Told* const told = this->told();
  if (told == nullptr) return false;
  MutexLock lock(told->mutex);
  return told->instances.erase(instance) > 0;
}

ShareState Share::state() const {
  Told* const told = this->told();
  if (told == nullptr) return ShareState::kIdle;
  MutexLock lock(told->mutex);
  return told->status ? told->status->state : ShareState::kIdle;
}

void Share::publish(ShareStatus status) {
  auto next = std::make_unique<const ShareStatus>(std::move(status));
  Told& told = make_told();
  MutexLock lock(told.mutex);
  told.status.swap(next);
}

bool Share::add_attachment(const Attachment& attachment) {
  Told& told = make_told();
  MutexLock lock(told.mutex);
  return told.attachments.insert(attachment).second;
}

bool Share::remove_attachment(const Attachment& attachment) {
  Told* const told = this->told();
  if (told == nullptr) return false;
  MutexLock lock(told->mutex);
  return told->attachments.erase(attachment) > 0;
}

std::size_t Share::attachment_count() const {
  Told* const told = this->told();
  if (told == nullptr) return 0;
  MutexLock lock(told->mutex);
  return told->attachments.size();
}

}  // namespace berth::manager
