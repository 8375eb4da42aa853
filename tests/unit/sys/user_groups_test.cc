#include "src/lib/sys/user_groups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <latch>

#include "tests/unit/eventually.h"

namespace berth::sys {
namespace {

using berth::testing::eventually;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::chrono::hours kLong{1};
constexpr std::chrono::milliseconds kShort{1};

TEST(UserGroups, AreThoseOfTheDatabase) {
  const auto groups = UserGroups::make([](uid_t user, gid_t group) { return std::vector<gid_t>{user, group}; }, kLong);
  EXPECT_THAT(groups->of(1, 2), ElementsAre(1, 2));
  EXPECT_THAT(groups->of(3, 4), ElementsAre(3, 4));
}

TEST(UserGroups, AreRememberedForAMoment) {
  std::atomic<int> asked{0};
  const auto groups = UserGroups::make(
      [&](uid_t, gid_t) {
        ++asked;
        return std::vector<gid_t>{7};
      },
      kLong);
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) EXPECT_THAT(groups->of(1, 1), ElementsAre(7));
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_LE(asked, 2 + took / UserGroups::kRemembered);
}

TEST(UserGroups, DatabaseThatDoesNotAnswerHoldsUpNoCallerAndCountsWhenItDoes) {
  std::latch answers(1);
  std::atomic<int> asked{0};
  const auto groups = UserGroups::make(
      [&](uid_t user, gid_t) {
        ++asked;
        answers.wait();
        return std::vector<gid_t>{user};
      },
      kShort);
  for (uid_t user = 1; user < 5000; ++user) EXPECT_THAT(groups->of(user, 1), IsEmpty());
  EXPECT_EQ(asked, 1) << "one thread asks, one after another";
  answers.count_down();
  EXPECT_TRUE(eventually([&] { return groups->of(1, 1) == std::vector<gid_t>{1}; }));
  EXPECT_TRUE(eventually([&] { return groups->of(4999, 1) == std::vector<gid_t>{4999}; }));
  // Nothing of the test is used any more when it ends.
  EXPECT_TRUE(eventually([&] { return groups.use_count() == 1; }));
}

}  // namespace
}  // namespace berth::sys
