#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// The directory in which one namespace keeps what must survive a restart: `<state_dir>/<name of the namespace>`.
///
/// What is written is on disk when the call returns, file and directory (fsync(2)). A file is replaced as a whole or
/// not at all. While it is open the directory is locked (flock(2)) against a second berth; a child that inherits the
/// descriptor holds the lock too, which programs that are executed do not.
///
/// Threading: one thread at a time.
class StateDirectory {
 public:
  /// How the new text of a file is called until it is complete.
  static constexpr std::string_view kNewSuffix = ".new";

  /// Touches nothing yet.
  StateDirectory(std::string state_dir, std::string namespace_directory);
  /// One that is open already, and locked: what open() gave, in another process of the same berth.
  StateDirectory(std::string state_dir, std::string namespace_directory, UniqueFd opened);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const std::string& namespace_directory() const noexcept { return namespace_directory_; }

  /// Makes the directory (0700, with those above it), opens and locks it, unless that is done.
  /// Errors: EBUSY when another berth uses it, with a story; mkdir(2)'s, open(2)'s. May be tried again.
  Result<int> open();

  /// The same, waiting until `deadline` for a berth that is just ending. A lock whose owner is dead by then, and which
  /// only a thread that is stuck in the kernel still holds, is passed by: such a thread writes nothing any more. False
  /// then.
  Result<bool> open_after_others(TimePoint deadline);

  /// Its descriptor, -1 while it is not open.
  [[nodiscard]] int fd() const noexcept { return directory_.get(); }
  /// The same once more, in the same lock. What is not open yet is opened, and locked, when it is first needed.
  [[nodiscard]] StateDirectory duplicate() const;

  /// Whether its path still leads to it, which is where the next start looks. A path that cannot be checked counts as
  /// unchanged.
  [[nodiscard]] bool is_at_path() const;
  /// Whether it is no directory any more.
  [[nodiscard]] bool is_removed() const;
  /// Makes it anew where its path leads now, and continues there, and so does the object that shares its descriptor
  /// (duplicate()). Errors: ENOTEMPTY when there is something else than shares of catalog sources in it; those of
  /// open().
  Result<> recreate();

  /// Whether there is a file of that name; true also where that cannot be checked.
  [[nodiscard]] bool has(const std::string& name) const;
  /// Names of the files in it, sorted.
  Result<std::vector<std::string>> list();
  /// Errors: ENOENT; EFBIG when it is larger than any of ours can be.
  Result<std::string> read(const std::string& name);
  /// Makes or replaces a file.
  Result<> replace(const std::string& name, std::string_view text);
  /// `reserve`: room to keep behind the text, for append() to find. `is_uncertain` is set where it failed and the new
  /// file may be in its place all the same.
  Result<> replace(const std::string& name, std::string_view text, std::size_t reserve, bool& is_uncertain);
  struct Position {
    std::size_t size;     ///< of the file, as the caller knows it
    std::size_t reserve;  ///< as in replace()
    bool must_reserve;    ///< a room that cannot be had is an error
  };
  /// Appends to a file, and leaves it as it was if that fails. `is_uncertain` is set where that failed too, and how
  /// much of the text is in the file is not known. Errors: ESTALE when it is not that long.
  Result<> append(const std::string& name, const Position& position, std::string_view text, bool& is_uncertain);
  Result<> remove(const std::string& name);
  /// Gives a file another name, which nothing has.
  Result<> rename(const std::string& name, const std::string& new_name);
  /// Gives a file a second name, which nothing has.
  Result<> link(const std::string& name, const std::string& second_name);

 private:
  Result<UniqueFd> open_unlocked();
  Result<> sync();

  std::string namespace_directory_;
  std::string state_dir_;
  std::string path_;
  UniqueFd directory_;
  int lent_ = -1;  ///< the number of the same where this is from duplicate()
};

}  // namespace berth::manager
