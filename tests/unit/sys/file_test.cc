#include "src/lib/sys/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <fstream>

#include "tests/unit/temporary_directory.h"

namespace berth::sys {
namespace {

class File : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& content) { std::ofstream(directory_ / name) << content; }
  UniqueFd open_directory(const std::string& path) {
    return std::move(*open_at(AT_FDCWD, path.c_str(), O_PATH | O_DIRECTORY));
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(File, IsOpenedCloseOnExec) {
  write("file", "x");
  const auto fd = open_at(AT_FDCWD, (directory_ / "file").c_str(), O_RDONLY);
  ASSERT_TRUE(fd);
  EXPECT_EQ(::fcntl(fd->get(), F_GETFD), FD_CLOEXEC);
}

TEST_F(File, BeneathOpensAndCreatesInside) {
  const UniqueFd top = open_directory(directory_.path());
  ASSERT_TRUE(make_directories(directory_ / "a/b", 0755));
  const auto made = open_beneath(top.get(), "a/b/file", O_CREAT | O_EXCL | O_WRONLY, S_IFREG | 0640);
  ASSERT_TRUE(made) << made.error().message();
  const auto found = stat_at(top.get(), "a/b/file", STATX_BASIC_STATS);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->stx_mode & 07777U, 0640U);
  EXPECT_TRUE(open_beneath(top.get(), "a/../a/b", O_PATH, 0777)) << "a mode without O_CREAT is no error";
}

TEST_F(File, BeneathCannotLeave) {
  ASSERT_TRUE(make_directories(directory_ / "top", 0755));
  write("secret", "x");
  const UniqueFd top = open_directory(directory_ / "top");
  ASSERT_EQ(::symlink("../secret", (directory_ / "top/relative").c_str()), 0);
  ASSERT_EQ(::symlink("/etc/passwd", (directory_ / "top/absolute").c_str()), 0);
  for (const char* path : {"../secret", "relative", "absolute", "/etc/passwd"}) {
    const auto fd = open_beneath(top.get(), path, O_RDONLY);
    ASSERT_FALSE(fd) << path;
    EXPECT_EQ(fd.error().code(), EXDEV) << path;
  }
  const UniqueFd proc = open_directory("/proc");
  const auto fd = open_beneath(proc.get(), "self/cwd", O_RDONLY);
  ASSERT_FALSE(fd) << "a magic link leads anywhere";
  EXPECT_EQ(fd.error().code(), ELOOP);
}

TEST_F(File, ReopenTurnsAPathDescriptorIntoAUsableOne) {
  write("file", "content");
  const auto path = open_at(AT_FDCWD, (directory_ / "file").c_str(), O_PATH | O_NOFOLLOW);
  ASSERT_TRUE(path);
  const auto fd = reopen(path->get(), O_RDONLY | O_NOFOLLOW);
  ASSERT_TRUE(fd) << fd.error().message();
  char first = 0;
  EXPECT_EQ(::read(fd->get(), &first, 1), 1);
  EXPECT_EQ(first, 'c');
  EXPECT_EQ(proc_path(17), "/proc/self/fd/17");
}

TEST_F(File, MakeDirectoriesMakesWhatIsMissing) {
  EXPECT_TRUE(make_directories(directory_ / "a/b/c", 0700));
  EXPECT_TRUE(make_directories(directory_ / "a//b/c/", 0755));
  const auto made = stat_at(AT_FDCWD, (directory_ / "a/b/c").c_str(), STATX_MODE);
  ASSERT_TRUE(made);
  EXPECT_EQ(made->stx_mode & 07777U, 0700U) << "an existing directory is left as it is";
}

TEST_F(File, MakeDirectoriesNamesWhatIsInTheWay) {
  write("file", "");
  const auto result = make_directories(directory_ / "file/below", 0755);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ENOTDIR);
  EXPECT_NE(result.error().story().find(directory_ / "file"), std::string::npos) << result.error().message();
}

TEST_F(File, ReadFileHasALimit) {
  write("file", std::string(100'000, 'x'));
  EXPECT_EQ(read_file(directory_ / "file", 100'000).value().size(), 100'000U);
  EXPECT_EQ(read_file(directory_ / "file", 99'999).error().code(), EFBIG);
  EXPECT_EQ(read_file(directory_ / "none", 10).error().code(), ENOENT);
  EXPECT_EQ(read_file(directory_.path(), 10).error().code(), EISDIR);
}

TEST_F(File, StatDoesNotFollow) {
  ASSERT_EQ(::symlink("nowhere", (directory_ / "link").c_str()), 0);
  const auto x = stat_at(AT_FDCWD, (directory_ / "link").c_str(), STATX_BASIC_STATS);
  ASSERT_TRUE(x);
  EXPECT_TRUE(S_ISLNK(x->stx_mode));
  const UniqueFd top = open_directory(directory_.path());
  EXPECT_TRUE(stat_at(top.get(), "", STATX_BASIC_STATS)) << "the empty path is the descriptor itself";
}

TEST_F(File, StatxAndStatSayTheSame) {
  for (const std::string& path : {directory_.path(), std::string("/dev/null"), std::string("/etc/passwd")}) {
    const auto x = stat_at(AT_FDCWD, path.c_str(), STATX_BASIC_STATS);
    ASSERT_TRUE(x);
    const struct stat ours = to_stat(*x);
    struct stat kernels {};
    ASSERT_EQ(::lstat(path.c_str(), &kernels), 0);
    EXPECT_EQ(ours.st_dev, kernels.st_dev);
    EXPECT_EQ(ours.st_ino, kernels.st_ino);
    EXPECT_EQ(ours.st_mode, kernels.st_mode);
    EXPECT_EQ(ours.st_nlink, kernels.st_nlink);
    EXPECT_EQ(ours.st_rdev, kernels.st_rdev);
    EXPECT_EQ(ours.st_uid, kernels.st_uid);
    EXPECT_EQ(ours.st_gid, kernels.st_gid);
    EXPECT_EQ(ours.st_size, kernels.st_size);
    EXPECT_EQ(ours.st_blocks, kernels.st_blocks);
    EXPECT_EQ(ours.st_blksize, kernels.st_blksize);
    EXPECT_EQ(ours.st_mtim.tv_sec, kernels.st_mtim.tv_sec);
    EXPECT_EQ(ours.st_mtim.tv_nsec, kernels.st_mtim.tv_nsec);
    EXPECT_EQ(ours.st_ctim.tv_nsec, kernels.st_ctim.tv_nsec);
  }
}

}  // namespace
}  // namespace berth::sys
