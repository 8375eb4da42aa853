#include "src/daemon/native/mountinfo.h"

#include <cerrno>
#include <charconv>
#include <vector>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"

namespace berth::daemon {
namespace {

/// A mount namespace may hold 100,000 mounts (fs.mount-max), and any user may have made it.
constexpr std::size_t kLongestTable = std::size_t{4} << 20;

template <typename Number>
std::optional<Number> number(std::string_view text, int base = 10) {
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

/// "\\040" is a space.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto code =
        text[i] == '\\' && i + 3 < text.size() ? number<unsigned>(text.substr(i + 1, 3), 8) : std::nullopt;
    plain += code ? static_cast<char>(*code) : text[i];
    if (code) i += 3;
  }
  return plain;
}

}  // namespace

std::optional<MountLine> parse_mount_line(std::string_view line) {
  const std::vector<std::string_view> fields = split(line, ' ');
  constexpr std::size_t kOptionalFields = 6;
  if (fields.size() <= kOptionalFields) return std::nullopt;
  MountLine mount{.id = number<std::uint64_t>(fields[0]).value_or(0),
                  .parent = number<std::uint64_t>(fields[1]).value_or(0),
                  .device = fields[2],
                  .root = unescaped(fields[3]),
                  .target = unescaped(fields[4])};
  for (std::size_t i = kOptionalFields; i < fields.size() && fields[i] != "-"; ++i) {
    mount.follows = mount.follows || fields[i].starts_with("shared:") || fields[i].starts_with("master:");
  }
  return mount;
}

Result<std::string> read_mountinfo(pid_t process) {
  Result<std::string> table = sys::read_file(sys::proc::path_of(process, "mountinfo"), kLongestTable);
  if (!table && table.error().code() == EFBIG) return fail(EBUSY, "a mount namespace has too many mounts to look at");
  return table;
}

Result<std::string> device_at(pid_t process, const std::string& directory) {
  const std::string table = TRY(read_mountinfo(process));
  std::string device;
  for (const std::string_view line : split(table, '\n')) {
    const std::optional<MountLine> mount = parse_mount_line(line);
    if (mount && mount->target == directory) device = mount->device;
  }
  if (device.empty()) return fail(ENOENT, "nothing is mounted at " + quote(directory));
  return device;
}

}  // namespace berth::daemon
