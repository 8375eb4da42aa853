#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

constexpr int kCallers = 50;

// Runs in a child: waits for the starting shot (the end of the pipe), then reads the file. The exit status is the
// errno.
[[noreturn]] void call(int shot, const char* path) {
  char byte = 0;
  if (::read(shot, &byte, 1) != 0) ::_exit(255);
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) ::_exit(errno);
  if (::read(fd, &byte, 1) != 1) ::_exit(EIO);
  ::_exit(byte == 'h' ? 0 : EBADMSG);
}

// Runs in a child: asks for something all the time, and executes a program, which closes its files.
[[noreturn]] void ask_and_execute(const std::string& directory) {
  constexpr int kFiles = 200;
  for (int i = 0; i < kFiles; ++i) {
    const std::string path = directory + "/" + std::to_string(i);
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ::write(fd, "x", 1) != 1 || ::access((path + "?").c_str(), F_OK) == 0) ::_exit(1);
  }
  ::execl("/bin/true", "true", nullptr);
  ::_exit(1);
}

// Starts processes that open `path` at once, and returns how many succeeded.
int touch_at_once(const std::string& path) {
  std::array<int, 2> shot{};
  EXPECT_EQ(::pipe2(shot.data(), O_CLOEXEC), 0);
  UniqueFd hold(shot[0]), fire(shot[1]);
  std::vector<pid_t> callers;
  for (int i = 0; i < kCallers; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      fire.reset();
      call(hold.get(), path.c_str());
    }
    callers.push_back(pid);
  }
  fire.reset();
  int succeeded = 0;
  for (const pid_t pid : callers) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0) << errno_name(WEXITSTATUS(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) ++succeeded;
  }
  return succeeded;
}

TEST(ManyCallers, FiftyProcessesCauseOneMountAndAllSucceed) {
  BerthServer server;
  const std::string source = server.make_directory("source");
  ASSERT_TRUE(ok(server.write_file("source/hello", "hello")));
  ASSERT_TRUE(ok(server.start_shares({{"a", source}})));
  ASSERT_EQ(server.read_json("shares/a/status.json").value("mounts", -1), 0);

  EXPECT_EQ(touch_at_once(server.in_namespace("a/hello")), kCallers);
  EXPECT_EQ(server.read_json("shares/a/status.json").value("mounts", -1), 1);
  EXPECT_EQ(server.stop(), Ending{});
}

// A mount that takes its time keeps all of them waiting together.
TEST(ManyCallers, FiftyProcessesShareOneSlowMount) {
  BerthServer server;
  server.make_directory("source");
  ASSERT_TRUE(ok(server.write_file("source/hello", "hello")));
  const std::string script = server.path("slow-mount");
  ASSERT_TRUE(ok(server.write_file("slow-mount", "#!/bin/sh\nsleep 0.5\nmount --bind " + server.path("source") +
                                                     " \"$1\" || exit 1\nexec sleep 1000\n")));
  ASSERT_EQ(::chmod(script.c_str(), 0755), 0);
  ASSERT_TRUE(ok(server.start("[share.slow]\ntype = \"command\"\nmount = [\"" + script + "\", \"{mountpoint}\"]\n")));

  EXPECT_EQ(touch_at_once(server.in_namespace("slow/hello")), kCallers);
  EXPECT_EQ(server.read_json("shares/slow/status.json").value("mounts", -1), 1);
  EXPECT_EQ(server.stop(), Ending{});
}

// While it is in execve(2) no process can look at it in /proc, the server neither.
TEST(ManyCallers, WhoExecutesAProgramIsServedMeanwhile) {
  BerthServer server;
  const std::string source = server.make_directory("source");
  ASSERT_TRUE(ok(server.start("[share.a]\ntype = \"bind\"\nsource = \"" + source +
                              "\"\naccess = \"proxy\"\nattr_timeout = \"0\"\n")));
  for (int i = 0; i < 20; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ask_and_execute(server.in_namespace("a"));
    int status = -1;
    if (!eventually([&] { return ::waitpid(child, &status, WNOHANG) == child; })) {
      ::kill(server.pid(), SIGKILL);  // before anything here looks into /proc
      FAIL() << "it hangs";
    }
    ASSERT_EQ(status, 0);
  }
  EXPECT_EQ(server.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
