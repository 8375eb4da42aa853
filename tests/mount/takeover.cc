#include "tests/mount/takeover.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "tests/mount/text_of.h"

namespace berth::test {
namespace {

std::size_t occurrences(const std::string& text, std::string_view what) {
  std::size_t count = 0;
  for (std::size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++count;
  return count;
}

/// As a shell's `echo 3 > /proc/sys/vm/drop_caches`: the kernel gives back nodes that it only keeps in store.
void drop_caches() { std::ofstream("/proc/sys/vm/drop_caches") << "3"; }

}  // namespace

OwnTmpfs::OwnTmpfs(std::string directory) : directory_(std::move(directory)) {
  EXPECT_EQ(::mount("tmpfs", directory_.c_str(), "tmpfs", 0, "mode=755"), 0) << errno_name(errno);
}

OwnTmpfs::~OwnTmpfs() { EXPECT_EQ(::umount2(directory_.c_str(), MNT_DETACH), 0) << errno_name(errno); }

void TakeoverTest::SetUp() {
  memory_ = std::make_unique<OwnTmpfs>(server_.make_directory("memory"));
  source_ = server_.make_directory("memory/source");
  ASSERT_TRUE(ok(server_.write_file("memory/source/hello", "hello")));
}

void TakeoverTest::start(const std::string& berth_lines, const std::string& share_lines, const std::string& more) {
  ASSERT_TRUE(ok(server_.start("[berth]\ncrash_limit = 1000\n" + berth_lines +
                               "[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n" +
                               share_lines + more)));
}

void TakeoverTest::start_overlay() {
  const std::string lower = server_.make_directory("memory/lower");
  const std::string work = server_.make_directory("memory/work");
  ASSERT_TRUE(
      ok(server_.start("[berth]\ncrash_limit = 1000\n[share.a]\ntype = \"overlay\"\naccess = \"proxy\"\n" +
                       ("options = \"lowerdir=" + lower) + ",upperdir=" + source_ + ",workdir=" + work + "\"\n")));
}

void TakeoverTest::strike() {
  const pid_t victim = server();
  ASSERT_GT(victim, 0);
  ++kills_;
  ASSERT_EQ(::kill(victim, SIGKILL), 0);
}

void TakeoverTest::await_takeover() {
  ASSERT_TRUE(eventually([this] { return occurrences(server_.log(), "has taken over") == kills_; })) << server_.log();
}

void TakeoverTest::kill_server() {
  ASSERT_NO_FATAL_FAILURE(strike());
  await_takeover();
}

std::vector<pid_t> TakeoverTest::processes_named(std::string_view name) const {
  std::vector<pid_t> found;
  for (const pid_t pid : server_.processes()) {
    if (text_of("/proc/" + std::to_string(pid) + "/comm") == std::string(name) + "\n") found.push_back(pid);
  }
  return found;
}

void TakeoverTest::expect_footprint_of(const Footprint& limit) {
  Footprint now;
  const auto is_reached = [&] {
    drop_caches();
    now = server_.footprint();
    // Threads come and go with what there was to do at once.
    return now.processes == limit.processes && now.descriptors <= limit.descriptors && now.mounts == limit.mounts &&
           now.directories == limit.directories;
  };
  EXPECT_TRUE(eventually(is_reached)) << now << ", not " << limit;
}

Doer::Doer(const std::function<int()>& what) : pid_(::fork()) {
  if (pid_ == 0) ::_exit(what());
}

Doer::~Doer() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

bool Doer::waits() const {
  const std::string stack = text_of("/proc/" + std::to_string(pid_) + "/wchan");
  return stack.find("fuse") != std::string::npos || stack.find("request_wait_answer") != std::string::npos ||
         stack.find("folio_wait") != std::string::npos;
}

int Doer::result() {
  int status = 0;
  const bool ended = eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; });
  if (!ended) return -1;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace berth::test
