#include "src/doctor/host.h"

#include <fcntl.h>
#include <netdb.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "manager/backends/mount_helpers.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::doctor {
namespace {

constexpr std::size_t kMostRead = std::size_t{16} << 20;

/// As root, berth lifts its limit to what the kernel allows at most.
std::uint64_t max_files() {
  struct rlimit limit {};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  std::uint64_t most = limit.rlim_max;
  if (::geteuid() != 0) return most;
  const std::string text = sys::read_file("/proc/sys/fs/nr_open", 64).value_or("");
  std::from_chars(text.data(), text.data() + text.size(), most);
  return most;
}

Result<> is_private(const std::string& path) {
  struct stat attributes {};
  if (::stat(path.c_str(), &attributes) != 0 || (attributes.st_mode & S_IROTH) == 0) return {};
  return fail(EACCES);
}

Result<> may_open(const std::string& path) {
  if (::faccessat(AT_FDCWD, path.c_str(), R_OK | W_OK, AT_EACCESS) != 0) return fail_errno();
  return {};
}

Result<mode_t> find(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return fail_errno();
  return found.st_mode & S_IFMT;
}

bool is_empty(const std::string& path) {
  std::error_code error;
  const std::filesystem::directory_iterator first(path, error);
  return error || first == std::filesystem::directory_iterator();
}

Result<> resolve(const std::string& name) {
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(name.c_str(), nullptr, nullptr, &found);
  if (code != 0) return fail(ENOENT, ::gai_strerror(code));
  ::freeaddrinfo(found);
  return {};
}

}  // namespace

Host real_host() {
  struct utsname system {};
  ::uname(&system);
  return {.user = ::geteuid(),
          .without_root = ::geteuid() != 0 || sys::is_own_root(),
          .kernel = system.release,
          .max_files = max_files(),
          .read = [](const std::string& path) { return sys::read_file(path, kMostRead); },
          .has_helper = [](std::string_view type) { return manager::wants_mount_program(type, ""); },
          .helper = manager::check_mount_helper,
          .program = manager::check_program,
          .may_mount = manager::check_mount_without_root,
          .find = find,
          .is_private = is_private,
          .may_open = may_open,
          .is_empty = is_empty,
          .resolve = resolve};
}

std::vector<sys::MountEntry> mounts_of(const Host& host) {
  return sys::parse_mount_table(host.read("/proc/self/mountinfo").value_or(""))
      .value_or(std::vector<sys::MountEntry>());
}

}  // namespace berth::doctor
