#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/parity/furniture.h"
#include "tests/parity/options.h"
#include "tests/parity/sides.h"

// Every corner of the calls that take a path: each way of calling, on each kind of path, as each user, must do as on
// the file system itself.
namespace berth::test {
namespace {

using Case = Sides::Case;

constexpr long kNull = 0x103, kBlock = 0x7c8;  // 1:3 and 7:200

struct Way {
  const char* call;
  std::array<long, 4> n{};
  const char* other = "";
};

/// Ways to call what takes one path.
const std::vector<Way>& ways() {
  static const std::vector<Way> all{
      {"open", {O_RDONLY}},
      {"open", {O_WRONLY}},
      {"open", {O_RDWR}},
      {"open", {O_RDONLY | O_TRUNC}},
      {"open", {O_WRONLY | O_TRUNC}},
      {"open", {O_WRONLY | O_APPEND}},
      {"open", {O_RDWR | O_APPEND | O_TRUNC}},
      {"open", {O_CREAT | O_WRONLY, 0644}},
      {"open", {O_CREAT | O_RDONLY | O_TRUNC, 06777}},
      {"open", {O_CREAT | O_EXCL | O_RDWR, 04755}},
      {"open", {O_CREAT | O_EXCL | O_RDWR, 0}},
      {"open", {O_CREAT | O_NOFOLLOW | O_RDWR, 0600}},
      {"open", {O_CREAT | O_DIRECTORY | O_RDWR, 0600}},
      {"open", {O_DIRECTORY}},
      {"open", {O_NOFOLLOW}},
      {"open", {O_PATH}},
      {"open", {O_PATH | O_NOFOLLOW}},
      {"open", {O_NOATIME}},
      {"open", {O_ACCMODE}},
      {"open", {O_RDONLY | O_DIRECT}},
      {"tmpfile", {O_RDWR, 0640}},
      {"tmpfile", {O_RDONLY, 0640}},
      {"mkdir", {0755}},
      {"mkdir", {07777}},
      {"mknod", {S_IFREG | 0644}},
      {"mknod", {S_IFIFO | 0644}},
      {"mknod", {S_IFSOCK | 07777}},
      {"mknod", {S_IFCHR | 0644, kNull}},
      {"mknod", {S_IFBLK | 0644, kBlock}},
      {"mknod", {S_IFDIR | 0644}},
      {"mknod", {S_IFLNK | 0644}},
      {"symlink", {}, "file"},
      {"symlink", {}, ""},
      {"readlink", {5000}},
      {"readlink", {2}},
      {"readlink", {0}},
      {"unlink", {0}},
      {"rmdir", {AT_REMOVEDIR}},
      {"chmod", {0640}},
      {"chmod", {0}},
      {"chmod", {06777}},
      {"chmod", {01755}},
      {"chmod", {02750}},
      {"chmod", {0640, AT_SYMLINK_NOFOLLOW}},
      {"chown", {1001, 1001}},
      {"chown", {-1, 2001}},
      {"chown", {-1, 2002}},
      {"chown", {-1, 3000}},
      {"chown", {1002, -1}},
      {"chown", {1001, -1}},
      {"chown", {0, 0}},
      {"chown", {-1, -1}},
      {"chown", {-1, -1, AT_SYMLINK_NOFOLLOW}},
      {"chown", {1001, 2001, AT_SYMLINK_NOFOLLOW}},
      {"chown", {1002, 1002, AT_SYMLINK_NOFOLLOW}},
      {"truncate", {0}},
      {"truncate", {100}},
      {"truncate", {5000}},
      {"truncate", {100'000}},
      {"truncate", {-1}},
      {"truncate", {0x7fffffffffffffff}},
      {"utimes", {-1, -1, -9}},
      {"utimes", {-1, -1}},
      {"utimes", {-2, -2}},
      {"utimes", {-1, -2}},
      {"utimes", {-2, -1}},
      {"utimes", {-3, -1}},
      {"utimes", {1'000'001, 2}},
      {"utimes", {-2, 7}},
      {"utimes", {5, -1}},
      {"utimes", {5, 6, AT_SYMLINK_NOFOLLOW}},
      {"utimes", {-1, -1, AT_SYMLINK_NOFOLLOW}},
      {"access", {F_OK}},
      {"access", {R_OK}},
      {"access", {W_OK}},
      {"access", {X_OK}},
      {"access", {R_OK | W_OK, AT_EACCESS}},
      {"access", {X_OK, AT_SYMLINK_NOFOLLOW}},
      {"access", {8}},
      {"stat", {0}},
      {"stat", {AT_SYMLINK_NOFOLLOW}},
      {"statfs"},
      {"chdir"},
      {"list", {2}},
      {"execute"},
      {"bind"},
      {"setxattr", {0, 10}, "user.a"},
      {"setxattr", {0, 10, 0, 4}, "user.a"},
      {"setxattr", {0, 10, 0, 4}, "trusted.a"},
      {"setxattr", {13}, "system.posix_acl_access"},
      {"setxattr", {13}, "system.posix_acl_default"},
      {"setxattr", {0, 10, 0, XATTR_REPLACE}, "user.a"},
      {"setxattr", {}, "security.capability"},
      {"getxattr", {}, "user.a"},
      {"getxattr", {}, "system.posix_acl_access"},
      {"listxattr"},
      {"removexattr", {}, "user.a"},
      {"removexattr", {}, "system.posix_acl_access"},
      {"chattr", {FS_NODUMP_FL}},
      {"chattr", {FS_IMMUTABLE_FL}},
      {"chattr", {FS_APPEND_FL}},
  };
  return all;
}

/// A part of all cases in the gate, spread over them; all by hand.
class Sample {
 public:
  explicit Sample(long one_in) : one_in_(one_in) {}
  bool takes() { return options().thorough || count_++ % one_in_ == 0; }

 private:
  long one_in_;
  long count_ = 0;
};

/// One user of each kind; the fourth of persons() is the second once more.
constexpr int kUsers = 3;

std::vector<Case> one_path_cases(long one_in) {
  Sample sample(one_in);
  std::vector<Case> cases;
  for (int user = 0; user < kUsers; ++user) {
    for (const Way& way : ways()) {
      if (!is_known(way.call)) continue;
      for (const std::string& path : all_paths()) {
        if (!sample.takes()) continue;
        cases.push_back({operation(way.call, {.path = path, .other = way.other, .n = way.n}, user)});
      }
    }
  }
  return cases;
}

std::vector<Case> two_path_cases(long one_in) {
  const std::vector<Way> two{{"link", {0}},
                             {"link", {AT_SYMLINK_FOLLOW}},
                             {"rename", {0}},
                             {"rename", {RENAME_NOREPLACE}},
                             {"rename", {RENAME_EXCHANGE}}};
  Sample sample(one_in);
  std::vector<Case> cases;
  for (int user = 0; user < kUsers; ++user) {
    for (const Way& way : two) {
      for (const std::string& from : telling_paths()) {
        for (const std::string& to : telling_paths()) {
          if (!sample.takes()) continue;
          cases.push_back({operation(way.call, {.path = from, .other = to, .n = way.n}, user)});
        }
      }
    }
  }
  return cases;
}

void expect_alike(Sides& sides, const std::vector<Case>& cases) {
  if (!sides.why_not().empty()) GTEST_SKIP() << sides.why_not();
  EXPECT_FALSE(cases.empty());
  for (const std::string& text : sides.run_each(cases, &furnish, 20)) ADD_FAILURE() << text;
}

class Conformance : public testing::TestWithParam<const char*> {};

/// All cases would take minutes; the file systems share them, a prime each, so that over all they are many.
long one_in(const std::string& type) { return type == "ext4" ? 17 : type == "xfs" ? 97 : type == "btrfs" ? 101 : 89; }

TEST_P(Conformance, OfCallsThatTakeAPath) {
  Sides sides(GetParam());
  expect_alike(sides, one_path_cases(one_in(GetParam())));
}

TEST_P(Conformance, OfCallsThatTakeTwoPaths) {
  Sides sides(GetParam());
  expect_alike(sides, two_path_cases(one_in(GetParam()) * 3));
}

INSTANTIATE_TEST_SUITE_P(On, Conformance, testing::Values("ext4", "xfs", "btrfs", "tmpfs", "overlay"),
                         [](const auto& tried) { return std::string(tried.param); });

TEST(ReadOnlyConformance, OfCallsThatTakeAPath) {
  Sides sides("ext4", true);
  expect_alike(sides, one_path_cases(13));
}

TEST(ReadOnlyConformance, OfCallsThatTakeTwoPaths) {
  Sides sides("ext4", true);
  expect_alike(sides, two_path_cases(41));
}

}  // namespace
}  // namespace berth::test
