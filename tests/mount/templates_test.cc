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
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "src/lib/sys/file.h"
#include "src/lib/sys/process.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

namespace fs = std::filesystem;

using Names = std::set<std::string>;

constexpr uid_t kAlice = 4001;
constexpr uid_t kBob = 4002;

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
  server_.kill_server();
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
    server_.kill_server();
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
  server_.kill_server();
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

/// Homes whose places a program knows.
class TemplatesByProgram : public Templates {
 protected:
  /// A script that is given the key as $1, in the server's directory.
  void write_program(const std::string& script) const {
    ASSERT_TRUE(ok(server_.write_file("find", "#!/bin/sh\ncd " + server_.path("") + "\n" + script)));
    fs::permissions(server_.path("find"), fs::perms::owner_all);
  }
  [[nodiscard]] std::string by_program(const std::string& more = "") const {
    return "[share.\"home/*\"]\nprogram = [\"" + server_.path("find") + "\", \"{key}\"]\naccess = \"proxy\"\n" + more;
  }
  [[nodiscard]] std::string status_of(const std::string& share) const {
    const auto done = sys::run({std::getenv("BERTH"), "status", "--namespace", server_.namespace_path(), share},
                               std::chrono::steady_clock::now() + std::chrono::seconds(30));
    return done ? done->output : done.error().message();
  }
  /// Lines of a file that programs append to.
  [[nodiscard]] std::vector<std::string> lines_of(const std::string& file) const {
    std::vector<std::string> lines;
    std::istringstream text(server_.read_file(file).value_or(""));
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }
  /// Programs that run, by their arguments: their numbers are those of the server's pid namespace.
  [[nodiscard]] std::size_t count_programs() const {
    std::size_t count = 0;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const Result<std::string> arguments = sys::read_file(entry.path().string() + "/cmdline", 4096);
      if (arguments && arguments->find(server_.path("find")) != std::string::npos) ++count;
    }
    return count;
  }
};

TEST_F(TemplatesByProgram, ShareIsWhatItPrintsAsTomlOrAsAnEntryOfAMap) {
  write_program(R"(echo "$1" >> asked
case "$1" in
  alice) printf 'type = "bind"\nsource = "%s"\n' "$PWD/homes/alice" ;;
  bob) echo "-fstype=bind,ro :$PWD/homes/bob" ;;
  nobody) exit 67 ;;
esac
)");
  ASSERT_TRUE(ok(server_.start(by_program())));
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(name_in("home/bob"), "bob");
  EXPECT_EQ(::mkdir(server_.in_namespace("home/bob/x").c_str(), 0755), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(stat_of("home/nobody"), ENOENT);
  EXPECT_EQ(stat_of("home/carol"), ENOENT);
  for (const char* name : {"home/-rf", "home/a b", "home/$(touch x)", "home/a\nb", "home/;id"}) {
    EXPECT_EQ(stat_of(name), ENOENT) << name;
  }
  EXPECT_EQ(list("home"), (Names{"alice", "bob"}));
  server_.kill_server();
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(lines_of("asked"), (std::vector<std::string>{"alice", "bob", "nobody", "carol"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, ExecutableMapOfAutofsIsAskedWithItsVariables) {
  write_program("env > environment\necho \"-fstype=bind :$PWD/$DIRECTORY/$1\"\n");
  ASSERT_TRUE(
      ok(server_.write_file("auto.master", "/home " + server_.path("find") + " -DDIRECTORY=homes --timeout=60\n")));
  ASSERT_TRUE(ok(server_.start("[[map]]\nautofs = \"" + server_.path("auto.master") + "\"\n")));
  EXPECT_EQ(name_in("home/alice"), "alice");
  Names lines;
  for (const std::string& line : lines_of("environment")) lines.insert(line);
  EXPECT_TRUE(lines.contains("AUTOFS_USER=root"));
  EXPECT_TRUE(lines.contains("AUTOFS_UID=0"));
  EXPECT_TRUE(lines.contains("AUTOFS_HOME=/root"));
  EXPECT_TRUE(lines.contains("DIRECTORY=homes"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, BrowsedNamesAreListedAndNothingIsMadeOfThem) {
  write_program(R"(echo "$1" >> asked
[ "$1" = --list ] && { cat names; exit; }
printf 'type = "bind"\nsource = "%s"\n' "$PWD/homes/$1"
)");
  ASSERT_TRUE(ok(server_.write_file("names", "carol\nalice\nalice\n\n-rf\na/b\nbob\n")));
  ASSERT_TRUE(ok(server_.start(by_program("browse = true\nnegative_timeout = \"1s\"\n"))));
  EXPECT_EQ(list("home"), (Names{"alice", "bob", "carol"}));
  EXPECT_EQ(list("home"), (Names{"alice", "bob", "carol"}));
  EXPECT_EQ(server_.read_json("status.json")["shares"].size(), 0U);
  EXPECT_EQ(lines_of("asked"), (std::vector<std::string>{"--list"}));
  for (const char* name : {"home/alice", "home/bob", "home/carol"}) {
    EXPECT_EQ(stat_of(name), 0);
    EXPECT_EQ(server_.state(name), "idle");
  }
  EXPECT_EQ(name_in("home/alice"), "alice");
  ASSERT_TRUE(ok(server_.write_file("names", "dave\n")));
  EXPECT_TRUE(eventually([&] { return list("home") == Names{"alice", "bob", "carol", "dave"}; }));
  server_.kill_server();
  EXPECT_EQ(list("home"), (Names{"alice", "bob", "carol", "dave"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, ListThatCannotBeHadLeavesTheSharesAndIsShown) {
  write_program(
      "[ \"$1\" = --list ] && { echo no ldap1 >&2; exit 1; }\n"
      "printf 'type = \"bind\"\\nsource = \"%s\"\\n' \"$PWD/homes/$1\"\n");
  ASSERT_TRUE(ok(server_.start(by_program("browse = true\n"))));
  EXPECT_EQ(list("home"), Names{});
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(list("home"), Names{"alice"});
  EXPECT_EQ(server_.read_json("status.json")["failed_look_ups"][0].value("name", ""), "home/*");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, ListThatHangsLeavesTheDirectory) {
  write_program("[ \"$1\" = --list ] && sleep 1000\nprintf 'type = \"bind\"\\nsource = \"%s\"\\n' \"$PWD/homes/$1\"\n");
  ASSERT_TRUE(ok(server_.start(by_program("browse = true\nlookup_timeout = \"1s\"\n"))));
  EXPECT_EQ(name_in("home/alice"), "alice");
  EXPECT_EQ(list("home"), Names{"alice"});
  EXPECT_TRUE(eventually([&] { return count_programs() == 0; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Templates, BrowsedDirectoryShowsWhatIsInItsSource) {
  ASSERT_TRUE(ok(server_.start(section("browse = true\naccess = \"proxy\"\n"))));
  EXPECT_EQ(list("home"), (Names{"alice", "bob", "carol"}));
  EXPECT_EQ(server_.read_json("status.json")["shares"].size(), 0U);
  EXPECT_EQ(name_in("home/bob"), "bob");
  EXPECT_EQ(list("home"), (Names{"alice", "bob", "carol"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, FailureIsAnErrorOfThatKeyWithTheReasonAndNoSecret) {
  write_program(R"(case "$1" in
  alice) echo "cannot bind with $TOKEN to ldap1" >&2; exit 3 ;;
  bob) echo 'source = nonsense' ;;
  carol) head -c 100000 /dev/zero | tr '\0' x ;;
  denied) echo 'Permission denied' >&2; exit 1 ;;
  inside) printf 'type = "bind"\nsource = "%s/namespace/x"\n' "$PWD" ;;
esac
)");
  ASSERT_TRUE(ok(server_.start(by_program("environment = { TOKEN = \"hunter2secret\" }\n"))));
  EXPECT_EQ(stat_of("home/alice"), EHOSTDOWN);
  EXPECT_EQ(stat_of("home/bob"), EHOSTDOWN);
  EXPECT_EQ(stat_of("home/carol"), EHOSTDOWN);
  EXPECT_EQ(stat_of("home/denied"), EACCES);
  EXPECT_EQ(stat_of("home/inside"), EHOSTDOWN);
  EXPECT_EQ(list("home"), Names{});
  const std::string told = status_of("home/alice");
  EXPECT_NE(told.find("cannot bind with *** to ldap1"), std::string::npos) << told;
  EXPECT_NE(told.find("exit status 3"), std::string::npos) << told;
  const auto json = server_.read_json("status.json")["failed_look_ups"];
  EXPECT_EQ(json.size(), 5U) << json.dump();
  EXPECT_EQ(json.dump().find("hunter2"), std::string::npos);
  write_program("printf 'type = \"bind\"\\nsource = \"%s\"\\n' \"$PWD/homes/$1\"\n");
  EXPECT_TRUE(eventually([&] { return name_in("home/alice") == "alice"; }));
  EXPECT_EQ(server_.read_json("status.json")["failed_look_ups"].size(), 4U);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, RunsWithACleanEnvironmentAndNoDescriptorOfBerths) {
  write_program("env > environment\nls /proc/self/fd > descriptors\n");
  ::setenv("BERTH_TEST_LEFT_OVER", "1", 1);
  ASSERT_TRUE(ok(server_.start(by_program("environment = { LDAP = \"ldap1\" }\n"))));
  ::unsetenv("BERTH_TEST_LEFT_OVER");
  EXPECT_EQ(stat_of("home/alice"), ENOENT);
  Names names;
  for (const std::string& line : lines_of("environment")) names.insert(line.substr(0, line.find('=')));
  for (const char* of_shell : {"PWD", "OLDPWD", "SHLVL", "_"}) names.erase(of_shell);
  EXPECT_EQ(names, (Names{"HOME", "LC_ALL", "LDAP", "PATH"}));
  EXPECT_EQ(lines_of("descriptors").size(), 4U) << "0, 1, 2 and the directory that ls reads";
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, OneThatHangsIsEndedWithAllThatItStarted) {
  write_program("setsid sh -c 'sleep 1000; true' \"$PWD/find\" &\necho waiting for ldap1 >&2\nwait\n");
  ASSERT_TRUE(ok(server_.start(by_program("lookup_timeout = \"1s\"\n"))));
  EXPECT_EQ(stat_of("home/alice"), ETIMEDOUT);
  EXPECT_TRUE(eventually([&] { return status_of("home/alice").find("waiting for ldap1") != std::string::npos; }));
  EXPECT_TRUE(eventually([&] { return count_programs() == 0; }));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TemplatesByProgram, HangingLookUpsOfOneUserHoldNoOtherUserUpAndCanBeInterrupted) {
  write_program(R"(case "$1" in
  hang*) echo "$1" >> hanging; sleep 1000 ;;
esac
printf 'type = "bind"\nsource = "%s"\n' "$PWD/homes/$1"
)");
  ASSERT_TRUE(ok(server_.start(by_program("lookup_timeout = \"10m\"\n"))));
  std::vector<pid_t> callers;
  for (int i = 0; i < 80; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setgroups(0, nullptr) != 0 || ::setgid(kBob) != 0 || ::setuid(kBob) != 0) ::_exit(126);
      ::_exit(code_of_stat(server_.in_namespace("home/hang" + std::to_string(i))));
    }
    callers.push_back(child);
  }
  ASSERT_TRUE(eventually([&] { return lines_of("hanging").size() == 4; }));
  EXPECT_EQ(as_user(kAlice, [&] { return code_of_stat(server_.in_namespace("home/alice/name")); }), 0);
  EXPECT_EQ(as_user(kAlice, [&] { return code_of_stat(server_.in_namespace("home/carol/name")); }), 0);
  EXPECT_EQ(lines_of("hanging").size(), 4U);
  for (const pid_t caller : callers) {
    int status = 0;
    EXPECT_EQ(::kill(caller, SIGTERM), 0);
    EXPECT_EQ(::waitpid(caller, &status, 0), caller);
    EXPECT_TRUE(WIFSIGNALED(status));
  }
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_TRUE(eventually([&] { return count_programs() == 0; }));
}

TEST_F(TemplatesByProgram, LookUpThatIsUnderWayIsAnsweredByTheNextServerAndItsProgramIsEnded) {
  write_program(R"(echo "$1" >> running
while [ ! -e gate ]; do sleep 0.05; done
printf 'type = "bind"\nsource = "%s"\n' "$PWD/homes/$1"
)");
  ASSERT_TRUE(ok(server_.start(by_program("lookup_timeout = \"1m\"\n"))));
  std::size_t runs = 0;
  for (const bool is_killed : {true, false}) {
    const std::string user = is_killed ? "alice" : "bob";
    std::string found;
    std::thread caller([&] { found = name_in("home/" + user); });
    ++runs;
    EXPECT_TRUE(eventually([&] { return lines_of("running").size() == runs; }));
    if (is_killed) {
      server_.kill_server();
    } else {
      EXPECT_TRUE(ok(server_.write_control("control", "upgrade")));
    }
    ++runs;
    EXPECT_TRUE(eventually([&] { return lines_of("running").size() == runs; }));
    EXPECT_TRUE(eventually([&] { return count_programs() == 1; }));
    EXPECT_TRUE(ok(server_.write_file("gate", "")));
    caller.join();
    EXPECT_EQ(found, user);
    fs::remove(server_.path("gate"));
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
