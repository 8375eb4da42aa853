#include "fuse/kept/apply_once.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

#include "src/lib/base/unique_fd.h"
#include "tests/unit/temporary_directory.h"

namespace berth::fuse {
namespace {

/// The system call of a server that was killed is under way still on a network file system: the successor sees its
/// name, and then is told what the first one has done.
class OnceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(directory_);
    const UniqueFd file{::openat(directory_.get(), "name", O_CREAT | O_WRONLY | O_CLOEXEC, 0644)};
    ASSERT_TRUE(file);
    file_ = once::key_at(directory_.get(), "name");
    ASSERT_NE(file_.inode, 0u);
  }
  /// Does it once for the dead server, and then for the successor.
  template <typename Call>
  static auto twice(Call call) {
    return [call] {
      EXPECT_EQ(call(), 0);
      return call();
    };
  }
  int unlink_name() const { return ::unlinkat(directory_.get(), "name", 0); }
  int move_name() const { return ::renameat(directory_.get(), "name", directory_.get(), "new"); }

  testing::TemporaryDirectory place_;
  UniqueFd directory_{::open(place_.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)};
  FileKey file_;
};

TEST_F(OnceTest, WhatADeadServerRemovesJustNowIsRemovedOnce) {
  const FirstAttempt first_attempt{.intent = IntentRecord::kRemove, .file = file_};
  const CurrentRequest current(nullptr, 1, &first_attempt);
  const Result<> removed = once::remove(directory_.get(), "name", twice([this] { return unlink_name(); }));
  EXPECT_TRUE(removed);
  EXPECT_EQ(once::key_at(directory_.get(), "name").inode, 0u);
}

TEST_F(OnceTest, WhatADeadServerMovesJustNowIsMovedOnce) {
  const FirstAttempt first_attempt{.intent = IntentRecord::kMove, .file = file_};
  const CurrentRequest current(nullptr, 1, &first_attempt);
  const Result<> moved =
      once::move(directory_.get(), "name", directory_.get(), "new", twice([this] { return move_name(); }));
  EXPECT_TRUE(moved);
  EXPECT_EQ(once::key_at(directory_.get(), "new"), file_);
}

TEST_F(OnceTest, WhatSomebodyElseRemovesIsAnErrorTheFirstTime) {
  const Result<> removed = once::remove(directory_.get(), "name", twice([this] { return unlink_name(); }));
  ASSERT_FALSE(removed);
  EXPECT_EQ(removed.error().code(), ENOENT);
}

TEST_F(OnceTest, WhatSomebodyElseMovesElsewhereIsAnError) {
  const FirstAttempt first_attempt{.intent = IntentRecord::kMove, .file = file_};
  const CurrentRequest current(nullptr, 1, &first_attempt);
  const Result<> moved = once::move(directory_.get(), "name", directory_.get(), "new", [this] {
    EXPECT_EQ(::renameat(directory_.get(), "name", directory_.get(), "elsewhere"), 0);
    return move_name();
  });
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().code(), ENOENT);
}

}  // namespace
}  // namespace berth::fuse
