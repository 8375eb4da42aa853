#include "src/config/read_files.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include "src/config/catalog_source.h"
#include "tests/unit/temporary_directory.h"

namespace berth::config {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ReadFilesTest : public ::testing::Test {
 protected:
  ReadFilesTest() {
    std::filesystem::create_directory(directory_ / "shares.d");
    write_main("");
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name, std::ios::binary) << text;
    ASSERT_EQ(::chmod((directory_ / name).c_str(), 0644), 0);
  }
  void write_main(const std::string& of_berth, const std::string& shares = "[share.main]\ntype = \"tmpfs\"\n") const {
    write("berth.toml", "[berth]\nnamespace = \"/volumes\"\nstate_dir = \"" + directory_.path() + "\"\n" + of_berth +
                            "[[catalog_source]]\nname = \"fleet\"\nprogram = [\"/bin/true\"]\n" + shares);
  }
  void write_source(const SourceLines& lines) const {
    ASSERT_TRUE(write_source_file(source_file(source_directory(directory_.path(), "/volumes"), "fleet"), lines));
  }
  static std::string put(const std::string& name, const std::string& more = "") {
    return R"({"put":")" + name + R"(","share":{"type":"bind","source":"/srv/)" + name + "\"" + more + "}}";
  }
  static std::string bind(const std::string& name, const std::string& source, const std::string& more = "") {
    return "[share." + name + "]\ntype = \"bind\"\nsource = \"" + source + "\"\n" + more;
  }

  /// As a server reads it again, which must come to what a reading without a memory comes to.
  Configuration read() {
    Result<Configuration> again = load(directory_ / "berth.toml", {}, nullptr, &before_);
    const Result<Configuration> anew = load(directory_ / "berth.toml");
    EXPECT_EQ(again.has_value(), anew.has_value());
    if (!again || !anew) {
      if (!again && !anew) {
        EXPECT_EQ(again.error().story(), anew.error().story());
      }
      return {};
    }
    EXPECT_EQ(again->settings, anew->settings);
    EXPECT_EQ(again->files, anew->files);
    EXPECT_EQ(again->sources, anew->sources);
    EXPECT_EQ(again->warnings, anew->warnings);
    EXPECT_EQ(told(again->catalog.shares()), told(anew->catalog.shares()));
    EXPECT_EQ(told(again->catalog.templates()), told(anew->catalog.templates()));
    EXPECT_EQ(again->catalog.kept_files(), anew->catalog.kept_files());
    for (std::size_t i = 0; i < anew->source_shares.size(); ++i) {
      EXPECT_EQ(again->source_shares[i].shares, anew->source_shares[i].shares);
      EXPECT_EQ(again->source_shares[i].refused, anew->source_shares[i].refused);
    }
    return *std::move(again);
  }

  static std::vector<std::pair<std::string, manager::ShareFields>> told(const manager::Catalog::Map& shares) {
    std::vector<std::pair<std::string, manager::ShareFields>> all;
    for (const auto& [name, spec] : shares) all.emplace_back(spec.origin(), spec.fields());
    return all;
  }

  /// Whether both are one object, and not only equal.
  static bool is_same(const Configuration& a, const Configuration& b, const std::string& name) {
    const manager::ShareSpec* const one = a.catalog.find(name);
    const manager::ShareSpec* const other = b.catalog.find(name);
    return one != nullptr && other != nullptr && &one->name() == &other->name();
  }

  const testing::TemporaryDirectory directory_;
  ReadFiles before_;
};

TEST_F(ReadFilesTest, SharesOfWhatHasNotChangedAreTheSame) {
  write("shares.d/a.toml", bind("a", "/srv/a"));
  write("shares.d/b.toml", bind("b", "/srv/b"));
  write_source({{"x", put("x")}, {"y", put("y")}, {"z", put("z")}});
  const Configuration first = read();
  write("shares.d/b.toml", bind("b", "/srv/c"));
  write_source({{"w", put("w")}, {"x", put("x")}, {"z", put("z", R"(,"browse":false)")}});
  const Configuration second = read();
  for (const char* const name : {"main", "a", "x"}) EXPECT_TRUE(is_same(first, second, name)) << name;
  for (const char* const name : {"b", "z"}) EXPECT_FALSE(is_same(first, second, name)) << name;
  EXPECT_EQ(second.catalog.find("y"), nullptr);
  EXPECT_NE(second.catalog.find("w"), nullptr);
  EXPECT_THAT(second.catalog.find("b")->sources(), ElementsAre("/srv/c"));
  const Configuration third = read();
  for (const char* const name : {"main", "a", "b", "w", "x", "z"}) EXPECT_TRUE(is_same(second, third, name)) << name;
}

TEST_F(ReadFilesTest, AFileThatHasChangedWithinItsTimeAndSizeIsReadAnew) {
  const std::string path = directory_ / "shares.d/a.toml";
  write("shares.d/a.toml", bind("a", "/srv/1"));
  const std::array<timespec, 2> times{{{1'000'000'000, 5}, {1'000'000'000, 5}}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0), 0);
  ASSERT_TRUE(read().catalog.find("a"));
  write("shares.d/a.toml", bind("a", "/srv/2"));
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0), 0);
  EXPECT_THAT(read().catalog.find("a")->sources(), ElementsAre("/srv/2"));
}

TEST_F(ReadFilesTest, AFileThatIsReplacedOrRemovedOrComesBackIsSeen) {
  write("shares.d/a.toml", bind("a", "/srv/1"));
  (void)read();
  write("next", bind("a", "/srv/2"));
  ASSERT_EQ(::rename((directory_ / "next").c_str(), (directory_ / "shares.d/a.toml").c_str()), 0);
  EXPECT_THAT(read().catalog.find("a")->sources(), ElementsAre("/srv/2"));
  ASSERT_EQ(::unlink((directory_ / "shares.d/a.toml").c_str()), 0);
  EXPECT_EQ(read().catalog.find("a"), nullptr);
  write("shares.d/a.toml", bind("a", "/srv/2"));
  EXPECT_NE(read().catalog.find("a"), nullptr);
  // The place where a share is read is part of it.
  ASSERT_EQ(::rename((directory_ / "shares.d/a.toml").c_str(), (directory_ / "shares.d/b.toml").c_str()), 0);
  EXPECT_THAT(read().catalog.find("a")->origin(), HasSubstr("b.toml:1"));
}

TEST_F(ReadFilesTest, OwnersAndModesOfFilesAreLookedAtEachTime) {
  if (::geteuid() != 0) GTEST_SKIP() << "root is warned, others are not";
  write("shares.d/a.toml",
        "[share.a]\ntype = \"cifs\"\nsource = \"//h/a\"\noptions = \"username=u,password=hunter2\"\n");
  const std::string path = directory_ / "shares.d/a.toml";
  const std::size_t warnings = read().warnings.size();
  EXPECT_EQ(read().warnings.size(), warnings);
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  EXPECT_EQ(read().warnings.size(), warnings - 1) << "every user could read the secret";
  ASSERT_EQ(::chmod(path.c_str(), 0602), 0);
  EXPECT_THAT(read().warnings, Contains(HasSubstr("is writable by every user")));
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  ASSERT_EQ(::chown(path.c_str(), 77, 0), 0);
  EXPECT_THAT(read().warnings, Contains(HasSubstr("belongs to user 77")));
}

TEST_F(ReadFilesTest, SecretsOfACatalogSourceAreToldEachTime) {
  write_source(
      {{"x", R"({"put":"x","share":{"type":"cifs","source":"//h/x","options":"username=u,password=hunter2"}})"}});
  EXPECT_THAT(read().warnings, Contains(HasSubstr("has a secret")));
  EXPECT_THAT(read().warnings, Contains(HasSubstr("has a secret")));
}

TEST_F(ReadFilesTest, WhatConcernsSeveralSharesIsCheckedEachTime) {
  write("shares.d/b.toml", bind("b", "/srv/b"));
  write("shares.d/c.toml", bind("c", "/srv/c", "requires = [\"main\"]\n"));
  write_source({{"b", put("b")}, {"x", put("x")}, {"y", put("y", R"(,"requires":["b"])")}});
  const Configuration first = read();
  EXPECT_THAT(first.catalog.find("b")->origin(), HasSubstr("b.toml"));
  // A share of a file that has not changed is there twice now.
  write("shares.d/a.toml", bind("b", "/srv/b"));
  EXPECT_EQ(read().catalog.shares().size(), 0U);
  ASSERT_EQ(::unlink((directory_ / "shares.d/a.toml").c_str()), 0);
  EXPECT_EQ(read().catalog.shares().size(), first.catalog.shares().size());
  ASSERT_EQ(::unlink((directory_ / "shares.d/b.toml").c_str()), 0);
  EXPECT_EQ(read().catalog.find("b")->origin(), "catalog source fleet");
  write_source({{"x", put("x")}, {"y", put("y", R"(,"requires":["b"])")}});
  EXPECT_EQ(read().catalog.find("y"), nullptr) << "what it requires is gone";
  // What a share of a file that has not changed requires.
  write_main("", "");
  EXPECT_EQ(read().catalog.shares().size(), 0U);
  write_main("");
  EXPECT_NE(read().catalog.find("c"), nullptr);
}

TEST_F(ReadFilesTest, DefaultsAndTheNamespaceOfTheMainFileAreThoseOfAllShares) {
  write("shares.d/a.toml", bind("a", "/elsewhere/a"));
  write_source({{"x", put("x")}});
  (void)read();
  write_main("idle_timeout = \"7s\"\n");
  const Configuration loaded = read();
  EXPECT_EQ(loaded.catalog.find("a")->policy().idle_timeout, std::chrono::seconds(7));
  EXPECT_EQ(loaded.catalog.find("x")->policy().idle_timeout, std::chrono::seconds(7));
  write("berth.toml", "[berth]\nnamespace = \"/elsewhere\"\n");
  EXPECT_EQ(load(directory_ / "berth.toml", {}, nullptr, &before_).error().code(), EINVAL)
      << "the share would wait for itself";
}

TEST_F(ReadFilesTest, AReadingThatIsRefusedLeavesTheOthersRight) {
  write("shares.d/a.toml", bind("a", "/srv/a"));
  const Configuration first = read();
  write("shares.d/b.toml", "[share.b]\ntype = 7\n");
  (void)read();
  (void)read();
  write("shares.d/b.toml", bind("b", "/srv/b"));
  const Configuration last = read();
  EXPECT_TRUE(is_same(first, last, "a"));
  EXPECT_NE(last.catalog.find("b"), nullptr);
}

TEST_F(ReadFilesTest, ASourceWhoseFileIsBrokenForAWhileIsReadAgain) {
  write_source({{"x", put("x")}});
  const Configuration first = read();
  const std::string path = source_file(source_directory(directory_.path(), "/volumes"), "fleet");
  std::ofstream(path) << put("x") << "\n";
  EXPECT_EQ(read().catalog.kept_files().size(), 1U);
  std::ofstream(path) << put("x") << "\nno json\n{\"synced\":true}\n";
  EXPECT_EQ(read().catalog.kept_files().size(), 1U);
  ASSERT_EQ(::unlink(path.c_str()), 0);
  EXPECT_EQ(read().catalog.kept_files().size(), 1U);
  write_source({{"x", put("x")}});
  EXPECT_THAT(read().catalog.kept_files(), IsEmpty());
  EXPECT_TRUE(is_same(first, read(), "x"));
}

/// As if the user database had changed since.
TEST_F(ReadFilesTest, AccountsThatHaveOtherNumbersNowAreReadAnew) {
  const Fingerprint text = Fingerprint::of("text");
  ReadFile file{.text = text};
  file.accounts.users["root"] = 4711;
  before_.put_file("/a", file);
  Accounts accounts;
  EXPECT_EQ(before_.use_file("/a", text, false, accounts), nullptr);
  file.accounts.users["root"] = 0;
  before_.put_file("/a", file);
  EXPECT_NE(before_.use_file("/a", text, false, accounts), nullptr);
  file.accounts.groups["no-such-group"] = 5;
  before_.put_file("/a", file);
  EXPECT_EQ(before_.use_file("/a", text, false, accounts), nullptr);

  const manager::ShareSpec spec = manager::ShareSpec::make({.name = "x", .type = "tmpfs", .sources = {}}).value();
  ReadSource source;
  source.begin(accounts);
  source.add(text, spec, false);
  source.end({.users = {{"root", 0}}, .groups = {}});
  source.begin(accounts);
  EXPECT_NE(source.use(text), nullptr);
  source.end({.users = {{"root", 0}, {"no-such-user", 7}}, .groups = {}});
  source.begin(accounts);
  EXPECT_EQ(source.use(text), nullptr);
}

TEST_F(ReadFilesTest, AccountsThatAFileNamesAreRemembered) {
  Accounts accounts;
  ASSERT_TRUE(accounts.user("root"));
  ASSERT_TRUE(accounts.user("12"));
  ASSERT_TRUE(accounts.group("root"));
  (void)accounts.take_asked();
  ASSERT_TRUE(accounts.user("root"));
  const Accounts::Names names = accounts.take_asked();
  EXPECT_EQ(names.users.size(), 1U) << "also where the answer was known";
  EXPECT_TRUE(names.groups.empty());
  write("shares.d/a.toml", bind("a", "/srv/a", "allow_users = [\"root\"]\ngroup = \"root\"\n"));
  write_source({{"x", put("x", R"(,"owner":"root")")}});
  const Configuration first = read();
  const Configuration second = read();
  EXPECT_TRUE(is_same(first, second, "a"));
  EXPECT_TRUE(is_same(first, second, "x"));
}

}  // namespace
}  // namespace berth::config
