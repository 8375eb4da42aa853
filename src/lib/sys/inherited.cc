#include "src/lib/sys/inherited.h"

#include <fcntl.h>
#include <linux/ioprio.h>
#include <pthread.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <string>
#include <string_view>

#include "src/lib/base/mutex.h"
#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"

namespace berth::sys {
namespace {

constexpr rlim_t kStack = rlim_t{8} << 20;
/// systemd's defaults for services.
constexpr rlim_t kProgramFiles = 1024;
constexpr rlim_t kMostProgramFiles = 524288;
constexpr unsigned long kTimerSlack = 50'000;  ///< nanoseconds

/// A limit that is lifted.
struct Limit {
  __rlimit_resource_t resource;
  std::string_view what;
  std::string_view option;     ///< of ulimit (bash(1))
  std::string_view directive;  ///< of systemd.exec(5)
  bool ends_us;                ///< what reaches it fails or is killed, root too
};

constexpr std::array<Limit, 10> kLifted{{
    {RLIMIT_FSIZE, "the size of files", "-f", "LimitFSIZE", true},
    {RLIMIT_CPU, "processor time", "-t", "LimitCPU", true},
    {RLIMIT_AS, "virtual memory", "-v", "LimitAS", true},
    {RLIMIT_DATA, "the data segment", "-d", "LimitDATA", true},
    {RLIMIT_RTTIME, "real-time processor time", "-R", "LimitRTTIME", true},
    {RLIMIT_RSS, "resident memory", "-m", "LimitRSS", false},
    {RLIMIT_NPROC, "processes", "-u", "LimitNPROC", false},
    {RLIMIT_MEMLOCK, "locked memory", "-l", "LimitMEMLOCK", false},
    {RLIMIT_SIGPENDING, "pending signals", "-i", "LimitSIGPENDING", false},
    {RLIMIT_MSGQUEUE, "message queues", "-q", "LimitMSGQUEUE", false},
}};

Result<> lift(const Limit& limit) {
  const struct rlimit none { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
  if (::setrlimit(limit.resource, &none) == 0) return {};
  const int reason = errno;
  struct rlimit now {};
  if (::getrlimit(limit.resource, &now) != 0) return fail_errno();
  now.rlim_cur = now.rlim_max;
  if (::setrlimit(limit.resource, &now) != 0) return fail_errno();
  if (now.rlim_max == RLIM_INFINITY || !limit.ends_us) return {};
  return fail(reason, "the limit of " + std::string(limit.what) + " is " + std::to_string(now.rlim_max) +
                          " and cannot be lifted: start it without (ulimit " + std::string(limit.option) +
                          ", systemd: " + std::string(limit.directive) + "=infinity), or with CAP_SYS_RESOURCE");
}

rlim_t most_open_files() noexcept {
  rlim_t most = 0;
  const Result<std::string> text = read_file("/proc/sys/fs/nr_open", 64);
  if (text) std::from_chars(text->data(), text->data() + text->size(), most);
  return most;
}

Result<> lift_open_files() noexcept {
  struct rlimit now {};
  if (::getrlimit(RLIMIT_NOFILE, &now) != 0) return fail_errno();
  const rlim_t most = std::max(most_open_files(), now.rlim_max);
  const struct rlimit all { .rlim_cur = most, .rlim_max = most };
  if (::setrlimit(RLIMIT_NOFILE, &all) == 0) return {};
  now.rlim_cur = now.rlim_max;
  return ::setrlimit(RLIMIT_NOFILE, &now) == 0 ? Result<>() : fail_errno();
}

/// glibc takes the size of threads' stacks from the limit as it was when the program began.
Result<> settle_stack() noexcept {
  struct rlimit now {};
  if (::getrlimit(RLIMIT_STACK, &now) != 0) return fail_errno();
  if (now.rlim_cur < kStack) {
    now.rlim_cur = kStack;
    now.rlim_max = std::max(now.rlim_max, kStack);
    if (::setrlimit(RLIMIT_STACK, &now) != 0) {
      return fail(errno,
                  "the limit of the stack is below 8 MiB and cannot be raised: start it with more (ulimit -s 8192, "
                  "systemd: LimitSTACK=8M)");
    }
  }
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  int code = ::pthread_attr_setstacksize(&attributes, kStack);
  if (code == 0) code = ::pthread_setattr_default_np(&attributes);
  ::pthread_attr_destroy(&attributes);
  return code == 0 ? Result<>() : fail(code);
}

/// Signals that this process takes by their default action or through a signalfd.
bool is_heard(int signal) noexcept {
  constexpr std::array<int, 11> kHeard{SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGABRT, SIGSEGV,
                                       SIGBUS,  SIGILL, SIGFPE,  SIGTRAP, SIGSYS};
  return std::find(kHeard.begin(), kHeard.end(), signal) != kHeard.end();
}

Result<int> own_oom_score() {
  constexpr std::size_t kLongest = 64;
  const std::string text = TRY(read_file("/proc/self/oom_score_adj", kLongest));
  int score = 0;
  std::from_chars(text.data(), text.data() + text.size(), score);
  return score;
}

Result<> write_oom_score(const std::string& path, int score) {
  const UniqueFd file = TRY(open_at(AT_FDCWD, path.c_str(), O_WRONLY));
  const std::string text = std::to_string(score);
  if (::write(file.get(), text.data(), text.size()) < 0) return fail_errno();
  return {};
}

}  // namespace

Result<> open_standard_descriptors() noexcept {
  for (;;) {
    const int lowest = ::open("/dev/null", O_RDWR);
    if (lowest < 0) return fail_errno();
    if (lowest <= STDERR_FILENO) continue;
    ::close(lowest);
    return {};
  }
}

void close_other_descriptors() noexcept { ::close_range(STDERR_FILENO + 1, ~0U, 0); }

void settle_signals() noexcept {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    action.sa_handler = is_heard(signal) ? SIG_DFL : SIG_IGN;
    ::sigaction(signal, &action, nullptr);  // refused for SIGKILL, SIGSTOP and glibc's own
  }
}

void unblock_signals() noexcept {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

Result<> lift_limits() {
  for (const Limit& limit : kLifted) TRY_VOID(lift(limit));
  TRY_VOID(settle_stack());
  return lift_open_files();
}

Result<> settle_scheduling() noexcept {
  const sched_param none{};
  const int policy = ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
  if ((policy == SCHED_BATCH || policy == SCHED_IDLE) && ::sched_setscheduler(0, SCHED_OTHER, &none) != 0) {
    return fail(errno, "cannot leave the scheduling policy that it was started with (chrt(1))");
  }
  if (::getpriority(PRIO_PROCESS, 0) > 0 && ::setpriority(PRIO_PROCESS, 0, 0) != 0) {
    return fail(errno, "cannot leave the niceness that it was started with (nice(1))");
  }
  const auto io = static_cast<int>(::syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0));
  if (IOPRIO_PRIO_CLASS(io) == IOPRIO_CLASS_IDLE) ::syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
  ::prctl(PR_SET_TIMERSLACK, kTimerSlack, 0, 0, 0);
  constexpr unsigned long kAsk = 0xffffffff;
  if (::personality(kAsk) != PER_LINUX) ::personality(PER_LINUX);
  return {};
}

Result<> set_oom_score(int score) noexcept { return write_oom_score("/proc/self/oom_score_adj", score); }

Result<> settle_oom_score() noexcept {
  const int score = TRY(own_oom_score());
  if (score <= kKeeperOomScore || set_oom_score(kKeeperOomScore) || score <= 0) return {};
  return set_oom_score(0);
}

namespace {

/// Its holder writes to /proc/self, which does not block: the only system call under a mutex.
Mutex starts_mutex;
std::size_t starts BERTH_GUARDED_BY(starts_mutex) = 0;
int score_between_starts BERTH_GUARDED_BY(starts_mutex) = 0;

}  // namespace

ProgramOomScore::ProgramOomScore() noexcept {
  MutexLock lock(starts_mutex);
  if (starts++ > 0) return;
  score_between_starts = own_oom_score().value_or(0);
  if (score_between_starts > kProgramOomScore) static_cast<void>(set_oom_score(kProgramOomScore));
}

ProgramOomScore::~ProgramOomScore() {
  MutexLock lock(starts_mutex);
  if (--starts > 0 || score_between_starts <= kProgramOomScore) return;
  static_cast<void>(set_oom_score(score_between_starts));
}

void give_up_oom_score(int pidfd) noexcept {
  if (own_oom_score().value_or(0) >= kProgramOomScore) return;
  const pid_t program = proc::process_of(pidfd);
  // One that has ended needs none.
  if (program > 0) static_cast<void>(write_oom_score(proc::path_of(program, "oom_score_adj"), kProgramOomScore));
}

void limit_program(pid_t program) noexcept {
  struct rlimit now {};
  if (::getrlimit(RLIMIT_NOFILE, &now) != 0) return;
  now.rlim_max = std::min(now.rlim_max, kMostProgramFiles);
  now.rlim_cur = std::min(now.rlim_max, kProgramFiles);
  ::prlimit(program, RLIMIT_NOFILE, &now, nullptr);
}

void make_room_for_descriptors(unsigned count) noexcept {
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  count = static_cast<unsigned>(std::min<rlim_t>(count, limit.rlim_cur));
  if (count < 2) return;
  const UniqueFd one(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!one) return;
  const UniqueFd highest(::fcntl(one.get(), F_DUPFD_CLOEXEC, static_cast<int>(count - 1)));
}

void occupy_copied_descriptors() noexcept {
  UniqueFd next;
  do {
    static_cast<void>(next.release());
    next = UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
  } while (next && next.get() < kCopiedDescriptors);
}

}  // namespace berth::sys
