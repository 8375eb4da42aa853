// What berth shows to which users: no secret to any user, and names of open files only to the users that have them
// open.
#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/sys/process.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

constexpr uid_t kNobody = 65534;
constexpr uid_t kAlice = 12001;

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

/// What a process of `uid` says that has entered `directory` before it became that user: the file that `say` writes to.
std::string said_by(uid_t uid, const std::string& directory, const std::function<void(int)>& say) {
  const UniqueFd memory(::memfd_create("said", MFD_CLOEXEC));
  const pid_t child = ::fork();
  if (child == 0) {
    const bool ready = ::chdir(directory.c_str()) == 0 && ::setgroups(0, nullptr) == 0 &&
                       ::setresgid(uid, uid, uid) == 0 && ::setresuid(uid, uid, uid) == 0;
    if (ready) say(memory.get());
    ::_exit(ready ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  std::string said(static_cast<std::size_t>(::lseek(memory.get(), 0, SEEK_END)), '\0');
  EXPECT_EQ(::pread(memory.get(), said.data(), said.size(), 0), static_cast<ssize_t>(said.size()));
  return said;
}

void copy_file(const std::string& path, int to) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  char buffer[4096];
  for (ssize_t count = 0; file && (count = ::read(file.get(), buffer, sizeof buffer)) > 0;) {
    if (::write(to, buffer, static_cast<std::size_t>(count)) != count) ::_exit(2);
  }
}

/// Every file below a directory that the user may read, with its path.
std::string read_all_as(uid_t uid, const std::string& directory) {
  return said_by(uid, directory, [](int to) {
    namespace fs = std::filesystem;
    const auto options = fs::directory_options::skip_permission_denied;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(".", options)) {
      const std::string path = "\n== " + entry.path().native() + "\n";
      if (::write(to, path.data(), path.size()) < 0) ::_exit(2);
      if (entry.is_regular_file()) copy_file(entry.path().native(), to);
    }
  });
}

std::string read_as(uid_t uid, const std::string& directory, const std::string& file) {
  return said_by(uid, directory, [&](int to) { copy_file(file, to); });
}

class Told : public ::testing::Test {
 protected:
  BerthServer server_;
};

TEST_F(Told, NoSecretOfAnyKindToAnUnprivilegedUser) {
  // Every secret holds this word.
  const std::string planted = "plant3d";
  const std::string credentials = server_.path("a.cred");
  ASSERT_TRUE(ok(server_.write_file("a.cred", "username=bob\npassword=Plant3d-Cred\n")));
  ASSERT_TRUE(ok(server_.write_file("b.cred", "bob:Plant3d-Other\n")));
  ASSERT_TRUE(ok(server_.write_file("c.env", "# a comment\nLOGIN_C=\"Plant3d-EnvFile\"\n")));
  ASSERT_TRUE(ok(server_.write_file("program.conf", "[remote]\npass = Plant3d-Conf\n")));
  ASSERT_TRUE(
      ok(server_.write_file("cut", std::string(4090, 'x') + "Plant3d-Cut-Plant3d-Cut" + std::string(20000, 'x'))));
  ASSERT_EQ(::chmod(server_.path("program.conf").c_str(), 0600), 0);
  ASSERT_TRUE(ok(server_.write_file("say",
                                    R"(echo "$@"
for word in "$@"; do echo "cannot log in with $word"; echo "$word" | tr a-z A-Z; done
echo "env $LOGIN_A and $LOGIN_C" | sed 's/ /%20/g'
echo "env $LOGIN_A and $LOGIN_C and $LOGIN_C"
cat a.cred b.cred
echo "$LOGIN_D" | tail -1
echo "cannot use $LOGIN_E" | sed 's/[\\"]/\\&/g'
echo "cannot log in with $(sed -n 's/pass = //p' program.conf) now"
cat cut
exit 1
)")));
  const std::string say = "cd " + server_.directory() + " && . ./say >&2";
  const std::string config = R"([share.argv]
type = "command"
mount = ["sh", "-c", ")" + say +
                             R"(", "sh", "--password", "Plant3d Split", "-o", "user=b,PassWord=Plant3d-Opt,,x,ro",
  "--token=Plant3d-Long", "https://bob:Plant3d%2DUrl@host/x?sig=Plant3d-Sig", "secret%3DPlant3d-Coded", "--key='Plant3d Quoted'",
  "-H", "Authorization: Token Plant3d-Header", "--config", ")" +
                             server_.path("program.conf") + R"(", "--password-file", ")" + credentials +
                             R"(", "passwd_file=)" + server_.path("b.cred") + R"(", "{mountpoint}"]
environment = { LOGIN_A = "Plant3d-Env", LOGIN_D = "Plant3d-First\nPlant3d-Second", LOGIN_E = "a\"Plant3d-Quote" }
environment_file = ")" + server_.path("c.env") +
                             R"("

[share.kernel]
type = "tmpfs"
options = "size=1m,password=Plant3d-Kernel,token=Plant3d-Token"

[share.source]
type = "ext4"
source = ["https://bob:Plant3d-Source@host/x", "bob:Plant3d-Second@host:/x", "//bob:Plant3d/Third@host/x"]

[share.helper]
type = "fuse.nobody-has-this"
source = "bob:Plant3d-Helper@host:/x"
options = "pass=Plant3d-Helper,credentials=)" +
                             credentials + R"("

[share.stays]
type = "command"
mount = ["sh", "-c", "mount -t tmpfs none $2 && echo serving with $1 and $LOGIN_A >&2 && exec sleep 1000", "--token", "Plant3d-Stay",
  "{mountpoint}"]
unmount = ["sh", "-c", "echo cannot unmount with $1 >&2; exit 1", "--token", "Plant3d-Unmount", "{mountpoint}"]
environment = { LOGIN_A = "Plant3d-Env" }
)";
  ASSERT_TRUE(ok(server_.start(config)));
  for (const char* share : {"argv", "kernel", "source", "helper"}) {
    EXPECT_NE(::access(server_.in_namespace(std::string(share) + "/x").c_str(), F_OK), 0);
    EXPECT_EQ(server_.state(share), "failed") << share;
  }
  EXPECT_TRUE(ok(server_.write_control("shares/stays/control", "mount")));
  EXPECT_FALSE(ok(server_.write_control("shares/stays/control", "unmount")));
  EXPECT_FALSE(ok(server_.write_control("shares/stays/control", "password=Plant3d-ControlCommand")));

  const std::string tree = read_all_as(kNobody, server_.in_namespace(".berth"));
  const std::string trees_of_root = read_all_as(0, server_.in_namespace(".berth"));
  const auto check = sys::run({std::getenv("BERTH"), "check", server_.path("berth.toml")},
                              std::chrono::steady_clock::now() + std::chrono::seconds(30));
  ASSERT_TRUE(ok(check));
  for (const std::string& text : {tree, trees_of_root, server_.log(), check->output}) {
    EXPECT_EQ(lower(text).find(planted), std::string::npos) << text;
    EXPECT_NE(text.find("argv"), std::string::npos);
  }
  // All of it was there to be shown.
  EXPECT_NE(tree.find("cannot log in with ***"), std::string::npos) << tree;
  EXPECT_NE(tree.find("cannot unmount with ***"), std::string::npos);
  EXPECT_NE(tree.find("== ./shares/stays/status.json"), std::string::npos);
  EXPECT_NE(check->output.find("has a secret in \"mount\""), std::string::npos) << check->output;
  EXPECT_NE(check->output.find("berth.toml: every user may read it"), std::string::npos) << check->output;
  EXPECT_NE(check->output.find("a.cred\": every user may read it"), std::string::npos) << check->output;
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Told, NoSecretOfAFileOnADiskThatWasMountedLater) {
  const std::string late = server_.make_directory("late");
  ASSERT_TRUE(ok(server_.write_file("say", "cd $1; echo \"cannot log in with $LOGIN and $(cat cred)\" >&2; exit 1\n")));
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"command\"\nmount = [\"sh\", \"" + server_.path("say") + "\", \"" +
                               late + "\", \"--password-file\", \"" + late +
                               "/cred\", \"{mountpoint}\"]\nenvironment_file = \"" + late + "/env\"\n")));
  ASSERT_EQ(::mount("late", late.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_TRUE(ok(server_.write_file("late/env", "LOGIN=Plant3d-Env\n")));
  ASSERT_TRUE(ok(server_.write_file("late/cred", "Plant3d-Cred")));
  EXPECT_FALSE(ok(server_.write_control("shares/a/control", "mount")));
  const std::string error = server_.read_control("shares/a/error").value_or("");
  EXPECT_NE(error.find("cannot log in with *** and ***"), std::string::npos) << error;
  EXPECT_EQ(::umount2(late.c_str(), MNT_DETACH), 0);
}

TEST_F(Told, NamesOfOpenFilesToThoseAloneWhomTheyConcern) {
  const std::string source = server_.make_directory("source/private");
  ASSERT_TRUE(ok(server_.write_file("source/private/secret-name", "x")));
  ASSERT_EQ(::chown(source.c_str(), kAlice, kAlice), 0);
  ASSERT_EQ(::chown((source + "/secret-name").c_str(), kAlice, kAlice), 0);
  ASSERT_EQ(::chmod(source.c_str(), 0700), 0);
  ASSERT_TRUE(ok(server_.start_shares({{"a", server_.path("source")}})));
  const std::string users = server_.in_namespace(".berth/shares/a");
  const std::string file = server_.in_namespace("a/private");
  const std::string of_alice = said_by(kAlice, file, [&](int to) {
    const int open = ::open("secret-name", O_RDONLY | O_CLOEXEC);
    if (open < 0) ::_exit(3);
    copy_file("../../.berth/shares/a/users", to);
  });
  EXPECT_NE(of_alice.find("private/secret-name"), std::string::npos) << of_alice;
  const UniqueFd open(::open((file + "/secret-name").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(open);
  EXPECT_NE(read_as(0, users, "users").find("private/secret-name"), std::string::npos);
  const std::string of_nobody = read_as(kNobody, users, "users");
  EXPECT_EQ(of_nobody.find("secret-name"), std::string::npos) << of_nobody;
  EXPECT_NE(of_nobody.find(std::to_string(::getpid())), std::string::npos) << of_nobody;
}

TEST_F(Told, ControlFilesAreEmptyAndWordsDoNotWaitForEachOther) {
  const std::string source = server_.make_directory("source");
  ASSERT_TRUE(ok(server_.start_shares({{"a", source}})));
  for (const char* name : {"control", "shares/a/control"}) {
    struct stat attributes {};
    ASSERT_EQ(::stat(server_.in_namespace(std::string(".berth/") + name).c_str(), &attributes), 0);
    EXPECT_EQ(attributes.st_size, 0) << name;
    EXPECT_EQ(server_.read_control(name).value_or("?"), "");
  }
  const auto packed = sys::run({"tar", "-cf", "/dev/null", "--sparse", "-C", server_.in_namespace(".berth"), "."},
                               std::chrono::steady_clock::now() + std::chrono::seconds(30));
  ASSERT_TRUE(ok(packed));
  EXPECT_TRUE(packed->status.success()) << packed->output;
  // A word that waits is ended by another one.
  const UniqueFd held(::open(server_.in_namespace("a").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_TRUE(ok(server_.write_control("shares/a/control", "mount")));
  const UniqueFd used(::openat(held.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const pid_t drainer = ::fork();
  if (drainer == 0) ::_exit(server_.write_control("control", "drain") ? 0 : 1);
  ASSERT_TRUE(eventually([&] { return server_.read_json("status.json")["host"].value("state", "") == "draining"; }));
  struct stat attributes {};
  ASSERT_EQ(::stat(server_.in_namespace(".berth/control").c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_size, 0);
  EXPECT_TRUE(ok(server_.write_control("control", "resume")));
  int status = -1;
  ::waitpid(drainer, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
}

TEST_F(Told, AllThatAHelperSaysAndTheReasonOfItsFailure) {
  ASSERT_TRUE(ok(server_.start(R"([share.fails]
type = "command"
mount = ["sh", "-c", "echo starting; echo ssh: connect to host nas port 22: Connection refused; echo read: Connection reset by peer; exit 1", "{mountpoint}"]
[share.stays]
type = "command"
mount = ["sh", "-c", "mount -t tmpfs none $0 && echo serving && while sleep 0.1; do echo at work; done", "{mountpoint}"]
)")));
  EXPECT_NE(::access(server_.in_namespace("fails/x").c_str(), F_OK), 0);
  const std::string error = server_.read_control("shares/fails/error").value_or("");
  EXPECT_NE(error.find("stderr:   starting\n"), std::string::npos) << error;
  EXPECT_NE(error.find("stderr:   read: Connection reset by peer\n"), std::string::npos) << error;
  EXPECT_TRUE(error.ends_with("reason:   ssh: connect to host nas port 22: Connection refused\n")) << error;
  const std::string status = server_.read_control("shares/fails/status").value_or("");
  EXPECT_NE(status.find("Connection refused"), std::string::npos) << status;
  EXPECT_TRUE(eventually([&] {
    return server_.log().find("    read: Connection reset by peer\n") != std::string::npos;
  })) << server_.log();

  ASSERT_TRUE(ok(server_.write_control("shares/stays/control", "mount")));
  const auto said = [&] { return server_.read_control("shares/stays/log").value_or(""); };
  EXPECT_TRUE(eventually([&] { return said().find("at work\n") != std::string::npos; })) << said();
  EXPECT_TRUE(said().starts_with("serving\n")) << said();
  EXPECT_TRUE(eventually([&] { return server_.log().find("its program says: serving") != std::string::npos; }));
  // Over the server's death, too.
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  const std::string left = said();
  EXPECT_TRUE(left.starts_with("serving\n")) << left;
  EXPECT_TRUE(eventually([&] { return said().size() > left.size(); })) << "the next server reads on";
  // Programs name the files of their users.
  EXPECT_EQ(read_as(kNobody, server_.in_namespace(".berth/shares/stays"), "log"), "");
  EXPECT_TRUE(ok(server_.write_control("shares/stays/control", "unmount")));
}

TEST_F(Told, WhatADaemonSaysAfterItsMountProgramHasEnded) {
  // One that a FUSE type would be like, as far as its output goes: the program mounts and ends, its daemon lives on.
  const std::string more = server_.path("more");
  ASSERT_EQ(::mkfifo(more.c_str(), 0600), 0);
  ASSERT_TRUE(ok(server_.write_file("daemon",
                                    "#!/bin/sh\necho mounting >&2\nmount -t tmpfs none \"$1\" || exit 1\n"
                                    "exec 3<>" +  // so that it never reads the end of one that writes
                                        more +
                                        "\n(while read -r word <&3; do echo \"daemon: $word\" >&2; done) &\n")));
  ASSERT_EQ(::chmod(server_.path("daemon").c_str(), 0755), 0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"command\"\nmount = [\"" + server_.path("daemon") +
                               "\", \"{mountpoint}\"]\n")));
  ASSERT_TRUE(ok(server_.write_control("shares/a/control", "mount")));
  const auto said = [&](const std::string& line) {
    return server_.read_control("shares/a/log").value_or("").find(line) != std::string::npos;
  };
  const auto ask = [&](const std::string& word) {
    ASSERT_EQ(::system(("timeout 20 sh -c 'echo " + word + " >" + more + "'").c_str()), 0);
    EXPECT_TRUE(eventually([&] { return said("daemon: " + word + "\n"); }))
        << server_.read_control("shares/a/log").value_or("");
  };
  EXPECT_TRUE(said("mounting\n"));
  ask("first");
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  ask("second");
  EXPECT_TRUE(ok(server_.write_control("shares/a/control", "unmount")));
}

TEST_F(Told, WhatAFailedProgramSaidIsKeptOverTheDeathOfAServer) {
  ASSERT_TRUE(
      ok(server_.write_file("fails", "#!/bin/sh\nseq 1000\necho 'mount error(13): Permission denied' >&2\nexit 32\n")));
  ASSERT_EQ(::chmod(server_.path("fails").c_str(), 0755), 0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"command\"\nmount = [\"" + server_.path("fails") +
                               "\", \"{mountpoint}\", \"two words\"]\n")));
  EXPECT_FALSE(ok(server_.write_control("shares/a/control", "mount")));
  const auto failure = [&] { return server_.read_json("shares/a/status.json")["last_failure"]; };
  const auto first = failure();
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  const auto second = failure();
  for (const char* same : {"command", "exit", "errno", "story", "when"}) EXPECT_EQ(second[same], first[same]) << same;
  const std::string output = second.value("output", "");
  EXPECT_TRUE(output.starts_with("(what it said before this is not kept")) << output;
  EXPECT_TRUE(output.ends_with("\n999\n1000\nmount error(13): Permission denied\n")) << output;
}

TEST_F(Told, WhichRequestHasKilledTwoServersAndItFailsAlone) {
  const std::string source = server_.make_directory("source");
  const std::string deadly =
      (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "deadly-request.so").string();
  ::setenv("LD_PRELOAD", deadly.c_str(), 1);
  const auto started = server_.start_shares({{"a", source}});
  ::unsetenv("LD_PRELOAD");
  ASSERT_TRUE(ok(started));
  ASSERT_EQ(::mkdir(server_.in_namespace("a/other").c_str(), 0755), 0);
  for (const char* deadly_name : {"abort", "fault"}) {
    SCOPED_TRACE(deadly_name);
    EXPECT_EQ(::mkdir(server_.in_namespace(std::string("a/") + deadly_name).c_str(), 0755), -1);
    EXPECT_EQ(errno, EIO);
  }
  const std::string log = server_.log();
  EXPECT_NE(log.find("a request has killed several servers and fails with EIO: MKDIR of node"), std::string::npos)
      << log;
  EXPECT_NE(log.find("by process " + std::to_string(::getpid()) + " of user 0"), std::string::npos) << log;
  EXPECT_EQ(::mkdir(server_.in_namespace("a/third").c_str(), 0755), 0);
}

}  // namespace
}  // namespace berth::test
