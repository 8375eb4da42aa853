#pragma once

#include <sys/types.h>

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "src/lib/base/mutex.h"

namespace berth::sys {

/// The groups of users by the user database, for callers of which the kernel does not tell the process. Behind the
/// database may be a server that does not answer (nsswitch.conf(5)), so one thread of its own asks it, and a caller
/// waits a moment for it at most.
///
/// Threading: any thread may call anything.
class UserGroups : public std::enable_shared_from_this<UserGroups> {
 public:
  using LookUp = std::function<std::vector<gid_t>(uid_t user, gid_t group)>;

  /// `patience`: how long a caller waits for an answer that there has not been yet.
  static std::shared_ptr<UserGroups> make(LookUp look_up, std::chrono::milliseconds patience);

  /// The supplementary groups of `user`, whose group is `group`: as the database said last; none where it has not said
  /// anything in time. It is asked again when that is older than kRemembered.
  std::vector<gid_t> of(uid_t user, gid_t group);

  static constexpr std::chrono::seconds kRemembered{1};

 private:
  struct Known {
    std::vector<gid_t> groups;
    bool is_known = false;
    bool is_asked = false;  ///< the thread has it to do
    std::chrono::steady_clock::time_point until{};
  };

  UserGroups(LookUp look_up, std::chrono::milliseconds patience) noexcept
      : look_up_(std::move(look_up)), patience_(patience) {}
  static std::uint64_t key_of(uid_t user, gid_t group) noexcept { return std::uint64_t{user} << 32U | group; }
  void work();

  /// Users remembered at once; when there are more, all but those that are being asked for are forgotten.
  static constexpr std::size_t kMostRemembered = 1024;

  const LookUp look_up_;
  const std::chrono::milliseconds patience_;
  Mutex mutex_;
  ConditionVariable answered_;
  std::unordered_map<std::uint64_t, Known> users_ BERTH_GUARDED_BY(mutex_);
  std::deque<std::uint64_t> to_ask_ BERTH_GUARDED_BY(mutex_);
  bool is_working_ BERTH_GUARDED_BY(mutex_) = false;
  bool is_silent_ BERTH_GUARDED_BY(mutex_) =
      false;  ///< a caller has waited in vain: until it answers the others do not wait
};

}  // namespace berth::sys
