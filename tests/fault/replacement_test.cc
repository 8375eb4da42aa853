// A server that is ended so that another one takes over: an upgrade, and one that has shares in memory that are gone.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

/// Makes, writes, renames, reads and removes files of its own in `directory` until it is told to stop. The first error.
class Load {
 public:
  Load(const std::string& directory, int threads) {
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this, own = directory + "/" + std::to_string(i)] {
        while (!stops_ && error_ == 0) {
          if (const int error = turn(own); error != 0) error_ = error;
          ++turns_;
        }
      });
    }
  }
  ~Load() { end(); }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  [[nodiscard]] int turns() const { return turns_; }
  int end() {
    stops_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
    return error_;
  }

 private:
  static int turn(const std::string& own) {
    const std::string moved = own + ".moved";
    const int made = ::open(own.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (made < 0) return errno;
    const UniqueFd file(made);
    if (::write(file.get(), "text", 4) != 4) return errno;
    if (::rename(own.c_str(), moved.c_str()) != 0) return errno;
    struct stat attributes {};
    if (::stat(moved.c_str(), &attributes) != 0) return errno;
    if (::unlink(moved.c_str()) != 0) return errno;
    return 0;
  }

  std::atomic<bool> stops_{false};
  std::atomic<int> error_{0};
  std::atomic<int> turns_{0};
  std::vector<std::thread> threads_;
};

/// With a kernel that sends requests again, and with one before Linux 6.9, which a switch stands for.
class Replacement : public TakeoverTest, public ::testing::WithParamInterface<bool> {
 protected:
  void start_with(const std::string& berth_lines, const std::string& more) {
    if (!GetParam()) ::setenv("BERTH_NO_RESEND", "1", 1);
    ::setenv("BERTH_MAX_FORGOTTEN", "100", 1);
    start(berth_lines, "", more);
    ::unsetenv("BERTH_MAX_FORGOTTEN");
    ::unsetenv("BERTH_NO_RESEND");
  }
};

TEST_P(Replacement, UpgradeUnderLoadFailsNoCall) {
  ASSERT_NO_FATAL_FAILURE(start_with("", ""));
  Load load(server_.in_namespace("a"), 8);
  for (int i = 0; i < 5; ++i) {
    const int turns = load.turns();
    const pid_t before = server();
    ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    ASSERT_TRUE(eventually([&] { return server() != before; }));
    ASSERT_TRUE(eventually([&] { return load.turns() > turns + 100; }));
  }
  EXPECT_EQ(load.end(), 0);
  EXPECT_EQ(server_.stop(), Ending{});
}

/// Shares that are gone take memory in a server, and slots of its table, until it ends.
TEST_P(Replacement, OfAServerWithManySharesThatAreGoneFailsNoCall) {
  constexpr int kShares = 300;
  for (int i = 0; i < kShares; ++i) server_.make_directory("homes/" + std::to_string(i));
  server_.make_directory("homes/alice");
  server_.make_directory("homes/bob");
  ASSERT_TRUE(ok(server_.write_file("homes/alice/name", "alice")));
  ASSERT_TRUE(ok(server_.write_file("homes/bob/name", "bob")));
  ASSERT_NO_FATAL_FAILURE(start_with("max_instances_per_template = 8\n",
                                     "[share.\"home/*\"]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" +
                                         server_.path("homes") + "/&\"\nidle_timeout = \"50ms\"\n"));
  UniqueFd open(::open(server_.in_namespace("home/alice/name").c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd directory(::open(server_.in_namespace("home/bob").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(open);
  ASSERT_TRUE(directory);
  Load load(server_.in_namespace("a"), 2);
  for (int round = 0; round < 3; ++round) {
    SCOPED_TRACE(round);
    const pid_t before = server();
    for (int i = 0; i < kShares; ++i) {
      struct stat attributes {};
      const std::string path = server_.in_namespace("home/" + std::to_string(i));
      EXPECT_EQ(::stat(path.c_str(), &attributes), 0) << path << ": " << errno_name(errno);
    }
    EXPECT_TRUE(eventually([&] { return server() != before; }));
    // What was in use is, and is what it was.
    char name[8] = {};
    EXPECT_EQ(::pread(open.get(), name, sizeof name, 0), 5) << errno_name(errno);
    EXPECT_STREQ(name, "alice");
    struct stat attributes {};
    EXPECT_EQ(::fstatat(directory.get(), "name", &attributes, 0), 0) << errno_name(errno);
    EXPECT_EQ(attributes.st_size, 3);
    EXPECT_EQ(server_.read_file("namespace/home/alice/name").value_or(""), "alice");
  }
  EXPECT_EQ(load.end(), 0);
  open.reset();
  directory.reset();
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Kernels, Replacement, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "ThatSendAgain" : "ThatDoNot"; });

}  // namespace
}  // namespace berth::test
