#include "src/daemon/native/native_users.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "src/daemon/common/namespace_mount.h"
#include "src/lib/base/clock.h"
#include "tests/unit/temporary_directory.h"

namespace berth::daemon {
namespace {

namespace fs = std::filesystem;
using Kind = UseOfMount::Kind;

/// A process that has done `what` and waits.
class Process {
 public:
  explicit Process(const std::function<bool()>& what) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const bool done = what();
      if (::write(ready[1], done ? "y" : "n", 1) == 1) ::pause();
      ::_exit(0);
    }
    ::close(ready[1]);
    char done = 'n';
    EXPECT_EQ(::read(ready[0], &done, 1), 1);
    EXPECT_EQ(done, 'y');
    ::close(ready[0]);
  }
  ~Process() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_ = -1;
};

class NativeUsers : public ::testing::Test {
 protected:
  /// Of what the process has in the test's directory: all of it is on one mount.
  std::vector<UseOfMount> uses_of(const Process& process,
                                  UsesWanted wanted = {.most = 1000, .most_of_names = 1 << 20}) {
    const std::uint64_t mount = mount_id_at(AT_FDCWD, directory_.path().c_str()).value_or(0);
    const TimePoint until = SystemClock().now() + std::chrono::seconds(60);
    UsersOfMounts found = find_users_of({mount + 1, mount}, ::getuid(), {process.pid()}, until, wanted);
    EXPECT_TRUE(found.is_complete);
    processes_ = found.in[1].processes;
    left_out_ = found.in[1].left_out;
    std::vector<UseOfMount> uses = std::move(found.in[1].uses);
    const std::size_t all = uses.size();
    std::erase_if(uses, [this](const UseOfMount& use) { return !use.path.starts_with(directory_.path()); });
    elsewhere_ = all - uses.size();
    return uses;
  }
  [[nodiscard]] std::string in(const std::string& name) const { return fs::path(directory_.path()) / name; }
  int open(const std::string& name) const { return ::open(in(name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600); }

  testing::TemporaryDirectory directory_;
  std::size_t processes_ = 0;
  std::size_t left_out_ = 0;
  std::size_t elsewhere_ = 0;  ///< what the process has on the same mount beside the directory
};

TEST_F(NativeUsers, AreToldByWhatTheyHave) {
  const Process process([this] {
    // Below the program's own libraries, of which a sanitizer has more than are told of one process.
    void* const low = reinterpret_cast<void*>(0x10000000);
    const int mapped = open("mapped");
    const bool is_mapped =
        ::ftruncate(mapped, 1) == 0 && ::mmap(low, 1, PROT_READ, MAP_SHARED, mapped, 0) != MAP_FAILED;
    ::close(mapped);
    return is_mapped && open("file") >= 0 && open("file") >= 0 && fs::create_directory(in("inside")) &&
           ::chdir(in("inside").c_str()) == 0;
  });
  const std::vector<UseOfMount> uses = uses_of(process);
  EXPECT_EQ(processes_, 1U);
  std::vector<std::pair<Kind, std::string>> found;
  for (const UseOfMount& use : uses) {
    EXPECT_EQ(use.pid, process.pid());
    EXPECT_EQ(use.uid, ::getuid());
    EXPECT_FALSE(use.command.empty());
    EXPECT_TRUE(use.is_users_own);
    found.emplace_back(use.kind, use.path);
  }
  const std::vector<std::pair<Kind, std::string>> expected{
      {Kind::kDirectory, in("inside")}, {Kind::kFile, in("file")}, {Kind::kMapping, in("mapped")}};
  EXPECT_EQ(found, expected) << "a file that is open twice is told once";
}

TEST_F(NativeUsers, OneProcessIsToldOfWithFewLines) {
  constexpr std::size_t kFiles = 200;
  const Process process([this] {
    for (std::size_t i = 0; i < kFiles; ++i) {
      if (open(std::to_string(i)) < 0) return false;
    }
    return true;
  });
  const std::size_t told = uses_of(process).size() + elsewhere_;
  EXPECT_LE(told, 16U);
  EXPECT_GE(told + left_out_, kFiles);
  EXPECT_EQ(processes_, 1U);
}

TEST_F(NativeUsers, NoMoreIsNotedThanIsWanted) {
  const Process process(
      [this] { return open("one") >= 0 && open("two") >= 0 && ::chdir(directory_.path().c_str()) == 0; });
  EXPECT_EQ(uses_of(process, {}).size() + elsewhere_, 0U);
  EXPECT_EQ(processes_, 1U) << "it is counted";
  EXPECT_GE(left_out_, 3U);
  uses_of(process, {.most = 3, .most_of_names = 1});
  EXPECT_EQ(elsewhere_, 3U) << "without a name";
}

TEST_F(NativeUsers, WhatTheKernelHidesFromAUserIsNotTheUsersOwn) {
  if (::geteuid() != 0) GTEST_SKIP() << "changing the user needs root";
  ASSERT_EQ(::chmod(directory_.path().c_str(), 0711), 0);
  // As a program that has had more rights: it is not dumpable (prctl(2)).
  const Process process([this] { return open("secret") >= 0 && ::setresuid(4711, 4711, 4711) == 0; });
  const std::uint64_t mount = mount_id_at(AT_FDCWD, directory_.path().c_str()).value_or(0);
  const auto found = find_users_of({mount}, 4711, {process.pid()}, SystemClock().now() + std::chrono::seconds(60),
                                   {.most = 99, .most_of_names = 9999});
  const auto& uses = found.in[0].uses;
  const auto secret =
      std::find_if(uses.begin(), uses.end(), [](const UseOfMount& use) { return use.path.ends_with("/secret"); });
  ASSERT_NE(secret, uses.end());
  EXPECT_FALSE(secret->is_users_own);
}

}  // namespace
}  // namespace berth::daemon
