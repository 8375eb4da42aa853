// The server dies at every named point of a change of the catalog, and `berth add` and `berth remove` at theirs:
// nothing of the change is lost, none is there by half, and programs in shares see nothing of it. Needs a build with
// -Dcrash_points=true.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "src/lib/sys/process.h"
#include "tests/mount/reload_fixture.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

/// Two of a kind: one server after the other.
std::vector<std::string> with_two(const std::vector<std::string>& names) {
  std::vector<std::string> all = names;
  for (const std::string& name : names) all.push_back(name + " " + name);
  return all;
}

class CatalogCrashPoints : public Reload, public ::testing::WithParamInterface<std::string> {
 protected:
  void SetUp() override {
    Reload::SetUp();
    trigger_ = server_.path("trigger");
    ASSERT_EQ(::setenv("BERTH_CRASH_FILE", trigger_.c_str(), 1), 0);
  }
  void TearDown() override { ::unsetenv("BERTH_CRASH_FILE"); }

  void begin(const std::string& more = "") {
    ASSERT_TRUE(ok(server_.start("[berth]\nidle_timeout = \"1h\"\ncrash_limit = 1000\n" + more)));
  }
  void arm() { arm(GetParam()); }
  void arm(const std::string& names) {
    ASSERT_TRUE(ok(server_.write_file("trigger.new", names + "\n")));
    ASSERT_EQ(::rename(server_.path("trigger.new").c_str(), trigger_.c_str()), 0);
  }
  [[nodiscard]] bool is_armed() const { return ::access(trigger_.c_str(), F_OK) == 0; }
  /// The servers have died at all their points.
  [[nodiscard]] bool strikes() const {
    return eventually([this] { return !is_armed(); });
  }

  std::string trigger_;
};

std::string word_of(const ::testing::TestParamInfo<std::string>& chosen) {
  std::string word = chosen.param;
  std::replace_if(
      word.begin(), word.end(), [](char c) { return c == '-' || c == ' '; }, '_');
  return word;
}

TEST_P(CatalogCrashPoints, ReloadIsDoneAsAWhole) {
  put("in-use", "one");
  put("idle", "one");
  put("goes", "one");
  put("home/policy", "one");
  begin();
  UniqueFd file = open("in-use/log", O_CREAT | O_WRONLY | O_APPEND);
  UniqueFd directory = open("in-use", O_PATH | O_DIRECTORY);
  EXPECT_EQ(name_in("idle"), "one");
  EXPECT_EQ(name_in("goes"), "one");
  EXPECT_EQ(name_in("new"), "?");
  EXPECT_EQ(name_in("deep/new"), "?");
  arm();
  put("in-use", "two");
  put("idle", "two");
  remove("goes");
  put("home/policy", "one", "access = \"proxy\"\nidle_timeout = \"7m\"\n");
  put("new", "two");
  put("deep/new", "two");
  EXPECT_TRUE(ok(reload()));
  EXPECT_TRUE(strikes());
  // What a second server has still to do after its own death it does by itself.
  EXPECT_TRUE(eventually([&] { return name_in("deep/new") == "two"; }));
  EXPECT_EQ(name_in("new"), "two");
  EXPECT_EQ(name_in("goes"), "?");
  EXPECT_TRUE(eventually([&] { return name_in("idle") == "two"; }));
  EXPECT_EQ(server_.read_json("shares/home/policy/status.json").value("idle_timeout_seconds", 0.0), 420.0);
  EXPECT_EQ(name_in("in-use"), "one");
  expect_inside(file, directory, "one");
  EXPECT_EQ(server_.read_json("shares/in-use/status.json")["pending"].size(), 1U);
  server_.kill_server();
  EXPECT_EQ(server_.read_json("shares/in-use/status.json")["pending"].size(), 1U);
  file.reset();
  EXPECT_TRUE(eventually([&] { return name_in("in-use") == "two"; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_P(CatalogCrashPoints, RemovedShareKeepsItsUsersAndComesBackAsAnotherOne) {
  put("a", "one");
  begin();
  UniqueFd file = open("a/log", O_CREAT | O_WRONLY | O_APPEND);
  UniqueFd directory = open("a", O_PATH | O_DIRECTORY);
  arm();
  remove("a");
  EXPECT_TRUE(ok(reload()));
  EXPECT_TRUE(strikes());
  EXPECT_TRUE(eventually([&] { return name_in("a") == "?"; }));
  EXPECT_TRUE(eventually([&] { return server_.state("a") == "removed"; }));
  expect_inside(file, directory, "one");
  arm();
  put("a", "two");
  EXPECT_TRUE(ok(reload()));
  EXPECT_TRUE(strikes());
  EXPECT_TRUE(eventually([&] { return name_in("a") == "two"; }));
  expect_inside(file, directory, "one");
  EXPECT_EQ(server_.read_file("one/log").value_or(""), "xx");
  EXPECT_FALSE(fs::exists(server_.path("two/log")));
  file.reset();
  directory.reset();
  EXPECT_TRUE(eventually([&] { return server_.read_json("status.json")["shares"].size() == 1; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(
    Points, CatalogCrashPoints,
    ::testing::ValuesIn(with_two({"reload-begun", "catalog-written", "catalog-changed", "catalog-untold"})), word_of);

/// The log of the catalog is written anew when most of it counts no more.
class CatalogRewritePoints : public CatalogCrashPoints {};

TEST_P(CatalogRewritePoints, LogThatIsWrittenAnewLosesNothing) {
  put("stays", "one");
  put("changes", "one");
  begin();
  const UniqueFd file = open("stays/log", O_CREAT | O_WRONLY | O_APPEND);
  const UniqueFd directory = open("stays", O_PATH | O_DIRECTORY);
  arm();
  for (int round = 0; round < 400 && is_armed(); ++round) {
    std::string many;
    for (int share = 0; share < 200; ++share) {
      const std::string number = std::to_string(share);
      many += "[share.many-" + number + "]\ntype = \"bind\"\nsource = \"/srv/" + std::to_string(round) + "/" + number +
              "\"\n";
    }
    ASSERT_TRUE(ok(server_.write_file("shares.d/many.toml", many)));
    ASSERT_TRUE(ok(reload())) << answer();
  }
  EXPECT_FALSE(is_armed()) << "the log was never written anew";
  put("changes", "last");
  ASSERT_TRUE(ok(reload()));
  EXPECT_EQ(name_in("changes"), "last");
  expect_inside(file, directory, "one");
  server_.kill_server();
  EXPECT_EQ(name_in("changes"), "last");
  EXPECT_EQ(name_in("stays"), "one");
}

INSTANTIATE_TEST_SUITE_P(Points, CatalogRewritePoints, ::testing::Values("catalog-rewritten"), word_of);

/// What a catalog source says, and where it is kept.
class SourceCrashPoints : public CatalogCrashPoints {
 protected:
  [[nodiscard]] std::string line(const std::string& name, const std::string& source) {
    return R"({"put":")" + name + R"(","share":{"type":"bind","access":"proxy","source":")" + make_source(source) +
           R"("}})";
  }
  void say(const std::vector<std::string>& lines) {
    std::FILE* const said = std::fopen(server_.path("said").c_str(), "ae");
    ASSERT_NE(said, nullptr);
    for (const std::string& one : lines) std::fprintf(said, "%s\n", one.c_str());
    std::fclose(said);
  }
  void begin_source() {
    ASSERT_TRUE(ok(server_.write_file("source", "#!/bin/sh\nexec tail -n +1 -f '" + server_.path("said") + "'\n")));
    ASSERT_EQ(::chmod(server_.path("source").c_str(), 0755), 0);
    begin("[[catalog_source]]\nname = \"fleet\"\nprogram = [\"" + server_.path("source") + "\"]\n");
  }
  [[nodiscard]] bool comes(const std::string& share, const std::string& name) const {
    return eventually([&] { return name_in(share) == name; });
  }
};

TEST_P(SourceCrashPoints, WhatTheSourceSaysIsThereAsAWholeAndIsKept) {
  const std::string synced = R"({"synced":true})";
  say({line("stays", "one"), line("changes", "one"), line("goes", "one"), synced});
  ASSERT_NO_FATAL_FAILURE(begin_source());
  ASSERT_TRUE(comes("goes", "one"));
  const UniqueFd file = open("stays/log", O_CREAT | O_WRONLY | O_APPEND);
  const UniqueFd directory = open("stays", O_PATH | O_DIRECTORY);
  arm();
  say({line("changes", "two"), R"({"delete":"goes"})", line("new", "two")});
  EXPECT_TRUE(comes("new", "two"));
  EXPECT_TRUE(comes("changes", "two"));
  EXPECT_TRUE(comes("goes", "?"));
  EXPECT_TRUE(strikes());
  expect_inside(file, directory, "one");
  // A list removes what it does not name, when it has ended.
  arm();
  say({R"({"list":true})", line("stays", "one"), line("changes", "two"), synced});
  EXPECT_TRUE(comes("new", "?"));
  EXPECT_TRUE(strikes());
  EXPECT_TRUE(comes("changes", "two"));
  expect_inside(file, directory, "one");
  // All of berth ends, and the store is away.
  EXPECT_TRUE(
      eventually([&] { return server_.read_json("status.json")["sources"][0].value("state", "") == "synced"; }));
  ASSERT_TRUE(ok(server_.write_file("source", "#!/bin/sh\nexit 3\n")));
  server_.kill_all();
  ASSERT_NO_FATAL_FAILURE(
      begin("[[catalog_source]]\nname = \"fleet\"\nprogram = [\"" + server_.path("source") + "\"]\n"));
  EXPECT_EQ(name_in("stays"), "one");
  EXPECT_EQ(name_in("changes"), "two");
  EXPECT_EQ(name_in("new"), "?");
}

INSTANTIATE_TEST_SUITE_P(Points, SourceCrashPoints,
                         ::testing::Values("source-heard", "source-written", "source-renamed", "source-kept",
                                           "source-kept source-heard", "reload-begun", "catalog-changed"),
                         word_of);

/// `berth add` and `berth remove` die.
class CommandCrashPoints : public CatalogCrashPoints {};

TEST_P(CommandCrashPoints, FileOfAShareIsThereOrNotAndTheNextCommandGoesOn) {
  begin();
  const std::vector<std::string> add{"add",      "home/a",           "--type", "bind",
                                     "--source", make_source("one"), "--set",  "access=proxy"};
  const std::string file = server_.path("shares.d/home%2Fa.toml");
  if (GetParam().starts_with("drop-in-leaves") || GetParam().starts_with("drop-in-gone")) {
    EXPECT_NE(berth(add).find("+1 added"), std::string::npos);
    arm();
    (void)berth({"remove", "home/a"});
    EXPECT_FALSE(is_armed());
    EXPECT_EQ(fs::exists(file), GetParam() == "drop-in-leaves");
    (void)berth({"remove", "home/a"});
    EXPECT_FALSE(fs::exists(file));
    EXPECT_TRUE(eventually([&] { return name_in("home/a") == "?"; }));
  } else {
    arm();
    (void)berth(add);
    EXPECT_FALSE(is_armed());
    EXPECT_EQ(fs::exists(file), GetParam() == "drop-in-renamed");
    (void)berth(add);
    EXPECT_TRUE(eventually([&] { return name_in("home/a") == "one"; }));
    EXPECT_NE(berth({"remove", "home/a"}).find("1 removed"), std::string::npos);
    EXPECT_EQ(name_in("home/a"), "?");
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Points, CommandCrashPoints,
                         ::testing::Values("drop-in-written", "drop-in-renamed", "drop-in-leaves", "drop-in-gone"),
                         word_of);

}  // namespace
}  // namespace berth::test
