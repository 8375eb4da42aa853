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
  share_->gate_.enter_again();
  return Lease(share_, root_);
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
  if (Share* share = std::exchange(share_, nullptr)) share->leave();
}

void Share::leave() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE,
                &now);  // the vDSO's cheapest; the reaper needs no better than a few milliseconds
  touch(TimePoint(std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec)));
  switch (gate_.leave()) {
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

void Share::set_spec(ShareSpec spec) {
  // One that it had before serves again, so that a policy that goes back and forth takes no more memory each time.
  const auto same = std::find(specs_.begin(), specs_.end(), spec);
  if (same == specs_.end()) specs_.push_front(std::move(spec));
  spec_.store(same != specs_.end() ? &*same : &specs_.front(), std::memory_order_release);
}

void Share::set_root(int root) noexcept {
  root_.store(root, std::memory_order_relaxed);
  mount_generation_.fetch_add(1, std::memory_order_release);
}

ShareStatus Share::status() const {
  ShareStatus status;
  {
    MutexLock lock(mutex_);
    if (status_) status = *status_;
    status.attachments.assign(attachments().begin(), attachments().end());
  }
  // When a native share was used last only the kernel knows.
  if (status.state == ShareState::kMounted && users() == 0 && !status.native && !status.stays) {
    const Duration left = last_left() + spec().policy().idle_timeout - std::chrono::steady_clock::now();
    status.expires_at = std::chrono::system_clock::now() + std::chrono::duration_cast<WallTime::duration>(left);
  }
  return status;
}

const std::set<Attachment>& Share::attachments() const noexcept {
  static const std::set<Attachment> none;
  return attachments_ == nullptr ? none : *attachments_;
}

bool Share::has_attachment(const Attachment& attachment) const {
  MutexLock lock(mutex_);
  return attachments().contains(attachment);
}

bool Share::has_attachments_of(const std::string& instance) const {
  const Attachment first{.instance = instance, .volume = {}};
  MutexLock lock(mutex_);
  const auto at = attachments().lower_bound(first);
  return at != attachments().end() && at->instance == instance;
}

std::optional<Attacher> Share::attacher_of(const Attachment& attachment) const {
  MutexLock lock(mutex_);
  const auto found = attachments().find(attachment);
  if (found == attachments().end()) return std::nullopt;
  return found->by;
}

bool Share::has_instance(const std::string& instance) const {
  if (has_attachments_of(instance)) return true;
  MutexLock lock(mutex_);
  return instances_ != nullptr && instances_->contains(instance);
}

std::vector<std::string> Share::instances() const {
  std::set<std::string> all;
  MutexLock lock(mutex_);
  if (instances_ != nullptr) all = *instances_;
  for (const Attachment& attachment : attachments()) all.insert(attachment.instance);
  return {all.begin(), all.end()};
}

std::size_t Share::made_instance_count() const {
  MutexLock lock(mutex_);
  return instances_ == nullptr ? 0 : instances_->size();
}

bool Share::add_instance(const std::string& instance) {
  MutexLock lock(mutex_);
  if (instances_ == nullptr) instances_ = std::make_unique<std::set<std::string>>();
  return instances_->insert(instance).second;
}

bool Share::remove_instance(const std::string& instance) {
  MutexLock lock(mutex_);
  return instances_ != nullptr && instances_->erase(instance) > 0;
}

ShareState Share::state() const {
  MutexLock lock(mutex_);
  return status_ ? status_->state : ShareState::kIdle;
}

void Share::publish(ShareStatus status) {
  auto next = std::make_unique<const ShareStatus>(std::move(status));
  MutexLock lock(mutex_);
  status_.swap(next);
}

bool Share::add_attachment(const Attachment& attachment) {
  MutexLock lock(mutex_);
  if (attachments_ == nullptr) attachments_ = std::make_unique<std::set<Attachment>>();
  return attachments_->insert(attachment).second;
}

bool Share::remove_attachment(const Attachment& attachment) {
  MutexLock lock(mutex_);
  return attachments_ != nullptr && attachments_->erase(attachment) > 0;
}

std::size_t Share::attachment_count() const {
  MutexLock lock(mutex_);
  return attachments().size();
}

}  // namespace berth::manager
