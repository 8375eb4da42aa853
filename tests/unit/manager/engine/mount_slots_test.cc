#include "manager/engine/mount_slots.h"

#include <gtest/gtest.h>

#include <array>

namespace berth::manager {
namespace {

using Slots = MountSlots<const int>;
using namespace std::chrono_literals;

class MountSlotsTest : public ::testing::Test {
 protected:
  const int* next(TimePoint now) {
    const std::optional<Slots::Turn> turn = slots.next(now);
    return turn ? turn->mount : nullptr;
  }

  const TimePoint start{1h};
  const std::array<int, 100> mounts{};
  Slots slots{2, 100};
};

TEST_F(MountSlotsTest, SoManyAreUnderWayAtOnceInOrder) {
  for (int i = 0; i < 4; ++i) slots.add(&mounts[static_cast<std::size_t>(i)], Slots::Kind::kRemote, start);
  EXPECT_EQ(next(start), &mounts[0]);
  EXPECT_EQ(next(start), &mounts[1]);
  EXPECT_EQ(next(start), nullptr);
  EXPECT_TRUE(slots.end(&mounts[1]));
  EXPECT_FALSE(slots.end(&mounts[1]));
  EXPECT_EQ(next(start), &mounts[2]);
  EXPECT_EQ(next(start), nullptr);
}

TEST_F(MountSlotsTest, WhatTakesLongGivesItsPlaceToTheNext) {
  for (int i = 0; i < 3; ++i) slots.add(&mounts[static_cast<std::size_t>(i)], Slots::Kind::kRemote, start);
  EXPECT_NE(next(start), nullptr);
  EXPECT_NE(next(start), nullptr);
  EXPECT_EQ(slots.next_at(start), start + Slots::kSlow);
  EXPECT_EQ(next(start + Slots::kSlow - 1ms), nullptr);
  EXPECT_EQ(next(start + Slots::kSlow), &mounts[2]);
  EXPECT_EQ(slots.next_at(start + Slots::kSlow), std::nullopt);
}

TEST_F(MountSlotsTest, MountsThatTakeLongAreBoundedAsWell) {
  for (const int& mount : mounts) slots.add(&mount, Slots::Kind::kRemote, start);
  std::size_t begun = 0;
  for (TimePoint now = start; now < start + 1h; now += Slots::kSlow) {
    while (next(now) != nullptr) ++begun;
  }
  EXPECT_EQ(begun, 2 * Slots::kMostSlow);
  EXPECT_EQ(slots.next_at(start + 1h), std::nullopt);
}

TEST_F(MountSlotsTest, MountsOfOneServerAreBoundedAndLetOthersPass) {
  Slots many{10, 2};
  const auto take = [&](TimePoint now) {
    const std::optional<Slots::Turn> turn = many.next(now);
    return turn ? turn->mount : nullptr;
  };
  for (std::size_t i = 0; i < 50; ++i) many.add(&mounts[i], Slots::Kind::kRemote, start, "filer");
  many.add(&mounts[50], Slots::Kind::kRemote, start, "other");
  many.add(&mounts[51], Slots::Kind::kRemote, start);
  many.add(&mounts[52], Slots::Kind::kRemote, start);
  many.add(&mounts[53], Slots::Kind::kRemote, start);
  for (const std::size_t i : {0U, 1U, 50U, 51U, 52U, 53U}) EXPECT_EQ(take(start), &mounts[i]);
  EXPECT_EQ(take(start), nullptr);
  EXPECT_EQ(take(start + 1h), nullptr) << "one that takes long is still its server's";
  EXPECT_TRUE(many.end(&mounts[1]));
  EXPECT_EQ(take(start), &mounts[2]);
  EXPECT_EQ(take(start), nullptr);
}

TEST_F(MountSlotsTest, WhatWaitsForNoServerDoesNotWaitForThoseThatDo) {
  for (std::size_t i = 0; i < 3; ++i) slots.add(&mounts[i], Slots::Kind::kRemote, start);
  EXPECT_NE(next(start), nullptr);
  EXPECT_NE(next(start), nullptr);
  EXPECT_EQ(next(start), nullptr);
  slots.add(&mounts[5], Slots::Kind::kLocal, start);
  EXPECT_EQ(next(start), &mounts[5]);
}

}  // namespace
}  // namespace berth::manager
