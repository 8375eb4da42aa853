#include "src/lib/sys/file.h"

#include <dirent.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>

namespace berth::sys {
namespace {

// openat2(2): "the caller should try again" when a rename anywhere raced with the walk. A limit, so that a busy tree
// cannot hold a thread forever.
constexpr int kBeneathTries = 16;

Result<> make_directory(const char* path, mode_t mode) noexcept {
  if (::mkdir(path, mode) == 0) return {};
  if (errno != EEXIST) return fail_errno();
  struct stat found {};
  if (::stat(path, &found) != 0) return fail_errno();
  if (!S_ISDIR(found.st_mode)) return fail(ENOTDIR);
  return {};
}

timespec to_timespec(const struct statx_timestamp& time) noexcept {
  return {.tv_sec = time.tv_sec, .tv_nsec = static_cast<long>(time.tv_nsec)};
}

}  // namespace

Result<UniqueFd> open_at(int directory, const char* path, int flags, mode_t mode) noexcept {
  const int fd = ::openat(directory, path, flags | O_CLOEXEC, mode);
  if (fd < 0) return fail_errno();
  return UniqueFd(fd);
}

Result<UniqueFd> open_beneath(int directory, const char* path, int flags, mode_t mode) noexcept {
  struct open_how how {};
  how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
  // openat2 refuses a mode that nothing would use.
  if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE) how.mode = mode & 07777U;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  for (int tries = 0;; ++tries) {
    const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    if (errno != EAGAIN || tries >= kBeneathTries) return fail_errno();
  }
}

Result<UniqueFd> open_in_mount(int directory, const char* path, int flags) noexcept {
  struct open_how how {};
  how.flags = static_cast<unsigned>(flags | O_NOFOLLOW | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
  if (fd < 0) return fail_errno();
  return UniqueFd(static_cast<int>(fd));
}

Result<UniqueFd> reopen(int fd, int flags) noexcept {
  std::array<char, 32> path{};
  std::snprintf(path.data(), path.size(), "/proc/self/fd/%d", fd);
  return open_at(AT_FDCWD, path.data(), flags & ~O_NOFOLLOW);
}

std::string proc_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

Result<> make_directories(const std::string& path, mode_t mode) {
  std::size_t end = 0;
  while (end != std::string::npos) {
    end = path.find('/', end + 1);
    const std::string part = path.substr(0, end);
    if (part.empty() || part.back() == '/') continue;
    const Result<> made = make_directory(part.c_str(), mode);
    if (!made) return fail(made.error().within("directory " + part));
  }
  return {};
}

namespace {

/// `expected`: how much there probably is.
Result<std::string> read_all(int fd, std::size_t limit, std::size_t expected = 0) {
  std::string content;
  content.reserve(std::min(expected, limit));
  std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno();
    if (count == 0) return content;
    if (content.size() + static_cast<std::size_t>(count) > limit) return fail(EFBIG);
    content.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

}  // namespace

Result<std::string> read_file(const std::string& path, std::size_t limit) {
  const UniqueFd fd = TRY(open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_NOCTTY));
  return read_all(fd.get(), limit);
}

Result<std::string> read_regular_file(const std::string& path, std::size_t limit) {
  const UniqueFd fd = TRY(open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_NOCTTY | O_NONBLOCK));
  struct stat attributes {};
  if (::fstat(fd.get(), &attributes) != 0) return fail_errno();
  if (!S_ISREG(attributes.st_mode)) return fail(EINVAL, "is not a regular file");
  return read_all(fd.get(), limit, static_cast<std::size_t>(attributes.st_size));
}

Result<> replace_file(const std::string& path, std::string_view content, mode_t mode) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::string temporary = directory + ".XXXXXX";
  const UniqueFd file(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!file) return fail_errno();
  const auto give_up = [&temporary](const Error& error) {
    ::unlink(temporary.c_str());
    return fail(error);
  };
  for (std::string_view left = content; !left.empty();) {
    const ssize_t written = ::write(file.get(), left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return give_up(Error::last());
    left.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fchmod(file.get(), mode) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) return give_up(Error::last());
  return {};
}

Result<> write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno();
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<struct statx> stat_at(int directory, const char* path, unsigned mask, int flags) noexcept {
  const int empty = *path == '\0' ? AT_EMPTY_PATH : 0;
  struct statx result {};
  if (::statx(directory, path, flags | empty | AT_SYMLINK_NOFOLLOW, mask, &result) != 0) return fail_errno();
  return result;
}

struct stat to_stat(const struct statx& x) noexcept {
  struct stat result {};
  result.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor);
  result.st_ino = x.stx_ino;
  result.st_nlink = x.stx_nlink;
  result.st_mode = x.stx_mode;
  result.st_uid = x.stx_uid;
  result.st_gid = x.stx_gid;
  result.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor);
  result.st_size = static_cast<off_t>(x.stx_size);
  result.st_blksize = static_cast<blksize_t>(x.stx_blksize);
  result.st_blocks = static_cast<blkcnt_t>(x.stx_blocks);
  result.st_atim = to_timespec(x.stx_atime);
  result.st_mtim = to_timespec(x.stx_mtime);
  result.st_ctim = to_timespec(x.stx_ctime);
  return result;
}

bool is_local(int fd) noexcept {
  constexpr std::uint32_t kLustre = 0x0bd00bd0;  // not in linux/magic.h
  constexpr std::array<std::uint32_t, 11> kElsewhere{
      NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, FUSE_SUPER_MAGIC, CEPH_SUPER_MAGIC,
      AFS_SUPER_MAGIC, AFS_FS_MAGIC,    CODA_SUPER_MAGIC, V9FS_MAGIC,       kLustre};
  struct statfs found {};
  if (::fstatfs(fd, &found) != 0) return false;
  return std::find(kElsewhere.begin(), kElsewhere.end(), static_cast<std::uint32_t>(found.f_type)) == kElsewhere.end();
}

std::uint64_t file_limit() noexcept {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return INT_MAX;
  return std::min<rlim_t>(limit.rlim_cur, INT_MAX);
}

int lowest_free_descriptor() noexcept {
  // Some low numbers are free at any time: what a mount or an open takes for a moment and gives back leaves them, while
  // what is kept has a higher one.
  std::array<UniqueFd, 16> next;
  next[0].reset(::eventfd(0, EFD_CLOEXEC));  // an object of the kernel's that needs nothing else
  for (std::size_t i = 1; i < next.size() && next[i - 1]; ++i) {
    next[i].reset(::fcntl(next[0].get(), F_DUPFD_CLOEXEC, 0));
  }
  return next.back() ? next.back().get() : static_cast<int>(file_limit());
}

bool few_descriptors_left() noexcept {
  const std::uint64_t limit = file_limit();
  return static_cast<std::uint64_t>(lowest_free_descriptor()) >= limit - descriptor_reserve(limit);
}

std::uint64_t count_descriptors() {
  struct stat listing {};
  if (::stat("/proc/self/fd", &listing) != 0) return 0;
  if (listing.st_size > 0) return static_cast<std::uint64_t>(listing.st_size);
  DIR* const directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return 0;
  std::uint64_t count = 0;
  while (const dirent* const entry = ::readdir(directory)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(directory);
  return count - 1;  // not the one that reads this
}

Result<> lower_file_limit(std::uint64_t by) noexcept {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno();
  limit.rlim_cur -= std::min<rlim_t>(by, limit.rlim_cur / 2);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return fail_errno();
  return {};
}

}  // namespace berth::sys
