#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/mount/reload_fixture.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

TEST_F(Reload, AddedShareIsThereAtOnceThoughItsNameWasJustAbsent) {
  put("a", "one");
  start();
  EXPECT_EQ(name_in("a"), "one");
  EXPECT_EQ(::access(server_.in_namespace("b").c_str(), F_OK), -1);
  EXPECT_EQ(::access(server_.in_namespace("home/bob").c_str(), F_OK), -1);
  put("b", "two");
  put("home/bob", "three");
  EXPECT_NE(reload_says().find("+2 added"), std::string::npos);
  EXPECT_EQ(name_in("b"), "two");
  EXPECT_EQ(name_in("home/bob"), "three");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(server_.namespace_path())) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{".berth", "a", "b", "home"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, CallersInARemovedShareGoOnOverKillsUntilTheyLeave) {
  put("a", "one");
  start();
  UniqueFd file = open("a/log", O_CREAT | O_WRONLY | O_APPEND);
  UniqueFd directory = open("a", O_PATH | O_DIRECTORY);  // as a working directory is: no handle, no lease
  remove("a");
  EXPECT_NE(reload_says().find("1 removed (a: 1 user)"), std::string::npos) << answer();
  EXPECT_EQ(::access(server_.in_namespace("a").c_str(), F_OK), -1);
  EXPECT_TRUE(append(file.get(), "1"));
  EXPECT_EQ(read_at(directory.get(), "name"), "one");
  EXPECT_EQ(server_.state("a"), "removed");
  server_.kill_server();
  EXPECT_EQ(::access(server_.in_namespace("a").c_str(), F_OK), -1);
  EXPECT_TRUE(append(file.get(), "2"));
  EXPECT_EQ(read_at(directory.get(), "name"), "one");
  EXPECT_EQ(server_.state("a"), "removed");
  file.reset();
  EXPECT_EQ(read_at(directory.get(), "name"), "one");
  directory.reset();
  EXPECT_TRUE(eventually([&] { return !is_shown("a"); }));
  EXPECT_EQ(server_.read_file("one/log").value_or(""), "12");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, ShareThatComesBackUnderItsNameIsAnotherOne) {
  put("a", "one");
  start();
  UniqueFd file = open("a/log", O_CREAT | O_WRONLY | O_APPEND);
  UniqueFd directory = open("a", O_RDONLY | O_DIRECTORY);
  EXPECT_EQ(name_in("a"), "one");
  remove("a");
  ASSERT_TRUE(ok(reload()));
  put("a", "two");
  ASSERT_TRUE(ok(reload()));
  for (const bool killed : {false, true}) {
    if (killed) server_.kill_server();
    EXPECT_EQ(name_in("a"), "two");
    expect_inside(file, directory, "one");
  }
  EXPECT_EQ(server_.read_file("one/log").value_or(""), "xx");
  EXPECT_FALSE(fs::exists(server_.path("two/log")));
  file.reset();
  directory.reset();
  EXPECT_EQ(server_.stop(), Ending{});
}

/// The kernel remembers that a directory is absent; which ones, the next server must know.
TEST_F(Reload, DirectoryThatWasGoneWhenTheServerDiedComesBackWithAShare) {
  put("stays", "zero");
  put("home/a", "one");
  put("deep/er/a", "one");
  start();
  for (const bool upgrades : {false, true}) {
    SCOPED_TRACE(upgrades);
    EXPECT_EQ(name_in("home/a"), "one");
    EXPECT_EQ(name_in("deep/er/a"), "one");
    remove("home/a");
    remove("deep/er/a");
    ASSERT_TRUE(ok(reload()));
    EXPECT_EQ(name_in("home/a"), "?");
    EXPECT_EQ(name_in("deep/er/a"), "?");
    if (!upgrades) server_.kill_server();
    put("home/a", "one");
    put("deep/er/a", "one");
    ASSERT_TRUE(ok(server_.write_control("control", upgrades ? "upgrade" : "reload")));
    EXPECT_EQ(name_in("home/a"), "one");
    EXPECT_EQ(name_in("deep/er/a"), "one");
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, UpgradesMakeTheSameDifference) {
  put("a", "one");
  start();
  UniqueFd file = open("a/log", O_CREAT | O_WRONLY | O_APPEND);
  const UniqueFd directory = open("a", O_PATH | O_DIRECTORY);
  for (int round = 0; round < 3; ++round) {
    remove("a");
    ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    EXPECT_EQ(::access(server_.in_namespace("a").c_str(), F_OK), -1);
    EXPECT_TRUE(append(file.get(), "x"));
    put("a", "back" + std::to_string(round));
    ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    EXPECT_EQ(name_in("a"), "back" + std::to_string(round));
    expect_inside(file, directory, "one");
  }
  EXPECT_EQ(server_.read_file("one/log").value_or(""), "xxxxxx");
  file.reset();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, AnotherSourceIsMountedWhenTheOldOneIsNotInUse) {
  put("a", "one");
  start();
  UniqueFd file = open("a/name", O_RDONLY);
  put("a", "two");
  EXPECT_NE(reload_says().find("1 changed (a: pending, 1 user)"), std::string::npos) << answer();
  EXPECT_EQ(name_in("a"), "one");
  const auto status = server_.read_json("shares/a/status.json");
  EXPECT_EQ(status["pending"].size(), 1U) << status;
  server_.kill_server();
  EXPECT_EQ(name_in("a"), "one");
  const Result<> refused = server_.write_control("shares/a/control", "remount");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), EBUSY);
  file.reset();
  EXPECT_TRUE(eventually([&] { return name_in("a") == "two"; }));
  put("a", "three");
  ASSERT_TRUE(ok(reload()));
  EXPECT_TRUE(eventually([&] { return name_in("a") == "three"; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, ListOfUsersIsInForceAtOnce) {
  put("a", "one");
  start();
  EXPECT_EQ(name_in("a"), "one");
  ASSERT_EQ(::chmod(server_.path("").c_str(), 0755), 0);
  const auto as_other = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setresuid(4711, 4711, 4711) != 0) ::_exit(99);
      const int file = ::open(server_.in_namespace("a/name").c_str(), O_RDONLY);
      ::_exit(file >= 0 ? 0 : errno);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  };
  ASSERT_EQ(as_other(), 0);
  put("a", "one", "access = \"proxy\"\nallow_users = [0]\n");
  ASSERT_TRUE(ok(reload()));
  EXPECT_EQ(as_other(), EACCES);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, MistakeIsToldWithFileAndLineAndNothingChanges) {
  put("a", "one");
  start();
  remove("a");
  ASSERT_TRUE(ok(server_.write_file("shares.d/bad.toml", "\n[share.b]\ntype = \"bind\"\nsorce = \"/srv\"\n")));
  const std::string said = reload_says();
  EXPECT_TRUE(said.starts_with("EINVAL")) << said;
  EXPECT_NE(said.find(server_.path("shares.d/bad.toml") + ":4: "), std::string::npos) << said;
  EXPECT_NE(server_.log().find("reload: refused, and going on as before: " + server_.path("shares.d/bad.toml") + ":4"),
            std::string::npos);
  EXPECT_EQ(name_in("a"), "one");
  fs::remove(server_.path("shares.d/bad.toml"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, WhatAReloadCannotChangeIsSaid) {
  start();
  ASSERT_TRUE(ok(server_.write_file("berth.toml", "[berth]\nmax_nodes = 5000\n")));
  EXPECT_NE(reload_says().find("not changed by a reload: max_nodes"), std::string::npos) << answer();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, WhatTheLastOneCameToIsThereAfterTheServerDied) {
  put("a", "one");
  start();
  put("b", "two");
  const std::string said = reload_says();
  ASSERT_NE(said.find("+1 added"), std::string::npos) << said;
  ASSERT_TRUE(ok(server_.write_file("berth.toml", "nonsense\n")));
  ASSERT_FALSE(reload());
  const std::string refused = answer();
  EXPECT_NE(refused.find("berth.toml:1"), std::string::npos) << refused;
  server_.kill_server();
  EXPECT_EQ(answer(), refused);
  ASSERT_TRUE(ok(server_.write_file("berth.toml", "[berth]\n")));
  EXPECT_TRUE(ok(reload()));
  EXPECT_NE(answer(), refused);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, SignalReloadsEvenIfTheServerDies) {
  start();
  ASSERT_TRUE(
      ok(server_.write_file("berth.toml", "[share.a]\ntype = \"bind\"\nsource = \"" + make_source("one") + "\"\n")));
  ASSERT_EQ(::kill(server_.pid(), SIGHUP), 0);
  ::kill(server_.server_pid(), SIGKILL);
  EXPECT_TRUE(eventually([&] { return name_in("a") == "one"; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, DropInThatChangesIsReadByItself) {
  start();
  put("a", "one");
  EXPECT_TRUE(eventually([&] { return name_in("a") == "one"; }));
  remove("a");
  EXPECT_TRUE(eventually([&] { return ::access(server_.in_namespace("a").c_str(), F_OK) != 0; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, CommandsAddAndRemoveAShareAndSayWhatCameOfIt) {
  start();
  ASSERT_TRUE(
      ok(server_.write_file("berth.toml", "[share.old]\ntype = \"bind\"\nsource = \"" + make_source("one") + "\"\n")));
  EXPECT_EQ(berth({"add", "home/a", "--type", "bind", "--source", make_source("two"), "--set", "access=proxy"}),
            "wrote " + server_.path("shares.d/home%2Fa.toml") + "\n+2 added\n");
  EXPECT_EQ(name_in("home/a"), "two");
  const UniqueFd inside = open("home/a", O_RDONLY | O_DIRECTORY);
  EXPECT_NE(berth({"add", "old", "--type", "bind", "--source", "/srv"}).find("berth.toml:1"), std::string::npos);
  EXPECT_NE(berth({"remove", "old"}).find("berth.toml:1"), std::string::npos);
  EXPECT_EQ(berth({"remove", "home/a"}),
            "deleted " + server_.path("shares.d/home%2Fa.toml") + "\n1 removed (home/a: 1 user)\n");
  EXPECT_NE(::access(server_.in_namespace("home/a").c_str(), F_OK), 0);
  EXPECT_EQ(read_at(inside.get(), "name"), "two");
  EXPECT_TRUE(fs::is_empty(server_.path("shares.d")));
}

TEST_F(Reload, AddsAtOnceEachSayThatTheirShareIsThere) {
  start();
  std::vector<std::string> said(8);
  std::vector<std::thread> adders;
  for (std::size_t i = 0; i < said.size(); ++i) {
    const std::string source = make_source("s" + std::to_string(i));
    adders.emplace_back([this, &said, i, source] {
      said[i] = berth({"add", "a" + std::to_string(i), "--type", "bind", "--source", source});
    });
  }
  for (std::thread& adder : adders) adder.join();
  for (const std::string& one : said) EXPECT_EQ(one.find("nothing has changed"), std::string::npos) << one;
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Reload, WarningOfADropInThatOthersMayWriteIsTold) {
  put("a", "one");
  start();
  ASSERT_EQ(::chmod(drop_in("a").c_str(), 0666), 0);
  const std::string said = reload_says();
  EXPECT_TRUE(said.starts_with("nothing has changed\nwarning: " + drop_in("a") + ": ")) << said;
  EXPECT_NE(server_.log().find("reload: " + drop_in("a")), std::string::npos) << server_.log();
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A change of a drop-in that has nothing to do with it does not write it again.
TEST_F(Reload, WarningIsInTheLogOnceUnlessAReloadIsAskedFor) {
  put("a", "one");
  ASSERT_EQ(::chmod(drop_in("a").c_str(), 0666), 0);
  start();
  const auto count = [this] {
    const std::string log = server_.log();
    std::size_t found = 0;
    for (std::size_t at = log.find(drop_in("a")); at != std::string::npos; at = log.find(drop_in("a"), at + 1)) ++found;
    return found;
  };
  ASSERT_EQ(count(), 1U) << "the start";
  put("b", "two");
  ASSERT_TRUE(eventually([&] { return name_in("b") == "two"; }));
  EXPECT_EQ(count(), 1U);
  ASSERT_TRUE(ok(reload()));
  EXPECT_EQ(count(), 2U);
  ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
  EXPECT_EQ(count(), 3U) << "an upgrade is a start";
  EXPECT_EQ(server_.stop(), Ending{});
}

/// The files do not know of a share of the command line: the server refuses, and nothing is left that it would refuse
/// again.
TEST_F(Reload, WhatTheServerRefusesIsUndone) {
  ASSERT_TRUE(ok(server_.start("", {"--share", "a=" + make_source("one")})));
  const std::string said = berth({"add", "a/b", "--type", "bind", "--source", make_source("two")});
  EXPECT_NE(said.find("--share"), std::string::npos) << said;
  EXPECT_TRUE(fs::is_empty(server_.path("shares.d")));
  EXPECT_EQ(reload_says(), "nothing has changed\n");
}

/// Adds, removes and changes shares at random, with callers inside and the server killed and upgraded in between: each
/// caller stays where it went in, and each name leads to what is configured.
TEST_F(Reload, CallersStayWhereTheyWentInOverManyReloads) {
  put("always", "always0");
  start();
  std::mt19937 random(7);
  const auto below = [&random](unsigned count) { return random() % count; };
  struct Caller {
    UniqueFd directory, file;
    std::string source;
    int written = 0;
  };
  std::map<std::string, std::string> shares;
  std::vector<Caller> callers;
  int sources = 0;
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    const std::string name(1, static_cast<char>('a' + below(3)));
    const bool is_there = shares.contains(name);
    if (is_there && below(2) == 0) {
      remove(name);
      shares.erase(name);
    } else {
      shares[name] = "source" + std::to_string(++sources);
      put(name, shares[name]);
    }
    ASSERT_TRUE(ok(reload()));
    if (round % 20 == 7) server_.kill_server();
    if (round % 50 == 31) {
      ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    }
    for (const auto& [share, source] : shares) {
      // A changed share leads to the old source while that is in use.
      const std::string led_to = name_in(share);
      const bool is_held =
          std::any_of(callers.begin(), callers.end(), [&](const Caller& caller) { return caller.source == led_to; });
      ASSERT_TRUE(led_to == source || is_held ||
                  eventually([&, &share = share, &source = source] { return name_in(share) == source; }))
          << led_to;
    }
    if (below(2) == 0 && shares.contains(name)) {
      Caller caller{.directory = open(name, O_PATH | O_DIRECTORY),
                    .file = open(name + "/log" + std::to_string(round), O_CREAT | O_WRONLY | O_APPEND),
                    .source = ""};
      caller.source = read_at(caller.directory.get(), "name");
      callers.push_back(std::move(caller));
    }
    for (Caller& caller : callers) {
      ASSERT_TRUE(append(caller.file.get(), "x")) << errno_name(errno);
      ASSERT_EQ(read_at(caller.directory.get(), "name"), caller.source);
      ++caller.written;
    }
    if (callers.size() > 6) callers.erase(callers.begin() + static_cast<std::ptrdiff_t>(below(6)));
  }
  callers.clear();
  for (const auto& [share, source] : shares) remove(share);
  ASSERT_TRUE(ok(reload()));
  EXPECT_TRUE(eventually([&] { return server_.read_json("status.json")["shares"].size() == 1; }))
      << server_.read_control("status").value_or("");
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
