#include "fuse/control/attach_requests.h"

namespace berth::fuse {

bool AttachRequests::contains(const Key& key) const {
  MutexLock lock(mutex_);
  return states_.contains(key);
}

void AttachRequests::begin(const Key& key, Task start) {
  {
    MutexLock lock(mutex_);
    State& state = states_[key];
    if (state.is_given_back) {
      state.later.push_back(std::move(start));
      return;
    }
    ++state.under_way;
  }
  start();
}

bool AttachRequests::end(const Key& key, bool is_attached, bool is_told) {
  MutexLock lock(mutex_);
  const auto found = states_.find(key);
  if (found == states_.end()) return false;
  State& state = found->second;
  state.is_attached |= is_attached;
  state.is_told |= is_told;
  if (--state.under_way > 0) return false;
  state.is_given_back = state.is_attached && !state.is_told;
  if (state.is_given_back) return true;
  states_.erase(found);
  return false;
}

void AttachRequests::give_back_done(const Key& key) {
  std::vector<Task> later;
  {
    MutexLock lock(mutex_);
    const auto found = states_.find(key);
    if (found == states_.end()) return;
    later.swap(found->second.later);
    states_.erase(found);
    if (!later.empty()) states_[key].under_way = static_cast<unsigned>(later.size());
  }
  for (Task& start : later) start();
}

}  // namespace berth::fuse
