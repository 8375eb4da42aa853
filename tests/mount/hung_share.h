#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/mount/berth_fixture.h"

namespace berth::test {

/// Shares of sshfs over a pipe, whose other side can be stopped, beside shares of directories of this host. All go
/// through berth.
class HungShareTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;
  /// Starts with `remote` shares "r0", "r1", ... and as many "h0", "h1", ... that are healthy.
  void start(int remote, const std::string& berth_lines = "", const std::string& share_lines = "");
  /// Mounts r0, r1, ...
  void touch_remote(int count);

  [[nodiscard]] std::string in(std::string_view name) const { return server_.in_namespace(name); }
  /// Stops the other side of a remote share, or continues it.
  void hang(int share);
  void go_on(int share);
  /// The program that serves a remote share, as the kernel says; 0: it does not (before Linux 6.16).
  [[nodiscard]] pid_t helper(int share) const;
  /// kill -9 of that, until it has ended.
  void kill_helper(int share) const;
  /// Those of all shares.
  void all_go_on();
  [[nodiscard]] pid_t server() const { return server_.server_pid(); }
  [[nodiscard]] std::size_t threads() const;

  BerthServer server_;
  int remote_ = 0;

 private:
  [[nodiscard]] std::vector<pid_t> other_sides(int share) const;
};

/// Processes that do one thing each, as some user.
class Callers {
 public:
  Callers() = default;
  ~Callers();
  Callers(const Callers&) = delete;
  Callers& operator=(const Callers&) = delete;

  /// `what` answers an exit status.
  void add(const std::function<int()>& what, uid_t uid = 0, int count = 1);
  void kill(int signal) const;
  /// Those that have not ended. Collects those that have.
  std::size_t running();
  /// Until all have ended; false when they do not.
  bool all_end();
  /// How many ended with that status (wait(2)).
  [[nodiscard]] std::size_t ended_with(int status) const;
  /// Until each of them waits in the kernel.
  bool all_wait();

 private:
  std::vector<pid_t> running_;
  std::vector<int> statuses_;
};

/// SIGSTOP, and waits until each of its threads has stopped: one may be about to answer.
void stop_process(pid_t pid);
/// open(2), read(2) and close(2); answers an errno value.
int read_one(const std::string& path);
/// stat(2); answers an errno value.
int look_at(const std::string& path);

}  // namespace berth::test
