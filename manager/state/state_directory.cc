#include "manager/state/state_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>

#include "manager/state/state_format.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

/// More than the most attachments with the longest names can need.
constexpr std::size_t kMaxFile = std::size_t{256} << 20;
/// Room is taken in pieces of this, so that it is not asked for at each change.
constexpr std::size_t kRoom = std::size_t{16} << 10;

/// Takes room behind the end of a file, without making it longer. A file system that cannot is no error.
Result<> reserve_room(int fd, std::size_t end) {
  const std::size_t rounded = (end + kRoom - 1) / kRoom * kRoom;
  if (::fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(rounded)) == 0) return {};
  if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EROFS || errno == EIO) return fail_errno();
  return {};
}

/// Whether the process that took the flock(2) on `fd` is gone, though the lock is not (proc(5), /proc/locks). A process
/// that cannot be seen from this pid namespace counts as alive.
bool is_owner_dead(int fd) {
  constexpr std::size_t kMostRead = std::size_t{16} << 20;
  struct stat there {};
  const Result<std::string> locks = sys::read_file("/proc/locks", kMostRead);
  if (!locks || ::fstat(fd, &there) != 0) return false;
  std::array<char, 64> file{};
  std::snprintf(file.data(), file.size(), "%02x:%02x:%llu", major(there.st_dev), minor(there.st_dev),
                static_cast<unsigned long long>(there.st_ino));
  for (const std::string_view line : split(*locks, '\n')) {
    // "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF"
    std::vector<std::string_view> words = split(line, ' ');
    std::erase(words, "");
    if (words.size() < 6 || words[1] != "FLOCK" || words[5] != file.data()) continue;
    const std::string process = "/proc/" + std::string(words[4]);
    return words[4] != "0" && ::access(process.c_str(), F_OK) != 0 && errno == ENOENT;
  }
  return false;
}

/// The directory's own name, on the disk of the one above it.
Result<> sync_parent(const std::string& path) {
  const std::string parent = path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
  const UniqueFd fd = TRY(sys::open_at(AT_FDCWD, parent.c_str(), O_RDONLY | O_DIRECTORY));
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return fail_errno();
  return {};
}

}  // namespace

StateDirectory::StateDirectory(std::string state_dir, std::string namespace_directory)
    : StateDirectory(std::move(state_dir), std::move(namespace_directory), UniqueFd()) {}

StateDirectory::StateDirectory(std::string state_dir, std::string namespace_directory, UniqueFd opened)
    : namespace_directory_(std::move(namespace_directory)),
      state_dir_(std::move(state_dir)),
      path_(state_dir_ + "/" + state_format::file_name(namespace_directory_)),
      directory_(std::move(opened)) {}

Result<UniqueFd> StateDirectory::open_unlocked() {
  struct stat there {};
  if (::stat(path_.c_str(), &there) != 0) {
    TRY_VOID(sys::make_directories(path_, 0700));
    TRY_VOID(sync_parent(path_));
    TRY_VOID(sync_parent(state_dir_));
  }
  Result<UniqueFd> directory = sys::open_at(AT_FDCWD, path_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!directory) return fail(directory.error().within(path_));
  return directory;
}

Result<int> StateDirectory::open() {
  if (directory_) return directory_.get();
  UniqueFd directory = TRY(open_unlocked());
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(Error::last().within(path_));
    return fail(EBUSY, "another berth uses " + quote(path_) + ", for a namespace of the same name");
  }
  directory_ = std::move(directory);
  return directory_.get();
}

Result<bool> StateDirectory::open_after_others(TimePoint deadline) {
  constexpr std::chrono::milliseconds kLookAgain{20};
  for (;;) {
    const Result<int> opened = open();
    if (opened) return true;
    if (opened.error().code() != EBUSY) return fail(opened.error());
    if (std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(kLookAgain);
      continue;
    }
    UniqueFd directory = TRY(open_unlocked());
    if (!is_owner_dead(directory.get())) return fail(opened.error());
    directory_ = std::move(directory);
    return false;
  }
}

StateDirectory StateDirectory::duplicate() const {
  UniqueFd same(directory_ ? ::fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0) : -1);
  StateDirectory other(state_dir_, namespace_directory_, std::move(same));
  other.lent_ = directory_.get();
  return other;
}

bool StateDirectory::is_at_path() const {
  struct stat ours {};
  struct stat there {};
  if (!directory_ || ::fstat(directory_.get(), &ours) != 0) return true;
  if (::stat(path_.c_str(), &there) != 0) return errno != ENOENT && errno != ENOTDIR;
  return ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

bool StateDirectory::is_removed() const {
  struct stat ours {};
  return directory_ && ::fstat(directory_.get(), &ours) == 0 && ours.st_nlink == 0;
}

Result<> StateDirectory::recreate() {
  StateDirectory next(state_dir_, namespace_directory_);
  TRY(next.open());
  // The shares of catalog sources are kept again while they change.
  const std::vector<std::string> there = TRY(next.list());
  if (!std::all_of(there.begin(), there.end(), state_format::is_of_source))
    return fail(ENOTEMPTY, quote(path_) + " is not the directory that it was");
  directory_ = std::move(next.directory_);
  // The server's and the keeper's numbers are of one table.
  if (lent_ >= 0 && ::dup3(directory_.get(), lent_, O_CLOEXEC) < 0) return fail_errno();
  return {};
}

bool StateDirectory::has(const std::string& name) const {
  return ::faccessat(directory_.get(), name.c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

Result<> StateDirectory::sync() {
  // EINVAL: a file system that has nothing to synchronise.
  if (::fsync(directory_.get()) != 0 && errno != EINVAL) return fail_errno();
  return {};
}

Result<std::vector<std::string>> StateDirectory::list() {
  const int directory = TRY(open());
  UniqueFd again = TRY(sys::open_at(directory, ".", O_RDONLY | O_DIRECTORY));
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::fdopendir(again.get()), &::closedir);
  if (!listing) return fail_errno();
  (void)again.release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(listing.get())) {  // NOLINT(concurrency-mt-unsafe): a stream of its own
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (errno != 0) return fail_errno();
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::string> StateDirectory::read(const std::string& name) {
  const int directory = TRY(open());
  const UniqueFd file = TRY(sys::open_at(directory, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  return sys::read_file(sys::proc_path(file.get()), kMaxFile);
}

Result<> StateDirectory::replace(const std::string& name, std::string_view text) {
  bool is_uncertain = false;
  return replace(name, text, 0, is_uncertain);
}

Result<> StateDirectory::replace(const std::string& name, std::string_view text, std::size_t reserve,
                                 bool& is_uncertain) {
  const int directory = TRY(open());
  const std::string next = name + std::string(kNewSuffix);
  const auto write = [&]() -> Result<> {
    const UniqueFd file =
        TRY(sys::open_at(directory, next.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
    TRY_VOID(sys::write_all(file.get(), text));
    if (reserve > 0) TRY_VOID(reserve_room(file.get(), text.size() + reserve));
    if (::fsync(file.get()) != 0) return fail_errno();
    is_uncertain = true;
    if (::renameat(directory, next.c_str(), directory, name.c_str()) != 0) return fail_errno();
    return {};
  };
  if (Result<> written = write(); !written) {
    ::unlinkat(directory, next.c_str(), 0);
    return written;
  }
  TRY_VOID(sync());
  is_uncertain = false;
  return {};
}

Result<> StateDirectory::append(const std::string& name, const Position& position, std::string_view text,
                                bool& is_uncertain) {
  const int directory = TRY(open());
  const UniqueFd file = TRY(sys::open_at(directory, name.c_str(), O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK));
  struct stat there {};
  if (::fstat(file.get(), &there) != 0) return fail_errno();
  if (there.st_size != static_cast<off_t>(position.size)) return fail(ESTALE);
  const auto write = [&]() -> Result<> {
    // st_blocks counts what is reserved: it is asked for only where it is short.
    const std::size_t needed = position.size + text.size() + position.reserve;
    if (static_cast<std::size_t>(there.st_blocks) * 512 < needed) {
      if (Result<> reserved = reserve_room(file.get(), needed); !reserved && position.must_reserve) return reserved;
    }
    TRY_VOID(sys::write_all(file.get(), text));
    if (::fdatasync(file.get()) != 0) return fail_errno();
    return {};
  };
  Result<> written = write();
  if (written) return {};
  const auto size = static_cast<off_t>(position.size);
  is_uncertain = ::ftruncate(file.get(), size) != 0 || ::fdatasync(file.get()) != 0;
  return written;
}

Result<> StateDirectory::remove(const std::string& name) {
  const int directory = TRY(open());
  if (::unlinkat(directory, name.c_str(), 0) != 0) return fail_errno();
  return sync();
}

Result<> StateDirectory::rename(const std::string& name, const std::string& new_name) {
  const int directory = TRY(open());
  if (::renameat2(directory, name.c_str(), directory, new_name.c_str(), RENAME_NOREPLACE) != 0) return fail_errno();
  return sync();
}

Result<> StateDirectory::link(const std::string& name, const std::string& second_name) {
  const int directory = TRY(open());
  if (::linkat(directory, name.c_str(), directory, second_name.c_str(), 0) != 0) return fail_errno();
  return sync();
}

}  // namespace berth::manager
