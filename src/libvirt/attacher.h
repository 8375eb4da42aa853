#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/poller.h"
#include "src/lib/sys/task_pool.h"
#include "src/libvirt/plan.h"

namespace berth::libvirt {

/// Makes the attachments of one origin in all namespaces of the host what the guests need: attaches what is missing,
/// detaches what is too much. Attachments of other origins it leaves alone.
///
/// It compares what is there with what is wanted, and does so again when the guests change, when a namespace comes,
/// goes, is resumed or loses an attachment, and later and later after an attachment failed. A share that hangs holds up
/// its own attachments alone.
///
/// Threading: any thread may call anything. It has a thread that compares, and one for each share that it attaches or
/// detaches, up to kMostShares.
class Attacher {
 public:
  static constexpr std::size_t kMostShares = 64;
  static constexpr std::chrono::seconds kFirstRetry{1};
  static constexpr std::chrono::seconds kLastRetry{30};

  /// `only`: the namespaces to look into, where it is not empty.
  Attacher(std::string origin, std::set<std::string> only);
  /// Waits for what is under way.
  ~Attacher();
  Attacher(const Attacher&) = delete;
  Attacher& operator=(const Attacher&) = delete;

  /// Errors: those of epoll_create1(2), pthread_create(3).
  Result<> start();
  /// All guests of the hypervisor. Before the first call nothing is detached.
  void want(Guests guests);
  /// The mount table has changed.
  void on_mounts_changed();

 private:
  using Share = std::pair<std::string, std::string>;  ///< the namespace, and its name there

  /// Where `events` of a namespace is read.
  struct Watched {
    UniqueFd events;
    std::string namespace_directory;
  };

  void run();
  void compare_all();
  Result<> compare_in(const std::string& namespace_directory, const Guests& guests);
  void settle(const Share& share, const Attachments& wanted, const Attachments& there);
  void change(const Share& share, const Attachments& missing, const Attachments& surplus);
  void report(const std::string& namespace_directory, const std::vector<Line>& lines);
  void watch(const std::vector<std::string>& namespaces);
  bool is_of_interest(const sys::Poller::Ready& ready);
  void try_again_now();
  void retry_later();
  [[nodiscard]] std::optional<TimePoint> next_try();

  const std::string origin_;
  const std::set<std::string> only_;
  std::optional<sys::Poller> poller_;
  std::thread thread_;
  // Of the thread alone.
  std::vector<Watched> watched_;
  std::set<std::string> told_;  ///< disagreements that stand in the log

  Mutex mutex_;
  bool stops_ BERTH_GUARDED_BY(mutex_) = false;
  bool is_changed_ BERTH_GUARDED_BY(mutex_) = true;
  std::optional<Guests> guests_ BERTH_GUARDED_BY(mutex_);
  std::set<Share> busy_ BERTH_GUARDED_BY(mutex_);                   ///< an attachment of it is being made or taken
  std::set<Share> again_ BERTH_GUARDED_BY(mutex_);                  ///< of these: what has been found to do meanwhile
  std::map<Share, std::string> failures_ BERTH_GUARDED_BY(mutex_);  ///< that stand in the log
  std::optional<TimePoint> retry_at_ BERTH_GUARDED_BY(mutex_);
  std::chrono::milliseconds retry_ BERTH_GUARDED_BY(mutex_) = kFirstRetry;
  sys::TaskPool pool_{"attach", kMostShares};  ///< last: its tasks use the rest
};

}  // namespace berth::libvirt
