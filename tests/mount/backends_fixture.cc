#include "tests/mount/backends_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "manager/backends/make_backends.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/process.h"
#include "tests/mount/text_of.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;
using manager::AttemptFailure;
using manager::RealMount;
using manager::ShareFields;
using manager::ShareSpec;

constexpr std::chrono::seconds kPatience{60};

/// Once a process, while it has one thread. "" or why not.
std::string enter_private_namespace() {
  if (::geteuid() != 0) return "needs root";
  if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755") != 0) {
    return "no mount namespace of its own: " + errno_text(errno);
  }
  return "";
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

/// Waits until the process has ended: a FUSE daemon ends by itself, some time after its mount.
bool await_end(pid_t pid) {
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return true;
  pollfd watched{process.get(), POLLIN, 0};
  return ::poll(&watched, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) == 1;
}

}  // namespace

void BackendsTest::SetUp() {
  static const std::string why_not = enter_private_namespace();
  if (!why_not.empty()) GTEST_SKIP() << why_not;
  std::string name = "/tmp/berth-backends-XXXXXX";
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  scratch_ = name;
  berth_ = directory("berth");
  backends_ = manager::make_backends();
  descriptors_ = open_descriptors();
}

void BackendsTest::TearDown() {
  if (scratch_.empty()) return;
  EXPECT_EQ(mounts(), std::vector<std::string>());
  for (const std::string& target : mounts()) ::umount2(target.c_str(), MNT_DETACH);
  for (const pid_t pid : processes()) {
    const bool ended = await_end(pid);
    EXPECT_TRUE(ended) << "left: " << pid;
    if (!ended) ::kill(pid, SIGKILL);
  }
  EXPECT_EQ(loop_devices(), std::vector<std::string>());
  // A thread that has asked a mount which is gone ends by itself (RootAnswer).
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (open_descriptors() > descriptors_ && std::chrono::steady_clock::now() < deadline) ::sched_yield();
  // One of the test before may have ended meanwhile.
  EXPECT_LE(open_descriptors(), descriptors_);
  std::error_code ignored;
  fs::remove_all(scratch_, ignored);
}

std::string BackendsTest::directory(const std::string& name) const {
  fs::create_directories(path(name));
  return path(name);
}

std::string BackendsTest::file(const std::string& name, const std::string& text) const {
  std::ofstream(path(name)) << text;
  return path(name);
}

std::string BackendsTest::script(const std::string& name, const std::string& text) const {
  file(name, "#!/bin/sh\n" + text);
  ::chmod(path(name).c_str(), 0755);
  return path(name);
}

std::string BackendsTest::image(const std::string& name, off_t size) const {
  file(name, "");
  EXPECT_EQ(::truncate(path(name).c_str(), size), 0);
  return path(name);
}

void BackendsTest::run(const std::vector<std::string>& argv) {
  const Result<sys::Finished> finished = sys::run(argv, std::chrono::steady_clock::now() + kPatience);
  ASSERT_TRUE(finished) << finished.error().message();
  ASSERT_TRUE(finished->status.success()) << quote_command(argv) << ": " << finished->output;
}

bool BackendsTest::has(std::string_view program) { return !sys::find_program(program).empty(); }

ShareSpec BackendsTest::spec(const ShareFields& fields) {
  Result<ShareSpec> made = ShareSpec::make(fields);
  EXPECT_TRUE(made) << made.error().message();
  return std::move(made).value();
}

ShareFields BackendsTest::fields(const std::string& type, const std::string& source, const std::string& options) {
  ShareFields fields;
  fields.name = "share";
  fields.type = type;
  if (!source.empty()) fields.sources = {source};
  fields.options = options;
  return fields;
}

ShareFields BackendsTest::command(std::vector<std::string> argv, std::vector<std::string> unmount) const {
  ShareFields made = fields("command");
  made.mount_command = std::move(argv);
  made.unmount_command = std::move(unmount);
  return made;
}

manager::Attempt BackendsTest::attempt() const { return {berth_, std::chrono::steady_clock::now() + kPatience, -1}; }

tl::expected<RealMount, AttemptFailure> BackendsTest::mount(const ShareSpec& spec) { return mount(spec, attempt()); }

tl::expected<RealMount, AttemptFailure> BackendsTest::mount(const ShareSpec& spec, const manager::Attempt& attempt) {
  return backend(spec).mount(spec, attempt);
}

Result<> BackendsTest::unmount(const ShareSpec& spec, RealMount& mount, bool force) {
  return backend(spec).unmount(spec, mount, attempt(), force);
}

std::string BackendsTest::mounted_options() const {
  const auto entry = sys::find_mount(berth_);
  return entry && *entry ? (*entry)->options : "";
}

std::string BackendsTest::read(const RealMount& mount, const std::string& name) {
  const Result<UniqueFd> file = sys::open_beneath(mount.root.get(), name.c_str(), O_RDONLY);
  if (!file) return "?" + file.error().message();
  std::array<char, 256> buffer{};
  const ssize_t count = ::read(file->get(), buffer.data(), buffer.size());
  return count < 0 ? "?" + errno_text(errno) : std::string(buffer.data(), static_cast<std::size_t>(count));
}

int BackendsTest::create(const RealMount& mount, const std::string& name) {
  const Result<UniqueFd> file = sys::open_at(mount.root.get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644);
  return file ? 0 : file.error().code();
}

std::vector<pid_t> BackendsTest::processes() const {
  std::vector<pid_t> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid > 0 && text_of(entry.path() / "cmdline").find(scratch_) != std::string::npos) found.push_back(pid);
  }
  return found;
}

std::vector<std::string> BackendsTest::loop_devices() const {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator("/sys/block")) {
    const std::string image = text_of(entry.path() / "loop" / "backing_file");
    if (image.starts_with(scratch_)) found.push_back(entry.path().filename().string() + " " + image);
  }
  return found;
}

std::vector<std::string> BackendsTest::mounts() const {
  std::vector<std::string> found;
  const auto table = sys::read_mount_table();
  if (!table) return {"the mount table cannot be read"};
  for (auto entry = table->rbegin(); entry != table->rend(); ++entry) {
    if (entry->target.starts_with(scratch_)) found.push_back(entry->target);
  }
  return found;
}

bool has_option(const std::string& options, std::string_view word) {
  const std::vector<std::string_view> words = split(options, ',');
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::string told(const tl::expected<RealMount, AttemptFailure>& result) {
  if (result) return "";
  const AttemptFailure& failure = result.error();
  return errno_name(failure.error.code()) + " " + failure.error.message() +
         "\ncommand: " + quote_command(failure.command) + "\nexit: " + failure.exit + "\noutput: " + failure.output;
}

}  // namespace berth::test
