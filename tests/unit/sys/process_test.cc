#include "src/lib/sys/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pwd.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/eventually.h"
#include "tests/unit/temporary_directory.h"

namespace berth::sys {
namespace {

using testing::eventually;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::patience;

TimePoint soon() { return std::chrono::steady_clock::now() + std::chrono::milliseconds(20); }

std::vector<std::string> shell(const std::string& script) { return {"sh", "-c", script}; }

/// What a program that ends well says.
std::string output_of(const std::vector<std::string>& argv) {
  const auto finished = run(argv, patience());
  if (!finished) return finished.error().message();
  EXPECT_TRUE(finished->status.success()) << to_string(finished->status) << " " << finished->output;
  return finished->output;
}

/// Waits until the program has written `text`.
::testing::AssertionResult says(Process& process, const std::string& text) {
  if (eventually([&] { return process.output().find(text) != std::string::npos; }))
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "said only: " << process.output();
}

bool has_ended(int pidfd) {
  pollfd watched{.fd = pidfd, .events = POLLIN, .revents = 0};
  return ::poll(&watched, 1, 0) == 1;
}

/// Grandchildren become children of this process when their parent ends, as under the first process of a pid namespace.
class ProcessTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ::prctl(PR_SET_CHILD_SUBREAPER, 1); }
  void TearDown() override {
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
    EXPECT_EQ(errno, ECHILD);
  }

  /// Waits for a program that was left behind and says how it ended.
  static ExitStatus collect(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status)) return {.code = WEXITSTATUS(status)};
    return {.signal = WTERMSIG(status)};
  }
};

TEST_F(ProcessTest, TellsHowAProgramEnded) {
  EXPECT_EQ(run(shell("exit 32"), patience())->status.code, 32);
  EXPECT_EQ(run(shell("kill -9 $$"), patience())->status.signal, 9);
  EXPECT_TRUE(run({"true"}, patience())->status.success());
  EXPECT_EQ(to_string(ExitStatus{.code = 32}), "exit status 32");
  EXPECT_EQ(to_string(ExitStatus{.signal = 9}), "signal 9 (Killed)");
}

TEST_F(ProcessTest, ArgumentsArriveAsTheyAre) {
  EXPECT_EQ(output_of({"printf", "<%s>", "a b", "$(id)", "-o;x", ""}), "<a b><$(id)><-o;x><>");
}

TEST_F(ProcessTest, KeepsBothOutputsInOrder) { EXPECT_EQ(output_of(shell("echo a; echo b >&2; echo c")), "a\nb\nc\n"); }

TEST_F(ProcessTest, KeepsTheFirstAndTheLastLines) {
  const std::string output = output_of({"seq", "100000"});
  EXPECT_LE(output.size(), Process::kOutputKept + 64);
  EXPECT_GT(output.size(), Process::kOutputKept / 2);
  EXPECT_TRUE(output.starts_with("1\n2\n3\n")) << output.substr(0, 20);
  EXPECT_TRUE(output.ends_with("\n99999\n100000\n"));
  const std::size_t gap = output.find(" bytes are left out here)\n");
  ASSERT_NE(gap, std::string::npos);
  EXPECT_EQ(output.find('\n', output.find('\n', gap) + 1), output.find('\n', gap) + 6) << "goes on with a whole line";
}

TEST_F(ProcessTest, KeepsNoPartOfALine) {
  // Of which the rest may have said what must not be told.
  EXPECT_EQ(output_of(shell("head -c 1000000 /dev/zero | tr '\\0' x")), "\n(1000000 bytes are left out here)\n");
  const std::string output =
      output_of(shell("echo first; head -c 1000000 /dev/zero | tr '\\0' x; printf '\\rlast\\n'"));
  EXPECT_TRUE(output.starts_with("first\n(")) << output.substr(0, 100);
  EXPECT_TRUE(output.ends_with(" bytes are left out here)\nlast\n")) << output.substr(0, 100);
}

TEST_F(ProcessTest, GivesWhatIsWrittenToASink) {
  auto process = Process::start(shell("echo a; echo b >&2"));
  ASSERT_TRUE(process);
  std::string shown;
  process->give_output_to([&shown](std::string_view bytes) { shown += bytes; });
  ASSERT_TRUE(process->wait(patience()));
  EXPECT_EQ(shown, "a\nb\n");
  EXPECT_EQ(process->output(), "");
}

TEST_F(ProcessTest, ReadsNothingFromUs) { EXPECT_EQ(output_of({"readlink", "/proc/self/fd/0"}), "/dev/null\n"); }

TEST_F(ProcessTest, InheritsNoDescriptor) {
  constexpr int kHigh = 57;
  ASSERT_EQ(::dup2(STDERR_FILENO, kHigh), kHigh);
  const std::string open = output_of(shell("echo /proc/$$/fd/*"));
  ::close(kHigh);
  EXPECT_THAT(open, HasSubstr("/fd/2"));
  EXPECT_THAT(open, Not(HasSubstr("/fd/57")));
}

TEST_F(ProcessTest, HasDefaultSignalsAndASessionOfItsOwn) {
  sigset_t all;
  ::sigfillset(&all);
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  ASSERT_NE(::signal(SIGPIPE, SIG_IGN), SIG_ERR);
  const std::string masks = output_of({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"});
  ::signal(SIGPIPE, SIG_DFL);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(masks, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
  EXPECT_EQ(output_of(shell("read -r pid c s ppid group session rest </proc/self/stat; "
                            "test $pid = $group && test $pid = $session && echo own")),
            "own\n");
}

TEST_F(ProcessTest, IsNotProtectedFromTheEndOfMemoryAsWeAre) {
  std::ofstream("/proc/self/oom_score_adj") << "-100";
  std::string score;
  std::ifstream("/proc/self/oom_score_adj") >> score;
  if (score != "-100") GTEST_SKIP() << "may not protect itself (CAP_SYS_RESOURCE)";
  EXPECT_EQ(output_of(shell("until [ \"$(cat /proc/self/oom_score_adj)\" = 0 ]; do :; done; echo not")), "not\n");
  std::ofstream("/proc/self/oom_score_adj") << "0";
}

TEST_F(ProcessTest, EnvironmentIsOursWithAFixedPathAndLanguage) {
  ::setenv("BERTH_TEST", "kept", 1);
  ::setenv("LC_ALL", "de_DE.UTF-8", 1);
  ::setenv("NOTIFY_SOCKET", "/run/systemd/notify", 1);
  const std::string environment = "\n" + output_of({"env"});
  ::unsetenv("BERTH_TEST");
  ::unsetenv("LC_ALL");
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_THAT(environment, HasSubstr("\nBERTH_TEST=kept\n"));
  EXPECT_THAT(environment, HasSubstr("\nLC_ALL=C\n"));
  EXPECT_THAT(environment, HasSubstr("\nPATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
  EXPECT_THAT(environment, Not(HasSubstr("de_DE")));
  EXPECT_THAT(environment, Not(HasSubstr("NOTIFY_SOCKET")));
}

TEST_F(ProcessTest, HasAHomeAndWhatItIsGivenBesides) {
  const char* const home = ::getenv("HOME");
  const std::string before = home == nullptr ? "" : home;
  ::unsetenv("HOME");
  auto process = Process::start({"env"}, {"SECRET=a b", "LC_ALL=de"});
  ::setenv("HOME", before.c_str(), 1);
  ASSERT_TRUE(process);
  ASSERT_TRUE(process->wait(patience()));
  const std::string environment = "\n" + process->output();
  EXPECT_THAT(environment, HasSubstr("\nHOME=" + std::string(::getpwuid(::geteuid())->pw_dir) + "\n"));
  EXPECT_THAT(environment, HasSubstr("\nSECRET=a b\n"));
  EXPECT_THAT(environment, HasSubstr("\nLC_ALL=de\n"));
  EXPECT_THAT(environment, Not(HasSubstr("\nLC_ALL=C\n")));
}

TEST_F(ProcessTest, AMissingProgramIsNamed) {
  const auto bare = run({"mount.no-such\n"}, patience());
  ASSERT_FALSE(bare);
  EXPECT_EQ(bare.error().code(), ENOENT);
  EXPECT_THAT(bare.error().message(), HasSubstr(R"("mount.no-such\n" in /usr/local/sbin:)"));
  const auto path = run({"/no/such"}, patience());
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().message(), R"(cannot start program "/no/such": No such file or directory)");
  EXPECT_EQ(run({}, patience()).error().code(), EINVAL);
}

TEST_F(ProcessTest, AProgramThatCannotRunIsNamed) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory / "text") << "#!/no/such/interpreter\n";
  const auto not_executable = run({directory / "text"}, patience());
  ASSERT_FALSE(not_executable);
  EXPECT_EQ(not_executable.error().code(), EACCES);
  std::filesystem::permissions(directory / "text", std::filesystem::perms::owner_all);
  const auto no_interpreter = run({directory / "text"}, patience());
  ASSERT_FALSE(no_interpreter);
  EXPECT_THAT(no_interpreter.error().message(), HasSubstr("interpreter"));
}

TEST_F(ProcessTest, FindsProgramsInTheFixedPathOnly) {
  EXPECT_TRUE(find_program("mount").ends_with("bin/mount"));
  EXPECT_EQ(find_program("no-such-program"), "");
  EXPECT_EQ(find_program(""), "");
  EXPECT_EQ(find_program("../bin/mount"), "");
}

TEST_F(ProcessTest, WaitGivesUpAndTheProgramRunsOn) {
  auto process = Process::start(shell("echo ready; exec sleep 1000"));
  ASSERT_TRUE(process);
  EXPECT_EQ(process->wait(soon()).error().code(), ETIMEDOUT);
  EXPECT_TRUE(says(*process, "ready"));
  EXPECT_FALSE(has_ended(process->pidfd()));
}

TEST_F(ProcessTest, WaitIsCancelled) {
  auto process = Process::start({"sleep", "1000"});
  ASSERT_TRUE(process);
  const UniqueFd cancel(::eventfd(1, EFD_CLOEXEC));
  EXPECT_EQ(process->wait(patience(), cancel.get()).error().code(), ECANCELED);
  EXPECT_FALSE(has_ended(process->pidfd()));
}

TEST_F(ProcessTest, WaitTwiceTellsTheSame) {
  auto process = Process::start(shell("exit 3"));
  ASSERT_TRUE(process);
  EXPECT_EQ(process->wait(patience())->code, 3);
  EXPECT_EQ(process->wait(patience())->code, 3);
  EXPECT_EQ(process->end(patience()).code, 3);
}

TEST_F(ProcessTest, EndLetsAProgramEndItself) {
  auto process = Process::start(shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"));
  ASSERT_TRUE(process);
  ASSERT_TRUE(says(*process, "ready"));
  EXPECT_EQ(to_string(process->end(patience())), "exit status 7");
}

TEST_F(ProcessTest, EndKillsAProgramThatDoesNotListen) {
  auto process = Process::start(shell("trap '' TERM; echo ready; while :; do sleep 0.01; done"));
  ASSERT_TRUE(process);
  ASSERT_TRUE(says(*process, "ready"));
  EXPECT_EQ(to_string(process->end(soon())), "signal 9 (Killed)");
  EXPECT_TRUE(eventually([] { return ::waitpid(-1, nullptr, WNOHANG) < 0; })) << "its last sleep";
}

TEST_F(ProcessTest, EndTakesTheWholeGroup) {
  auto process =
      Process::start(shell("trap 'exit 0' TERM; (trap '' TERM; echo $$ >&2; exec sleep 1000) & echo $!; wait"));
  ASSERT_TRUE(process);
  pid_t below = 0;
  ASSERT_TRUE(eventually([&] {
    const std::string output = process->output();
    below = std::count(output.begin(), output.end(), '\n') == 2 ? std::atoi(output.c_str()) : 0;
    return below != 0;
  }));
  EXPECT_TRUE(process->end(patience()).success());
  // The numbers come in either order; the one that is not the program's is the one left behind.
  int status = 0;
  const pid_t left = ::waitpid(-1, &status, 0);
  EXPECT_NE(left, process->pid());
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST_F(ProcessTest, EndEmptiesThePipeMeanwhile) {
  auto process = Process::start(shell(
      "trap 'head -c 300000 /dev/zero; echo; echo last words; exit 5' TERM; echo ready; while :; do sleep 0.01; done"));
  ASSERT_TRUE(process);
  ASSERT_TRUE(says(*process, "ready"));
  EXPECT_EQ(process->end(patience()).code, 5);
  EXPECT_THAT(process->output(), HasSubstr("last words"));
}

TEST_F(ProcessTest, TheDestructorKills) {
  pid_t pid = 0;
  {
    auto process = Process::start({"sleep", "1000"});
    ASSERT_TRUE(process);
    pid = process->pid();
    auto other = Process::start({"sleep", "1000"});
    ASSERT_TRUE(other);
    *other = *std::move(process);
    EXPECT_EQ(other->pid(), pid);
  }
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST_F(ProcessTest, RunEndsWhatIsTooSlow) {
  const auto result = run({"sleep", "1000"}, soon());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ETIMEDOUT);
  EXPECT_EQ(result.error().message(), "no end in time of sleep 1000: Connection timed out");
}

TEST_F(ProcessTest, RunIsCancelledAndTellsWhatTheProgramSaid) {
  const testing::TemporaryDirectory directory;
  const std::string fifo = directory / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const UniqueFd cancel(::open(fifo.c_str(), O_RDWR | O_CLOEXEC));
  const auto result =
      run(shell("echo connecting to filer; echo >" + fifo + "; exec sleep 1000"), patience(), cancel.get());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ECANCELED);
  EXPECT_THAT(result.error().message(), HasSubstr(R"(sh -c "echo connecting to filer; echo >)"));
  EXPECT_THAT(result.error().message(), HasSubstr(R"(said "connecting to filer")"));
}

TEST_F(ProcessTest, RunDoesNotWaitForADaemonThatHoldsThePipe) {
  const auto finished = run(shell("sleep 1000 & echo $!; exit 3"), patience());
  ASSERT_TRUE(finished) << finished.error().message();
  EXPECT_EQ(finished->status.code, 3);
  const pid_t daemon = std::atoi(finished->output.c_str());
  ASSERT_GT(daemon, 1);
  ASSERT_EQ(::kill(daemon, SIGKILL), 0) << "it is still there";
  EXPECT_EQ(collect(daemon).signal, SIGKILL);
}

}  // namespace
}  // namespace berth::sys
