// What a hostile or unlucky tester found.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

constexpr const char* kSftpServer = "/usr/lib/openssh/sftp-server";

std::string content_of(const char* path) {
  const UniqueFd fd(::open(path, O_RDONLY | O_CLOEXEC));
  std::string content(100, '\0');
  const ssize_t count = fd ? ::read(fd.get(), content.data(), content.size()) : -1;
  content.resize(count < 0 ? 0 : static_cast<std::size_t>(count));
  return content;
}

/// A share "s" by sshfs, whose inode numbers are made up in the order of look-ups; it needs no sshd.
class Sshfs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::access(kSftpServer, X_OK) != 0) GTEST_SKIP() << "no " << kSftpServer;
    for (const char* name : {"one", "two"}) {
      server_.make_directory(std::string("source/") + name);
      ASSERT_TRUE(ok(server_.write_file(std::string("source/") + name + "/file", name)));
    }
    ASSERT_TRUE(ok(server_.write_file("ssh", std::string("#!/bin/sh\nexec ") + kSftpServer + "\n")));
    ASSERT_EQ(::chmod(server_.path("ssh").c_str(), 0755), 0);
    ASSERT_TRUE(ok(server_.start(share("s", "0") + share("believed", "1m"))));
  }
  [[nodiscard]] std::string share(const std::string& name, const std::string& attr_timeout) const {
    return "[share." + name + "]\ntype = \"fuse.sshfs\"\nattr_timeout = \"" + attr_timeout +
           "\"\nsource = \"x:" + server_.path("source") + "\"\noptions = \"ssh_command=" + server_.path("ssh") + "\"\n";
  }
  void unmount(const std::string& share = "s") {
    // Busy until the kernel has released the last file.
    ASSERT_TRUE(
        eventually([&] { return server_.write_control("shares/" + share + "/control", "unmount").has_value(); }));
    ASSERT_TRUE(server_.wait_for_state(share, "idle"));
  }
  /// 0, unless it is a process of the server.
  pid_t helper() {
    const pid_t pid = server_.read_json("shares/s/status.json").value("helper_pid", 0);
    const std::vector<pid_t> processes = server_.processes();
    return std::find(processes.begin(), processes.end(), pid) == processes.end() ? 0 : pid;
  }

  BerthServer server_;
};

TEST_F(Sshfs, WorkingDirectoryIsNotTakenForAnotherOneOfTheNextMount) {
  struct stat attributes {};
  ASSERT_EQ(::chdir(server_.in_namespace("s/one").c_str()), 0);
  ASSERT_EQ(content_of("file"), "one");
  unmount();
  // Now the other one gets the number that this one had.
  ASSERT_EQ(::stat(server_.in_namespace("s/two").c_str(), &attributes), 0);
  EXPECT_EQ(content_of("file"), "one");
  EXPECT_EQ(::unlink("file"), 0);
  EXPECT_EQ(server_.read_file("source/two/file").value_or(""), "two");
  EXPECT_EQ(::access(server_.path("source/one/file").c_str(), F_OK), -1);
  ASSERT_EQ(::chdir("/"), 0);
}

TEST_F(Sshfs, FileThatIsOpenInALostMountIsReadAfreshByOthers) {
  const std::string path = server_.in_namespace("s/one/file");
  const UniqueFd held(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  const pid_t killed = helper();
  ASSERT_GT(killed, 0) << "the status tells a number that the host knows";
  ASSERT_EQ(::kill(killed, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return content_of(path.c_str()) == "one" && helper() != killed; }));
  EXPECT_EQ(content_of(path.c_str()), "one");
}

/// SQLite takes a file whose number changes for one that was moved, and processes that lock it must meet.
TEST_F(Sshfs, FileThatIsOpenedInTheNextMountHasTheNumberThatItsNameHas) {
  const std::string path = server_.in_namespace("believed/one/file");
  struct stat by_name {};
  struct stat opened {};
  ASSERT_EQ(::stat(path.c_str(), &by_name), 0);
  ASSERT_NO_FATAL_FAILURE(unmount("believed"));
  // These take the numbers that the file and its directory had.
  ASSERT_EQ(content_of(server_.in_namespace("believed/two/file").c_str()), "two");
  const UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(file) << errno_name(errno);
  // This has the name looked up, whatever the kernel believes of it.
  ASSERT_TRUE(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644) < 0 && errno == EEXIST);
  ASSERT_EQ(::stat(path.c_str(), &by_name), 0);
  ASSERT_EQ(::fstat(file.get(), &opened), 0);
  EXPECT_EQ(opened.st_ino, by_name.st_ino);
}

TEST_F(Sshfs, FileThatIsHeldWithoutAccessIsOpenedInTheNextMount) {
  const UniqueFd held(::open(server_.in_namespace("believed/one/file").c_str(), O_PATH | O_CLOEXEC));
  ASSERT_TRUE(held);
  ASSERT_NO_FATAL_FAILURE(unmount("believed"));
  ASSERT_EQ(content_of(server_.in_namespace("believed/two/file").c_str()), "two");
  const std::string link = "/proc/self/fd/" + std::to_string(held.get());
  static_cast<void>(content_of(link.c_str()));  // once it may be ESTALE
  EXPECT_EQ(content_of(link.c_str()), "one");
}

TEST(Helper, MakesFilesThatOthersMayNotWrite) {
  BerthServer server;
  const std::string made = server.path("made");
  ASSERT_TRUE(ok(server.start("[share.a]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"echo x > " + made +
                              "\", \"{mountpoint}\"]\n")));
  EXPECT_EQ(::access(server.in_namespace("a/x").c_str(), F_OK), -1);
  struct stat attributes {};
  ASSERT_EQ(::stat(made.c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0644U);
}

/// Processes that do not come out of execve(2): it closes a file whose server does not answer. A process that looks at
/// one of them waits for that, too.
class InExecveForEver : public ::testing::Test {
 protected:
  static constexpr int kFirstOfTheirs = 500;  // execve(2) closes in order

  void SetUp() override {
    const std::string source = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/file", "file")));
    ASSERT_TRUE(
        ok(server_.start("[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source +
                         "\"\n[share.n]\ntype = \"bind\"\naccess = \"native\"\nsource = \"" + source + "\"\n")));
    threads_ = "/proc/" + std::to_string(server_.server_pid()) + "/task";
    const std::string silent = silent_.make_directory("source");
    ASSERT_TRUE(ok(silent_.write_file("source/file", "")));
    ASSERT_TRUE(ok(silent_.start_shares({{"a", silent}})));
    UniqueFd file(::open(silent_.in_namespace("a/file").c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(file);
    held_ = UniqueFd(::fcntl(file.get(), F_DUPFD_CLOEXEC, kFirstOfTheirs));
    ASSERT_TRUE(held_);
    file.reset();  // while that is answered
    stopped_ = silent_.read_json("status.json").value("server_pid", 0);
    ASSERT_GT(stopped_, 0);
    ASSERT_EQ(::kill(stopped_, SIGSTOP), 0);
    ASSERT_TRUE(eventually([this] { return is_stopped(stopped_); }));
  }
  void TearDown() override {
    if (stopped_ > 0) ::kill(stopped_, SIGCONT);
    for (const pid_t pid : processes_) ::kill(pid, SIGKILL);
    for (const pid_t pid : processes_) ::waitpid(pid, nullptr, 0);
  }

  /// They have that many files of the other server open as well, which are closed first.
  void start(int processes, int files) {
    const std::string file = server_.in_namespace("a/file");
    std::string name = "sleep";
    std::string time = "1000";
    const std::array<char*, 3> argv{name.data(), time.data(), nullptr};
    for (int i = 0; i < processes; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        for (int k = 0; k < files; ++k) static_cast<void>(UniqueFd(::open(file.c_str(), O_RDWR | O_CLOEXEC)).release());
        ::execv("/bin/sleep", argv.data());
        ::_exit(EXIT_FAILURE);
      }
      ASSERT_GT(pid, 0);
      processes_.push_back(pid);
      // What can be read all the same.
      ASSERT_TRUE(eventually([&] {
        return content_of(("/proc/" + std::to_string(pid) + "/comm").c_str()) != "sleep\n" &&
               content_of(("/proc/" + std::to_string(pid) + "/cmdline").c_str()).empty();
      })) << "it is in execve(2)";
    }
  }

  /// All threads of it; each stops only when it comes by.
  static bool is_stopped(pid_t process) {
    for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(process) + "/task")) {
      const std::string stat = content_of((thread.path() / "stat").c_str());
      if (stat.find(") T ") == std::string::npos) return false;
    }
    return true;
  }
  /// Whether a thread of the server looks at one of them.
  [[nodiscard]] bool is_held_up() const {
    for (const auto& thread : std::filesystem::directory_iterator(threads_)) {
      const std::string where = content_of((thread.path() / "wchan").c_str());
      if (where == "lock_trace" || where == "proc_pid_syscall") return true;
    }
    return false;
  }
  [[nodiscard]] std::ptrdiff_t threads() const {
    return std::distance(std::filesystem::directory_iterator(threads_), std::filesystem::directory_iterator());
  }

  BerthServer server_;
  BerthServer silent_;
  UniqueFd held_;
  pid_t stopped_ = 0;
  std::vector<pid_t> processes_;
  std::string threads_;
};

TEST_F(InExecveForEver, WhoeverServedThemServesOthers) {
  ASSERT_EQ(server_.read_file("namespace/a/file").value_or(""), "file");
  const std::ptrdiff_t before = threads();
  ASSERT_NO_FATAL_FAILURE(start(40, 300));
  EXPECT_LE(threads(), before + 20);
  EXPECT_EQ(server_.read_file("namespace/a/file").value_or(""), "file");
}

TEST_F(InExecveForEver, HoldsUpNoShareThatIsToBeNative) {
  ASSERT_NO_FATAL_FAILURE(start(1, 0));
  EXPECT_EQ(server_.read_file("namespace/n/file").value_or(""), "file");
  EXPECT_TRUE(server_.read_json("shares/n/status.json").value("native", false));
  EXPECT_FALSE(is_held_up());
  EXPECT_TRUE(eventually([&] { return server_.write_control("shares/n/control", "unmount").has_value(); }));
  EXPECT_TRUE(server_.wait_for_state("n", "idle"));
}

}  // namespace
}  // namespace berth::test
