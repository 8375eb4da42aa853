#include "src/config/source_catalog.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <vector>

#include "src/config/config.h"
#include "src/lib/base/result.h"
#include "tests/unit/temporary_directory.h"

namespace berth::config {
namespace {

using Kind = SourceMessage::Kind;

std::string put(const std::string& name, const std::string& source = "/srv") {
  return R"({"put":")" + name + R"(","share":{"type":"bind","source":")" + source + R"("}})";
}

class SourceCatalogTest : public ::testing::Test {
 protected:
  void say(const std::vector<std::string>& lines) {
    for (const std::string& line : lines) catalog_.take(line, {});
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, line] : catalog_.lines()) names.push_back(name);
    return names;
  }
  using Names = std::vector<std::string>;

  SourceCatalog catalog_{{{"old", put("old")}}, 3, "/volumes"};
};

TEST_F(SourceCatalogTest, NothingOldIsRemovedBeforeTheListIsComplete) {
  catalog_.begin_list();
  say({put("a"), put("b")});
  EXPECT_EQ(names(), (Names{"a", "b", "old"}));
  EXPECT_TRUE(catalog_.is_listing());
  say({R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "b"}));
  EXPECT_FALSE(catalog_.is_listing());
  EXPECT_TRUE(catalog_.take_change());
  EXPECT_FALSE(catalog_.take_change());
}

TEST_F(SourceCatalogTest, AfterTheListChangesAreMadeOneByOne) {
  catalog_.begin_list();
  say({put("a"), R"({"synced":true})", put("b"), R"({"delete":"a"})", R"({"delete":"none"})", R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"b"})) << "a sign of life removes nothing";
  say({R"({"list":true})", put("c"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"c"})) << "another list replaces all";
}

TEST_F(SourceCatalogTest, TheSameShareAgainIsNoChange) {
  catalog_.begin_list();
  say({put("old"), R"({"synced":true})"});
  EXPECT_FALSE(catalog_.take_change());
}

TEST_F(SourceCatalogTest, AListThatNamesNoShareRemovesNothingUnlessThatIsMeant) {
  catalog_.begin_list();
  say({R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"old"}));
  EXPECT_NE(catalog_.error(), "");
  EXPECT_FALSE(catalog_.synced_at());
  catalog_.begin_list();
  say({R"({"synced":true,"empty":true})"});
  EXPECT_EQ(names(), Names{});
  EXPECT_EQ(catalog_.error(), "");
}

TEST_F(SourceCatalogTest, AListWithALineThatCannotBeReadRemovesNothing) {
  catalog_.begin_list();
  say({put("a"), R"({"put":"b)", R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "old"}));
  EXPECT_NE(catalog_.error().find("not JSON"), std::string::npos) << catalog_.error();
  say({R"({"list":true})", put("a"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a"}));
  EXPECT_EQ(catalog_.error(), "");
}

TEST_F(SourceCatalogTest, AWrongShareIsWrongAloneAndStaysAsItWas) {
  catalog_.begin_list();
  say({R"({"put":"old","share":{"type":"bind","sauce":"/srv"}})",
       R"({"put":"../up","share":{"type":"bind","source":"/srv"}})", put("inside", "/volumes/media"), put("a"),
       R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "old"}));
  ASSERT_EQ(catalog_.wrong_count(), 3U);
  EXPECT_NE(catalog_.wrong().at("old").find("did you mean \"source\""), std::string::npos)
      << catalog_.wrong().at("old");
  EXPECT_NE(catalog_.wrong().at("inside").find("inside the namespace"), std::string::npos);
  EXPECT_EQ(catalog_.error(), "") << "the source itself works";
  say({put("old", "/other")});
  EXPECT_EQ(catalog_.wrong_count(), 2U);
  EXPECT_EQ(catalog_.lines().at("old"), put("old", "/other"));
}

TEST_F(SourceCatalogTest, MoreSharesThanAllowedAreRefusedAndOthersStay) {
  catalog_.begin_list();
  say({put("a"), put("b"), put("c"), put("d"), R"({"synced":true})"});
  EXPECT_EQ(names(), (Names{"a", "b"}));
  EXPECT_EQ(catalog_.wrong_count(), 2U);
}

TEST_F(SourceCatalogTest, AStoreThatCannotBeReadKeepsItsShares) {
  catalog_.begin_list();
  say({R"({"error":"cannot reach ldap://user:geheim@ldap1"})"});
  EXPECT_EQ(names(), (Names{"old"}));
  EXPECT_NE(catalog_.error().find("cannot reach"), std::string::npos);
  EXPECT_EQ(catalog_.error().find("geheim"), std::string::npos);
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

TEST(SourceFile, WhatIsKeptIsReadAgainAndAPartOfItIsNot) {
  const testing::TemporaryDirectory directory;
  const std::string path = directory / "below/source-x";
  const SourceLines lines{{"a", put("a")}, {"b/c", put("b/c")}};
  ASSERT_TRUE(write_source_file(path, lines));
  EXPECT_EQ(read_source_file(path).value(), lines);
  ASSERT_TRUE(write_source_file(path, {}));
  EXPECT_EQ(read_source_file(path).value(), SourceLines{});
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
