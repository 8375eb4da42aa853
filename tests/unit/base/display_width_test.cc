#include "src/lib/base/display_width.h"

#include <gtest/gtest.h>

namespace berth {
namespace {

TEST(DisplayWidth, CountsColumnsAndNotBytes) {
  EXPECT_EQ(display_width("media"), 5U);
  EXPECT_EQ(display_width("\u00e4\u00f6"), 2U);
  EXPECT_EQ(display_width("\u6d77\u6e2f"), 4U);  // East Asian, wide
  EXPECT_EQ(display_width("e\u0301"), 1U);       // a combining accent
  EXPECT_EQ(display_width("\xff\xfe"), 2U);      // no UTF-8
  EXPECT_EQ(display_width(""), 0U);
}

TEST(CutInTheMiddle, LeavesBothEndsAndNeverHalfACharacter) {
  EXPECT_EQ(cut_in_the_middle("media", 5), "media");
  EXPECT_EQ(cut_in_the_middle("abcdefghij", 7), "ab...ij");
  EXPECT_EQ(cut_in_the_middle("abcdefghij", 8), "abc...ij");
  EXPECT_EQ(cut_in_the_middle("abcdefghij", 2), "..");
  for (std::size_t columns = 0; columns < 12; ++columns) {
    EXPECT_LE(display_width(cut_in_the_middle("\u6d77\u6e2f\u6d77\u6e2f\u6d77\u6e2f", columns)), columns);
  }
}

}  // namespace
}  // namespace berth
