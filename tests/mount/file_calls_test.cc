#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/mount/compared_share.h"

// What Linux offers for files beyond reading and writing.
namespace berth::test {
namespace {

std::string contents(int fd) {
  std::string bytes(65536, '\0');
  const ssize_t size = ::pread(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<std::size_t>(size < 0 ? 0 : size));
  return bytes;
}

class FileCalls : public ComparedShare {
 protected:
  static UniqueFd open(Transcript& t, const std::string& name, int flags = O_RDWR | O_CREAT, mode_t mode = 0644) {
    UniqueFd fd(::open(t.path(name).c_str(), flags, mode));
    t.note("open " + name, fd ? 0 : -1);
    return fd;
  }
};

TEST_F(FileCalls, SpaceIsAllocatedAndGivenBack) {
  compare([](Transcript& t) {
    const UniqueFd file = open(t, "file");
    const std::string text(20000, 'x');
    t.note("write", ::pwrite(file.get(), text.data(), text.size(), 0));
    for (const int mode : {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                           FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE}) {
      t.note("fallocate", ::fallocate(file.get(), mode, 4096, 8192));
      t.note("fallocate beyond", ::fallocate(file.get(), mode, 40960, 8192));
      t.note("fallocate of nothing", ::fallocate(file.get(), mode, 0, 0));
      t.note("fallocate before the start", ::fallocate(file.get(), mode, -1, 10));
      t.show("file");
      t.note("contents", std::to_string(std::hash<std::string>()(contents(file.get()))));
    }
    const UniqueFd reader = open(t, "file", O_RDONLY);
    t.note("fallocate of a reader", ::fallocate(reader.get(), 0, 0, 10));
    struct stat s {};
    ::fstat(file.get(), &s);
    t.note("blocks", s.st_blocks);
  });
}

TEST_F(FileCalls, HolesAreFound) {
  compare([](Transcript& t) {
    const UniqueFd file = open(t, "file");
    t.note("write", ::pwrite(file.get(), "x", 1, 1 << 20));
    t.note("write", ::pwrite(file.get(), "x", 1, 3 << 20));
    for (const off_t from : {0, 1 << 20, (1 << 20) + 1, 2 << 20, 3 << 20, 4 << 20}) {
      t.note("data", ::lseek(file.get(), from, SEEK_DATA));
      t.note("hole", ::lseek(file.get(), from, SEEK_HOLE));
    }
    t.note("end", ::lseek(file.get(), 0, SEEK_END));
    t.note("far", ::lseek(file.get(), 1L << 42, SEEK_SET));
    t.note("before", ::lseek(file.get(), -1, SEEK_SET));
    t.note("large", ::ftruncate(file.get(), 1L << 40));
    t.show("file");
    t.note("end", ::lseek(file.get(), -1, SEEK_END));
  });
}

TEST_F(FileCalls, RangesAreCopied) {
  compare([](Transcript& t) {
    const UniqueFd from = open(t, "from");
    const UniqueFd to = open(t, "to");
    t.note("write", ::write(from.get(), "0123456789", 10));
    off_t start = 2;
    off_t end = 3;
    t.note("copy", ::copy_file_range(from.get(), &start, to.get(), &end, 5, 0));
    t.note("from", start);
    t.note("to", end);
    t.note("contents", contents(to.get()));
    t.note("beyond the end", ::copy_file_range(from.get(), &start, to.get(), &end, 100, 0));
    t.note("contents", contents(to.get()));
    t.note("at the end", ::copy_file_range(from.get(), &start, to.get(), &end, 100, 0));
    off_t here = 0;
    off_t over = 4;
    t.note("over itself", ::copy_file_range(from.get(), &here, from.get(), &over, 5, 0));
    off_t behind = 20;
    t.note("in one file", ::copy_file_range(from.get(), &here, from.get(), &behind, 5, 0));
    t.note("contents", contents(from.get()));
    t.show("from");
    t.show("to");
    const UniqueFd reader = open(t, "to", O_RDONLY);
    here = 0;
    t.note("into a reader", ::copy_file_range(from.get(), &here, reader.get(), nullptr, 5, 0));
  });
}

TEST_F(FileCalls, FilesWithoutANameAreGivenOneLater) {
  compare([](Transcript& t) {
    UniqueFd file(::open(t.path(".").c_str(), O_RDWR | O_TMPFILE, 0640));
    t.note("open", file ? 0 : -1);
    t.note("write", ::write(file.get(), "hello", 5));
    struct stat s {};
    t.note("stat", ::fstat(file.get(), &s));
    t.note("links", static_cast<long>(s.st_nlink));
    t.note("mode", s.st_mode);
    t.note("chmod", ::fchmod(file.get(), 0600));
    t.list(".");
    const std::string path = "/proc/self/fd/" + std::to_string(file.get());
    t.note("link", ::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, t.path("name").c_str(), AT_SYMLINK_FOLLOW));
    t.show("name");
    t.read("name");
    t.note("write", ::pwrite(file.get(), "J", 1, 0));
    t.read("name");
    file.reset();
    t.read("name");
    const UniqueFd secret(::open(t.path(".").c_str(), O_WRONLY | O_TMPFILE | O_EXCL, 0640));
    const std::string other = "/proc/self/fd/" + std::to_string(secret.get());
    t.note("link", ::linkat(AT_FDCWD, other.c_str(), AT_FDCWD, t.path("secret").c_str(), AT_SYMLINK_FOLLOW));
    t.note("for reading", ::open(t.path(".").c_str(), O_RDONLY | O_TMPFILE, 0640));
    t.note("in a file", ::open(t.path("name").c_str(), O_RDWR | O_TMPFILE, 0640));
    t.list(".");
  });
}

TEST_F(FileCalls, TheBirthOfAFileIsTold) {
  ASSERT_TRUE(ok(server_.write_file("source/file", "x")));
  struct statx real {
  }, seen{};
  ASSERT_EQ(::statx(AT_FDCWD, (source_ + "/file").c_str(), 0, STATX_BTIME, &real), 0);
  if ((real.stx_mask & STATX_BTIME) == 0) GTEST_SKIP() << "this file system does not know when files were made";
  for (int i = 0; i < 2; ++i) {
    ASSERT_EQ(::statx(AT_FDCWD, (share_ + "/file").c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &seen), 0);
    EXPECT_TRUE((seen.stx_mask & STATX_BTIME) != 0);
    EXPECT_EQ(seen.stx_btime.tv_sec, real.stx_btime.tv_sec);
    EXPECT_EQ(seen.stx_btime.tv_nsec, real.stx_btime.tv_nsec);
    EXPECT_EQ(seen.stx_size, 1U);
  }
  EXPECT_EQ(::statx(AT_FDCWD, server_.namespace_path().c_str(), 0, STATX_BASIC_STATS | STATX_BTIME, &seen), 0);
  EXPECT_TRUE(S_ISDIR(seen.stx_mode));
  const UniqueFd open(::open((share_ + "/file").c_str(), O_RDONLY));
  EXPECT_EQ(::statx(open.get(), "", AT_EMPTY_PATH, STATX_BTIME, &seen), 0);
  EXPECT_EQ(seen.stx_btime.tv_nsec, real.stx_btime.tv_nsec);
}

TEST_F(FileCalls, FlagsOfFilesAndDirectories) {
  compare([](Transcript& t) {
    t.write("file", "x");
    t.note("mkdir", ::mkdir(t.path("directory").c_str(), 0755));
    for (const char* name : {"file", "directory"}) {
      const UniqueFd fd = open(t, name, O_RDONLY);
      int flags = 0;
      t.note("get", ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags));
      t.note("flags", flags);
      flags |= FS_APPEND_FL | FS_NODUMP_FL;
      t.note("set", ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags));
      flags = 0;
      t.note("get", ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags));
      t.note("flags", flags);
      t.write(name, "y", O_TRUNC);
      t.write(name, "y", O_APPEND);
      t.write(std::string(name) + "/new", "y", O_CREAT);
      t.note("unlink", ::unlink(t.path(std::string(name) + "/new").c_str()));
      t.note("as nobody", in_process([&] {
               if (!become_nobody()) return std::string("cannot become nobody");
               int none = 0;
               t.note("set", ::ioctl(fd.get(), FS_IOC_SETFLAGS, &none));
               return t.text();
             }));
      struct fsxattr attributes {};
      t.note("get attributes", ::ioctl(fd.get(), FS_IOC_FSGETXATTR, &attributes));
      t.note("attributes", attributes.fsx_xflags);
      attributes.fsx_xflags = 0;
      t.note("set attributes", ::ioctl(fd.get(), FS_IOC_FSSETXATTR, &attributes));
      t.note("get attributes", ::ioctl(fd.get(), FS_IOC_FSGETXATTR, &attributes));
      t.note("attributes", attributes.fsx_xflags);
      t.write(name, "y", O_TRUNC);
    }
    const UniqueFd fd = open(t, "file", O_RDONLY);
    t.note("another", ::ioctl(fd.get(), _IOR('f', 200, int), nullptr));
    pollfd ready{.fd = fd.get(), .events = POLLIN | POLLOUT, .revents = 0};
    t.note("poll", ::poll(&ready, 1, 0));
    t.note("ready", ready.revents);
  });
}

TEST_F(FileCalls, TimesOfChangeAreSeenAtOnce) {
  const auto changed = [](Transcript& t, const std::string& name) {
    struct stat s {};
    ::lstat(t.path(name).c_str(), &s);
    return std::pair(s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
  };
  compare([&](Transcript& t) {
    t.write("one", "x");
    t.note("mkdir", ::mkdir(t.path("directory").c_str(), 0755));
    const auto after = [&](const char* what, const std::string& name, const std::function<int()>& act) {
      const auto before = changed(t, name);
      ::usleep(20000);  // the clock of file systems ticks
      t.note(what, act());
      t.note(std::string("seen in ") + name, changed(t, name) != before ? 1 : 0);
    };
    after("link", "one", [&] { return ::link(t.path("one").c_str(), t.path("two").c_str()); });
    after("unlink", "one", [&] { return ::unlink(t.path("two").c_str()); });
    after("link", ".", [&] { return ::link(t.path("one").c_str(), t.path("two").c_str()); });
    after("rename", "one", [&] { return ::rename(t.path("one").c_str(), t.path("directory/one").c_str()); });
    after("rename", "directory", [&] { return ::rename(t.path("two").c_str(), t.path("directory/two").c_str()); });
    after("chmod", "directory/one", [&] { return ::chmod(t.path("directory/two").c_str(), 0600); });
    after("flags", "directory/one", [&] {
      const UniqueFd fd(::open(t.path("directory/two").c_str(), O_RDONLY));
      int flags = 0;
      ::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags);
      flags |= FS_NODUMP_FL;
      return ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags);
    });
    after("mkdir", "directory", [&] { return ::mkdir(t.path("directory/below").c_str(), 0700); });
    struct stat s {};
    ::stat(t.path("directory").c_str(), &s);
    t.note("links", static_cast<long>(s.st_nlink));
  });
}

TEST_F(FileCalls, RenamesWithFlags) {
  compare([](Transcript& t) {
    t.write("one", "1");
    t.write("two", "2");
    t.note("mkdir", ::mkdir(t.path("directory").c_str(), 0755));
    const auto rename = [&](const char* from, const char* to, unsigned flags) {
      t.note(std::string(from) + " to " + to,
             ::renameat2(AT_FDCWD, t.path(from).c_str(), AT_FDCWD, t.path(to).c_str(), flags));
      for (const char* name : {"one", "two", "three", "directory", "directory/one"}) t.show(name);
    };
    rename("one", "two", RENAME_NOREPLACE);
    rename("one", "two", RENAME_EXCHANGE);
    rename("one", "directory", RENAME_EXCHANGE);
    rename("one", "directory", RENAME_EXCHANGE);
    rename("one", "missing", RENAME_EXCHANGE);
    rename("one", "directory/one", RENAME_NOREPLACE);
    t.read("directory/one");
    t.read("two");
    rename("two", "three", RENAME_WHITEOUT);
    rename("three", "two", RENAME_NOREPLACE | RENAME_EXCHANGE);
    rename("three", "two", 1U << 10);
    t.list(".");
  });
}

/// Two shares of one file system.
TEST(FileCallsAcrossShares, CopiesFallBackAndNamesDoNotCross) {
  BerthServer server;
  server.make_directory("one");
  server.make_directory("two");
  ASSERT_TRUE(ok(server.write_file("one/file", "0123456789")));
  ASSERT_TRUE(ok(server.start_shares({{"one", server.path("one")}, {"two", server.path("two")}})));
  {
    const UniqueFd from(::open(server.in_namespace("one/file").c_str(), O_RDONLY));
    const UniqueFd to(::open(server.in_namespace("two/file").c_str(), O_RDWR | O_CREAT, 0644));
    EXPECT_EQ(::copy_file_range(from.get(), nullptr, to.get(), nullptr, 100, 0), 10);
    EXPECT_EQ(contents(to.get()), "0123456789");
    const UniqueFd outside(::open(server.path("outside").c_str(), O_RDWR | O_CREAT, 0644));
    EXPECT_EQ(::lseek(from.get(), 0, SEEK_SET), 0);
    const ssize_t copied = ::copy_file_range(from.get(), nullptr, outside.get(), nullptr, 100, 0);
    EXPECT_TRUE(copied == 10 || (copied == -1 && errno == EXDEV)) << errno_name(errno);
  }
  const auto crosses = [&](auto call) {
    EXPECT_EQ(call(server.in_namespace("one/file").c_str(), server.in_namespace("two/other").c_str()), -1);
    EXPECT_EQ(errno, EXDEV);
  };
  crosses([](const char* from, const char* to) { return ::rename(from, to); });
  crosses([](const char* from, const char* to) { return ::link(from, to); });
  EXPECT_EQ(server.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
