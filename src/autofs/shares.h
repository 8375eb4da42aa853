#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "src/autofs/lines.h"
#include "src/autofs/maps.h"
#include "src/lib/base/result.h"

namespace berth::autofs {

/// A share that an entry of a map becomes.
struct Share {
  manager::ShareFields fields;     ///< without a fault; with the file and line of the entry
  std::vector<std::string> notes;  ///< what of the entry is not carried over, or is otherwise
};

/// Where the keys of a map were, when that is outside of the namespace.
struct OldPath {
  std::string path;   ///< "/home"
  std::string below;  ///< the same in the namespace: "home"

  friend bool operator==(const OldPath&, const OldPath&) = default;
};

struct Translation {
  std::vector<Share> shares;       ///< make one catalog, without a fault
  std::vector<OldPath> old_paths;  ///< each once
  Findings findings;               ///< with what is not carried over at all; those of the maps come first
};

/// What `maps` are as shares of the namespace at `namespace_directory`: a share has the path of its key, below the
/// namespace if that is where it was. `directory`: of the master map; maps of maps (-fstype=autofs) are looked for
/// there, and read.
/// `defaults`: what shares have of which the maps say nothing.
Translation translate(const Maps& maps, const std::string& namespace_directory, const std::string& directory,
                      const manager::SharePolicy& defaults = {});

/// The share `fields.name` by an entry that a program has printed for `key`, or those below that name of an entry with
/// offsets. `fields`: what the entry is added to; its options come before those of the entry. With variables of the
/// user that asks in it they are for that user alone; `find_caller` empty: there are none.
/// Errors: EINVAL with a story; EACCES with one, where that user has no value for such a variable.
Result<std::vector<Share>> translate_answer(std::string_view value, const std::string& key,
                                            const manager::ShareFields& fields,
                                            const manager::FindCaller& find_caller = {});

/// The same of what showmount(8) prints of the exports of the host `key` (-hosts): "PATH  CLIENTS", one a line.
/// Errors: ENOENT, there are none.
Result<std::vector<Share>> translate_exports(std::string_view text, const std::string& key,
                                             const manager::ShareFields& fields);

/// The only place where maps are mounted, when there is one and no direct map; else "".
std::string only_mount_point(const Maps& maps);

}  // namespace berth::autofs
