#include "fuse/tables/known_shares.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "fuse/kept/kept_state.h"
#include "manager/model/share.h"

namespace berth::fuse {
namespace {

class NoListener : public manager::LeaveListener {
 public:
  void on_left(manager::Share&) noexcept override {}
};

/// Servers that succeed each other, over the same memory.
class KnownSharesTest : public ::testing::Test {
 protected:
  using Shares = std::map<std::uint64_t, std::shared_ptr<manager::Share>>;

  void SetUp() override {
    memory_ =
        ::mmap(nullptr, sizeof(ShareSlots), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(memory_, MAP_FAILED);
    known_ = std::make_unique<KnownShares>(&slots());
  }
  void TearDown() override {
    known_.reset();
    ::munmap(memory_, sizeof(ShareSlots));
  }

  ShareSlots& slots() { return *static_cast<ShareSlots*>(memory_); }
  ShareIndex add(std::uint64_t incarnation) {
    manager::ShareFields fields{.name = "share" + std::to_string(incarnation), .type = "bind", .sources = {"/srv"}};
    const auto share =
        std::make_shared<manager::Share>(*manager::ShareSpec::make(std::move(fields)), listener_, incarnation);
    shares_.emplace(incarnation, share);
    return (*known_->add(share))->index();
  }
  /// Another server, for which these indices are in use besides.
  void succeed(const std::set<ShareIndex>& used = {}) {
    known_ = std::make_unique<KnownShares>(&slots());
    known_->take_over(shares_);
    known_->free_slots([&used](ShareIndex index) { return used.contains(index); });
  }
  [[nodiscard]] std::uint64_t incarnation_at(ShareIndex index) const {
    const KnownShare* const known = known_->find(index);
    return known == nullptr ? 0 : known->share().incarnation();
  }

  NoListener listener_;
  void* memory_ = nullptr;
  Shares shares_;
  std::unique_ptr<KnownShares> known_;
};

TEST_F(KnownSharesTest, SlotOfAShareThatIsGoneIsUsedByTheNextServerWithAnotherIndex) {
  const ShareIndex stays = add(1);
  const ShareIndex goes = add(2);
  shares_.erase(2);
  EXPECT_NE(add(3), goes);  // this server has threads that may use it
  EXPECT_EQ(incarnation_at(goes), 2U);
  succeed();
  EXPECT_EQ(incarnation_at(stays), 1U);
  EXPECT_EQ(incarnation_at(goes), 0U);
  const ShareIndex next = add(4);
  EXPECT_EQ(slot_of(next), slot_of(goes));
  EXPECT_NE(next, goes);
  EXPECT_EQ(incarnation_at(next), 4U);
  EXPECT_EQ(incarnation_at(goes), 0U);
  EXPECT_EQ(slots().end, 3U);
  succeed();
  EXPECT_EQ(incarnation_at(next), 4U);
  EXPECT_EQ(incarnation_at(goes), 0U);
}

TEST_F(KnownSharesTest, SlotWhoseIndexIsStillInUseWaitsForAnotherServer) {
  const ShareIndex goes = add(1);
  shares_.clear();
  succeed({goes});
  EXPECT_NE(slot_of(add(2)), slot_of(goes));
  succeed();
  EXPECT_EQ(slot_of(add(3)), slot_of(goes));
}

TEST_F(KnownSharesTest, MoreSharesThanThereAreSlotsComeAndGo) {
  std::set<ShareIndex> seen;
  for (std::uint64_t incarnation = 1; incarnation <= 8 * 512;) {
    for (int i = 0; i < 512; ++i) EXPECT_TRUE(seen.insert(add(incarnation++)).second);
    shares_.clear();
    succeed();
  }
  EXPECT_EQ(slots().end, 512U);
  for (const ShareIndex index : seen) EXPECT_EQ(known_->find(index), nullptr);
}

TEST_F(KnownSharesTest, IndexThatWasNeverGivenOutIsOfNoShare) {
  constexpr auto kMost = static_cast<ShareIndex>(KnownShares::kMost);
  const ShareIndex index = add(1);
  EXPECT_EQ(known_->find(index + 1), nullptr);
  EXPECT_EQ(known_->find(index + kMost), nullptr);
  EXPECT_EQ(known_->find(UINT32_MAX), nullptr);
}

TEST_F(KnownSharesTest, ThereAreNoMoreThanSlots) {
  slots().end = KnownShares::kMost;
  for (std::atomic<std::uint64_t>& share : slots().shares) share = 7;
  // All but one are in use.
  known_ = std::make_unique<KnownShares>(&slots());
  known_->take_over({});
  known_->free_slots([](ShareIndex index) { return slot_of(index) != 5; });
  EXPECT_EQ(add(8), KnownShares::kMost + 5);
  manager::ShareFields fields{.name = "one more", .type = "bind", .sources = {"/srv"}};
  const auto more = std::make_shared<manager::Share>(*manager::ShareSpec::make(std::move(fields)), listener_, 9);
  const Result<KnownShare*> added = known_->add(more);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), ENOSPC);
}

}  // namespace
}  // namespace berth::fuse
