#include "fuse/shares/lock_requests.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/fuse/range_of.h"

namespace berth::fuse {
namespace {

using Later = LockRequests::Later;

TEST(LockRequests, LaterOneOfTheOwnerIsNotUndoneByAnEarlierOne) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  LockRequests::Request again(all, 1, 7, range_of(F_WRLCK, 0, 10));
  EXPECT_EQ(first.begin_undo(), Later::kLock);
  EXPECT_FALSE(again.must_wait());
  EXPECT_EQ(again.begin_undo(), Later::kNothing);
}

TEST(LockRequests, WhatTheOwnerHasUnlockedSinceIsTold) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  LockRequests::Request(all, 1, 7, range_of(F_UNLCK, 5, 0)).note_set();
  EXPECT_EQ(first.begin_undo(), Later::kUnlock);
}

TEST(LockRequests, LaterOneThatHasSetNothingDoesNotKeepAnEarlierOneFromItsUndo) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  { const LockRequests::Request refused(all, 1, 7, range_of(F_WRLCK, 0, 10)); }
  {
    LockRequests::Request undone(all, 1, 7, range_of(F_WRLCK, 0, 10));
    undone.note_set();
    EXPECT_EQ(undone.begin_undo(), Later::kNothing);
  }
  EXPECT_EQ(first.begin_undo(), Later::kNothing);
}

TEST(LockRequests, LaterOneThatHasSetItsLockKeepsAnEarlierOneFromItsUndoWhenItIsDone) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  LockRequests::Request(all, 1, 7, range_of(F_WRLCK, 5, 1)).note_set();
  EXPECT_EQ(first.begin_undo(), Later::kLock);
}

TEST(LockRequests, UnlockOfAPartLeavesTheOwnerTheRest) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  LockRequests::Request(all, 1, 7, range_of(F_WRLCK, 0, 10)).note_set();
  LockRequests::Request(all, 1, 7, range_of(F_UNLCK, 5, 5)).note_set();
  EXPECT_EQ(first.begin_undo(), Later::kLock);
}

TEST(LockRequests, UnlockOfAllThatWasAskedForIsWhatCounts) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  LockRequests::Request(all, 1, 7, range_of(F_WRLCK, 0, 10)).note_set();
  LockRequests::Request(all, 1, 7, range_of(F_UNLCK, 0, 0)).note_set();
  EXPECT_EQ(first.begin_undo(), Later::kUnlock);
}

TEST(LockRequests, OtherOwnersNodesAndRangesDoNotMatter) {
  LockRequests all;
  LockRequests::Request first(all, 1, 7, range_of(F_WRLCK, 0, 10));
  const LockRequests::Request owner(all, 1, 8, range_of(F_WRLCK, 0, 0));
  const LockRequests::Request node(all, 2, 7, range_of(F_WRLCK, 0, 0));
  const LockRequests::Request range(all, 1, 7, range_of(F_WRLCK, 10, 0));
  EXPECT_EQ(first.begin_undo(), Later::kNothing);
  EXPECT_FALSE(owner.must_wait() || node.must_wait() || range.must_wait());
}

TEST(LockRequests, ThatComesWhileOneIsUndoneWaitsForItsEnd) {
  LockRequests all;
  auto first = std::make_unique<LockRequests::Request>(all, 1, 7, range_of(F_WRLCK, 0, 10));
  EXPECT_EQ(first->begin_undo(), Later::kNothing);
  const LockRequests::Request again(all, 1, 7, range_of(F_WRLCK, 9, 1));
  EXPECT_TRUE(again.must_wait());
  first.reset();
  EXPECT_FALSE(again.must_wait());
}

}  // namespace
}  // namespace berth::fuse
