#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {

/// A file system in memory of the test's own at `directory`, so that what lies there is neither an overlay nor on a
/// disk.
class OwnTmpfs {
 public:
  explicit OwnTmpfs(std::string directory);
  ~OwnTmpfs();
  OwnTmpfs(const OwnTmpfs&) = delete;
  OwnTmpfs& operator=(const OwnTmpfs&) = delete;

 private:
  const std::string directory_;
};

/// A berth whose server is killed in the middle of something.
///
/// `source` and a share of it, "a", that goes through berth; what the tests read and write lies in a file system in
/// memory.
class TakeoverTest : public ::testing::Test {
 protected:
  void SetUp() override;
  /// Starts with these lines about all and about the share "a", and further shares after it.
  void start(const std::string& berth_lines = "", const std::string& share_lines = "", const std::string& more = "");
  /// The same with an overlay of `source` as "a": no file of it is a backing file.
  void start_overlay();

  [[nodiscard]] std::string in(std::string_view name) const { return server_.in_namespace("a/" + std::string(name)); }
  [[nodiscard]] pid_t server() const { return server_.server_pid(); }
  /// kill -9 of the server; returns when the next one says that it has taken over.
  void kill_server();
  /// kill -9 of the server, and nothing more.
  void strike();
  /// Until all the kills so far were followed by a take-over.
  void await_takeover();
  /// The processes of this berth with that name (proc(5), comm).
  [[nodiscard]] std::vector<pid_t> processes_named(std::string_view name) const;
  /// Lets the kernel forget nodes that are not in use, and waits until berth holds no more than `limit`.
  void expect_footprint_of(const Footprint& limit);

  BerthServer server_;
  std::string source_;
  std::unique_ptr<OwnTmpfs> memory_;

 private:
  std::size_t kills_ = 0;
};

/// Another process that does one thing; its exit status says how that ended.
class Doer {
 public:
  explicit Doer(const std::function<int()>& what);
  ~Doer();
  Doer(const Doer&) = delete;
  Doer& operator=(const Doer&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// Whether it waits in a system call that cannot be what ended it: in the kernel, for a file system.
  [[nodiscard]] bool waits() const;
  /// Its exit status; -1 when it did not end of itself.
  int result();

 private:
  pid_t pid_ = -1;
};

}  // namespace berth::test
