#include "tests/parity/hand.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>

#include "src/lib/base/error.h"

namespace berth::test {
namespace {

bool has_set_id_bits(int fd) {
  struct stat s {};
  return ::fstat(fd, &s) == 0 && (s.st_mode & (S_ISUID | S_ISGID)) != 0;
}

}  // namespace

Hand::Hand(const std::string& root) : proc_(::open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (::chroot(root.c_str()) != 0 || ::chdir("/") != 0) return;
  root_.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  cwd_.reset(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  ready_ = proc_ && root_ && cwd_;
}

Hand::At Hand::beside(const std::string& path) const {
  if (path.starts_with('~')) return {cwd_.get(), path.substr(1)};
  if (path.size() > 2 && path[0] == '@' && path[2] == '/' && std::isdigit(path[1]) != 0) {
    const int fd = this->fd((path[1] - '0') % kSlots);
    // An empty slot would mean -1, which is no directory; -100 would be AT_FDCWD.
    return {fd, path.substr(3)};
  }
  return {root_.get(), path};
}

Hand::At Hand::at(const std::string& path) const {
  At at = beside(path);
  if (at.directory < 0 || ::fchdir(at.directory) != 0) [[maybe_unused]]
    const int ignored = ::fchdir(root_.get());
  return at;
}

void Hand::put(int slot, int fd) {
  slots_.at(static_cast<std::size_t>(slot)).reset(fd);
  had_bits_.at(static_cast<std::size_t>(slot)) = has_set_id_bits(fd);
}

void Hand::note_copy(int slot, int of) {
  had_bits_.at(static_cast<std::size_t>(slot)) = had_bits_.at(static_cast<std::size_t>(of));
}

bool Hand::ends_bits_by_writing(int slot) const {
  return ::geteuid() == 0 && !had_bits_.at(static_cast<std::size_t>(slot)) && has_set_id_bits(fd(slot));
}

int Hand::close(int slot) {
  const int fd = slots_.at(static_cast<std::size_t>(slot)).release();
  return ::close(fd);
}

long Hand::go_to(const std::string& path) {
  const At to = at(path);
  if (::chdir(to.name()) != 0) return -1;
  UniqueFd here(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!here) return -1;
  cwd_ = std::move(here);
  return 0;
}

std::string result(long value) { return value < 0 ? errno_name(errno) : std::to_string(value); }

std::string opened(Hand& hand, int slot, int fd) {
  if (fd < 0) return result(fd);
  hand.put(slot, fd);
  return "open";
}

std::string digest(std::string_view bytes) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ULL;
  char text[64];
  std::snprintf(text, sizeof text, "%zu bytes %016lx", bytes.size(), hash);
  return text;
}

std::string pattern(long size, long seed) {
  std::string bytes(static_cast<std::size_t>(size), '\0');
  std::uint64_t state = static_cast<std::uint64_t>(seed) * 2654435761ULL + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

}  // namespace berth::test
