#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::cli {

/// Everything of the process's surroundings that the command line asks for, so that tests run it whole.
struct World {
  /// A variable of the environment; absent when it is not set or empty.
  std::function<std::optional<std::string>(const char* name)> environment;
  /// Standard output, unbuffered. False when its reader is gone, or it takes no more; then `out_failure` has the errno.
  std::function<bool(std::string_view)> out;
  std::shared_ptr<int> out_failure = std::make_shared<int>(0);
  /// Standard error. Any thread may call it, one at a time.
  std::function<void(std::string_view)> err;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  /// Columns of the terminal that is standard output; absent: not known.
  std::optional<std::size_t> width;
  /// Of the one that is standard error.
  std::optional<std::size_t> err_width;
  std::function<WallTime()> now = [] { return SystemClock().wall_now(); };
  /// The calling user.
  uid_t user = 0;
  std::function<Result<std::vector<sys::MountEntry>>()> mount_table;
  /// Namespaces in mount namespaces of this user's own, which only a process in these sees (berth without root). Null:
  /// none.
  std::function<std::vector<sys::OwnMount>()> own_namespaces;
  /// Puts this process where that one is seen, for good.
  std::function<Result<>(const sys::OwnMount&)> enter;
  /// Executes a program in this process's place, as the user that it was started by. Returns when it cannot.
  std::function<Error(const std::vector<std::string>& arguments)> execute;
  /// What `serve` and `check` read by default.
  std::string default_config = "/etc/berth/berth.toml";
  /// That of the host, where the default one is this user's own; else empty.
  std::string host_config;
  /// How long a command may take before its progress is shown, and how often.
  std::chrono::milliseconds progress_interval{1000};
  /// How often `status --watch` shows the table.
  std::chrono::milliseconds watch_interval{2000};
  /// How often `top` reads the table.
  std::chrono::milliseconds top_interval{1000};
};

/// The world of this process.
World real_world();

}  // namespace berth::cli
