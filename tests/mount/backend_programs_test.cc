#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <thread>

#include "manager/backends/command_backend.h"
#include "manager/backends/helper_backend.h"
#include "manager/backends/mount_helpers.h"
#include "manager/backends/replica_probe.h"
#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/mount_table.h"
#include "tests/mount/backends_fixture.h"
#include "tests/mount/local_sshd.h"

// Backends that run programs: mount(8) with its helpers, and commands.

namespace berth::test {
namespace {

using manager::Attempt;
using manager::RealMount;
using manager::ShareFields;

/// Scripts in place of mount helpers: a read-only overlay shows them in /usr/sbin, in the mount namespace of the test.
class HelperTest : public BackendsTest {
 protected:
  void SetUp() override {
    BackendsTest::SetUp();
    if (!IsSkipped()) directory("helpers");
  }
  void TearDown() override {
    if (installed_) {
      EXPECT_EQ(::umount2("/usr/sbin", MNT_DETACH), 0);
    }
    BackendsTest::TearDown();
  }
  /// Makes `text` the mount helper of `type`. Once a test.
  void install(const std::string& type, const std::string& text) {
    script("helpers/mount." + type, text);
    const std::string layers = "lowerdir=" + path("helpers") + ":/usr/sbin";
    ASSERT_EQ(::mount("overlay", "/usr/sbin", "overlay", MS_RDONLY, layers.c_str()), 0);
    installed_ = true;
  }

 private:
  bool installed_ = false;
};

/// Short enough to wait for, long enough to start a program in.
Attempt soon(Attempt attempt) {
  attempt.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  return attempt;
}

TEST_F(HelperTest, HelperGetsOptionsAsOneArgumentWithThePolicyLast) {
  directory("source");
  install("berthtest",
          "for a in \"$@\"; do echo \"<$a>\"; done > " + path("argv") + "\nexec mount --bind \"$1\" \"$2\"\n");
  ShareFields described = fields("berthtest", path("source"), "suid,dev,user=a b;$(touch x),rw");
  described.policy.read_only = true;
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->warning, "");
  EXPECT_EQ(mounted->source, path("source"));
  std::string argv(512, '\0');
  {
    const UniqueFd recorded(::open(path("argv").c_str(), O_RDONLY | O_CLOEXEC));
    argv.resize(static_cast<std::size_t>(std::max<ssize_t>(::read(recorded.get(), argv.data(), argv.size()), 0)));
  }
  EXPECT_TRUE(argv.starts_with("<" + path("source") + ">\n<" + berth_ + ">\n")) << argv;
  EXPECT_NE(argv.find("user=a b;$(touch x)"), std::string::npos) << argv;
  EXPECT_NE(argv.find("nosuid"), std::string::npos) << argv;
  EXPECT_EQ(argv.find(",suid"), std::string::npos) << argv;
  // The helper paid no heed to the options; the mount obeys all the same.
  for (const char* word : {"ro", "nosuid", "nodev"}) {
    EXPECT_TRUE(has_option(mounted_options(), word)) << word << " in " << mounted_options();
  }
  EXPECT_EQ(create(*mounted, "new"), EROFS);
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(HelperTest, FailureWithTheMountThereIsAMountWithAWarning) {
  directory("source");
  file("source/hello", "hi");
  install("berthtest", "mount --bind \"$1\" \"$2\"; echo 'it is not so easy' >&2; exit 32\n");
  const auto share = spec(fields("berthtest", path("source")));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_NE(mounted->warning.find("exit status 32"), std::string::npos) << mounted->warning;
  EXPECT_NE(mounted->warning.find("it is not so easy"), std::string::npos) << mounted->warning;
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(HelperTest, SuccessWithoutAMountIsAFailure) {
  install("berthtest", "exit 0\n");
  const auto mounted = mount(spec(fields("berthtest", "source")));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_NE(mounted.error().error.story().find("mount(8) succeeded, but nothing is mounted"), std::string::npos)
      << told(mounted);
  EXPECT_EQ(mounted.error().exit, "exit status 0");
}

TEST_F(HelperTest, FailureTellsCommandExitAndOutput) {
  install("berthtest", "echo 'cannot reach the server' >&2; exit 32\n");
  const auto mounted = mount(spec(fields("berthtest", "the source")));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_EQ(mounted.error().exit, "exit status 32");
  EXPECT_NE(mounted.error().output.find("cannot reach the server"), std::string::npos);
  EXPECT_EQ(mounted.error().command,
            (std::vector<std::string>{"mount", "-t", "berthtest", "-o", "nosuid,nodev", "--", "the source", berth_}));
}

TEST_F(HelperTest, WhatIsTellingReachesTheCaller) {
  install("berthtest", "echo 'mount.x: access denied by server while mounting' >&2; exit 32\n");
  const auto mounted = mount(spec(fields("berthtest", "source")));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EACCES) << told(mounted);
}

TEST_F(HelperTest, HelperThatHangsIsEndedAtTheDeadlineAndWhatItMountedIsGone) {
  directory("source");
  install("berthtest", "mount --bind \"$1\" \"$2\"; sleep 1000\n");
  const auto mounted = mount(spec(fields("berthtest", path("source"))), soon(attempt()));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), ETIMEDOUT) << told(mounted);
  EXPECT_EQ(mounted_options(), "");
  EXPECT_EQ(processes(), std::vector<pid_t>());
}

TEST_F(HelperTest, ReplicaThatHangsLeavesTimeForTheNext) {
  directory("good");
  install("berthtest", "case $1 in */hangs) sleep 1000 ;; esac; exec mount --bind \"$1\" \"$2\"\n");
  ShareFields described = fields("berthtest");
  described.sources = {path("hangs"), path("good")};
  const auto share = spec(described);
  Attempt quick = attempt();
  quick.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(6);
  auto mounted = mount(share, quick);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->source, path("good"));
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(HelperTest, SourceThatLooksLikeAnOptionNeverReachesAHelper) {
  install("berthtest", "touch " + path("ran") + "\n");
  manager::HelperBackend helper({});
  const auto mounted = helper.mount_source(spec(fields("berthtest", "x")), "-oProxyCommand=x", attempt());
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_NE(mounted.error().output.find("begins with '-'"), std::string::npos) << told(mounted);
  EXPECT_NE(::access(path("ran").c_str(), F_OK), 0);
}

TEST_F(HelperTest, MissingHelperIsNamedWithItsPackage) {
  const struct {
    const char* type;
    const char* program;
    const char* words;
  } cases[] = {
      {"nfs", "mount.nfs", "mount.nfs is not installed; on Debian: apt install nfs-common"},
      {"cifs", "mount.cifs", "mount.cifs is not installed; on Debian: apt install cifs-utils"},
      {"fuse.s3fs", "s3fs", "s3fs is not installed; on Debian: apt install s3fs"},
      {"fuse.nobody-has-this", "nobody-has-this", "nobody-has-this is not installed"},
  };
  for (const auto& missing : cases) {
    if (has(missing.program)) continue;
    const auto mounted = mount(spec(fields(missing.type, "server:/export")));
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error.code(), ENODEV) << told(mounted);
    EXPECT_NE(mounted.error().output.find(missing.words), std::string::npos) << told(mounted);
  }
}

TEST(MountHelpers, ChooseBetweenTheKernelAndMount8) {
  using manager::wants_mount_program;
  for (const char* type : {"nfs", "nfs4", "cifs", "fuse.sshfs", "fuse", "fuse3.anything", "auto"}) {
    EXPECT_TRUE(wants_mount_program(type, "source")) << type;
  }
  for (const char* type : {"ext4", "tmpfs", "overlay", "../../tmp/x"}) {
    EXPECT_FALSE(wants_mount_program(type, "source")) << type;
  }
  EXPECT_TRUE(wants_mount_program("ext4", "LABEL=data"));
}

class SshfsTest : public BackendsTest {
 protected:
  void SetUp() override {
    BackendsTest::SetUp();
    if (IsSkipped()) return;
    if (!has("sshfs")) GTEST_SKIP() << "needs sshfs";
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/fuse";
    auto started = LocalSshd::start(directory("sshd"));
    if (!started && started.error().code() == ENOENT) GTEST_SKIP() << started.error().message();
    ASSERT_TRUE(started) << started.error().message();
    sshd_ = std::move(*started);
    directory("source");
    file("source/hello", "hi");
  }
  void TearDown() override {
    sshd_.reset();
    BackendsTest::TearDown();
  }
  ShareFields sshfs() const { return fields("fuse.sshfs", LocalSshd::source(path("source")), sshd_->options()); }

  std::unique_ptr<LocalSshd> sshd_;
};

TEST_F(SshfsTest, IsMountedThroughMount8) {
  const auto share = spec(sshfs());
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->warning, "");
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_EQ(create(*mounted, "new"), 0);
  EXPECT_EQ(::access(path("source/new").c_str(), F_OK), 0);
  // sshfs has become a daemon; since Linux 6.16 the kernel reports its process.
  const pid_t server = mounted->helper ? mounted->helper->pid() : 0;
  if (server != 0) {
    const std::vector<pid_t> ours = processes();
    EXPECT_NE(std::find(ours.begin(), ours.end(), server), ours.end());
  }
  EXPECT_TRUE(has_option(mounted_options(), "nosuid"));
  EXPECT_TRUE(has_option(mounted_options(), "nodev"));
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_EQ(mounted_options(), "");
  if (server != 0) {
    const std::vector<pid_t> left = processes();
    EXPECT_EQ(std::find(left.begin(), left.end(), server), left.end());
  }
}

TEST_F(SshfsTest, KeyThatIsRefusedIsPermissionDenied) {
  file("sshd/key.pub", "");
  const auto mounted = mount(spec(sshfs()));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EACCES) << told(mounted);
  EXPECT_NE(mounted.error().output.find("Permission denied"), std::string::npos) << told(mounted);
}

TEST_F(SshfsTest, ServerThatIsNotThereIsHostDown) {
  const auto share = spec(sshfs());
  sshd_.reset();
  const auto mounted = mount(share);
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN) << told(mounted);
  EXPECT_NE(mounted.error().output, "");
}

TEST_F(SshfsTest, ReplicaWhoseServerAnswersIsTakenFirst) {
  auto share = sshfs();
  // sshd listens at 127.0.0.1 alone.
  share.sources = {"root@127.0.0.2:/refused", "root@no-such-host.invalid:/unknown", LocalSshd::source(path("source"))};
  auto mounted = mount(spec(share));
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->source, LocalSshd::source(path("source")));
  ASSERT_EQ(mounted->passed_over.size(), 2U);
  EXPECT_EQ(mounted->passed_over[0].source, "root@127.0.0.2:/refused");
  EXPECT_NE(mounted->passed_over[0].error.message().find("127.0.0.2"), std::string::npos);
  EXPECT_EQ(mounted->passed_over[1].source, "root@no-such-host.invalid:/unknown");
  EXPECT_NE(mounted->passed_over[1].error.message().find("no-such-host.invalid"), std::string::npos);
  EXPECT_TRUE(unmount(spec(share), *mounted));
}

TEST_F(HelperTest, NameThatDoesNotResolveFailsWithTheResolversWords) {
  install("nfs", "exit 1\n");
  for (const std::vector<std::string>& sources :
       {std::vector<std::string>{"no-such-host.invalid:/x"}, {"no-such-host.invalid:/x", "nor-this.invalid:/y"}}) {
    auto share = fields("nfs");
    share.sources = sources;
    const auto mounted = mount(spec(share));
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN) << told(mounted);
    const std::string message = mounted.error().error.message();
    EXPECT_NE(message.find("the server \"no-such-host.invalid\" has no address ("), std::string::npos) << message;
    EXPECT_NE(message.find("correct the name, or add it to DNS or /etc/hosts"), std::string::npos) << message;
    EXPECT_EQ(message.find("No route to host"), std::string::npos) << message;
    EXPECT_EQ(mounted.error().exit, "") << "no program has run";
  }
}

TEST_F(HelperTest, ResolverThatDoesNotAnswerIsAFailureLongBeforeTheDeadline) {
  install("nfs", "exit 1\n");
  // A name server that takes questions and answers none.
  const UniqueFd silent(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(53);
  ASSERT_EQ(::inet_pton(AF_INET, "127.77.0.1", &address.sin_addr), 1);
  ASSERT_EQ(::bind(silent.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0) << errno_name(errno);
  const std::string configuration = file("resolv.conf", "nameserver 127.77.0.1\n");
  ASSERT_EQ(::mount(configuration.c_str(), "/etc/resolv.conf", nullptr, MS_BIND, nullptr), 0) << errno_name(errno);
  const auto mounted = mount(spec(fields("nfs", "some-host.example:/x")));
  EXPECT_EQ(::umount2("/etc/resolv.conf", MNT_DETACH), 0);
  ASSERT_FALSE(mounted);
  EXPECT_NE(mounted.error().error.story().find("the resolver has not answered about \"some-host.example\""),
            std::string::npos)
      << told(mounted);
  EXPECT_EQ(mounted.error().exit, "") << "no program has run";
}

/// A server that accepts connections at this address and port; 0: at any.
std::pair<UniqueFd, int> listen_at(const char* address, int port) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<std::uint16_t>(port));
  ::inet_pton(AF_INET, address, &at.sin_addr);
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&at), sizeof at), 0) << address << ": " << errno;
  EXPECT_EQ(::listen(socket.get(), 16), 0);
  socklen_t size = sizeof at;
  EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&at), &size), 0);
  return {std::move(socket), ntohs(at.sin_port)};
}

std::vector<std::string> order_of(int port, std::vector<std::uint32_t> weights) {
  ShareFields fields{.name = "a", .type = "nfs", .sources = {"127.0.0.1:/x", "127.0.0.2:/x"}};
  fields.options = "port=" + std::to_string(port);
  fields.policy.weights = std::move(weights);
  const Attempt attempt{.berth = "/nowhere", .deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30)};
  return manager::order_replicas(manager::ShareSpec::make(fields).value(), fields.sources, attempt).sources;
}

TEST(ReplicaProbe, WeightsCountAsManyTimesTheAnswer) {
  const auto [one, port] = listen_at("127.0.0.1", 0);
  const auto [two, same] = listen_at("127.0.0.2", port);
  using Order = std::vector<std::string>;
  EXPECT_EQ(order_of(port, {manager::kMostWeight, 0}), (Order{"127.0.0.2:/x", "127.0.0.1:/x"}));
  EXPECT_EQ(order_of(port, {0, manager::kMostWeight}), (Order{"127.0.0.1:/x", "127.0.0.2:/x"}));
}

TEST(ReplicaProbe, ServersThatDoNotAnswerComeByTheirWeights) {
  int port = 0;
  {
    const auto listening = listen_at("127.0.0.1", 0);
    port = listening.second;
  }
  using Order = std::vector<std::string>;
  EXPECT_EQ(order_of(port, {3, 1}), (Order{"127.0.0.2:/x", "127.0.0.1:/x"}));
  EXPECT_EQ(order_of(port, {}), (Order{"127.0.0.1:/x", "127.0.0.2:/x"}));
}

TEST(ReplicaProbe, KnowsThePortsOfFileSystems) {
  EXPECT_EQ(manager::port_of("nfs", "vers=4.2"), 2049);
  EXPECT_EQ(manager::port_of("cifs", ""), 445);
  EXPECT_EQ(manager::port_of("fuse.sshfs", "reconnect,port=2222"), 2222);
  EXPECT_EQ(manager::port_of("nfs", "port=0"), 2049);
  EXPECT_EQ(manager::port_of("ext4", ""), 0);
}

TEST_F(SshfsTest, ServerThatDoesNotAnswerIsForcedAway) {
  const auto share = spec(sshfs());
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  const UniqueFd user(::openat(mounted->root.get(), "hello", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(user);
  if (mounted->helper) {
    ASSERT_EQ(::kill(mounted->helper->pid(), SIGSTOP), 0);
  }
  EXPECT_TRUE(unmount(share, *mounted, true));
  EXPECT_EQ(mounted_options(), "");
}

TEST_F(SshfsTest, DaemonThatDiesIsNoticed) {
  const auto share = spec(sshfs());
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  if (mounted->helper) {
    ASSERT_EQ(::kill(mounted->helper->pid(), SIGKILL), 0);
    EXPECT_TRUE(manager::wait_readable(mounted->helper->pidfd(), attempt().deadline));
  }
  EXPECT_TRUE(unmount(share, *mounted, true));
}

TEST_F(SshfsTest, CommandInTheForegroundIsTheHelperProcess) {
  const auto share =
      spec(command({"sshfs", "-f", "-o", sshd_->options(), LocalSshd::source(path("source")), "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  ASSERT_TRUE(mounted->helper);
  EXPECT_GT(mounted->helper->pid(), 0);
  EXPECT_FALSE(manager::wait_readable(mounted->helper->pidfd(), manager::now()));
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_TRUE(has_option(mounted_options(), "nosuid"));
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_FALSE(mounted->helper);
}

TEST_F(SshfsTest, HelperThatDiesIsNoticed) {
  const auto share =
      spec(command({"sshfs", "-f", "-o", sshd_->options(), LocalSshd::source(path("source")), "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  ASSERT_TRUE(mounted->helper);
  ASSERT_EQ(::kill(mounted->helper->pid(), SIGKILL), 0);
  EXPECT_TRUE(manager::wait_readable(mounted->helper->pidfd(), attempt().deadline));
  EXPECT_TRUE(unmount(share, *mounted, true));
}

TEST_F(SshfsTest, CommandThatBecomesADaemonServesOn) {
  const auto share =
      spec(command({"sshfs", "-o", sshd_->options(), LocalSshd::source(path("source")), "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(SshfsTest, UnmountCommandEndsIt) {
  if (!has("fusermount3")) GTEST_SKIP() << "needs fusermount3";
  const auto share =
      spec(command({"sshfs", "-f", "-o", sshd_->options(), LocalSshd::source(path("source")), "{mountpoint}"},
                   {"fusermount3", "-u", "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  {
    const UniqueFd user(::openat(mounted->root.get(), "hello", O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(user);
    const Result<> refused = unmount(share, *mounted);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EBUSY) << refused.error().message();
    EXPECT_EQ(read(*mounted, "hello"), "hi");
  }
  EXPECT_TRUE(unmount(share, *mounted));
}

class CommandTest : public BackendsTest {
 protected:
  /// Mounts, and gives the attempt up as soon as `ready` exists.
  tl::expected<RealMount, manager::AttemptFailure> mount_until(const manager::ShareSpec& share,
                                                               const std::string& ready) {
    const UniqueFd cancel(::eventfd(0, EFD_CLOEXEC));
    Attempt cancelled = attempt();
    cancelled.cancel_fd = cancel.get();
    std::thread canceller([&] {
      while (::access(ready.c_str(), F_OK) != 0 && std::chrono::steady_clock::now() < cancelled.deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      ::eventfd_write(cancel.get(), 1);
    });
    auto mounted = mount(share, cancelled);
    canceller.join();
    return mounted;
  }
};

TEST_F(CommandTest, PlaceholdersAreReplacedOnceInsideElements) {
  EXPECT_EQ(manager::expand_command({"p", "--at={mountpoint}", "{source}:{source}", "{other}", "{source"},
                                    "a{mountpoint}", "/b"),
            (std::vector<std::string>{"p", "--at=/b", "a{mountpoint}:a{mountpoint}", "{other}", "{source"}));
}

TEST_F(CommandTest, ScriptThatMountsAndEndsNeedsNoHelper) {
  directory("source");
  file("source/hello", "hi");
  ShareFields described = command({script("mounts", "exec mount --bind \"$1\" \"$2\"\n"), "{source}", "{mountpoint}"});
  described.sources = {path("source")};
  described.options = "noexec";
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->helper, nullptr);
  EXPECT_EQ(mounted->warning, "");
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  for (const char* word : {"nosuid", "nodev", "noexec"}) {
    EXPECT_TRUE(has_option(mounted_options(), word)) << word << " in " << mounted_options();
  }
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(CommandTest, FailureWithTheMountThereIsAMountWithAWarning) {
  const auto share =
      spec(command({script("mounts", "mount -t tmpfs tmpfs \"$1\"; echo 'but wait' >&2; exit 32\n"), "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->helper, nullptr);
  EXPECT_NE(mounted->warning.find("exit status 32: \"but wait\""), std::string::npos) << mounted->warning;
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(CommandTest, ProgramThatStaysWithAMountOfTheKernelIsEndedWithIt) {
  const auto share =
      spec(command({script("stays", "mount -t tmpfs tmpfs \"$1\"; sleep 1000 & wait\n"), "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  ASSERT_TRUE(mounted->helper);
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_EQ(processes(), std::vector<pid_t>());
}

TEST_F(CommandTest, UnmountProgramIsEndedWithAllThatItStarted) {
  const std::string child = script("child", "trap '' HUP; sleep 1000\n");
  const std::string leaves = "setsid " + child + " & env -i setsid " + child + " &\n";
  const auto share = spec(command({"mount", "-t", "tmpfs", "tmpfs", "{mountpoint}"},
                                  {script("unmounts", leaves + "case $(cat " + file("mood", "busy") +
                                                          ") in busy) echo target is busy >&2; exit 32 ;; hangs) "
                                                          "sleep 1000 ;; esac\nexec umount \"$1\"\n"),
                                   "{mountpoint}"}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  const Result<> busy = unmount(share, *mounted);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code(), EBUSY) << busy.error().message();
  EXPECT_EQ(processes(), std::vector<pid_t>()) << "of one that has failed";
  file("mood", "hangs");
  const Result<> late = backend(share).unmount(share, *mounted, soon(attempt()), false);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code(), ETIMEDOUT) << late.error().message();
  EXPECT_EQ(processes(), std::vector<pid_t>()) << "of one that was given up";
  file("mood", "good");
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_EQ(processes(), std::vector<pid_t>()) << "of one that has succeeded";
}

TEST_F(CommandTest, SuccessWithoutAMountIsAFailure) {
  const auto mounted = mount(spec(command({script("nothing", "exit 0\n"), "{mountpoint}"})));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_NE(mounted.error().error.story().find("nothing is mounted"), std::string::npos) << told(mounted);
}

TEST_F(CommandTest, FailureTellsCommandExitAndOutput) {
  const auto mounted = mount(spec(command({script("fails", "echo 'no such bucket' >&2; exit 7\n"), "{mountpoint}"})));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_EQ(mounted.error().exit, "exit status 7");
  EXPECT_NE(mounted.error().output.find("no such bucket"), std::string::npos);
  EXPECT_EQ(mounted.error().command, (std::vector<std::string>{path("fails"), berth_}));
}

TEST_F(CommandTest, ProgramThatIsNotThereIsNamed) {
  const auto mounted = mount(spec(command({"no-such-program", "{mountpoint}"})));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_NE(mounted.error().output.find("no-such-program"), std::string::npos) << told(mounted);
}

TEST_F(CommandTest, ProgramThatHangsIsEndedAtTheDeadlineWithAllItStarted) {
  script("child", "sleep 1000\n");
  const auto mounted =
      mount(spec(command({script("hangs", path("child") + " & wait\n"), "{mountpoint}"})), soon(attempt()));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), ETIMEDOUT);
  EXPECT_NE(mounted.error().error.story().find("hangs did not mount in time"), std::string::npos) << told(mounted);
  EXPECT_EQ(processes(), std::vector<pid_t>());
}

/// Mounts with FUSE, and never answers a request.
constexpr const char* kSilent =
    "exec 3<>/dev/fuse\nmount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 silent \"$1\"\n";

TEST_F(CommandTest, MountThatDoesNotAnswerIsNoMount) {
  if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/fuse";
  for (const std::string what_next : {"echo trying to connect >&2\nsleep 1000\n", "sleep 1000 &\nwait\n"}) {
    manager::Attempt soon = attempt();
    soon.deadline = manager::now() + std::chrono::milliseconds(500);
    const auto mounted = mount(spec(command({script("silent", kSilent + what_next), "{mountpoint}"})), soon);
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error.code(), ETIMEDOUT) << told(mounted);
    EXPECT_NE(mounted.error().error.story().find("has mounted, but its root did not answer in time"), std::string::npos)
        << told(mounted);
    EXPECT_EQ(mounted_options(), "");
  }
}

TEST_F(CommandTest, MountWhoseServerDiesBeforeItAnswersIsAFailureWithWhatItSaid) {
  if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/fuse";
  const auto share = spec(
      command({script("dies", kSilent + std::string("echo no route to the server >&2\nexit 1\n")), "{mountpoint}"}));
  const auto mounted = mount(share);
  ASSERT_FALSE(mounted);
  EXPECT_NE(mounted.error().output.find("no route"), std::string::npos) << told(mounted);
  EXPECT_EQ(mounted_options(), "");
}

TEST_F(CommandTest, AttemptIsGivenUpWhenCancelled) {
  script("child", "touch \"$1\"; sleep 1000\n");
  const auto share = spec(command(
      {script("hangs", "echo 'still trying'; " + path("child") + " \"$2\" & wait\n"), "{mountpoint}", path("ready")}));
  const auto mounted = mount_until(share, path("ready"));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), ECANCELED) << told(mounted);
  EXPECT_EQ(mounted.error().exit, "signal 15 (Terminated)");
  EXPECT_NE(mounted.error().output.find("still trying"), std::string::npos) << told(mounted);
  EXPECT_EQ(processes(), std::vector<pid_t>());
}

TEST_F(CommandTest, ProgramThatIgnoresTermIsKilled) {
  const auto share = spec(command({script("stubborn", "trap '' TERM; touch \"$2\"; while :; do sleep 1000; done\n"),
                                   "{mountpoint}", path("ready")}));
  const auto mounted = mount_until(share, path("ready"));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().exit, "signal 9 (Killed)") << told(mounted);
  EXPECT_EQ(processes(), std::vector<pid_t>());
}

TEST_F(CommandTest, ProgramThatTalksALotIsNotBlockedByIt) {
  // More than a pipe holds, before and after the mount.
  const auto share = spec(command({script("talks",
                                          "head -c 300000 /dev/zero | tr '\\0' x; mount -t tmpfs tmpfs \"$1\"; sleep 2;"
                                          "head -c 300000 /dev/zero | tr '\\0' y; touch \"$2\"; sleep 1000 & wait\n"),
                                   "{mountpoint}", path("said")}));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  ASSERT_TRUE(mounted->helper);
  const auto deadline = attempt().deadline;
  while (::access(path("said").c_str(), F_OK) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(::access(path("said").c_str(), F_OK), 0);
  EXPECT_TRUE(unmount(share, *mounted));
}

}  // namespace
}  // namespace berth::test
