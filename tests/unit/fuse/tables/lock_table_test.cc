#include "fuse/tables/lock_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <system_error>

#include "tests/unit/fuse/range_of.h"
#include "tests/unit/temporary_directory.h"

namespace berth::fuse {
namespace {

/// A table with locks of one file.
class LockTableTest : public ::testing::Test {
 protected:
  static constexpr LockOwner kOwner = 7;

  void SetUp() override {
    file_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_TRUE(file_);
  }

  [[nodiscard]] std::unique_ptr<Handle> open(int flags) const {
    auto handle = std::make_unique<Handle>();
    handle->file = std::make_shared<const UniqueFd>(::open(path_.c_str(), flags | O_CLOEXEC));
    handle->node = 5;
    handle->flags = flags;
    return handle;
  }
  /// Answers an errno value.
  int set(const Handle& handle, short type, off_t start, off_t length, LockOwner owner = kOwner) {
    const Result<> done = table_.set({handle, 1, owner, range_of(type, start, length)});
    return done ? 0 : done.error().code();
  }
  /// Whether another open file may lock that.
  [[nodiscard]] bool is_free(short type, off_t start, off_t length) const {
    struct flock range = range_of(type, start, length);
    return ::fcntl(file_.get(), F_OFD_GETLK, &range) == 0 && range.l_type == F_UNLCK;
  }

  const berth::testing::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "file";
  UniqueFd file_;
  LockTable table_;
};

std::set<std::string> descriptors_of(const std::string& path) {
  std::set<std::string> all;
  for (const auto& one : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code closed;
    if (std::filesystem::read_symlink(one.path(), closed) == path) all.insert(one.path());
  }
  return all;
}

// A FUSE server that keeps locks itself shows none that another descriptor could take over.
TEST_F(LockTableTest, LockToWriteThroughAHandleToWriteTakesNoOtherDescriptor) {
  const std::unique_ptr<Handle> handle = open(O_RDWR);
  ASSERT_EQ(set(*handle, F_RDLCK, 0, 10), 0);
  const std::set<std::string> before = descriptors_of(path_);
  ASSERT_EQ(set(*handle, F_WRLCK, 20, 10), 0);
  EXPECT_EQ(descriptors_of(path_), before);
  EXPECT_FALSE(is_free(F_WRLCK, 0, 10));
  EXPECT_FALSE(is_free(F_RDLCK, 20, 10));
}

TEST_F(LockTableTest, PutsBackWhatTheOwnerHadInTheRange) {
  const std::unique_ptr<Handle> handle = open(O_RDWR);
  ASSERT_EQ(set(*handle, F_RDLCK, 10, 10), 0);
  ASSERT_EQ(set(*handle, F_WRLCK, 30, 10), 0);
  ASSERT_EQ(set(*handle, F_RDLCK, 90, 0), 0);
  const LockTable::Request request{*handle, 1, kOwner, range_of(F_WRLCK, 15, 0)};
  const LockTable::Held before = table_.held(request);
  ASSERT_EQ(set(*handle, F_WRLCK, 15, 0), 0);
  ASSERT_FALSE(is_free(F_RDLCK, 15, 0));
  table_.put_back(request, before);
  EXPECT_FALSE(is_free(F_WRLCK, 10, 5));
  EXPECT_FALSE(is_free(F_WRLCK, 15, 5));
  EXPECT_TRUE(is_free(F_RDLCK, 10, 20));
  EXPECT_TRUE(is_free(F_WRLCK, 20, 10));
  EXPECT_FALSE(is_free(F_RDLCK, 39, 1));
  EXPECT_TRUE(is_free(F_WRLCK, 40, 50));
  EXPECT_TRUE(is_free(F_RDLCK, 40, 0));
  EXPECT_FALSE(is_free(F_WRLCK, 1000, 1));
}

TEST_F(LockTableTest, PutsNothingBackOfAnOwnerThatHasClosedTheFileSince) {
  const std::unique_ptr<Handle> handle = open(O_RDWR);
  ASSERT_EQ(set(*handle, F_RDLCK, 0, 10), 0);
  const LockTable::Request request{*handle, 1, kOwner, range_of(F_WRLCK, 0, 10)};
  const LockTable::Held before = table_.held(request);
  ASSERT_TRUE(table_.drop_owner(handle->node, kOwner));
  ASSERT_EQ(set(*handle, F_WRLCK, 0, 10), 0);
  table_.put_back(request, before);
  EXPECT_TRUE(is_free(F_WRLCK, 0, 0));
}

}  // namespace
}  // namespace berth::fuse
