#pragma once

#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "src/config/section.h"

namespace berth::config {

/// Reads [share.NAME]. `fields` holds the name, the origin and the default policy, and gets the rest.
void read_share_section(Section& section, manager::ShareFields& fields, Accounts& accounts);

/// The keys of a share, for advice on a key in a wrong place.
const std::vector<std::string_view>& share_keys();

/// What makes a share wait for itself: the key and the path that lies inside the namespace. Both empty when nothing.
struct InsideNamespace {
  std::string_view key;
  std::string path;
};
InsideNamespace find_inside(const manager::ShareFields& fields, std::string_view namespace_directory);

}  // namespace berth::config
