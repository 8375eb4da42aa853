// Entries of autofs maps as shares of a running berth.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "src/lib/sys/process.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

TEST(AutofsMaps, EntriesAndWildcardsAreSharesAndAreReadAgainAtAReload) {
  BerthServer server;
  for (const std::string user : {"alice", "bob"}) {
    server.make_directory("homes/" + user);
    ASSERT_TRUE(ok(server.write_file("homes/" + user + "/name", user)));
  }
  const auto write_map = [&server](const std::string& entries) {
    ASSERT_TRUE(ok(server.write_file("auto.home", entries)));
  };
  ASSERT_TRUE(ok(server.write_file("auto.master", "/home auto.home\n/net -hosts\n")));
  write_map("fixed -fstype=bind,ro :" + server.path("homes/alice") + "\n* :" + server.path("homes") + "/&\n");
  ASSERT_TRUE(ok(server.start("[[map]]\nautofs = \"" + server.path("auto.master") + "\"\n")));
  const auto name_in = [&server](const std::string& share) {
    return server.read_file("namespace/home/" + share + "/name").value_or("none");
  };
  EXPECT_EQ(name_in("fixed"), "alice");
  EXPECT_EQ(name_in("bob"), "bob");
  EXPECT_EQ(name_in("carol"), "none");

  write_map("more :" + server.path("homes/bob") + "\nbad\n");
  ASSERT_TRUE(ok(server.write_control("control", "reload")));
  EXPECT_EQ(name_in("more"), "bob");
  EXPECT_EQ(name_in("fixed"), "none");
  EXPECT_EQ(name_in("alice"), "none");
}

using Names = std::set<std::string>;

Names names_in(const std::string& directory) {
  Names names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) names.insert(entry.path().filename());
  return names;
}

/// A berth with maps of directories of its own.
class Maps : public ::testing::Test {
 protected:
  std::string make_source(const std::string& name) {
    server_.make_directory("dirs/" + name);
    EXPECT_TRUE(ok(server_.write_file("dirs/" + name + "/name", name)));
    return server_.path("dirs/" + name);
  }
  void write_program(const std::string& name, const std::string& text) {
    ASSERT_TRUE(ok(server_.write_file(name, "#!/bin/sh\n" + text)));
    ASSERT_EQ(::chmod(server_.path(name).c_str(), 0755), 0);
  }
  Result<> start(const std::string& master) {
    EXPECT_TRUE(ok(server_.write_file("auto.master", master)));
    return server_.start("[[map]]\nautofs = \"" + server_.path("auto.master") + "\"\n");
  }
  [[nodiscard]] std::string name_in(const std::string& share) const {
    return server_.read_file("namespace/" + share + "/name").value_or("none");
  }

  BerthServer server_;
};

TEST_F(Maps, EntryOfAProgramWithOffsetsIsADirectoryOfShares) {
  const std::string entry =
      "-fstype=bind,use-weight-only /usr :" + make_source("usr") + " \\\n\t/src/linux :" + make_source("linux");
  write_program("auto.multi", "[ \"$1\" = tools ] && cat '" + server_.path("entry") + "'\n[ \"$1\" = tools ]\n");
  ASSERT_TRUE(ok(server_.write_file("entry", entry + "\n")));
  ASSERT_TRUE(ok(start("/m " + server_.path("auto.multi") + "\n")));
  EXPECT_EQ(name_in("m/tools/usr"), "usr");
  EXPECT_EQ(name_in("m/tools/src/linux"), "linux");
  EXPECT_EQ(names_in(server_.in_namespace("m/tools")), (Names{"src", "usr"}));
  EXPECT_EQ(names_in(server_.in_namespace("m")), (Names{"tools"}));
  EXPECT_NE(server_.log().find("use-weight-only"), std::string::npos) << "what is not carried over is told";
  EXPECT_EQ(server_.log().find("was killed"), std::string::npos);
  server_.kill_server();
  EXPECT_EQ(name_in("m/tools/usr"), "usr");
  ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
  EXPECT_EQ(name_in("m/tools/src/linux"), "linux");
  // Without the map nothing is left of it.
  ASSERT_TRUE(ok(server_.write_file("auto.master", "")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(name_in("m/tools/usr"), "none");
  EXPECT_EQ(names_in(server_.namespace_path()), (Names{".berth"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

/// What `argv` of the user `user` writes; "failed" when it fails.
std::string output_of(uid_t user, std::vector<std::string> argv) {
  argv.insert(argv.begin(), {"setpriv", "--reuid=" + std::to_string(user), "--clear-groups"});
  const auto done = sys::run(argv, std::chrono::steady_clock::now() + std::chrono::seconds(20));
  return done && done->status.success() ? done->output : "failed";
}

TEST_F(Maps, EntryOfAProgramWithTheUserThatAsksIsForThatUserAlone) {
  write_program("auto.user", "echo '-fstype=tmpfs,uid=$UID,gid=$GID,mode=0700 :x'\n");
  write_program("auto.plain", "echo '-fstype=tmpfs,mode=0777 :x'\n");
  ASSERT_TRUE(
      ok(start("/p program:" + server_.path("auto.user") + "\n/q program:" + server_.path("auto.plain") + "\n")));
  const std::string mine = server_.in_namespace("p/mine");
  EXPECT_EQ(output_of(2, {"touch", mine + "/file"}), "");
  EXPECT_EQ(output_of(2, {"stat", "-c", "%u:%g", mine}), "2:2\n") << server_.log();
  EXPECT_EQ(output_of(1, {"ls", mine}), "failed");
  EXPECT_EQ(output_of(1, {"touch", mine + "/other"}), "failed");
  EXPECT_EQ(output_of(2, {"ls", mine}), "file\n") << "as before";
  server_.kill_server();
  EXPECT_EQ(output_of(1, {"ls", mine}), "failed");
  EXPECT_EQ(output_of(2, {"ls", mine}), "file\n");
  EXPECT_EQ(output_of(1, {"ls", server_.in_namespace("p/theirs")}), "");
  EXPECT_EQ(output_of(1, {"stat", "-c", "%u:%g", server_.in_namespace("p/theirs")}), "1:1\n");
  // A user without a group in the database is refused, and no other user with it.
  EXPECT_EQ(output_of(4711, {"ls", server_.in_namespace("p/next")}), "failed");
  EXPECT_NE(server_.log().find("the user that asks has no \"${gid}\""), std::string::npos) << server_.log();
  EXPECT_EQ(output_of(2, {"ls", server_.in_namespace("p/next")}), "");
  EXPECT_EQ(output_of(1, {"touch", server_.in_namespace("q/any/file")}), "");
  EXPECT_EQ(output_of(2, {"ls", server_.in_namespace("q/any")}), "file\n");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Maps, MountWithinAnotherOneIsNeverTheOtherDirectory) {
  const std::string a = make_source("a");
  make_source("a/sub");
  const std::string entry = "-fstype=bind / :" + a + " /sub :" + make_source("b") + "\n";
  ASSERT_TRUE(ok(server_.write_file("auto.m", "two " + entry + "one -fstype=bind :" + a + "\n")));
  write_program("auto.p", "echo '" + entry.substr(0, entry.size() - 1) + "'\n");
  ASSERT_TRUE(ok(start("/m auto.m\n/p program:" + server_.path("auto.p") + "\n")));
  EXPECT_EQ(name_in("m/two/sub"), "none");
  EXPECT_EQ(name_in("m/two"), "none");
  EXPECT_EQ(name_in("m/one"), "a");
  EXPECT_NE(server_.log().find("auto.m:1: the mount at \"/sub\" lies within the one at \"/\""), std::string::npos);
  EXPECT_EQ(name_in("p/two/sub"), "none");
  EXPECT_EQ(::access(server_.in_namespace("p/two").c_str(), F_OK), -1);
  EXPECT_EQ(errno, EHOSTDOWN) << "not absent";
  const std::size_t told = server_.log().find("auto.p has answered what is no share: the mount at");
  EXPECT_NE(told, std::string::npos) << server_.log();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Maps, NobrowseHidesKeysUntilTheyAreUsed) {
  ASSERT_TRUE(ok(server_.write_file("autofs.conf", "[ autofs ]\nbrowse_mode = no\n")));
  for (const char* const map : {"auto.hidden", "auto.shown", "auto.said"}) {
    ASSERT_TRUE(ok(server_.write_file(
        map, "one -fstype=bind :" + make_source("one") + "\ntwo -fstype=bind :" + make_source("two") + "\n")));
  }
  ASSERT_TRUE(ok(start("/hidden auto.hidden --timeout=1\n/shown auto.shown browse\n/said auto.said nobrowse\n")));
  EXPECT_EQ(names_in(server_.namespace_path()), (Names{".berth", "hidden", "said", "shown"}));
  EXPECT_EQ(names_in(server_.in_namespace("shown")), (Names{"one", "two"}));
  EXPECT_EQ(names_in(server_.in_namespace("said")), Names{});
  EXPECT_EQ(names_in(server_.in_namespace("hidden")), Names{});
  EXPECT_EQ(name_in("hidden/two"), "two");
  EXPECT_EQ(names_in(server_.in_namespace("hidden")), (Names{"two"}));
  EXPECT_EQ(name_in("hidden/one"), "one");
  EXPECT_EQ(names_in(server_.in_namespace("hidden")), (Names{"one", "two"}));
  server_.kill_server();
  EXPECT_EQ(names_in(server_.in_namespace("hidden")), (Names{"one", "two"}));
  EXPECT_TRUE(eventually([&] { return names_in(server_.in_namespace("hidden")).empty(); })) << "when it is idle";
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A map that is away for a moment must not take the shares of programs with it, and what is wrong is told to the one
/// that asks.
TEST_F(Maps, MapThatCannotBeReadKeepsItsSharesAndTheAnswerSaysSo) {
  write_program("auto.made", "[ \"$1\" = made ] && echo '-fstype=bind :" + make_source("made") + "'\n");
  ASSERT_TRUE(ok(server_.write_file("auto.m", "one -fstype=bind :" + make_source("one") + "\n")));
  ASSERT_TRUE(ok(server_.write_file(
      "auto.n", "two -fstype=bind :" + make_source("two") + "\nthree -fstype=bind :" + make_source("three") + "\n")));
  ASSERT_TRUE(ok(start("/m auto.m\n/n auto.n\n/p " + server_.path("auto.made") + "\n")));
  EXPECT_EQ(name_in("p/made"), "made");
  const std::string log_before = server_.log();
  std::filesystem::rename(server_.path("auto.m"), server_.path("away"));
  std::filesystem::rename(server_.path("auto.made"), server_.path("made-away"));
  ASSERT_TRUE(ok(server_.write_file("auto.n", "two -fstype=bind\n")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload-dry-run")));
  const std::string tried = server_.read_control("reload-dry-run").value_or("");
  EXPECT_TRUE(tried.starts_with("2 removed\nwarning: ")) << tried;
  EXPECT_EQ(server_.read_control("reload").value_or("?"), "") << "nothing has been read again yet";
  EXPECT_EQ(server_.log(), log_before);
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  const std::string said = server_.read_control("reload").value_or("");
  EXPECT_EQ(said, tried);
  for (const std::string& place :
       {server_.path("auto.master") + ":1: \"" + server_.path("auto.m") + "\" cannot be read",
        server_.path("auto.master") + ":3: \"" + server_.path("auto.made") + "\" cannot be read",
        server_.path("auto.n") + ":1: "}) {
    EXPECT_NE(said.find("\nwarning: not carried over from autofs: " + place), std::string::npos) << place << said;
    EXPECT_NE(server_.log().find("reload: not carried over from autofs: " + place), std::string::npos) << server_.log();
  }
  EXPECT_EQ(name_in("n/two"), "none");
  server_.kill_server();
  EXPECT_EQ(server_.read_control("reload").value_or("?"), said);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(name_in("m/one"), "one");
    EXPECT_EQ(name_in("p/made"), "made");
    ASSERT_TRUE(ok(server_.write_control("control", i == 0 ? "upgrade" : "reload")));
  }
  // Its end is still told apart from its absence.
  std::filesystem::rename(server_.path("made-away"), server_.path("auto.made"));
  ASSERT_TRUE(ok(server_.write_file("auto.m", "")));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  EXPECT_EQ(name_in("m/one"), "none");
  EXPECT_EQ(name_in("p/made"), "made");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Maps, ManyWarningsAreTheFirstOnesAndANumber) {
  std::string wrong;
  for (int i = 0; i < 60; ++i) wrong += std::string(200, 'x') + std::to_string(i) + " -fstype=bind\n";
  ASSERT_TRUE(ok(start("/m auto.m\n")));
  ASSERT_TRUE(ok(server_.write_file("auto.m", wrong)));
  ASSERT_TRUE(ok(server_.write_control("control", "reload")));
  const std::string said = server_.read_control("reload").value_or("");
  EXPECT_TRUE(said.starts_with("nothing has changed\nwarning: ")) << said;
  EXPECT_LT(said.size(), 4096U);
  EXPECT_TRUE(said.ends_with("0 more warnings: `berth check` tells them\n")) << said;
  server_.kill_server();
  EXPECT_EQ(server_.read_control("reload").value_or("?"), said) << "as a whole";
  EXPECT_EQ(server_.stop(), Ending{});
}

/// rpcbind and rpc.mountd in a network namespace of the test's own, with the exports that are given.
class ExportingHost {
 public:
  explicit ExportingHost(const BerthServer& server) : server_(server) {}
  ~ExportingHost() {
    for (const pid_t program : programs_) {
      ::kill(program, SIGKILL);
      ::waitpid(program, nullptr, 0);
    }
    ::umount2("/var/lib/nfs", MNT_DETACH);
    ::umount2("/etc/exports", MNT_DETACH);
  }
  ExportingHost(const ExportingHost&) = delete;
  ExportingHost& operator=(const ExportingHost&) = delete;

  /// Why not; "": it runs.
  std::string start() {
    for (const char* const program : {"/usr/sbin/showmount", "/usr/sbin/rpc.mountd", "/usr/sbin/rpcbind"}) {
      if (::access(program, X_OK) != 0) return std::string("needs ") + program + " (Debian: nfs-kernel-server)";
    }
    if (::unshare(CLONE_NEWNET) != 0) return "needs a network namespace";
    run({"ip", "link", "set", "lo", "up"});
    std::filesystem::create_directories("/run/rpcbind");
    if (::mount("tmpfs", "/var/lib/nfs", "tmpfs", 0, "mode=755") != 0) return "needs /var/lib/nfs";
    for (const char* const file : {"/var/lib/nfs/etab", "/var/lib/nfs/rmtab"})
      ::close(::open(file, O_CREAT | O_CLOEXEC, 0644));
    std::filesystem::create_directories("/var/lib/nfs/v4recovery");
    if (::mount(server_.path("exports").c_str(), "/etc/exports", nullptr, MS_BIND, nullptr) != 0)
      return "needs /etc/exports";
    spawn({"rpcbind", "-f"});
    spawn({"rpc.mountd", "-F"});
    const bool answers = eventually([] { return run({"exportfs", "-ra"}) && run({"showmount", "-e", "localhost"}); });
    return answers ? "" : "rpc.mountd does not answer";
  }

 private:
  static bool run(const std::vector<std::string>& argv) {
    const auto done = sys::run(argv, std::chrono::steady_clock::now() + std::chrono::seconds(10));
    return done && done->status.success();
  }
  void spawn(const std::vector<std::string>& argv) {
    std::vector<char*> words;
    for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
      ::execvp(words.front(), words.data());
      ::_exit(127);
    }
    programs_.push_back(child);
  }

  const BerthServer& server_;
  std::vector<pid_t> programs_;
};

TEST_F(Maps, HostsMapShowsWhatAHostExports) {
  const std::string a = make_source("srv/a");
  const std::string b = make_source("srv/b c");
  ASSERT_TRUE(ok(
      server_.write_file("exports", a + " *(ro,no_subtree_check)\n\"" + b + "\" 10.0.0.0/8(ro,no_subtree_check)\n")));
  ExportingHost host(server_);
  if (const std::string why = host.start(); !why.empty()) GTEST_SKIP() << why;
  ASSERT_TRUE(ok(start("/net -hosts\n")));
  EXPECT_EQ(names_in(server_.in_namespace("net/localhost" + server_.path("dirs/srv"))), (Names{"a", "b c"}));
  const auto status = server_.read_json("shares/net/localhost" + a + "/status.json");
  EXPECT_EQ(status.value("type", ""), "nfs");
  EXPECT_EQ(status["sources"][0], "localhost:" + a);
  EXPECT_EQ(::access(server_.in_namespace("net/no-such-host.invalid").c_str(), F_OK), -1);
  EXPECT_NE(errno, ENOENT) << "a host that does not answer must not look absent";
  EXPECT_EQ(server_.log().find("was killed"), std::string::npos);
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
