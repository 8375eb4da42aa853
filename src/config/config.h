#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "manager/model/catalog.h"
#include "src/config/catalog_source.h"
#include "src/lib/base/result.h"

/// The configuration: TOML files in, a checked catalog and the daemon's settings out, or every mistake in them.
namespace berth::config {

/// [control]: which users may do what in the control tree.
struct ControlSettings {
  std::optional<gid_t> group;        ///< may change things, beside root
  bool readable_by_everyone = true;  ///< false: status is for root and `group` only

  friend bool operator==(const ControlSettings&, const ControlSettings&) = default;
};

/// [berth]: what concerns the daemon and not one share.
struct Settings {
  std::string namespace_directory;  ///< absolute, without a trailing '/'; "": not set
  std::string state_dir;  ///< where attachments are kept; "": in memory alone (there is no file, and it is not set)
  std::chrono::milliseconds takeover_timeout{std::chrono::seconds(10)};
  std::size_t crash_limit = 16;  ///< crashes of the server within `crash_window` that are made good
  std::chrono::milliseconds crash_window{std::chrono::minutes(1)};
  std::chrono::milliseconds stop_timeout{
      std::chrono::seconds(5)};  ///< a clean stop that takes longer becomes a forced one
  std::size_t max_concurrent_mounts = 16;
  std::size_t max_mounts_per_server = 8;
  std::size_t max_instances = 16384;  ///< shares that templates have made, in all, of one template, for one user
  std::size_t max_instances_per_template = 8192;
  std::size_t max_instances_per_user = 1024;
  std::size_t max_nodes = 1'000'000;  ///< files and directories that are remembered for the kernel; soft
  std::size_t inode_bits = 64;        ///< how large inode numbers of the namespace may be: 32 or 64
  ControlSettings control;

  friend bool operator==(const Settings&, const Settings&) = default;
};

/// All that a daemon has to know. It holds no trace of how it was written.
struct Configuration {
  Settings settings;
  manager::Catalog catalog;
  std::vector<std::string> files;  ///< what was read: the main file, then the drop-ins
  std::vector<CatalogSource> sources;
  std::vector<SourceShares> source_shares;  ///< of each of `sources`: what is in the catalog of what was kept of it
  std::vector<std::string> warnings;        ///< for the log, one line each; nothing that keeps the daemon from serving
};

/// The command line's settings; they override the files, also when the files are read again.
struct CommandLine {
  std::string namespace_directory;  ///< --namespace DIR; "": as in the file. Relative: to the working directory.
  std::string state_dir;            ///< --state-dir DIR; as namespace_directory
  std::string
      source_directory;  ///< where berth that serves keeps the shares of catalog sources; "": as the settings say
  std::vector<std::string> quick_shares;  ///< --share NAME=DIR, as given: bind mounts. Relative DIRs as above.
};

/// A drop-in as it would be, for a look at a configuration before it is written.
struct DropInChange {
  std::string path;                 ///< in the directory of drop-ins
  std::optional<std::string> text;  ///< absent: it is not there
};

class ReadFiles;

/// Reads `file` and the drop-ins, `*.toml` of the directory `shares.d` beside it (sorted bytewise, hidden ones ignored;
/// a missing directory is an empty one). A configuration with any mistake is refused whole.
///
/// The shares that catalog sources have named are read from where they were kept in the state directory. What cannot be
/// read there, or is no share any more, keeps nothing else from being there.
///
/// Does not touch what the shares are on: neither sources nor the namespace directory are looked at.
///
/// `change`: as if this had been done to the drop-ins. Null: as they are.
/// `before`: what earlier calls with the same `file` and `command_line` have read, and in the end this one. Null: this
/// one reads all anew.
///
/// Threading: any thread; it reads files and the user database and so may block.
/// Errors: EINVAL when something is wrong with what was read; the story lists all of it, one line a mistake,
/// "FILE:LINE: message", and ends without a line break. open(2)'s when the main file cannot be read.
Result<Configuration> load(const std::string& file, const CommandLine& command_line = {},
                           const DropInChange* change = nullptr, ReadFiles* before = nullptr);

/// The configuration without any file: defaults, and the command line's settings.
/// Errors: EINVAL as above, with "--share NAME=DIR: message".
Result<Configuration> default_configuration(const CommandLine& command_line = {});

/// The text of a configuration that reads as these settings and has no shares. A directory that no configuration can
/// name, as the command line can, is left out.
std::string text_of(const Settings& settings);

/// Most bytes of one file.
inline constexpr std::size_t kMaxFileSize = std::size_t{16} << 20;
/// Most drop-ins.
inline constexpr std::size_t kMaxDropIns = 1024;
/// Most mistakes that are listed one by one; the rest is counted.
inline constexpr std::size_t kMaxMistakesTold = 100;

}  // namespace berth::config
