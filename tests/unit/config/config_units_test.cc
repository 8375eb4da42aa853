#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "src/config/units.h"

namespace berth::config {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

TEST(Duration, IsReadWithItsUnits) {
  const std::pair<const char*, std::int64_t> cases[] = {
      {"0", 0},
      {"0s", 0},
      {"500ms", 500},
      {"10s", 10'000},
      {"5m", 300'000},
      {"2h", 7'200'000},
      {"1d", 86'400'000},
      {"1h30m", 5'400'000},
      {"1d2h3m4s5ms", 93'784'005},
      {"1m1ms", 60'001},
      {"3650d", 315'360'000'000},
      {"007s", 7000},
  };
  for (const auto& [text, expected] : cases) {
    const Result<milliseconds> parsed = parse_duration(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().story();
    EXPECT_EQ(parsed->count(), expected) << text;
  }
}

TEST(Duration, IsRefusedWithTheReason) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "not a duration"},
      {"s", "not a duration"},
      {"-1s", "not a duration"},
      {" 1s", "not a duration"},
      {"1s ", "not a duration"},
      {"1.5s", "lacks a unit"},
      {"10", "lacks a unit"},
      {"00", "lacks a unit"},
      {"1h30", "lacks a unit"},
      {"1 s", "lacks a unit right behind the 1:"},
      {"5 minutes", "\"5 minutes\" lacks a unit right behind the 5: ms, s, m, h or d"},
      {"1w", "unknown unit \"w\""},
      {"1sec", "unknown unit"},
      {"1M", "unknown unit"},
      {"30m1h", "not in order"},
      {"1s1s", "not in order"},
      {"3651d", "ten years"},
      {"3650d1ms", "ten years"},
      {"99999999999999999999s", "ten years"},
      {"18446744073709551615d", "ten years"},
  };
  for (const auto& [text, told] : cases) {
    const Result<milliseconds> parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(std::string(parsed.error().story()), HasSubstr(told)) << text;
  }
}

TEST(Size, IsReadWithItsUnit) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"0", 0},
      {"4096", 4096},
      {"1B", 1},
      {"64KiB", 65'536},
      {"10M", 10'485'760},
      {"64MiB", 67'108'864},
      {"2GB", 2'000'000'000},
      {"1T", 1'099'511'627'776},
      {"18446744073709551615", UINT64_MAX},
  };
  for (const auto& [text, expected] : cases) {
    const Result<std::uint64_t> parsed = parse_size(text);
    ASSERT_TRUE(parsed) << text << ": " << parsed.error().story();
    EXPECT_EQ(*parsed, expected) << text;
  }
}

TEST(Size, IsRefusedWithTheReason) {
  for (const char* text : {"", "M", "-1", "1.5M", "1 M", "1M1K", "1m", "1X", "1MiBs"}) {
    EXPECT_EQ(parse_size(text).error().code(), EINVAL) << text;
  }
  EXPECT_EQ(parse_size("18446744073709551616").error().code(), ERANGE);
  EXPECT_EQ(parse_size("16777216T").error().code(), ERANGE);
}

TEST(Mode, IsOctal) {
  EXPECT_EQ(*parse_mode("0755"), 0755U);
  EXPECT_EQ(*parse_mode("700"), 0700U);
  EXPECT_EQ(*parse_mode("01777"), 01777U);
  for (const char* text : {"", "7", "0855", "rwx", "-755", "017777", "0755 ", "0x1ff", "99999999999999999"}) {
    EXPECT_FALSE(parse_mode(text)) << text;
  }
}

}  // namespace
}  // namespace berth::config
