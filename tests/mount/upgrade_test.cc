#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "src/lib/base/text.h"
#include "src/lib/sys/inherited.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

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

  /// A program that is berth, after these lines of shell.
  void install_script(const std::string& lines) {
    ASSERT_TRUE(ok(server_.write_file("script", "#!/bin/sh\n" + lines + "\nexec " + built_ + " \"$@\"\n")));
    install(server_.path("script"));
  }
  /// A program that waits, when it is asked for its consent, until allow(); is_asked() answers that it waits.
  void install_slow() {
    install_script("[ -z \"$BERTH_TAKE_OVER_CHECK\" ] || { touch " + server_.path("asked") + "; until [ -e " +
                   server_.path("allowed") + " ]; do sleep 0.01; done; }");
  }
  [[nodiscard]] bool is_asked() const { return fs::exists(server_.path("asked")); }
  void allow() { ASSERT_TRUE(ok(server_.write_file("allowed", ""))); }
  Doer upgrader() {
    return Doer([this] {
      const Result<> done = upgrade();
      return done ? 0 : done.error().code();
    });
  }

  Result<> upgrade() { return server_.write_control("control", "upgrade"); }
  /// Those that a started program gets copies of (sys::occupy_copied_descriptors()), which no file of a share may be
  /// among.
  void expect_copied_descriptors_taken() const {
    const std::string table = "/proc/" + std::to_string(server_.server_pid()) + "/fd/";
    for (int number = 0; number < sys::kCopiedDescriptors; ++number) {
      std::error_code error;
      static_cast<void>(fs::read_symlink(table + std::to_string(number), error));
      EXPECT_FALSE(error) << number << ": " << error.message();
    }
  }

  BerthServer server_;
  std::string built_;
  std::string program_;
  std::string source_;
};

/// Started by a program that leaves many descriptors open.
class UpgradeFromADescriptorLeak : public Upgrade {
 protected:
  void SetUp() override {
    std::vector<UniqueFd> leaked(100);
    for (UniqueFd& fd : leaked) fd = UniqueFd(::open("/dev/null", O_RDONLY));
    ASSERT_NO_FATAL_FAILURE(Upgrade::SetUp());
  }
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
    const pid_t before = server_.server_pid();
    install(built_);
    EXPECT_TRUE(ok(upgrade()));
    EXPECT_NE(server_.server_pid(), before);
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
  EXPECT_TRUE(eventually([&] { return server_.footprint().processes <= before.processes; })) << server_.footprint();
}

TEST_F(UpgradeFromADescriptorLeak, NobodyNotices) {
  UniqueFd file(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(ok(upgrade()));
    EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  }
  char text[5] = {};
  EXPECT_EQ(::pread(file.get(), text, 5, 0), 5) << errno_name(errno);
  file.reset();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Upgrade, DescriptorsThatProgramsGetCopiesOfStayTaken) {
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  expect_copied_descriptors_taken();
  ASSERT_TRUE(ok(upgrade()));
  expect_copied_descriptors_taken();
}

TEST_F(Upgrade, DescriptorsThatProgramsGetCopiesOfStayTakenInTheBackground) {
  EXPECT_EQ(server_.stop(), Ending{});
  fs::create_symlink(program_, server_.path("mount.berth"));
  server_.launch_through({"sh", "-c",
                          "exec " + server_.path("mount.berth") + " berth " + server_.namespace_path() +
                              " -o share=a=" + source_ + " 0<&- 1>&-"});
  ASSERT_TRUE(ok(server_.start_program({})));
  expect_copied_descriptors_taken();
  ASSERT_TRUE(ok(upgrade()));
  expect_copied_descriptors_taken();
  ASSERT_EQ(::umount2(server_.namespace_path().c_str(), 0), 0) << errno_name(errno);
  EXPECT_EQ(server_.stop(0), Ending{});
}

TEST_F(Upgrade, OfMountBerthFromAnotherWorkingDirectory) {
  EXPECT_EQ(server_.stop(), Ending{});
  fs::create_symlink(program_, server_.path("mount.berth"));
  server_.launch_through(
      {"sh", "-c", "cd " + server_.directory() + "; exec ./mount.berth berth namespace -o share=a=source"});
  // It returns, and a child serves on.
  ASSERT_TRUE(ok(server_.start_program({})));
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  const auto remount = [&](const std::string& options) {
    return ::system(("cd " + server_.directory() + " && ./mount.berth berth namespace -o remount," + options).c_str());
  };
  EXPECT_EQ(remount("rw"), 0);
  const pid_t before = server_.server_pid();
  install(built_);
  EXPECT_TRUE(ok(upgrade()));
  EXPECT_TRUE(eventually([&] { return server_.server_pid() != before; }));
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(remount("rw,share=a=source"), 0);
  EXPECT_NE(remount("share=a=/"), 0);
  EXPECT_NE(remount("ro"), 0);
  ASSERT_EQ(::umount2(server_.namespace_path().c_str(), 0), 0) << errno_name(errno);
  EXPECT_EQ(server_.stop(0), Ending{});
}

TEST_F(Upgrade, ProgramThatCannotGoOnIsRefused) {
  const pid_t before = server_.server_pid();
  ASSERT_TRUE(ok(server_.write_file("nonsense", "#!/bin/sh\necho other records; exit 1\n")));
  ASSERT_TRUE(ok(server_.write_file("garbage", "garbage")));
  ASSERT_TRUE(ok(server_.write_file("empty", "")));
  ASSERT_TRUE(ok(server_.write_file("content", "#!/bin/sh\nexit 0\n")));
  fs::copy_file(built_, server_.path("truncated"));
  fs::resize_file(server_.path("truncated"), 1 << 16);
  for (const char* what : {"nonsense", "garbage", "empty", "content", "truncated"}) {
    install(server_.path(what));
    const Result<> refused = upgrade();
    ASSERT_FALSE(refused) << what;
    EXPECT_EQ(refused.error().code(), ENOEXEC) << what;
  }
  EXPECT_EQ(server_.server_pid(), before);
  EXPECT_NE(server_.log().find("other records"), std::string::npos) << server_.log();
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
}

TEST_F(Upgrade, ProgramThatCannotBeExecutedIsRefused) {
  const pid_t before = server_.server_pid();
  fs::permissions(program_, fs::perms::owner_read);
  EXPECT_EQ(upgrade().error().code(), ENOEXEC);
  fs::remove(program_);
  EXPECT_EQ(upgrade().error().code(), ENOEXEC);
  fs::create_directory(program_);
  EXPECT_EQ(upgrade().error().code(), ENOEXEC);
  EXPECT_EQ(server_.server_pid(), before);
  fs::remove(program_);
  install(built_);
  EXPECT_TRUE(ok(upgrade()));
  EXPECT_NE(server_.server_pid(), before);
}

TEST_F(Upgrade, ProgramThatIsAnotherOneWhenItsTurnComesLeavesTheOldOne) {
  // Asked, it says what berth says; executed, it is not there any more.
  install_script("[ -z \"$BERTH_TAKE_OVER_CHECK\" ] || rm " + program_);
  EXPECT_EQ(upgrade().error().code(), ENOEXEC);
  EXPECT_NE(server_.log().find("cannot execute"), std::string::npos) << server_.log();
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  install(built_);
  EXPECT_TRUE(ok(upgrade()));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Upgrade, ProgramWithOtherRecordsIsRefused) {
  const pid_t before = server_.server_pid();
  install_script("[ -z \"$BERTH_TAKE_OVER_CHECK\" ] || export BERTH_TAKE_OVER_CHECK=1.1");
  EXPECT_EQ(upgrade().error().code(), ENOEXEC);
  EXPECT_NE(server_.log().find("its records have version 1.1"), std::string::npos) << server_.log();
  EXPECT_EQ(server_.server_pid(), before);
}

TEST_F(Upgrade, ConfigurationThatIsWrongByNowIsRefused) {
  const pid_t before = server_.server_pid();
  for (const auto& entry : fs::directory_iterator(server_.directory())) {
    if (entry.path().extension() == ".toml") {
      ASSERT_TRUE(
          ok(server_.write_file(entry.path().filename().string(), "[share.a]\ntype = \"nothing to do with it")));
    }
  }
  EXPECT_FALSE(upgrade());
  EXPECT_EQ(server_.server_pid(), before);
}

/// Half of it has been written by an editor, say.
TEST_F(Upgrade, ConfigurationThatBecomesWrongAfterTheConsentEndsNothing) {
  const std::string config = server_.path("berth.toml");
  const UniqueFd file(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  const std::string whole = server_.read_file("berth.toml").value_or("");
  ASSERT_TRUE(
      ok(server_.write_file("berth.toml", whole + "[berth]\nmax_nodes = 12345\n[control]\nreaders = \"group\"\n")));
  install(built_);
  ASSERT_TRUE(ok(upgrade()));
  install_script("[ -z \"$BERTH_TAKE_OVER_CHECK\" ] || { " + built_ + " \"$@\"; code=$?; printf '[share.a' >" + config +
                 "; exit $code; }");
  const pid_t before = server_.server_pid();
  ASSERT_TRUE(ok(upgrade()));
  EXPECT_NE(server_.server_pid(), before);
  EXPECT_EQ(server_.state("a"), "mounted");
  char text[5] = {};
  EXPECT_EQ(::pread(file.get(), text, sizeof text, 0), 5) << errno_name(errno);
  EXPECT_NE(server_.log().find("goes on with what it has"), std::string::npos) << server_.log();
  EXPECT_TRUE(eventually([&] {
    return server_.read_control("reload").value_or("").find("berth.toml:") != std::string::npos;
  })) << server_.read_control("reload").value_or("");
  struct stat status {};
  ASSERT_EQ(::stat(server_.in_namespace(".berth/status.json").c_str(), &status), 0) << errno_name(errno);
  EXPECT_EQ(status.st_mode & S_IROTH, 0U) << "the settings are those that were in force";
  ASSERT_TRUE(
      ok(server_.write_file("berth.toml", whole + "[share.b]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(server_.read_file("namespace/b/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Upgrade, ServerThatIsKilledAfterwardsIsSucceeded) {
  ASSERT_TRUE(ok(upgrade()));
  ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Upgrade, ServerThatDiesWhileTheProgramIsAskedIsUpgradedAllTheSame) {
  install_slow();
  Doer asks = upgrader();
  ASSERT_TRUE(eventually([&] { return is_asked(); }));
  const pid_t first = server_.server_pid();
  ASSERT_EQ(::kill(first, SIGKILL), 0);
  const pid_t second = server_.server_pid();
  EXPECT_NE(second, first);
  EXPECT_TRUE(asks.waits()) << "it is not known yet how it went";
  allow();
  EXPECT_EQ(asks.result(), 0);
  EXPECT_NE(server_.server_pid(), second);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A program that consents to take over, and cannot.
class UpgradeToACrash : public Upgrade {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(Upgrade::SetUp());
    ASSERT_TRUE(fs::create_directories(server_.in_namespace(kAttachment)));
  }
  /// The caller that asked gets an answer, a caller that asks now does too, and none waits. The next start takes over
  /// what is attached.
  void expect_end_and_recovery() {
    Doer asks = upgrader();
    EXPECT_GT(asks.result(), 0);
    EXPECT_TRUE(eventually([&] { return !server_.read_file("namespace/a/hello"); }));
    server_.stop(0);
    EXPECT_TRUE(fs::is_empty(server_.namespace_path()));
    ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n")));
    EXPECT_TRUE(fs::exists(server_.in_namespace(kAttachment)));
    EXPECT_TRUE(server_.wait_for_state("a", "mounted"));
    EXPECT_EQ(server_.stop(), Ending{});
  }

  static constexpr const char* kAttachment = ".berth/shares/a/attachments/vm/disk";
};

TEST_F(UpgradeToACrash, OfTheKeeperEndsEverythingAndTheNextStartRecovers) {
  install_script("[ -z \"$BERTH_TAKE_OVER\" ] || kill -SEGV $$");
  expect_end_and_recovery();
  EXPECT_EQ(server_.ending(), Ending{}) << "of the one that was started then";
}

TEST_F(UpgradeToACrash, OfEachServerIsGivenUpAndTheNextStartRecovers) {
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  install_script("[ -z \"$BERTH_TAKE_OVER\" ] || export LD_PRELOAD=" + (here / "crashing-server.so").string());
  expect_end_and_recovery();
  EXPECT_NE(server_.log().find("giving up"), std::string::npos) << server_.log();
}

TEST_F(Upgrade, SecondOneMeanwhileIsTold) {
  install_slow();
  Doer asks = upgrader();
  ASSERT_TRUE(eventually([&] { return is_asked(); }));
  EXPECT_EQ(upgrade().error().code(), EBUSY);
  allow();
  EXPECT_EQ(asks.result(), 0);
  EXPECT_TRUE(ok(upgrade()));
}

TEST_F(Upgrade, DrainThatWaitsGoesOn) {
  UniqueFd file(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  Doer drains([&] {
    file.reset();
    const Result<> drained = server_.write_control("control", "drain");
    return drained ? 0 : drained.error().code();
  });
  ASSERT_TRUE(server_.wait_for_state("a", "draining"));
  ASSERT_TRUE(ok(upgrade()));
  EXPECT_EQ(server_.state("a"), "draining");
  file.reset();
  EXPECT_EQ(drains.result(), 0);
  EXPECT_EQ(server_.state("a"), "idle");
}

TEST_F(Upgrade, StopMeanwhileIsAStop) {
  install_slow();
  Doer asks = upgrader();
  ASSERT_TRUE(eventually([&] { return is_asked(); }));
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_NE(asks.result(), 0);
  EXPECT_NE(server_.log().find("0 given up"), std::string::npos) << server_.log();
}

}  // namespace
}  // namespace berth::test
