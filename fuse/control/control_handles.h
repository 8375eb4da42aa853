#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "fuse/control/control_path.h"
#include "fuse/control/event_log.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"

namespace berth::fuse {

/// The user that opens something in the control tree.
struct Opener {
  uid_t uid = 0;
  bool is_trusted = false;  ///< root, the daemon's user, or one of the group
};

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

  explicit ControlHandle(std::shared_ptr<const ControlPath> of) noexcept : path(std::move(of)) {}

  std::shared_ptr<const ControlPath> path;
  std::variant<Control, Text, Listing, std::unique_ptr<EventLog::Reader>> content;

  /// About how much memory it holds.
  [[nodiscard]] std::size_t bytes() const noexcept;
};

/// What is open in the control tree, bounded in number and in memory, for all and for each user: any user may open. A
/// part is kept for the trusted, so that no stranger keeps root from looking and from acting.
///
/// Threading: any thread may call anything; a handle that was found stays valid while it is used.
class ControlHandles {
 public:
  struct Limits {
    std::size_t handles;
    std::size_t bytes;
  };
  static constexpr Limits kAll{.handles = 4096, .bytes = std::size_t{128} << 20};
  static constexpr Limits kStrangers{.handles = 3072, .bytes = std::size_t{96} << 20};
  static constexpr Limits kOneStranger{.handles = 512, .bytes = std::size_t{32} << 20};
  /// Memory is given back to the system after handles of as many bytes.
  static constexpr std::size_t kLarge = std::size_t{128} << 10;

  using Make = std::function<std::shared_ptr<ControlHandle>()>;

  /// `first`: no number is below; so that a successor gives out none of its predecessor's.
  explicit ControlHandles(std::uint64_t first = 1) noexcept : next_(first) {}

  /// The number that names what `make` makes. `expected`: bytes that it takes about, which are counted before it is
  /// made, so that what is being made is bounded, too. Errors: EMFILE when there are too many, EAGAIN beyond the bytes;
  /// then nothing is made.
  Result<std::uint64_t> add(const Opener& opener, std::size_t expected, const Make& make);
  /// Makes a handle of a dead server afresh, under its number. Errors: as add().
  Result<> put(std::uint64_t number, const Opener& opener, std::size_t expected, const Make& make);
  /// Null when there is none.
  [[nodiscard]] std::shared_ptr<ControlHandle> find(std::uint64_t number) const;
  /// Whether the number was given to a trusted opener, by whichever server.
  [[nodiscard]] static bool is_of_trusted(std::uint64_t number) noexcept { return (number & kOfTrusted) != 0; }
  void remove(std::uint64_t number);
  [[nodiscard]] std::size_t size() const;

 private:
  static constexpr std::uint64_t kOfTrusted = std::uint64_t{1} << 31;

  struct Sum {
    std::size_t handles = 0;
    std::size_t bytes = 0;
  };
  struct Open {
    std::shared_ptr<ControlHandle> handle;
    Opener opener;
    std::size_t bytes = 0;
  };
  class Charge;

  Result<> charge(const Opener& opener, std::size_t bytes) BERTH_REQUIRES(mutex_);
  void discharge(const Opener& opener, std::size_t bytes) noexcept BERTH_REQUIRES(mutex_);
  Result<> make_under(std::uint64_t number, const Opener& opener, std::size_t expected, const Make& make);

  mutable Mutex mutex_;
  std::unordered_map<std::uint64_t, Open> handles_ BERTH_GUARDED_BY(mutex_);
  std::uint64_t next_ BERTH_GUARDED_BY(mutex_);
  Sum all_ BERTH_GUARDED_BY(mutex_);
  Sum strangers_ BERTH_GUARDED_BY(mutex_);
  std::unordered_map<uid_t, Sum> by_stranger_ BERTH_GUARDED_BY(mutex_);  ///< only strangers with open handles
};

}  // namespace berth::fuse
