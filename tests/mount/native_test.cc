// Shares whose directory is overmounted with their real mount (access = "native"): when, for which callers, and that no
// caller notices.
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include "src/lib/sys/mount_table.h"
#include "tests/mount/berth_fixture.h"
#include "tests/mount/companion.h"
#include "tests/mount/faults.h"
#include "tests/mount/stopped_caller.h"

namespace berth::test {
namespace {

dev_t device_of(const std::string& path) {
  struct stat attributes {};
  return ::stat(path.c_str(), &attributes) == 0 ? attributes.st_dev : 0;
}

std::size_t mounts_at(const std::string& target) {
  const auto table = sys::read_mount_table();
  if (!table) return 0;
  return static_cast<std::size_t>(
      std::count_if(table->begin(), table->end(), [&](const auto& entry) { return entry.target == target; }));
}

class Native : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    server_.make_directory("source/d");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
  }
  void start(const std::string& share_lines = "", const std::string& berth_lines = "") {
    ASSERT_TRUE(ok(server_.start("[berth]\n" + berth_lines + "[share.a]\ntype = \"bind\"\nsource = \"" + source_ +
                                 "\"\n" + share_lines)));
  }
  [[nodiscard]] std::string in(std::string_view name) const { return server_.in_namespace("a/" + std::string(name)); }
  [[nodiscard]] std::string share() const { return server_.in_namespace("a"); }
  [[nodiscard]] nlohmann::json status(const std::string& name = "a") const {
    return server_.read_json("shares/" + name + "/status.json");
  }
  [[nodiscard]] bool is_native(const std::string& name = "a") const { return status(name).value("native", false); }
  [[nodiscard]] std::string held() const { return status().value("held", ""); }
  /// By its path, as another program: a thread that is inside through berth is served there.
  void touch() {
    std::thread([this] { ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello"); }).join();
  }
  /// How often the events tell `what` of the share: " native", " unmounted".
  [[nodiscard]] std::size_t times(const std::string& what) const {
    const std::string events = server_.read_control("events").value_or("");
    std::size_t found = 0;
    for (std::size_t at = 0; (at = events.find(what + " share=a", at)) != std::string::npos; ++at) ++found;
    return found;
  }
  /// It may be over by the time this returns, where the idle timeout is short; and a share that is not touched may be
  /// idle before it is its turn.
  void go_native() {
    const std::size_t before = times(" native");
    ASSERT_TRUE(eventually([&] {
      touch();
      // It is left alone, or it would be taken to be in use.
      for (int looks = 0; looks < 50; ++looks) {
        if (is_native() || times(" native") > before) return true;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      return false;
    })) << server_.read_control("events").value_or("");
  }
  /// What first_calls() find in the source; what they have made goes.
  void furnish() const {
    for (const char* name : {"/new", "/d/new", "/d/e/new"}) std::filesystem::remove_all(source_ + name);
    for (const char* name : {"/empty", "/d/e", "/d/other"}) std::filesystem::create_directories(source_ + name);
    for (const char* name : {"/hello", "/d/gone", "/d/file", "/d/e/f"}) std::ofstream(source_ + name) << "hello";
    if (!std::filesystem::is_symlink(source_ + "/link")) std::filesystem::create_symlink("hello", source_ + "/link");
    for (const char* name : {"/program", "/d/program"}) {
      if (!std::filesystem::exists(source_ + name)) std::filesystem::copy_file("/bin/true", source_ + name);
    }
  }
  /// The agent, and those that it has at work.
  [[nodiscard]] std::vector<pid_t> agents() const {
    std::vector<pid_t> found;
    for (const pid_t pid : server_.processes()) {
      std::string name(16, '\0');
      const UniqueFd comm(::open(("/proc/" + std::to_string(pid) + "/comm").c_str(), O_RDONLY | O_CLOEXEC));
      const ssize_t size = comm ? ::read(comm.get(), name.data(), name.size()) : 0;
      if (size > 0 && name.starts_with("berth-agent")) found.push_back(pid);
    }
    return found;
  }
  /// SIGSTOP, and until each thread has stopped: one that is busy does so later.
  static void stop_process(pid_t process) {
    ASSERT_EQ(::kill(process, SIGSTOP), 0);
    ASSERT_TRUE(eventually([process] {
      const std::filesystem::directory_iterator threads("/proc/" + std::to_string(process) + "/task");
      return std::all_of(begin(threads), end(threads), [](const auto& thread) {
        std::string stat;
        std::getline(std::ifstream(thread.path() / "stat"), stat);
        return stat.find(") T ") != std::string::npos;
      });
    }));
  }
  [[nodiscard]] bool unmount() const { return server_.write_control("shares/a/control", "unmount").has_value(); }

  BerthServer server_;
  std::string source_;
};

TEST_F(Native, KernelLeadsStraightIntoTheRealMountAfterTheFirstAccess) {
  start();
  EXPECT_FALSE(is_native());
  go_native();
  EXPECT_EQ(device_of(in("hello")), device_of(source_ + "/hello"));
  EXPECT_EQ(mounts_at(share()), 1U);
  EXPECT_EQ(status().value("access", ""), "auto");
  EXPECT_NE(server_.read_control("events").value_or("").find(" native share=a"), std::string::npos);
  EXPECT_NE(server_.read_control("shares/a/status").value_or("").find("access:       auto, native now"),
            std::string::npos);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Native, ListingAndStatOfTheNamespaceMountNothing) {
  start();
  const std::string quietly = " " + server_.namespace_path() + " >/dev/null";
  EXPECT_EQ(::system(("ls -l" + quietly + " && stat " + share() + quietly + " && df" + quietly).c_str()), 0);
  EXPECT_EQ(::system(("find " + server_.namespace_path() + " -maxdepth 1 >/dev/null").c_str()), 0);
  EXPECT_EQ(status().value("mounts", -1), 0);
  EXPECT_EQ(mounts_at(share()), 0U);
}

TEST_F(Native, ProxyStaysWhereItIsAskedFor) {
  start("access = \"proxy\"\nidle_timeout = \"300ms\"\n");
  touch();
  ASSERT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_EQ(server_.read_control("events").value_or("").find(" native "), std::string::npos);
}

TEST_F(Native, AutoStaysWithBerthWhereOnlyBerthKnowsWhoMayGoIn) {
  start("allow_users = [\"root\", \"nobody\"]\nidle_timeout = \"300ms\"\n");
  touch();
  ASSERT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_EQ(server_.read_control("events").value_or("").find(" native "), std::string::npos);
}

TEST_F(Native, WhatWasOpenedBeforeGoesOnThroughBerth) {
  start();
  const UniqueFd inside(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // asks no server
  const UniqueFd file(::openat(inside.get(), "hello", O_RDONLY | O_CLOEXEC));
  const UniqueFd directory(::openat(inside.get(), "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(file && directory);
  EXPECT_FALSE(is_native());
  touch();
  ASSERT_TRUE(is_native());
  struct stat attributes {};
  ASSERT_EQ(::fstat(file.get(), &attributes), 0);
  EXPECT_NE(attributes.st_dev, device_of(in("hello")));
  ASSERT_TRUE(ok(server_.write_file("namespace/a/hello", "HELLO")));
  char now[6]{};
  EXPECT_EQ(::pread(file.get(), now, 5, 0), 5);
  EXPECT_STREQ(now, "HELLO") << "through berth, what was written natively";
  ASSERT_TRUE(ok(server_.write_file("namespace/a/d/new", "natively")));
  const UniqueFd seen(::openat(directory.get(), "new", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(seen) << "through berth, what was made natively: " << errno_name(errno);
  char text[9]{};
  EXPECT_EQ(::read(seen.get(), text, 8), 8);
  EXPECT_STREQ(text, "natively");
  EXPECT_FALSE(unmount()) << "its handles hold it";
  EXPECT_EQ(server_.state("a"), "mounted");
}

/// What programs look at that want to know whether a path still leads to the file that they have open.
bool leads_to(const std::string& path, int file) {
  struct stat there {};
  struct stat here {};
  return ::stat(path.c_str(), &there) == 0 && ::fstat(file, &here) == 0 && there.st_dev == here.st_dev &&
         there.st_ino == here.st_ino;
}

// SQLite writes no more to a database that is not where it was.
TEST_F(Native, FirstAccessThatOpensAFileForWritingIsInTheRealMountFromTheStart) {
  start();
  const std::array<int, 3> flags{O_RDWR, O_WRONLY | O_CREAT | O_EXCL, O_RDWR | O_TMPFILE};
  for (std::size_t i = 0; i < flags.size(); ++i) {
    const std::string path = in(std::array{"hello", "new", "d"}[i]);
    // By another thread each time, as by another program.
    std::thread([&] {
      const UniqueFd file(::open(path.c_str(), flags[i] | O_CLOEXEC, 0644));
      ASSERT_TRUE(file) << path << ": " << errno_name(errno);
      EXPECT_TRUE(is_native());
      EXPECT_EQ(device_of("/proc/self/fd/" + std::to_string(file.get())), device_of(source_));
      const bool has_name = (flags[i] & O_TMPFILE) != O_TMPFILE;
      EXPECT_TRUE(!has_name || leads_to(path, file.get()));
    }).join();
    ASSERT_TRUE(eventually([&] { return unmount(); }));
  }
}

TEST_F(Native, NothingIsHandedOverWhileSomebodyWritesThroughBerth) {
  start();
  const UniqueFd inside(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  UniqueFd file(::openat(inside.get(), "hello", O_RDWR | O_CLOEXEC));  // its path does not come by the share's name
  ASSERT_TRUE(file) << errno_name(errno);
  for (int i = 0; i < 20; ++i) std::thread([&] { EXPECT_TRUE(leads_to(in("hello"), file.get())); }).join();
  EXPECT_FALSE(is_native());
  EXPECT_EQ(status().value("with_berth", ""), "a file is open for writing through berth");
  UniqueFd another(::open(in("d/new").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  ASSERT_TRUE(another) << errno_name(errno);
  EXPECT_TRUE(leads_to(in("d/new"), another.get()));
  // The next server knows it as well.
  ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(leads_to(in("hello"), file.get()));
  EXPECT_FALSE(is_native());
  file.reset();
  EXPECT_TRUE(leads_to(in("d/new"), another.get()));
  EXPECT_FALSE(is_native());
  another.reset();
  go_native();
}

TEST_F(Native, ExpiresWhenNobodyHasBeenInItForItsIdleTimeout) {
  start("idle_timeout = \"100ms\"\n");
  for (int i = 0; i < 5; ++i) {
    go_native();
    ASSERT_TRUE(server_.wait_for_state("a", "idle"));
    EXPECT_EQ(mounts_at(share()), 0U);
  }
  EXPECT_EQ(status().value("mounts", 0), 5);
}

/// What monitors do: statfs(2) of each mount (df, node exporter), stat(2) of names. Fifty times a second, until `end`.
std::thread monitor(const std::string& share, const std::atomic<bool>& end, std::uint64_t native) {
  return std::thread([share, &end, native] {
    while (!end) {
      struct stat attributes {};
      struct statvfs all {};
      // An idle share would be mounted by that.
      if (device_of(share) == native) ::statvfs(share.c_str(), &all);
      ::lstat(share.c_str(), &attributes);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
}

TEST_F(Native, MonitorsDoNotKeepIt) {
  start("idle_timeout = \"300ms\"\n");
  ASSERT_EQ(::mkfifo((source_ + "/fifo").c_str(), 0666), 0);
  for (const bool agent_dies : {false, true}) {
    const std::size_t before = times(" unmounted");
    go_native();
    std::atomic<bool> end = false;
    std::thread looks = monitor(share(), end, device_of(source_));
    // Opened by a program, a FIFO is one file more that was used: no process waits for its other end.
    UniqueFd fifo(::open(in("fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    EXPECT_TRUE(fifo);
    if (agent_dies) ::kill(agents().front(), SIGKILL);
    fifo.reset();
    EXPECT_TRUE(eventually([&] { return times(" unmounted") > before; }))
        << server_.read_control("events").value_or("");
    end = true;
    looks.join();
  }
}

TEST_F(Native, ProgramsThatOpenSomethingInItKeepIt) {
  start("idle_timeout = \"1s\"\n");
  go_native();
  for (const char* const name : {"hello", "d"}) {
    SCOPED_TRACE(name);
    // Where this thread got no processor for long, it says nothing.
    std::chrono::steady_clock::duration longest{};
    std::size_t unmounted = 0;
    for (int tries = 0; tries < 5; ++tries) {
      touch();
      unmounted = times(" unmounted");
      longest = {};
      auto last = std::chrono::steady_clock::now();
      for (int i = 0; i < 175; ++i) {
        EXPECT_TRUE(UniqueFd(::open(in(name).c_str(), O_RDONLY | O_CLOEXEC)));
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        const auto now = std::chrono::steady_clock::now();
        longest = std::max(longest, now - std::exchange(last, now));
      }
      unmounted = times(" unmounted") - unmounted;
      if (longest < std::chrono::milliseconds(500)) break;
    }
    if (longest < std::chrono::milliseconds(500)) {
      EXPECT_EQ(unmounted, 0U) << server_.read_control("events").value_or("");
    }
  }
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
}

TEST_F(Native, WorkingDirectoryInItKeepsItUntilItIsLeft) {
  start("idle_timeout = \"500ms\"\n");
  go_native();
  Companion companion([&] { return ::chdir(in("d").c_str()); },
                      {[&] { return ::access("../hello", R_OK); }, [] { return ::chdir("/"); }});
  ASSERT_TRUE(is_native());
  EXPECT_EQ(device_of(share()), device_of(source_));
  const auto looks = [&] { return server_.read_control("events").value_or(""); };
  const std::string before = looks();
  // Long enough for it to have gone many times over: unmounting it on request says why it does not.
  EXPECT_FALSE(unmount());
  EXPECT_EQ(companion.run(0), 0);
  EXPECT_NE(status().value("busy", "").find("natively"), std::string::npos) << status();
  EXPECT_EQ(looks(), before) << "it has stayed";
  EXPECT_EQ(companion.run(1), 0);
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
}

// A caller that came through berth before the share was native is still inside, and berth does not see what is renamed
// natively.
TEST_F(Native, WhoIsInADirectoryThroughBerthStaysInItWhenItIsRenamedNatively) {
  server_.make_directory("source/d/sub");
  start();
  UniqueFd pinned;
  const auto come_in = [&] {
    const UniqueFd root(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // asks no server
    pinned = UniqueFd(::openat(root.get(), "d", O_PATH | O_DIRECTORY | O_CLOEXEC));
    struct stat here {};
    if (!pinned || ::fchdir(pinned.get()) != 0 || ::chdir("sub") != 0 || ::stat(".", &here) != 0) return errno;
    return here.st_dev == device_of(source_) ? EXDEV : 0;
  };
  const auto make = [](int directory, const char* name) {
    const UniqueFd file(::openat(directory, name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
    return file && ::write(file.get(), "made", 4) == 4 ? 0 : errno;
  };
  Companion inside(come_in, {[&] { return make(AT_FDCWD, "one"); }, [&] { return make(pinned.get(), "two"); },
                             [] { return ::mkdir("deeper", 0755) == 0 && ::chdir("deeper") == 0 ? 0 : errno; },
                             [&] { return make(AT_FDCWD, "three"); },
                             [] {
                               struct stat here {};
                               return ::stat(".", &here) == 0 ? 0 : errno;
                             }});
  go_native();
  server_.make_directory("source/e");
  ASSERT_EQ(::rename(in("d").c_str(), in("e/moved").c_str()), 0);
  ASSERT_EQ(::rename(in("e/moved/sub").c_str(), in("under").c_str()), 0);
  EXPECT_EQ(inside.run(0), 0);
  EXPECT_EQ(server_.read_file("source/under/one").value_or(""), "made");
  EXPECT_EQ(inside.run(1), 0);
  EXPECT_EQ(server_.read_file("source/e/moved/two").value_or(""), "made");
  // What they make and go into later, too.
  EXPECT_EQ(inside.run(2), 0);
  ASSERT_EQ(::rename(in("under/deeper").c_str(), in("deepest").c_str()), 0);
  EXPECT_EQ(inside.run(3), 0);
  EXPECT_EQ(server_.read_file("source/deepest/three").value_or(""), "made");
  // Idle and mounted anew, it is found again still.
  ASSERT_EQ(::rename(in("deepest").c_str(), in("far").c_str()), 0);
  ASSERT_TRUE(eventually([&] { return unmount(); }));
  EXPECT_EQ(inside.run(4), 0);
  // One that is gone is gone, though another has its name now.
  ASSERT_EQ(::system(("rm -r " + source_ + "/far && mkdir " + source_ + "/far").c_str()), 0);
  ASSERT_TRUE(eventually([&] { return unmount(); }));
  EXPECT_EQ(inside.run(3), ESTALE);
}

TEST_F(Native, IsUnmountedOnRequestAndUnderItsUsersOnlyByForce) {
  start();
  go_native();
  ASSERT_TRUE(unmount());
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_EQ(mounts_at(share()), 0U);
  go_native();
  const UniqueFd file(::open(in("hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  EXPECT_FALSE(unmount());
  EXPECT_EQ(mounts_at(share()), 1U);
  ASSERT_TRUE(ok(server_.write_control("shares/a/control", "force-unmount")));
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_EQ(mounts_at(share()), 0U);
  char byte = 0;
  EXPECT_EQ(::pread(file.get(), &byte, 1, 0), 1) << "a program that is in it goes on";
}

TEST_F(Native, StopTakesItOffAlsoUnderItsUsers) {
  start();
  go_native();
  const UniqueFd file(::open(in("hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  EXPECT_EQ(server_.stop(), Ending{});
  char byte = 0;
  EXPECT_EQ(::pread(file.get(), &byte, 1, 0), 1) << "a program that is in it goes on";
}

TEST_F(Native, MountKeepsTheAttributesOfTheShare) {
  start("read_only = true\n");
  go_native();
  EXPECT_LT(::open(in("new").c_str(), O_CREAT | O_WRONLY, 0644), 0);
  EXPECT_EQ(errno, EROFS);
  struct statvfs statistics {};
  ASSERT_EQ(::statvfs(share().c_str(), &statistics), 0);
  constexpr unsigned long kWanted = ST_RDONLY | ST_NOSUID;
  EXPECT_EQ(statistics.f_flag & kWanted, kWanted);
  EXPECT_NE(statistics.f_flag & 4UL, 0U) << "nodev (ST_NODEV)";
}

TEST_F(Native, SharesBelowDirectories) {
  ASSERT_TRUE(ok(server_.start("[share.\"home/alice\"]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n")));
  ASSERT_EQ(server_.read_file("namespace/home/alice/hello").value_or(""), "hello");
  ASSERT_TRUE(eventually([&] { return is_native("home/alice"); }));
  EXPECT_EQ(mounts_at(server_.in_namespace("home/alice")), 1U);
  EXPECT_EQ(server_.read_file("namespace/home/alice/hello").value_or(""), "hello");
}

TEST_F(Native, WhatIsMadeNativelyIsThereAtOnceWhenItGoesThroughBerthAgain) {
  start();
  for (int i = 0; i < 20; ++i) {
    const std::string name = "new" + std::to_string(i);
    ASSERT_NE(::access(in(name).c_str(), F_OK), 0);  // berth's kernel has heard that it is not there
    ASSERT_TRUE(eventually([&] { return is_native(); }));
    ASSERT_TRUE(ok(server_.write_file("namespace/a/" + name, "x")));
    ASSERT_TRUE(unmount());
    ASSERT_EQ(::access(in(name).c_str(), F_OK), 0) << errno_name(errno);
    ASSERT_TRUE(eventually([&] { return is_native(); }));
    ASSERT_TRUE(unmount());
  }
}

// The first access to an idle share is a call that walks there twice, and they go on until it is native and after: the
// second walk of none must find the share elsewhere. It becomes native for a caller that renames, or that opens a file
// for writing.
TEST_F(Native, RenamesAreNeverAcrossMountsWhileItIsHandedOver) {
  start();
  server_.make_directory("source/e");
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(ok(server_.write_file("source/d/from", "x")));
    int error = 0;
    std::thread writer;
    ASSERT_TRUE(eventually([&] {
      // Not more at a time: a caller that renames all the time keeps the share with berth.
      if (::rename(in("d/from").c_str(), in("e/to").c_str()) != 0) error = errno;
      if (error == 0 && ::rename(in("e/to").c_str(), in("d/from").c_str()) != 0) error = errno;
      if (i % 10 != 0 && !writer.joinable())
        writer = std::thread([&] { EXPECT_TRUE(ok(server_.write_file("namespace/a/new", "x"))); });
      return error != 0 || is_native();
    }));
    if (writer.joinable()) writer.join();
    ASSERT_EQ(error, 0) << errno_name(error) << " in round " << i;
    ASSERT_TRUE(eventually([&] { return unmount(); }));
  }
}

TEST_F(Native, MountNamespaceThatSeesNoNewMountsGoesThroughBerth) {
  start("idle_timeout = \"100ms\"\n");
  Companion elsewhere(
      [] {
        if (::unshare(CLONE_NEWNS) != 0) return errno;
        return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 ? 0 : errno;
      },
      {[&] { return server_.read_file("namespace/a/hello").value_or("") == "hello" ? 0 : 1; },
       [&] { return server_.write_file("namespace/a/there", "there") ? 0 : errno; },
       [&] { return device_of(in("hello")) == device_of(source_ + "/hello") ? 0 : 1; },
       [&] { return ::rename(in("there").c_str(), in("d/there").c_str()) == 0 ? 0 : errno; }});
  // By them first: it is native here, and they continue through berth.
  EXPECT_EQ(elsewhere.run(0), 0);
  // On a busy machine it may be idle again before it is overmounted.
  ASSERT_TRUE(eventually([&] { return elsewhere.run(0) == 0 && is_native(); }));
  EXPECT_EQ(elsewhere.run(0), 0);
  EXPECT_EQ(elsewhere.run(1), 0);
  EXPECT_EQ(elsewhere.run(2), 1) << "through berth";
  EXPECT_EQ(server_.read_file("source/there").value_or(""), "there");
  EXPECT_EQ(elsewhere.run(3), 0);
  EXPECT_EQ(server_.read_file("namespace/a/d/there").value_or(""), "there");
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_EQ(elsewhere.run(0), 0);
}

// A copy of the whole mount namespace, taken while the share is native, keeps its copy of the real mount.
TEST_F(Native, PrivateCopyOfTheMountNamespaceDoesNotKeepItHere) {
  start("idle_timeout = \"100ms\"\n");
  go_native();
  Companion elsewhere(
      [&] { return ::chdir(share().c_str()) == 0 && ::unshare(CLONE_NEWNS) == 0 ? ::chdir("/") : errno; },
      {[&] { return server_.read_file("namespace/a/hello").value_or("") == "hello" ? 0 : 1; }});
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_EQ(elsewhere.run(0), 0) << "theirs is there still";
  EXPECT_NE(held().find("process " + std::to_string(elsewhere.pid()) + " "), std::string::npos) << status();
  go_native();
  EXPECT_EQ(held(), "") << "it is mounted again";
  EXPECT_EQ(elsewhere.run(0), 0);
}

TEST_F(Native, ProcessThatKeepsAnUnmountedImageInItsMountNamespaceIsNamed) {
  const std::string image = server_.path("image");
  ASSERT_EQ(::system(("truncate -s 16M " + image + " && mkfs.ext4 -q " + image).c_str()), 0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"ext4\"\nsource = \"" + image + "\"\n")));
  ASSERT_TRUE(ok(server_.write_file("namespace/a/hello", "hello")));
  ASSERT_TRUE(eventually([&] { return is_native(); }));
  const auto is_attached = [&] { return ::system(("losetup -j " + image + " | grep -q .").c_str()) == 0; };
  // As `unshare -Urm` of any user.
  Companion user(
      [] {
        if (::setresgid(1000, 1000, 1000) != 0 || ::setresuid(1000, 1000, 1000) != 0) return errno;
        return ::unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 ? 0 : errno;
      },
      {});
  const std::string name = "process " + std::to_string(user.pid()) + " ";
  ASSERT_TRUE(unmount());
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_TRUE(is_attached());
  EXPECT_NE(held().find(name), std::string::npos) << status();
  EXPECT_NE(server_.read_control("status").value_or("").find(name), std::string::npos);
  EXPECT_NE(server_.read_control("shares/a/status").value_or("").find(name), std::string::npos);
  EXPECT_NE(server_.read_control("events").value_or("").find(name), std::string::npos);
  ASSERT_TRUE(ok(server_.write_control("control", "drain")));
  EXPECT_NE(server_.read_control("events").value_or("").find("still mounted elsewhere: a"), std::string::npos);
  user.end();
  EXPECT_TRUE(eventually([&] { return held().empty(); }));
  EXPECT_TRUE(eventually([&] { return !is_attached(); }));
}

// No mount table shows it: the mount was detached with the file open, or no process is in the mount namespace any more.
TEST_F(Native, ProcessThatKeepsAnUnmountedImageByADescriptorAloneIsNamed) {
  const std::string image = server_.path("image");
  ASSERT_EQ(::system(("truncate -s 16M " + image + " && mkfs.ext4 -q " + image).c_str()), 0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"ext4\"\nsource = \"" + image + "\"\n")));
  ASSERT_TRUE(ok(server_.write_file("namespace/a/hello", "hello")));
  ASSERT_TRUE(eventually([&] { return is_native(); }));
  const auto is_attached = [&] { return ::system(("losetup -j " + image + " | grep -q .").c_str()) == 0; };
  const std::string self = "process " + std::to_string(::getpid()) + " ";
  UniqueFd elsewhere;  // a mount namespace without a process
  {
    Companion user([] { return ::unshare(CLONE_NEWNS) == 0 ? 0 : errno; }, {});
    elsewhere = UniqueFd(::open(("/proc/" + std::to_string(user.pid()) + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(elsewhere);
  }
  ASSERT_TRUE(unmount());
  EXPECT_NE(held().find(self + "(\"mount-native\") holds a mount namespace"), std::string::npos) << status();
  EXPECT_TRUE(is_attached());
  ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return held().find(self) != std::string::npos; }))
      << "the next server knows it, too: " << status();
  elsewhere.reset();
  EXPECT_TRUE(eventually([&] { return held().empty(); })) << status();
  EXPECT_FALSE(is_attached());

  for (const bool is_through_berth : {false, true}) {
    ASSERT_TRUE(ok(server_.write_file("namespace/a/hello", "hello")));
    ASSERT_TRUE(eventually([&] { return is_native(); }));
    UniqueFd file;
    const auto open = [&] { file = UniqueFd(::open(in("hello").c_str(), O_RDONLY | O_CLOEXEC)); };
    is_through_berth ? open() : std::thread(open).join();
    ASSERT_TRUE(file);
    ASSERT_TRUE(ok(server_.write_control("shares/a/control", "force-unmount")));
    EXPECT_NE(held().find(self + "(\"mount-native\") has a file"), std::string::npos) << status();
    file.reset();
    EXPECT_TRUE(eventually([&] { return held().empty(); })) << status();
    EXPECT_FALSE(is_attached());
  }
}

TEST_F(Native, PlaceOfTheHostThatKeepsAnUnmountedShareIsNamed) {
  start();
  go_native();
  // What a recursive bind of the namespace takes along.
  const std::string elsewhere = server_.make_directory("elsewhere");
  ASSERT_EQ(::mount(server_.namespace_path().c_str(), elsewhere.c_str(), nullptr, MS_BIND | MS_REC, nullptr), 0);
  ASSERT_TRUE(unmount());
  EXPECT_NE(held().find("still mounted at \"" + elsewhere + "/a\""), std::string::npos) << status();
  ASSERT_EQ(::umount2((elsewhere + "/a").c_str(), 0), 0) << errno_name(errno);
  EXPECT_TRUE(eventually([&] { return held().empty(); }));
  ASSERT_EQ(::umount2(elsewhere.c_str(), MNT_DETACH), 0);
}

// As a container with propagation sees it.
TEST_F(Native, MountNamespaceThatFollowsSeesItComeAndGo) {
  const std::string shared = server_.make_directory("namespace");
  ASSERT_EQ(::mount("tmpfs", shared.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, shared.c_str(), nullptr, MS_SHARED, nullptr), 0);
  server_.make_directory("namespace/here");
  {
    BerthServer berth;
    Companion elsewhere(
        [] {
          if (::unshare(CLONE_NEWNS) != 0) return errno;
          return ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0 ? 0 : errno;
        },
        {[&] { return device_of(shared + "/here/a/hello") == device_of(source_ + "/hello") ? 0 : 1; },
         [&] { return ::chdir((shared + "/here/a/d").c_str()); }, [] { return ::chdir("/"); },
         [&] { return static_cast<int>(mounts_at(shared + "/here/a")); }});
    ASSERT_TRUE(
        ok(berth.write_file("other.toml", "[berth]\nidle_timeout = \"50ms\"\nnamespace = \"" + shared +
                                              "/here\"\n[share.a]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n")));
    ASSERT_TRUE(ok(berth.start_program({"serve", "--config", berth.path("other.toml")})));
    ASSERT_TRUE(eventually([&] { return elsewhere.run(0) == 0; })) << "native there as well";
    ASSERT_TRUE(eventually([&] { return elsewhere.run(0) == 0 && elsewhere.run(1) == 0 && elsewhere.run(3) == 1; }));
    const std::string control = shared + "/here/.berth/shares/a/";
    EXPECT_NE(::system(("echo unmount 2>/dev/null >" + control + "control").c_str()), 0)
        << "a program in the copy is in it";
    EXPECT_EQ(elsewhere.run(2), 0);
    EXPECT_TRUE(eventually([&] { return ::system(("grep -q idle " + control + "state").c_str()) == 0; }));
    EXPECT_EQ(elsewhere.run(3), 0);
    EXPECT_EQ(berth.stop(), Ending{});
  }
  ASSERT_EQ(::umount2(shared.c_str(), MNT_DETACH), 0);
}

TEST_F(Native, ShareStaysNativeOverTheDeathOfTheServer) {
  start();
  go_native();
  const UniqueFd file(::open(in("hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  const pid_t server = server_.server_pid();
  ASSERT_EQ(::kill(server, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return is_native(); })) << "the next one knows";
  EXPECT_NE(server_.server_pid(), server);
  EXPECT_EQ(mounts_at(share()), 1U);
  touch();
  EXPECT_EQ(device_of(in("hello")), device_of(source_ + "/hello"));
  EXPECT_FALSE(unmount()) << "and asks the kernel for its users";
  EXPECT_EQ(mounts_at(share()), 1U);
}

TEST_F(Native, DeathOfAllOfBerthLeavesWhoIsInItAloneAndTheNextStartTakesItOff) {
  start();
  go_native();
  Companion inside([&] { return ::chdir(in("d").c_str()); },
                   {[] {
                      const int file = ::open("made", O_CREAT | O_EXCL | O_WRONLY, 0644);
                      return file >= 0 && ::write(file, "made", 4) == 4 && ::close(file) == 0 ? 0 : errno;
                    },
                    [] { return ::unlink("made") == 0 ? 0 : errno; },
                    [&] { return ::access(in("hello").c_str(), R_OK) == 0 ? 0 : errno; }});
  const UniqueFd file(::open(in("hello").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file);
  // All at once: a process that saw another one die would take the namespace off.
  const std::vector<pid_t> all = server_.processes();
  for (const int signal : {SIGSTOP, SIGKILL}) {
    for (const pid_t pid : all) ::kill(pid, signal);
  }
  ASSERT_TRUE(eventually([&] { return ::access(server_.in_namespace(".berth/status").c_str(), R_OK) != 0; }));
  EXPECT_EQ(inside.run(0), 0);
  EXPECT_EQ(server_.read_file("source/d/made").value_or(""), "made");
  EXPECT_EQ(::pwrite(file.get(), "HELLO", 5, 0), 5);
  EXPECT_EQ(inside.run(2), 0) << "by its path as well";
  ASSERT_TRUE(eventually([&] { return server_.processes().size() <= 1; }));

  BerthServer next;
  ASSERT_TRUE(ok(next.start_program({"serve", "--namespace", server_.namespace_path(), "--share", "a=" + source_})));
  EXPECT_EQ(mounts_at(server_.namespace_path()), 1U);
  EXPECT_EQ(mounts_at(share()), 0U) << "what was left is off";
  EXPECT_EQ(inside.run(1), 0) << "and a program that is in it goes on";
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "HELLO");
  inside.end();
  EXPECT_EQ(next.stop(), Ending{});
  EXPECT_EQ(server_.stop(0).signal, SIGKILL);
}

TEST_F(Native, AgentThatDiesIsStartedAgain) {
  start();
  go_native();
  ASSERT_TRUE(unmount());
  std::vector<pid_t> before;
  ASSERT_TRUE(eventually([&] {
    before = agents();
    return before.size() == 1;  // those that were at work end a little later
  }));
  ASSERT_EQ(::kill(before.front(), SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return agents().size() == 1 && agents() != before; }));
  go_native();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Native, AgentThatIsKilledWhenACallerComesInIsMissedByNobody) {
  start();
  constexpr int kKills = 8;  // of ten short lives in a row
  for (int kills = 0; kills < kKills; ++kills) {
    const std::vector<pid_t> all = agents();
    std::thread killer([&] {
      for (const pid_t pid : all) ::kill(pid, SIGKILL);
    });
    touch();
    killer.join();
    ASSERT_TRUE(eventually([&] { return unmount(); }));
    ASSERT_EQ(mounts_at(share()), 0U);
    ASSERT_TRUE(eventually([&] { return agents().size() == 1; }));
  }
  go_native();
  EXPECT_EQ(mounts_at(share()), 1U);
  EXPECT_EQ(server_.read_control("events").value_or("").find("not native"), std::string::npos);
  ASSERT_TRUE(unmount());
  EXPECT_EQ(mounts_at(share()), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Native, WhatAnAdministratorTakesOffIsBerthsAgainAndThenNative) {
  start("idle_timeout = \"400ms\"\n");
  go_native();
  Companion inside([&] { return ::chdir(in("d").c_str()); },
                   {[] { return ::access("../hello", R_OK) == 0 ? 0 : errno; }, [] { return ::chdir("/"); }});
  const std::size_t before = times(" native");
  ASSERT_EQ(::system(("umount -R -l " + share()).c_str()), 0);
  EXPECT_EQ(inside.run(0), 0);
  touch();
  ASSERT_TRUE(eventually([&] {
    touch();
    return times(" native") > before && mounts_at(share()) == 1;
  }));
  EXPECT_EQ(inside.run(1), 0);
  ASSERT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_EQ(mounts_at(share()), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Native, ImageIsGivenBackWithItsLoopDevice) {
  const std::string image = server_.path("image");
  ASSERT_EQ(::system(("truncate -s 16M " + image + " && mkfs.ext4 -q " + image).c_str()), 0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"ext4\"\nidle_timeout = \"100ms\"\nsource = \"" + image + "\"\n")));
  ASSERT_TRUE(ok(server_.write_file("namespace/a/hello", "hello")));
  ASSERT_TRUE(eventually([&] { return is_native(); }));
  ASSERT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_TRUE(eventually([&] { return ::system(("losetup -j " + image + " | grep -q .").c_str()) != 0; }));
  touch();
}

/// A system call on a path, in the share's own directory or further down.
struct FirstCall {
  const char* name;
  bool native;  ///< whether the share is when it has come back
  std::function<int(const std::string& share)> call;
};

int code_of(long result) { return result < 0 ? errno : 0; }

int open_and_close(const std::string& path, int flags) {
  const UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC, 0644));
  return file ? 0 : errno;
}

int with_socket_address(const std::string& path, int (*call)(int, const sockaddr*, socklen_t)) {
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  return code_of(call(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address));
}

/// 0 where a call fails as it does with a file of that kind on any file system.
int unless(int expected, long result) { return result < 0 && errno == expected ? 0 : code_of(result); }

/// In a process of its own.
int in_child(const std::function<int()>& call) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(call());
  int status = -1;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

int execute(const std::string& path) {
  return in_child([&] {
    ::execl(path.c_str(), path.c_str(), nullptr);
    return errno;
  });
}

/// A script whose interpreter is at `path`.
int interpret_by(const std::string& path) {
  char script[] = "/tmp/berth-script-XXXXXX";
  UniqueFd file(::mkostemp(script, O_CLOEXEC));
  const std::string line = "#!" + path + "\n";
  if (!file || ::write(file.get(), line.data(), line.size()) < 0 || ::fchmod(file.get(), 0755) != 0) return errno;
  file.reset();
  const int code = execute(script);
  ::unlink(script);
  return code;
}

const std::vector<FirstCall>& first_calls() {
  static const std::vector<FirstCall> calls{
      {"watch", true,
       [](const auto& in) {
         const UniqueFd watch(::inotify_init1(IN_CLOEXEC));
         return code_of(::inotify_add_watch(watch.get(), (in + "/d").c_str(), IN_CREATE));
       }},
      {"mount", true,
       [](const auto& in) {
         const std::string at = in + "/d";
         const int mounted = code_of(::mount("tmpfs", at.c_str(), "tmpfs", 0, nullptr));
         return mounted != 0 ? mounted : code_of(::umount2(at.c_str(), MNT_DETACH));
       }},
      {"open", true, [](const auto& in) { return open_and_close(in + "/hello", O_RDONLY); }},
      {"open deep", true, [](const auto& in) { return open_and_close(in + "/d/e/f", O_RDWR); }},
      {"openat2", true,
       [](const auto& in) {
         open_how how{};
         how.flags = O_RDONLY | O_CLOEXEC;
         const UniqueFd file(
             static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, (in + "/d/e/f").c_str(), &how, sizeof how)));
         return file ? 0 : errno;
       }},
      {"open of a link", true, [](const auto& in) { return open_and_close(in + "/link", O_PATH | O_NOFOLLOW); }},
      {"execve", true, [](const auto& in) { return execute(in + "/program"); }},
      {"execve of a script that it interprets", true, [](const auto& in) { return interpret_by(in + "/d/program"); }},
      {"chroot", true, [](const auto& in) { return in_child([&] { return code_of(::chroot((in + "/d").c_str())); }); }},
      {"connect", true,
       [](const auto& in) {
         const int code = with_socket_address(in + "/hello", ::connect);
         return code == ECONNREFUSED ? 0 : code;
       }},
      {"mark", true,
       [](const auto& in) {
         const UniqueFd marks(::fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY | O_CLOEXEC));
         return code_of(::fanotify_mark(marks.get(), FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, (in + "/d").c_str()));
       }},
      {"bind mount of", true,
       [](const auto& in) {
         const std::string at = in + "/empty";
         const int mounted = code_of(::mount((in + "/d").c_str(), at.c_str(), nullptr, MS_BIND, nullptr));
         return mounted != 0 ? mounted : code_of(::umount2(at.c_str(), MNT_DETACH));
       }},
      {"umount", true, [](const auto& in) { return unless(EINVAL, ::umount2((in + "/d").c_str(), 0)); }},
      {"pivot_root", true,
       [](const auto& in) {
         return unless(EINVAL, ::syscall(SYS_pivot_root, (in + "/d").c_str(), (in + "/d/e").c_str()));
       }},
      {"swapon", true, [](const auto& in) { return unless(EINVAL, ::swapon((in + "/hello").c_str(), 0)); }},
      {"statx", true,
       [](const auto& in) {
         struct statx it {};
         return code_of(::statx(AT_FDCWD, (in + "/d/e/f").c_str(), AT_SYMLINK_NOFOLLOW, STATX_ALL, &it));
       }},
      {"faccessat2", true,
       [](const auto& in) { return code_of(::faccessat(AT_FDCWD, (in + "/hello").c_str(), R_OK, AT_EACCESS)); }},
      {"listxattr", true, [](const auto& in) { return code_of(::listxattr((in + "/hello").c_str(), nullptr, 0)); }},
      {"lgetxattr", true,
       [](const auto& in) { return unless(ENODATA, ::lgetxattr((in + "/d/e/f").c_str(), "user.none", nullptr, 0)); }},
      {"removexattr", true,
       [](const auto& in) { return unless(ENODATA, ::removexattr((in + "/d/e/f").c_str(), "user.none")); }},
      {"exchange", true,
       [](const auto& in) {
         return code_of(
             ::renameat2(AT_FDCWD, (in + "/hello").c_str(), AT_FDCWD, (in + "/d/file").c_str(), RENAME_EXCHANGE));
       }},
      {"open directory", true, [](const auto& in) { return open_and_close(in, O_RDONLY | O_DIRECTORY); }},
      {"create", true, [](const auto& in) { return open_and_close(in + "/new", O_CREAT | O_EXCL | O_WRONLY); }},
      {"create deep", true, [](const auto& in) { return open_and_close(in + "/d/new", O_CREAT | O_WRONLY); }},
      {"nameless", true, [](const auto& in) { return open_and_close(in, O_TMPFILE | O_RDWR); }},
      {"stat", true,
       [](const auto& in) {
         struct stat it {};
         return code_of(::stat((in + "/hello").c_str(), &it));
       }},
      {"access", true, [](const auto& in) { return code_of(::access((in + "/d/e").c_str(), X_OK)); }},
      {"readlink", true,
       [](const auto& in) {
         char target[8];
         return code_of(::readlink((in + "/link").c_str(), target, sizeof target));
       }},
      {"truncate", true, [](const auto& in) { return code_of(::truncate((in + "/hello").c_str(), 5)); }},
      {"chmod", true, [](const auto& in) { return code_of(::chmod((in + "/hello").c_str(), 0644)); }},
      {"chmod of the share", true, [](const auto& in) { return code_of(::chmod(in.c_str(), 0755)); }},
      {"chown", true, [](const auto& in) { return code_of(::chown((in + "/hello").c_str(), 0, 0)); }},
      {"lchown", true, [](const auto& in) { return code_of(::lchown((in + "/link").c_str(), 0, 0)); }},
      {"name_to_handle_at", true,
       [](const auto& in) {
         file_handle none{};
         int mount = 0;
         const int code = code_of(::name_to_handle_at(AT_FDCWD, (in + "/d/e").c_str(), &none, &mount, 0));
         return code == EOVERFLOW ? 0 : code;
       }},
      {"utimensat", true,
       [](const auto& in) { return code_of(::utimensat(AT_FDCWD, (in + "/hello").c_str(), nullptr, 0)); }},
      {"setxattr", true,
       [](const auto& in) { return code_of(::setxattr((in + "/hello").c_str(), "user.x", "x", 1, 0)); }},
      {"chdir", true, [](const auto& in) { return code_of(::chdir((in + "/d").c_str())) + code_of(::chdir("/")); }},
      {"statfs", true,
       [](const auto& in) {
         struct statvfs it {};
         return code_of(::statvfs(in.c_str(), &it));
       }},
      {"unlink", true, [](const auto& in) { return code_of(::unlink((in + "/d/gone").c_str())); }},
      {"rmdir", true, [](const auto& in) { return code_of(::rmdir((in + "/empty").c_str())); }},
      {"rmdir deep", true, [](const auto& in) { return code_of(::rmdir((in + "/d/other").c_str())); }},
      {"open without reading deep", true, [](const auto& in) { return open_and_close(in + "/d/file", O_PATH); }},
      {"rename in a directory", true,
       [](const auto& in) { return code_of(::rename((in + "/d/file").c_str(), (in + "/d/new").c_str())); }},
      {"mkdir", true, [](const auto& in) { return code_of(::mkdir((in + "/new").c_str(), 0755)); }},
      {"mkdir deep", true, [](const auto& in) { return code_of(::mkdir((in + "/d/new").c_str(), 0755)); }},
      {"mknod", true, [](const auto& in) { return code_of(::mknod((in + "/new").c_str(), S_IFIFO | 0644, 0)); }},
      {"symlink", true, [](const auto& in) { return code_of(::symlink("x", (in + "/new").c_str())); }},
      {"link", true, [](const auto& in) { return code_of(::link((in + "/hello").c_str(), (in + "/new").c_str())); }},
      {"link deep", true,
       [](const auto& in) { return code_of(::link((in + "/d/e/f").c_str(), (in + "/d/new").c_str())); }},
      {"rename", true,
       [](const auto& in) { return code_of(::rename((in + "/hello").c_str(), (in + "/new").c_str())); }},
      {"rename down", true,
       [](const auto& in) { return code_of(::rename((in + "/hello").c_str(), (in + "/d/e/new").c_str())); }},
      {"rename up", true,
       [](const auto& in) { return code_of(::rename((in + "/d/e/f").c_str(), (in + "/new").c_str())); }},
      {"bind of a socket", true, [](const auto& in) { return with_socket_address(in + "/new", ::bind); }},
  };
  return calls;
}

// The table in fuse/shares/README.md. Twice: the second time the kernel may know some of the names.
TEST_F(Native, FirstCallOfEachKindSucceedsAndIsInTheRealMount) {
  start();
  for (int round = 0; round < 2; ++round) {
    for (const FirstCall& first : first_calls()) {
      SCOPED_TRACE(std::string(first.name) + " in round " + std::to_string(round));
      ASSERT_TRUE(eventually([&] { return unmount(); }));
      furnish();
      std::thread([&] { EXPECT_EQ(errno_name(first.call(share())), errno_name(0)); }).join();
      EXPECT_TRUE(round != 0 || is_native() == first.native) << status();
    }
  }
}

// The kernel walks again once in a call, and so the call is sent back once, however many idle shares its path leads
// through.
TEST_F(Native, FirstCallOfEachKindSucceedsThroughLinksInOtherIdleShares) {
  const std::string shares = server_.make_directory("others");
  std::string lines;
  for (const char* name : {"b", "c"}) {
    server_.make_directory("others/" + std::string(name));
    lines += "[share." + std::string(name) + "]\ntype = \"bind\"\nsource = \"" + shares + "/" + name + "\"\n";
  }
  std::filesystem::create_symlink("../a", shares + "/b/to-a");
  std::filesystem::create_symlink("../b/to-a", shares + "/c/to-b");
  start(lines);
  const auto make_idle = [&](const char* name) {
    return server_.write_control("shares/" + std::string(name) + "/control", "unmount").has_value();
  };
  int round = 0;
  // The kernel has the names: what is left is in fuse/shares/README.md.
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(::access(server_.in_namespace(name).c_str(), F_OK), 0);
  for (const char* way : {"b/to-a", "c/to-b", "b/../c/../a", "b/to-a/../c/to-b"}) {
    for (const FirstCall& first : first_calls()) {
      // Their path is not followed by a link at its end, or is what they are to find.
      if (std::string_view(first.name).find("of the share") != std::string_view::npos) continue;
      SCOPED_TRACE(std::string(first.name) + " by " + way + " in round " + std::to_string(round++));
      for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(eventually([&] { return make_idle(name); }));
      furnish();
      std::thread([&] { EXPECT_EQ(errno_name(first.call(server_.in_namespace(way))), errno_name(0)); }).join();
    }
  }
  for (const char* name : {"a", "b", "c"}) ASSERT_TRUE(eventually([&] { return make_idle(name); }));
  // One thread, with its path at one place, as a program that opens one file after another.
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(ok(server_.write_file("others/" + std::string(name == std::string("a") ? "b" : name) + "/hello", "")));
  }
  std::thread([&] {
    std::array<char, 4096> path{};
    for (const char* name : {"a", "b", "c"}) {
      server_.in_namespace(std::string(name) + "/hello").copy(path.data(), path.size() - 1);
      EXPECT_EQ(errno_name(open_and_close(path.data(), O_RDONLY)), errno_name(0));
      EXPECT_TRUE(is_native(name)) << status(name);
    }
  }).join();
}

// The kernel has the names from the dead server.
TEST_F(Native, FirstCallThroughALinkSucceedsWhenTheServerHasJustTakenOver) {
  server_.make_directory("b");
  std::filesystem::create_symlink("../a", server_.path("b/to-a"));
  start("[share.b]\ntype = \"bind\"\nsource = \"" + server_.path("b") + "\"\n", "crash_limit = 1000\n");
  for (const char* name : {"a", "b"}) EXPECT_EQ(::access(server_.in_namespace(name).c_str(), F_OK), 0);
  for (const FirstCall& first : first_calls()) {
    const std::string name = first.name;
    if (name != "open" && name != "create" && name != "mkdir" && name != "rename down" && name != "stat") continue;
    SCOPED_TRACE(name);
    for (const char* share : {"a", "b"}) {
      ASSERT_TRUE(eventually(
          [&] { return server_.write_control("shares/" + std::string(share) + "/control", "unmount").has_value(); }));
    }
    furnish();
    ASSERT_NO_FATAL_FAILURE(server_.kill_server());
    std::thread([&] { EXPECT_EQ(errno_name(first.call(server_.in_namespace("b/to-a"))), errno_name(0)); }).join();
  }
}

// A link leads to a share of which the kernel has not asked yet. All that ask about its name wait for that look-up, and
// so would the agent that mounts there. Each call has shares of its own.
TEST_F(Native, FirstCallOfEachKindSucceedsThroughLinksToNamesThatAreAskedForTheFirstTime) {
  const auto at = [&](const std::string& name) { return server_.in_namespace(name); };
  std::vector<UniqueFd> inside;
  struct Way {
    const char* name;
    std::function<std::string(const std::string& id)> path;
  };
  const std::vector<Way> ways{
      {"a link", [&](const auto& id) { return at("b" + id + "/to-a" + id); }},
      {"a link to a link", [&](const auto& id) { return at("c" + id + "/to-b" + id); }},
      {"the directory above", [&](const auto& id) { return at("b" + id + "/../c" + id + "/../a" + id); }},
      {"a link outside of the namespace", [&](const auto& id) { return server_.path("to-c" + id); }},
      {"a descriptor's link",
       [&](const auto& id) {
         inside.emplace_back(::open(at("a" + id).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
         const std::string link = "/to-fd" + id;
         std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(inside.back().get()),
                                         server_.path("others/b" + link));
         return at("b" + id + link);
       }},
  };
  const std::string others = server_.make_directory("others");
  for (const char* name : {"b", "c"}) server_.make_directory("others/" + std::string(name));
  const auto id_of = [](std::size_t way, std::size_t call) { return std::to_string(way) + "-" + std::to_string(call); };
  std::string lines;
  for (std::size_t number = 0; number < ways.size() * first_calls().size(); ++number) {
    const std::string id = id_of(number / first_calls().size(), number % first_calls().size());
    for (const std::string& share : {"a" + id, "b" + id, "c" + id}) {
      lines += "[share." + share + "]\ntype = \"bind\"\nsource = \"" +
               (share.starts_with("a") ? source_ : others + "/" + share.front()) + "\"\n";
    }
    std::filesystem::create_symlink("../a" + id, others + "/b/to-a" + id);
    std::filesystem::create_symlink("../b" + id + "/to-a" + id, others + "/c/to-b" + id);
    std::filesystem::create_symlink(at("c" + id + "/to-b" + id), server_.path("to-c" + id));
  }
  start(lines);
  for (std::size_t way = 0; way < ways.size(); ++way) {
    for (std::size_t call = 0; call < first_calls().size(); ++call) {
      const FirstCall& first = first_calls()[call];
      if (std::string_view(first.name).find("of the share") != std::string_view::npos) continue;
      SCOPED_TRACE(std::string(first.name) + " by " + ways[way].name);
      furnish();
      const std::string path = ways[way].path(id_of(way, call));
      std::thread([&] { EXPECT_EQ(errno_name(first.call(path)), errno_name(0)); }).join();
    }
  }
}

// More of them than a thread is known in at once; its path is at one place, as of a program that opens one file after
// another.
TEST_F(Native, OneThreadThatGoesThroughManySharesIsInTheRealMountOfEach) {
  constexpr int kShares = 40;
  std::string lines;
  for (int i = 0; i < kShares; ++i) {
    const std::string name = "m" + std::to_string(i);
    lines += "[share." + name + "]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n";
  }
  start(lines);
  std::thread([&] {
    std::array<char, 4096> path{};
    for (int i = 0; i < kShares; ++i) {
      path = {};
      server_.in_namespace("m" + std::to_string(i) + "/hello").copy(path.data(), path.size() - 1);
      EXPECT_EQ(errno_name(open_and_close(path.data(), O_RDONLY)), errno_name(0));
    }
  }).join();
  for (int i = 0; i < kShares; ++i) EXPECT_TRUE(is_native("m" + std::to_string(i))) << i;
}

TEST_F(Native, AgentThatIsStoppedIsContinued) {
  start();
  go_native();
  ASSERT_TRUE(unmount());
  ASSERT_EQ(agents().size(), 1U);
  ASSERT_EQ(::kill(agents().front(), SIGSTOP), 0);
  touch();
  EXPECT_TRUE(is_native()) << status();
  EXPECT_EQ(server_.stop(), Ending{});
}

// While the agent does not answer, callers wait at the share's name. The keeper would continue it.
TEST_F(Native, CallerThatIsStoppedAtTheNameGoesOnAfterwards) {
  start();
  touch();
  ASSERT_EQ(agents().size(), 1U);
  const pid_t agent = agents().front();
  int number = 0;
  for (const FirstCall& first : first_calls()) {
    const std::string name = first.name;
    if (name != "open" && name != "mkdir" && name != "rename" && name != "link deep" && name != "stat") continue;
    SCOPED_TRACE(name);
    ASSERT_TRUE(eventually([&] { return unmount(); }));
    ASSERT_EQ(mounts_at(share()), 0U);
    furnish();
    for (const pid_t pid : {server_.pid(), agent}) ASSERT_NO_FATAL_FAILURE(stop_process(pid));
    StoppedCaller caller([&] { return first.call(share()); });
    caller.stop(kStops[static_cast<std::size_t>(number++) % std::size(kStops)]);
    for (const pid_t pid : {agent, server_.pid()}) ASSERT_EQ(::kill(pid, SIGCONT), 0);
    EXPECT_EQ(errno_name(caller.go_on()), errno_name(0));
    EXPECT_TRUE(is_native()) << status();
  }
}

TEST_F(Native, WatchThatIsMadeFirstThingHearsWhatHappens) {
  server_.make_directory("source/sub");
  start();
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(watch.get(), in("sub").c_str(), IN_CREATE), 0);
  std::thread([&] { ASSERT_TRUE(ok(server_.write_file("namespace/a/sub/new", "x"))); }).join();
  alignas(inotify_event) char events[1024];
  EXPECT_GT(::read(watch.get(), events, sizeof events), 0) << errno_name(errno);
}

// Nothing is known below it. In the end also where the kernel has the attributes of the root from a listing, and asks
// nothing.
TEST_F(Native, WatchOfTheSharesOwnDirectoryKeepsItWithBerthAndHearsWhatHappens) {
  start();
  enum class Before : std::uint8_t { kNothing, kListing, kDeath };
  for (const Before before : {Before::kNothing, Before::kListing, Before::kDeath}) {
    SCOPED_TRACE(static_cast<int>(before));
    if (before == Before::kListing) {
      ASSERT_EQ(::system(("ls -l " + server_.namespace_path() + " >/dev/null").c_str()), 0);
    }
    UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    ASSERT_GE(::inotify_add_watch(watch.get(), share().c_str(), IN_CREATE), 0);
    EXPECT_EQ(status().value("state", ""), "idle") << "a watch mounts nothing";
    if (before == Before::kDeath) {
      ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
    }
    std::thread([&] { ASSERT_TRUE(ok(server_.write_file("namespace/a/new", "x"))); }).join();
    alignas(inotify_event) char events[1024];
    EXPECT_GT(::read(watch.get(), events, sizeof events), 0) << errno_name(errno);
    EXPECT_FALSE(is_native());
    EXPECT_EQ(status().value("with_berth", "").find("something in it is watched (inotify) by process"), 0U) << status();
    watch.reset();
    ASSERT_EQ(::unlink((source_ + "/new").c_str()), 0);
    ASSERT_TRUE(eventually([&] { return unmount(); }));
    touch();
    EXPECT_TRUE(is_native()) << status();
    ASSERT_TRUE(eventually([&] { return unmount(); }));
  }
}

TEST_F(Native, WhatIsMountedOrWatchedThroughBerthKeepsItThereAndTheStatusSaysSo) {
  start();
  const UniqueFd inside(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // asks no server
  ASSERT_EQ(::fchdir(inside.get()), 0);
  ASSERT_EQ(::mount("tmpfs", "d", "tmpfs", 0, nullptr), 0) << errno_name(errno);
  ASSERT_EQ(::chdir("/"), 0);
  touch();
  EXPECT_FALSE(is_native());
  EXPECT_EQ(status().value("with_berth", ""), "something is mounted in it, at \"a/d\"");
  EXPECT_EQ(mounts_at(in("d")), 1U);
  ASSERT_EQ(::umount2(in("d").c_str(), MNT_DETACH), 0);

  UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_EQ(::fchdir(inside.get()), 0);
  ASSERT_GE(::inotify_add_watch(watch.get(), "d", IN_CREATE), 0);
  ASSERT_EQ(::chdir("/"), 0);
  std::thread([&] { ASSERT_TRUE(ok(server_.write_file("namespace/a/d/new", "x"))); }).join();
  alignas(inotify_event) char events[1024];
  EXPECT_GT(::read(watch.get(), events, sizeof events), 0) << errno_name(errno);
  EXPECT_FALSE(is_native());
  EXPECT_EQ(status().value("with_berth", "").find("something in it is watched (inotify) by process"), 0U) << status();
  watch.reset();
  touch();
  EXPECT_TRUE(is_native()) << status();
}

TEST_F(Native, WhatIsMountedInAnotherMountNamespaceKeepsItWithBerthAndTheStatusNamesNoDirectoryOfIt) {
  start();
  const std::string root = server_.namespace_path();
  ASSERT_EQ(::mount(nullptr, root.c_str(), nullptr, MS_SHARED, nullptr), 0) << errno_name(errno);
  Companion elsewhere(
      [&] {
        if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0)
          return errno;
        const UniqueFd inside(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // asks no server
        if (::fchdir(inside.get()) != 0 || ::mount("tmpfs", "d", "tmpfs", 0, nullptr) != 0) return errno;
        return ::chdir("/") == 0 ? 0 : errno;
      },
      {});
  touch();
  EXPECT_FALSE(is_native());
  EXPECT_EQ(status().value("with_berth", ""), "something is mounted in it, in another mount namespace");
}

TEST_F(Native, WhatFanotifyMarksStaysWithBerthAndTheStatusSaysSo) {
  struct Mark {
    const char* what;
    unsigned flags;
    std::string path, told;
  };
  start();
  const UniqueFd inside(::open(share().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // asks no server
  const std::string below = "/proc/self/fd/" + std::to_string(inside.get()) + "/d";
  for (const Mark& mark : {Mark{"directory", 0, below, "something in it"},
                           Mark{"mount", FAN_MARK_MOUNT, server_.namespace_path(), "the namespace"},
                           Mark{"file system", FAN_MARK_FILESYSTEM, server_.namespace_path(), "the namespace"}}) {
    SCOPED_TRACE(mark.what);
    UniqueFd marks(::fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(marks) << errno_name(errno);
    struct stat attributes {};
    ASSERT_EQ(::stat(below.c_str(), &attributes), 0) << "a name below the share is known";
    ASSERT_EQ(::fanotify_mark(marks.get(), FAN_MARK_ADD | mark.flags, FAN_OPEN | FAN_EVENT_ON_CHILD, AT_FDCWD,
                              mark.path.c_str()),
              0)
        << errno_name(errno);
    touch();
    EXPECT_FALSE(is_native());
    EXPECT_EQ(status().value("with_berth", "").find(mark.told + " is watched (fanotify) by process"), 0U) << status();
    marks.reset();
    touch();
    EXPECT_TRUE(is_native()) << status();
    ASSERT_TRUE(unmount());
  }
}

/// A source that berth may not overmount: two doors with two page caches would lose writes.
class NativeOnAnOverlay : public Native {
 protected:
  void SetUp() override {
    Native::SetUp();
    layers_ = server_.make_directory("layers");
    ASSERT_EQ(::mount("tmpfs", layers_.c_str(), "tmpfs", 0, nullptr), 0);
    for (const char* name : {"layers/lower", "layers/upper", "layers/work", "layers/merged"})
      server_.make_directory(name);
    const std::string options =
        "lowerdir=" + layers_ + "/lower,upperdir=" + layers_ + "/upper,workdir=" + layers_ + "/work";
    ASSERT_EQ(::mount("overlay", (layers_ + "/merged").c_str(), "overlay", 0, options.c_str()), 0);
    source_ = server_.make_directory("layers/merged/deep");
    ASSERT_TRUE(ok(server_.write_file("layers/merged/deep/hello", "hello")));
    start("access = \"native\"\n");
  }
  void TearDown() override {
    EXPECT_EQ(server_.stop(), Ending{});
    EXPECT_EQ(::umount2((layers_ + "/merged").c_str(), MNT_DETACH), 0);
    EXPECT_EQ(::umount2(layers_.c_str(), MNT_DETACH), 0);
  }
  std::string layers_;
};

TEST_F(NativeOnAnOverlay, StaysWithBerthAndTheStatusSaysWhy) {
  touch();
  EXPECT_FALSE(is_native());
  EXPECT_NE(status().value("with_berth", "").find("different pages"), std::string::npos) << status();
}

// What the kernel knows of the share is not so any more, which is one reason to walk again, and that the share may be
// native is another one. The kernel walks again once.
TEST_F(NativeOnAnOverlay, FirstCallIntoADirectoryThatWasReplacedSucceeds) {
  std::vector<FirstCall> calls = first_calls();
  // These are not walked again where the look-up of their new name meets ESTALE (filename_create()), as on any share.
  std::erase_if(calls, [](const FirstCall& call) {
    const std::string_view name = call.name;
    return name.starts_with("mk") || name == "bind of a socket" || name == "symlink" || name.starts_with("link");
  });
  for (const FirstCall& first : calls) {
    SCOPED_TRACE(first.name);
    furnish();
    std::thread([&] { EXPECT_EQ(errno_name(open_and_close(in("d/e/f"), O_RDONLY)), errno_name(0)); }).join();
    std::filesystem::remove_all(source_ + "/d");
    furnish();
    ASSERT_TRUE(eventually([&] { return unmount(); }));
    std::thread([&] { EXPECT_EQ(errno_name(first.call(share())), errno_name(0)); }).join();
  }
}

/// One round of what a program does with names: each call by a path of its own, from the root.
void make_and_rename(const std::string& share, const std::string& id, Faults& faults) {
  const auto check = [&](const char* call, int result) {
    if (result < 0) faults.note(call, errno);
    return result;
  };
  const std::string directory = share + "/" + id;
  check("mkdir", ::mkdir(directory.c_str(), 0755));
  const int file = check("create", ::open((directory + "/file").c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644));
  if (file >= 0) {
    check("write", static_cast<int>(::write(file, "x", 1)));
    ::close(file);
  }
  check("rename", ::rename((directory + "/file").c_str(), (share + "/" + id + ".moved").c_str()));
  check("link", ::link((share + "/" + id + ".moved").c_str(), (directory + "/again").c_str()));
  check("unlink", ::unlink((share + "/" + id + ".moved").c_str()));
  check("unlink", ::unlink((directory + "/again").c_str()));
  check("rmdir", ::rmdir(directory.c_str()));
}

/// Gives the calling thread a copy of the mount namespace that sees no new mounts.
int go_elsewhere() {
  if (::unshare(CLONE_NEWNS) != 0) return errno;
  return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 ? 0 : errno;
}

// The share comes and goes as fast as it can, from one door to the other and down to idle, and no caller notices:
// neither here nor in copies of the mount namespace, which stay with berth meanwhile.
TEST_F(Native, TenThousandRacingCallsMeetNoError) {
  start("idle_timeout = \"1ms\"\naccess = \"native\"\n");
  constexpr int kThreads = 4;
  constexpr int kRounds = 400;  // of eight calls each, at least
  constexpr std::size_t kComeAndGone = 10;
  Faults faults;
  std::atomic<bool> enough{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      if (const int error = i % 2 == 1 ? go_elsewhere() : 0; error != 0) faults.note("unshare", error);
      for (int round = 0; round < kRounds || !enough; ++round) {
        make_and_rename(share(), std::to_string(i) + "-" + std::to_string(round), faults);
        // All pause together now and then, or it would be in use for good.
        if (round % 4 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(round % 64));
      }
    });
  }
  // Counted by what `status` shows: `events` are written at a bounded rate.
  const auto mounts = [&] { return status().value("mounts", std::size_t{0}); };
  for (std::size_t n = 1; n <= kComeAndGone; ++n) {
    EXPECT_TRUE(eventually([&] { return is_native(); })) << "it comes, time " << n << ": " << status();
    EXPECT_TRUE(eventually([&] { return !is_native() && mounts() > n; })) << "it goes, time " << n << ": " << status();
  }
  enough = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(faults.counts(), (std::map<std::string, int>{}));
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
