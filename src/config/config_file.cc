#include "src/config/config_file.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "src/config/config.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::config {
namespace {

tl::unexpected<Error> unreadable(int code) { return fail(code, "cannot be read: " + errno_text(code)); }

/// `expected`: how much there probably is.
Result<std::string> read_all(int fd, std::size_t expected) {
  std::string text;
  text.reserve(std::min(expected, kMaxFileSize));
  std::array<char, 64 * 1024> chunk{};
  for (;;) {
    const ssize_t length = ::read(fd, chunk.data(), chunk.size());
    if (length < 0 && errno == EINTR) continue;
    if (length < 0) return unreadable(errno);
    if (length == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(length));
    if (text.size() > kMaxFileSize) {
      return fail(EFBIG, "is larger than " + std::to_string(kMaxFileSize >> 20) + " MiB");
    }
  }
}

}  // namespace

Result<ConfigFile> read_config_file(const std::string& path) {
  // Without O_NONBLOCK a FIFO would wait for a writer.
  Result<UniqueFd> fd = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (!fd) return unreadable(fd.error().code());
  Result<struct statx> attributes = sys::stat_at(fd->get(), "", STATX_BASIC_STATS);
  if (!attributes) return unreadable(attributes.error().code());
  ConfigFile file;
  file.attributes = sys::to_stat(*attributes);
  if (S_ISDIR(file.attributes.st_mode)) return fail(EISDIR, "is a directory, where a file is expected");
  if (!S_ISREG(file.attributes.st_mode)) return fail(EINVAL, "is not a regular file");
  file.text = TRY(read_all(fd->get(), static_cast<std::size_t>(file.attributes.st_size)));
  return file;
}

Result<std::vector<std::string>> find_drop_ins(const std::string& directory) {
  std::vector<std::string> paths;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return paths;
  const std::filesystem::directory_iterator end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().native();
    if (name.front() == '.' || !name.ends_with(".toml")) continue;
    paths.push_back(entry->path().native());
    if (paths.size() > kMaxDropIns) return fail(E2BIG, "holds more than " + std::to_string(kMaxDropIns) + " drop-ins");
  }
  if (error) return unreadable(error.value());
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::string ownership_warning(const std::string& path, const struct stat& attributes) {
  std::string owner;
  if (attributes.st_uid != 0) {
    owner = "belongs to user " + std::to_string(attributes.st_uid);
  } else if ((attributes.st_mode & S_IWOTH) != 0) {
    owner = "is writable by every user";
  } else if ((attributes.st_mode & S_IWGRP) != 0 && attributes.st_gid != 0) {
    owner = "is writable by group " + std::to_string(attributes.st_gid);
  }
  return owner.empty() ? "" : shown_path(path) + ": " + owner + ", which can so make root run any command";
}

std::string shown_path(const std::string& path) {
  const bool plain = is_utf8(path) && std::none_of(path.begin(), path.end(), [](char c) {
                       const auto byte = static_cast<unsigned char>(c);
                       return byte < 0x20 || byte == 0x7f;
                     });
  return plain ? path : quote(path);
}

}  // namespace berth::config
