#include "manager/state/state_format.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <set>
#include <string>

namespace berth::manager::state_format {
namespace {

using namespace std::string_literals;
using Attachments = std::set<Attachment>;

std::string sample() {
  return header("/volumes", "media") + line(true, {"vm-17", "disk-0"}) + line(true, {"vm-17", "disk-1"}) +
         line(false, {"vm-17", "disk-0"});
}

TEST(StateFormat, IsAsDocumented) {
  EXPECT_EQ(sample(),
            "berth attachments 1 %2Fvolumes media 5a6c9f73\n"
            "+ vm-17 disk-0 3facfe4e\n"
            "+ vm-17 disk-1 cdc77d4d\n"
            "- vm-17 disk-0 c253772b\n");
}

TEST(StateFormat, HoldsInstancesAndWhichProcessHasAttached) {
  const Attacher by{
      .uid = 7, .pid = 4711, .command = "lib virtd", .since = WallTime(std::chrono::nanoseconds(1790000000123456789))};
  const std::string text = header("/volumes", "media") + line(true, {.instance = "vm-17", .volume = {}}) +
                           line(true, {.instance = "vm-18", .volume = {}}) +
                           line(true, {.instance = "vm-17", .volume = "disk", .by = by}) +
                           line(false, {.instance = "vm-18", .volume = {}});
  const Journal journal = parse(text);
  EXPECT_EQ(journal.fault, "");
  EXPECT_EQ(journal.attachments, (Attachments{{"vm-17", ""}, {"vm-17", "disk"}}));
  const Attacher& read = journal.attachments.rbegin()->by;
  EXPECT_EQ(read.uid, by.uid);
  EXPECT_EQ(read.pid, by.pid);
  EXPECT_EQ(read.command, by.command);
  EXPECT_EQ(read.since, by.since);
}

TEST(StateFormat, SaysWhatWasWritten) {
  const Journal journal = parse(sample());
  EXPECT_EQ(journal.fault, "");
  EXPECT_EQ(journal.directory, "/volumes");
  EXPECT_EQ(journal.share, "media");
  EXPECT_EQ(journal.attachments, (Attachments{{"vm-17", "disk-1"}}));
  EXPECT_EQ(journal.lines, 3U);
}

TEST(StateFormat, HoldsEveryByteThatANameMayHave) {
  std::string all;
  for (int c = 1; c < 256; ++c) {
    if (c != '/') all.push_back(static_cast<char>(c));
  }
  const Attachment attachment{.instance = all, .volume = "% %2f\n+ \xff"};
  const Journal journal = parse(header("/" + all, all + "/x") + line(true, attachment));
  EXPECT_EQ(journal.fault, "");
  EXPECT_EQ(journal.share, all + "/x");
  EXPECT_EQ(journal.attachments, Attachments{attachment});
}

TEST(StateFormat, EveryDamagedByteIsNoticedAndCostsNoOtherLine) {
  const std::string whole = sample();
  const std::size_t first_line = whole.find('\n');
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    const Journal journal = parse(damaged);
    EXPECT_NE(journal.fault, "") << at;
    if (at <= first_line) {
      EXPECT_TRUE(journal.attachments.empty()) << at;
    } else {
      EXPECT_GE(journal.lines, 1U) << at;
      EXPECT_EQ(journal.share, "media") << at;
    }
  }
}

TEST(StateFormat, EveryCutIsNoticedUnlessItIsBetweenLines) {
  const std::string whole = sample();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Journal journal = parse(whole.substr(0, size));
    const bool is_between = size > 0 && whole[size - 1] == '\n';
    EXPECT_EQ(journal.fault.empty(), is_between) << size;
  }
}

TEST(StateFormat, LineThatCannotBeReadIsNamed) {
  const std::string text =
      header("/volumes", "media") + line(true, {"a", "b"}) + "+ c d 00000000\n" + line(true, {"e", "f"});
  const Journal journal = parse(text);
  EXPECT_EQ(journal.attachments, (Attachments{{"a", "b"}, {"e", "f"}}));
  EXPECT_EQ(journal.fault, "1 line of 4 cannot be read, from line 3 on; the others are in use");
}

TEST(StateFormat, NamesThatCannotBeDirectoriesAreRefusedWhateverTheirChecksum) {
  for (const Attachment& attachment : {Attachment{"..", "v"}, Attachment{"a/b", "v"}, Attachment{"", "v"},
                                       Attachment{"nul\0"s, "v"}, Attachment{std::string(256, 'x'), "v"}}) {
    const Journal journal = parse(header("/volumes", "media") + line(true, attachment));
    EXPECT_NE(journal.fault, "");
    EXPECT_TRUE(journal.attachments.empty());
  }
}

TEST(StateFormat, AnotherVersionIsNotGuessedAt) {
  // With a good checksum: it was written by a berth.
  const Journal journal = parse("berth attachments 2 %2Fvolumes media 12345678\n");
  EXPECT_NE(journal.fault, "");
  EXPECT_TRUE(journal.share.empty());
}

TEST(StateFormat, EmptyFileIsDamage) { EXPECT_EQ(parse("").fault, "it is empty"); }

TEST(StateFormat, HostStateComesBack) {
  const HostState host{.up = false, .next_generation = 7, .since = WallTime(std::chrono::seconds(1795222273))};
  const std::string text = render("/volumes", host);
  const auto read = parse_host("/volumes", text);
  ASSERT_TRUE(read);
  EXPECT_EQ(*read, host);
  EXPECT_EQ(parse_host("/other", text).error().code(), EBADMSG);
  for (std::size_t at = 0; at < text.size(); ++at) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    EXPECT_FALSE(parse_host("/volumes", damaged)) << at;
    EXPECT_FALSE(parse_host("/volumes", text.substr(0, at))) << at;
  }
}

TEST(StateFormat, FileNamesAreReadableShortAndDifferent) {
  EXPECT_TRUE(file_name("/volumes").starts_with("volumes-")) << file_name("/volumes");
  EXPECT_NE(file_name("a/b"), file_name("a_b"));
  for (const std::string& name : {"."s, ".."s, "/"s, std::string(1023, 'x'), "\xff\n\0"s}) {
    const std::string file = file_name(name);
    EXPECT_LE(file.size(), 64U);
    EXPECT_EQ(file.find_first_of("/\n."s), std::string::npos) << file;
  }
}

}  // namespace
}  // namespace berth::manager::state_format
