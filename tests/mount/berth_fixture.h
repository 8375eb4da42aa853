#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <csignal>
#include <cstddef>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::test {

/// Why a real namespace cannot be tried here, in words for a skipped test; "" when it can.
std::string why_not();

/// Gives the test process a mount namespace of its own (private, with an empty /run), so that nothing it does is seen
/// outside or outlives it. Call it first thing in main(), while there is one thread; tests/mount/main.cc does.
Result<> enter_private_mount_namespace();

/// For EXPECT_TRUE: what went wrong is in the message.
template <typename T>
testing::AssertionResult ok(const Result<T>& result) {
  if (result) return testing::AssertionSuccess();
  return testing::AssertionFailure() << errno_name(result.error().code()) << " " << result.error().message();
}

/// Polls until `condition` holds; false when it does not within the one deadline of these tests (30 s).
[[nodiscard]] bool eventually(const std::function<bool()>& condition);

/// What all processes of a server hold, counted from /proc.
struct Footprint {
  std::size_t processes = 0;
  std::size_t threads = 0;
  std::size_t descriptors = 0;
  std::size_t mounts = 0;       ///< lines of mountinfo, of each of its mount namespaces once
  std::size_t directories = 0;  ///< below /run/berth, as each of those mount namespaces sees it
  friend bool operator==(const Footprint&, const Footprint&) = default;
};
std::ostream& operator<<(std::ostream& out, const Footprint& footprint);

/// How a server ended.
struct Ending {
  int code = 0;    ///< exit status, when signal is 0
  int signal = 0;  ///< the signal that ended it, or 0
  friend bool operator==(const Ending&, const Ending&) = default;
};
std::ostream& operator<<(std::ostream& out, const Ending& ending);

/// A real `berth serve` (the program that the environment's BERTH names) with a namespace in a scratch directory of its
/// own.
///
///   BerthServer server;
///   const std::string source = server.make_directory("source");
///   ASSERT_TRUE(ok(server.start_shares({{"a", source}})));
///   EXPECT_TRUE(ok(server.write_file("namespace/a/hello", "hi")));
///   EXPECT_EQ(server.stop(), Ending{});
///
/// Every process that the server starts is known by a mark in its environment, so that those it lost are found as well.
/// stop() and the destructor fail the test when the server leaves a process, a mount or a directory behind; the
/// destructor also kills what is left, and shows the server's log when the test has failed.
///
/// Threading: one thread at a time; the paths may be used by any.
class BerthServer {
 public:
  BerthServer();
  ~BerthServer();
  BerthServer(const BerthServer&) = delete;
  BerthServer& operator=(const BerthServer&) = delete;

  /// The scratch directory; removed at the end.
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  /// Absolute path of `relative` in the scratch directory.
  [[nodiscard]] std::string path(std::string_view relative) const;
  /// Makes a directory there, with its parents, mode 0755, and returns its absolute path.
  std::string make_directory(std::string_view relative) const;
  /// Writes a file there (its directory exists).
  Result<> write_file(std::string_view relative, std::string_view content) const;
  /// A file of at most 1 MiB there.
  [[nodiscard]] Result<std::string> read_file(std::string_view relative) const;

  /// Where the namespace is: path("namespace").
  [[nodiscard]] std::string namespace_path() const { return path("namespace"); }
  /// Path of something in it: "a/file".
  [[nodiscard]] std::string in_namespace(std::string_view relative) const;

  /// Starts `berth serve --config FILE --namespace namespace_path() --state-dir path("state") arguments...` and waits
  /// until it says READY=1. What was attached when an earlier one ended is so restored.
  /// Errors: ECHILD when it ended first (ending() tells how, log() why); ETIMEDOUT.
  Result<> start(std::string_view config, const std::vector<std::string>& arguments = {});
  /// The same with a configuration of bind shares, NAME of DIR, that go through berth always (access = "proxy").
  Result<> start_shares(const std::vector<std::pair<std::string, std::string>>& shares,
                        const std::vector<std::string>& arguments = {});
  /// From now on the program is started by these words, which execute it: {"sh", "-c", "umask 0; exec \"$0\" \"$@\""}.
  void launch_through(std::vector<std::string> launcher) { launcher_ = std::move(launcher); }
  /// Starts the program with just these arguments (after the program's name) and waits until it says READY=1.
  Result<> start_program(const std::vector<std::string>& arguments);

  /// Sends `signal` to the process that was started, waits for its end, and fails the test for anything left behind.
  Ending stop(int signal = SIGTERM);
  /// How it ended; meaningful after stop() or a failed start().
  [[nodiscard]] Ending ending() const noexcept { return ending_; }
  /// Whether the one that ended last left the namespace mounted, dead. stop() has taken it off then, unless told to
  /// leave it.
  [[nodiscard]] bool left_a_dead_namespace() const noexcept { return left_dead_; }
  /// From now on stop() leaves a dead namespace where it is.
  void leave_dead_namespace() noexcept { leaves_dead_ = true; }
  /// kill -9 of every process of the server at once; checks what is left behind as stop() does, but for the namespace
  /// itself, which is taken off here.
  void kill_all();

  /// The process that was started (the keeper).
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// All processes of the server that run now, helpers included.
  [[nodiscard]] std::vector<pid_t> processes() const;
  /// The server, as its status says; 0: it cannot be read.
  [[nodiscard]] pid_t server_pid() const;
  /// kill -9 of the server, until the next one serves; fails the test where none does.
  void kill_server() const;
  /// What they hold now. For two to compare, let the server be at rest at both.
  [[nodiscard]] Footprint footprint() const;

  /// A file of the control tree: read_control("shares/a/state") is "idle\n".
  [[nodiscard]] Result<std::string> read_control(std::string_view name) const;
  /// Writes `text` to a file of the control tree with one write(2): write_control("shares/a/control", "unmount").
  Result<> write_control(std::string_view name, std::string_view text) const;
  /// A parsed JSON file of the control tree; null when it cannot be read or is not JSON.
  [[nodiscard]] nlohmann::json read_json(std::string_view name) const;
  /// The word in shares/NAME/state, without its newline; "" when it cannot be read.
  [[nodiscard]] std::string state(std::string_view share) const;
  /// Waits until it is `state`.
  [[nodiscard]] bool wait_for_state(std::string_view share, std::string_view state) const;
  /// What the server wrote to standard output and error so far.
  [[nodiscard]] std::string log() const;

 private:
  Result<> wait_until_ready();
  bool collect();
  void kill_processes() const;
  void take_dead_namespace_off();
  void expect_nothing_left();

  std::string directory_;
  std::vector<std::string> launcher_;
  std::string mark_;  ///< "BERTH_TEST=...", in the environment of every process of the server
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  UniqueFd notify_;  ///< the socket at path("notify"), for READY=1
  Ending ending_;
  bool left_dead_ = false;
  bool leaves_dead_ = false;
};

}  // namespace berth::test
