#include "fuse/control/overmount_looks.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tests/unit/eventually.h"

namespace berth::fuse {
namespace {

using namespace std::chrono_literals;

class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return now_; }
  [[nodiscard]] WallTime wall_now() const noexcept override { return {}; }
  void advance(Duration by) { now_ = now_.load() + by; }

 private:
  std::atomic<TimePoint> now_{TimePoint{1h}};
};

class OvermountLooksTest : public ::testing::Test {
 protected:
  /// How many processes the reader is told of: the number of the look.
  std::size_t read() {
    const auto found = looks_.latest([] { return std::vector<std::uint64_t>{7}; });
    return found->in.contains(7) ? found->in.at(7).processes : 0;
  }

  ManualClock clock_;
  std::atomic<std::size_t> count_{0};
  std::atomic<bool> hangs_{false};
  Duration costs_{};
  const OvermountLooks::Look look_ = [this](const std::vector<std::uint64_t>& overmounts) {
    ++count_;
    while (hangs_) std::this_thread::yield();
    OvermountUsers found;
    found.cost = costs_;
    for (const std::uint64_t overmount : overmounts) found.in[overmount].processes = count_;
    return found;
  };
  OvermountLooks looks_{clock_, look_};
};

TEST_F(OvermountLooksTest, ReadersSetOffNoMoreThanATwentiethOfTheTime) {
  costs_ = 50ms;
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(read(), 1U);
  clock_.advance(999ms);
  EXPECT_EQ(read(), 1U);
  clock_.advance(1ms);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(read(), 2U);
}

TEST_F(OvermountLooksTest, QuickLookIsNotRepeatedAtOnceEither) {
  EXPECT_EQ(read(), 1U);
  clock_.advance(99ms);
  EXPECT_EQ(read(), 1U);
  clock_.advance(1ms);
  EXPECT_EQ(read(), 2U);
}

TEST_F(OvermountLooksTest, AllThatComeDuringALookGetItsAnswerAndFewWaitForIt) {
  hangs_ = true;
  std::atomic<std::size_t> answered{0}, first{0};
  std::vector<std::thread> readers;
  readers.emplace_back([&] { first += read(); });
  ASSERT_TRUE(testing::eventually([&] { return count_ == 1; }));
  constexpr std::size_t kBeyond = 5;
  std::atomic<std::size_t> empty{0};
  for (std::size_t i = 0; i < OvermountLooks::kMostWaiting + kBeyond; ++i) {
    readers.emplace_back([&] {
      const std::size_t told = read();
      ++(told == 1 ? answered : empty);
    });
  }
  EXPECT_TRUE(testing::eventually([&] { return empty == kBeyond; })) << "these have what was known before";
  EXPECT_EQ(answered, 0U);
  hangs_ = false;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(first, 1U);
  EXPECT_EQ(answered, OvermountLooks::kMostWaiting);
  EXPECT_EQ(count_, 1U);
}

}  // namespace
}  // namespace berth::fuse
