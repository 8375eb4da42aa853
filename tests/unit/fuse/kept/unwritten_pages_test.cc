#include "fuse/kept/unwritten_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>
#include <string_view>
#include <vector>

namespace berth::fuse {
namespace {

class UnwrittenPagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    void* const memory = ::mmap(nullptr, sizeof(UnwrittenArea), PROT_READ | PROT_WRITE,
                                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    area_ = static_cast<UnwrittenArea*>(memory);
  }
  void TearDown() override {
    if (area_ != nullptr) ::munmap(area_, sizeof(UnwrittenArea));
  }
  /// What the next server finds.
  [[nodiscard]] std::vector<std::string> left() const {
    std::vector<std::string> messages;
    for (const UnwrittenPages::Inherited& one : UnwrittenPages(area_).inherited())
      messages.emplace_back(one.message.begin(), one.message.end());
    return messages;
  }

  UnwrittenArea* area_ = nullptr;
};

TEST_F(UnwrittenPagesTest, NextServerFindsThemInTheOrderInWhichTheyWereKept) {
  UnwrittenPages first(area_);
  for (std::uint32_t slot = 0; slot + 1 < UnwrittenArea::kRecords; ++slot) {
    const auto kept = first.keep(std::string_view("done"));
    ASSERT_TRUE(kept);
    first.drop(*kept);
  }
  const auto older = first.keep(std::string_view("older"));
  const auto newer = first.keep(std::string_view("newer"));
  ASSERT_TRUE(older && newer);
  ASSERT_GT(*older, *newer) << "the slots begin again";
  EXPECT_EQ(left(), (std::vector<std::string>{"older", "newer"}));
  UnwrittenPages second(area_);
  first.drop(*newer);
  ASSERT_TRUE(second.keep(std::string_view("newest")));
  EXPECT_EQ(left(), (std::vector<std::string>{"older", "newest"})) << "kept by two servers";
}

}  // namespace
}  // namespace berth::fuse
