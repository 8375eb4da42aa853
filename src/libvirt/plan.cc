#include "src/libvirt/plan.h"

#include <algorithm>
#include <tuple>

#include "src/lib/base/text.h"

namespace berth::libvirt {
namespace {

/// 8-4-4-4-12 hexadecimal digits.
bool is_uuid(std::string_view text) {
  constexpr std::string_view kShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
  constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
  return std::equal(text.begin(), text.end(), kShape.begin(), kShape.end(), [kDigits](char there, char shape) {
    return shape == '-' ? there == '-' : kDigits.find(there) != std::string_view::npos;
  });
}

std::string as_volume(std::string_view rest) {
  std::string name;
  for (const char one : rest) {
    if (one == '/') {
      name += "%2F";
    } else if (one == '%') {
      name += "%25";
    } else {
      name += one;
    }
  }
  return name;
}

/// The UUID of the guest that an instance names.
std::string uuid_of(std::string_view instance, const Guests& guests, std::string_view origin) {
  if (instance.starts_with(std::string(origin) + ":")) instance.remove_prefix(origin.size() + 1);
  std::string name(instance);
  if (guests.contains(name)) return name;
  const auto found =
      std::find_if(guests.begin(), guests.end(), [&](const auto& one) { return one.second.name == name; });
  return found == guests.end() ? "" : found->first;
}

Line line_of(const std::string& share, const Attachment& attachment, const Wanted& wanted, const Guests& guests,
             std::string_view origin) {
  Line line{.share = share, .attachment = attachment, .is_by_hand = !is_of(attachment, origin)};
  const std::string uuid = uuid_of(attachment.instance, guests, origin);
  if (!uuid.empty()) line.guest = guests.at(uuid).name;
  const auto known = wanted.shares.find(share);
  const Attachments none;
  const Attachments& here = known == wanted.shares.end() ? none : known->second;
  if (!line.is_by_hand) {
    if (!here.contains(attachment)) line.disagreement = "attached, and the hypervisor knows no such disk";
    return line;
  }
  const std::string instance = attachment_of(origin, uuid, "").instance;
  const bool has_file =
      std::any_of(here.begin(), here.end(), [&](const Attachment& one) { return one.instance == instance; });
  if (!uuid.empty() && !has_file)
    line.disagreement = "attached by hand, and the hypervisor knows no disk of that guest here";
  if (uuid.empty() && is_uuid(attachment.instance))
    line.disagreement = "attached by hand, and the hypervisor knows no such guest";
  return line;
}

}  // namespace

std::string_view below(std::string_view path, std::string_view directory) {
  if (!path.starts_with(directory) || path.size() <= directory.size() + 1 || path[directory.size()] != '/') return {};
  return path.substr(directory.size() + 1);
}

Place place_of(std::string_view path, const std::set<std::string>& shares) {
  if (shares.contains(std::string(path))) return {std::string(path), "/"};
  for (std::size_t end = path.rfind('/'); end != std::string_view::npos && end > 0; end = path.rfind('/', end - 1)) {
    if (shares.contains(std::string(path.substr(0, end)))) {
      return {std::string(path.substr(0, end)), std::string(path.substr(end + 1))};
    }
  }
  return {};
}

Attachment attachment_of(std::string_view origin, std::string_view uuid, std::string_view rest) {
  return {std::string(origin).append(":").append(uuid), as_volume(rest)};
}

bool is_of(const Attachment& attachment, std::string_view origin) {
  return attachment.instance.starts_with(std::string(origin) + ":");
}

Wanted wanted_in(const std::string& namespace_directory, const std::set<std::string>& shares, const Guests& guests,
                 std::string_view origin) {
  Wanted wanted;
  for (const auto& [uuid, guest] : guests) {
    for (const std::string& file : guest.files) {
      const std::string_view relative = below(file, namespace_directory);
      if (relative.empty()) continue;
      const Place place = place_of(relative, shares);
      if (place.share.empty()) {
        wanted.homeless.emplace(file, guest.name);
      } else {
        wanted.shares[place.share].insert(attachment_of(origin, uuid, place.rest));
      }
    }
  }
  return wanted;
}

std::vector<Line> compare(const Wanted& wanted, const SharedAttachments& there, const Guests& guests,
                          std::string_view origin) {
  std::vector<Line> lines;
  for (const auto& [path, guest] : wanted.homeless) {
    lines.push_back({.share = "", .attachment = {"", path}, .guest = guest, .disagreement = "no share of that name"});
  }
  for (const auto& [share, attachments] : there) {
    for (const Attachment& one : attachments) lines.push_back(line_of(share, one, wanted, guests, origin));
  }
  for (const auto& [share, attachments] : wanted.shares) {
    const auto known = there.find(share);
    for (const Attachment& one : attachments) {
      if (known != there.end() && known->second.contains(one)) continue;
      Line line = line_of(share, one, wanted, guests, origin);
      line.disagreement = "the hypervisor has this disk, and it is not attached";
      lines.push_back(std::move(line));
    }
  }
  std::sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return std::tie(a.share, a.attachment) < std::tie(b.share, b.attachment);
  });
  return lines;
}

}  // namespace berth::libvirt
