#include "src/libvirt/namespaces.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "src/cli/tree.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/names.h"
#include "src/lib/sys/mount_table.h"

namespace berth::libvirt {
namespace {

/// From the share's status, because the kernel keeps the directory of an instance locked while a caller waits there for
/// mkdir(2).
Result<Attachments> attachments_of(const std::string& namespace_directory, const std::string& share) {
  const std::string directory = formats::share_path(namespace_directory, share);
  std::error_code error;
  if (std::filesystem::is_empty(directory + "/" + std::string(formats::kAttachments), error) || error)
    return Attachments();
  const std::string text = TRY(cli::Tree(namespace_directory).read(share, formats::kStatusJson));
  Attachments found;
  for (const formats::AttachmentView& one : TRY(formats::parse_share_json(text)).attachments)
    found.insert({one.instance, one.volume});
  return found;
}

Result<std::set<std::string>> read_shares(const std::string& namespace_directory) {
  const std::string text = TRY(cli::Tree(namespace_directory).read(formats::kStatusJson));
  std::set<std::string> names;
  for (const formats::ShareSummary& share : TRY(formats::parse_namespace_json(text)).shares) names.insert(share.name);
  return names;
}

/// Looks up what may be a share of a template: not the file itself, which would be mounted for it.
/// True when a name was there that was not known.
bool look_up(const std::string& namespace_directory, std::string_view relative, const std::set<std::string>& known) {
  if (!place_of(relative, known).share.empty()) return false;
  for (std::size_t end = relative.find('/'); end != std::string_view::npos; end = relative.find('/', end + 1)) {
    const std::string name(relative.substr(0, end));
    struct stat attributes {};
    if (::lstat((namespace_directory + "/" + name).c_str(), &attributes) != 0) return false;
    // A share, and no directory above shares.
    if (::access(formats::share_path(namespace_directory, name).append("/").append(formats::kControl).c_str(), F_OK) ==
        0)
      return true;
  }
  return false;
}

}  // namespace

Result<std::vector<std::string>> find_namespaces() {
  std::vector<std::string> found;
  for (const sys::MountEntry& mount : TRY(sys::read_mount_table())) {
    const bool is_known = std::find(found.begin(), found.end(), mount.target) != found.end();
    if (mount.type == formats::kMountType && mount.root == "/" && !is_known) found.push_back(mount.target);
  }
  return found;
}

Result<Seen> look_into(const std::string& namespace_directory, const Guests& guests) {
  Seen seen{.shares = TRY(read_shares(namespace_directory))};
  bool has_more = false;
  for (const auto& [uuid, guest] : guests) {
    for (const std::string& file : guest.files) {
      const std::string_view relative = below(file, namespace_directory);
      has_more = (!relative.empty() && look_up(namespace_directory, relative, seen.shares)) || has_more;
    }
  }
  if (has_more) seen.shares = TRY(read_shares(namespace_directory));
  for (const std::string& share : seen.shares) {
    Attachments found = TRY(attachments_of(namespace_directory, share));
    if (!found.empty()) seen.attachments.emplace(share, std::move(found));
  }
  return seen;
}

}  // namespace berth::libvirt
