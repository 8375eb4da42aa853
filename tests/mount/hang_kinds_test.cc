// Other ways for a share to hang than a server that is stopped: a frozen file system, and a network link that is cut.
#include <fcntl.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>

#include "tests/mount/hung_share.h"

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
  [[nodiscard]] pid_t server() const { return server_.read_json("status.json").value("server_pid", 0); }
  void expect_others_go_on() const {
    Callers others;
    others.add([this] { return read_one(in("near/file")); }, kUser, 10);
    others.add([this] { return read_one(in(".berth/shares/far/status")); });
    EXPECT_TRUE(others.all_end());
    EXPECT_EQ(others.ended_with(0), 11U);
  }

  BerthServer server_;
  std::string near_;
};

/// A file system that takes no changes until it is thawed (fsfreeze(8)).
class Frozen {
 public:
  explicit Frozen(const std::string& directory) : root_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    is_frozen_ = root_ && ::ioctl(root_.get(), FIFREEZE, 0) == 0;
  }
  ~Frozen() { thaw(); }
  Frozen(const Frozen&) = delete;
  Frozen& operator=(const Frozen&) = delete;
  void thaw() {
    if (std::exchange(is_frozen_, false)) ::ioctl(root_.get(), FITHAW, 0);
    root_.reset();
  }
  [[nodiscard]] bool is_frozen() const noexcept { return is_frozen_; }

 private:
  UniqueFd root_;
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
