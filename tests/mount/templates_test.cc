#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "src/lib/sys/process.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

using Names = std::set<std::string>;

constexpr uid_t kAlice = 4001;
constexpr uid_t kBob = 4002;

pid_t server_of(const BerthServer& server) { return server.read_json("status.json").value("server_pid", 0); }

/// What `act` returns in a process of that user; -1: it did not end by itself.
int as_user(uid_t user, const std::function<int()>& act) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(user) != 0 || ::setuid(user) != 0) ::_exit(126);
    ::_exit(act());
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

int code_of_stat(const std::string& path) {
  struct stat attributes {};
  return ::stat(path.c_str(), &attributes) == 0 ? 0 : errno;
}

/// Homes of some users, shared by a template.
class Templates : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* user : {"alice", "bob", "carol"}) {
      server_.make_directory(std::string("homes/") + user);
      EXPECT_TRUE(ok(server_.write_file(std::string("homes/") + user + "/name", user)));
    }
  }
  [[nodiscard]] std::string section(const std::string& more = "access = \"proxy\"\n",
                                    const std::string& name = "home/*") const {
    return "[share.\"" + name + "\"]\ntype = \"bind\"\nsource = \"" + server_.path("homes") + "/&\"\n" + more;
  }
  [[nodiscard]] std::string name_in(const std::string& share) const {
    const Result<std::string> text = server_.read_file("namespace/" + share + "/name");
    return text ? *text : errno_name(text.error().code());
  }
  [[nodiscard]] Names list(const std::string& directory) const {
    Names names;
    for (const auto& entry : fs::directory_iterator(server_.in_namespace(directory)))
      names.insert(entry.path().filename());
    return names;
  }
  [[nodiscard]] int stat_of(const std::string& name) const { return code_of_stat(server_.in_namespace(name)); }
  void kill_server() {
    const pid_t server = server_of(server_);
    ASSERT_GT(server, 0);
    ASSERT_EQ(::kill(server, SIGKILL), 0);
    ASSERT_TRUE(eventually([&] {
      const pid_t next = server_of(server_);
      return next > 0 && next != server;
    }));
  }

  BerthServer server_;
};

TEST_F(Templates, ShareIsThereWhenItIsLookedUpAndMountedWhenAProgramGoesIn) {
  ASSERT_TRUE(ok(server_.start(section())));
  EXPECT_EQ(list(""), (Names{".berth", "home"}));
  EXPECT_EQ(list("home"), Names{});
  EXPECT_EQ(stat_of("home/alice"), 0);
  EXPECT_EQ(list("home"), Names{"alice"});
  EXPECT_EQ(server_.state("home/alice"), "idle");
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(server_.state("home/alice"), "mounted");
  EXPECT_EQ(stat_of("home/dave"), ENOENT);
  EXPECT_EQ(list("home"), Names{"alice"});
  // What cannot be made by a program is not, and is no share either.
  EXPECT_EQ(::mkdir(server_.in_namespace("home/dave").c_str(), 0755), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, NativeFromTheFirstTouchAsOtherShares) {
  ASSERT_TRUE(ok(server_.start(section(""))));
  EXPECT_EQ(name_in("home/alice"), "alice");
  const UniqueFd inside(::open(server_.in_namespace("home/bob").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(inside);
  EXPECT_EQ(server_.read_json("shares/home/alice/status.json").value("native", false),
            server_.read_json("shares/home/bob/status.json").value("native", false));
  kill_server();
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(::faccessat(inside.get(), "name", R_OK, 0), 0);
  EXPECT_EQ(name_in("home/carol"), "carol");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, SurviveTheServerWithThoseWhoseUsersAreInside) {
  ASSERT_TRUE(ok(server_.start(section())));
  UniqueFd file(
      ::open(server_.in_namespace("home/alice/log").c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0644));
  ASSERT_TRUE(file);
  for (const char* user : {"bob", "carol"}) {
    kill_server();
    EXPECT_EQ(::write(file.get(), "x", 1), 1);
    EXPECT_EQ(name_in("home/alice"), "alice");
    EXPECT_EQ(name_in(std::string("home/") + user), user);
    EXPECT_EQ(stat_of("home/dave"), ENOENT);
    ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    EXPECT_EQ(::write(file.get(), "x", 1), 1);
  }
  // The template ends: its users go on.
  ASSERT_TRUE(ok(server_.write_file("berth.toml", "[berth]\n")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(stat_of("home"), ENOENT);
  EXPECT_EQ(stat_of("home/alice"), ENOENT);
  EXPECT_EQ(::write(file.get(), "x", 1), 1);
  file.reset();
  EXPECT_EQ(server_.read_file("homes/alice/log").value_or(""), "xxxxx");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, TemplateThatIsAddedIsThereAtOnce) {
  ASSERT_TRUE(ok(server_.start("")));
  EXPECT_EQ(stat_of("home"), ENOENT);
  ASSERT_TRUE(ok(server_.write_file("berth.toml", section())));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(list(""), (Names{".berth", "home"}));
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, HostileNamesAreAbsentAndLeaveNothing) {
  ASSERT_TRUE(ok(server_.write_file("outside", "secret")));
  ASSERT_TRUE(ok(server_.start(section() + section("access = \"proxy\"\n", "*"))));
  const std::vector<std::string> hostile{"a\nb", "-o",    "a,suid", "{source}", "*",         "a\xff\xfe",
                                         "\x01", "a\x7f", "&&",     "$(id)",    "..outside", std::string(255, 'x')};
  for (const std::string& name : hostile) {
    for (const std::string& prefix : {std::string(), std::string("home/")}) {
      EXPECT_EQ(stat_of(prefix + name), ENOENT) << ::testing::PrintToString(prefix + name);
    }
  }
  EXPECT_EQ(stat_of("home/" + std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(list(""), (Names{".berth", "home"}));
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(name_in("bob"), "bob");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, CallerThatMayNotGoInHasNothingMade) {
  ASSERT_TRUE(ok(server_.start(section("allow_users = [" + std::to_string(kAlice) + "]\n"))));
  const std::string path = server_.in_namespace("home/alice");
  EXPECT_EQ(as_user(kBob, [&] { return code_of_stat(path); }), EACCES);
  EXPECT_EQ(list("home"), Names{});
  EXPECT_EQ(as_user(kAlice, [&] { return code_of_stat(path); }), 0);
  EXPECT_EQ(list("home"), Names{"alice"});
  EXPECT_EQ(server_.stop(), Ending{});
}

/// "daemon" and "bin" are users of each host (1 and 2 on Debian).
TEST_F(Templates, ShareOfTheUserThatItsNameSays) {
  for (const char* user : {"daemon", "bin"}) {
    server_.make_directory(std::string("homes/") + user);
    ASSERT_TRUE(ok(server_.write_file(std::string("homes/") + user + "/name", user)));
  }
  ASSERT_TRUE(ok(server_.start(section("allow_users = [\"&\"]\n"))));
  const auto enters = [&](uid_t user, const std::string& name) {
    return as_user(user, [&] { return code_of_stat(server_.in_namespace(name)); });
  };
  EXPECT_EQ(enters(2, "home/daemon/name"), EACCES);
  EXPECT_EQ(list("home"), Names{}) << "another user has nothing made";
  EXPECT_EQ(enters(1, "home/daemon/name"), 0);
  EXPECT_EQ(enters(2, "home/daemon/name"), EACCES);
  EXPECT_EQ(enters(2, "home/bin/name"), 0);
  // Not a user, though its source is there.
  EXPECT_EQ(stat_of("home/alice"), ENOENT);
  kill_server();
  EXPECT_EQ(enters(1, "home/daemon/name"), 0);
  EXPECT_EQ(enters(1, "home/bin/name"), EACCES);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, ShareWithTheCallersVariablesIsOfThatCallerAlone) {
  server_.make_directory("homes/daemon");
  ASSERT_TRUE(ok(server_.write_file("homes/daemon/name", "daemon")));
  ASSERT_TRUE(
      ok(server_.start("[share.\"mine/*\"]\ntype = \"bind\"\nsource = \"" + server_.path("homes") + "/${user}\"\n")));
  const auto enters = [&](uid_t user) {
    return as_user(user, [&] { return code_of_stat(server_.in_namespace("mine/x/name")); });
  };
  EXPECT_EQ(enters(1), 0);
  EXPECT_EQ(enters(2), EACCES);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, CommandAttachesWhatWasNotLookedUpYet) {
  ASSERT_TRUE(ok(server_.start(section())));
  const auto attach = [&](const std::string& share) {
    return sys::run({std::getenv("BERTH"), "attach", "--namespace", server_.namespace_path(), share, "vm", "disk"},
                    std::chrono::steady_clock::now() + std::chrono::seconds(30));
  };
  const auto done = attach("home/alice");
  ASSERT_TRUE(ok(done));
  EXPECT_EQ(done->output, "");
  EXPECT_EQ(server_.state("home/alice"), "mounted");
  const auto absent = attach("home/dave");
  ASSERT_TRUE(ok(absent));
  EXPECT_NE(absent->output.find("no such share"), std::string::npos);
  // And it is there after a restart of all of berth.
  EXPECT_EQ(server_.stop(), Ending{});
  ASSERT_TRUE(ok(server_.start(section())));
  EXPECT_TRUE(server_.wait_for_state("home/alice", "mounted"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, ScanOfManyNamesByOneUserLeavesOthersAlone) {
  ASSERT_TRUE(ok(server_.start(section())));
  std::thread scan([&] {
    EXPECT_EQ(as_user(kBob,
                      [&] {
                        for (int i = 0; i < 20000; ++i) {
                          if (code_of_stat(server_.in_namespace("home/no" + std::to_string(i))) != ENOENT) return 1;
                        }
                        return 0;
                      }),
              0);
  });
  EXPECT_EQ(as_user(kAlice, [&] { return code_of_stat(server_.in_namespace("home/alice/name")); }), 0);
  EXPECT_EQ(as_user(kAlice, [&] { return code_of_stat(server_.in_namespace("home/carol/name")); }), 0);
  scan.join();
  EXPECT_EQ(list("home"), (Names{"alice", "carol"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

/// Names are looked up while templates come and go: each look-up ends, and is right by one of the two catalogs.
TEST_F(Templates, LookUpsGoOnWhileTheCatalogChanges) {
  ASSERT_TRUE(ok(server_.start(section())));
  std::vector<std::thread> lookers;
  for (int i = 0; i < 4; ++i) {
    lookers.emplace_back([&, i] {
      for (int n = 0; n < 3000; ++n) {
        const char* const user =
            std::vector<const char*>{"alice", "bob", "carol", "dave"}[static_cast<std::size_t>(n + i) % 4];
        const int code = code_of_stat(server_.in_namespace(std::string("home/") + user + "/name"));
        EXPECT_TRUE(code == 0 || code == ENOENT) << user << ": " << errno_name(code);
      }
    });
  }
  for (int round = 0; round < 10; ++round) {
    ASSERT_TRUE(ok(server_.write_file("berth.toml", round % 2 == 0 ? "[berth]\n" : section())));
    ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  }
  for (std::thread& looker : lookers) looker.join();
  // The kernel may hold a name for absent that was looked up in vain a second ago.
  EXPECT_TRUE(eventually([&] { return name_in("home/alice") == "alice"; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
