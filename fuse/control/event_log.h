#pragma once

#include <sys/types.h>

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fuse/kept/kept_state.h"
#include "fuse/session/reply.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// The lines of `events`: a file that only grows, of which the end is kept.
///
/// Offsets count every byte that was ever written, so that bytes dropped at the front do not confuse a reader that
/// follows. A read of a dropped offset gets the oldest line that is kept, and the reader continues from there.
///
/// Threading: any thread may call anything; one reader's functions one at a time. append() does not block: a thread of
/// the log's own notifies the waiters in poll(2).
class EventLog {
 public:
  /// Most bytes that are kept.
  static constexpr std::size_t kKept = std::size_t{128} << 10;

  /// `area`: outlives the log, which continues where the last one ended. Null: there will be no successor.
  explicit EventLog(EventArea* area = nullptr);
  /// No reader is left.
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  /// Adds whole lines.
  void append(std::string_view lines, WallTime when);

  /// Where the next line begins: the size of the file.
  [[nodiscard]] std::uint64_t size() const;
  /// When the last line was added; the epoch before the first.
  [[nodiscard]] WallTime changed() const;

  /// An open file.
  class Reader {
   public:
    explicit Reader(EventLog& log);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    /// At most `size` bytes at `offset` as the reader counts; empty at the end.
    std::string read(std::uint64_t offset, std::size_t size);
    /// Whether there is something after what was read last. If not, `waker` (may be null) is notified when there is.
    /// The log owns `waker` from here on; it replaces an earlier one.
    bool poll(fuse_pollhandle* waker);

   private:
    friend class EventLog;
    EventLog& log_;
    std::list<Reader*>::iterator self_;
    // Guarded by the log's mutex.
    std::uint64_t next_ = 0;     ///< offset that a reader that continues asks for
    std::uint64_t skipped_ = 0;  ///< bytes that were dropped before this reader came to them
    struct Destroy {
      void operator()(fuse_pollhandle* handle) const noexcept { fuse_pollhandle_destroy(handle); }
    };
    std::unique_ptr<fuse_pollhandle, Destroy> waker_;
  };

  /// A caller waits in poll(2), under this number of the kernel's: if this server dies, the next one wakes it.
  void note_poll(std::uint64_t number);
  /// Waiters that a dead server has left; they must be woken.
  [[nodiscard]] const std::vector<std::uint64_t>& inherited_polls() const noexcept { return inherited_polls_; }

  /// Sends no notifications any more; to be called before the session goes.
  void stop() noexcept;

 private:
  void tell();
  [[nodiscard]] std::string copy(std::uint64_t offset, std::size_t size) const BERTH_REQUIRES(mutex_);
  void make_room(std::size_t size) BERTH_REQUIRES(mutex_);

  mutable Mutex mutex_;
  ConditionVariable changed_condition_;
  const std::unique_ptr<EventArea> own_;  ///< where the caller of the constructor gave none
  std::vector<std::uint64_t> inherited_polls_;
  EventArea& area_;  ///< written under `mutex_`
  std::list<Reader*> readers_ BERTH_GUARDED_BY(mutex_);
  bool news_ BERTH_GUARDED_BY(mutex_) = false;
  bool stopped_ BERTH_GUARDED_BY(mutex_) = false;
  std::thread teller_;
};

}  // namespace berth::fuse
