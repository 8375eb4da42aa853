#include "manager/model/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace berth::manager {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ShareSpec share(const std::string& name, std::uint32_t line = 1) {
  ShareFields fields;
  fields.name = name;
  fields.type = "bind";
  fields.sources = {"/srv/&"};
  fields.origin_file = "berth.toml";
  fields.origin_line = line;
  Result<ShareSpec> made = ShareSpec::make(fields);
  EXPECT_TRUE(made) << made.error().story();
  return *made;
}

TEST(Catalog, FindsSharesByTheirWholeName) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(share("home/alice")));
  EXPECT_TRUE(catalog.add(share("home/bob")));
  ASSERT_NE(catalog.find("home/alice"), nullptr);
  EXPECT_EQ(catalog.find("home/alice")->name(), "home/alice");
  EXPECT_EQ(catalog.find("home"), nullptr);
  EXPECT_EQ(catalog.find("home/alic"), nullptr);
  EXPECT_EQ(catalog.find(""), nullptr);
  EXPECT_EQ(catalog.shares().size(), 2U);
}

TEST(Catalog, NamesBothPlacesOfADuplicate) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(share("media", 3)));
  const Result<> added = catalog.add(share("media", 8));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), EEXIST);
  EXPECT_THAT(std::string(added.error().story()), AllOf(HasSubstr("berth.toml:3"), HasSubstr("berth.toml:8")));
  EXPECT_EQ(catalog.find("media")->origin(), "berth.toml:3");
}

TEST(Catalog, RefusesAShareAboveAnother) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(share("a/b/c", 3)));
  EXPECT_TRUE(catalog.add(share("a/b-", 4)));  // sorts between "a/b" and "a/b/c"
  const Result<> added = catalog.add(share("a/b", 8));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), EEXIST);
  EXPECT_THAT(std::string(added.error().story()),
              AllOf(HasSubstr("\"a/b/c\" (berth.toml:3)"), HasSubstr("berth.toml:8")));
  EXPECT_FALSE(catalog.add(share("a")));
  EXPECT_TRUE(catalog.add(share("a/c")));
}

TEST(Catalog, RefusesAShareBelowAnother) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(share("a")));
  EXPECT_EQ(catalog.add(share("a/b")).error().code(), EEXIST);
  EXPECT_EQ(catalog.add(share("a/b/c")).error().code(), EEXIST);
  EXPECT_TRUE(catalog.add(share("ab/c")));
}

TEST(Catalog, KeepsTemplatesApart) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(share("home/*")));
  EXPECT_TRUE(catalog.add(share("home/bob")));
  EXPECT_TRUE(catalog.add(share("*")));
  EXPECT_EQ(catalog.find("home/*"), nullptr);
  EXPECT_EQ(catalog.shares().size(), 1U);
  EXPECT_EQ(catalog.templates().size(), 2U);
  EXPECT_EQ(catalog.add(share("home/*")).error().code(), EEXIST);
}

TEST(Catalog, RefusesAShareWhereATemplateNeedsADirectory) {
  Catalog catalog;
  EXPECT_TRUE(catalog.add(share("home/*")));
  EXPECT_EQ(catalog.add(share("home")).error().code(), EEXIST);
  EXPECT_TRUE(catalog.add(share("work")));
  EXPECT_EQ(catalog.add(share("work/*")).error().code(), EEXIST);
}

TEST(Catalog, DifferenceIsOfNamesAndWhatTheySayWhereverItIsWritten) {
  const auto named = [](const std::string& name, const std::string& source, std::uint32_t line) {
    ShareFields fields;
    fields.name = name;
    fields.type = "bind";
    fields.sources = {source};
    fields.origin_file = "berth.toml";
    fields.origin_line = line;
    return *ShareSpec::make(std::move(fields));
  };
  Catalog before;
  Catalog after;
  for (const char* name : {"c", "a", "gone", "z"}) ASSERT_TRUE(before.add(named(name, "/srv", 1)));
  ASSERT_TRUE(before.add(named("t/*", "/srv/&", 1)));
  ASSERT_TRUE(after.add(named("new", "/srv", 9)));
  ASSERT_TRUE(after.add(named("z", "/srv", 8)));
  ASSERT_TRUE(after.add(named("a", "/other", 1)));
  ASSERT_TRUE(after.add(named("c", "/srv", 2)));
  const CatalogDifference found = difference(before, after);
  ASSERT_EQ(found.added.size(), 1U);
  EXPECT_EQ(found.added[0].name(), "new");
  ASSERT_EQ(found.changed.size(), 1U);
  EXPECT_EQ(found.changed[0].before.sources()[0], "/srv");
  EXPECT_EQ(found.changed[0].after.sources()[0], "/other");
  ASSERT_EQ(found.removed.size(), 1U);
  EXPECT_EQ(found.removed[0].name(), "gone");
  EXPECT_TRUE(difference(after, after).empty());
}

TEST(Catalog, HoldsAsManySharesAsItSaysAndNoMore) {
  Catalog catalog;
  const ShareSpec first = share("a");
  for (std::size_t i = 0; i < kMaxShares; ++i) {
    ShareFields fields;
    fields.name = i == 0 ? "t/*" : std::to_string(i);
    fields.type = "tmpfs";
    ASSERT_TRUE(catalog.add(*ShareSpec::make(std::move(fields), &first)));
  }
  const Result<> added = catalog.add(share("one-more"));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), ENOSPC);
  EXPECT_THAT(std::string(added.error().story()), HasSubstr("at most 100000"));
}

}  // namespace
}  // namespace berth::manager
