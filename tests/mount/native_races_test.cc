// System calls that walk to two paths, or make a name, while the real mount of their share comes and goes.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/mount/berth_fixture.h"
#include "tests/mount/faults.h"

namespace berth::test {
namespace {

/// How often a race is run: BERTH_ROUNDS, else what the gate has time for.
int rounds() {
  constexpr int kInTheGate = 600;
  const char* const given = std::getenv("BERTH_ROUNDS");
  return given != nullptr ? std::atoi(given) : kInTheGate;
}

class NativeRaces : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    server_.make_directory("source/d");
    server_.make_directory("source/d/e");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
  }
  void start(const std::string& share_lines = "", const std::string& more = "") {
    ASSERT_TRUE(
        ok(server_.start("[share.a]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n" + share_lines + "\n" + more)));
  }
  [[nodiscard]] std::string share() const { return server_.in_namespace("a"); }
  [[nodiscard]] bool is_native() const { return server_.read_json("shares/a/status.json").value("native", false); }
  [[nodiscard]] bool unmount() const { return server_.write_control("shares/a/control", "unmount").has_value(); }
  /// By another thread, as by another program.
  void touch() {
    std::thread([this] { EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello"); }).join();
  }

  BerthServer server_;
  std::string source_;
};

/// A share whose mount takes a while: a path that leads through it does so as well.
class SlowSecondPath : public NativeRaces {
 protected:
  void SetUp() override {
    NativeRaces::SetUp();
    const std::string slow = server_.make_directory("slow");
    server_.make_directory("slow/d");
    more_ = "[share.slow]\ntype = \"command\"\naccess = \"proxy\"\nmount = [\"sh\", \"-c\", \"sleep " +
            std::to_string(seconds_) + " && exec mount --bind '" + slow +
            "' \\\"$0\\\"\", \"{mountpoint}\"]\nunmount = [\"umount\", \"{mountpoint}\"]\n";
  }
  /// A path to `name` in the share, by way of the slow one.
  [[nodiscard]] std::string by_a_detour(const std::string& name) const {
    return server_.in_namespace("slow/d/../../a/" + name);
  }
  /// Runs `call`, and meanwhile, when it waits on its second path, another caller comes into the share.
  int run(const std::function<int()>& call) {
    int code = -1;
    std::thread caller([&] { code = call() == 0 ? 0 : errno; });
    EXPECT_TRUE(server_.wait_for_state("slow", "mounting"));
    touch();
    caller.join();
    return code;
  }
  int seconds_ = 1;
  std::string more_;
};

/// The same, more than a thread is known for that asks for nothing.
class SlowDetour : public SlowSecondPath {
 protected:
  SlowDetour() { seconds_ = 3; }
};

TEST_F(SlowSecondPath, OfARenameInTheSharesOwnDirectoryIsInTheMountOfTheFirst) {
  start("", more_);
  EXPECT_EQ(errno_name(run([&] { return ::rename((share() + "/hello").c_str(), by_a_detour("hello").c_str()); })),
            errno_name(0));
  EXPECT_TRUE(is_native());
}

TEST_F(SlowSecondPath, OfARenameToADirectoryIsInTheMountOfTheFirst) {
  start("", more_);
  ASSERT_TRUE(ok(server_.write_file("source/other", "")));
  EXPECT_EQ(errno_name(run([&] { return ::rename((share() + "/other").c_str(), by_a_detour("d/other").c_str()); })),
            errno_name(0));
  EXPECT_TRUE(is_native());
}

TEST_F(SlowSecondPath, OfALinkIsInTheMountOfTheFirst) {
  start("", more_);
  EXPECT_EQ(errno_name(run([&] { return ::link((share() + "/hello").c_str(), by_a_detour("again").c_str()); })),
            errno_name(0));
  EXPECT_TRUE(is_native());
}

TEST_F(SlowDetour, ToAShareThatHasExpiredMeanwhileMeetsNoError) {
  start("idle_timeout = \"1ms\"", more_);
  const std::string path = server_.in_namespace("a/../slow/d/../../a/hello");
  for (int round = 0; round < 2; ++round) {
    std::thread([&] {
      const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      EXPECT_TRUE(file) << errno_name(errno);
    }).join();
    ASSERT_TRUE(eventually([&] { return unmount(); }));
    ASSERT_TRUE(eventually([&] { return server_.write_control("shares/slow/control", "unmount").has_value(); }));
  }
}

/// A share whose server takes its time for each answer, so that a walk through it takes more than a thread is known for
/// that asks for nothing.
class SlowWay : public NativeRaces {
 protected:
  void SetUp() override {
    NativeRaces::SetUp();
    server_.make_directory("slow/d");
    ASSERT_TRUE(ok(server_.write_file(
        "pipe",
        "#!/usr/bin/env python3\n"
        "import os, subprocess, time\n"
        "server = subprocess.Popen(['/usr/lib/openssh/sftp-server'], stdin=subprocess.PIPE, bufsize=0)\n"
        "while asked := os.read(0, 65536):\n"
        "    time.sleep(1.2)\n"
        "    server.stdin.write(asked)\n")));
    std::filesystem::permissions(server_.path("pipe"), std::filesystem::perms::owner_all);
    start("", "[share.slow]\ntype = \"fuse.sshfs\"\nsource = \"host:" + server_.path("slow") +
                  "\"\noptions = \"allow_other,cache=no,attr_timeout=0,entry_timeout=0,ssh_command=" +
                  server_.path("pipe") + "\"\n");
  }
};

// The kernel asks for each name of the path again when the call is sent back, and so each takes as long again.
TEST_F(SlowWay, BackToTheNameOfAShareMeetsNoError) {
  const std::string path = server_.in_namespace("slow/d/../../a/");
  std::thread([&] {
    const UniqueFd file(::open((path + "hello").c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(file) << errno_name(errno);
  }).join();
  EXPECT_TRUE(is_native());
  ASSERT_TRUE(eventually([&] { return unmount(); }));
  std::thread([&] {
    EXPECT_EQ(::rename((path + "hello").c_str(), (share() + "/moved").c_str()), 0) << errno_name(errno);
  }).join();
  EXPECT_TRUE(is_native());
}

/// Calls of one thread by paths of its own; what each finds it leaves.
struct Racer {
  std::string share, id;
  Faults& faults;

  void check(const char* call, long result) const {
    if (result < 0) faults.note(call, errno);
  }
  void move(const char* call, const std::string& from, const std::string& to) const {
    check(call, ::rename(from.c_str(), to.c_str()));
    check(call, ::rename(to.c_str(), from.c_str()));
  }
  void operator()(unsigned choice) const {
    const std::string file = share + "/" + id, deep = share + "/d/e/" + id;
    struct stat it {};
    switch (choice % 7) {
      case 0:
        return move("rename in the share's own directory", file, file + ".moved");
      case 1:
        return move("rename down", file, share + "/d/" + id + ".moved");
      case 2:
        return move("rename up", deep, file + ".up");
      case 3:
        check("link", ::link(file.c_str(), (file + ".link").c_str()));
        return check("unlink", ::unlink((file + ".link").c_str()));
      case 4:
        check("mkdir", ::mkdir((file + ".d").c_str(), 0755));
        return check("rmdir", ::rmdir((file + ".d").c_str()));
      case 5:
        return check("stat", ::stat(deep.c_str(), &it));
      default:
        const UniqueFd made(::open((file + ".new").c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
        check("create", made ? 0 : -1);
        return check("unlink", ::unlink((file + ".new").c_str()));
    }
  }
};

// Each round begins with an idle share, into which all come at once, each for the first time.
TEST_F(NativeRaces, CallersThatComeIntoAnIdleShareAtOnceMeetNoError) {
  start();
  constexpr int kThreads = 4;
  Faults faults;
  std::minstd_rand random(1);
  for (int i = 0; i < kThreads; ++i) {
    ASSERT_TRUE(ok(server_.write_file("source/f" + std::to_string(i), "")));
    ASSERT_TRUE(ok(server_.write_file("source/d/e/f" + std::to_string(i), "")));
  }
  int native = 0;
  for (int round = 0; round < rounds(); ++round) {
    std::barrier<> gate(kThreads);
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      // In some rounds one after another, by no more than mounting takes.
      const auto spins = round % 2 == 0 ? random() % 200'000 : random() % 2000;
      threads.emplace_back([&, i, spins, choice = static_cast<unsigned>(random() >> 4)] {
        gate.arrive_and_wait();
        for (auto spin = spins; spin > 0; --spin) std::atomic_signal_fence(std::memory_order_seq_cst);
        Racer{share(), "f" + std::to_string(i), faults}(choice);
      });
    }
    for (std::thread& thread : threads) thread.join();
    native += is_native() ? 1 : 0;
    ASSERT_TRUE(eventually([&] { return unmount(); }));
  }
  EXPECT_EQ(faults.counts(), (std::map<std::string, int>{}));
  std::printf("native after %d of %d rounds\n", native, rounds());
  EXPECT_GT(native, rounds() / 2) << "of " << rounds();
  EXPECT_EQ(server_.stop(), Ending{});
}

// By a link in another idle share, and neither name has been asked for.
TEST_F(NativeRaces, CallersThatComeByALinkToANewNameAtOnceMeetNoError) {
  constexpr int kThreads = 8;
  constexpr int kRounds = 60;
  const std::string links = server_.make_directory("links");
  std::string more;
  for (int round = 0; round < kRounds; ++round) {
    const std::string id = std::to_string(round);
    for (const auto& [name, source] : {std::pair("to" + id, source_), std::pair("from" + id, links)}) {
      more += "[share." + name + "]\ntype = \"bind\"\nsource = \"" + source + "\"\n";
    }
    std::filesystem::create_symlink("../to" + id, links + "/link" + id);
  }
  start("", more);
  Faults faults;
  for (int i = 0; i < kThreads; ++i) {
    ASSERT_TRUE(ok(server_.write_file("source/f" + std::to_string(i), "")));
    ASSERT_TRUE(ok(server_.write_file("source/d/e/f" + std::to_string(i), "")));
  }
  for (int round = 0; round < kRounds; ++round) {
    const std::string id = std::to_string(round);
    std::barrier<> gate(kThreads);
    std::vector<std::thread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        gate.arrive_and_wait();
        const std::string share = server_.in_namespace("from" + id + "/link" + id);
        Racer{share, "f" + std::to_string(i), faults}(static_cast<unsigned>(round + i));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(faults.counts(), (std::map<std::string, int>{}));
  EXPECT_EQ(server_.stop(), Ending{});
}

// The share expires as fast as it can, and its callers loop.
TEST_F(NativeRaces, RenamesMeetNoErrorWhileTheShareExpiresAndIsMountedAgain) {
  start("idle_timeout = \"1ms\"\n");
  constexpr int kThreads = 4;
  Faults faults;
  std::atomic<bool> enough{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    const std::string id = "f" + std::to_string(i);
    ASSERT_TRUE(ok(server_.write_file("source/" + id, "")));
    ASSERT_TRUE(ok(server_.write_file("source/d/e/" + id, "")));
    threads.emplace_back([&, id, random = std::minstd_rand(static_cast<unsigned>(i) + 1)]() mutable {
      const Racer racer{share(), id, faults};
      while (!enough) {
        for (int calls = 0; calls < 20; ++calls) racer(static_cast<unsigned>(random() >> 4));
        std::this_thread::sleep_for(std::chrono::milliseconds(random() % 200));
      }
    });
  }
  const auto mounts = [&] { return server_.read_json("shares/a/status.json").value("mounts", 0); };
  const int wanted = rounds() / 20;
  ASSERT_TRUE(eventually([&] { return mounts() > 1; }));
  while (mounts() < wanted && faults.counts().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  enough = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(faults.counts(), (std::map<std::string, int>{}));
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
