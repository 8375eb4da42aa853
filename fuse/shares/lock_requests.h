#pragma once

#include <fcntl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

#include "fuse/tables/node_table.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// Requests for locks that are not done. A caller that was told of an interrupt may ask again at once, and the kernel
/// begins the call again by itself (SA_RESTART), while its first request is still in a server that does not answer.
/// That one must then take nothing back that a later one sets.
///
/// Threading: any thread may call anything. Nothing waits here.
class LockRequests {
 public:
  /// What the same owner has asked for since, in a part of the same range, and has or may yet have.
  enum class Later { kNothing, kUnlock, kLock };

  /// Of a request, under the node and the owner of the locks.
  struct Entry {
    struct flock range;
    bool is_set = false;  ///< what it asks for, and not taken back
    bool undoes = false;
    unsigned later_locks =
        0;  ///< requests that came later, but for those without an effect and those that were unlocked as a whole
    unsigned later_unlocks = 0;  ///< the same
  };
  using Entries = std::multimap<std::pair<NodeId, std::uint64_t>, Entry>;

  /// A request, as long as this lives.
  class Request {
   public:
    /// `owner`: of the locks of `node`.
    Request(LockRequests& all, NodeId node, std::uint64_t owner, const struct flock& range);
    ~Request();
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

    /// Whether an earlier request of the owner takes something back in the range now: it may be what this one sets.
    [[nodiscard]] bool must_wait() const;
    /// The request has set what it asks for.
    void note_set();
    /// The request is about to take back what it has set, until its end. Not to be done after kLock.
    Later begin_undo();

   private:
    /// Calls `change(Entry&)` of each earlier request that is not done and has a part of the range.
    template <typename Change>
    void each_earlier(const Change& change) BERTH_REQUIRES(all_.mutex_);

    LockRequests& all_;
    const Entries::iterator at_;
  };

 private:
  Mutex mutex_;
  Entries entries_ BERTH_GUARDED_BY(mutex_);
  std::atomic<std::size_t> undoing_{0};  ///< entries
};

}  // namespace berth::fuse
