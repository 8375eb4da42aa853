#include "fuse/listers.h"

namespace berth::fuse {

void Listers::opened(std::uint64_t handle, pid_t thread) {
  if (thread == 0) return;
  MutexLock lock(mutex_);
  if (openers_.emplace(handle, thread).second) threads_.insert(thread);
}

void Listers::closed(std::uint64_t handle) {
  MutexLock lock(mutex_);
  const auto opener = openers_.find(handle);
  if (opener == openers_.end()) return;
  threads_.erase(threads_.find(opener->second));
  openers_.erase(opener);
}

bool Listers::is_listing(pid_t thread) const {
  MutexLock lock(mutex_);
  return threads_.contains(thread);
}

}  // namespace berth::fuse
