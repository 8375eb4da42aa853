#include "tests/mount/berth_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <set>
#include <sstream>
#include <thread>

extern char** environ;

namespace berth::test {
namespace {

using Clock = std::chrono::steady_clock;

// The one deadline of these tests: it decides only how long a broken server is waited for.
constexpr auto kDeadline = std::chrono::seconds(30);
constexpr std::size_t kLogShown = 16 * 1024;

const char* program() {
  const char* path = std::getenv("BERTH");
  return path == nullptr ? "" : path;
}

Result<std::string> slurp(const std::string& path, std::size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno();
  std::string text;
  char chunk[8192];
  while (text.size() < limit) {
    const ssize_t n = ::read(fd.get(), chunk, std::min(sizeof chunk, limit - text.size()));
    if (n < 0) return fail_errno();
    if (n == 0) break;
    text.append(chunk, static_cast<std::size_t>(n));
  }
  return text;
}

Result<> spill(const std::string& path, int flags, std::string_view text) {
  const UniqueFd fd(::open(path.c_str(), flags | O_WRONLY | O_CLOEXEC, 0644));
  if (!fd) return fail_errno();
  const ssize_t n = ::write(fd.get(), text.data(), text.size());
  if (n < 0) return fail_errno();
  if (static_cast<std::size_t>(n) != text.size()) return fail(EIO, "short write to " + path);
  return {};
}

std::string proc(pid_t pid, std::string_view name) { return "/proc/" + std::to_string(pid) + "/" + std::string(name); }

std::vector<pid_t> all_pids() {
  std::vector<pid_t> pids;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") == std::string::npos) pids.push_back(std::stoi(name));
  }
  return pids;
}

bool has_mark(pid_t pid, const std::string& mark) {
  const auto environment = slurp(proc(pid, "environ"), 1 << 20);
  return environment && (*environment + '\0').find(mark + '\0') != std::string::npos;
}

// 0 when it is gone. The fourth field of stat, after a name that may hold anything but its last ')'.
pid_t parent_of(pid_t pid) {
  const auto stat = slurp(proc(pid, "stat"), 4096);
  if (!stat || stat->rfind(')') == std::string::npos) return 0;
  std::istringstream fields(stat->substr(stat->rfind(')') + 1));
  char state = 0;
  pid_t parent = 0;
  fields >> state >> parent;
  return parent;
}

std::size_t entries_in(const std::string& directory) {
  std::error_code error;
  const std::filesystem::directory_iterator begin(directory, error);
  return error ? 0 : static_cast<std::size_t>(std::distance(begin, std::filesystem::directory_iterator()));
}

std::size_t lines_of(const std::string& path) {
  const auto text = slurp(path, 64 << 20);
  return text ? static_cast<std::size_t>(std::count(text->begin(), text->end(), '\n')) : 0;
}

// Those below `top` that are of its own file system: what is mounted there is counted, but not looked into.
std::size_t directories_below(const std::string& top) {
  struct stat own {};
  if (::stat(top.c_str(), &own) != 0) return 0;
  std::size_t count = 0;
  std::error_code error;
  auto at = std::filesystem::recursive_directory_iterator(top, error);
  for (; !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    struct stat seen {};
    if (::lstat(at->path().c_str(), &seen) != 0 || !S_ISDIR(seen.st_mode)) continue;
    ++count;
    if (seen.st_dev != own.st_dev) at.disable_recursion_pending();
  }
  return count;
}

// Targets of mounts of this mount namespace at or below `top`.
std::vector<std::string> mounts_below(const std::string& top) {
  std::ifstream table("/proc/self/mountinfo");
  std::vector<std::string> found;
  for (std::string line; std::getline(table, line);) {
    std::istringstream fields(line);
    std::string target;
    for (int i = 0; i < 5; ++i) fields >> target;
    if (target == top || target.starts_with(top + "/")) found.push_back(target);
  }
  return found;
}

}  // namespace

std::string why_not() {
  if (::geteuid() != 0) return "needs root";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "needs /dev/fuse";
  if (*program() == '\0') return "the environment variable BERTH must name the program";
  return "";
}

Result<> enter_private_mount_namespace() {
  if (::unshare(CLONE_NEWNS) != 0) return fail_errno();
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return fail_errno();
  if (::mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") != 0) return fail_errno();
  return {};
}

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = Clock::now() + kDeadline;
  while (!condition()) {
    if (Clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

std::ostream& operator<<(std::ostream& out, const Footprint& footprint) {
  return out << footprint.processes << " processes, " << footprint.threads << " threads, " << footprint.descriptors
             << " descriptors, " << footprint.mounts << " mounts, " << footprint.directories << " directories";
}

std::ostream& operator<<(std::ostream& out, const Ending& ending) {
  if (ending.signal != 0) return out << "signal " << ending.signal;
  return out << "exit status " << ending.code;
}

BerthServer::BerthServer() {
  std::string name = (std::filesystem::temp_directory_path() / "berth-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    ADD_FAILURE() << "mkdtemp " << name << ": " << Error::last().message();
    return;
  }
  ::chmod(name.c_str(), 0755);  // callers other than root come through here
  directory_ = std::filesystem::canonical(name);
  mark_ = "BERTH_TEST=" + directory_;
  make_directory("namespace");
}

BerthServer::~BerthServer() {
  if (pid_ > 0) stop();
  if (testing::Test::HasFailure()) {
    const std::string text = log();
    std::cerr << "--- log of the server:\n" << text.substr(text.size() - std::min(text.size(), kLogShown)) << "---\n";
  }
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
  if (error) ADD_FAILURE() << "cannot remove " << directory_ << ": " << error.message();
}

std::string BerthServer::path(std::string_view relative) const { return directory_ + "/" + std::string(relative); }

std::string BerthServer::make_directory(std::string_view relative) const {
  std::error_code error;
  std::filesystem::create_directories(path(relative), error);
  if (error) ADD_FAILURE() << "cannot make " << path(relative) << ": " << error.message();
  return path(relative);
}

Result<> BerthServer::write_file(std::string_view relative, std::string_view content) const {
  return spill(path(relative), O_CREAT | O_TRUNC, content);
}

Result<std::string> BerthServer::read_file(std::string_view relative) const { return slurp(path(relative), 1 << 20); }

std::string BerthServer::in_namespace(std::string_view relative) const {
  return namespace_path() + "/" + std::string(relative);
}

Result<> BerthServer::start(std::string_view config, const std::vector<std::string>& arguments) {
  TRY_VOID(write_file("berth.toml", config));
  std::vector<std::string> all{"serve",          "--config",    path("berth.toml"), "--namespace",
                               namespace_path(), "--state-dir", path("state")};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return start_program(all);
}

Result<> BerthServer::start_shares(const std::vector<std::pair<std::string, std::string>>& shares,
                                   const std::vector<std::string>& arguments) {
  std::string config;
  for (const auto& [name, source] : shares) {
    config += "[share." + name + "]\ntype = \"bind\"\nsource = \"" + source + "\"\naccess = \"proxy\"\n";
  }
  return start(config, arguments);
}

Result<> BerthServer::start_program(const std::vector<std::string>& arguments) {
  if (pid_ > 0) return fail(EBUSY, "the last one still runs");
  ::unlink(path("notify").c_str());
  notify_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path("notify").copy(address.sun_path, sizeof address.sun_path - 1);
  // bind(2) takes every kind of address through this one type.
  if (::bind(notify_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return fail_errno();

  std::vector<std::string> words = launcher_;
  words.emplace_back(program());
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables{mark_, "NOTIFY_SOCKET=" + path("notify")};
  std::vector<char*> argv, envp;
  for (std::string& word : words) argv.push_back(word.data());
  for (char** variable = environ; *variable != nullptr; ++variable) envp.push_back(*variable);
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);

  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, 1, path("log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  ::posix_spawn_file_actions_adddup2(&files, 1, 2);
  const int error = ::posix_spawnp(&pid_, words.front().c_str(), &files, nullptr, argv.data(), envp.data());
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) {
    pid_ = -1;
    return fail(error, program());
  }
  pidfd_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  return wait_until_ready();
}

Result<> BerthServer::wait_until_ready() {
  const auto deadline = Clock::now() + kDeadline;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return fail(ETIMEDOUT, "the server did not say READY=1");
    pollfd events[] = {{notify_.get(), POLLIN, 0}, {pidfd_.get(), POLLIN, 0}};
    if (::poll(events, std::size(events), static_cast<int>(left)) < 0 && errno != EINTR) return fail_errno();
    char message[4096];
    for (ssize_t n = 0; (n = ::recv(notify_.get(), message, sizeof message, 0)) > 0;) {
      const std::string_view text(message, static_cast<std::size_t>(n));
      if (("\n" + std::string(text) + "\n").find("\nREADY=1\n") == std::string::npos) continue;
      // No process would read what comes later, and a full socket makes the server wait.
      notify_.reset();
      return {};
    }
    if ((events[1].revents & POLLIN) != 0) {
      collect();
      return fail(ECHILD, "the server ended: " + log());
    }
  }
}

bool BerthServer::collect() {
  pollfd event{pidfd_.get(), POLLIN, 0};
  const int milliseconds = static_cast<int>(std::chrono::milliseconds(kDeadline).count());
  if (::poll(&event, 1, milliseconds) != 1) return false;
  int status = 0;
  ::waitpid(pid_, &status, 0);
  ending_ = WIFSIGNALED(status) ? Ending{0, WTERMSIG(status)} : Ending{WEXITSTATUS(status), 0};
  pid_ = -1;
  pidfd_.reset();
  return true;
}

Ending BerthServer::stop(int signal) {
  if (pid_ <= 0) {
    ADD_FAILURE() << "stop() of a server that does not run";
    return ending_;
  }
  ::kill(pid_, signal);
  if (!collect()) {
    ADD_FAILURE() << "the server did not end after signal " << signal;
    kill_processes();
    collect();
  }
  if (ending_ != Ending{}) take_dead_namespace_off();
  expect_nothing_left();
  return ending_;
}

/// One that did not end in order leaves the namespace, so that nothing reaches the directory below.
void BerthServer::take_dead_namespace_off() {
  EXPECT_TRUE(eventually([this] { return processes().empty(); }));
  struct stat attributes {};
  // ECONNABORTED: this very question was under way when the last process let go of the connection.
  int code = 0;
  do code = ::lstat(in_namespace("unknown").c_str(), &attributes) == 0 ? 0 : errno;
  while (code == ECONNABORTED);
  left_dead_ = code == ENOTCONN;
  if (left_dead_ && !leaves_dead_) ::umount2(namespace_path().c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
}

void BerthServer::kill_all() {
  kill_processes();
  if (pid_ > 0) collect();
  EXPECT_TRUE(eventually([this] { return processes().empty(); }));
  // The dead namespace, and with it what was native, is the one thing that the kernel keeps: its mount is the host's.
  ::umount2(namespace_path().c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
  expect_nothing_left();
}

void BerthServer::kill_processes() const {
  for (const pid_t pid : processes()) ::kill(pid, SIGKILL);
}

void BerthServer::expect_nothing_left() {
  if (!eventually([this] { return processes().empty(); })) {
    for (const pid_t pid : processes()) {
      ADD_FAILURE() << "left behind: process " << pid << " " << slurp(proc(pid, "comm"), 64).value_or("");
    }
    kill_processes();
  }
  for (const std::string& top : {namespace_path(), std::string("/run/berth")}) {
    if (leaves_dead_ && left_dead_ && top == namespace_path()) continue;
    for (const std::string& target : mounts_below(top)) {
      ADD_FAILURE() << "left behind: mount at " << target;
      ::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW);
    }
    EXPECT_EQ(entries_in(top), 0U) << "left behind in " << top;
  }
}

std::vector<pid_t> BerthServer::processes() const {
  std::set<pid_t> found;
  const std::vector<pid_t> pids = all_pids();
  std::copy_if(pids.begin(), pids.end(), std::inserter(found, found.end()),
               [this](pid_t pid) { return has_mark(pid, mark_); });
  // A zombie has no environment any more, but a parent that has not collected it.
  std::copy_if(pids.begin(), pids.end(), std::inserter(found, found.end()),
               [&found](pid_t pid) { return found.contains(parent_of(pid)); });
  return {found.begin(), found.end()};
}

Footprint BerthServer::footprint() const {
  Footprint sum;
  std::set<ino_t> namespaces;
  for (const pid_t pid : processes()) {
    ++sum.processes;
    sum.threads += entries_in(proc(pid, "task"));
    sum.descriptors += entries_in(proc(pid, "fd"));
    struct stat mount_namespace {};
    if (::stat(proc(pid, "ns/mnt").c_str(), &mount_namespace) != 0) continue;
    if (!namespaces.insert(mount_namespace.st_ino).second) continue;
    sum.mounts += lines_of(proc(pid, "mountinfo"));
    sum.directories += directories_below(proc(pid, "root/run/berth"));
  }
  return sum;
}

Result<std::string> BerthServer::read_control(std::string_view name) const {
  return slurp(in_namespace(".berth/" + std::string(name)), 64 << 20);
}

Result<> BerthServer::write_control(std::string_view name, std::string_view text) const {
  return spill(in_namespace(".berth/" + std::string(name)), 0, text);
}

nlohmann::json BerthServer::read_json(std::string_view name) const {
  const auto text = read_control(name);
  if (!text) return nullptr;
  auto value = nlohmann::json::parse(*text, nullptr, false);
  return value.is_discarded() ? nlohmann::json() : value;
}

pid_t BerthServer::server_pid() const {
  const auto status = read_json("status.json");
  return status.is_object() ? status.value("server_pid", 0) : 0;
}

void BerthServer::kill_server() const {
  const pid_t server = server_pid();
  ASSERT_GT(server, 0);
  ASSERT_EQ(::kill(server, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] {
    const pid_t next = server_pid();
    return next > 0 && next != server;
  }));
}

std::string BerthServer::state(std::string_view share) const {
  std::string text = read_control("shares/" + std::string(share) + "/state").value_or("");
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

bool BerthServer::wait_for_state(std::string_view share, std::string_view expected) const {
  return eventually([&] { return state(share) == expected; });
}

std::string BerthServer::log() const { return slurp(path("log"), 64 << 20).value_or(""); }

}  // namespace berth::test
