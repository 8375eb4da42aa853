// Other ways for a share to hang than a server that is stopped: a frozen file system, and a network link that is cut.
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/mount/hung_share.h"
#include "tests/mount/text_of.h"

namespace berth::test {
namespace {

constexpr uid_t kUser = 1000;

bool run(const std::string& command) { return ::system(("( " + command + " ) >/dev/null 2>&1").c_str()) == 0; }

class HangKinds : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::chmod(server_.directory().c_str(), 0755), 0);
    near_ = "[share.near]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + server_.make_directory("near") + "\"\n";
    ASSERT_TRUE(ok(server_.write_file("near/file", "near")));
  }
  [[nodiscard]] std::string in(const std::string& name) const { return server_.in_namespace(name); }
  [[nodiscard]] pid_t server() const { return server_.server_pid(); }
  void expect_others_go_on() const {
    Callers others;
    others.add([this] { return read_one(in("near/file")); }, kUser, 10);
    others.add([this] { return read_one(in(".berth/shares/far/status")); });
    EXPECT_TRUE(others.all_end());
    EXPECT_EQ(others.ended_with(0), 11U);
  }

  /// Processes of the server, and of what it has started, whose line in /proc/PID/stat has that in it.
  [[nodiscard]] std::vector<pid_t> processes_called(const std::string& name, const std::string& line) const {
    std::vector<pid_t> found = server_.processes();
    std::erase_if(found, [&](pid_t pid) {
      const std::string process = "/proc/" + std::to_string(pid);
      return text_of(process + "/comm") != name + "\n" || text_of(process + "/stat").find(line) == std::string::npos;
    });
    return found;
  }

  BerthServer server_;
  std::string near_;
};

/// A file system that takes no changes until it is thawed (fsfreeze(8)). A process of its own thaws it when the test is
/// killed: each write to drop_caches on this machine would wait for it else.
class Frozen {
 public:
  explicit Frozen(const std::string& directory) : root_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    const pid_t test = ::getpid();
    guard_ = ::fork();
    if (guard_ == 0) guard(test);
    is_frozen_ = root_ && guard_ > 0 && ::ioctl(root_.get(), FIFREEZE, 0) == 0;
  }
  ~Frozen() { thaw(); }
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;
  void thaw() {
    if (std::exchange(is_frozen_, false)) ::ioctl(root_.get(), FITHAW, 0);
    root_.reset();
    if (guard_ <= 0) return;
    ::kill(guard_, SIGKILL);
    ::waitpid(std::exchange(guard_, -1), nullptr, 0);
  }
  [[nodiscard]] bool is_frozen() const noexcept { return is_frozen_; }

 private:
  [[noreturn]] void guard(pid_t test) const {
    ::setsid();
    const UniqueFd ended(static_cast<int>(::syscall(SYS_pidfd_open, test, 0)));
    pollfd event{.fd = ended.get(), .events = POLLIN, .revents = 0};
    if (ended) ::poll(&event, 1, -1);
    ::ioctl(root_.get(), FITHAW, 0);
    ::_exit(0);
  }

  UniqueFd root_;
  pid_t guard_ = -1;
  bool is_frozen_ = false;
};

TEST_F(HangKinds, FrozenFileSystemHoldsUpItsWritersAlone) {
  const std::string image = server_.path("image");
  if (!run("truncate -s 16M " + image + " && mkfs.ext4 -q -E root_owner=1000:1000 " + image))
    GTEST_SKIP() << "takes mkfs.ext4";
  ASSERT_TRUE(ok(server_.start("[berth]\ncrash_limit = 1000\n" + near_ +
                               "[share.far]\ntype = \"ext4\"\naccess = \"proxy\"\nsource = \"" + image +
                               "\"\nattr_timeout = \"0\"\n")));
  ASSERT_TRUE(ok(server_.write_file("namespace/far/file", "text")));
  std::string berth;
  std::ifstream table("/proc/" + std::to_string(server()) + "/mountinfo");
  for (std::string line; std::getline(table, line);) {
    if (line.find(" ext4 /dev/loop") == std::string::npos || line.find("/far ") == std::string::npos) continue;
    std::istringstream fields(line);
    for (int i = 0; i < 5; ++i) fields >> berth;
  }
  ASSERT_NE(berth, "");
  Frozen frozen("/proc/" + std::to_string(server()) + "/root" + berth);
  ASSERT_TRUE(frozen.is_frozen()) << errno_name(errno);
  Callers writers;
  for (int i = 0; i < 12; ++i) {
    writers.add([this, i] { return ::mkdir(in("far/" + std::to_string(i)).c_str(), 0755) == 0 ? 0 : errno; }, kUser);
  }
  ASSERT_TRUE(writers.all_wait());
  expect_others_go_on();
  EXPECT_TRUE(
      eventually([this] { return server_.read_json("shares/far/status.json")["unanswered"].value("callers", 0) > 0; }));
  writers.kill(SIGKILL);
  EXPECT_TRUE(writers.all_end());
  frozen.thaw();
  EXPECT_EQ(read_one(in("far/file")), 0);
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/far/control", "unmount").has_value(); }));
}

TEST_F(HangKinds, UnmountProgramThatIsStuckInTheKernelIsLeftBehindByForce) {
  const std::string image = server_.path("image");
  const std::string disk = server_.make_directory("disk");
  if (!run("truncate -s 16M " + image + " && mkfs.ext4 -q " + image + " && mount -o loop " + image + " " + disk))
    GTEST_SKIP() << "takes mkfs.ext4";
  ASSERT_TRUE(ok(server_.start("[berth]\ncrash_limit = 1000\n" + near_ +
                               "[share.far]\ntype = \"command\"\nmount = [\"mount\", \"-t\", \"tmpfs\", \"tmpfs\", "
                               "\"{mountpoint}\"]\nunmount = [\"mkdir\", \"" +
                               disk + "/new\", \"{mountpoint}\"]\n")));
  {
    Frozen frozen(disk);
    ASSERT_TRUE(frozen.is_frozen()) << errno_name(errno);
    for (std::size_t round = 0; round < 2; ++round) {
      ASSERT_TRUE(ok(server_.write_file("namespace/far/file" + std::to_string(round), "text")));
      Callers unmount;
      unmount.add([this] { return server_.write_control("shares/far/control", "unmount") ? 0 : EIO; });
      // The program of the second round, too.
      ASSERT_TRUE(eventually([&] { return processes_called("mkdir", " (mkdir) D").size() == round + 1; }));
      EXPECT_TRUE(ok(server_.write_control("shares/far/control", "force-unmount")));
      EXPECT_EQ(server_.state("far"), "idle");
      EXPECT_TRUE(unmount.all_end());
      EXPECT_EQ(unmount.ended_with(0), 1U);
      expect_others_go_on();
    }
    ASSERT_TRUE(ok(server_.write_file("namespace/far/again", "text"))) << "mounted again, beside what is stuck";
  }
  EXPECT_EQ(read_one(in("far/again")), 0) << "which does nothing to the new mount when it comes back";
  EXPECT_TRUE(ok(server_.write_control("shares/far/control", "force-unmount")));
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_TRUE(eventually([&] { return run("umount " + disk); }));
}

TEST_F(HangKinds, MountThatIsStuckInTheKernelHoldsUpNoLaterOne) {
  const std::string disk = server_.make_directory("disk");
  const std::string frozen_image = disk + "/image";
  const std::string good_image = server_.path("good");
  const std::string source = server_.path("source");
  const auto make_image = [](const std::string& file, int megabytes) {
    return run("truncate -s " + std::to_string(megabytes) + "M " + file + " && mkfs.ext4 -q " + file);
  };
  if (!make_image(server_.path("far"), 64) || !run("mount -o loop " + server_.path("far") + " " + disk) ||
      !make_image(frozen_image, 16) || !make_image(good_image, 16)) {
    GTEST_SKIP() << "takes mkfs.ext4";
  }
  const auto lead_to = [&](const std::string& image) { ASSERT_TRUE(run("ln -sfn " + image + " " + source)); };
  const auto control = [this](const std::string& word) { return server_.write_control("shares/far/control", word); };
  const auto mounted = [this] {
    std::ifstream table("/proc/" + std::to_string(server()) + "/mountinfo");
    int count = 0;
    for (std::string line; std::getline(table, line);) count += line.find(" ext4 /dev/loop") != std::string::npos;
    return count;
  };
  ASSERT_NO_FATAL_FAILURE(lead_to(frozen_image));
  ASSERT_TRUE(ok(server_.start(
      "[berth]\ncrash_limit = 1000\n" + near_ +
      "[share.far]\ntype = \"ext4\"\naccess = \"proxy\"\nmount_timeout = \"2s\"\nattr_timeout = \"0\"\nsource = \"" +
      source + "\"\n")));
  const int others = mounted();
  {
    const Frozen frozen(disk);
    ASSERT_TRUE(frozen.is_frozen()) << errno_name(errno);
    for (const std::string way : {"access", "retry", "force-unmount"}) {
      SCOPED_TRACE(way);
      ASSERT_NO_FATAL_FAILURE(lead_to(frozen_image));
      EXPECT_TRUE(eventually([this] { return look_at(in("far/lost+found")) == ETIMEDOUT; }));
      expect_others_go_on();
      ASSERT_NO_FATAL_FAILURE(lead_to(good_image));
      if (way == "force-unmount") {
        EXPECT_TRUE(ok(control(way)));
      }
      EXPECT_TRUE(eventually([&] {
        if (way == "retry" && !control(way)) return false;
        return look_at(in("far/lost+found")) == 0;
      }));
      EXPECT_EQ(server_.state("far"), "mounted");
      EXPECT_EQ(mounted(), others + 1);
      EXPECT_TRUE(eventually([&] { return control("unmount").has_value(); }));
    }
    EXPECT_EQ(look_at(in("far/lost+found")), 0);
  }
  EXPECT_TRUE(eventually([&] { return !run("losetup -j " + frozen_image + " | grep -q ."); }))
      << "what comes back late is undone";
  EXPECT_EQ(look_at(in("far/lost+found")), 0) << "and does nothing to the mount that is there";
  EXPECT_EQ(mounted(), others + 1);
  EXPECT_TRUE(eventually([&] { return control("unmount").has_value(); }));
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_TRUE(eventually([&] { return run("umount " + disk); }));
}

TEST_F(HangKinds, UnmountThatWaitsForItsServerIsEndedByForce) {
  if (::access("/usr/bin/sshfs", X_OK) != 0 || ::access("/usr/lib/openssh/sftp-server", X_OK) != 0)
    GTEST_SKIP() << "takes sshfs and sftp-server";
  // The kernel waits for the answer of a server of this kind when it unmounts (FUSE_DESTROY).
  const std::string far = server_.make_directory("far");
  ASSERT_TRUE(ok(server_.write_file("far/file", "far away")));
  ASSERT_TRUE(ok(server_.write_file("pipe", "#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n")));
  ASSERT_EQ(::chmod(server_.path("pipe").c_str(), 0755), 0);
  ASSERT_TRUE(
      ok(server_.write_file("device",
                            "#!/bin/sh\ntruncate -s 1M \"$2\"\nD=$(losetup -f --show \"$2\") || exit 1\n"
                            "sshfs -o allow_other,blkdev,fsname=$D,ssh_command=" +
                                server_.path("pipe") + " host:" + far + " \"$1\"\nS=$?\nlosetup -d $D\nexit $S\n")));
  ASSERT_EQ(::chmod(server_.path("device").c_str(), 0755), 0);
  ASSERT_TRUE(
      ok(server_.start("[berth]\ncrash_limit = 1000\n" + near_ + "[share.far]\ntype = \"command\"\nmount = [\"" +
                       server_.path("device") + "\", \"{mountpoint}\", \"" + server_.path("image") +
                       "\"]\nunmount_timeout = \"10m\"\n")));
  ASSERT_EQ(look_at(in("far/file")), 0);
  const std::vector<pid_t> helpers = processes_called("sshfs", " (sshfs) ");
  ASSERT_EQ(helpers.size(), 1U);
  stop_process(helpers.front());
  Callers unmount;
  unmount.add([this] { return server_.write_control("shares/far/control", "unmount") ? 0 : EIO; });
  ASSERT_TRUE(server_.wait_for_state("far", "expiring"));
  ASSERT_TRUE(eventually([this] {
    return text_of("/proc/" + std::to_string(server()) + "/mountinfo").find("fuseblk.sshfs") == std::string::npos;
  })) << "it is taken off, and the kernel waits";
  Callers force;
  force.add([this] { return server_.write_control("shares/far/control", "force-unmount") ? 0 : EIO; });
  EXPECT_TRUE(force.all_end());
  EXPECT_EQ(force.ended_with(0), 1U);
  EXPECT_EQ(server_.state("far"), "idle");
  EXPECT_TRUE(unmount.all_end());
  EXPECT_TRUE(eventually([&] { return ::kill(helpers.front(), 0) != 0; })) << "its server is ended";
  EXPECT_EQ(read_one(in("far/file")), 0) << "mounted again";
}

/// An sftp server behind a link of its own, in a network namespace.
class FarHost {
 public:
  static constexpr int kPort = 7022;
  FarHost() {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) serve(ready[1]);
    ::close(ready[1]);
    char byte = 0;
    const bool is_there = ::read(ready[0], &byte, 1) == 1;
    ::close(ready[0]);
    const std::string number = std::to_string(pid_);
    link_ = "bl" + number;
    is_up_ =
        is_there && run("ip link add " + link_ + " type veth peer name far netns " + number) &&
        run("ip addr add " + address(1) + "/30 dev " + link_ + " && ip link set " + link_ + " up") &&
        run("nsenter -t " + number + " -n sh -c 'ip addr add " + address(2) + "/30 dev far && ip link set far up'");
  }
  ~FarHost() {
    run("ip link del " + link_);
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  FarHost(const FarHost&) = delete;
  FarHost& operator=(const FarHost&) = delete;

  [[nodiscard]] bool is_up() const noexcept { return is_up_; }
  [[nodiscard]] std::string address(int host) const {
    return "10.213." + std::to_string(pid_ / 64 % 256) + "." + std::to_string(pid_ % 64 * 4 + host);
  }
  [[nodiscard]] bool cut() const { return run("ip link set " + link_ + " down"); }
  [[nodiscard]] bool mend() const { return run("ip link set " + link_ + " up"); }

 private:
  [[noreturn]] static void serve(int ready) {
    ::setpgid(0, 0);
    const UniqueFd listener(::unshare(CLONE_NEWNET) == 0 ? ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_port = htons(kPort);
    if (!listener || ::bind(listener.get(), reinterpret_cast<sockaddr*>(&any), sizeof any) != 0 ||
        ::listen(listener.get(), 10) != 0 || ::write(ready, "r", 1) != 1) {
      ::_exit(1);
    }
    for (;;) {
      const UniqueFd client(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client || ::fork() != 0) continue;
      ::dup2(client.get(), STDIN_FILENO);
      ::dup2(client.get(), STDOUT_FILENO);
      ::execl("/usr/lib/openssh/sftp-server", "sftp-server", nullptr);
      ::_exit(127);
    }
  }

  pid_t pid_ = -1;
  std::string link_;
  bool is_up_ = false;
};

TEST_F(HangKinds, CutLinkIsAShareThatStallsAndComesBack) {
  if (::access("/usr/bin/sshfs", X_OK) != 0 || ::access("/usr/lib/openssh/sftp-server", X_OK) != 0) {
    GTEST_SKIP() << "takes sshfs and sftp-server";
  }
  const FarHost host;
  if (!host.is_up()) GTEST_SKIP() << "takes network namespaces, veth and ip(8)";
  const std::string far = server_.make_directory("far");
  ASSERT_TRUE(ok(server_.write_file("far/file", "far away")));
  ASSERT_TRUE(ok(server_.start("[berth]\ncrash_limit = 1000\nstall_timeout = \"500ms\"\n" + near_ +
                               "[share.far]\ntype = \"fuse.sshfs\"\nsource = \"" + host.address(2) + ":" + far +
                               "\"\noptions = \"allow_other,cache=no,attr_timeout=0,entry_timeout=0,directport=" +
                               std::to_string(FarHost::kPort) + "\"\nattr_timeout = \"0\"\n")));
  ASSERT_EQ(read_one(in("far/file")), 0);
  ASSERT_TRUE(host.cut());
  Callers killed;
  killed.add([this] { return look_at(in("far/file")); }, kUser, 20);
  ASSERT_TRUE(killed.all_wait());
  Callers patient;
  patient.add([this] { return look_at(in("far/file")); }, kUser, 5);
  ASSERT_TRUE(patient.all_wait());
  expect_others_go_on();
  EXPECT_TRUE(server_.wait_for_state("far", "stalled"));
  killed.kill(SIGKILL);
  EXPECT_TRUE(killed.all_end());
  ASSERT_TRUE(host.mend());
  EXPECT_TRUE(patient.all_end());
  EXPECT_EQ(patient.ended_with(0), 5U);
  EXPECT_TRUE(server_.wait_for_state("far", "mounted"));
}

}  // namespace
}  // namespace berth::test
