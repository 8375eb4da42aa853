#include "src/lib/formats/word.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "src/lib/formats/names.h"

namespace berth::control {
namespace {

std::string refusal(std::string_view written, int code = EINVAL) {
  const Result<Word> word = parse_word(written);
  if (word) return "understood";
  EXPECT_EQ(word.error().code(), code);
  return std::string(word.error().story());
}

TEST(Word, IsReadAsItIsWritten) {
  for (const Word word : {Word::kMount, Word::kUnmount, Word::kForceUnmount, Word::kRetry}) {
    const std::string text(to_string(word));
    EXPECT_FALSE(text.empty());
    EXPECT_EQ(parse_word(text).value(), word);
    EXPECT_EQ(parse_word("  " + text + "\r\n\n").value(), word);
  }
}

TEST(Word, RefusesGarbageWithAdvice) {
  EXPECT_EQ(refusal("mont\n"), "unknown word \"mont\"; did you mean \"mount\"?");
  EXPECT_EQ(refusal("\033[2J"), "unknown word \"\\033[2J\"; write one of: mount, unmount, force-unmount, retry");
  EXPECT_EQ(refusal(""), "nothing to do was written; write one of: mount, unmount, force-unmount, retry");
  EXPECT_EQ(refusal(" \n"), "nothing to do was written; write one of: mount, unmount, force-unmount, retry");
  EXPECT_NE(refusal("mount unmount"), "understood");
  EXPECT_NE(refusal("MOUNT"), "understood");
  EXPECT_NE(refusal(std::string_view("mount\0", 6)), "understood");
}

TEST(HostWord, IsReadAsItIsWrittenAndIsNoWordOfAShare) {
  for (const HostWord word : {HostWord::kDrain, HostWord::kResume, HostWord::kUpgrade}) {
    const std::string text(to_string(word));
    EXPECT_FALSE(text.empty());
    EXPECT_EQ(parse_host_word(text + "\n").value(), word);
    EXPECT_FALSE(parse_word(text));
  }
  EXPECT_FALSE(parse_host_word("mount"));
  EXPECT_EQ(parse_host_word("drian").error().story(), "unknown word \"drian\"; did you mean \"drain\"?");
  EXPECT_EQ(parse_host_word("").error().story(), "nothing to do was written; write one of: drain, resume, upgrade");
}

TEST(Word, RefusesWhatIsTooLong) {
  EXPECT_EQ(parse_word("mount" + std::string(kMaxControlWrite - 5, ' ')).value(), Word::kMount);
  EXPECT_EQ(refusal("mount" + std::string(kMaxControlWrite - 4, ' '), EMSGSIZE),
            "a write to a control file has at most 256 bytes");
  EXPECT_EQ(refusal(std::string(1 << 20, 'x'), EMSGSIZE), "a write to a control file has at most 256 bytes");
}

TEST(Names, AreJoinedToPaths) {
  EXPECT_EQ(tree_path("/volumes"), "/volumes/.berth");
  EXPECT_EQ(share_path("/volumes", "home/alice"), "/volumes/.berth/shares/home/alice");
}

TEST(Names, OfADirectoryAreOneComponent) {
  for (const std::string& good : {std::string("a"), std::string("..."), std::string("-x"), std::string(255, 'v')}) {
    EXPECT_TRUE(is_component(good)) << good;
  }
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                 std::string(256, 'v'), std::string("a\0b", 3)}) {
    EXPECT_FALSE(is_component(bad)) << bad;
  }
}

}  // namespace
}  // namespace berth::control
