#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"

namespace berth::autofs {

using Variables = std::map<std::string, std::string, std::less<>>;

/// One place that a mount can be made from.
struct Location {
  std::string host;          ///< of NFS: the server; "": this host, and all else is in `path`
  std::uint32_t weight = 0;  ///< the smaller is preferred
  std::string path;

  friend bool operator==(const Location&, const Location&) = default;
};

/// One file system of an entry.
struct Mount {
  std::string offset;                ///< where, below the key: "/", or "/usr" in a multi-mount entry
  std::string type = "nfs";          ///< of -fstype=
  std::vector<std::string> options;  ///< the map's, the entry's, then its own; without fstype=
  std::vector<Location> locations;   ///< several: replicated servers, in the order that is written

  friend bool operator==(const Mount&, const Mount&) = default;
};

/// The value of a variable of the user that asks, by the name that autofs has for it ("UID"): a name, or the path of a
/// home directory. Errors: with a story; a value that means more is one.
using CallerVariable = std::function<Result<std::string>(std::string_view name)>;

/// What an entry is read with.
struct EntryContext {
  /// Put in the place of '&'; absent: the entry is a template, in which '&' goes on standing for the key, and "\&" and
  /// "\$" are the characters.
  std::optional<std::string> key;
  Variables variables;
  std::vector<std::string> options;  ///< of the map, from the master map
  bool slashify_colons = true;       ///< a colon behind the ":/" of a word becomes a slash
  Variables marks;                   ///< variables of the caller, by what stands for them in a template: "${user}"
  bool append_options = true;     ///< an entry's options come behind `options`; or else in their place, if it has any
  CallerVariable of_caller = {};  ///< their values, where there is a key; empty: they are not known
};

/// The mounts of an entry: at least one, no two with the same offset. `value` is what follows the key (Line::value), or
/// what a program map has printed.
/// Errors: EINVAL with a story.
Result<std::vector<Mount>> parse_entry(std::string_view value, const EntryContext& context);

}  // namespace berth::autofs
