// Shares that a program names: a catalog source (berth-source(7)).
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

/// A berth with the source "fleet", whose program is a script of the test. The script says what is in the file `said`,
/// and goes on with what is appended to it.
class CatalogSources : public testing::Test {
 protected:
  CatalogSources() {
    for (const std::string name : {"a", "b", "c"}) {
      server_.make_directory("dirs/" + name);
      EXPECT_TRUE(ok(server_.write_file("dirs/" + name + "/name", name)));
    }
    follow();
  }

  void script(const std::string& text) {
    EXPECT_TRUE(ok(server_.write_file("source.new", "#!/bin/sh\n" + text)));
    ::chmod(server_.path("source.new").c_str(), 0755);
    EXPECT_EQ(::rename(server_.path("source.new").c_str(), server_.path("source").c_str()), 0);
  }
  void follow() {
    EXPECT_TRUE(ok(server_.write_file("said", "")));
    script("exec tail -n +1 -f '" + server_.path("said") + "'\n");
  }
  void say(const std::vector<std::string>& lines) {
    std::FILE* const file = std::fopen(server_.path("said").c_str(), "ae");
    ASSERT_NE(file, nullptr);
    for (const std::string& line : lines) std::fprintf(file, "%s\n", line.c_str());
    std::fclose(file);
  }
  [[nodiscard]] std::string put(const std::string& name, const std::string& directory) const {
    return R"({"put":")" + name + R"(","share":{"type":"bind","access":"proxy","source":")" +
           server_.path("dirs/" + directory) + R"("}})";
  }
  Result<> start(const std::string& more = "", const std::string& keys = "") {
    config_ = more + "[[catalog_source]]\nname = \"fleet\"\nprogram = [\"" + server_.path("source") + "\"]\n" + keys;
    return server_.start(config_);
  }
  [[nodiscard]] std::string name_in(const std::string& share) const {
    return server_.read_file("namespace/" + share + "/name").value_or("none");
  }
  [[nodiscard]] bool comes(const std::string& share, const std::string& name) const {
    return eventually([&] { return name_in(share) == name; });
  }
  [[nodiscard]] nlohmann::json status() const {
    const nlohmann::json json = server_.read_json("status.json");
    return json.is_object() && !json["sources"].empty() ? json["sources"][0] : nlohmann::json::object();
  }
  [[nodiscard]] bool state_comes(const std::string& state) const {
    return eventually([&] { return status().value("state", "") == state; });
  }
  /// Where the shares of the source are kept; "": they are not.
  [[nodiscard]] std::string kept_file() const {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(server_.path("state"))) {
      if (entry.path().filename() == "source-fleet") return entry.path().native();
    }
    return "";
  }
  [[nodiscard]] std::string error() const { return status().value("error", ""); }

  BerthServer server_;
  std::string config_;
};

const std::string kSynced = R"({"synced":true})";

TEST_F(CatalogSources, SharesComeChangeAndGoAsTheProgramSays) {
  say({put("a", "a"), put("b", "b"), kSynced});
  ASSERT_TRUE(ok(start()));
  EXPECT_TRUE(comes("a", "a"));
  EXPECT_TRUE(comes("b", "b"));
  EXPECT_TRUE(state_comes("synced")) << status();
  EXPECT_EQ(status()["shares"], 2);
  EXPECT_EQ(server_.read_json("shares/a/status.json")["origin"], "catalog source fleet");
  say({put("a", "c"), R"({"delete":"b"})"});
  EXPECT_TRUE(comes("a", "c"));
  EXPECT_TRUE(comes("b", "none"));
  EXPECT_NE(server_.read_control("sources").value_or("").find("state:    synced"), std::string::npos)
      << server_.read_control("sources").value_or("");
  const pid_t program = status().value("pid", 0);
  EXPECT_NE(server_.read_control("metrics").value_or("").find("berth_catalog_source_up{source=\"fleet\"} 1"),
            std::string::npos);
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_NE(::kill(program, 0), 0) << "it ends with berth";
}

TEST_F(CatalogSources, AHostServesWhatItKnewWhileTheStoreIsAway) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  EXPECT_EQ(server_.stop(), Ending{});
  script("echo 'password=geheim refused' >&2; exit 3\n");
  ASSERT_TRUE(ok(server_.start(config_)));
  EXPECT_EQ(name_in("a"), "a") << "at once";
  EXPECT_TRUE(eventually([&] { return error().find("exit status 3") != std::string::npos; })) << status();
  EXPECT_TRUE(state_comes("down"));
  EXPECT_EQ(name_in("a"), "a");
  const std::string shown = server_.read_control("sources").value_or("");
  EXPECT_NE(shown.find("refused"), std::string::npos) << shown;
  EXPECT_EQ(shown.find("geheim"), std::string::npos) << shown;
  EXPECT_EQ(server_.log().find("geheim"), std::string::npos);
  follow();
  say({put("b", "b"), kSynced});
  EXPECT_TRUE(comes("b", "b"));
  EXPECT_TRUE(comes("a", "none"));
}

// What is kept on disk is no list of the store: without it nothing is removed.
TEST_F(CatalogSources, ALostStateDirectoryRemovesNoShareAndIsWrittenAgain) {
  say({put("a", "a"), put("b", "b"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  ASSERT_TRUE(comes("b", "b"));
  ASSERT_TRUE(state_comes("synced"));
  const std::string kept = kept_file();
  ASSERT_NE(kept, "");
  std::filesystem::remove_all(server_.path("state"));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(name_in("a"), "a");
  EXPECT_EQ(name_in("b"), "b");
  // One change makes the directory anew, which is no other berth's for that.
  say({put("c", "c"), kSynced});
  EXPECT_TRUE(comes("c", "c"));
  EXPECT_TRUE(eventually([&] { return std::filesystem::exists(kept); }));
  // A store that does not change writes it as well.
  std::filesystem::remove(kept);
  EXPECT_TRUE(eventually([&] {
    say({kSynced});
    return std::filesystem::exists(kept);
  }));
  EXPECT_EQ(name_in("b"), "b");
}

TEST_F(CatalogSources, AFileThatCannotBeReadRemovesNoShareOverReloadsKillsAndUpgrades) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  ASSERT_TRUE(state_comes("synced"));
  const std::string kept = kept_file();
  std::filesystem::remove(kept);
  std::filesystem::create_directories(kept + "/in-the-way");
  // The next program has nothing to say for now.
  script("exec tail -n +1 -f '" + server_.path("later") + "'\n");
  ASSERT_TRUE(ok(server_.write_file("later", "")));
  ASSERT_TRUE(ok(server_.write_file(
      "berth.toml", config_ + "[share.local]\ntype = \"bind\"\nsource = \"" + server_.path("dirs/c") + "\"\n")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_TRUE(comes("local", "c")) << "other changes are made";
  EXPECT_EQ(name_in("a"), "a");
  ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
  EXPECT_EQ(name_in("a"), "a");
  server_.kill_server();
  EXPECT_EQ(name_in("a"), "a");
  EXPECT_NE(server_.log().find("cannot be read"), std::string::npos);
  std::filesystem::remove_all(kept);
  EXPECT_TRUE(ok(server_.write_file("later", put("b", "b") + "\n")));
  EXPECT_TRUE(comes("b", "b"));
  EXPECT_EQ(name_in("a"), "a") << "the list is not complete";
  EXPECT_TRUE(ok(server_.write_file("later", put("b", "b") + "\n" + kSynced + "\n")));
  EXPECT_TRUE(comes("a", "none"));
  EXPECT_EQ(name_in("b"), "b");
}

TEST_F(CatalogSources, WhatIsConfiguredGoesFirstAndIsTold) {
  say({put("a", "b"), put("c", "c"), kSynced});
  ASSERT_TRUE(ok(start("[share.a]\ntype = \"bind\"\nsource = \"" + server_.path("dirs/a") + "\"\n")));
  EXPECT_TRUE(comes("c", "c"));
  EXPECT_EQ(name_in("a"), "a");
  EXPECT_TRUE(eventually([&] { return status().value("wrong_count", 0) == 1; })) << status();
  EXPECT_EQ(status()["wrong"][0]["share"], "a");
}

TEST_F(CatalogSources, GarbageAndWrongSharesDisturbNoOtherShare) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  say({"garbage", std::string(60'000, '['), R"({"put":"w","share":{"type":"bind"}})", put("b", "b")});
  EXPECT_TRUE(comes("b", "b"));
  EXPECT_EQ(name_in("a"), "a");
  EXPECT_TRUE(state_comes("failing")) << status();
  EXPECT_EQ(status()["wrong"][0]["share"], "w");
  say({R"({"list":true})", put("b", "b"), kSynced});
  EXPECT_TRUE(comes("a", "none"));
  EXPECT_TRUE(state_comes("synced"));
}

TEST_F(CatalogSources, AnEndlessLineAndASilentProgramAreEndedAndStartedAgain) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start("", "list_timeout = \"300ms\"\n")));
  ASSERT_TRUE(comes("a", "a"));
  EXPECT_EQ(server_.stop(), Ending{});
  script("exec tr '\\0' x </dev/zero\n");
  ASSERT_TRUE(ok(server_.start(config_)));
  EXPECT_TRUE(eventually([&] { return error().find("a line of more than") != std::string::npos; })) << status();
  script("trap '' TERM; sleep 1000 & while :; do wait; done\n");
  EXPECT_TRUE(eventually([&] { return error().find("has written nothing") != std::string::npos; })) << status();
  EXPECT_EQ(name_in("a"), "a");
  follow();
  EXPECT_TRUE(state_comes("listing"));
}

TEST_F(CatalogSources, AStoreThatIsAwayAtTheStartIsFailing) {
  say({R"({"error":"no route to the store"})"});
  ASSERT_TRUE(ok(start()));
  EXPECT_TRUE(state_comes("failing"));
  EXPECT_EQ(error(), "no route to the store");
}

TEST_F(CatalogSources, AKilledServerFlapsNothingAndLeavesNoProgram) {
  say({put("a", "a"), put("b", "b"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("b", "b"));
  ASSERT_TRUE(state_comes("synced"));
  // The next program has nothing to say for now.
  script("echo $$ >'" + server_.path("pid") + "'; exec tail -n +1 -f '" + server_.path("later") + "' 2>/dev/null\n");
  ASSERT_TRUE(ok(server_.write_file("later", "")));
  const pid_t first = status().value("pid", 0);
  ASSERT_GT(first, 0);
  for (int i = 0; i < 3; ++i) {
    server_.kill_server();
    EXPECT_EQ(name_in("a"), "a");
    EXPECT_EQ(name_in("b"), "b");
    EXPECT_TRUE(state_comes("listing"));
  }
  EXPECT_TRUE(eventually([&] { return ::kill(first, 0) != 0; })) << "the program of the server that was killed";
  EXPECT_TRUE(ok(server_.write_file("later", put("a", "a") + "\n" + kSynced + "\n")));
  EXPECT_TRUE(comes("b", "none"));
  EXPECT_EQ(name_in("a"), "a");
}

TEST_F(CatalogSources, AProgramThatEndsLeavesNothingRunning) {
  const std::string left = server_.path("left");
  script("if [ ! -e '" + left + "' ]; then setsid sleep 1000 & : >'" + left + "'; fi\necho '" + kSynced + "'\n");
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(eventually([&] { return status().value("starts", 0) >= 2; }));
  EXPECT_TRUE(server_.read_file("left").has_value());
  const std::vector<pid_t> running = server_.processes();
  EXPECT_EQ(std::count_if(running.begin(), running.end(),
                          [&](pid_t pid) {
                            std::string name;
                            std::ifstream("/proc/" + std::to_string(pid) + "/comm") >> name;
                            return name == "sleep";
                          }),
            0);
}

TEST_F(CatalogSources, SourcesComeAndGoWithAReloadAndOutliveAKilledServer) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(server_.start("")));
  const std::string section = "[[catalog_source]]\nname = \"fleet\"\nprogram = [\"" + server_.path("source") + "\"]\n";
  const std::string file = "berth.toml";
  ASSERT_TRUE(ok(server_.write_file(file, section)));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_TRUE(comes("a", "a"));
  server_.kill_server();
  EXPECT_TRUE(state_comes("synced")) << status();
  EXPECT_EQ(name_in("a"), "a");
  ASSERT_TRUE(ok(server_.write_file(file, "")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_TRUE(comes("a", "none"));
  EXPECT_TRUE(eventually([&] { return status().empty(); }));
}

TEST_F(CatalogSources, AReloadSaysWhichSourcesComeChangeAndGo) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  const auto reload_with = [this](const std::string& text) {
    EXPECT_TRUE(ok(server_.write_file("berth.toml", text)));
    EXPECT_TRUE(ok(server_.write_control("control", "reload")));
    return server_.read_control("reload").value_or("");
  };
  const std::string more = "[[catalog_source]]\nname = \"more\"\nprogram = [\"/nonexistent/program\"]\n";
  EXPECT_EQ(reload_with(config_ + more),
            "catalog source more: added; /nonexistent/program cannot be started: No such file or directory\n");
  EXPECT_EQ(reload_with(config_ + more), "nothing has changed\n");
  EXPECT_EQ(reload_with(config_ + "max_shares = 7\n" + more),
            "catalog source fleet: changed, its program starts anew\n");
  EXPECT_EQ(reload_with(more), "1 removed\ncatalog source fleet: removed\n");
  EXPECT_NE(server_.log().find("reload: catalog source fleet: removed"), std::string::npos);
}

TEST_F(CatalogSources, SharesOfARemovedSourceDoNotComeBackWithIt) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  ASSERT_TRUE(state_comes("synced"));
  const std::string kept = kept_file();
  ASSERT_NE(kept, "");
  ASSERT_TRUE(ok(server_.write_file("berth.toml", "")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_TRUE(comes("a", "none"));
  EXPECT_FALSE(std::filesystem::exists(kept)) << "it holds passwords of options as well";
  follow();
  ASSERT_TRUE(ok(server_.write_file("berth.toml", config_)));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(name_in("a"), "none");
  say({put("b", "b"), kSynced});
  EXPECT_TRUE(comes("b", "b"));
  ASSERT_TRUE(state_comes("synced"));
  // Nor where the section went while berth did not run.
  EXPECT_EQ(server_.stop(), Ending{});
  ASSERT_TRUE(std::filesystem::exists(kept));
  ASSERT_TRUE(
      ok(server_.write_file(std::filesystem::relative(kept, server_.directory()).native() + ".unfinished", "")));
  ASSERT_TRUE(ok(server_.start("")));
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(kept); }));
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(kept + ".unfinished"); }));
}

// Another share is listed meanwhile, and none that is right is left out for it.
TEST_F(CatalogSources, ACompleteListHasTheWholeRoomOfASource) {
  say({put("a", "a"), put("b", "b"), kSynced});
  ASSERT_TRUE(ok(start("", "max_shares = 2\n")));
  ASSERT_TRUE(comes("b", "b"));
  say({R"({"list":true})", put("c", "c"), put("d", "a"), kSynced});
  EXPECT_TRUE(comes("c", "c"));
  EXPECT_TRUE(comes("d", "a"));
  EXPECT_TRUE(comes("a", "none"));
  EXPECT_EQ(status()["wrong_count"], 0);
}

TEST_F(CatalogSources, AShareThatIsTooLargeOrTooDeepIsWrongAlone) {
  say({put("a", "a"), put("b", "b"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("b", "b"));
  const pid_t program = status().value("pid", 0);
  const std::string large = R"({"put":"b","share":{"type":"bind","options":")" + std::string(70'000, 'x') + R"("}})";
  const std::string deep = R"({"put":"deep","share":{"type":)" + std::string(20, '[') + std::string(20, ']') + "}}";
  say({R"({"list":true})", large, deep, put("c", "c"), R"({"put":"odd","wrong":"no such thing"})", kSynced});
  EXPECT_TRUE(comes("c", "c"));
  EXPECT_TRUE(comes("a", "none"));
  EXPECT_EQ(name_in("b"), "b") << "it stays as it was";
  EXPECT_TRUE(state_comes("synced")) << status();
  std::map<std::string, std::string> wrong;
  const nlohmann::json now = status();
  for (const auto& one : now["wrong"]) wrong[one["share"]] = one["reason"];
  EXPECT_EQ(wrong, (std::map<std::string, std::string>{{"b", "it has more than 64 KiB"},
                                                       {"deep", "its values are too deep in each other"},
                                                       {"odd", "no such thing"}}));
  EXPECT_EQ(status().value("pid", 0), program);
}

TEST_F(CatalogSources, AnUpgradeGoesOnWithTheSharesAndStartsTheProgramAgain) {
  say({put("a", "a"), kSynced});
  ASSERT_TRUE(ok(start()));
  ASSERT_TRUE(comes("a", "a"));
  ASSERT_TRUE(state_comes("synced"));
  const pid_t first = status().value("pid", 0);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    EXPECT_EQ(name_in("a"), "a");
  }
  EXPECT_TRUE(eventually([&] { return ::kill(first, 0) != 0; }));
  say({put("b", "b")});
  EXPECT_TRUE(comes("b", "b"));
  EXPECT_TRUE(state_comes("synced"));
  const pid_t last = status().value("pid", 0);
  ASSERT_GT(last, 0);
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_NE(::kill(last, 0), 0) << "it ends with berth";
}

// Shares come and go, the program, the server and the binary are killed and replaced; the share that is always there
// never fails, and in the end there is what the store has.
TEST_F(CatalogSources, WhateverIsKilledAShareThatStaysIsThereAndAllIsTakenOverInTheEnd) {
  const char* const wanted = std::getenv("BERTH_ROUNDS");
  const int rounds = wanted != nullptr ? std::atoi(wanted) : 40;
  std::minstd_rand random(static_cast<unsigned>(::testing::UnitTest::GetInstance()->random_seed()));
  const auto draw = [&random](unsigned count) { return static_cast<unsigned>(random() % count); };
  const std::vector<std::string> directories{"a", "b", "c"};
  // The store: a file that is written anew, and listed over and over.
  std::map<std::string, std::string> store{{"stays", "a"}};
  const auto write_store = [&] {
    std::string text;
    for (const auto& [name, directory] : store) text += put(name, directory) + "\n";
    ASSERT_TRUE(ok(server_.write_file("store.new", text)));
    ASSERT_EQ(::rename(server_.path("store.new").c_str(), server_.path("store").c_str()), 0);
  };
  write_store();
  script("while :; do echo '{\"list\":true}'; cat '" + server_.path("store") + "'; echo '" + kSynced +
         "'; sleep 0.05; done\n");
  ASSERT_TRUE(ok(start("[berth]\ncrash_limit = 10000\n")));
  ASSERT_TRUE(comes("stays", "a"));
  std::atomic<bool> ended{false};
  std::atomic<int> failures{0};
  std::thread reader([&] {
    while (!ended) {
      if (name_in("stays") != "a") ++failures;
    }
  });
  for (int i = 0; i < rounds; ++i) {
    const std::string name = "s" + std::to_string(draw(8));
    if (draw(3) == 0) {
      store.erase(name);
    } else {
      store[name] = directories[draw(3)];
    }
    write_store();
    const unsigned what = draw(6);
    if (what == 0) server_.kill_server();
    if (what == 1) {
      EXPECT_TRUE(ok(server_.write_control("control", "upgrade")));
    }
    if (const pid_t program = status().value("pid", 0); what == 2 && program > 0) ::kill(program, SIGKILL);
    if (what == 3) (void)name_in(name);
  }
  const auto is_as_in_store = [&] {
    for (unsigned i = 0; i < 8; ++i) {
      const std::string name = "s" + std::to_string(i);
      if (name_in(name) != (store.contains(name) ? store[name] : "none")) return false;
    }
    return true;
  };
  EXPECT_TRUE(eventually(is_as_in_store));
  ended = true;
  reader.join();
  EXPECT_EQ(failures, 0) << "seed " << ::testing::UnitTest::GetInstance()->random_seed();
}

TEST_F(CatalogSources, AFloodOfSharesIsTakenUpToItsBound) {
  script("i=0\nseq 100000 | sed 's|.*|{\"put\":\"n&\",\"share\":{\"type\":\"bind\",\"source\":\"" +
         server_.path("dirs/a") + "\"}}|'\necho '" + kSynced + "'\nsleep 1000\n");
  ASSERT_TRUE(ok(start("", "max_shares = 50000\n")));
  EXPECT_TRUE(state_comes("synced")) << status();
  EXPECT_TRUE(comes("n50000", "a"));
  EXPECT_EQ(status()["shares"], 50000);
  EXPECT_EQ(status()["wrong_count"], 50000);
  EXPECT_EQ(name_in("n50001"), "none");
}

}  // namespace
}  // namespace berth::test
