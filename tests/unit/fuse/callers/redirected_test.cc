// Who is told to walk to a file again, and when not to.
#include "fuse/callers/redirected.h"

#include <gtest/gtest.h>

namespace berth::fuse {
namespace {

using namespace std::chrono_literals;

TEST(Redirected, IsNotToldTwiceInOneSystemCall) {
  Redirected redirected;
  TimePoint now{};
  ASSERT_TRUE(redirected.add(1, now));
  EXPECT_TRUE(redirected.is_on_its_way(1, now));
  EXPECT_FALSE(redirected.is_on_its_way(2, now));
  now += 1s;
  redirected.arrived(1, now);
  EXPECT_FALSE(redirected.is_on_its_way(1, now)) << "it goes on from there";
  now += 1500ms;
  EXPECT_FALSE(redirected.add(1, now)) << "it has come here after all";
  EXPECT_TRUE(redirected.add(1, now)) << "with its next call";
  EXPECT_TRUE(redirected.add(1, now + 1min)) << "and when the last time is long ago";
}

TEST(Redirected, NobodyWhoCannotBeSeen) {
  Redirected redirected;
  EXPECT_FALSE(redirected.add(0, {}));
  EXPECT_FALSE(redirected.is_on_its_way(0, {}));
}

TEST(Redirected, SoManyAtOnceAndNoMore) {
  Redirected redirected;
  TimePoint now{};
  pid_t thread = 1;
  while (redirected.add(thread, now)) ASSERT_LT(++thread, 100'000);
  EXPECT_GT(thread, 100);
  EXPECT_TRUE(redirected.is_on_its_way(1, now));
  now += 1min;
  EXPECT_TRUE(redirected.add(thread, now)) << "the others have been forgotten";
  EXPECT_FALSE(redirected.is_on_its_way(1, now));
}

TEST(Redirected, IsKnownToTheNextServer) {
  const auto area = std::make_unique<RedirectedArea>();
  const TimePoint now = std::chrono::steady_clock::now();
  ASSERT_TRUE(Redirected(area.get()).add(1, now));
  Redirected next(area.get());
  EXPECT_TRUE(next.is_on_its_way(1, now));
  next.arrived(1, now);
  EXPECT_FALSE(Redirected(area.get()).add(1, now));
}

}  // namespace
}  // namespace berth::fuse
