#include "src/lib/sys/spawn_program.h"

#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <spawn.h>
#include <sys/stat.h>
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
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/inherited.h"
#include "src/lib/sys/process.h"

namespace berth::sys {
namespace {

constexpr mode_t kUmask = 022;
constexpr std::string_view kPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// posix_spawn_file_actions_t and posix_spawnattr_t as Process::start() promises them.
class SpawnSettings {
 public:
  SpawnSettings(int output, int errors) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    // Standard input last: `output` may be descriptor 0 of a process that was started without.
    failed_ |= ::posix_spawn_file_actions_adddup2(&actions_, errors, STDERR_FILENO);
    failed_ |= ::posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO);
    failed_ |= ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    // All of berth's are close-on-exec; those of libraries may not be.
    failed_ |= ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);

    sigset_t all;
    ::sigfillset(&all);
    sigset_t none;
    ::sigemptyset(&none);
    failed_ |= ::posix_spawnattr_setsigdefault(&attributes_, &all);
    failed_ |= ::posix_spawnattr_setsigmask(&attributes_, &none);
    constexpr int kFlags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID;
    failed_ |= ::posix_spawnattr_setflags(&attributes_, static_cast<short>(kFlags));
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }

  [[nodiscard]] bool failed() const noexcept { return failed_ != 0; }
  [[nodiscard]] const posix_spawn_file_actions_t* actions() const noexcept { return &actions_; }
  [[nodiscard]] const posix_spawnattr_t* attributes() const noexcept { return &attributes_; }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
  int failed_ = 0;
};

/// The umask of programs, for as long as it lives. The daemon's own is 0, so that its callers' umasks apply. With it, a
/// program would make files that every user may write.
class ProgramUmask {
 public:
  ProgramUmask() noexcept {
    ::unshare(CLONE_FS);  // this thread's umask alone (umask(2), C library/kernel differences)
    before_ = ::umask(kUmask);
  }
  ~ProgramUmask() { ::umask(before_); }
  ProgramUmask(const ProgramUmask&) = delete;
  ProgramUmask& operator=(const ProgramUmask&) = delete;

 private:
  mode_t before_ = 0;
};

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
  const SpawnSettings settings(options.answers ? answer.write.get() : pipe.write.get(), pipe.write.get());
  if (settings.failed()) return fail(ENOMEM);
  std::vector<std::string> arguments = argv;
  std::vector<std::string> variables = environment(added, options.has_clean_environment);

  pid_t pid = 0;
  const int code = [&] {
    const ProgramUmask umask;
    const ProgramOomScore score;
    return ::posix_spawn(&pid, path.c_str(), settings.actions(), settings.attributes(), pointers(arguments).data(),
                         pointers(variables).data());
  }();
  if (code != 0) return fail_to_start(code, path);
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
