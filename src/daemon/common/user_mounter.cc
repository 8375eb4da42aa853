#include "src/daemon/common/user_mounter.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "src/daemon/common/namespace_mount.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/process.h"

namespace berth::daemon {
namespace {

enum class Wanted : char { kMount = 'm', kUnmount = 'u', kIsMounted = '?' };

Result<std::pair<UniqueFd, UniqueFd>> make_pair(int kind) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, kind | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail_errno();
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

/// A message of one number, with a descriptor where there is one (unix(7), SCM_RIGHTS).
bool send_answer(int socket, int number, int descriptor) noexcept {
  iovec part{&number, sizeof number};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0;
}

/// The descriptor in the next message; `bytes`: what else is in it.
Result<UniqueFd> receive(int socket, void* bytes, std::size_t size) noexcept {
  iovec part{bytes, size};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return fail_errno();
  if (got == 0) return fail(ECONNRESET);
  UniqueFd descriptor;
  const cmsghdr* const rights = CMSG_FIRSTHDR(&message);
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(rights), sizeof number);
    descriptor = UniqueFd(number);
  }
  return descriptor;
}

/// Executes fusermount3 to its end; `channel`: where it sends the connection to (_FUSE_COMMFD, lib/mount_util.c of
/// libfuse), or -1, and it says nothing.
bool run_fusermount(const std::string& program, std::vector<std::string> arguments, int channel) noexcept {
  const pid_t child = ::fork();
  if (child == 0) {
    std::string variable = "_FUSE_COMMFD=" + std::to_string(channel);
    std::array<char*, 2> environment{variable.data(), nullptr};
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    if (channel >= 0) {
      ::fcntl(channel, F_SETFD, 0);
    } else if (const int nowhere = ::open("/dev/null", O_RDWR | O_CLOEXEC); nowhere >= 0) {
      ::dup2(nowhere, STDERR_FILENO);
    }
    ::execve(program.c_str(), argv.data(), environment.data());
    ::_exit(127);
  }
  int status = -1;
  while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/// The process.
class Mounter {
 public:
  Mounter(std::string program, int socket) : program_(std::move(program)), socket_(socket) {}

  void run() noexcept {
    std::array<char, PATH_MAX + 1> request{};
    for (;;) {
      const ssize_t size = ::recv(socket_, request.data(), request.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      if (size < 1) return;
      const std::string directory(request.data() + 1, static_cast<std::size_t>(size) - 1);
      UniqueFd device;
      const int number = answer(static_cast<Wanted>(request[0]), directory, device);
      send_answer(socket_, number, device.get());
    }
  }

 private:
  int answer(Wanted wanted, const std::string& directory, UniqueFd& device) {
    switch (wanted) {
      case Wanted::kMount:
        return mount(directory, device);
      case Wanted::kUnmount:
        return unmount(directory);
      case Wanted::kIsMounted:
        return is_mounted(directory) ? 1 : 0;
    }
    return -EINVAL;
  }

  int mount(const std::string& directory, UniqueFd& device) {
    if (is_mounted(directory) && is_dead(directory)) unmount(directory);
    const Result<std::pair<UniqueFd, UniqueFd>> ends = make_pair(SOCK_STREAM);
    if (!ends) return -ends.error().code();
    const std::string options = "rw,nosuid,nodev,default_permissions,fsname=berth,subtype=berth";
    if (!run_fusermount(program_, {program_, "-o", options, "--", directory}, ends->first.get())) return -EPERM;
    char byte = 0;
    Result<UniqueFd> mounted = receive(ends->second.get(), &byte, sizeof byte);
    if (!mounted || !*mounted) return -EPERM;
    device = std::move(*mounted);
    return 0;
  }

  int unmount(const std::string& directory) {
    if (run_fusermount(program_, {program_, "-u", "--", directory}, -1)) return 0;
    if (!is_mounted(directory)) return 0;
    return run_fusermount(program_, {program_, "-u", "-z", "--", directory}, -1) ? 1 : -EBUSY;
  }

  /// Attributes of its root may be cached, a name that was never asked for is not. One that does not answer has been
  /// refused before (prepare_namespace_directory()).
  static bool is_dead(const std::string& directory) {
    const std::string unknown = directory + "/.probe-" + std::to_string(::getpid());
    return ::access(unknown.c_str(), F_OK) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
  }

  static bool is_mounted(const std::string& directory) {
    const Result<std::vector<sys::MountEntry>> table = sys::read_mount_table();
    return table && std::any_of(table->begin(), table->end(), [&directory](const sys::MountEntry& entry) {
             return entry.target == directory && entry.type == kNamespaceType;
           });
  }

  const std::string program_;
  const int socket_;
};

Result<int> ask(int socket, Wanted wanted, const std::string& directory, UniqueFd* device) {
  const std::string request = static_cast<char>(wanted) + directory;
  if (::send(socket, request.data(), request.size(), MSG_NOSIGNAL) < 0) return fail_errno();
  int number = 0;
  UniqueFd received = TRY(receive(socket, &number, sizeof number));
  if (number < 0) return fail(-number);
  if (device != nullptr) *device = std::move(received);
  return number;
}

}  // namespace

Result<UserMounter> UserMounter::start() {
  const std::string program = sys::find_program("fusermount3");
  if (program.empty()) return fail(ENOENT, "there is no fusermount3 (on Debian: apt install fuse3)");
  auto [mine, its] = TRY(make_pair(SOCK_SEQPACKET));
  const pid_t child = ::fork();
  if (child < 0) return fail_errno();
  if (child > 0) return UserMounter(std::move(mine));
  mine.reset();
  ::prctl(PR_SET_NAME, "berth-mounter");
  ::setsid();  // the terminal's Ctrl-C is the keeper's
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  Mounter(program, its.get()).run();
  ::_exit(EXIT_SUCCESS);
}

Result<UniqueFd> UserMounter::mount(const std::string& directory) const {
  UniqueFd device;
  TRY(ask(socket_.get(), Wanted::kMount, directory, &device));
  if (!device) return fail(EPERM);
  return device;
}

Result<bool> UserMounter::unmount(const std::string& directory) const {
  return TRY(ask(socket_.get(), Wanted::kUnmount, directory, nullptr)) == 1;
}

Result<bool> UserMounter::is_mounted(const std::string& directory) const {
  return TRY(ask(socket_.get(), Wanted::kIsMounted, directory, nullptr)) == 1;
}

}  // namespace berth::daemon
