#include "tests/mount/local_sshd.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <fstream>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/process.h"
#include "tests/mount/text_of.h"

namespace berth::test {
namespace {

/// sshd insists on an absolute path, for it executes itself again.
constexpr const char* kSshd = "/usr/sbin/sshd";
constexpr const char* kPrivilegeSeparation = "/run/sshd";

Result<> make_key(const std::string& path) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const sys::Finished made =
      TRY(sys::run({"ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "berth-test", "-f", path}, deadline));
  if (!made.status.success()) return fail(EIO, "ssh-keygen: " + made.output);
  return {};
}

/// A port that was free when it was tried.
Result<unsigned> free_port() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  if (!socket || ::bind(socket.get(), generic, size) != 0 || ::getsockname(socket.get(), generic, &size) != 0) {
    return fail_errno();
  }
  return static_cast<unsigned>(ntohs(address.sin_port));
}

void write_configuration(const std::string& directory, unsigned port) {
  std::ofstream(directory + "/sshd_config")
      << "Port " << port << "\nListenAddress 127.0.0.1\nHostKey " << directory << "/host_key\nAuthorizedKeysFile "
      << directory
      << "/key.pub\nPidFile none\nPermitRootLogin yes\nStrictModes no\nUsePAM no\n"
         "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
         "MaxStartups 1000\nSubsystem sftp internal-sftp\n";
  std::ofstream(directory + "/known_hosts") << "[127.0.0.1]:" << port << " " << text_of(directory + "/host_key.pub");
}

/// Starts sshd with its standard error on `output`.
Result<pid_t> spawn(const std::string& directory, int output) {
  const std::string configuration = directory + "/sshd_config";
  const std::vector<const char*> argv = {kSshd, "-D", "-e", "-f", configuration.c_str(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_RDWR, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, kSshd, &actions, nullptr, const_cast<char* const*>(argv.data()), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail(error, kSshd);
  return pid;
}

/// Reads what sshd says until it says that it listens. Its log has no other reader: the pipe is kept by sshd alone and
/// what it writes later is lost (SIGPIPE is ignored by sshd).
Result<> await_listening(int output) {
  std::string said;
  std::array<char, 512> buffer{};
  while (said.find("Server listening on") == std::string::npos) {
    const ssize_t count = ::read(output, buffer.data(), buffer.size());
    if (count <= 0) return fail(EIO, "sshd: " + said);
    said.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<LocalSshd>> LocalSshd::start(const std::string& directory) {
  if (::access(kSshd, X_OK) != 0) return fail(ENOENT, "sshd is not installed; on Debian: apt install openssh-server");
  // Where the private /run of the mount tests hides the system's.
  if (::mkdir(kPrivilegeSeparation, 0755) != 0 && errno != EEXIST)
    return fail(Error::last().within(kPrivilegeSeparation));
  TRY_VOID(make_key(directory + "/host_key"));
  TRY_VOID(make_key(directory + "/key"));
  // Another process may take the port first; sshd ends then.
  for (int tries = 1;; ++tries) {
    const unsigned port = TRY(free_port());
    write_configuration(directory, port);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail_errno();
    const UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t pid = TRY(spawn(directory, writer.get()));
    writer.reset();
    std::unique_ptr<LocalSshd> sshd(new LocalSshd(directory, pid, port));
    const Result<> listening = await_listening(reader.get());
    if (listening) return sshd;
    if (tries == 5) return fail(listening.error());
  }
}

LocalSshd::~LocalSshd() {
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::string LocalSshd::options() const {
  return "ssh_command=ssh -F /dev/null,port=" + std::to_string(port_) + ",IdentityFile=" + directory_ +
         "/key,UserKnownHostsFile=" + directory_ + "/known_hosts,GlobalKnownHostsFile=/dev/null," +
         "StrictHostKeyChecking=yes,IdentitiesOnly=yes,PasswordAuthentication=no";
}

}  // namespace berth::test
