// What `berth serve` inherits from what starts it, what is sent to it, and what reads its output.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

class Surroundings : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
  }
  /// The program is executed by a shell that has run `commands` before.
  void after(const std::string& commands) { server_.launch_through({"sh", "-c", commands + "; exec \"$0\" \"$@\""}); }
  void start(const std::string& settings = "") {
    ASSERT_TRUE(ok(server_.start("[berth]\n" + settings +
                                 "[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n")));
  }
  [[nodiscard]] std::string hello() const { return server_.read_file("namespace/a/hello").value_or(""); }
  /// A new server takes over, which needs everything that a start needs.
  void kill_server() {
    const pid_t before = server_.server_pid();
    ASSERT_EQ(::kill(before, SIGKILL), 0);
    EXPECT_EQ(hello(), "hello");
    EXPECT_NE(server_.server_pid(), before);
  }
  [[nodiscard]] std::string of_keeper(const std::string& name) const {
    std::ifstream file("/proc/" + std::to_string(server_.pid()) + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] pid_t process_named(const std::string& name) const {
    for (const pid_t pid : server_.processes()) {
      std::ifstream file("/proc/" + std::to_string(pid) + "/comm");
      std::string comm;
      if (std::getline(file, comm) && comm == name) return pid;
    }
    return 0;
  }

  BerthServer server_;
  std::string source_;
};

TEST_F(Surroundings, LimitsOfTheShellAreLifted) {
  server_.launch_through(
      {"bash", "-c",
       "ulimit -S -f 1; ulimit -S -u 1; ulimit -S -l 0; ulimit -S -c 0; ulimit -S -i 1; ulimit -S -q 0; "
       "ulimit -S -t 1; ulimit -S -n 64; ulimit -S -s 256; ulimit -S -d 500000; ulimit -S -v 2000000; "
       "exec \"$0\" \"$@\""});
  start();
  const std::string large(std::size_t{1} << 20, 'x');
  EXPECT_TRUE(ok(server_.write_file("namespace/a/large", large)));
  EXPECT_EQ(server_.read_file("source/large").value_or("").size(), large.size());
  EXPECT_TRUE(ok(server_.write_control("shares/a/control", "mount")));
  kill_server();
  rlimit files{};
  ASSERT_EQ(::prlimit(server_.pid(), RLIMIT_NOFILE, nullptr, &files), 0);
  rlimit ours{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &ours), 0);
  EXPECT_EQ(files.rlim_cur, files.rlim_max);
  EXPECT_GE(files.rlim_cur, ours.rlim_max);
  std::ifstream most("/proc/sys/fs/nr_open");
  rlim_t most_files = 0;
  most >> most_files;
  // With CAP_SYS_RESOURCE, which lets it pass the hard limit.
  rlimit more{.rlim_cur = ours.rlim_cur, .rlim_max = most_files};
  if (::setrlimit(RLIMIT_NOFILE, &more) == 0) {
    EXPECT_EQ(files.rlim_cur, most_files);
  }
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &ours), 0);
  for (const auto resource : {RLIMIT_FSIZE, RLIMIT_CPU, RLIMIT_AS, RLIMIT_DATA}) {
    rlimit limit{};
    ASSERT_EQ(::prlimit(server_.pid(), resource, nullptr, &limit), 0);
    EXPECT_EQ(limit.rlim_cur, RLIM_INFINITY) << resource;
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, ALimitThatCannotBeLiftedIsRefusedWithWhatToDo) {
  after(
      "ulimit -S -f 1; ulimit -H -f 2000; set -- --bounding-set=-sys_resource --inh-caps=-sys_resource \"$0\" \"$@\"; "
      "set -- setpriv \"$@\"; "
      "exec \"$@\"");
  EXPECT_FALSE(server_.start("[share.a]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n"));
  EXPECT_EQ(server_.ending(), (Ending{77, 0})) << server_.ending();
  EXPECT_NE(server_.log().find("ulimit -f, systemd: LimitFSIZE=infinity"), std::string::npos) << server_.log();
}

TEST_F(Surroundings, SignalsThatWereIgnoredOrBlockedAreHeard) {
  server_.launch_through({"env", "--ignore-signal=CHLD,TERM,HUP,INT", "--block-signal=TERM,CHLD,INT,USR1"});
  start();
  kill_server();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, HelpersGetTheDefaultSignalsAndTheUsualLimitOfFiles) {
  ASSERT_TRUE(
      ok(server_.start("[share.a]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"until [ $(ulimit -n) = 1024 ]; do :; "
                       "done; ulimit -f; grep Sig "
                       "/proc/self/status; exit 1\", \"{mountpoint}\"]\n")));
  EXPECT_LT(::access(server_.in_namespace("a/x").c_str(), F_OK), 0);
  const std::string said = server_.read_control("shares/a/error").value_or("");
  EXPECT_NE(said.find("unlimited"), std::string::npos) << said;
  EXPECT_NE(said.find("SigIgn:\\t0000000000000000"), std::string::npos) << said;
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, StraySignalsAreIgnored) {
  start();
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    constexpr std::array<int, 12> kMeant{SIGTERM, SIGINT,  SIGQUIT, SIGKILL, SIGSTOP, SIGSEGV,
                                         SIGBUS,  SIGABRT, SIGILL,  SIGFPE,  SIGTRAP, SIGSYS};
    if (std::find(kMeant.begin(), kMeant.end(), signal) != kMeant.end()) continue;
    for (const pid_t pid : server_.processes()) ASSERT_EQ(::kill(pid, signal), 0) << signal;
    ASSERT_EQ(hello(), "hello") << signal;
  }
  kill_server();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, AHangUpReloads) {
  start();
  ASSERT_EQ(::kill(server_.pid(), SIGHUP), 0);
  EXPECT_TRUE(eventually([&] { return server_.log().find("reload: nothing has changed") != std::string::npos; }));
  EXPECT_EQ(hello(), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, UmaskAndWorkingDirectoryDoNotMatter) {
  const std::string place = server_.make_directory("place");
  ASSERT_EQ(::mount("tmpfs", place.c_str(), "tmpfs", 0, nullptr), 0);
  after("umask 0777; cd " + place);
  start();
  EXPECT_EQ(::mkdir(server_.in_namespace(".berth/shares/a/attachments/vm").c_str(), 0755), 0);
  EXPECT_EQ(::mkdir(server_.in_namespace(".berth/shares/a/attachments/vm/disk").c_str(), 0755), 0) << errno_name(errno);
  kill_server();
  for (const pid_t pid : server_.processes()) {
    EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/cwd"), "/");
  }
  EXPECT_EQ(::umount2(place.c_str(), 0), 0) << errno_name(errno);
  EXPECT_EQ(::rmdir(server_.in_namespace(".berth/shares/a/attachments/vm/disk").c_str()), 0);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, OtherDescriptorsAreClosedAndStandardOnesAreThere) {
  ASSERT_TRUE(ok(server_.write_file("held", "")));
  after("exec 7<" + server_.path("held") + " 9<&7 0<&- 1>&- 2>&-");
  start();
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(server_.pid()) + "/fd")) {
    std::error_code error;
    EXPECT_NE(std::filesystem::read_symlink(entry.path(), error), server_.path("held")) << entry.path();
  }
  for (const char* const number : {"0", "1", "2"}) {
    EXPECT_EQ(std::filesystem::read_symlink("/proc/" + std::to_string(server_.pid()) + "/fd/" + number), "/dev/null");
  }
  kill_server();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, ItIsScheduledAsUsualAndWhatHoldsEverythingIsTheLastToBeKilled) {
  after("echo 700 >/proc/self/oom_score_adj; set -- nice -n 15 ionice -c 3 chrt --idle 0 \"$0\" \"$@\"; exec \"$@\"");
  start();
  for (const pid_t pid : {server_.pid(), server_.server_pid(), process_named("berth-first")}) {
    EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(pid)), 0);
    EXPECT_EQ(::sched_getscheduler(pid), SCHED_OTHER);
  }
  const auto score = [](pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/oom_score_adj");
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  // Not every container may lower it.
  std::ofstream("/proc/self/oom_score_adj") << "-500";
  const std::string lowest = score(::getpid()) == "-500\n" ? "-500\n" : "0\n";
  std::ofstream("/proc/self/oom_score_adj") << "0";
  EXPECT_EQ(score(server_.pid()), lowest);
  EXPECT_EQ(score(process_named("berth-first")), lowest);
  EXPECT_EQ(score(process_named("berth-agent")), lowest);
  EXPECT_EQ(score(server_.server_pid()), "300\n") << "another one follows it";
  kill_server();
  EXPECT_EQ(score(server_.server_pid()), "300\n");
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A pipe for standard error that is there before the program is.
class LogReader : public Surroundings {
 protected:
  void SetUp() override {
    Surroundings::SetUp();
    ASSERT_EQ(::mkfifo(server_.path("pipe").c_str(), 0600), 0);
    reader_.reset(::open(server_.path("pipe").c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    ASSERT_TRUE(reader_);
    after("exec 2>" + server_.path("pipe"));
  }
  void fill() const {
    const std::string page(4096, '.');
    while (::write(reader_.get(), page.data(), page.size()) > 0) {
    }
  }
  [[nodiscard]] std::string read() const {
    std::string all;
    std::array<char, 4096> buffer{};
    for (ssize_t count = 0; (count = ::read(reader_.get(), buffer.data(), buffer.size())) > 0;) {
      all.append(buffer.data(), static_cast<std::size_t>(count));
    }
    return all;
  }

  UniqueFd reader_;
};

TEST_F(LogReader, ThatStopsStopsNothing) {
  fill();
  start();
  EXPECT_EQ(hello(), "hello");
  kill_server();
  EXPECT_TRUE(ok(server_.write_control("shares/a/control", "unmount")));
  EXPECT_EQ(hello(), "hello");
  ASSERT_NE(read(), "");
  kill_server();
  std::string said;
  EXPECT_TRUE(eventually([&] { return (said += read()).find("messages were dropped") != std::string::npos; })) << said;
  fill();
  EXPECT_EQ(server_.stop(), Ending{}) << "and SIGTERM is heard";
}

TEST_F(LogReader, ThatIsGoneEndsNothing) {
  start();
  reader_.reset();
  kill_server();
  EXPECT_TRUE(ok(server_.write_control("shares/a/control", "unmount")));
  kill_server();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Surroundings, AStoppedServerDoesNotHoldTheStopBack) {
  start("stop_timeout = \"100ms\"\n");
  EXPECT_EQ(hello(), "hello");
  ASSERT_EQ(::kill(server_.server_pid(), SIGSTOP), 0);
  EXPECT_NE(server_.stop().code, 0);
  EXPECT_NE(server_.log().find("the server does not end: killing it"), std::string::npos) << server_.log();
}

TEST_F(Surroundings, AStoppedFirstProcessIsNotLeftBehind) {
  start();
  EXPECT_EQ(hello(), "hello");
  ASSERT_EQ(::kill(process_named("berth-first"), SIGSTOP), 0);
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
