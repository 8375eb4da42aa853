#include "src/autofs/lines.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace berth::autofs {
namespace {

/// "LINE KEY|VALUE" for each line, with '+' for an include.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> result;
  for (const Line& line : read_lines(text, "map").lines) {
    result.push_back(std::to_string(line.number) + " " + (line.is_include ? "+" : "") + line.key + "|" + line.value);
  }
  return result;
}

std::vector<std::string> faults_of(std::string_view text) {
  std::vector<std::string> result;
  for (const Fault& fault : read_lines(text, "map").faults) result.push_back(to_string(fault));
  return result;
}

using Texts = std::vector<std::string>;

TEST(AutofsLinesTest, KeyAndValueAreSeparatedByBlanks) {
  EXPECT_EQ(lines_of("  a s:/a\nb\t-ro s:/b  c\n\nc s:/c"), (Texts{"1 a|s:/a", "2 b|-ro s:/b  c", "4 c|s:/c"}));
  EXPECT_EQ(lines_of("a s:/a\r\n\r\nb s:/b\r\n"), (Texts{"1 a|s:/a\r", "3 b|s:/b\r"}));
}

TEST(AutofsLinesTest, CommentsAndBlankLinesAreLeftOut) {
  EXPECT_EQ(lines_of("# it's \"open\n  # as well\n \t\n# goes on \\\nnot s:/here\na s:/a\n"), (Texts{"6 a|s:/a"}));
  EXPECT_EQ(lines_of("a s:/a#b # told by the entry\n"), (Texts{"1 a|s:/a#b # told by the entry"}));
}

TEST(AutofsLinesTest, BackslashAtTheEndJoinsLines) {
  EXPECT_EQ(lines_of("a -ro \\\n  s:/a\nb\\\nc s:/bc\n\\\nd s:/d\n"),
            (Texts{"1 a|-ro   s:/a", "3 bc|s:/bc", "5 d|s:/d"}));
  EXPECT_EQ(lines_of("a s:/a\\\\\nb s:/b\n"), (Texts{"1 a|s:/a\\\\", "2 b|s:/b"}));
}

TEST(AutofsLinesTest, BackslashAtTheEndOfTheFileJoinsNothing) {
  EXPECT_EQ(faults_of("a s:/a\\\n"), (Texts{"map:1: the file ends behind a backslash"}));
  EXPECT_EQ(lines_of("a s:/a\\"), (Texts{"1 a|s:/a\\"}));
}

TEST(AutofsLinesTest, QuotesAndBackslashesKeepBlanksInTheKeyAndStayInTheValue) {
  EXPECT_EQ(lines_of("\"a b\" s:/x\\ y\nc\\ d s:\"/x y\"\ne\"f g\"h s:/x\n\"i\\j\" s:/x\nk\\\\l s:/x\n"),
            (Texts{"1 a b|s:/x\\ y", "2 c d|s:\"/x y\"", "3 ef gh|s:/x", "4 i\\j|s:/x", "5 k\\l|s:/x"}));
}

TEST(AutofsLinesTest, PlusIncludesAMap) {
  EXPECT_EQ(lines_of("+auto.home\n+dir:/etc/auto.master.d -ro\n\"+\"a s:/x\n"),
            (Texts{"1 +auto.home|", "2 +dir:/etc/auto.master.d|-ro", "3 +a|s:/x"}));
  EXPECT_FALSE(read_lines("\"+\"a s:/x\n", "map").lines.front().is_include);
}

TEST(AutofsLinesTest, FaultIsOfItsLineAlone) {
  const std::string text =
      "only\n\"open s:/x\n*x s:/x\n\\a s:/x\n\"\" s:/x\na\x01 s:/x\na s:/\x02\n"
      "\xc3\xa9 s:/x\nlast s:/x\n";
  EXPECT_EQ(lines_of(text), (Texts{"9 last|s:/x"}));
  EXPECT_EQ(faults_of(text),
            (Texts{"map:1: nothing follows the key", "map:2: a quote is not closed in its line",
                   "map:3: '*' stands for all keys, and cannot be part of one",
                   "map:4: a key cannot start with a backslash; put it in quotes", "map:5: the key is empty",
                   "map:6: the key holds a control character", "map:7: the entry holds a control character",
                   "map:8: a key with a character beyond ASCII stands in quotes"}));
}

TEST(AutofsLinesTest, IndentedLineAfterAnEntryIsNoContinuation) {
  EXPECT_EQ(lines_of("a s:/a\n  s:/b\nc s:/c\n"), (Texts{"3 c|s:/c"}));
  EXPECT_EQ(faults_of("a s:/a\n  s:/b\nc s:/c\n"),
            (Texts{"map:1: the next line starts with a blank; a backslash at the end of this line would join them"}));
  EXPECT_EQ(lines_of("a s:/a\n  \n\n  b s:/b\n"), (Texts{"1 a|s:/a", "4 b|s:/b"}));
}

TEST(AutofsLinesTest, IndentedLineBehindACommentIsLeftOut) {
  const std::string text = "# x\n  # y\n \n  a s:/a\nb s:/b\n";
  EXPECT_EQ(lines_of(text), (Texts{"5 b|s:/b"}));
  EXPECT_EQ(faults_of(text), (Texts{"map:4: automount takes no line that starts with a blank behind a comment"}));
  EXPECT_EQ(lines_of("# x\n\n  a s:/a\n"), (Texts{"3 a|s:/a"}));
}

TEST(AutofsLinesTest, KeysAndValuesAreBounded) {
  EXPECT_EQ(lines_of(std::string(kMaxKey, 'k') + " v").size(), 1U);
  EXPECT_EQ(lines_of(std::string(kMaxKey + 1, 'k') + " v").size(), 0U);
  EXPECT_EQ(lines_of("k " + std::string(kMaxValue, 'v')).size(), 1U);
  EXPECT_EQ(faults_of("k " + std::string(kMaxValue + 1, 'v')).size(), 1U);
}

TEST(AutofsLinesTest, BeyondAsciiAKeyStandsInQuotesButForMountPointsAndIncludes) {
  EXPECT_EQ(read_lines("é s:/x\n", "map").faults.size(), 1U);
  for (const Lines& lines : {read_lines("\"é\" s:/x\n", "map"), read_lines("+é\n", "map"),
                             read_lines("é s:/x\n", "map", MapKind::kMaster)}) {
    EXPECT_TRUE(lines.faults.empty());
    ASSERT_EQ(lines.lines.size(), 1U);
    EXPECT_EQ(lines.lines.front().key, "é");
  }
}

}  // namespace
}  // namespace berth::autofs
