#include "src/lib/formats/names.h"

#include <climits>

#include "src/lib/base/text.h"

namespace berth::formats {

std::string start_command(bool is_roots) { return is_roots ? "systemctl start berth" : "systemctl --user start berth"; }

std::string unmount_command(const std::string& namespace_directory, bool is_roots) {
  return (is_roots ? "umount --recursive " : "fusermount3 -u ") + quote_command({namespace_directory});
}

std::string tree_path(std::string_view namespace_directory) {
  return std::string(namespace_directory).append("/").append(kTree);
}

std::string share_path(std::string_view namespace_directory, std::string_view share) {
  return tree_path(namespace_directory).append("/").append(kShares).append("/").append(share);
}

bool is_component(std::string_view name) noexcept {
  return !name.empty() && name.size() <= NAME_MAX && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

}  // namespace berth::formats
