#include "fuse/files/handle_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "fuse/kept/requests.h"

namespace berth::fuse {
namespace {

std::string pattern(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>('a' + i % 23);
  return bytes;
}

/// A file, and a request about it that the kernel sends again because a server died over it.
class HandleIo : public ::testing::Test {
 protected:
  HandleIo() {
    std::string name = (std::filesystem::temp_directory_path() / "handle-io-XXXXXX").string();
    directory_ = ::mkdtemp(name.data());
  }
  ~HandleIo() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string path() const { return directory_ + "/file"; }
  void put(const std::string& content) const { std::ofstream(path(), std::ios::binary) << content; }
  [[nodiscard]] std::string content() const {
    std::ifstream file(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] std::unique_ptr<Handle> open(int flags) const {
    auto handle = std::make_unique<Handle>();
    handle->file = std::make_shared<const UniqueFd>(::open(path().c_str(), flags | O_CREAT | O_CLOEXEC, 0600));
    handle->flags = flags;
    return handle;
  }
  /// What write_at() answers to the second attempt of an append, after a server that left `first_attempt`; -1: an
  /// error.
  long append_again(const std::string& bytes, const FirstAttempt& first_attempt, int flags = O_WRONLY | O_APPEND) {
    const auto handle = open(flags);
    const CurrentRequest request(record_.get(), 1, &first_attempt);
    const Result<std::size_t> done = write_at(*handle, bytes, 0, flags);
    return done ? static_cast<long>(*done) : -1;
  }

  std::unique_ptr<RequestRecord> record_ = std::make_unique<RequestRecord>();
  std::string directory_;
};

/// A shorter answer would be the end of the file to the kernel.
TEST_F(HandleIo, ReadThatMeetsAnErrorAfterAPartIsNoShortRead) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const pages = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(::munmap(static_cast<char*>(pages) + page, page), 0);
  Handle memory;
  memory.file = std::make_shared<const UniqueFd>(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  memory.flags = O_RDONLY;
  std::string buffer(2 * page, '\0');
  const auto offset = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(pages));
  const Result<std::size_t> first = read_at(memory, {buffer.data(), page}, offset, O_RDONLY);
  EXPECT_TRUE(first && *first == page);
  const Result<std::size_t> both = read_at(memory, buffer, offset, O_RDONLY);
  EXPECT_TRUE(!both && both.error().code() == EIO);
  ::munmap(pages, page);
}

TEST_F(HandleIo, AppendThatADeathCutShortIsFinished) {
  const std::string bytes = pattern(1 << 20);
  for (const std::size_t written : {std::size_t{1}, std::size_t{4096}, std::size_t{300000}, bytes.size() - 1}) {
    put("old" + bytes.substr(0, written));
    EXPECT_EQ(append_again(bytes, {IntentRecord::kAppend, {}, 3}), static_cast<long>(bytes.size())) << written;
    EXPECT_EQ(content(), "old" + bytes) << written;
  }
}

TEST_F(HandleIo, AppendThatADeathCutShortIsFinishedWhateverElseItsDescriptorIs) {
  const std::string bytes = pattern(8192);
  for (const int flags : {O_RDWR | O_APPEND, O_WRONLY | O_APPEND | O_SYNC, O_RDWR | O_APPEND | O_DIRECT}) {
    put(bytes + bytes.substr(0, 4096));
    if ((flags & O_DIRECT) != 0 && !*open(flags)->file) continue;  // not every file system has it
    EXPECT_EQ(append_again(bytes, {IntentRecord::kAppend, {}, bytes.size()}, flags), 8192) << flags;
    EXPECT_EQ(content(), bytes + bytes) << flags;
  }
}

TEST_F(HandleIo, AppendThatWasDoneIsNotDoneAgain) {
  put("oldnew");
  EXPECT_EQ(append_again("new", {IntentRecord::kAppend, {}, 3}), 3);
  EXPECT_EQ(content(), "oldnew");
}

TEST_F(HandleIo, AppendGoesBehindWhatOthersHaveAppended) {
  put("oldother");
  EXPECT_EQ(append_again("new", {IntentRecord::kAppend, {}, 3}), 3);
  EXPECT_EQ(content(), "oldothernew");
}

TEST_F(HandleIo, AppendIsNotedByTheSecondAttemptWhereTheFirstHadNotComeToIt) {
  put("old");
  EXPECT_EQ(append_again("new", {}), 3);
  EXPECT_EQ(record_->intent.kind, IntentRecord::kAppend);
  EXPECT_EQ(record_->intent.size, 3U);
}

TEST_F(HandleIo, CopyIntoTheSameFileIsNotLongerTheSecondTime) {
  put("content");
  const auto handle = open(O_RDWR);
  // The first attempt has made the file longer.
  ASSERT_EQ(::pwrite(handle->fd(), "con", 3, 100), 3);
  const FirstAttempt first_attempt{IntentRecord::kCopy, {}, 7};
  const CurrentRequest request(record_.get(), 1, &first_attempt);
  const Result<std::size_t> copied = copy(*handle, 0, *handle, 100, 1000);
  ASSERT_TRUE(copied);
  EXPECT_EQ(*copied, 7U);
  EXPECT_EQ(content(), "content" + std::string(93, '\0') + "content");
}

TEST_F(HandleIo, CopyNotesHowMuchThereIs) {
  put("content");
  const auto handle = open(O_RDWR);
  const CurrentRequest request(record_.get(), 1, nullptr);
  ASSERT_TRUE(copy(*handle, 2, *handle, 100, 1000));
  EXPECT_EQ(record_->intent.kind, IntentRecord::kCopy);
  EXPECT_EQ(record_->intent.size, 5U);
}

TEST_F(HandleIo, PagesGoWhereTheyBelongWhateverTheFlagsOfTheDescriptor) {
  for (const int flags : {O_APPEND, O_DIRECT, O_SYNC, O_APPEND | O_DIRECT | O_DSYNC}) {
    put("0123456789");
    const auto handle = open(O_RDWR | flags);
    if (!*handle->file) continue;  // not every file system has O_DIRECT
    const Result<std::size_t> done = write_at(*handle, std::string("abc"), 4, 0);
    ASSERT_TRUE(done) << errno_name(done.error().code());
    EXPECT_EQ(*done, 3U);
    EXPECT_EQ(content(), "0123abc789") << flags;
    EXPECT_EQ(::fcntl(handle->fd(), F_GETFL) & flags, flags) << "its own writes go as before";
    std::string read(5, '\0');
    const Result<std::size_t> size = read_at(*handle, read, 3, 0);
    ASSERT_TRUE(size) << errno_name(size.error().code());
    EXPECT_EQ(read, "3abc7");
  }
}

TEST_F(HandleIo, FlagsTakenFromAnOpenFileAreHeard) {
  put("0123456789");
  const auto handle = open(O_RDWR | O_DIRECT | O_APPEND);
  if (!*handle->file) GTEST_SKIP() << "no O_DIRECT here";
  EXPECT_TRUE(write_at(*handle, std::string("abc"), 1, O_RDWR));
  EXPECT_EQ(content(), "0abc456789");
  EXPECT_TRUE(write_at(*handle, std::string("end"), 1, O_RDWR | O_APPEND));
  EXPECT_EQ(content(), "0abc456789end");
}

}  // namespace
}  // namespace berth::fuse
