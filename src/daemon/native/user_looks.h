#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "src/daemon/native/native_users.h"
#include "src/lib/base/mutex.h"

namespace berth::daemon {

/// Looks at what the processes of all users have in some mounts. Each user's are looked at apart, on a thread of its
/// own and for a part of the time: first the superuser's, then those of users with few processes.
///
/// Threading: any thread may call anything. A thread that a process holds up may outlive this.
class UserLooks {
 public:
  struct Found {
    UsersOfMounts all;
    std::vector<uid_t> unseen;  ///< users that have processes which could not be looked at in time
    /// That, in words; "": there are none.
    [[nodiscard]] std::string text_of_unseen() const;
  };
  /// Takes `patience` at most. `of_one`: how much is noted of one user; `of_all`: of all.
  [[nodiscard]] Found look(const std::vector<std::uint64_t>& mounts, std::chrono::milliseconds patience,
                           UsesWanted of_one = {}, UsesWanted of_all = {});

 private:
  /// How many threads look at the processes of each user.
  struct Threads {
    Mutex mutex;
    std::map<uid_t, int> of BERTH_GUARDED_BY(mutex);
    /// False: there are too many already.
    bool begin(uid_t user);
    void end(uid_t user);
  };
  const std::shared_ptr<Threads> threads_ = std::make_shared<Threads>();
};

}  // namespace berth::daemon
