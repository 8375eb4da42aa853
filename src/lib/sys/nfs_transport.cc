#include "src/lib/sys/nfs_transport.h"

#include <algorithm>
#include <charconv>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::sys {
namespace {

/// Of a value. Longer ones are none of the kernel's.
constexpr std::size_t kLongestValue = 128;
/// Of mountstats: an NFS mount has 4 to 8 KiB there.
constexpr std::size_t kLargestTable = std::size_t{64} << 20;

/// The next part of `text` that `separator` ends; `text` is left at what follows.
std::string_view take_part(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

/// "" when it is too long, or holds what a terminal would act on.
std::string value_of(std::string_view value) {
  const bool is_plain = std::all_of(value.begin(), value.end(), [](char c) { return c > ' ' && c <= '~'; });
  return is_plain && value.size() <= kLongestValue ? std::string(value) : "";
}

/// The options of a mount, "rw,vers=4.2,proto=tcp"; what is known already stays.
void add_options(std::string_view options, NfsTransport& transport) {
  const auto put = [](std::string& into, std::string_view value) {
    if (into.empty()) into = value_of(value);
  };
  while (!options.empty()) {
    std::string_view value = take_part(options, ',');
    const std::string_view key = take_part(value, '=');
    if (key == "addr") put(transport.address, value);
    if (key == "proto") put(transport.protocol, value);
    if (key == "vers") put(transport.version, value);
    std::uint32_t port = 0;
    const bool is_number = std::from_chars(value.data(), value.data() + value.size(), port).ec == std::errc();
    if (key == "port" && is_number && port < 65536) transport.port = port;
  }
}

/// What a line of mountinfo says of a mount of NFS.
struct Line {
  std::string_view target, options;
};

std::optional<Line> find_line(std::uint64_t mount_id, std::string_view mountinfo) {
  const std::string id = std::to_string(mount_id);
  while (!mountinfo.empty()) {
    std::string_view line = take_part(mountinfo, '\n');
    if (take_part(line, ' ') != id) continue;
    for (int skipped = 0; skipped < 3; ++skipped) take_part(line, ' ');  // parent, device, root
    const std::string_view target = take_part(line, ' ');
    while (!line.empty() && take_part(line, ' ') != "-") {
    }
    const std::string_view type = take_part(line, ' ');
    if (type != "nfs" && type != "nfs4") return std::nullopt;
    take_part(line, ' ');  // source
    return Line{target, line};
  }
  return std::nullopt;
}

/// The lines below the last "device SOURCE mounted on TARGET with fstype nfs4 statvers=1.1", up to the next mount.
std::string_view find_part(std::string_view target, std::string_view mountstats) {
  const std::string heading = " mounted on " + std::string(target) + " with fstype nfs";
  std::string_view found;
  while (!mountstats.empty()) {
    const std::string_view line = take_part(mountstats, '\n');
    const bool is_it = line.starts_with("device ") && line.find(heading) != std::string_view::npos;
    if (!is_it) continue;
    const std::size_t end =
        std::min({mountstats.find("\ndevice "), mountstats.find("\nno device "), mountstats.size()});
    found = mountstats.substr(0, end);
    mountstats.remove_prefix(end);
  }
  return found;
}

}  // namespace

std::optional<NfsTransport> parse_nfs_transport(std::uint64_t mount_id, std::string_view mountinfo,
                                                std::string_view mountstats) {
  const std::optional<Line> line = find_line(mount_id, mountinfo);
  if (!line) return std::nullopt;
  NfsTransport transport;
  std::string_view part = find_part(line->target, mountstats);
  while (!part.empty()) {
    std::string_view value = take_part(part, '\n');
    value.remove_prefix(std::min(value.find_first_not_of('\t'), value.size()));
    const std::string_view key = take_part(value, ':');
    value.remove_prefix(std::min(value.find_first_not_of("\t "), value.size()));
    if (key == "opts") add_options(value, transport);
    if (key == "xprt") ++transport.connections;
  }
  // The address stands here alone.
  add_options(line->options, transport);
  // The kernel tells a port of NFS 4 only where it is another one (RFC 8881, section 2.9.3).
  if (transport.port == 0 && transport.version.starts_with('4') && transport.protocol != "rdma") transport.port = 2049;
  return transport;
}

std::optional<NfsTransport> nfs_transport(std::uint64_t mount_id) {
  const Result<std::string> mountinfo = read_file("/proc/thread-self/mountinfo", kLargestTable);
  if (!mountinfo || !find_line(mount_id, *mountinfo)) return std::nullopt;
  const Result<std::string> mountstats = read_file("/proc/thread-self/mountstats", kLargestTable);
  return parse_nfs_transport(mount_id, *mountinfo, mountstats.value_or(""));
}

}  // namespace berth::sys
