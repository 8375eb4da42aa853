#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/result.h"
#include "src/lib/sys/mount_table.h"

namespace berth::doctor {

/// What is asked of the host; tests give another one.
struct Host {
  uid_t user = 0;               ///< that this process runs as
  bool without_root = false;    ///< the berth that is meant runs without root
  std::string kernel;           ///< release, uname(2)
  std::uint64_t max_files = 0;  ///< descriptors that `berth serve` may have, when it is started as this process was
  /// A file of the system itself (/proc, /sys, /etc). Never one that a share is on.
  std::function<Result<std::string>(const std::string& path)> read;
  /// Whether mount(8) is to mount a type, because there is a helper for it or it requires one.
  std::function<bool(std::string_view type)> has_helper;
  /// Whether what mount(8) needs for a type is installed. Errors: a story with the package.
  std::function<Result<>(std::string_view type, std::string_view source)> helper;
  /// Whether a program is installed. Errors: likewise.
  std::function<Result<>(std::string_view program)> program;
  /// Whether a berth that ran without root could mount a type. Errors: a story.
  std::function<Result<>(std::string_view type)> may_mount = [](std::string_view) { return Result<>(); };
  /// What there is at a path: its kind, as in st_mode (inode(7)). Any thread; may block for ever. Errors: stat(2)'s.
  std::function<Result<mode_t>(const std::string& path)> find;
  /// Whether a file is not there, or not for every user to read. Any thread; may block for ever. Errors: EACCES.
  std::function<Result<>(const std::string& path)> is_private = [](const std::string&) { return Result<>(); };
  /// Whether this process may open a device for reading and writing. Errors: access(2)'s.
  std::function<Result<>(const std::string& path)> may_open = [](const std::string&) { return Result<>(); };
  /// Whether a directory of this host has nothing in it, or is not there.
  std::function<bool(const std::string& path)> is_empty = [](const std::string&) { return true; };
  /// Whether a host has an address. Any thread; may block. Errors: a story.
  std::function<Result<>(const std::string& name)> resolve;
  /// How long paths and names are waited for, all together.
  std::chrono::milliseconds patience{5000};
};

/// The host that this process runs on.
Host real_host();

/// What is mounted; empty where that is not known.
std::vector<sys::MountEntry> mounts_of(const Host& host);

}  // namespace berth::doctor
