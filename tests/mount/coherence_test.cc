#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "tests/mount/berth_fixture.h"

/// Changes that are made past berth, on the real directory: when callers see them through berth.
namespace berth::test {
namespace {

struct Promise {
  const char* name;
  const char* attr_timeout;
  bool at_once;  ///< else when attr_timeout is over
};

class Coherence : public testing::TestWithParam<Promise> {
 protected:
  void SetUp() override {
    if (const std::string reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    server_.make_directory("source/directory");
    ASSERT_TRUE(ok(server_.write_file("source/file", "first")));
    ASSERT_TRUE(ok(server_.start("[berth]\nattr_timeout = \"" + std::string(GetParam().attr_timeout) +
                                 "\"\n[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" +
                                 server_.path("source") + "\"\n")));
  }

  [[nodiscard]] std::string here(const std::string& name) const { return server_.in_namespace("a/" + name); }
  [[nodiscard]] std::string beside(const std::string& name) const { return server_.path("source/" + name); }

  /// What `look` answers through berth is remembered by the kernel; then `change` is made beside, and is seen.
  template <typename Look>
  void expect_seen(const char* what, Look look, const std::function<bool()>& change) {
    const auto before = look();
    EXPECT_EQ(look(), before) << what;
    ASSERT_TRUE(change()) << what << ": " << errno_name(errno);
    if (GetParam().at_once) {
      EXPECT_NE(look(), before) << what;
    } else {
      EXPECT_TRUE(eventually([&] { return look() != before; })) << what;
    }
  }

  /// Type, mode, owner, size and links, or the error.
  [[nodiscard]] std::string attributes(const std::string& name) const {
    struct stat x {};
    if (::lstat(here(name).c_str(), &x) != 0) return errno_name(errno);
    return std::to_string(x.st_mode) + " " + std::to_string(x.st_uid) + " " + std::to_string(x.st_size) + " " +
           std::to_string(x.st_nlink) + " " + std::to_string(x.st_ino);
  }
  [[nodiscard]] std::string text(const std::string& name) const {
    const Result<std::string> read = server_.read_file("namespace/a/" + name);
    return read ? *read : errno_name(read.error().code());
  }
  [[nodiscard]] std::set<std::string> listing(const std::string& name) const {
    std::set<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(here(name).c_str()), &::closedir);
    if (!directory) return names;
    while (const dirent* const entry = ::readdir(directory.get())) names.insert(entry->d_name);
    return names;
  }
  [[nodiscard]] bool write(const std::string& name, std::string_view content) const {
    return server_.write_file("source/" + name, content).has_value();
  }

  BerthServer server_;
};

TEST_P(Coherence, AttributesOfOthersAreSeen) {
  const auto look = [this] { return attributes("file"); };
  expect_seen("mode", look, [this] { return ::chmod(beside("file").c_str(), 0600) == 0; });
  expect_seen("owner", look, [this] { return ::chown(beside("file").c_str(), 12, 34) == 0; });
  expect_seen("size", look, [this] { return ::truncate(beside("file").c_str(), 1'000'000) == 0; });
  expect_seen("links", look, [this] { return ::link(beside("file").c_str(), beside("link").c_str()) == 0; });
  const UniqueFd open(::open(here("file").c_str(), O_RDONLY | O_CLOEXEC));
  const auto look_at_open = [&] {
    struct stat x {};
    EXPECT_EQ(::fstat(open.get(), &x), 0);
    return x.st_size;
  };
  expect_seen("size of an open file", look_at_open, [this] { return ::truncate(beside("file").c_str(), 7) == 0; });
}

TEST_P(Coherence, NamesOfOthersAreSeen) {
  const auto look = [this] { return attributes("name"); };
  EXPECT_EQ(look(), "ENOENT");
  expect_seen("a name that was free", look, [this] { return write("name", "x"); });
  expect_seen("another file in its place", look, [this] {
    return write("new", "longer") && ::rename(beside("new").c_str(), beside("name").c_str()) == 0;
  });
  expect_seen("a directory in its place", look,
              [this] { return ::unlink(beside("name").c_str()) == 0 && ::mkdir(beside("name").c_str(), 0755) == 0; });
  expect_seen("nothing any more", look, [this] { return ::rmdir(beside("name").c_str()) == 0; });
  EXPECT_EQ(look(), "ENOENT");
  expect_seen(
      "a file that was moved away", [this] { return attributes("directory/moved"); },
      [this] { return ::rename(beside("file").c_str(), beside("directory/moved").c_str()) == 0; });
}

TEST_P(Coherence, DataOfOthersIsSeen) {
  const auto look = [this] { return text("file"); };
  EXPECT_EQ(look(), "first");
  expect_seen("as long as before", look, [this] { return write("file", "again"); });
  expect_seen("longer", look, [this] { return write("file", "something longer"); });
  expect_seen("another file", look, [this] {
    return write("new", "of another file.") && ::rename(beside("new").c_str(), beside("file").c_str()) == 0;
  });
  const UniqueFd open(::open(here("file").c_str(), O_RDONLY | O_CLOEXEC));
  const auto look_at_open = [&] {
    std::array<char, 64> bytes{};
    EXPECT_GE(::pread(open.get(), bytes.data(), bytes.size(), 0), 0);
    return std::string(bytes.data());
  };
  EXPECT_EQ(look_at_open(), "of another file.");
  expect_seen("of an open file", look_at_open, [this] { return write("file", "while it is open"); });
}

TEST_P(Coherence, ListingsOfOthersAreSeen) {
  const auto look = [this] { return listing("directory"); };
  expect_seen("one more", look, [this] { return write("directory/one", ""); });
  expect_seen("another name", look,
              [this] { return ::rename(beside("directory/one").c_str(), beside("directory/other").c_str()) == 0; });
  expect_seen("one less", look, [this] { return ::unlink(beside("directory/other").c_str()) == 0; });
  EXPECT_EQ(look(), (std::set<std::string>{".", ".."}));
}

TEST_P(Coherence, TargetsOfLinksOfOthersAreSeen) {
  ASSERT_EQ(::symlink("one", beside("link").c_str()), 0);
  const auto look = [this] {
    std::array<char, 64> target{};
    return ::readlink(here("link").c_str(), target.data(), target.size() - 1) < 0 ? std::string(errno_name(errno))
                                                                                  : std::string(target.data());
  };
  EXPECT_EQ(look(), "one");
  expect_seen("another target", look, [this] {
    return ::symlink("two", beside("new").c_str()) == 0 && ::rename(beside("new").c_str(), beside("link").c_str()) == 0;
  });
  EXPECT_EQ(look(), "two");
}

TEST_P(Coherence, ExtendedAttributesOfOthersAreSeen) {
  const auto look = [this] {
    std::array<char, 64> value{};
    return ::getxattr(here("file").c_str(), "user.x", value.data(), value.size() - 1) < 0
               ? std::string(errno_name(errno))
               : std::string(value.data());
  };
  expect_seen("set", look, [this] { return ::setxattr(beside("file").c_str(), "user.x", "one", 3, 0) == 0; });
  expect_seen("set again", look, [this] { return ::setxattr(beside("file").c_str(), "user.x", "two", 3, 0) == 0; });
  expect_seen("removed", look, [this] { return ::removexattr(beside("file").c_str(), "user.x") == 0; });
}

INSTANTIATE_TEST_SUITE_P(Of, Coherence,
                         testing::Values(Promise{"AShareThatBelievesNothing", "0", true},
                                         Promise{"AShareThatBelievesForAWhile", "200ms", false}),
                         [](const testing::TestParamInfo<Promise>& promise) { return promise.param.name; });

}  // namespace
}  // namespace berth::test
