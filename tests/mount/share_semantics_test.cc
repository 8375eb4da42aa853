#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/lib/base/text.h"
#include "tests/mount/compared_share.h"

namespace berth::test {
namespace {

class ShareSemantics : public ComparedShare {};

TEST_F(ShareSemantics, FilesAsOnTheFileSystemItself) {
  compare([](Transcript& t) {
    t.read("missing");
    t.write("file", "hello");
    t.write("file", "again", O_CREAT | O_EXCL);
    t.write("file", " world", O_APPEND);
    t.read("file");
    t.write("file", "X", 0);
    t.read("file");
    t.note("chmod", ::chmod(t.path("file").c_str(), 04751));
    t.show("file");
    t.note("chown", ::chown(t.path("file").c_str(), 12, 34));
    t.show("file");
    t.note("truncate", ::truncate(t.path("file").c_str(), 3));
    const timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 2000, .tv_nsec = 7}};
    t.note("utimensat", ::utimensat(AT_FDCWD, t.path("file").c_str(), times, 0));
    t.show("file");
    const timespec omit[2] = {{.tv_sec = 0, .tv_nsec = UTIME_NOW}, {.tv_sec = 0, .tv_nsec = UTIME_OMIT}};
    t.note("utimensat omit", ::utimensat(AT_FDCWD, t.path("file").c_str(), omit, 0));
    t.show("file");
    t.read("file");
    t.note("truncate up", ::truncate(t.path("file").c_str(), 9));
    t.read("file");
    t.write("file", "new", O_TRUNC);
    t.read("file");
    t.note("access", ::access(t.path("file").c_str(), X_OK));
    t.write("file/below", "x");
    t.note("mkdir on it", ::mkdir(t.path("file").c_str(), 0755));
    t.note("fsync", ::fsync(UniqueFd(::open(t.path("file").c_str(), O_RDWR)).get()));
    t.note("unlink", ::unlink(t.path("file").c_str()));
    t.show("file");
    t.note("unlink again", ::unlink(t.path("file").c_str()));
  });
}

TEST_F(ShareSemantics, DirectoriesAndSpecialFiles) {
  compare([](Transcript& t) {
    t.note("mkdir", ::mkdir(t.path("d").c_str(), 02775));
    t.note("mkdir again", ::mkdir(t.path("d").c_str(), 0755));
    t.note("mkdir below", ::mkdir(t.path("d/below").c_str(), 0700));
    t.note("rmdir full", ::rmdir(t.path("d").c_str()));
    t.note("unlink a directory", ::unlink(t.path("d").c_str()));
    t.note("fifo", ::mkfifo(t.path("d/fifo").c_str(), 0640));
    t.note("socket", ::mknod(t.path("d/socket").c_str(), S_IFSOCK | 0600, 0));
    t.note("symlink", ::symlink("../d/below", t.path("d/link").c_str()));
    t.note("symlink out", ::symlink("/etc/hostname", t.path("d/absolute").c_str()));
    t.note("dangling", ::symlink("nowhere", t.path("d/dangling").c_str()));
    std::array<char, 100> target{};
    t.note("readlink", ::readlink(t.path("d/link").c_str(), target.data(), target.size()));
    t.note("target", std::string(target.data()));
    t.note("readlink of a directory", ::readlink(t.path("d").c_str(), target.data(), target.size()));
    for (const char* name : {"d", "d/below", "d/fifo", "d/socket", "d/link", "d/absolute"}) t.show(name);
    t.list("d");
    t.list("d/link");
    t.read("d/dangling");
    t.write("d/dangling", "made by way of a link");
    t.read("d/nowhere");
    t.read("d/absolute");
    t.note("open of a directory", ::open(t.path("d").c_str(), O_RDWR));
    t.note("O_NOFOLLOW", ::open(t.path("d/link").c_str(), O_RDONLY | O_NOFOLLOW));
    t.note("rmdir", ::rmdir(t.path("d/below").c_str()));
  });
}

TEST_F(ShareSemantics, LinksAndRenames) {
  compare([](Transcript& t) {
    t.write("one", "1");
    t.note("link", ::link(t.path("one").c_str(), t.path("two").c_str()));
    t.show("one");
    t.show("two");
    struct stat one {
    }, two{};
    t.note("same", ::stat(t.path("one").c_str(), &one) == 0 && ::stat(t.path("two").c_str(), &two) == 0 &&
                       one.st_ino == two.st_ino && one.st_dev == two.st_dev);
    t.note("unlink", ::unlink(t.path("two").c_str()));
    t.show("one");
    t.read("one");
    ::mkdir(t.path("from").c_str(), 0755);
    ::mkdir(t.path("to").c_str(), 0755);
    t.write("from/file", "x");
    t.note("rename", ::rename(t.path("from/file").c_str(), t.path("to/file").c_str()));
    t.show("from/file");
    t.read("to/file");
    t.note("rename directory", ::rename(t.path("to").c_str(), t.path("from/to").c_str()));
    t.read("from/to/file");
    t.note("rename into itself", ::rename(t.path("from").c_str(), t.path("from/to/from").c_str()));
    t.note("over it", ::rename(t.path("one").c_str(), t.path("from/to/file").c_str()));
    t.read("from/to/file");
    t.write("two", "2");
    t.note("no replace", ::renameat2(AT_FDCWD, t.path("two").c_str(), AT_FDCWD, t.path("from/to/file").c_str(), 1));
    t.note("exchange", ::renameat2(AT_FDCWD, t.path("two").c_str(), AT_FDCWD, t.path("from").c_str(), 2));
    t.read("from");
    t.read("two/to/file");
    t.note("link of a directory", ::link(t.path("two").c_str(), t.path("three").c_str()));
    t.list(".");
  });
}

TEST_F(ShareSemantics, OpenFilesOutliveTheirNames) {
  compare([](Transcript& t) {
    t.write("file", "hello");
    const UniqueFd fd(::open(t.path("file").c_str(), O_RDWR));
    t.note("unlink", ::unlink(t.path("file").c_str()));
    t.read_fd("read", fd.get());
    t.note("write", ::pwrite(fd.get(), "J", 1, 0));
    t.read_fd("read", fd.get());
    struct stat s {};
    t.note("fstat", ::fstat(fd.get(), &s));
    t.note("links", static_cast<long>(s.st_nlink));
    t.note("fchmod", ::fchmod(fd.get(), 0600));
    t.note("ftruncate", ::ftruncate(fd.get(), 2));
    t.read_fd("read", fd.get());
    const std::string again = "/proc/self/fd/" + std::to_string(fd.get());
    const UniqueFd reopened(::open(again.c_str(), O_RDONLY));
    t.note("open again", reopened ? 0 : -1);
    t.read_fd("read again", reopened.get());
    t.write("other", "other");
    t.write("victim", "victim");
    const UniqueFd victim(::open(t.path("victim").c_str(), O_RDONLY));
    t.note("rename over", ::rename(t.path("other").c_str(), t.path("victim").c_str()));
    t.read_fd("read what was replaced", victim.get());
    t.note("fstat", ::fstat(victim.get(), &s));
    t.note("links", static_cast<long>(s.st_nlink));
  });
}

TEST_F(ShareSemantics, OddNames) {
  compare([](Transcript& t) {
    for (const std::string& name :
         {std::string(255, 'x'), std::string(256, 'x'), std::string("new\nline"), std::string("\xff\xfe not utf-8"),
          std::string("-rf"), std::string(" "), std::string("\\"), std::string(".berth"), std::string("a:b,c=d")}) {
      t.write(name, name);
      t.read(name);
      t.show(name);
    }
    t.note("empty", ::open(t.path("").c_str(), O_WRONLY));
    t.list(".");
  });
}

TEST_F(ShareSemantics, PermissionsOfTheCaller) {
  for (const std::string& base : {source_, native_}) {
    std::filesystem::create_directory(base + "/team");
    std::filesystem::create_directory(base + "/private");
    std::filesystem::create_directory(base + "/sticky");
    ASSERT_EQ(::chown((base + "/team").c_str(), 0, kTeam), 0);
    ASSERT_EQ(::chmod((base + "/team").c_str(), 02770), 0);
    ASSERT_EQ(::chmod((base + "/private").c_str(), 0700), 0);
    ASSERT_EQ(::chmod((base + "/sticky").c_str(), 01777), 0);
    ASSERT_TRUE(UniqueFd(::open((base + "/sticky/of-root").c_str(), O_CREAT | O_WRONLY, 0644)));
    std::filesystem::copy_file("/bin/true", base + "/program");
    ASSERT_EQ(::chmod((base + "/program").c_str(), 0711), 0);
  }
  compare([](Transcript& t) {
    const std::string text = in_process([&t] {
      if (!become_nobody()) return std::string("cannot become nobody");
      t.list("private");
      t.read("private/file");
      t.write("file", "x");
      t.list("team");
      t.write("team/file", "of the team");
      t.show("team/file");
      t.read("team/file");
      t.write("sticky/of-nobody", "x", O_CREAT, 0666);
      t.show("sticky/of-nobody");
      t.note("unlink", ::unlink(t.path("sticky/of-root").c_str()));
      t.write("sticky/of-root", "x", 0);
      t.note("chown", ::chown(t.path("sticky/of-nobody").c_str(), 0, 0));
      t.note("chgrp", ::chown(t.path("sticky/of-nobody").c_str(), static_cast<uid_t>(-1), kTeam));
      t.note("chmod", ::chmod(t.path("sticky/of-nobody").c_str(), 02771));
      t.show("sticky/of-nobody");
      t.note("chmod of another's", ::chmod(t.path("sticky/of-root").c_str(), 0777));
      t.note("access", ::access(t.path("sticky/of-root").c_str(), W_OK));
      t.read("program");
      const pid_t child = ::fork();
      if (child == 0) ::execl(t.path("program").c_str(), "program", nullptr);
      int status = -1;
      ::waitpid(child, &status, 0);
      t.note("run", status);
      return t.text();
    });
    t.note("as nobody", text);
  });
}

TEST_F(ShareSemantics, AppendersLoseNothing) {
  constexpr int kLines = 2000;
  const auto append = [](const std::string& path, char letter) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
    const std::string line = std::string(30, letter) + "\n";
    for (int i = 0; i < kLines; ++i) {
      if (::write(fd.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        return std::string("failed");
    }
    return std::string("done");
  };
  const pid_t other = ::fork();
  if (other == 0) ::_exit(append(share_ + "/log", 'a') == "done" ? 0 : 1);
  EXPECT_EQ(append(share_ + "/log", 'b'), "done");
  int status = -1;
  ::waitpid(other, &status, 0);
  EXPECT_EQ(status, 0);
  std::string text;
  {
    const UniqueFd fd(::open((source_ + "/log").c_str(), O_RDONLY));
    text.resize(std::size_t{2} * kLines * 31 + 1);
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::read(fd.get(), text.data(), text.size()))));
  }
  std::size_t lines[2] = {0, 0};
  for (const std::string_view line : split(text, '\n')) {
    if (line.empty()) continue;
    ASSERT_EQ(line, std::string(30, line[0]));
    ++lines[line[0] - 'a'];
  }
  EXPECT_EQ(lines[0], static_cast<std::size_t>(kLines));
  EXPECT_EQ(lines[1], static_cast<std::size_t>(kLines));
}

TEST_F(ShareSemantics, MappedPagesGoWhereTheyBelongBesideAnAppender) {
  const std::string path = share_ + "/file";
  const UniqueFd appender(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
  const std::string page(4096, 'a');
  ASSERT_EQ(::write(appender.get(), page.data(), page.size()), 4096);
  {
    const UniqueFd fd(::open(path.c_str(), O_RDWR));
    char* const map = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
    ASSERT_NE(map, MAP_FAILED);
    map[1] = 'b';
    EXPECT_EQ(::msync(map, 4096, MS_SYNC), 0);
    ::munmap(map, 4096);
  }
  struct stat s {};
  ASSERT_EQ(::stat((source_ + "/file").c_str(), &s), 0);
  EXPECT_EQ(s.st_size, 4096);
  const Result<std::string> real = server_.read_file("source/file");
  ASSERT_TRUE(ok(real));
  EXPECT_EQ(real->substr(0, 3), "aba");
}

TEST_F(ShareSemantics, ADirectoryWithAHundredThousandEntries) {
  constexpr int kEntries = 100'000;
  {
    const UniqueFd directory(::open(source_.c_str(), O_RDONLY | O_DIRECTORY));
    for (int i = 0; i < kEntries; ++i) {
      const UniqueFd made(::openat(directory.get(), ("file-" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0644));
      ASSERT_TRUE(made);
    }
  }
  std::vector<bool> seen(kEntries);
  int count = 0;
  DIR* const directory = ::opendir(share_.c_str());
  ASSERT_NE(directory, nullptr);
  long half = 0;
  std::string after_half;
  while (const dirent* const entry = ::readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    const auto number = static_cast<std::size_t>(std::stoi(entry->d_name + std::strlen("file-")));
    EXPECT_FALSE(seen[number]) << number;
    seen[number] = true;
    ++count;
    if (half != 0 && after_half.empty()) after_half = entry->d_name;
    if (count == kEntries / 2) half = ::telldir(directory);
  }
  EXPECT_EQ(count, kEntries);
  ::seekdir(directory, half);
  EXPECT_EQ(::readdir(directory)->d_name, after_half);
  ::closedir(directory);
  EXPECT_EQ(::unlink((share_ + "/file-4711").c_str()), 0);
  EXPECT_FALSE(std::filesystem::exists(source_ + "/file-4711"));
}

TEST_F(ShareSemantics, ChangesBesideUsAreSeen) {
  const auto read = [this](const std::string& name) {
    const Result<std::string> text = server_.read_file("namespace/a/" + name);
    return text ? *text : errno_name(text.error().code());
  };
  ASSERT_TRUE(ok(server_.write_file("source/file", "old")));
  std::filesystem::create_directories(source_ + "/directory/below");
  EXPECT_EQ(read("file"), "old");
  const UniqueFd below(::open((share_ + "/directory/below").c_str(), O_PATH | O_DIRECTORY));
  const UniqueFd file(::open((share_ + "/file").c_str(), O_PATH));
  ASSERT_TRUE(ok(server_.write_file("source/new", "the new one")));
  std::filesystem::rename(source_ + "/new", source_ + "/file");
  std::filesystem::remove_all(source_ + "/directory");
  EXPECT_EQ(read("file"), "the new one");
  struct stat s {};
  // Neither is open, only known by its former name.
  EXPECT_TRUE(eventually([&] { return ::fstat(file.get(), &s) < 0 && errno == ESTALE; }));
  EXPECT_LT(::openat(below.get(), "x", O_CREAT | O_WRONLY, 0644), 0);
}

}  // namespace

/// A share that is unmounted as soon as it is not in use.
class ShareWithoutPatience : public testing::Test {
 protected:
  void SetUp() override {
    server_.make_directory("source/b/c");
    ASSERT_TRUE(ok(server_.write_file("source/b/c/file", "hello")));
    ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"bind\"\nsource = \"" + server_.path("source") +
                                 "\"\naccess = \"proxy\"\nidle_timeout = \"0s\"\n")));
  }
  void TearDown() override { EXPECT_EQ(server_.stop(), Ending{}); }

  BerthServer server_;
};

TEST_F(ShareWithoutPatience, ACurrentDirectoryNeitherKeepsItMountedNorIsLost) {
  const std::string deep = server_.in_namespace("a/b/c");
  const std::string seen = in_process([&]() -> std::string {
    if (::chdir(deep.c_str()) != 0) return "chdir failed";
    if (!server_.wait_for_state("a", "idle")) return "stays mounted";
    const UniqueFd file(::open("file", O_RDONLY));
    std::array<char, 10> text{};
    if (::read(file.get(), text.data(), text.size()) != 5) return errno_name(errno);
    if (server_.state("a") != "mounted") return "not mounted while a file is open";
    std::array<char, 4096> where{};
    return std::string(text.data()) + " in " + ::getcwd(where.data(), where.size());
  });
  EXPECT_EQ(seen, "hello in " + deep);
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
}

TEST_F(ShareWithoutPatience, NobodyNoticesThatItComesAndGoes) {
  constexpr int kRounds = 200;
  const auto work = [this](int number) -> std::string {
    const std::string own = server_.in_namespace("a/b/own-" + std::to_string(number));
    if (::mkdir(own.c_str(), 0755) != 0 || ::chdir(own.c_str()) != 0) return "mkdir: " + errno_name(errno);
    for (int round = 0; round < kRounds; ++round) {
      const std::string text = std::to_string(round);
      {
        const UniqueFd file(::open("file", O_RDWR | O_CREAT | O_EXCL, 0644));
        if (!file) return "create: " + errno_name(errno);
        std::array<char, 10> back{};
        const auto size = static_cast<ssize_t>(text.size());
        if (::write(file.get(), text.data(), text.size()) != size) return "write: " + errno_name(errno);
        if (::pread(file.get(), back.data(), back.size(), 0) != size || text != back.data()) return "read back";
      }
      if (::rename("file", "moved") != 0) return "rename: " + errno_name(errno);
      struct stat s {};
      if (::stat("moved", &s) != 0 || s.st_size != static_cast<off_t>(text.size())) return "stat: " + errno_name(errno);
      if (::mkdir("directory", 0755) != 0 || ::rmdir("directory") != 0) return "directory: " + errno_name(errno);
      if (::unlink("moved") != 0) return "unlink: " + errno_name(errno);
      // This one holds nothing now; the unmount waits for a moment in which the other does not either.
      if (round % 10 == 0) (void)server_.write_control("shares/a/control", "unmount");
    }
    return "done";
  };
  std::vector<pid_t> children;
  for (int number = 0; number < 2; ++number) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    const std::string end = work(number);
    if (end != "done") std::fprintf(stderr, "%d: %s\n", number, end.c_str());
    ::_exit(end == "done" ? 0 : 1);
  }
  while (!children.empty()) {
    int status = -1;
    EXPECT_EQ(::waitpid(children.back(), &status, 0), children.back());
    EXPECT_EQ(status, 0);
    children.pop_back();
  }
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
  EXPECT_GT(server_.read_json("shares/a/status.json").value("mounts", 0), 2) << "it never went away meanwhile";
}

TEST_F(ShareWithoutPatience, LooksWithoutGoingInMountNothing) {
  struct stat s {};
  EXPECT_EQ(::stat(server_.in_namespace("a").c_str(), &s), 0);
  EXPECT_EQ(std::filesystem::directory_iterator(server_.namespace_path())->path().empty(), false);
  const nlohmann::json status = server_.read_json("shares/a/status.json");
  EXPECT_EQ(status.value("mounts", -1), 0) << status;
  struct statvfs space {};
  EXPECT_EQ(::statvfs(server_.in_namespace("a").c_str(), &space), 0);
  EXPECT_GT(space.f_blocks, 0U);
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("mounts", -1), 1);
}

}  // namespace berth::test
