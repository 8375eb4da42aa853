#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/config/config.h"
#include "src/lib/base/result.h"

/// Drop-ins that hold one share each: `berth add` and `berth remove` write and delete them.
namespace berth::config {

/// The section of a share, as a command line gives it.
struct NewShare {
  std::string name;
  std::string type;
  std::vector<std::string> sources;
  std::vector<std::string> options;  ///< each as in mount(8) -o: "ro", "vers=4.2"
  std::vector<std::pair<std::string, std::string>>
      settings;  ///< other keys: true, false and what begins with '[' or '"' is
                 ///< TOML, all else a text
};

/// A drop-in that was made or deleted, and is so on disk.
struct ChangedDropIn {
  std::string path;
  std::optional<std::string> before;  ///< the text of what was deleted; absent: the drop-in is new
  std::string namespace_directory;    ///< of the configuration; "": it names none
  Configuration added;                ///< the new share alone, with the warnings of its drop-in; empty: none is new
};

/// Writes the drop-in of `share` beside the configuration `file`, after a check of the configuration with it. The file
/// appears whole, on disk, and only root can read it. Two of these calls at once are made one after the other.
/// Errors: EEXIST with the file and line where the name is already; EINVAL as load(); those of write(2).
Result<ChangedDropIn> add_share(const std::string& file, const CommandLine& command_line, const NewShare& share);

/// Deletes the drop-in of the share `name`, after a check of the configuration without it.
/// Errors: ENXIO when there is no such share; EBUSY with file and line when it stands in the main file, or in a drop-in
/// with others or of another name; EINVAL as load(); those of unlink(2).
Result<ChangedDropIn> remove_share(const std::string& file, const CommandLine& command_line, const std::string& name);

/// Makes the change undone, where the drop-in is still as it was left. Errors: those of write(2) and unlink(2).
Result<> undo(const ChangedDropIn& change);

/// The name of the file of a share's drop-in: "home%2Falice.toml" of "home/alice".
std::string drop_in_name(std::string_view share);

}  // namespace berth::config
