// kill -9 of each of berth's four processes, and of each two at once: berth goes on, or ends with all that it has.
#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/lib/sys/mount_table.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

enum Process : unsigned { kKeeper = 1, kFirst = 2, kAgent = 4, kServer = 8 };

class ProcessDeaths : public TakeoverTest, public ::testing::WithParamInterface<unsigned> {
 protected:
  void SetUp() override {
    TakeoverTest::SetUp();
    other_ = server_.make_directory("memory/other");
    ASSERT_TRUE(ok(server_.write_file("memory/other/hello", "other")));
  }
  void TearDown() override {
    while (::umount2(server_.namespace_path().c_str(), MNT_DETACH) == 0) {
    }
  }
  [[nodiscard]] std::string native_share() const { return "[share.n]\ntype = \"bind\"\nsource = \"" + other_ + "\"\n"; }
  /// Shares: "a" through berth, "n" native, "c" of a program.
  void start_all() {
    start("stop_timeout = \"500ms\"\n", "",
          native_share() +
              "[share.c]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"mount -t tmpfs program $0 && exec sleep "
              "1000\", \"{mountpoint}\"]\n");
    EXPECT_EQ(::access(server_.in_namespace("c/none").c_str(), F_OK), -1);
    EXPECT_EQ(errno, ENOENT) << errno_name(errno);
    expect_works();
  }
  /// Both shares of directories, "n" natively.
  void expect_works() {
    EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
    EXPECT_TRUE(eventually([this] {
      // Not by this thread, which may be inside through berth.
      std::thread([this] { EXPECT_EQ(server_.read_file("namespace/n/hello").value_or(""), "other"); }).join();
      return server_.read_json("shares/n/status.json").value("native", false);
    })) << server_.read_control("events").value_or("");
  }
  [[nodiscard]] pid_t one_named(std::string_view name) const {
    const std::vector<pid_t> found = processes_named(name);
    return found.size() == 1 ? found.front() : 0;
  }
  [[nodiscard]] std::vector<pid_t> victims() const {
    const std::array<std::pair<unsigned, pid_t>, 4> all{{{kKeeper, server_.pid()},
                                                         {kFirst, one_named("berth-first")},
                                                         {kAgent, one_named("berth-agent")},
                                                         {kServer, server()}}};
    std::vector<pid_t> chosen;
    for (const auto& [process, pid] : all) {
      EXPECT_GT(pid, 0);
      if ((GetParam() & process) != 0) chosen.push_back(pid);
    }
    return chosen;
  }
  [[nodiscard]] std::size_t namespaces() const {
    const auto table = sys::read_mount_table();
    return static_cast<std::size_t>(std::count_if(table->begin(), table->end(), [&](const auto& entry) {
      return entry.target == server_.namespace_path() && entry.type == "fuse.berth";
    }));
  }
  void expect_goes_on(const std::vector<pid_t>& killed) {
    EXPECT_TRUE(eventually([&] {
      const pid_t agent = one_named("berth-agent");
      const pid_t now = server();
      const auto is_new = [&](pid_t pid) {
        return pid > 0 && std::find(killed.begin(), killed.end(), pid) == killed.end();
      };
      return is_new(agent) && is_new(now);
    }));
    ASSERT_TRUE(eventually([this] { return server_.write_control("shares/n/control", "unmount").has_value(); }));
    expect_works();
    EXPECT_EQ(server_.stop(), Ending{});
  }
  void expect_ends_and_starts_again() {
    EXPECT_NE(server_.stop(0), Ending{}) << "and looks for what is left";
    EXPECT_TRUE(server_.left_a_dead_namespace());
    EXPECT_EQ(namespaces(), 1U);
    start("", "", native_share());
    expect_works();
    EXPECT_EQ(namespaces(), 1U);
    EXPECT_EQ(server_.stop(), Ending{});
    EXPECT_EQ(namespaces(), 0U);
  }

  std::string other_;
};

TEST_P(ProcessDeaths, AreSurvivedOrEndBerthCleanly) {
  start_all();
  UniqueFd proxied(::open(in("hello").c_str(), O_RDONLY | O_CLOEXEC));
  UniqueFd native(::open(server_.in_namespace("n/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(proxied && native);
  const bool goes_on = (GetParam() & (kKeeper | kFirst)) == 0;
  if (!goes_on) server_.leave_dead_namespace();
  const std::vector<pid_t> killed = victims();
  // All at once: none sees another one die.
  for (const int signal : {SIGSTOP, SIGKILL}) {
    for (const pid_t pid : killed) ASSERT_EQ(::kill(pid, signal), 0);
  }
  char byte = 0;
  EXPECT_EQ(::pread(native.get(), &byte, 1, 0), 1) << "a native share needs no berth";
  native.reset();
  if (!goes_on) return expect_ends_and_starts_again();
  EXPECT_EQ(::pread(proxied.get(), &byte, 1, 0), 1) << errno_name(errno);
  proxied.reset();
  expect_goes_on(killed);
}

std::string name_of(unsigned processes) {
  std::string name;
  if ((processes & kKeeper) != 0) name += "Keeper";
  if ((processes & kFirst) != 0) name += "First";
  if ((processes & kAgent) != 0) name += "Agent";
  if ((processes & kServer) != 0) name += "Server";
  return name;
}

INSTANTIATE_TEST_SUITE_P(EachAndEachTwo, ProcessDeaths,
                         ::testing::Values(kKeeper, kFirst, kAgent, kServer, kKeeper | kFirst, kKeeper | kAgent,
                                           kKeeper | kServer, kFirst | kAgent, kFirst | kServer, kAgent | kServer),
                         [](const auto& instance) { return name_of(instance.param); });

}  // namespace
}  // namespace berth::test
