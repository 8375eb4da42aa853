#include "fuse/tables/open_files.h"

#include <cerrno>
#include <chrono>
#include <new>

#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {
namespace {

/// So near to the end it is looked for room before each open.
constexpr int kNear = 64;
/// Users that are remembered without an open file.
constexpr std::size_t kMostUsers = 4096;

}  // namespace

Result<> OpenFiles::admit(uid_t user) {
  if (near_.load(std::memory_order_relaxed) && !has_room()) {
    complain("no descriptor is left for another open file", static_cast<std::size_t>(limits_.end));
    return fail(ENFILE);
  }
  if (user == 0 || limits_.per_user == SIZE_MAX) return {};
  bool too_many = false;
  {
    const MutexLock lock(mutex_);
    if (users_.size() >= kMostUsers) std::erase_if(users_, [](const auto& entry) { return entry.second == 0; });
    too_many = users_.try_emplace(user, 0).first->second >= limits_.per_user;
  }
  if (!too_many) return {};
  complain("a user has as many files open as one user may have", limits_.per_user);
  return fail(ENFILE);
}

bool OpenFiles::has_room() {
  if (sys::lowest_free_descriptor() < limits_.end - kNear) {
    near_ = false;
    return true;
  }
  if (give_up_) give_up_();
  return sys::lowest_free_descriptor() < limits_.end;
}

void OpenFiles::complain(const char* reason, std::size_t limit) {
  {
    const MutexLock lock(mutex_);
    if (!complaints_.take(std::chrono::steady_clock::now())) return;
  }
  log::warning(
      "{} ({}): start berth with a higher limit of open files (ulimit -n, systemd: LimitNOFILE=, at most fs.nr_open)",
      reason, limit);
}

void OpenFiles::add(uid_t user, int descriptor) noexcept {
  if (descriptor >= limits_.end - kNear) near_.store(true, std::memory_order_relaxed);
  if (user == 0 || limits_.per_user == SIZE_MAX) return;
  const MutexLock lock(mutex_);
  try {
    ++users_[user];                  // admit() has made its place, most of the time
  } catch (const std::bad_alloc&) {  // not counted
  }
}

void OpenFiles::remove(uid_t user) noexcept {
  if (user == 0 || limits_.per_user == SIZE_MAX) return;
  const MutexLock lock(mutex_);
  const auto found = users_.find(user);
  if (found != users_.end() && found->second > 0) --found->second;
}

}  // namespace berth::fuse
