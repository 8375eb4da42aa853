// Shares whose helper is killed: what follows for open files, for names, and for callers that wait.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "tests/mount/hung_share.h"

namespace berth::test {
namespace {

constexpr const char* kNoHelper = "the kernel does not say which process serves a FUSE mount (Linux 6.16)";

int code(bool done) { return done ? 0 : errno; }

constexpr std::size_t kBig = std::size_t{2} << 20;

std::string big_text() {
  std::string text(kBig, ' ');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i / 4096 % 26);
  return text;
}

constexpr std::time_t kLongAgo = 1'000'000'000;

/// Seconds since the epoch; sshfs tells no less.
void set_time(const std::string& path, std::time_t seconds) {
  const timespec times[2]{{seconds, 0}, {seconds, 0}};
  EXPECT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0) << path << ": " << errno_name(errno);
}

/// Reads from `fd` in pieces to the end; answers an errno value, or -1 for other bytes than big_text()'s.
int read_rest(int fd, std::size_t from, const std::function<void(std::size_t)>& between = {}) {
  const std::string expected = big_text();
  std::string piece(64 << 10, '\0');
  while (from < kBig) {
    if (between) between(from);
    const ssize_t got = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(from));
    if (got <= 0) return got < 0 ? errno : -1;
    if (expected.compare(from, static_cast<std::size_t>(got), piece, 0, static_cast<std::size_t>(got)) != 0) return -1;
    from += static_cast<std::size_t>(got);
  }
  return 0;
}

/// The program that serves a mount is killed.
class DeadMount : public HungShareTest {
 protected:
  /// A remote share with a file of two mebibytes that is old enough to be told from another one. False: there is no
  /// helper to kill.
  [[nodiscard]] bool start_with_big(const std::string& share_lines = "") {
    start(1, "", share_lines);
    EXPECT_TRUE(ok(server_.write_file("far0/big", big_text())));
    set_time(server_.path("far0/big"), kLongAgo);
    touch_remote(1);
    return helper(0) != 0;
  }
};

TEST_F(DeadMount, ReaderGoesOnWhenTheHelperIsKilled) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  std::size_t kills = 0;
  EXPECT_EQ(read_rest(file.get(), 0,
                      [&](std::size_t at) {
                        if (at < (kills + 1) * (kBig / 4)) return;
                        ++kills;
                        kill_helper(0);
                      }),
            0);
  EXPECT_EQ(kills, 3U);
  struct stat attributes {};
  EXPECT_EQ(::fstat(file.get(), &attributes), 0) << errno_name(errno);
  EXPECT_EQ(attributes.st_size, static_cast<off_t>(kBig));
  kill_helper(0);
  EXPECT_EQ(::close(file.release()), 0) << errno_name(errno);
  EXPECT_EQ(read_one(in("r0/file")), 0);
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/r0/control", "unmount").has_value(); }));
}

TEST_F(DeadMount, MappingsDuplicatesAndOtherProgramsGoOnWithAFileThatWasOpenBefore) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  const UniqueFd duplicate(::fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  void* const mapped = ::mmap(nullptr, kBig, PROT_READ, MAP_SHARED, file.get(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const std::string text = big_text();
  kill_helper(0);
  EXPECT_EQ(text.compare(0, kBig, static_cast<const char*>(mapped), kBig), 0);
  EXPECT_EQ(::munmap(mapped, kBig), 0);
  kill_helper(0);
  ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  EXPECT_EQ(read_rest(duplicate.get(), 0), 0);
  kill_helper(0);
  ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // Its descriptor has no O_CLOEXEC.
    if (::dup2(file.get(), STDIN_FILENO) < 0) ::_exit(errno);
    ::execl("/usr/bin/cmp", "cmp", "-s", "-", server_.path("far0/big").c_str(), nullptr);
    ::_exit(errno);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(DeadMount, EachOfManyOpenFilesGoesOnWithItsOwnBytes) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  constexpr int kFiles = 100;
  std::vector<UniqueFd> files;
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "far0/f" + std::to_string(i);
    ASSERT_TRUE(ok(server_.write_file(name, "it is " + std::to_string(100 + i))));
    set_time(server_.path(name), kLongAgo);
  }
  for (int i = 0; i < kFiles; ++i) {
    files.emplace_back(::open(in("r0/f" + std::to_string(i)).c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_TRUE(files.back()) << errno_name(errno);
  }
  kill_helper(0);
  for (int i = kFiles - 1; i >= 0; --i) {
    std::array<char, 16> text{};
    ASSERT_EQ(::pread(files[static_cast<std::size_t>(i)].get(), text.data(), text.size(), 0), 9) << errno_name(errno);
    EXPECT_EQ(std::string(text.data()), "it is " + std::to_string(100 + i));
  }
}

/// The rest may be EIO, as positions are of the dead mount; the end that is not the end would have a backup remove
/// files.
TEST_F(DeadMount, ListingThatHasBegunIsCompleteOrAnError) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  constexpr std::size_t kFiles = 2000;
  const std::string long_name(200, 'n');  // so that one getdents64(2) does not answer all
  for (std::size_t i = 0; i < kFiles; ++i)
    ASSERT_TRUE(ok(server_.write_file("far0/" + long_name + std::to_string(i), "")));
  const auto list = [&](bool dies) -> std::pair<int, std::set<std::string>> {
    std::set<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(in("r0").c_str()), ::closedir);
    if (directory == nullptr) return {errno, names};
    for (;;) {
      errno = 0;
      const dirent* const entry = ::readdir(directory.get());
      if (entry == nullptr) return {errno, names};
      EXPECT_TRUE(names.insert(entry->d_name).second) << entry->d_name << " is there twice";
      if (dies && names.size() == 5) kill_helper(0);
    }
  };
  const auto [error, names] = list(true);
  EXPECT_TRUE(error == EIO || (error == 0 && names.size() > kFiles)) << errno_name(error) << ", " << names.size();
  const auto [later, all] = list(false);
  EXPECT_EQ(errno_name(later), errno_name(0));
  EXPECT_GT(all.size(), kFiles);
}

/// tail -f asks for nothing else while the file does not grow.
TEST_F(DeadMount, FileThatIsReadHasItsAttributesInTheNextMount) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  for (const char* name : {"first", "second"})
    ASSERT_TRUE(ok(server_.write_file(std::string("far0/") + name, "it takes an inode number")));
  kill_helper(0);
  for (const char* name : {"r0/first", "r0/second"}) ASSERT_EQ(read_one(in(name)), 0);
  struct stat attributes {};
  EXPECT_EQ(::fstat(file.get(), &attributes), 0) << errno_name(errno);
  EXPECT_EQ(attributes.st_size, static_cast<off_t>(kBig));
}

TEST_F(DeadMount, ReaderThatWaitsWhenTheHelperIsKilledGoesOn) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  hang(0);
  Callers readers;
  readers.add([&] { return read_rest(file.get(), 0); }, 0, 10);
  ASSERT_TRUE(readers.all_wait());
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  EXPECT_TRUE(readers.all_end());
  EXPECT_EQ(readers.ended_with(0), 10U);
}

TEST_F(DeadMount, ReaderGoesOnWhenHelperAndServerAreKilled) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), 0), 0) << "opened again";
  const pid_t before = server();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
  kill_helper(0);
  ASSERT_EQ(::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED), 0);
  EXPECT_EQ(read_rest(file.get(), 0), 0) << "and again by the next server";
}

TEST_F(DeadMount, ReaderGoesOnWhenTheServerIsKilledBeforeTheNextMountIsMade) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  const std::string pipe = server_.read_file("pipe").value_or("");
  ASSERT_TRUE(ok(server_.write_file("pipe", "#!/bin/sh\nexec sleep 1000\n")));
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  ASSERT_TRUE(server_.wait_for_state("r0", "mounting"));
  const pid_t before = server();
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server() != before && server() != 0; }));
  ASSERT_TRUE(ok(server_.write_file("pipe", pipe)));
  EXPECT_EQ(read_rest(file.get(), 0), 0);
  EXPECT_EQ(::close(file.release()), 0) << errno_name(errno);
  EXPECT_TRUE(eventually([this] { return server_.write_control("shares/r0/control", "unmount").has_value(); }));
}

TEST_F(DeadMount, OpenFileIsOpenedAgainOnlyWhereItIsTheSameAndWasOnlyRead) {
  start(1);
  for (const char* name : {"far0/big", "far0/replaced", "far0/removed"})
    ASSERT_TRUE(ok(server_.write_file(name, big_text())));
  for (const char* name : {"far0/big", "far0/replaced", "far0/removed"}) set_time(server_.path(name), kLongAgo);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd replaced(::open(in("r0/replaced").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd removed(::open(in("r0/removed").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(replaced && removed && writer);
  ASSERT_TRUE(ok(server_.write_file("far0/replaced", "another one")));
  ASSERT_EQ(::unlink(server_.path("far0/removed").c_str()), 0);
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  EXPECT_EQ(read_rest(replaced.get(), kBig / 2), EIO);
  EXPECT_EQ(read_rest(removed.get(), kBig / 2), EIO);
  EXPECT_EQ(read_rest(writer.get(), kBig / 2), EIO);
  EXPECT_TRUE(::pwrite(writer.get(), "x", 1, 0) < 0 && errno == EIO) << errno_name(errno);
  EXPECT_EQ(read_one(in("r0/big")), 0) << "what is opened now is in the next mount";
}

/// FUSE keeps the inode of a path, and has the attributes of whichever file was looked up there last.
TEST_F(DeadMount, ReaderIsNotGivenAFileThatTookTheNameThoughTheKernelKnowsItBySize) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  ASSERT_TRUE(ok(server_.write_file("far0/other", std::string(kBig, '#'))));
  set_time(server_.path("far0/big"), kLongAgo);
  set_time(server_.path("far0/other"), kLongAgo + 1);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  ASSERT_EQ(::rename(server_.path("far0/other").c_str(), server_.path("far0/big").c_str()), 0);
  struct stat attributes {};
  ASSERT_EQ(::stat(in("r0/big").c_str(), &attributes), 0) << errno_name(errno);
  ASSERT_EQ(attributes.st_mtime, kLongAgo + 1) << "the kernel knows the other one";
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), 0), EIO);
}

/// Copies that keep their times (cp -p, rsync) look the same. Each was open when it lost its name through berth.
TEST_F(DeadMount, ReaderIsNotGivenAFileThatTookTheNameThroughBerth) {
  start(1);
  struct Case {
    const char* what;
    std::function<int(const std::string& path, const std::string& other)> change;
    bool has_its_name;  ///< somewhere, and so its own bytes
  };
  const std::vector<Case> cases{
      {"replaced", [](const auto& path, const auto& other) { return ::rename(other.c_str(), path.c_str()); }, false},
      {"removed",
       [](const auto& path, const auto& other) {
         return ::unlink(path.c_str()) == 0 ? ::rename(other.c_str(), path.c_str()) : -1;
       },
       false},
      {"moved",
       [](const auto& path, const auto& other) {
         return ::rename(path.c_str(), (path + ".away").c_str()) == 0 ? ::rename(other.c_str(), path.c_str()) : -1;
       },
       true},
      {"exchanged",
       [](const auto& path, const auto& other) {
         return ::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0 || errno == EINVAL
                    ? 0
                    : -1;
       },
       true},
  };
  const auto furnish = [&](const std::string& file) {
    for (const auto& [name, text] : {std::pair(file, big_text()), std::pair(file + ".other", std::string(kBig, '#'))}) {
      ASSERT_TRUE(ok(server_.write_file("far0/" + name, text)));
      set_time(server_.path("far0/" + name), kLongAgo);
    }
  };
  for (const bool in_next_mount : {false, true}) {
    for (const Case& one : cases) {
      SCOPED_TRACE(std::string(one.what) + (in_next_mount ? " in the next mount" : ""));
      const std::string name = one.what + std::string(in_next_mount ? "-late" : "");
      furnish(name);
      touch_remote(1);
      if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
      const UniqueFd file(::open(in("r0/" + name).c_str(), O_RDONLY | O_CLOEXEC));
      ASSERT_TRUE(file) << errno_name(errno);
      if (in_next_mount) kill_helper(0);
      ASSERT_EQ(one.change(in("r0/" + name), in("r0/" + name + ".other")), 0) << errno_name(errno);
      kill_helper(0);
      const int end = read_rest(file.get(), 0);
      EXPECT_TRUE(end == EIO || (end == 0 && one.has_its_name)) << end;
      EXPECT_TRUE(in_next_mount || (end == 0) == one.has_its_name) << end;
    }
  }
}

TEST_F(DeadMount, ReaderIsNotGivenAFileOfTheSameSizeAndSecond) {
  start(1);
  ASSERT_TRUE(ok(server_.write_file("far0/big", big_text())));
  ASSERT_TRUE(ok(server_.write_file("far0/other", std::string(kBig, '#'))));
  const std::time_t now = std::time(nullptr);
  set_time(server_.path("far0/big"), now);
  set_time(server_.path("far0/other"), now);
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  ASSERT_EQ(::rename(server_.path("far0/other").c_str(), server_.path("far0/big").c_str()), 0);
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), 0), EIO);
}

TEST_F(DeadMount, WriterGoesOnWhereFilesAreAlwaysOpenedAgain) {
  if (!start_with_big("reopen = \"always\"\n")) GTEST_SKIP() << kNoHelper;
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(writer);
  kill_helper(0);
  EXPECT_EQ(::pwrite(writer.get(), "AAAA", 4, 4096), 4) << errno_name(errno);
  EXPECT_EQ(::fsync(writer.get()), 0) << errno_name(errno);
  EXPECT_EQ(server_.read_file("far0/big").value_or("").size(), std::min<std::size_t>(kBig, 1 << 20));
}

TEST_F(DeadMount, NoFileIsOpenedAgainWhereThatIsForbidden) {
  if (!start_with_big("reopen = \"never\"\n")) GTEST_SKIP() << kNoHelper;
  const UniqueFd file(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  kill_helper(0);
  EXPECT_EQ(read_rest(file.get(), kBig / 2), EIO);
}

TEST_F(DeadMount, ShareInUseIsMountedAgainByItselfWhenTheHelperIsKilled) {
  start(1);
  ASSERT_EQ(::mkdir(in(".berth/shares/r0/attachments/vm").c_str(), 0755), 0);
  ASSERT_EQ(::mkdir(in(".berth/shares/r0/attachments/vm/disk").c_str(), 0755), 0);
  const pid_t before = helper(0);
  if (before == 0) GTEST_SKIP() << kNoHelper;
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  EXPECT_TRUE(eventually([&] { return server_.state("r0") == "mounted" && helper(0) != before && helper(0) != 0; }));
}

TEST_F(DeadMount, DeadMountIsAnErrorUntilRetryWhereThePolicySaysSo) {
  start(1, "", "on_stale = \"error\"\n");
  touch_remote(1);
  if (helper(0) == 0) GTEST_SKIP() << kNoHelper;
  kill_helper(0);
  ASSERT_TRUE(server_.wait_for_state("r0", "failed"));
  EXPECT_EQ(read_one(in("r0/file")), ESTALE);
  EXPECT_NE(server_.read_control("shares/r0/error").value_or("").find("retry"), std::string::npos);
  ASSERT_TRUE(ok(server_.write_control("shares/r0/control", "retry")));
  EXPECT_EQ(read_one(in("r0/file")), 0);
}

/// Calls on names in r0, each of which asks the share.
std::map<std::string, std::function<int()>> calls_on_names(const std::string& root) {
  return {
      {"stat", [root] { return look_at(root + "/file"); }},
      {"stat of the root", [root] { return look_at(root); }},
      {"access", [root] { return code(::access((root + "/file").c_str(), W_OK) == 0); }},
      {"readlink",
       [root] {
         char target[8];
         return code(::readlink((root + "/link").c_str(), target, sizeof target) >= 0);
       }},
      {"read", [root] { return read_one(root + "/file"); }},
      {"open to write",
       [root] {
         return code(UniqueFd(::open((root + "/file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)).get() >= 0);
       }},
      {"statvfs",
       [root] {
         struct statvfs all {};
         return code(::statvfs(root.c_str(), &all) == 0);
       }},
      {"attribute",
       [root] {
         return code(::getxattr((root + "/file").c_str(), "user.none", nullptr, 0) >= 0 || errno == ENODATA ||
                     errno == EOPNOTSUPP);
       }},
      {"attributes",
       [root] { return code(::listxattr((root + "/file").c_str(), nullptr, 0) >= 0 || errno == EOPNOTSUPP); }},
      {"listing",
       [root] {
         std::error_code error;
         const auto entries = std::filesystem::directory_iterator(root, error);
         return error ? error.value() : code(std::distance(begin(entries), end(entries)) >= 1);
       }},
      {"truncate", [root] { return code(::truncate((root + "/cut").c_str(), 1) == 0); }},
      {"chmod", [root] { return code(::chmod((root + "/cut").c_str(), 0600) == 0); }},
  };
}

/// Calls that must not be made twice. `number`: of a name that is there, and of one that is not.
std::map<std::string, std::function<int()>> changes_of_names(const std::string& root, const std::string& number) {
  return {
      {"mkdir", [=] { return code(::mkdir((root + "/made" + number).c_str(), 0755) == 0); }},
      {"unlink", [=] { return code(::unlink((root + "/old" + number).c_str()) == 0); }},
      {"rename",
       [=] { return code(::rename((root + "/from" + number).c_str(), (root + "/to" + number).c_str()) == 0); }},
      {"exclusive",
       [=] {
         const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
         return code(UniqueFd(::open((root + "/new" + number).c_str(), flags, 0644)).get() >= 0);
       }},
  };
}

TEST_F(DeadMount, CallsOnNamesThatWaitInItAreDoneInTheNext) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  ASSERT_TRUE(ok(server_.write_file("far0/cut", "text")));
  ASSERT_EQ(::symlink("file", server_.path("far0/link").c_str()), 0);
  for (const auto& [name, call] : calls_on_names(in("r0"))) {
    SCOPED_TRACE(name);
    hang(0);
    Callers callers;
    callers.add(call);
    ASSERT_TRUE(name == "stat of the root" || callers.all_wait());
    ASSERT_NO_FATAL_FAILURE(kill_helper(0));
    EXPECT_TRUE(callers.all_end());
    EXPECT_EQ(callers.ended_with(0), 1U);
    ASSERT_EQ(read_one(in("r0/file")), 0);
  }
}

TEST_F(DeadMount, ChangesOfNamesThatWaitInItAreDoneOnceOrAreAnError) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  const std::string number = "1";
  for (const char* name : {"old", "from"}) ASSERT_TRUE(ok(server_.write_file("far0/" + (name + number), "text")));
  for (const auto& [name, call] : changes_of_names(in("r0"), number)) {
    SCOPED_TRACE(name);
    hang(0);
    Callers callers;
    callers.add(call);
    ASSERT_TRUE(callers.all_wait());
    ASSERT_NO_FATAL_FAILURE(kill_helper(0));
    EXPECT_TRUE(callers.all_end());
    EXPECT_EQ(callers.ended_with(0) + callers.ended_with(EIO << 8), 1U);
    ASSERT_EQ(read_one(in("r0/file")), 0);
  }
}

TEST_F(DeadMount, CallsRightAfterTheDeathMeetNoErrorOfIt) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  ASSERT_TRUE(ok(server_.write_file("far0/cut", "text")));
  ASSERT_EQ(::symlink("file", server_.path("far0/link").c_str()), 0);
  for (int round = 0; round < 3; ++round) {
    const std::string number = std::to_string(round);
    for (const char* name : {"old", "from"}) ASSERT_TRUE(ok(server_.write_file("far0/" + (name + number), "text")));
    auto calls = calls_on_names(in("r0"));
    const auto changes = changes_of_names(in("r0"), number);
    calls.insert(changes.begin(), changes.end());
    for (const auto& [name, call] : calls) {
      SCOPED_TRACE(name);
      ASSERT_EQ(read_one(in("r0/file")), 0);
      const pid_t pid = helper(0);
      ASSERT_NE(pid, 0);
      ASSERT_EQ(::kill(pid, SIGKILL), 0);
      const int met = call();
      // A change may be under way in that moment.
      EXPECT_TRUE(met == 0 || (met == EIO && changes.contains(name))) << errno_name(met);
      ASSERT_TRUE(eventually([&] { return helper(0) != pid; }));
    }
  }
}

TEST_F(DeadMount, CallsOnNamesAreAnErrorWhereThePolicySaysSo) {
  if (!start_with_big("on_stale = \"error\"\n")) GTEST_SKIP() << kNoHelper;
  hang(0);
  Callers callers;
  callers.add([this] { return look_at(in("r0/file")); });
  ASSERT_TRUE(callers.all_wait());
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  EXPECT_TRUE(callers.all_end());
  EXPECT_EQ(callers.ended_with(ESTALE << 8), 1U);
}

TEST_F(DeadMount, CallThatWaitsForTheNextCanBeInterrupted) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  ASSERT_TRUE(ok(server_.write_file("pipe", "#!/bin/sh\nexec sleep 1000\n")));
  hang(0);
  for (const int signal : {SIGINT, SIGKILL}) {
    Callers callers;
    callers.add([this] { return look_at(in("r0/file")); });
    callers.add([this] { return read_one(in("r0/big")); });
    ASSERT_TRUE(callers.all_wait());
    if (signal == SIGINT) {
      ASSERT_NO_FATAL_FAILURE(kill_helper(0));
    }
    ASSERT_TRUE(server_.wait_for_state("r0", "mounting"));
    callers.kill(signal);
    EXPECT_TRUE(callers.all_end());
    EXPECT_EQ(callers.ended_with(signal), 2U);
  }
}

TEST_F(DeadMount, ReaderBesideAWriterHasItsAttributesInTheNext) {
  if (!start_with_big()) GTEST_SKIP() << kNoHelper;
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd reader(::open(in("r0/big").c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd second(::open(in("r0/big").c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(writer && reader && second);
  // It takes the inode number that the file had.
  ASSERT_TRUE(ok(server_.write_file("far0/first", "text")));
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  ASSERT_EQ(read_one(in("r0/first")), 0);
  struct stat attributes {};
  EXPECT_EQ(::fstat(reader.get(), &attributes), 0) << errno_name(errno);
  EXPECT_EQ(attributes.st_size, static_cast<off_t>(kBig));
  EXPECT_EQ(read_rest(reader.get(), 0), 0);
}

TEST_F(DeadMount, WriterGoesOnAfterItsOwnWrites) {
  if (!start_with_big("reopen = \"always\"\n")) GTEST_SKIP() << kNoHelper;
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd fresh(::open(in("r0/fresh").c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  ASSERT_TRUE(writer && fresh);
  for (int i = 0; i < 3; ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(::pwrite(writer.get(), "AAAA", 4, 4096 * i), 4) << errno_name(errno);
    EXPECT_EQ(::pwrite(fresh.get(), "BBBB", 4, 4 * i), 4) << errno_name(errno);
    EXPECT_EQ(::ftruncate(writer.get(), static_cast<off_t>(kBig) + i), 0) << errno_name(errno);
    ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  }
  EXPECT_EQ(::pwrite(writer.get(), "AAAA", 4, 0), 4) << errno_name(errno);
  EXPECT_EQ(::fsync(writer.get()), 0) << errno_name(errno);
  EXPECT_EQ(server_.read_file("far0/fresh").value_or(""), "BBBBBBBBBBBB");
}

TEST_F(DeadMount, WriterIsNotGivenAFileThatTookTheNameThoughTheKernelKnowsIt) {
  if (!start_with_big("reopen = \"always\"\n")) GTEST_SKIP() << kNoHelper;
  ASSERT_TRUE(ok(server_.write_file("far0/other", std::string(kBig, '#'))));
  set_time(server_.path("far0/other"), kLongAgo + 1);
  const UniqueFd writer(::open(in("r0/big").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(writer);
  ASSERT_EQ(::rename(server_.path("far0/other").c_str(), server_.path("far0/big").c_str()), 0);
  struct stat attributes {};
  ASSERT_EQ(::stat(in("r0/big").c_str(), &attributes), 0) << errno_name(errno);
  ASSERT_NO_FATAL_FAILURE(kill_helper(0));
  EXPECT_TRUE(::pwrite(writer.get(), "x", 1, 0) < 0 && errno == EIO) << errno_name(errno);
  EXPECT_EQ(server_.read_file("far0/big").value_or("").find('x'), std::string::npos);
}

}  // namespace
}  // namespace berth::test
