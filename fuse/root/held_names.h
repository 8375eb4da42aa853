#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "fuse/session/parked_reply.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// Look-ups of shares' names that are kept waiting while what the names lead to changes: while a real mount is laid over
/// a share's directory, whoever walks there comes either before that or after.
///
///   free ── doubt() ──▶ doubted: answered, but not to be remembered ── hold() ──▶ held
///    ▲                    ▲                                                        │
///    └──── release() ─────┴─────────────────────── let_pass() ─────────────────────┘
///
/// Threading: any thread may call anything; one at a time changes the state of one name.
class HeldNames {
 public:
  /// Look-ups are answered from now on so that each asks again. When this returns every answer that may be remembered has
  /// been sent.
  void doubt(const std::string& share);
  /// Look-ups of a doubted name wait.
  void hold(const std::string& share);
  /// Those that waited, to be answered: the name is doubted again, or free.
  [[nodiscard]] std::vector<Reply> let_pass(const std::string& share);
  [[nodiscard]] std::vector<Reply> release(const std::string& share);

  // Threads by their numbers on the host; 0 is one that cannot be seen from here.

  /// Who waits.
  [[nodiscard]] std::vector<pid_t> waiting(const std::string& share) const;
  /// Who has been answered since the name is doubted, or since this was asked last.
  [[nodiscard]] std::vector<pid_t> take_passed(const std::string& share);

  /// Whether the kernel may remember the answer to a look-up of `share`; to be asked while Answering. Costs nothing while
  /// no name is doubted.
  [[nodiscard]] bool may_remember(const std::string& share) const;
  /// Takes a look-up of `share` if it has to wait; else it is still the caller's.
  [[nodiscard]] std::optional<Reply> pass_or_wait(const std::string& share, Reply reply);

  /// Held from before may_remember() until the answer has been sent.
  class Answering {
   public:
    explicit Answering(HeldNames& names) noexcept : names_(names), phase_(names.phase_ & 1) {
      ++names_.answering_[phase_];
    }
    ~Answering() { --names_.answering_[phase_]; }
    Answering(const Answering&) = delete;
    Answering& operator=(const Answering&) = delete;

   private:
    HeldNames& names_;
    const unsigned phase_;
  };

 private:
  struct Waiting {
    pid_t thread;
    std::shared_ptr<ParkedReply> reply;
  };
  struct Name {
    bool held = false;
    std::vector<Waiting> waiting;
    std::set<pid_t> passed;
  };

  void drain_answers();
  static std::vector<Reply> take(std::vector<Waiting> waiting);

  std::atomic<std::size_t> count_{0};  ///< of names_
  // Whoever enters after the flip and counts in the old phase has not asked may_remember() yet.
  std::atomic<unsigned> phase_{0};
  std::array<std::atomic<int>, 2> answering_{};
  std::mutex draining_;  ///< one at a time; held while it waits

  mutable Mutex mutex_;
  std::map<std::string, Name> names_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
