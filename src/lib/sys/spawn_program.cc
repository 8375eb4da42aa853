#include "src/lib/sys/spawn_program.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <pwd.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// glibc 2.36 does not declare these extern "C" itself.
extern "C" {
#include <sys/pidfd.h>
}

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/process.h"

#ifdef __SANITIZE_THREAD__
// ThreadSanitizer takes each child of clone(2) for one of fork(2), and stops to look at a thread whose memory that
// child shares.
extern "C" int __clone(int (*)(void*), void*, int, void*, ...) noexcept;  // NOLINT: the C library's own name
#define BERTH_CLONE ::__clone
#else
#define BERTH_CLONE ::clone
#endif

namespace berth::sys {
namespace {

constexpr mode_t kUmask = 022;
constexpr std::string_view kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the child of start_apart() needs: it shares the memory of this process, and must not allocate any.
struct Start {
  const char* path;
  char* const* arguments;
  char* const* variables;
  /// The writing end of a pipe, by its number and in /proc.
  struct End {
    int number;
    const char* path;
  };
  End output;
  End errors;
  int group = -1;  ///< SpawnOptions::group
  int error = 0;   ///< errno of what failed; 0: the program has been started
};

void set_default_signals() noexcept {
  // Not by sigaction(3), which leaves out the two that are the C library's own. All zero: SIG_DFL.
  constexpr std::size_t kMaskSize = 8;
  const std::array<unsigned long, 4> action{};
  for (int signal = 1; signal < NSIG; ++signal) {
    ::syscall(SYS_rt_sigaction, signal, action.data(), nullptr, kMaskSize);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// open(2) and dup2(2) of the child. Not by the C library's names: ThreadSanitizer stands behind these, and takes a
// descriptor of the child, which has a table of its own, for one of this process.
int open_in_child(const char* path, int flags) noexcept {
  return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, flags, 0));
}

bool copy_to(int from, int to) noexcept { return from == to || ::syscall(SYS_dup3, from, to, 0) >= 0; }

bool set_descriptors(const Start& start) noexcept {
  // Refused where this process has changed its identity and has no CAP_SYS_PTRACE, as in some containers.
  char target = 0;
  const bool by_path = ::readlink(start.output.path, &target, 1) > 0;
  const int last_copied = by_path ? STDERR_FILENO : std::max(start.output.number, start.errors.number);
  if (::close_range(static_cast<unsigned>(last_copied) + 1, ~0U, CLOSE_RANGE_UNSHARE) != 0) return false;
  const int errors = by_path ? open_in_child(start.errors.path, O_WRONLY | O_CLOEXEC) : start.errors.number;
  const int output = by_path ? open_in_child(start.output.path, O_WRONLY | O_CLOEXEC) : start.output.number;
  // Standard input last: a process that was started without one may have the program's output as descriptor 0.
  if (errors < 0 || output < 0 || !copy_to(errors, STDERR_FILENO) || !copy_to(output, STDOUT_FILENO)) return false;
  const int input = open_in_child("/dev/null", O_RDONLY);
  if (input < 0 || !copy_to(input, STDIN_FILENO)) return false;
  ::close_range(STDERR_FILENO + 1, ~0U, 0);
  return true;
}

#if defined(__x86_64__)

/// clone(2) of the C library, into a control group (CLONE_INTO_CGROUP, Linux 5.7). The library has no function for it,
/// and syscall(2) cannot return on another stack.
///
/// A process that moves itself (cgroup.procs) makes the kernel wait until no processor starts or ends a process: a
/// millisecond and more, and all starts of programs on the host wait with it.
long clone_into(int group, void* stack, std::size_t size, unsigned flags, int (*child)(void*) noexcept,
                void* argument) noexcept {
  clone_args arguments{};
  arguments.flags = flags | CLONE_INTO_CGROUP;
  arguments.exit_signal = SIGCHLD;
  arguments.stack = reinterpret_cast<std::uintptr_t>(stack);
  arguments.stack_size = size;
  arguments.cgroup = static_cast<unsigned>(group);
  long result = SYS_clone3;
  // The child begins at the top of its stack, which is aligned as a call needs it, and does not come back.
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "movq %[argument], %%rdi\n\t"
      "callq *%[child]\n\t"
      "ud2\n"
      "1:"
      : "+a"(result)
      : "D"(&arguments), "S"(sizeof arguments), [child] "r"(child), [argument] "r"(argument)
      : "rcx", "r11", "cc", "memory");
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}
void enter_group_in_child(int /*group*/) noexcept {}

#else

/// The child goes there itself.
long clone_into(int /*group*/, void* stack, std::size_t size, unsigned flags, int (*child)(void*) noexcept,
                void* argument) noexcept {
  return BERTH_CLONE(child, static_cast<char*>(stack) + size, static_cast<int>(flags | SIGCHLD), argument);
}
void enter_group_in_child(int group) noexcept {
  const auto processes = static_cast<int>(::syscall(SYS_openat, group, "cgroup.procs", O_WRONLY | O_CLOEXEC, 0));
  if (processes >= 0) ::syscall(SYS_write, processes, "0", std::size_t{1});
}

#endif

int run_program(void* of_start) noexcept {
  Start& start = *static_cast<Start*>(of_start);
  if (start.group >= 0) enter_group_in_child(start.group);
  set_default_signals();
  ::setsid();
  ::umask(kUmask);  // the child's own; the daemon's is 0, and a program would make files that every user may write
  if (set_descriptors(start)) ::execve(start.path, start.arguments, start.variables);
  start.error = errno;
  ::_exit(127);
}

/// The same as posix_spawn(3), but that the child has no copy of this process's descriptors from kCopiedDescriptors on.
/// To close one may wait for a file server: FUSE sends FLUSH for each copy of an open file, and NFS writes its pages
/// back. So one share that does not answer would hold up each program of all others.
/// Errors: those of clone(2), open(2) and execve(2).
Result<pid_t> start_apart(Start& start) {
  constexpr std::size_t kStack = std::size_t{64} << 10;
  void* const stack = ::mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return fail_errno();
  // A handler would run in the child, too.
  sigset_t all;
  ::sigfillset(&all);
  sigset_t before;
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  constexpr unsigned kFlags = CLONE_VM | CLONE_VFORK | CLONE_FILES;
  pid_t pid = -1;
  if (start.group >= 0) pid = static_cast<pid_t>(clone_into(start.group, stack, kStack, kFlags, run_program, &start));
  // A group is no reason not to serve: one that has just been removed, or has a limit.
  if (pid < 0) {
    start.group = -1;
    pid = BERTH_CLONE(run_program, static_cast<char*>(stack) + kStack, static_cast<int>(kFlags | SIGCHLD), &start);
  }
  const int error = pid < 0 ? errno : start.error;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::munmap(stack, kStack);
  if (error == 0) return pid;
  if (pid > 0) ::waitpid(pid, nullptr, 0);
  return fail(error);
}

bool is_replaced(std::string_view variable) {
  constexpr std::array<std::string_view, 7> kNames{
      "LC_ALL=", "LANGUAGE=", "PATH=", "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "LIBMOUNT_UTAB="};
  for (const std::string_view name : kNames) {
    if (variable.starts_with(name)) return true;
  }
  return false;
}

/// The home directory of the user that this process runs as. A service has no HOME (systemd.exec(5)), and ssh, rclone
/// and their like look for their configuration there.
const std::string& home_directory() {
  static const std::string kHome = [] {
    std::array<char, 4096> buffer{};
    passwd entry{};
    passwd* found = nullptr;
    const int code = ::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found);
    if (code == 0 && found != nullptr) return std::string(found->pw_dir);
    return std::string(::geteuid() == 0 ? "/root" : "/");
  }();
  return kHome;
}

std::string_view name_of(std::string_view variable) noexcept { return variable.substr(0, variable.find('=')); }

/// `added` stands above what this process has itself: of two of a name a program takes the one or the other.
std::vector<std::string> environment(const std::vector<std::string>& added, bool is_clean) {
  std::vector<std::string> variables = added;
  const auto has = [&variables](std::string_view name) {
    return std::any_of(variables.begin(), variables.end(),
                       [&](const std::string& one) { return name_of(one) == name; });
  };
  const auto add = [&](std::string variable) {
    if (!has(name_of(variable))) variables.push_back(std::move(variable));
  };
  add("LC_ALL=C");
  add("PATH=" + std::string(kPath));
  for (char** variable = environ; !is_clean && *variable != nullptr; ++variable) {
    if (!is_replaced(*variable)) add(*variable);
  }
  add("HOME=" + home_directory());
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno();
  Pipe pipe{.read = UniqueFd(ends[0]), .write = UniqueFd(ends[1])};
  // The reading end alone: the program's end must block as any pipe does.
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return fail_errno();
  return pipe;
}

tl::unexpected<Error> fail_to_start(int code, const std::string& path) {
  if (code == ENOENT && ::access(path.c_str(), F_OK) == 0) {
    return fail(code, "program " + quote(path) + " is there, but not the interpreter that it names");
  }
  return fail(code, "cannot start program " + quote(path));
}

Result<std::string> path_of(const std::string& program) {
  if (program.find('/') != std::string::npos) return program;
  std::string path = find_program(program);
  if (path.empty()) return fail(ENOENT, "no program " + quote(program) + " in " + std::string(kPath));
  return path;
}

}  // namespace

std::string find_program(std::string_view program) {
  if (program.empty() || program.find('/') != std::string_view::npos) return {};
  for (const std::string_view directory : split(kPath, ':')) {
    std::string path = std::string(directory) + "/" + std::string(program);
    if (::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0) return path;
  }
  return {};
}

Result<Spawned> spawn_program(const std::vector<std::string>& argv, const std::vector<std::string>& added,
                              SpawnOptions options) {
  if (argv.empty() || argv[0].empty()) return fail(EINVAL, "no program named");
  const AsDaemon as_daemon;
  const std::string path = TRY(path_of(argv[0]));
  Pipe pipe = TRY(make_pipe());
  Pipe answer;
  if (options.answers) answer = TRY(make_pipe());
  std::vector<std::string> arguments = argv;
  std::vector<std::string> variables = environment(added, options.has_clean_environment);
  const std::vector<char*> argument_pointers = pointers(arguments);
  const std::vector<char*> variable_pointers = pointers(variables);
  // Of the first thread, whose table the others share. In the child "self" would be the child.
  const std::string ends = proc::path_of(proc::own_process(), "fd/");
  const int output_number = options.answers ? answer.write.get() : pipe.write.get();
  const std::string output = ends + std::to_string(output_number);
  const std::string errors = ends + std::to_string(pipe.write.get());
  Start start{.path = path.c_str(),
              .arguments = argument_pointers.data(),
              .variables = variable_pointers.data(),
              .output = {output_number, output.c_str()},
              .errors = {pipe.write.get(), errors.c_str()},
              .group = options.group};
  const Result<pid_t> spawned = [&] {
    const ProgramOomScore score;
    return start_apart(start);
  }();
  if (!spawned) return fail_to_start(spawned.error().code(), path);
  const pid_t pid = *spawned;
  UniqueFd pidfd(::pidfd_open(pid, 0));
  if (!pidfd) {
    const Error error = Error::last();
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return fail(error.within("cannot watch program " + quote(path)));
  }
  limit_program(pid);
  give_up_oom_score(pidfd.get());
  return Spawned{
      .pid = pid, .pidfd = std::move(pidfd), .output = std::move(pipe.read), .answer = std::move(answer.read)};
}

}  // namespace berth::sys
