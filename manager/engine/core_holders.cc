// What the control thread does about file systems that stay mounted elsewhere after their share's unmount
// (NativeAccess::find_holders).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <utility>

#include "manager/engine/core.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

/// How long after a look that has found something the next one comes: this first, then twice as long each time.
constexpr std::chrono::seconds kFirstPause{1};
constexpr std::chrono::seconds kLongestPause{30};
/// Shares that are named where all are told of.
constexpr std::size_t kMostNamed = 5;

}  // namespace

/// 0 for a bind, whose file system was mounted before the share. Asks no server.
std::uint64_t Manager::Core::device_to_look_for(const Share& share, int root) noexcept {
  if (share.spec().kind() == ShareKind::kBind || root < 0) return 0;
  const Result<struct statx> found = sys::stat_at(root, "", STATX_TYPE, AT_STATX_DONT_SYNC);
  return found ? makedev(found->stx_dev_major, found->stx_dev_minor) : 0;
}

/// The unmount is told with what is found. One look at a time, for all that have been unmounted meanwhile: however many
/// shares are unmounted at once, the mount namespaces are read a few times.
void Manager::Core::look_for_holders(Released released) {
  released_.push_back(std::move(released));
  look_for_holders();
}

void Manager::Core::look_for_holders() {
  if (looking_for_holders_ || released_.empty()) return;
  looking_for_holders_ = true;
  auto work = [self = shared_from_this(), released = std::exchange(released_, {})]() mutable {
    std::vector<NativeAccess::Unmounted> shares;
    shares.reserve(released.size());
    for (const Released& one : released) shares.push_back(one.unmounted);
    Result<std::vector<std::string>> holders = self->setup_.native->find_holders(shares);
    if (!holders) holders = std::vector<std::string>(shares.size());
    Core* core = self.get();
    core->post([core, released = std::move(released), holders = *std::move(holders)]() mutable {
      core->on_holders_found(std::move(released), std::move(holders));
    });
  };
  submit(operations_.get(), std::move(work));
}

void Manager::Core::on_holders_found(std::vector<Released> released, std::vector<std::string> holders) {
  looking_for_holders_ = false;
  for (std::size_t i = 0; i < released.size(); ++i) {
    Record& record = *released[i].record;
    const bool is_ended = released[i].is_ended;
    if (is_ended && !held_.contains(&record)) continue;  // mounted again meanwhile
    const bool is_new = record.held.empty() != holders[i].empty();
    record.held = std::move(holders[i]);
    if (record.held.empty()) {
      held_.erase(&record);
      keep_released(record, {});
    } else {
      held_.insert_or_assign(&record, std::move(released[i].unmounted));
    }
    if (is_new && !record.held.empty()) emit(record, Event::Kind::kWarning, 0, {}, "unmounted, but " + record.held);
    if (is_new && record.held.empty()) emit(record, Event::Kind::kUnmounted, 0, {}, "everywhere now");
    if (is_ended) {
      publish(record);
    } else {
      on_unmount_ended(record, std::move(released[i].operation), RealMount{}, {});
      held_pause_ = kFirstPause;
    }
  }
  if (held_.empty()) {
    look_at_held_.reset();
  } else {
    look_at_held_ = clock_.now() + held_pause_;
    held_pause_ = std::min<Duration>(2 * held_pause_, kLongestPause);
  }
  look_for_holders();
}

/// What an earlier server has unmounted, and what it has told of that if it came so far.
void Manager::Core::look_for_inherited_holders(Record& record, std::uint64_t released) {
  if (released == 0 || setup_.native == nullptr) return;
  record.held = "whether a process still has it mounted is being looked at";
  held_.insert_or_assign(&record,
                         NativeAccess::Unmounted{.share = record.share.name(),
                                                 .device = released == MountRecord::kReleasedBind ? 0 : released});
  look_at_held_ = clock_.now();
  held_pause_ = kFirstPause;
}

/// For the next server; no device: nothing is mounted elsewhere. Any thread.
void Manager::Core::keep_released(Record& record, std::optional<std::uint64_t> device) noexcept {
  if (record.kept == nullptr) return;
  record.kept->released = !device ? 0 : *device == 0 ? MountRecord::kReleasedBind : *device;
}

void Manager::Core::look_for_holders_again() {
  look_at_held_.reset();
  for (const auto& [record, unmounted] : held_) released_.push_back({record, unmounted, {}, true});
  look_for_holders();
}

/// "; still mounted elsewhere: media, home/alice and 3 more"; "" when nothing is.
std::string Manager::Core::held_shares() const {
  std::string text;
  std::size_t named = 0;
  for (const auto& [record, unmounted] : held_) {
    if (named++ < kMostNamed) text.append(text.empty() ? "; still mounted elsewhere: " : ", ").append(unmounted.share);
  }
  if (named > kMostNamed) text += " and " + std::to_string(named - kMostNamed) + " more";
  return text;
}

}  // namespace berth::manager
