#include "tests/mount/hung_share.h"

#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>

#include "tests/mount/text_of.h"

namespace berth::test {
void HungShareTest::SetUp() {
  if (::access("/usr/bin/sshfs", X_OK) != 0 || ::access("/usr/lib/openssh/sftp-server", X_OK) != 0) {
    GTEST_SKIP() << "takes sshfs and sftp-server";
  }
  // sshfs takes it for ssh.
  ASSERT_TRUE(ok(server_.write_file("pipe",
                                    "#!/bin/sh\nSHARE=$(echo \"$*\" | grep -o 'host-r[0-9]*' | head -1)\n"
                                    "export SHARE\nexec /usr/lib/openssh/sftp-server\n")));
  ASSERT_EQ(::chmod(server_.path("pipe").c_str(), 0755), 0);
  ASSERT_EQ(::chmod(server_.directory().c_str(), 0755), 0);
}

void HungShareTest::TearDown() { all_go_on(); }

void HungShareTest::start(int remote, const std::string& berth_lines, const std::string& share_lines) {
  remote_ = remote;
  std::string config = "[berth]\ncrash_limit = 1000\n" + berth_lines;
  for (int i = 0; i < remote; ++i) {
    const std::string number = std::to_string(i);
    const std::string far = server_.make_directory("far" + number);
    const std::string near = server_.make_directory("near" + number);
    ASSERT_EQ(::chmod(far.c_str(), 0777), 0);
    ASSERT_TRUE(ok(server_.write_file("far" + number + "/file", "far away")));
    ASSERT_TRUE(ok(server_.write_file("near" + number + "/file", "near")));
    config +=
        "[share.r" + number + "]\ntype = \"fuse.sshfs\"\nsource = \"root@host-r" + number + ":" + far +
        "\"\noptions = \"allow_other,cache=no,attr_timeout=0,entry_timeout=0,ssh_command=" + server_.path("pipe") +
        "\"\nattr_timeout = \"0\"\n" + share_lines;
    config += "[share.h" + number + "]\ntype = \"bind\"\nsource = \"" + near +
              "\"\naccess = \"proxy\"\nattr_timeout = \"0\"\n";
  }
  ASSERT_TRUE(ok(server_.start(config)));
}

void HungShareTest::touch_remote(int count) {
  for (int i = 0; i < count; ++i) ASSERT_EQ(read_one(in("r" + std::to_string(i) + "/file")), 0);
}

std::vector<pid_t> HungShareTest::other_sides(int share) const {
  std::vector<pid_t> found = server_.processes();
  const std::string mark = "SHARE=host-r" + std::to_string(share) + '\0';
  std::erase_if(found, [&](pid_t pid) {
    const std::string process = "/proc/" + std::to_string(pid);
    return text_of(process + "/environ").find(mark) == std::string::npos ||
           text_of(process + "/cmdline").find("sftp-server") == std::string::npos;
  });
  return found;
}

void HungShareTest::hang(int share) {
  const std::vector<pid_t> sides = other_sides(share);
  ASSERT_FALSE(sides.empty());
  for (const pid_t pid : sides) stop_process(pid);
}

void HungShareTest::go_on(int share) {
  for (const pid_t pid : other_sides(share)) ::kill(pid, SIGCONT);
}

pid_t HungShareTest::helper(int share) const {
  return server_.read_json("shares/r" + std::to_string(share) + "/status.json").value("helper_pid", 0);
}

void HungShareTest::kill_helper(int share) const {
  const pid_t pid = helper(share);
  ASSERT_NE(pid, 0);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return helper(share) != pid; }));
}

void HungShareTest::all_go_on() {
  for (int i = 0; i < remote_; ++i) go_on(i);
}

std::size_t HungShareTest::threads() const {
  const auto tasks = std::filesystem::directory_iterator("/proc/" + std::to_string(server()) + "/task");
  return static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

Callers::~Callers() {
  kill(SIGKILL);
  all_end();
}

void Callers::add(const std::function<int()>& what, uid_t uid, int count) {
  for (int i = 0; i < count; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      if (uid != 0 && (::setgroups(0, nullptr) != 0 || ::setgid(uid) != 0 || ::setuid(uid) != 0)) ::_exit(255);
      ::_exit(what());
    }
    running_.push_back(pid);
  }
}

void Callers::kill(int signal) const {
  for (const pid_t pid : running_) ::kill(pid, signal);
}

std::size_t Callers::running() {
  std::erase_if(running_, [this](pid_t pid) {
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) != pid) return false;
    statuses_.push_back(status);
    return true;
  });
  return running_.size();
}

bool Callers::all_end() {
  return eventually([this] { return running() == 0; });
}

std::size_t Callers::ended_with(int status) const {
  return static_cast<std::size_t>(std::count(statuses_.begin(), statuses_.end(), status));
}

bool Callers::all_wait() {
  const bool all = eventually([this] {
    return std::all_of(running_.begin(), running_.end(), [](pid_t pid) {
      const std::string wchan = text_of("/proc/" + std::to_string(pid) + "/wchan");
      return wchan.find("request_wait_answer") != std::string::npos || wchan.find("fuse") != std::string::npos ||
             wchan.find("folio_wait") != std::string::npos || wchan.find("filemap_get_folio") != std::string::npos ||
             wchan.find("rwsem") != std::string::npos || wchan.find("path_openat") != std::string::npos ||
             wchan.find("filename_create") != std::string::npos || wchan.find("lock_rename") != std::string::npos ||
             wchan.find("d_alloc_parallel") != std::string::npos || wchan.find("d_wait_lookup") != std::string::npos;
    });
  });
  for (const pid_t pid : running_) {
    if (!all) ADD_FAILURE() << pid << " is in " << text_of("/proc/" + std::to_string(pid) + "/wchan");
  }
  return all;
}

void stop_process(pid_t pid) {
  ASSERT_EQ(::kill(pid, SIGSTOP), 0);
  const auto is_stopped = [](const std::filesystem::directory_entry& thread) {
    const std::string stat = text_of(thread.path() / "stat");
    return stat.find(") T ") != std::string::npos;
  };
  EXPECT_TRUE(eventually([&] {
    const auto threads = std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task");
    return std::all_of(begin(threads), end(threads), is_stopped);
  }));
}

int read_one(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  char byte = 0;
  if (!fd || ::read(fd.get(), &byte, 1) < 0) return errno;
  return 0;
}

int look_at(const std::string& path) {
  struct stat attributes {};
  return ::stat(path.c_str(), &attributes) != 0 ? errno : 0;
}

}  // namespace berth::test
