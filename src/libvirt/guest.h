#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>

#include "src/lib/base/result.h"

namespace berth::libvirt {

/// A guest of the hypervisor, as its definition says.
struct Guest {
  std::string name;
  bool is_running = false;
  std::set<std::string> files;  ///< absolute paths of its file disks, and of directories that it shares (virtiofs)

  friend bool operator==(const Guest&, const Guest&) = default;
};

/// By UUID.
using Guests = std::map<std::string, Guest>;

/// What the definition of a guest (libvirt's domain XML) names: the files of its disks with their backing files and the
/// copies that are being made of them, and the directories that it shares. Nothing is looked at. Errors: EBADMSG when
/// it is no XML.
Result<std::set<std::string>> files_in_definition(std::string_view xml);

}  // namespace berth::libvirt
