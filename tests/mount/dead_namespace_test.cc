// A namespace whose berth is gone stays mounted and answers an error, so that what is written to it never reaches the
// directory below, until the next start replaces it.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "src/lib/sys/mount_table.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

/// Makes directories in the namespace as fast as it can, as a root program does that does not know.
class Writer {
 public:
  explicit Writer(std::string path)
      : thread_([this, path = std::move(path)] {
          while (!stop_) {
            ::mkdir(path.c_str(), 0755);
            ::rmdir(path.c_str());
          }
        }) {}
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

class DeadNamespace : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
    // The directory below the namespace, seen through another mount. What appears in it even for a moment changes its
    // times.
    const std::string below = server_.make_directory("below");
    ASSERT_EQ(::mount(server_.directory().c_str(), below.c_str(), nullptr, MS_BIND, nullptr), 0);
    ASSERT_EQ(::stat(server_.path("below/namespace").c_str(), &before_), 0);
  }
  void TearDown() override {
    ::umount2(server_.path("below").c_str(), MNT_DETACH);
    while (::umount2(server_.namespace_path().c_str(), MNT_DETACH) == 0) {
    }
  }
  [[nodiscard]] bool nothing_reached_the_directory_below() const {
    struct stat now {};
    return ::stat(server_.path("below/namespace").c_str(), &now) == 0 && now.st_mtim.tv_sec == before_.st_mtim.tv_sec &&
           now.st_mtim.tv_nsec == before_.st_mtim.tv_nsec;
  }
  void start(const std::string& settings = "") {
    ASSERT_TRUE(ok(server_.start("[berth]\n" + settings + "[share.a]\ntype = \"bind\"\nsource = \"" + source_ +
                                 "\"\naccess = \"proxy\"\n")));
    ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  }
  [[nodiscard]] pid_t first_process() const { return process_named("berth-first"); }
  [[nodiscard]] pid_t process_named(const std::string& name) const {
    for (const pid_t pid : server_.processes()) {
      std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
      std::string comm;
      if (std::getline(file, comm) && comm == name) return pid;
    }
    return 0;
  }
  [[nodiscard]] std::size_t namespaces() const {
    const auto table = sys::read_mount_table();
    return static_cast<std::size_t>(std::count_if(table->begin(), table->end(), [&](const auto& entry) {
      return entry.target == server_.namespace_path() && entry.type == "fuse.berth";
    }));
  }
  /// It answers ENOTCONN, and the next start replaces it, in the same place.
  void expect_dead_and_replaced() {
    EXPECT_TRUE(server_.left_a_dead_namespace());
    EXPECT_NE(::system(("mkdir -p " + server_.in_namespace("a/out") + " 2>/dev/null").c_str()), 0);
    EXPECT_EQ(namespaces(), 1U);
    {
      const Writer writer(server_.in_namespace("out"));
      start();
    }
    EXPECT_EQ(namespaces(), 1U);
    EXPECT_TRUE(nothing_reached_the_directory_below());
    EXPECT_EQ(server_.stop(), Ending{});
    EXPECT_EQ(namespaces(), 0U);
  }

  BerthServer server_;
  std::string source_;
  struct stat before_ {};
};

struct Deaths {
  const char* name;
  /// Kills, in some order.
  std::function<void(pid_t keeper, pid_t server, pid_t first)> kill;
};

class InEachOrder : public DeadNamespace, public ::testing::WithParamInterface<Deaths> {};

TEST_P(InEachOrder, StaysAndIsReplaced) {
  start();
  server_.leave_dead_namespace();
  {
    const Writer writer(server_.in_namespace("out"));
    GetParam().kill(server_.pid(), server_.server_pid(), first_process());
    EXPECT_NE(server_.stop(0), Ending{});
  }
  expect_dead_and_replaced();
}

INSTANTIATE_TEST_SUITE_P(Deaths, InEachOrder,
                         ::testing::Values(Deaths{"Keeper",
                                                  [](pid_t keeper, pid_t, pid_t) { ::kill(keeper, SIGKILL); }},
                                           Deaths{"First", [](pid_t, pid_t, pid_t first) { ::kill(first, SIGKILL); }},
                                           Deaths{"KeeperThenServer",
                                                  [](pid_t keeper, pid_t server, pid_t) {
                                                    ::kill(keeper, SIGKILL);
                                                    ::kill(server, SIGKILL);
                                                  }},
                                           Deaths{"KeeperThenFirst",
                                                  [](pid_t keeper, pid_t, pid_t first) {
                                                    ::kill(keeper, SIGKILL);
                                                    ::kill(first, SIGKILL);
                                                  }},
                                           Deaths{"FirstThenKeeper",
                                                  [](pid_t keeper, pid_t, pid_t first) {
                                                    ::kill(first, SIGKILL);
                                                    ::kill(keeper, SIGKILL);
                                                  }},
                                           Deaths{"ServerThenKeeper",
                                                  [](pid_t keeper, pid_t server, pid_t) {
                                                    ::kill(keeper, SIGSTOP);  // so that no other server is started
                                                    ::kill(server, SIGKILL);
                                                    ::kill(keeper, SIGKILL);
                                                  }},
                                           Deaths{"ServerThenFirst",
                                                  [](pid_t, pid_t server, pid_t first) {
                                                    ::kill(server, SIGKILL);
                                                    ::kill(first, SIGKILL);
                                                  }},
                                           Deaths{"All",
                                                  [](pid_t keeper, pid_t server, pid_t first) {
                                                    for (const pid_t pid : {keeper, server, first})
                                                      ::kill(pid, SIGKILL);
                                                  }}),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(DeadNamespace, IsNotWhatFollowsTheDeathOfTheAgentAloneOrWithTheServer) {
  start("crash_limit = 1000\n");
  for (const bool with_server : {false, true}) {
    SCOPED_TRACE(with_server);
    const pid_t agent = process_named("berth-agent");
    const pid_t server = server_.server_pid();
    ASSERT_NE(agent, 0);
    ASSERT_EQ(::kill(agent, SIGKILL), 0);
    if (with_server) {
      ASSERT_EQ(::kill(server, SIGKILL), 0);
    }
    EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
    EXPECT_TRUE(eventually([&] {
      const pid_t now = process_named("berth-agent");
      return now != 0 && now != agent && server_.server_pid() != 0 && (server_.server_pid() != server) == with_server;
    }));
    EXPECT_EQ(namespaces(), 1U);
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(DeadNamespace, IsLeftByTheAgentThatDiesWithWhatHoldsEverything) {
  for (const char* const other : {"berth", "berth-first"}) {
    SCOPED_TRACE(other);
    start();
    server_.leave_dead_namespace();
    const pid_t agent = process_named("berth-agent");
    ASSERT_NE(agent, 0);
    ::kill(agent, SIGKILL);
    ::kill(std::string(other) == "berth" ? server_.pid() : first_process(), SIGKILL);
    EXPECT_NE(server_.stop(0), Ending{});
    expect_dead_and_replaced();
  }
}

TEST_F(DeadNamespace, StaysWhenTheServerCrashesTooOften) {
  start("crash_limit = 0\n");
  server_.leave_dead_namespace();
  {
    const Writer writer(server_.in_namespace("out"));
    ASSERT_EQ(::kill(server_.server_pid(), SIGKILL), 0);
    EXPECT_EQ(server_.stop(0), (Ending{69, 0}));
  }
  expect_dead_and_replaced();
}

TEST_F(DeadNamespace, ForcedUnmountOfABindIsAFaultAndAttachmentsGoOn) {
  start();
  server_.leave_dead_namespace();
  ASSERT_EQ(::mkdir(server_.in_namespace(".berth/shares/a/attachments/vm").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(server_.in_namespace(".berth/shares/a/attachments/vm/disk").c_str(), 0755), 0);
  const std::string bind = server_.make_directory("bind");
  ASSERT_EQ(::mount(server_.namespace_path().c_str(), bind.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::umount2(bind.c_str(), MNT_FORCE), 0) << errno_name(errno);
  EXPECT_EQ(server_.stop(0), (Ending{69, 0}));
  EXPECT_NE(server_.log().find("has lost its connection"), std::string::npos) << server_.log();
  EXPECT_TRUE(server_.left_a_dead_namespace());
  start();
  EXPECT_TRUE(eventually([&] { return server_.state("a") == "mounted"; }));
  EXPECT_EQ(::rmdir(server_.in_namespace(".berth/shares/a/attachments/vm/disk").c_str()), 0) << errno_name(errno);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(DeadNamespace, ReplacesSeveralDeadOnes) {
  start();
  server_.leave_dead_namespace();
  EXPECT_EQ(server_.stop(SIGKILL).signal, SIGKILL);
  // One more on it, as an older berth left them.
  const int device = ::open("/dev/fuse", O_RDWR | O_CLOEXEC);
  ASSERT_GE(device, 0);
  const std::string options = "fd=" + std::to_string(device) + ",rootmode=40755,user_id=0,group_id=0";
  ASSERT_EQ(::mount("berth", server_.namespace_path().c_str(), "fuse.berth", 0, options.c_str()), 0);
  ::close(device);
  EXPECT_EQ(namespaces(), 2U);
  start();
  EXPECT_EQ(namespaces(), 1U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(DeadNamespace, OneThatIsDetachedWithAUserInsideEndsTheService) {
  start("stop_timeout = \"100ms\"\n");
  const UniqueFd inside(::open(server_.in_namespace("a/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(inside);
  ASSERT_EQ(::umount2(server_.namespace_path().c_str(), MNT_DETACH), 0);
  EXPECT_EQ(server_.stop(0), Ending{});
  EXPECT_NE(server_.log().find("has been unmounted: stopping"), std::string::npos) << server_.log();
}

TEST_F(DeadNamespace, OneThatIsCoveredOrMovedGoesOn) {
  start();
  const std::string other = server_.make_directory("other");
  ASSERT_EQ(::mount("tmpfs", server_.namespace_path().c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(::umount2(server_.namespace_path().c_str(), 0), 0);
  ASSERT_EQ(::mount(server_.namespace_path().c_str(), other.c_str(), nullptr, MS_MOVE, nullptr), 0)
      << errno_name(errno);
  EXPECT_EQ(server_.read_file("other/a/hello").value_or(""), "hello");
  ASSERT_EQ(::mount(other.c_str(), server_.namespace_path().c_str(), nullptr, MS_MOVE, nullptr), 0)
      << errno_name(errno);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
