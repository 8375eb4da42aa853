#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/mount/compared_share.h"

// How the bytes of files travel: by the kernel alone where it can, and with the same effects as on the file system
// itself.
namespace berth::test {
namespace {

/// All processes of a server stand still while this lives.
class Standstill {
 public:
  explicit Standstill(const BerthServer& server) : stopped_(server.processes()) {
    for (const pid_t pid : stopped_) ::kill(pid, SIGSTOP);
  }
  ~Standstill() {
    for (const pid_t pid : stopped_) ::kill(pid, SIGCONT);
  }
  Standstill(const Standstill&) = delete;
  Standstill& operator=(const Standstill&) = delete;

 private:
  std::vector<pid_t> stopped_;
};

std::string read_at_start(int fd) {
  std::array<char, 64> bytes{};
  const ssize_t size = ::pread(fd, bytes.data(), bytes.size(), 0);
  return size < 0 ? errno_name(errno) : std::string(bytes.data(), static_cast<std::size_t>(size));
}

class DataPath : public ComparedShare {};

TEST_F(DataPath, TheKernelReadsWritesAndMapsWithoutTheServer) {
  ASSERT_TRUE(ok(server_.write_file("source/file", "old")));
  const UniqueFd file(::open((share_ + "/file").c_str(), O_RDWR));
  ASSERT_TRUE(file);
  const UniqueFd made(::open((share_ + "/made").c_str(), O_RDWR | O_CREAT | O_EXCL, 0644));
  ASSERT_TRUE(made);
  // The first write asks the server whether the file has capabilities (security.capability).
  EXPECT_EQ(::pwrite(file.get(), "o", 1, 0), 1);
  EXPECT_EQ(::pwrite(made.get(), "m", 1, 0), 1);
  ASSERT_TRUE(ok(server_.write_file("source/file", "what came after it was opened")));
  const Standstill standstill(server_);
  EXPECT_EQ(read_at_start(file.get()), "what came after it was opened");
  EXPECT_EQ(::pwrite(file.get(), "WHAT", 4, 0), 4);
  EXPECT_EQ(::pwrite(made.get(), "made", 4, 0), 4);
  char* const map = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  ASSERT_NE(map, MAP_FAILED);
  map[5] = 'C';
  ::munmap(map, 4096);
  EXPECT_EQ(*server_.read_file("source/file"), "WHAT Came after it was opened");
  EXPECT_EQ(*server_.read_file("source/made"), "made");
}

TEST_F(DataPath, EveryWayToOpenAFileGoesWithEveryOther) {
  std::filesystem::copy_file("/bin/true", source_ + "/program");
  std::filesystem::copy_file("/bin/true", native_ + "/program");
  compare([](Transcript& t) {
    std::vector<UniqueFd> open;
    for (const int flags : {O_RDONLY, O_RDWR, O_WRONLY, O_WRONLY | O_APPEND, O_RDONLY | O_DIRECT, O_RDWR | O_SYNC,
                            O_RDWR | O_DSYNC, O_RDONLY | O_NOATIME, O_RDWR | O_CREAT, O_PATH}) {
      open.emplace_back(::open(t.path("program").c_str(), flags, 0644));
      t.note("open", open.back() ? 0 : -1);
    }
    t.note("truncate", ::truncate(t.path("program").c_str(), 100));
    open.emplace_back(::open(t.path("program").c_str(), O_WRONLY | O_TRUNC));
    t.note("open and truncate", open.back() ? 0 : -1);
    t.note("write", ::pwrite(open[2].get(), "hello", 5, 0));
    t.note("append", ::write(open[3].get(), " world", 6));
    t.note("read back", read_at_start(open[0].get()));
    t.note("run", ::execl(t.path("program").c_str(), "program", nullptr));
    t.show("program");
    open.clear();
    t.read("program");
  });
}

TEST_F(DataPath, FilesOpenedAndClosedByManyAtOnce) {
  constexpr int kRounds = 400;
  ASSERT_TRUE(ok(server_.write_file("source/file", "hello")));
  const auto work = [this]() -> int {
    for (int i = 0; i < kRounds; ++i) {
      const UniqueFd file(::open((share_ + "/file").c_str(), i % 3 == 0 ? O_RDWR : O_RDONLY));
      if (!file) return errno;
      if (read_at_start(file.get()) != "hello") return 255;
    }
    return 0;
  };
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(work());
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0) << errno_name(WEXITSTATUS(status));
  }
}

TEST_F(DataPath, AProgramIsRun) {
  std::filesystem::copy_file("/bin/true", source_ + "/program");
  std::filesystem::copy_file("/bin/true", native_ + "/program");
  const auto run = [](Transcript& t) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl(t.path("program").c_str(), "program", nullptr);
      ::_exit(100);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    t.note("run", status);
  };
  compare(run);
  compare([&](Transcript& t) {
    t.note("chmod", ::chmod(t.path("program").c_str(), 0711));
    t.note("as nobody", in_process([&] {
             if (!become_nobody()) return std::string("cannot become nobody");
             run(t);
             return t.text();
           }));
  });
}

// Linux ends set-id bits when a caller without CAP_FSETID writes or truncates (inode_permission, file_remove_privs).
TEST_F(DataPath, WritesEndSetIdBitsAtOnce) {
  const auto make = [](Transcript& t, const std::string& name) {
    t.write(name, "some text");
    t.note("chown", ::chown(t.path(name).c_str(), 1, 1));
    t.note("chmod", ::chmod(t.path(name).c_str(), 06777));
    t.show(name);
  };
  for (const std::pair<const char*, int>& way :
       {std::pair{"write", O_WRONLY}, std::pair{"truncate", O_WRONLY | O_TRUNC},
        std::pair{"append", O_WRONLY | O_APPEND}, std::pair{"direct", O_RDWR | O_SYNC}}) {
    const char* const what = way.first;
    const int flags = way.second;
    SCOPED_TRACE(what);
    compare([&](Transcript& t) {
      make(t, what);
      t.write(what, "x", flags);
      t.note("after root", 0);
      t.show(what);
      t.note("chmod", ::chmod(t.path(what).c_str(), 06777));
      t.note("as nobody", in_process([&] {
               if (!become_nobody()) return std::string("cannot become nobody");
               t.write(what, "y", flags);
               t.show(what);
               return t.text();
             }));
      t.show(what);
      t.read(what);
    });
  }
}

TEST_F(DataPath, SetIdBitsEndThoughOthersHaveTheFileOpen) {
  compare([&](Transcript& t) {
    t.write("file", "some text");
    t.note("chown", ::chown(t.path("file").c_str(), 1, 1));
    t.note("chmod", ::chmod(t.path("file").c_str(), 0777));
    const UniqueFd of_root(::open(t.path("file").c_str(), O_RDWR));
    t.note("open", of_root ? 0 : -1);
    t.note("as nobody", in_process([&] {
             if (!become_nobody()) return std::string("cannot become nobody");
             const UniqueFd file(::open(t.path("file").c_str(), O_RDWR));
             t.note("open", file ? 0 : -1);
             if (::fork() == 0) ::_exit(0);
             return t.text();
           }));
    t.note("chmod", ::chmod(t.path("file").c_str(), 04777));
    t.note("as nobody", in_process([&] {
             if (!become_nobody()) return std::string("cannot become nobody");
             t.write("file", "y", O_WRONLY);
             t.show("file");
             return t.text();
           }));
    t.show("file");
    t.note("as nobody", in_process([&] {
             if (!become_nobody()) return std::string("cannot become nobody");
             t.note("truncate", ::truncate(t.path("file").c_str(), 2));
             t.show("file");
             return t.text();
           }));
  });
}

/// A share of an overlay, which lies on other file systems itself, and an overlay over a share.
class DataPathOverlays : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"lower", "upper", "work", "merged", "top", "over"}) server_.make_directory(name);
    const std::string options =
        "lowerdir=" + server_.path("lower") + ",upperdir=" + server_.path("upper") + ",workdir=" + server_.path("work");
    // An upper directory must be on a file system with extended attributes of its own.
    if (::mount("overlay", server_.path("merged").c_str(), "overlay", 0, options.c_str()) != 0) {
      GTEST_SKIP() << "no overlay here: " << errno_name(errno);
    }
    ASSERT_TRUE(ok(server_.start_shares({{"a", server_.path("merged")}, {"b", server_.path("lower")}})));
  }
  void TearDown() override {
    ::umount2(server_.path("over").c_str(), MNT_DETACH);
    EXPECT_EQ(server_.stop(), Ending{});
    ::umount2(server_.path("merged").c_str(), MNT_DETACH);
  }

  BerthServer server_;
};

TEST_F(DataPathOverlays, AFileThatTheKernelCannotBeLentIsReadAndWrittenByTheServer) {
  const UniqueFd file(::open(server_.in_namespace("a/file").c_str(), O_RDWR | O_CREAT, 0644));
  ASSERT_TRUE(file) << errno_name(errno);
  EXPECT_EQ(::write(file.get(), "hello", 5), 5);
  const UniqueFd again(::open(server_.in_namespace("a/file").c_str(), O_RDONLY));
  EXPECT_EQ(read_at_start(again.get()), "hello");
  EXPECT_EQ(*server_.read_file("upper/file"), "hello");
}

/// Has `mapped` write 5,000 bytes (which ends within a page) by a mapping, and compares what the file has then.
void expect_written_by_mapping(const UniqueFd& mapped, const std::string& real) {
  constexpr std::size_t kSize = 5000;
  ASSERT_TRUE(mapped) << errno_name(errno);
  ASSERT_EQ(::ftruncate(mapped.get(), kSize), 0) << errno_name(errno);
  void* const map = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, mapped.get(), 0);
  ASSERT_NE(map, MAP_FAILED) << errno_name(errno);
  std::memset(map, 'x', kSize);
  EXPECT_EQ(::msync(map, kSize, MS_SYNC), 0) << errno_name(errno);
  ::munmap(map, kSize);
  // What is written past berth is read into the pages when they are read again.
  std::fstream(real, std::ios::in | std::ios::out | std::ios::binary).seekp(100) << "beside";
  EXPECT_EQ(::posix_fadvise(mapped.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  std::ifstream file(real, std::ios::binary);
  const std::string there(std::istreambuf_iterator<char>(file), {});
  std::string expected(kSize, 'x');
  expected.replace(100, 6, "beside");
  EXPECT_EQ(there.size(), kSize);
  EXPECT_TRUE(there == expected) << there.substr(4090, 20);
  char* const read = static_cast<char*>(::mmap(nullptr, kSize, PROT_READ, MAP_SHARED, mapped.get(), 0));
  ASSERT_NE(read, MAP_FAILED);
  EXPECT_EQ(std::string(read + 99, 8), "xbesidex");
  ::munmap(read, kSize);
}

TEST_F(DataPathOverlays, WhatAMappingWritesIsInTheFileWhateverTheFlagsOfItsDescriptors) {
  for (const int flags : {O_DIRECT, O_APPEND, O_SYNC, O_DIRECT | O_APPEND | O_DSYNC}) {
    SCOPED_TRACE(flags);
    const std::string shown = server_.in_namespace("a/file" + std::to_string(flags));
    const std::string real = server_.path("upper/file" + std::to_string(flags));
    const UniqueFd flagged(::open(shown.c_str(), O_RDWR | O_CREAT | flags, 0644));
    expect_written_by_mapping(flagged, real);
    // The kernel writes the pages of one descriptor's mapping back by any other one, mostly the last.
    const UniqueFd plain(::open(shown.c_str(), O_RDWR));
    const UniqueFd last(::open(shown.c_str(), O_WRONLY | flags));
    expect_written_by_mapping(plain, real);
  }
}

TEST_F(DataPathOverlays, DirectAccessIsTakenFromAnOpenFile) {
  const UniqueFd file(::open(server_.in_namespace("a/file").c_str(), O_RDWR | O_CREAT | O_DIRECT, 0644));
  ASSERT_TRUE(file) << errno_name(errno);
  ASSERT_EQ(::fcntl(file.get(), F_SETFL, 0), 0) << errno_name(errno);
  EXPECT_EQ(::pwrite(file.get(), "hello", 5, 3), 5) << errno_name(errno);
  EXPECT_EQ(*server_.read_file("upper/file"), std::string(3, '\0') + "hello");
}

TEST_F(DataPathOverlays, AnOverlayCanBeLaidOverAShare) {
  ASSERT_TRUE(ok(server_.write_file("lower/file", "from below")));
  EXPECT_TRUE(std::filesystem::exists(server_.in_namespace("b/file")));
  const std::string options = "lowerdir=" + server_.in_namespace("b") + ":" + server_.path("top");
  ASSERT_EQ(::mount("overlay", server_.path("over").c_str(), "overlay", 0, options.c_str()), 0) << errno_name(errno);
  EXPECT_EQ(*server_.read_file("over/file"), "from below");
}

}  // namespace
}  // namespace berth::test
