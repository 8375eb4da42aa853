#include "src/lib/sys/user_groups.h"

#include <exception>
#include <utility>

#include "src/lib/sys/thread.h"

namespace berth::sys {

std::shared_ptr<UserGroups> UserGroups::make(LookUp look_up, std::chrono::milliseconds patience) {
  return std::shared_ptr<UserGroups>(new UserGroups(std::move(look_up), patience));
}

std::vector<gid_t> UserGroups::of(uid_t user, gid_t group) {
  const std::uint64_t key = key_of(user, group);
  const auto now = std::chrono::steady_clock::now();
  bool starts = false;
  {
    MutexLock lock(mutex_);
    if (users_.size() >= kMostRemembered) {
      std::erase_if(users_, [](const auto& entry) { return !entry.second.is_asked; });
    }
    // Only a name service that does not answer leaves so many to be asked for.
    if (users_.size() >= kMostRemembered && !users_.contains(key)) return {};
    Known& known = users_[key];
    if (known.is_known && now < known.until) return known.groups;
    if (!known.is_asked) {
      known.is_asked = true;
      to_ask_.push_back(key);
      starts = !std::exchange(is_working_, true);
    }
  }
  if (starts) {
    Result<std::thread> thread = start_thread("berth-groups", [self = shared_from_this()] { self->work(); });
    if (thread) thread->detach();
    if (!thread) {
      MutexLock lock(mutex_);
      is_working_ = false;
      to_ask_.clear();
      users_.clear();
      return {};
    }
  }
  MutexLock lock(mutex_);
  const auto until = now + patience_;
  for (;;) {
    const auto found = users_.find(key);
    if (found == users_.end()) return {};
    Known& known = found->second;
    // What was right a moment ago is better than to wait.
    if (known.is_known || is_silent_) return known.groups;
    if (!answered_.wait_until(mutex_, until) && std::chrono::steady_clock::now() >= until) is_silent_ = true;
  }
}

/// Until there is nothing to ask any more.
void UserGroups::work() {
  for (;;) {
    std::uint64_t key = 0;
    {
      MutexLock lock(mutex_);
      if (to_ask_.empty()) {
        is_working_ = false;
        return;
      }
      key = to_ask_.front();
      to_ask_.pop_front();
    }
    std::vector<gid_t> groups;
    try {
      groups = look_up_(static_cast<uid_t>(key >> 32U), static_cast<gid_t>(key));
    } catch (const std::exception&) {  // no memory
    }
    MutexLock lock(mutex_);
    Known& known = users_[key];
    known = {.groups = std::move(groups), .is_known = true, .until = std::chrono::steady_clock::now() + kRemembered};
    is_silent_ = false;
    answered_.notify_all();
  }
}

}  // namespace berth::sys
