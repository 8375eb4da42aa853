#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"

/// How many nodes are remembered for the kernel, and what stays usable when there are too many.
namespace berth::test {
namespace {

constexpr int kDirectories = 40;
constexpr int kFiles = 50;
constexpr std::size_t kLimit = 200;

bool is_before_linux(int major, int minor) {
  utsname name{};
  std::array<int, 2> version{};
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &version[0], &version[1]) != 2) return true;
  return version[0] < major || (version[0] == major && version[1] < minor);
}

std::string name_of(int directory, int file) { return "d" + std::to_string(directory) + "/f" + std::to_string(file); }

class Nodes : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    if (is_before_linux(6, 18)) GTEST_SKIP() << "needs Linux 6.18 (FUSE_NOTIFY_PRUNE)";
    source_ = server_.make_directory("source");
    for (int d = 0; d < kDirectories; ++d) {
      server_.make_directory("source/d" + std::to_string(d));
      for (int f = 0; f < kFiles; ++f) {
        ASSERT_TRUE(ok(server_.write_file("source/" + name_of(d, f), name_of(d, f))));
      }
    }
    ASSERT_TRUE(ok(server_.start("[berth]\nmax_nodes = " + std::to_string(kLimit) +
                                 "\n[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n")));
  }

  [[nodiscard]] std::string in_share(const std::string& name) const { return server_.in_namespace("a/" + name); }
  [[nodiscard]] std::size_t nodes() const { return server_.read_json("status.json").value("nodes", std::size_t{0}); }

  /// Looks at all files there are, by name; answers how many.
  int walk() const {
    int seen = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(in_share(""))) {
      struct stat x {};
      EXPECT_EQ(::lstat(entry.path().c_str(), &x), 0) << entry.path();
      ++seen;
    }
    return seen;
  }

  BerthServer server_;
  std::string source_;
};

TEST_F(Nodes, ColdOnesGoAndAreFoundAgain) {
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(walk(), kDirectories * (kFiles + 1));
    EXPECT_TRUE(eventually([this] { return nodes() <= kLimit; })) << nodes();
  }
  for (int d = 0; d < kDirectories; ++d) {
    const Result<std::string> text = server_.read_file("namespace/a/" + name_of(d, 7));
    ASSERT_TRUE(ok(text));
    EXPECT_EQ(*text, name_of(d, 7));
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Nodes, WhatSomebodyHoldsStays) {
  const UniqueFd open_file(::open(in_share(name_of(1, 1)).c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd named(::open(in_share(name_of(2, 2)).c_str(), O_PATH | O_CLOEXEC));
  const UniqueFd place(::open(in_share("d3").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(open_file && named && place);
  const std::string before = std::filesystem::current_path();
  ASSERT_EQ(::chdir(in_share("d4").c_str()), 0);
  struct stat named_before {};
  ASSERT_EQ(::fstat(named.get(), &named_before), 0);

  EXPECT_EQ(walk(), kDirectories * (kFiles + 1));
  EXPECT_TRUE(eventually([this] { return nodes() <= kLimit; })) << nodes();

  std::array<char, 16> text{};
  EXPECT_EQ(::pread(open_file.get(), text.data(), text.size(), 0), 5);
  EXPECT_STREQ(text.data(), "d1/f1");
  EXPECT_EQ(::pwrite(open_file.get(), "D", 1, 0), 1);
  struct stat named_after {};
  EXPECT_EQ(::fstat(named.get(), &named_after), 0);
  EXPECT_EQ(named_after.st_ino, named_before.st_ino);
  EXPECT_EQ(::faccessat(place.get(), "f9", R_OK, 0), 0);
  EXPECT_EQ(std::filesystem::current_path(), in_share("d4"));
  EXPECT_EQ(::access("f9", R_OK), 0);
  EXPECT_EQ(::chdir(before.c_str()), 0);
}

/// The limit is soft: no caller is refused anything, and when callers let go it holds again.
TEST_F(Nodes, MoreMayBeHeldThanTheLimitSays) {
  std::vector<UniqueFd> held;
  for (int f = 0; f < static_cast<int>(2 * kLimit); ++f) {
    held.emplace_back(::open(in_share(name_of(f / kFiles, f % kFiles)).c_str(), O_PATH | O_CLOEXEC));
    ASSERT_TRUE(held.back());
  }
  EXPECT_EQ(walk(), kDirectories * (kFiles + 1));
  EXPECT_TRUE(eventually([this] { return nodes() <= 2 * kLimit + kDirectories + kLimit; })) << nodes();
  for (const UniqueFd& file : held) {
    struct stat x {};
    EXPECT_EQ(::fstat(file.get(), &x), 0);
  }
  EXPECT_GE(nodes(), 2 * kLimit);
  held.clear();
  EXPECT_EQ(walk(), kDirectories * (kFiles + 1));
  EXPECT_TRUE(eventually([this] { return nodes() <= kLimit; })) << nodes();
}

}  // namespace
}  // namespace berth::test
