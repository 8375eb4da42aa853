#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "fuse/control/control_place.h"
#include "fuse/control/event_log.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// An open file or directory of the control tree.
struct ControlHandle {
  /// A file as it was when it was opened.
  using Text = std::string;
  struct Listed {
    std::string name;
    ino_t inode;
    unsigned char type;  ///< DT_*
  };
  /// A directory as it was when it was opened.
  using Listing = std::vector<Listed>;
  /// A control file: takes writes.
  struct Control {};

  explicit ControlHandle(std::shared_ptr<const Place> of) noexcept : place(std::move(of)) {}

  std::shared_ptr<const Place> place;
  std::variant<Control, Text, Listing, std::unique_ptr<EventLog::Reader>> content;

  /// About how much memory it holds.
  [[nodiscard]] std::size_t bytes() const noexcept;
};

/// What is open in the control tree, bounded in number and in memory: anybody may open.
///
/// Threading: any thread may call anything; a handle that was found stays valid while it is used.
class ControlHandles {
 public:
  static constexpr std::size_t kMaxHandles = 4096;
  static constexpr std::size_t kMaxBytes = std::size_t{64} << 20;
  /// Memory is given back to the system after handles of as many bytes.
  static constexpr std::size_t kLarge = std::size_t{128} << 10;

  /// `first`: no number is below; so that a successor gives out none of its predecessor's.
  explicit ControlHandles(std::uint64_t first = 1) noexcept : next_(first) {}

  /// Puts a handle of a dead server, which is made afresh, under its number. Errors: as add().
  Result<> put(std::uint64_t number, std::shared_ptr<ControlHandle> handle);
  /// The number that names it. Errors: EMFILE at kMaxHandles, EAGAIN beyond kMaxBytes.
  Result<std::uint64_t> add(std::shared_ptr<ControlHandle> handle);
  /// Null when there is none.
  [[nodiscard]] std::shared_ptr<ControlHandle> find(std::uint64_t number) const;
  void remove(std::uint64_t number);
  [[nodiscard]] std::size_t size() const;

 private:
  mutable Mutex mutex_;
  std::unordered_map<std::uint64_t, std::shared_ptr<ControlHandle>> handles_ BERTH_GUARDED_BY(mutex_);
  Result<> insert(std::uint64_t number, std::shared_ptr<ControlHandle> handle) BERTH_REQUIRES(mutex_);

  std::uint64_t next_ BERTH_GUARDED_BY(mutex_);
  std::size_t bytes_ BERTH_GUARDED_BY(mutex_) = 0;
};

}  // namespace berth::fuse
