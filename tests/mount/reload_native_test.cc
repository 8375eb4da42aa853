// Reloads of native shares: programs that are in one are past berth, which has no lease of them.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "src/lib/sys/mount_table.h"
#include "tests/mount/inside.h"
#include "tests/mount/reload_fixture.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

/// Sources in memory: files of a file system that is native wherever the kernel can do it.
class ReloadNative : public Reload {
 protected:
  void SetUp() override {
    Reload::SetUp();
    memory_ = std::make_unique<OwnTmpfs>(server_.make_directory("memory"));
  }
  void put_native(const std::string& share, const std::string& source, const std::string& more = "") {
    put(share, "memory/" + source, "access = \"auto\"\n" + more);
    ASSERT_TRUE(ok(server_.write_file("memory/" + source + "/name", source)));
  }
  /// By another process: what this one holds is a user as well.
  void touch(const std::string& share) {
    const Inside visitor(server_.in_namespace(share), Inside::By::kFile);
    is_native_ = server_.read_json("shares/" + share + "/status.json").value("native", false);
  }
  [[nodiscard]] std::string status(const std::string& share) const {
    return server_.read_control("shares/" + share + "/status").value_or("");
  }
  [[nodiscard]] bool says(const std::string& share, const std::string& what) const {
    return eventually([&] { return status(share).find(what) != std::string::npos; });
  }
  /// Real mounts of the source that the server has.
  [[nodiscard]] std::size_t mounts_of(const std::string& source) const {
    std::ifstream table("/proc/" + std::to_string(server_.server_pid()) + "/mountinfo");
    const std::string text{std::istreambuf_iterator<char>(table), {}};
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(" /" + source + " /", at)) != std::string::npos; ++at) ++count;
    return count;
  }
  std::unique_ptr<OwnTmpfs> memory_;
  bool is_native_ = false;
};

TEST_F(ReloadNative, ShareIsTakenOffAndItsUsersGoOn) {
  put_native("a", "one");
  start();
  EXPECT_EQ(name_in("a"), "one");
  UniqueFd file = open("a/log", O_CREAT | O_WRONLY | O_APPEND);
  UniqueFd directory = open("a", O_RDONLY | O_DIRECTORY);
  const bool is_native = server_.read_json("shares/a/status.json").value("native", false);
  remove("a");
  ASSERT_TRUE(ok(reload()));
  EXPECT_EQ(::access(server_.in_namespace("a").c_str(), F_OK), -1);
  put_native("a", "two");
  ASSERT_TRUE(ok(reload()));
  for (const bool killed : {false, true}) {
    if (killed) server_.kill_server();
    EXPECT_EQ(name_in("a"), "two");
    expect_inside(file, directory, "one");
  }
  if (is_native) {
    // The overmount of the first one is not in the table any more.
    const auto table = sys::read_mount_table();
    ASSERT_TRUE(table);
    EXPECT_LE(std::count_if(table->begin(), table->end(),
                            [&](const sys::MountEntry& entry) { return entry.target == server_.in_namespace("a"); }),
              1);
  }
  file.reset();
  directory.reset();
  EXPECT_EQ(server_.stop(), Ending{});
}

/// Processes of another user with so many mappings that it takes long to look at all of them.
class HugeTables {
 public:
  explicit HugeTables(const std::string& file) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const int mapped = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
      bool is_full = mapped >= 0 && ::setpgid(0, 0) == 0 && ::setuid(kUser) == 0;
      for (int i = 0; i < kMappings; ++i) {
        is_full = is_full && ::mmap(nullptr, 1, PROT_READ, MAP_SHARED, mapped, 0) != MAP_FAILED;
      }
      for (int i = 1; i < kProcesses && is_full; ++i) {
        const pid_t copy = ::fork();
        if (copy == 0) ::pause();
        is_full = copy > 0;
      }
      if (::write(ready[1], is_full ? "y" : "n", 1) == 1) ::pause();
      ::_exit(0);
    }
    ::close(ready[1]);
    char is_full = 'n';
    EXPECT_EQ(::read(ready[0], &is_full, 1), 1);
    EXPECT_EQ(is_full, 'y');
    ::close(ready[0]);
  }
  ~HugeTables() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  HugeTables(const HugeTables&) = delete;
  HugeTables& operator=(const HugeTables&) = delete;

 private:
  static constexpr uid_t kUser = 4711;
  static constexpr int kProcesses = 15;
  static constexpr int kMappings = 60000;
  pid_t pid_ = -1;
};

TEST_F(ReloadNative, UserWithHugeTablesDoesNotKeepARemovedShare) {
  put_native("a", "one");
  start();
  touch("a");
  if (!is_native_) GTEST_SKIP() << "this kernel has no native shares here";
  const HugeTables tables(server_.path("berth.toml"));
  auto file = std::make_unique<Inside>(server_.in_namespace("a"), Inside::By::kFile);
  remove("a");
  EXPECT_NE(reload_says().find("1 removed (a: 1 user)"), std::string::npos) << answer();
  EXPECT_TRUE(says("a", "removed, 1 user")) << "nor hides its users: " << status("a");
  EXPECT_TRUE(says("a", "whether processes of user 4711 use it is not known")) << status("a");
  file.reset();
  EXPECT_TRUE(eventually([&] { return mounts_of("one") == 0; }));
  EXPECT_NE(server_.log().find("whether processes of user 4711 use it is not known"), std::string::npos);
}

TEST_F(ReloadNative, RemovedShareIsShownWithItsUsersAndUnmountedWhenTheLastOneHasLeft) {
  put_native("a", "one");
  start();
  touch("a");
  if (!is_native_) GTEST_SKIP() << "this kernel has no native shares here";
  const std::string share = server_.in_namespace("a");
  auto file = std::make_unique<Inside>(share, Inside::By::kFile);
  auto directory = std::make_unique<Inside>(share, Inside::By::kDirectory);
  auto mapping = std::make_unique<Inside>(share, Inside::By::kMapping);
  remove("a");
  EXPECT_NE(reload_says().find("1 removed (a: 3 users)"), std::string::npos) << answer();
  EXPECT_TRUE(says("a", "removed, 3 users")) << status("a");
  EXPECT_EQ(::access(share.c_str(), F_OK), -1);
  server_.kill_server();
  EXPECT_TRUE(says("a", "removed, 3 users")) << status("a");
  file.reset();
  EXPECT_TRUE(says("a", "removed, 2 users")) << status("a");
  ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
  directory.reset();
  EXPECT_TRUE(says("a", "removed, 1 user\n")) << status("a");
  EXPECT_EQ(mounts_of("one"), 1U);
  mapping.reset();
  EXPECT_TRUE(eventually([&] { return !is_shown("a"); })) << status("a");
  EXPECT_TRUE(eventually([&] { return mounts_of("one") == 0; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(ReloadNative, OneThatComesBackStandsBesideTheRemovedOneThatIsInUse) {
  put_native("a", "one");
  start();
  touch("a");
  if (!is_native_) GTEST_SKIP() << "this kernel has no native shares here";
  auto inside = std::make_unique<Inside>(server_.in_namespace("a"), Inside::By::kDirectory);
  remove("a");
  ASSERT_TRUE(ok(reload()));
  put_native("a", "two");
  ASSERT_TRUE(ok(reload()));
  touch("a");
  EXPECT_EQ(name_in("a"), "two");
  EXPECT_EQ(server_.read_json("status.json")["shares"].size(), 2U);
  server_.kill_server();
  EXPECT_EQ(name_in("a"), "two");
  EXPECT_TRUE(eventually([&] {
    const auto shares = server_.read_json("status.json")["shares"];
    return std::any_of(shares.begin(), shares.end(),
                       [](const auto& one) { return one["state"] == "removed" && one["users"] == 1; });
  })) << server_.read_json("status.json");
  inside.reset();
  EXPECT_TRUE(eventually([&] { return server_.read_json("status.json")["shares"].size() == 1; }));
  EXPECT_EQ(mounts_of("one"), 0U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(ReloadNative, ChangeOfTheSourceWaitsForItsUsersAndSaysHowMany) {
  put_native("a", "one");
  start();
  touch("a");
  if (!is_native_) GTEST_SKIP() << "this kernel has no native shares here";
  auto first = std::make_unique<Inside>(server_.in_namespace("a"), Inside::By::kDirectory);
  auto second = std::make_unique<Inside>(server_.in_namespace("a"), Inside::By::kFile);
  put_native("a", "two");
  EXPECT_NE(reload_says().find("1 changed (a: pending, 2 users)"), std::string::npos) << answer();
  EXPECT_TRUE(says("a", "users:        2\n")) << status("a");
  EXPECT_EQ(server_.read_json("shares/a/status.json")["pending"].size(), 1U);
  server_.kill_server();
  first.reset();
  EXPECT_TRUE(says("a", "users:        1\n")) << status("a");
  EXPECT_EQ(name_in("a"), "one");
  second.reset();
  // To look into it all the time would be to use it.
  EXPECT_TRUE(eventually([&] {
    const auto json = server_.read_json("shares/a/status.json");
    return json.is_object() && json["pending"].empty();
  })) << status("a");
  // The kernel is told right after that.
  EXPECT_TRUE(eventually([&] { return name_in("a") == "two"; })) << status("a");
  EXPECT_TRUE(eventually([&] { return mounts_of("one") == 0; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

/// It is taken off at once, and stays the mount of all until its users have left.
TEST_F(ReloadNative, ChangeOfSourceAndAccessAtOnceWaitsForItsUsersAsWell) {
  put_native("a", "one");
  start();
  touch("a");
  if (!is_native_) GTEST_SKIP() << "this kernel has no native shares here";
  auto inside = std::make_unique<Inside>(server_.in_namespace("a"), Inside::By::kDirectory);
  put("a", "memory/two");
  ASSERT_TRUE(ok(server_.write_file("memory/two/name", "two")));
  EXPECT_NE(reload_says().find("pending, 1 user"), std::string::npos) << answer();
  EXPECT_TRUE(says("a", "with berth:")) << status("a");
  EXPECT_EQ(name_in("a"), "one");
  server_.kill_server();
  EXPECT_EQ(name_in("a"), "one");
  inside.reset();
  EXPECT_TRUE(eventually([&] { return name_in("a") == "two"; })) << status("a");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(ReloadNative, AttachmentOfARemovedShareHoldsItBesideItsUsers) {
  put_native("a", "one");
  start();
  ASSERT_EQ(::mkdir(server_.path("namespace/.berth/shares/a/attachments/vm").c_str(), 0755), 0) << errno_name(errno);
  ASSERT_EQ(::mkdir(server_.path("namespace/.berth/shares/a/attachments/vm/disk").c_str(), 0755), 0);
  touch("a");
  if (!is_native_) GTEST_SKIP() << "this kernel has no native shares here";
  auto inside = std::make_unique<Inside>(server_.in_namespace("a"), Inside::By::kFile);
  remove("a");
  EXPECT_NE(reload_says().find("1 removed (a: 1 user, attached: vm/disk)"), std::string::npos) << answer();
  EXPECT_TRUE(says("a", "removed, 2 users")) << status("a");
  server_.kill_server();
  EXPECT_TRUE(says("a", "removed, 2 users")) << status("a");
  inside.reset();
  EXPECT_TRUE(says("a", "removed, 1 user\n")) << status("a");
  EXPECT_EQ(mounts_of("one"), 1U) << "by its attachment";
  ASSERT_EQ(::rmdir(server_.path("namespace/.berth/shares/a/attachments/vm/disk").c_str()), 0) << errno_name(errno);
  EXPECT_TRUE(eventually([&] { return !is_shown("a"); })) << status("a");
  EXPECT_TRUE(eventually([&] { return mounts_of("one") == 0; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
