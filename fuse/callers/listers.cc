#include "fuse/callers/listers.h"

namespace berth::fuse {

void Listers::opened(pid_t thread) {
  if (thread == 0) return;
  MutexLock lock(mutex_);
  threads_.insert(thread);
}

void Listers::closed(pid_t thread) {
  MutexLock lock(mutex_);
  if (const auto found = threads_.find(thread); found != threads_.end()) threads_.erase(found);
}

bool Listers::is_listing(pid_t thread) const {
  MutexLock lock(mutex_);
  return threads_.contains(thread);
}

}  // namespace berth::fuse
