#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/mount/compared_share.h"

// The kernel decides by the attributes that it has of a share's root which callers may do what in it. While the share
// is not mounted, these are the configured ones, or the last ones seen: the first caller is served by the real root's
// attributes all the same.
namespace berth::test {
namespace {

constexpr uid_t kOwner = 1000;
constexpr uid_t kStranger = 1001;

int code_of(long result) { return result < 0 ? errno : 0; }
int opened(const std::string& path, int flags) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, 0644)) ? 0 : errno;
}

/// The ways to come to a directory first.
struct Way {
  const char* name;
  std::function<int(const std::string& root)> go;
};
const std::vector<Way>& ways() {
  static const std::vector<Way> all{
      {"create", [](const auto& root) { return opened(root + "/new", O_WRONLY | O_CREAT); }},
      {"truncate", [](const auto& root) { return opened(root + "/new", O_WRONLY | O_CREAT | O_TRUNC); }},
      {"exclusive", [](const auto& root) { return opened(root + "/new", O_RDWR | O_CREAT | O_EXCL); }},
      {"nameless", [](const auto& root) { return opened(root, O_RDWR | O_TMPFILE); }},
      {"mkdir", [](const auto& root) { return code_of(::mkdir((root + "/new").c_str(), 0755)); }},
      {"mknod", [](const auto& root) { return code_of(::mknod((root + "/new").c_str(), S_IFIFO | 0644, 0)); }},
      {"symlink", [](const auto& root) { return code_of(::symlink("target", (root + "/new").c_str())); }},
      {"rename",
       [](const auto& root) { return code_of(::rename((root + "/there").c_str(), (root + "/new").c_str())); }},
      {"unlink", [](const auto& root) { return code_of(::unlink((root + "/there").c_str())); }},
      {"list", [](const auto& root) { return opened(root, O_RDONLY | O_DIRECTORY); }},
      {"read", [](const auto& root) { return opened(root + "/there", O_RDONLY); }},
      {"access", [](const auto& root) { return code_of(::access(root.c_str(), R_OK | W_OK | X_OK)); }},
      {"faccessat2",
       [](const auto& root) {
         return code_of(::syscall(SYS_faccessat2, AT_FDCWD, root.c_str(), W_OK | X_OK, AT_EACCESS));
       }},
      {"touch", [](const auto& root) { return code_of(::utimensat(AT_FDCWD, root.c_str(), nullptr, 0)); }},
      {"by_descriptor",
       [](const auto& root) {
         const UniqueFd directory(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));  // asks no server
         return UniqueFd(::openat(directory.get(), "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)) ? 0 : errno;
       }},
      {"from_inside",
       [](const auto& root) {
         return ::chdir(root.c_str()) != 0 ? errno : opened("new", O_WRONLY | O_CREAT | O_EXCL);
       }},
  };
  return all;
}

/// The owner of the directory, and its mode.
struct Kind {
  const char* name;
  uid_t owner;
  gid_t group;
  mode_t mode;
};
constexpr std::array kKinds{Kind{"own", kOwner, kOwner, 0700}, Kind{"sticky", 0, 0, 01777},
                            Kind{"group", 0, kTeam, 02775}};

/// What `act` answers as a user that is in a supplementary group (kTeam).
std::string as_user(uid_t user, const std::function<int()>& act) {
  return in_process([&]() -> std::string {
    const gid_t team = kTeam;
    if (::setgroups(1, &team) != 0 || ::setgid(user) != 0 || ::setuid(user) != 0) return "cannot become a user";
    return errno_name(act());
  });
}

class FirstAccess : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const std::string reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    ::chmod(server_.directory().c_str(), 0755);
  }
  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_EQ(server_.stop(), Ending{});
  }
  /// A share of each kind for each way to come.
  void start(const std::string& lines = "") {
    std::string config;
    for (const Kind& kind : kKinds) {
      for (const Way& way : ways()) {
        const std::string name = std::string(kind.name) + "_" + way.name;
        const std::string source = server_.make_directory("source/" + name);
        ASSERT_TRUE(ok(server_.write_file("source/" + name + "/there", "there")));
        ASSERT_EQ(::chown((source + "/there").c_str(), kOwner, kOwner), 0);
        become(name, kind);
        config += "[share." + name + "]\ntype = \"bind\"\nsource = \"" + source + "\"\naccess = \"" + GetParam() +
                  "\"\n" + lines;
      }
    }
    ASSERT_TRUE(ok(server_.start(config)));
  }
  void become(const std::string& name, const Kind& kind) const {
    const std::string source = server_.path("source/" + name);
    ASSERT_EQ(::chown(source.c_str(), kind.owner, kind.group), 0);
    ASSERT_EQ(::chmod(source.c_str(), kind.mode), 0);
  }
  void expect_all_ways(uid_t user, const std::function<int(const Kind&, const Way&)>& expected) {
    for (const Kind& kind : kKinds) {
      for (const Way& way : ways()) {
        const std::string name = std::string(kind.name) + "_" + way.name;
        EXPECT_EQ(as_user(user, [&] { return way.go(server_.in_namespace(name)); }), errno_name(expected(kind, way)))
            << name;
      }
    }
  }
  static int always_good(const Kind&, const Way&) { return 0; }

  BerthServer server_;
};

TEST_P(FirstAccess, IsGrantedWhatTheRealRootGrants) {
  ASSERT_NO_FATAL_FAILURE(start());
  expect_all_ways(kOwner, always_good);
}

TEST_P(FirstAccess, IsGrantedWhatTheRealRootGrantsByNow) {
  ASSERT_NO_FATAL_FAILURE(start());
  // All have been looked at while they were another's, and are idle again.
  for (const Kind& kind : kKinds) {
    for (const Way& way : ways()) {
      const std::string name = std::string(kind.name) + "_" + way.name;
      become(name, {"another's", 0, 0, 0700});
      ASSERT_EQ(as_user(0, [&] { return opened(server_.in_namespace(name) + "/there", O_RDONLY); }), errno_name(0));
      ASSERT_TRUE(
          eventually([&] { return server_.write_control("shares/" + name + "/control", "unmount").has_value(); }));
      ASSERT_TRUE(server_.wait_for_state(name, "idle"));
      become(name, kind);
    }
  }
  expect_all_ways(kOwner, always_good);
}

TEST_P(FirstAccess, IsRefusedWhatTheRealRootRefuses) {
  ASSERT_NO_FATAL_FAILURE(start());
  const auto refused = [](const Kind& kind, const Way&) { return std::string(kind.name) == "own" ? EACCES : 0; };
  for (const Kind& kind : kKinds) {
    for (const Way& way : ways()) {
      if (refused(kind, way) == 0) continue;
      const std::string name = std::string(kind.name) + "_" + way.name;
      EXPECT_EQ(as_user(kStranger, [&] { return way.go(server_.in_namespace(name)); }), errno_name(EACCES)) << name;
    }
  }
}

TEST_P(FirstAccess, IsAnsweredTheErrorOfAMountThatFails) {
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"bind\"\nsource = \"/nowhere/at/all\"\naccess = \"" +
                               std::string(GetParam()) + "\"\n")));
  const std::string root = server_.in_namespace("a");
  const std::string told = as_user(kOwner, [&] { return opened(root + "/new", O_WRONLY | O_CREAT); });
  EXPECT_NE(told, errno_name(0));
  EXPECT_NE(told, errno_name(EACCES));
  EXPECT_NE(told, errno_name(ESTALE));
}

TEST_P(FirstAccess, OfOneWhoOnlyLooksMountsNothing) {
  ASSERT_NO_FATAL_FAILURE(start());
  for (int times = 0; times < 2; ++times) {
    for (const uid_t user : {uid_t{0}, kOwner, kStranger}) {
      for (const Kind& kind : kKinds) {
        const std::string name = std::string(kind.name) + "_create";
        const std::string root = server_.in_namespace(name);
        struct stat s {};
        struct statx x {};
        EXPECT_EQ(as_user(user, [&] { return code_of(::stat(root.c_str(), &s)); }), errno_name(0));
        EXPECT_EQ(as_user(user, [&] { return code_of(::lstat(root.c_str(), &s)); }), errno_name(0));
        EXPECT_EQ(as_user(user, [&] { return code_of(::statx(AT_FDCWD, root.c_str(), 0, STATX_ALL, &x)); }),
                  errno_name(0));
        EXPECT_EQ(as_user(user, [&] { return code_of(::access(root.c_str(), R_OK | X_OK)); }), errno_name(0));
        EXPECT_EQ(as_user(user, [&] { return code_of(::chdir(root.c_str())); }), errno_name(0));
        EXPECT_EQ(as_user(user, [&] { return opened(server_.namespace_path(), O_RDONLY | O_DIRECTORY); }),
                  errno_name(0));
        EXPECT_EQ(server_.state(name), "idle") << user;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, FirstAccess, ::testing::Values("proxy", "auto"),
                         [](const auto& chosen) { return std::string(chosen.param); });

using FirstAccessWithoutPatience = FirstAccess;

TEST_P(FirstAccessWithoutPatience, IsServedAsTheRealRootSays) {
  ASSERT_NO_FATAL_FAILURE(start("idle_timeout = \"0\"\n"));
  for (const Way& way : ways()) {
    const std::string root = server_.in_namespace(std::string("own_") + way.name);
    EXPECT_EQ(as_user(kStranger, [&] { return way.go(root); }), errno_name(EACCES)) << way.name;
  }
  expect_all_ways(kOwner, always_good);
}

INSTANTIATE_TEST_SUITE_P(Kinds, FirstAccessWithoutPatience, ::testing::Values("proxy"),
                         [](const auto& chosen) { return std::string(chosen.param); });

}  // namespace
}  // namespace berth::test
