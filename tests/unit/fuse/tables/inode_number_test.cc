#include "fuse/tables/inode_number.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <string>
#include <unordered_set>

namespace berth::fuse {
namespace {

TEST(InodeNumber, IsTheSameInEveryRun) {
  // Backup programs and hard-link detection remember these: a change is a change for users.
  EXPECT_EQ(InodeNumbers("media").of(42), 4731343164185919373U);
  EXPECT_EQ(InodeNumbers("media").root(), 16869714088343902930U);
}

TEST(InodeNumber, DiffersBetweenSharesDevicesAndFiles) {
  std::unordered_set<ino_t> seen;
  std::size_t made = 0;
  for (const char* share : {"a", "b", "home/alice", "home/bob", "a/b"}) {
    const InodeNumbers numbers(share);
    EXPECT_TRUE(seen.insert(numbers.root()).second);
    ++made;
    for (std::uint32_t device : {0U, 1U, 0x800001U, 0x2aU}) {
      for (std::uint64_t inode = 1; inode < 5000; ++inode) {
        seen.insert(numbers.of(inode, device));
        ++made;
      }
    }
  }
  EXPECT_EQ(seen.size(), made);
}

TEST(InodeNumber, IsNeverOneThatMeansSomethingElse) {
  const InodeNumbers numbers("share");
  for (std::uint64_t inode = 0; inode < 100000; ++inode) EXPECT_GT(numbers.of(inode), 1U);
  EXPECT_GT(numbers.of(~std::uint64_t{0}), 1U);
}

TEST(InodeNumbers, OfThirtyTwoBitsAreOneToOneWhereTheRealOnesAre) {
  InodeNumbers::set_bits(32);
  const InodeNumbers numbers("share");
  std::set<ino_t> seen;
  for (std::uint64_t real = 0; real < 100'000; ++real) seen.insert(numbers.of(real));
  const ino_t large = numbers.of(std::uint64_t{1} << 40), elsewhere = numbers.of(5, 7);
  InodeNumbers::set_bits(64);
  EXPECT_EQ(seen.size(), 100'000U);
  EXPECT_EQ(*seen.rbegin() >> 32, 0U);
  EXPECT_GT(*seen.begin(), 1U);
  EXPECT_EQ(large >> 32, 0U);
  EXPECT_EQ(elsewhere >> 32, 0U);
}

}  // namespace
}  // namespace berth::fuse
