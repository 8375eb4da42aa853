// How many descriptors berth needs, and what happens when there are not enough.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

class Descriptors : public ::testing::Test {
 protected:
  static std::string name(std::size_t number) { return "s" + std::to_string(number); }

  /// `count` shares with a file each, that stay with the proxy.
  void start(std::size_t count) {
    // Taking 10,000 mounts down takes its time on a busy machine.
    std::string config = "[berth]\nstop_timeout = \"2m\"\n";
    for (std::size_t i = 0; i < count; ++i) {
      const std::string source = server_.make_directory("sources/" + name(i));
      ASSERT_TRUE(ok(server_.write_file("sources/" + name(i) + "/hello", "hello")));
      config += "[share." + name(i) + "]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source + "\"\n";
    }
    ASSERT_TRUE(ok(server_.start(config)));
  }
  [[nodiscard]] int open(std::size_t share, const char* file = "hello") const {
    return ::open(server_.in_namespace(name(share) + "/" + file).c_str(), O_RDONLY | O_CLOEXEC);
  }
  void limit_to(std::size_t descriptors) {
    server_.launch_through({"sh", "-c",
                            "ulimit -n " + std::to_string(descriptors) +
                                "; exec setpriv --bounding-set=-sys_resource " +
                                "--inh-caps=-sys_resource \"$0\" \"$@\""});
  }
  [[nodiscard]] std::size_t of_server() const {
    const pid_t server = server_.server_pid();
    const std::filesystem::directory_iterator begin("/proc/" + std::to_string(server) + "/fd");
    return static_cast<std::size_t>(std::distance(begin, std::filesystem::directory_iterator()));
  }

  BerthServer server_;
};

/// As many as the hard limit gives, where it cannot be raised: one descriptor a mount and one an open file.
TEST_F(Descriptors, TenThousandSharesAreMountedAtOnceWithAnOpenFileEach) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  constexpr std::size_t kShares = 10'000;
  const rlimit more{.rlim_cur = std::max<rlim_t>(before.rlim_max, 4 * kShares),
                    .rlim_max = std::max<rlim_t>(before.rlim_max, 4 * kShares)};
  const bool raised = ::setrlimit(RLIMIT_NOFILE, &more) == 0;
  const rlimit all{.rlim_cur = before.rlim_max, .rlim_max = before.rlim_max};
  if (!raised) {
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &all), 0);
  }
  const std::size_t shares = raised ? kShares : std::min<std::size_t>(kShares, (before.rlim_max - 1500) / 2);
  start(shares);
  const std::size_t idle = of_server();
  std::vector<UniqueFd> files;
  for (std::size_t i = 0; i < shares; ++i) {
    files.emplace_back(open(i));
    ASSERT_TRUE(files.back()) << i << " " << errno_name(errno);
  }
  EXPECT_LE(of_server(), idle + 2 * shares + 50) << "a descriptor a mount, and one a file";
  for (const std::size_t share : {std::size_t{0}, shares / 2, shares - 1})
    EXPECT_EQ(server_.state(name(share)), "mounted");
  std::array<char, 8> text{};
  for (const UniqueFd& file : files) ASSERT_EQ(::pread(file.get(), text.data(), text.size(), 0), 5);
  files.clear();
  // The kernel reports the last close later, and an unmount drops what it has not reported yet.
  EXPECT_TRUE(eventually([&] { return of_server() <= idle + shares + 50; }));
  EXPECT_EQ(server_.stop(), Ending{});
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST_F(Descriptors, IdleSharesGiveTheirsUpWhenThereAreFew) {
  limit_to(501);
  constexpr std::size_t kShares = 400;
  start(kShares);
  for (std::size_t i = 0; i < kShares; ++i) {
    const UniqueFd file(open(i));
    ASSERT_TRUE(file) << i << " " << errno_name(errno);
  }
  UniqueFd first(open(0));
  EXPECT_TRUE(first) << errno_name(errno);
  first.reset();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Descriptors, OpenFilesLeaveRoomForMountsAttachmentsAndTheControlTree) {
  limit_to(1024);
  start(40);
  std::vector<UniqueFd> files;
  for (int file = open(0); file >= 0; file = open(0)) files.emplace_back(file);
  EXPECT_EQ(errno, ENFILE) << errno_name(errno);
  EXPECT_GT(files.size(), 300U);
  EXPECT_NE(server_.log().find("LimitNOFILE="), std::string::npos) << server_.log();
  for (std::size_t i = 1; i < 40; ++i) {
    struct stat attributes {};
    EXPECT_EQ(::stat(server_.in_namespace(name(i) + "/hello").c_str(), &attributes), 0)
        << i << " " << errno_name(errno);
    const std::string attachments = ".berth/shares/" + name(i) + "/attachments/vm";
    EXPECT_EQ(::mkdir(server_.in_namespace(attachments).c_str(), 0755), 0) << errno_name(errno);
    EXPECT_EQ(::mkdir(server_.in_namespace(attachments + "/disk").c_str(), 0755), 0) << errno_name(errno);
  }
  EXPECT_NE(server_.read_control("status").value_or(""), "");
  const pid_t before = server_.server_pid();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  EXPECT_NE(server_.server_pid(), before);
  files.resize(files.size() - 80);
  EXPECT_TRUE(eventually([&] { return UniqueFd(open(1)).get() >= 0; })) << "room that is given back is there again";
  for (std::size_t i = 1; i < 40; ++i) {
    EXPECT_EQ(::rmdir(server_.in_namespace(".berth/shares/" + name(i) + "/attachments/vm/disk").c_str()), 0);
  }
  files.clear();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Descriptors, OneUserCannotTakeThoseOfAll) {
  limit_to(1024);
  start(2);
  // With a record lock on each file, which takes a descriptor of its own, and without.
  for (const bool locks : {false, true}) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd from_child(ends[0]);
    UniqueFd to_parent(ends[1]);
    const pid_t hog = ::fork();
    if (hog == 0) {
      if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) ::_exit(1);
      int code = 0;
      for (int file = open(0); file >= 0; file = open(0)) {
        struct flock range {};
        range.l_type = F_RDLCK;
        range.l_whence = SEEK_SET;
        if (locks && ::fcntl(file, F_OFD_SETLK, &range) != 0 && errno != ENOLCK) ::_exit(2);
      }
      code = errno;
      static_cast<void>(::write(ends[1], &code, sizeof code) == sizeof code);
      for (;;) ::pause();
    }
    int code = 0;
    ASSERT_EQ(::read(from_child.get(), &code, sizeof code), static_cast<ssize_t>(sizeof code));
    EXPECT_EQ(code, ENFILE);
    std::vector<UniqueFd> files;
    for (int i = 0; i < 100; ++i) files.emplace_back(open(1));
    EXPECT_TRUE(std::all_of(files.begin(), files.end(), [](const UniqueFd& file) { return static_cast<bool>(file); }));
    files.clear();
    ASSERT_EQ(::kill(hog, SIGKILL), 0);
    ::waitpid(hog, nullptr, 0);
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
