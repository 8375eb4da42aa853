#include "src/lib/sys/proc.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>

#include "src/lib/sys/file.h"

namespace berth::sys::proc {
namespace {

/// A status with as many groups as a process can have (NGROUPS_MAX) is shorter.
constexpr std::size_t kMostRead = std::size_t{1} << 20;

}  // namespace

std::string path_of(pid_t thread, std::string_view name) {
  return "/proc/" + std::to_string(thread) + "/" + std::string(name);
}

Result<std::string> read(const std::string& path) { return read_file(path, kMostRead); }

std::string link_target(const std::string& path) {
  std::array<char, 256> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

std::vector<pid_t> numbers_in(const std::string& directory) {
  std::vector<pid_t> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return numbers;
  while (const dirent* const entry = ::readdir(listing.get())) {
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') numbers.push_back(number_at(entry->d_name));
  }
  return numbers;
}

std::string_view field_of(std::string_view text, std::string_view key) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    std::string_view line = text.substr(at, text.find('\n', at) - at);
    at += line.size() + 1;
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
    line.remove_prefix(key.size() + 1);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    return line;
  }
  return {};
}

pid_t number_at(std::string_view text) noexcept {
  pid_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

pid_t last_number_of(std::string_view field) noexcept { return number_at(field.substr(field.rfind('\t') + 1)); }

pid_t own_process() { return number_at(link_target("/proc/self")); }

bool is_in_own_pid_namespace(pid_t process) {
  const std::string own = link_target("/proc/self/ns/pid");
  return !own.empty() && link_target(path_of(process, "ns/pid")) == own;
}

pid_t process_of(int pidfd) {
  const Result<std::string> text = read("/proc/self/fdinfo/" + std::to_string(pidfd));
  return text ? number_at(field_of(*text, "Pid")) : 0;
}

}  // namespace berth::sys::proc
