#include "src/lib/base/text.h"

#include <gtest/gtest.h>

namespace berth {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using namespace std::string_literals;

TEST(Quote, LeavesOrdinaryNamesReadable) {
  EXPECT_EQ(quote("media"), R"("media")");
  EXPECT_EQ(quote(""), R"("")");
  EXPECT_EQ(quote("Füße und 日本 🎵"), R"("Füße und 日本 🎵")");
}

TEST(Quote, EscapesWhatCouldBreakOrForgeALine) {
  EXPECT_EQ(quote("a\nb"), R"("a\nb")");
  EXPECT_EQ(quote("\t\r"), R"("\t\r")");
  EXPECT_EQ(quote("\x1b[31mred"), R"("\033[31mred")");
  EXPECT_EQ(quote("\x7f"), R"("\177")");
  EXPECT_EQ(quote("nul\0byte"s), R"("nul\000byte")");
  EXPECT_EQ(quote("\xC2\x9B"), R"("\302\233")") << "U+009B begins a terminal's control sequence as ESC [ does";
  EXPECT_EQ(quote("\xE2\x80\xA8"), R"("\342\200\250")") << "U+2028 separates lines";
  EXPECT_EQ(quote("a\xE2\x80\xAEgpj.exe"), R"("a\342\200\256gpj.exe")") << "U+202E turns what follows around";
}

TEST(Quote, CannotBeLeftFromInside) {
  EXPECT_EQ(quote(R"(a" state=idle x=")"), R"("a\" state=idle x=\"")");
  EXPECT_EQ(quote(R"(\)"), R"("\\")");
  EXPECT_EQ(quote(R"(\")"), R"("\\\"")");
}

TEST(Quote, EscapesBytesThatAreNotUtf8OneByOne) {
  EXPECT_EQ(quote("\xFF"), R"("\377")");
  EXPECT_EQ(quote("\xC3"), R"("\303")");
  EXPECT_EQ(quote("\xC3("), R"("\303(")");
  EXPECT_EQ(quote("\xE2\x82"), R"("\342\202")");
  EXPECT_EQ(quote("\xC0\xAF"), R"("\300\257")");
  EXPECT_EQ(quote("\xC0\xAF"
                  "1"),
            R"("\300\2571")")
      << "a digit after an escape stays a digit of the text";
}

TEST(Quote, OfAnyByteIsPrintableUtf8) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string quoted = quote(std::string{static_cast<char>(first), static_cast<char>(second)});
      ASSERT_TRUE(is_utf8(quoted)) << first << " " << second;
      for (const char c : quoted)
        ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) << first << " " << second;
    }
  }
}

TEST(Escape, LeavesOneFieldWithoutWhiteSpace) {
  EXPECT_EQ(escape("plain"), "plain");
  EXPECT_EQ(escape("a b\nc\td"), R"(a\040b\nc\td)");
  EXPECT_EQ(escape(R"(a\040b)"), R"(a\\040b)");
}

TEST(QuoteCommand, QuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(quote_command({"mount", "-t", "nfs4", "host:/export", "--", "/run/berth/a b", ""}),
            R"(mount -t nfs4 host:/export -- "/run/berth/a b" "")");
  EXPECT_EQ(quote_command({"$(reboot)", "a;b", "x'y"}), R"x("$(reboot)" "a;b" "x'y")x");
  EXPECT_EQ(quote_command({}), "");
}

TEST(FormatDuration, IsShortAndExactEnough) {
  EXPECT_EQ(format_duration(nanoseconds(0)), "0s");
  EXPECT_EQ(format_duration(nanoseconds(7)), "7ns");
  EXPECT_EQ(format_duration(microseconds(8)), "8us");
  EXPECT_EQ(format_duration(microseconds(1234)), "1.23ms");
  EXPECT_EQ(format_duration(milliseconds(250)), "250ms");
  EXPECT_EQ(format_duration(milliseconds(1500)), "1.5s");
  EXPECT_EQ(format_duration(milliseconds(12345)), "12.3s");
  EXPECT_EQ(format_duration(seconds(10)), "10s");
  EXPECT_EQ(format_duration(seconds(90)), "1m30s");
  EXPECT_EQ(format_duration(minutes(5)), "5m");
  EXPECT_EQ(format_duration(minutes(150)), "2h30m");
  EXPECT_EQ(format_duration(hours(1) + seconds(5)), "1h5s");
  EXPECT_EQ(format_duration(-milliseconds(1500)), "-1.5s");
}

TEST(FormatDuration, CarriesIntoTheNextUnitWhenRounded) {
  EXPECT_EQ(format_duration(nanoseconds(999'999)), "1ms");
  EXPECT_EQ(format_duration(microseconds(999'900)), "1s");
  EXPECT_EQ(format_duration(milliseconds(59'990)), "1m");
  EXPECT_EQ(format_duration(seconds(3599) + milliseconds(700)), "1h");
}

TEST(FormatDuration, BearsTheLimits) {
  EXPECT_EQ(format_duration(nanoseconds::max()), "2562047h47m17s");
  EXPECT_EQ(format_duration(nanoseconds::min()), "-2562047h47m17s");
}

TEST(FormatTime, IsRfc3339InUtc) {
  const auto time = std::chrono::system_clock::time_point(seconds(1795222273) + milliseconds(123));
  EXPECT_EQ(format_time(time), "2026-11-21T00:51:13.123Z");
  EXPECT_EQ(format_time(std::chrono::system_clock::time_point(milliseconds(-1))), "1969-12-31T23:59:59.999Z");
}

TEST(Split, KeepsEmptyParts) {
  EXPECT_EQ(split("a,b", ','), (std::vector<std::string_view>{"a", "b"}));
  EXPECT_EQ(split(",a,,", ','), (std::vector<std::string_view>{"", "a", "", ""}));
  EXPECT_EQ(split("", ','), (std::vector<std::string_view>{""}));
}

TEST(IsUtf8, FollowsRfc3629) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF"));
  EXPECT_FALSE(is_utf8("\x80")) << "continuation alone";
  EXPECT_FALSE(is_utf8("\xC1\xBF")) << "not the shortest form of U+007F";
  EXPECT_FALSE(is_utf8("\xE0\x9F\xBF")) << "not the shortest form of U+07FF";
  EXPECT_FALSE(is_utf8("\xF0\x8F\xBF\xBF")) << "not the shortest form of U+FFFF";
  EXPECT_FALSE(is_utf8("\xED\xA0\x80")) << "surrogate U+D800";
  EXPECT_FALSE(is_utf8("\xF4\x90\x80\x80")) << "U+110000";
  EXPECT_FALSE(is_utf8("\xF5\x80\x80\x80"));
  EXPECT_FALSE(is_utf8("abc\xE2\x82")) << "cut off";
}

TEST(Nearest, FindsWhatWasMeant) {
  const std::vector<std::string_view> keys{"idle_timeout", "mount_timeout", "type", "source", "options"};
  EXPECT_EQ(nearest("idle_timout", keys), "idle_timeout");
  EXPECT_EQ(nearest("tpye", keys), "type");
  EXPECT_EQ(nearest("Source", keys), "source");
  EXPECT_EQ(nearest("option", keys), "options");
}

TEST(Nearest, HasALetterLeftOutRatherThanOneTooMany) {
  EXPECT_EQ(nearest("umount", {"mount", "unmount", "remount"}), "unmount");
  EXPECT_EQ(nearest("umount", {"unmount", "mount"}), "unmount");
}

TEST(Nearest, SaysNothingWhenNothingIsNear) {
  const std::vector<std::string_view> keys{"type", "source"};
  EXPECT_EQ(nearest("colour", keys), "");
  EXPECT_EQ(nearest("", keys), "");
  EXPECT_EQ(nearest(std::string(100'000, 't'), keys), "");
  EXPECT_EQ(nearest("type", {}), "");
}

}  // namespace
}  // namespace berth
