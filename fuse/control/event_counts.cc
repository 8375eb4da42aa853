#include "fuse/control/event_counts.h"

#include <string>
#include <utility>

#include "src/lib/base/error.h"

namespace berth::fuse {
namespace {

using Kind = manager::Event::Kind;

/// One of the errno values of Linux, so that there are not more labels than these.
std::string reason_of(const manager::Event& event) {
  constexpr int kMaxErrno = 133;
  return event.code > 0 && event.code <= kMaxErrno ? errno_name(event.code) : "other";
}

}  // namespace

void EventCounts::count(const manager::Event& event) {
  std::string kind = manager::to_string(event.kind);
  const std::string reason = reason_of(event);
  MutexLock lock(mutex_);
  ++counts_.events[std::move(kind)];
  if (event.kind == Kind::kMounted) counts_.mounted.add(event.took);
  if (event.kind == Kind::kUnmounted) counts_.unmounted.add(event.took);
  if (event.kind == Kind::kUnmountFailed) ++counts_.unmount_failures[reason];
  if (event.kind != Kind::kMountFailed) return;
  ++counts_.mount_failures[reason];
  counts_.mount_failed.add(event.took);
}

formats::CountsView EventCounts::view() const {
  MutexLock lock(mutex_);
  return counts_;
}

}  // namespace berth::fuse
