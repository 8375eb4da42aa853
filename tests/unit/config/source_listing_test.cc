#include "src/config/source_listing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "manager/model/requirements.h"
#include "src/config/config.h"
#include "src/lib/base/result.h"
#include "tests/unit/temporary_directory.h"

namespace berth::config {
namespace {

using Kind = SourceMessage::Kind;

std::string put(const std::string& name, const std::string& source = "/srv") {
  return R"({"put":")" + name + R"(","share":{"type":"bind","source":")" + source + R"("}})";
}

class SourceListingTest : public ::testing::Test {
 protected:
  void say(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) listing_.take(line, {});
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, line] : listing_.lines()) names.push_back(name);
    return names;
  }
  using Names = std::vector<std::string>;

  SourceListing listing_{{{"old", put("old")}}, 3, "/volumes"};
};

TEST_F(SourceListingTest, NothingOldIsRemovedBeforeTheListIsComplete) {
  listing_.begin_list();
  say({put("a"), put("b")});
  EXPECT_EQ(names(), (Names{"a", "b", "old"}));
  EXPECT_TRUE(listing_.is_listing());
  say({R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "b"}));
  EXPECT_FALSE(listing_.is_listing());
  EXPECT_TRUE(listing_.take_change());
  EXPECT_FALSE(listing_.take_change());
}

TEST_F(SourceListingTest, StoreThatCannotBeReadWhileTheListBeginsHasFailed) {
  listing_.begin_list();
  EXPECT_FALSE(listing_.has_failed());
  say({R"({"error":"no route to the store"})"});
  EXPECT_TRUE(listing_.is_listing());
  EXPECT_TRUE(listing_.has_failed());
  say({R"({"list":true})"});
  EXPECT_FALSE(listing_.has_failed());
  EXPECT_EQ(listing_.error(), "no route to the store");
}

TEST_F(SourceListingTest, AfterTheListChangesAreMadeOneByOne) {
  listing_.begin_list();
  say({put("a"), R"({"synced":true})", put("b"), R"({"delete":"a"})", R"({"delete":"none"})", R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"b"})) << "a sign of life removes nothing";
  say({R"({"list":true})", put("c"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"c"})) << "another list replaces all";
}

TEST_F(SourceListingTest, TheSameShareAgainIsNoChange) {
  listing_.begin_list();
  say({put("old"), R"({"synced":true})"});
  EXPECT_FALSE(listing_.take_change());
}

TEST_F(SourceListingTest, AListThatNamesNoShareRemovesNothingUnlessThatIsMeant) {
  listing_.begin_list();
  say({R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"old"}));
  EXPECT_NE(listing_.error(), "");
  EXPECT_FALSE(listing_.synced_at());
  listing_.begin_list();
  say({R"({"synced":true,"empty":true})"});
  EXPECT_EQ(names(), Names{});
  EXPECT_EQ(listing_.error(), "");
}

TEST_F(SourceListingTest, ARefusedListIsToldUntilEachShareIsKnownAgain) {
  listing_.begin_list();
  say({R"({"synced":true})", R"({"synced":true})"});
  EXPECT_NE(listing_.error().find("names no share"), std::string::npos) << "a sign of life does not make it right";
  say({put("a"), R"({"synced":true})"});
  EXPECT_NE(listing_.error(), "");
  say({R"({"delete":"old"})", R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a"}));
  EXPECT_EQ(listing_.error(), "");
}

TEST_F(SourceListingTest, WhatWasLostIsWholeAfterTheNextListThatNamesShares) {
  SourceListing lost({}, 3, "/volumes", false);
  lost.begin_list();
  lost.take(R"({"synced":true})", {});
  EXPECT_FALSE(lost.is_whole());
  EXPECT_NE(lost.error().find("names no share"), std::string::npos);
  lost.begin_list();
  lost.take(put("a"), {});
  EXPECT_TRUE(lost.take_change());
  EXPECT_FALSE(lost.is_whole());
  lost.take(R"({"synced":true})", {});
  EXPECT_TRUE(lost.is_whole());
  EXPECT_TRUE(lost.take_change()) << "it is to be kept as whole";
}

TEST_F(SourceListingTest, AListWithALineThatCannotBeReadRemovesNothing) {
  listing_.begin_list();
  say({put("a"), R"({"put":"b)", R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "old"}));
  EXPECT_NE(listing_.error().find("not JSON"), std::string::npos) << listing_.error();
  say({R"({"list":true})", put("a"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a"}));
  EXPECT_EQ(listing_.error(), "");
}

TEST_F(SourceListingTest, AWrongShareIsWrongAloneAndStaysAsItWas) {
  listing_.begin_list();
  say({R"({"put":"old","share":{"type":"bind","sauce":"/srv"}})",
       R"({"put":"../up","share":{"type":"bind","source":"/srv"}})", put("inside", "/volumes/media"), put("a"),
       R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "old"}));
  ASSERT_EQ(listing_.wrong_count(), 3U);
  EXPECT_NE(listing_.wrong().at("old").find("did you mean \"source\""), std::string::npos)
      << listing_.wrong().at("old");
  EXPECT_NE(listing_.wrong().at("inside").find("inside the namespace"), std::string::npos);
  EXPECT_EQ(listing_.error(), "") << "the source itself works";
  say({put("old", "/other")});
  EXPECT_EQ(listing_.wrong_count(), 2U);
  EXPECT_EQ(listing_.lines().at("old"), put("old", "/other"));
}

TEST_F(SourceListingTest, MoreSharesThanAllowedAreRefusedAndOthersStay) {
  listing_.begin_list();
  say({put("a"), put("b"), put("c"), put("d"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "b", "c"}));
  EXPECT_EQ(listing_.wrong_count(), 1U);
  EXPECT_TRUE(listing_.wrong().contains("d"));
}

TEST_F(SourceListingTest, SharesOfBeforeLeaveTheWholeRoomToACompleteList) {
  listing_.begin_list();
  say({put("a"), put("b"), put("c"), R"({"synced":true})"});
  ASSERT_EQ(names(), (Names{"a", "b", "c"}));
  (void)listing_.take_change();
  say({R"({"list":true})", put("d"), put("e"), put("f"), put("e", "/again"), R"({"delete":"f"})", put("g"), put("h")});
  EXPECT_EQ(names(), (Names{"a", "b", "c"})) << "until the list is complete";
  EXPECT_FALSE(listing_.take_change());
  say({R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"d", "e", "g"}));
  EXPECT_EQ(listing_.lines().at("e"), put("e", "/again"));
  EXPECT_TRUE(listing_.take_change());
  EXPECT_EQ(listing_.wrong_count(), 1U);
  EXPECT_TRUE(listing_.wrong().contains("h"));
  EXPECT_EQ(listing_.error(), "");
}

TEST_F(SourceListingTest, SharesThatWaitForRoomAreWrongWhereTheListRemovesNothing) {
  listing_.begin_list();
  say({put("a"), put("b"), put("c"), R"({"synced":true})"});
  say({R"({"list":true})", put("a"), put("d"), "garbage", R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "b", "c"}));
  EXPECT_TRUE(listing_.wrong().contains("d"));
  // What waits does not outlive its list.
  say({R"({"list":true})", put("d"), R"({"list":true})", put("e"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"e"}));
}

TEST(SourceListingBytes, OldSharesLeaveTheirRoomToThoseOfACompleteList) {
  const std::string large(60'000, 'x');
  const std::size_t count = kMostOfSource / (large.size() + 100);
  SourceListing listing({}, 100'000, "/volumes");
  const auto list = [&](const std::string& prefix) {
    listing.take(R"({"list":true})", {});
    for (std::size_t i = 0; i < count; ++i)
      listing.take(
          R"({"put":")" + prefix + std::to_string(i) + R"(","share":{"type":"tmpfs","options":"x=)" + large + R"("}})",
          {});
    listing.take(R"({"synced":true})", {});
    return listing.wrong_count();
  };
  ASSERT_EQ(list("a"), 0U);
  ASSERT_EQ(listing.lines().size(), count);
  EXPECT_EQ(list("b"), 0U);
  EXPECT_EQ(listing.lines().size(), count);
  EXPECT_TRUE(listing.lines().begin()->first.starts_with("b"));
}

TEST_F(SourceListingTest, WhatWasLostIsWholeAfterAListThatRemovesShares) {
  SourceListing lost({{"old", put("old")}}, 3, "/volumes", false);
  for (const std::string& line : {std::string(R"({"list":true})"), put("a"), std::string(R"({"synced":true})")})
    lost.take(line, {});
  EXPECT_TRUE(lost.is_whole());
}

TEST_F(SourceListingTest, AStoreThatCannotBeReadKeepsItsShares) {
  listing_.begin_list();
  say({R"({"error":"cannot reach ldap://user:geheim@ldap1"})"});
  EXPECT_EQ(names(), (Names{"old"}));
  EXPECT_NE(listing_.error().find("cannot reach"), std::string::npos);
  EXPECT_EQ(listing_.error().find("geheim"), std::string::npos);
}

TEST(SourceLine, WhatIsNoMessageIsRefusedWithAReason) {
  const std::string deep = R"({"put":"a","share":)" + std::string(10'000, '[');
  for (const std::string& line :
       std::vector<std::string>{"", "x", "[]", "1", "{}", R"({"put":1})", R"({"put":"a","delete":"b"})",
                                R"({"synced":1})", R"({"list":false})", R"({"delete":null})", R"({"error":["x"]})",
                                "{\"put\":\"\xff\",\"share\":{}}", deep, std::string(70'000, '{')}) {
    const Result<SourceMessage> message = read_source_line(line, "");
    ASSERT_FALSE(message) << line.substr(0, 80);
    EXPECT_EQ(message.error().code(), EBADMSG);
    EXPECT_NE(message.error().story(), "");
  }
}

TEST(SourceLine, ValuesThatNoShareCanHaveAreToldOfTheShare) {
  for (const std::string& share :
       std::vector<std::string>{"null", "[]", R"({"type":null})", R"({"type":"bind","source":18446744073709551615})",
                                R"({"type":"bind"})", R"({"type":"bind","source":"/a","idle_timeout":5})",
                                R"({"type":"bind","source":"/a","owner":"no-such-user"})"}) {
    const Result<SourceMessage> message = read_source_line(R"({"put":"a","share":)" + share + "}", "");
    ASSERT_TRUE(message) << share;
    EXPECT_EQ(message->kind, Kind::kPut);
    EXPECT_NE(message->wrong, "") << share;
  }
}

TEST(SourceLine, WhatIsTooLargeOrTooDeepOrSaidToBeWrongIsOneWrongShare) {
  const std::string begin = R"({"put":"a","share":{"type":"bind","source":"/a","options":)";
  const std::vector<std::pair<std::string, std::string>> lines{
      {begin + "\"" + std::string(kLongestSourceLine, 'x') + "\"}}", "it has more than 64 KiB"},
      {begin + std::string(10'000, '[') + std::string(10'000, ']') + "}}", "its values are too deep in each other"},
      {R"({"put":"a","wrong":"password=geheim"})", "password=***"},
      {R"({"put":"a","wrong":["x"]})", "the source says so"}};
  for (const auto& [line, why] : lines) {
    const Result<SourceMessage> message = read_source_line(line, "");
    ASSERT_TRUE(message) << why;
    EXPECT_EQ(message->kind, Kind::kPut);
    EXPECT_EQ(message->name, "a");
    EXPECT_EQ(message->wrong, why);
  }
  EXPECT_FALSE(read_source_line(R"({"delete":"a","x":)" + std::string(20, '[') + std::string(20, ']') + "}", ""));
}

TEST(SourceLine, ANameThatIsTooLongIsAWrongShareAndShownCut) {
  const std::string name(2000, 'x');
  const Result<SourceMessage> message = read_source_line(put(name), "");
  ASSERT_TRUE(message) << message.error().message();
  EXPECT_NE(message->wrong, "");
  EXPECT_LT(message->name.size(), 100U);
  EXPECT_NE(message->name.find("xxx"), std::string::npos);
}

TEST(SourceFile, WhatIsKeptIsReadAgainAndAPartOfItIsNot) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory / "below/source-x";
  const SourceLines lines{{"a", put("a")}, {"b/c", put("b/c")}};
  ASSERT_TRUE(write_source_file(path, lines));
  EXPECT_EQ(read_source_file(path).value().lines, lines);
  EXPECT_TRUE(read_source_file(path).value().is_whole);
  ASSERT_TRUE(write_source_file(path, lines, false));
  EXPECT_EQ(read_source_file(path).value().lines, lines);
  EXPECT_FALSE(read_source_file(path).value().is_whole);
  ASSERT_TRUE(write_source_file(path, {}));
  EXPECT_EQ(read_source_file(path).value().lines, SourceLines{});
  std::ofstream(directory / "cut") << put("a") << "\n";
  EXPECT_EQ(read_source_file(directory / "cut").error().code(), EBADMSG);
  EXPECT_EQ(read_source_file(directory / "none").error().code(), ENOENT);
}

TEST(SourceShares, WhatIsKeptIsInTheCatalogAndWhatIsConfiguredGoesBeforeIt) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory / "berth.toml") << "[berth]\nnamespace = \"/volumes\"\nstate_dir = \"" << directory.path()
                                          << "\"\nidle_timeout = \"7s\"\n"
                                             "[share.mine]\ntype = \"tmpfs\"\n"
                                             "[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/bin/true\"]\n"
                                             "[[catalog_source]]\nname = \"other\"\nprogram = [\"/bin/true\"]\n";
  const std::string kept = source_directory(directory.path(), "/volumes");
  const std::string no_share = R"({"put":"gone","share":{"type":"bind"}})";
  const std::string home = R"({"put":"home/*","share":{"type":"bind","source":"/home/&"}})";
  ASSERT_TRUE(write_source_file(source_file(kept, "fleet"),
                                {{"a", put("a")}, {"gone", no_share}, {"home/*", home}, {"mine", put("mine")}}));
  ASSERT_TRUE(write_source_file(source_file(kept, "other"), {{"a", put("a")}, {"b", put("b")}}));
  const Result<Configuration> loaded = load(directory / "berth.toml");
  ASSERT_TRUE(loaded) << loaded.error().message();
  EXPECT_EQ(loaded->catalog.find("mine")->type(), "tmpfs");
  ASSERT_NE(loaded->catalog.find("a"), nullptr);
  EXPECT_EQ(loaded->catalog.find("a")->origin(), "catalog source fleet");
  EXPECT_EQ(loaded->catalog.find("a")->policy().idle_timeout, std::chrono::seconds(7));
  EXPECT_EQ(loaded->catalog.find("b")->origin(), "catalog source other");
  EXPECT_EQ(loaded->catalog.templates().size(), 1U);
  ASSERT_EQ(loaded->sources.size(), 2U);
  ASSERT_EQ(loaded->source_shares.size(), 2U);
  EXPECT_EQ(loaded->source_shares[0].shares, 2U);
  EXPECT_EQ(loaded->source_shares[0].refused_count, 2U);
  EXPECT_NE(loaded->source_shares[0].refused.at("mine").find("berth.toml:"), std::string::npos)
      << loaded->source_shares[0].refused.at("mine");
  EXPECT_EQ(loaded->source_shares[1].refused.count("a"), 1U);
}

TEST(SourceShares, ShareIsThereWhateverTheOrderOfThoseThatItRequires) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory / "berth.toml") << "[berth]\nnamespace = \"/volumes\"\nstate_dir = \"" << directory.path()
                                          << "\"\n[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/bin/true\"]\n";
  const auto needs = [](const std::string& name, const std::string& other) {
    return R"({"put":")" + name + R"(","share":{"type":"tmpfs","requires":[")" + other + R"("]}})";
  };
  ASSERT_TRUE(write_source_file(source_file(source_directory(directory.path(), "/volumes"), "fleet"),
                                {{"app", needs("app", "middle")},
                                 {"circle1", needs("circle1", "circle2")},
                                 {"circle2", needs("circle2", "circle1")},
                                 {"middle", needs("middle", "zbase")},
                                 {"orphan", needs("orphan", "none")},
                                 {"zbase", put("zbase")}}));
  const Result<Configuration> loaded = load(directory / "berth.toml");
  ASSERT_TRUE(loaded) << loaded.error().message();
  for (const char* const name : {"app", "middle", "zbase"}) EXPECT_NE(loaded->catalog.find(name), nullptr) << name;
  for (const char* const name : {"circle1", "circle2", "orphan"}) {
    EXPECT_EQ(loaded->catalog.find(name), nullptr) << name;
    EXPECT_EQ(loaded->source_shares[0].refused.count(name), 1U) << name;
  }
  EXPECT_EQ(loaded->source_shares[0].shares, 3U);
}

TEST(SourceShares, AFileThatIsMissingOrBrokenOrAPartKeepsWhatIsInForce) {
  const testing::TemporaryDirectory directory;
  std::ofstream(directory / "berth.toml") << "[berth]\nnamespace = \"/volumes\"\nstate_dir = \"" << directory.path()
                                          << "\"\n[share.local]\ntype = \"tmpfs\"\n"
                                             "[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/bin/true\"]\n";
  const std::string file = source_file(source_directory(directory.path(), "/volumes"), "fleet");
  const std::string on_gone = R"({"put":"on","share":{"type":"tmpfs","requires":["z"]}})";
  const std::string home = R"({"put":"home/*","share":{"type":"bind","source":"/home/&"}})";
  ASSERT_TRUE(write_source_file(file, {{"a", put("a")}, {"home/*", home}, {"on", on_gone}, {"z", put("z")}}));
  const manager::Catalog before = load(directory / "berth.toml").value().catalog;
  ASSERT_EQ(before.shares().size(), 4U);
  const auto names_with_kept = [&] {
    std::vector<std::string> names;
    const manager::Catalog now = manager::with_kept(load(directory / "berth.toml").value().catalog, before);
    for (const auto& [name, share] : now.shares()) names.emplace_back(name);
    for (const auto& [name, share] : now.templates()) names.emplace_back(name);
    return names;
  };
  using Names = std::vector<std::string>;
  const Names all{"a", "local", "on", "z", "home/*"};
  ASSERT_EQ(::unlink(file.c_str()), 0);
  EXPECT_EQ(names_with_kept(), all) << "missing";
  std::ofstream(file) << put("a") << "\n";
  EXPECT_EQ(names_with_kept(), all) << "cut off";
  ASSERT_TRUE(write_source_file(file, {{"b", put("b")}}, false));
  EXPECT_EQ(names_with_kept(), (Names{"a", "b", "local", "on", "z", "home/*"})) << "a part";
  ASSERT_TRUE(write_source_file(file, {{"b", put("b")}}));
  EXPECT_EQ(names_with_kept(), (Names{"b", "local"})) << "whole";
}

TEST(SourceShares, ASectionWithAMistakeRefusesTheConfiguration) {
  const testing::TemporaryDirectory directory;
  for (const std::string& keys : std::vector<std::string>{
           "", "name = \"a\"", "program = [\"/bin/true\"]", "name = \"a b\"\nprogram = [\"/bin/true\"]",
           "name = \"../a\"\nprogram = [\"/bin/true\"]", "name = \"a\"\nprogram = \"/bin/true\"",
           "name = \"a\"\nprogram = [\"bin/true\"]", "name = \"a\"\nprogram = [\"/bin/true\"]\nmax_shares = 0",
           "name = \"a\"\nprogram = [\"/bin/true\"]\nlist_timeout = \"0s\"",
           "name = \"a\"\nprogram = [\"/bin/true\"]\nprogramme = 1",
           "name = \"a\"\nprogram = [\"/bin/true\"]\n[[catalog_source]]\nname = \"a\"\nprogram = [\"/bin/true\"]"}) {
    std::ofstream(directory / "berth.toml") << "[[catalog_source]]\n" << keys << "\n";
    EXPECT_FALSE(load(directory / "berth.toml")) << keys;
  }
}

}  // namespace
}  // namespace berth::config
