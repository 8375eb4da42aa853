#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "src/base/text.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

pid_t server_of(const BerthServer& server) { return server.read_json("status.json").value("server_pid", 0); }

/// A server that was started from a program of its own, which can be replaced.
class Upgrade : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const built = std::getenv("BERTH");
    ASSERT_NE(built, nullptr);
    built_ = built;
    program_ = server_.path("berth");
    fs::copy_file(built_, program_);
    ::setenv("BERTH", program_.c_str(), 1);
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
    const Result<> started =
        server_.start("[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n");
    ::setenv("BERTH", built_.c_str(), 1);
    ASSERT_TRUE(ok(started));
  }

  /// As a package manager does: the new program takes the name of the old one, which still runs.
  void install(const std::string& what) {
    const std::string fresh = program_ + ".new";
    fs::copy_file(what, fresh, fs::copy_options::overwrite_existing);
    fs::permissions(fresh, fs::perms::owner_all);
    fs::rename(fresh, program_);
  }

  Result<> upgrade() { return server_.write_control("control", "upgrade"); }

  BerthServer server_;
  std::string built_;
  std::string program_;
  std::string source_;
};

TEST_F(Upgrade, NobodyNotices) {
  const UniqueFd file(::open(server_.in_namespace("a/hello").c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd directory(::open(server_.in_namespace("a").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(file && directory);
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0};
  std::atomic<int> done{0};
  std::thread user([&] {
    const std::string made = server_.in_namespace("a/made");
    while (!stop) {
      char text[5] = {};
      if (::mkdir(made.c_str(), 0755) != 0 || ::rmdir(made.c_str()) != 0 || ::pread(file.get(), text, 5, 0) != 5 ||
          ::faccessat(directory.get(), "hello", R_OK, 0) != 0) {
        failed = errno;
        return;
      }
      ++done;
    }
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t before = server_of(server_);
    install(built_);
    EXPECT_TRUE(ok(upgrade()));
    EXPECT_NE(server_of(server_), before);
    const int sofar = done;
    EXPECT_TRUE(eventually([&] { return done > sofar || failed != 0; }));
  }
  stop = true;
  user.join();
  EXPECT_EQ(failed, 0) << errno_name(failed);
  EXPECT_EQ(fs::read_symlink("/proc/" + std::to_string(server_.pid()) + "/exe"), program_)
      << "the newest one, not a deleted";
  EXPECT_EQ(::write(file.get(), "HELLO", 5), 5);
  EXPECT_EQ(server_.read_file("source/hello").value_or(""), "HELLO");
}

TEST_F(Upgrade, LeavesNoDescriptorAndNoProcess) {
  ASSERT_TRUE(ok(upgrade()));
  const Footprint before = server_.footprint();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(ok(upgrade()));
  EXPECT_TRUE(eventually([&] { return server_.footprint().descriptors <= before.descriptors; })) << server_.footprint();
  EXPECT_EQ(server_.footprint().processes, before.processes);
}

TEST_F(Upgrade, ProgramThatCannotGoOnIsRefused) {
  const pid_t before = server_of(server_);
  ASSERT_TRUE(ok(server_.write_file("nonsense", "#!/bin/sh\necho other records; exit 1\n")));
  ASSERT_TRUE(ok(server_.write_file("garbage", "garbage")));
  for (const char* what : {"nonsense", "garbage"}) {
    install(server_.path(what));
    const Result<> refused = upgrade();
    ASSERT_FALSE(refused) << what;
    EXPECT_EQ(refused.error().code(), ENOEXEC) << what;
  }
  EXPECT_EQ(server_of(server_), before);
  EXPECT_NE(server_.log().find("other records"), std::string::npos) << server_.log();
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
}

TEST_F(Upgrade, ConfigurationThatIsWrongByNowIsRefused) {
  const pid_t before = server_of(server_);
  for (const auto& entry : fs::directory_iterator(server_.directory())) {
    if (entry.path().extension() == ".toml") {
      ASSERT_TRUE(
          ok(server_.write_file(entry.path().filename().string(), "[share.a]\ntype = \"nothing to do with it")));
    }
  }
  EXPECT_FALSE(upgrade());
  EXPECT_EQ(server_of(server_), before);
}

TEST_F(Upgrade, ServerThatIsKilledAfterwardsIsSucceeded) {
  ASSERT_TRUE(ok(upgrade()));
  ASSERT_EQ(::kill(server_of(server_), SIGKILL), 0);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
