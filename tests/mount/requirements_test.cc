// Shares that require others, over real mounts.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

/// "keys" holds a file that the command of "crypt" needs before it mounts.
class Requirements : public TakeoverTest {
 protected:
  void start_pair(const std::string& script, const std::string& of_keys = "", const std::string& more = "") {
    keys_ = server_.make_directory("keys-source");
    notes_ = server_.make_directory("notes");
    ASSERT_TRUE(ok(server_.write_file("keys-source/key", "open\n")));
    ASSERT_TRUE(ok(server_.write_file("script", script)));
    ASSERT_NO_FATAL_FAILURE(
        start("", "",
              "[share.crypt]\ntype = \"command\"\nrequires = [\"keys\"]\nidle_timeout = \"1h\"\nmount = [\"sh\", \"" +
                  server_.path("script") + "\", \"{mountpoint}\", \"" + server_.in_namespace("keys/key") + "\", \"" +
                  notes_ + "\"]\n" + "[share.keys]\ntype = \"bind\"\nidle_timeout = \"0\"\nsource = \"" + keys_ +
                  "\"\n" + of_keys + more));
  }
  [[nodiscard]] std::string key_in_crypt() const { return server_.read_file("namespace/crypt/key").value_or("none"); }
  [[nodiscard]] nlohmann::json status(const std::string& share) const {
    return server_.read_json("shares/" + share + "/status.json");
  }

  std::string keys_, notes_;
};

constexpr const char* kOpens = "mount -t tmpfs the-crypt \"$1\" && cp \"$2\" \"$1/key\" || exit 1\nexec sleep 1000\n";

TEST_F(Requirements, CommandReadsTheKeyOnTheShareThatItRequires) {
  ASSERT_NO_FATAL_FAILURE(start_pair(kOpens));
  EXPECT_EQ(key_in_crypt(), "open\n");
  EXPECT_EQ(server_.state("keys"), "mounted");
  EXPECT_EQ(status("keys")["required_by"], nlohmann::json::array({"crypt"}));
  EXPECT_EQ(status("crypt")["requires"], nlohmann::json::array({"keys"}));
  const std::string users = server_.read_control("shares/keys/users").value_or("");
  EXPECT_NE(users.find("share  crypt"), std::string::npos) << users;
  const Result<> refused = server_.write_control("shares/keys/control", "unmount");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), EBUSY);
  EXPECT_NE(status("keys").value("busy", "").find("required by \"crypt\""), std::string::npos) << status("keys");
  ASSERT_TRUE(ok(server_.write_control("shares/crypt/control", "unmount")));
  EXPECT_TRUE(server_.wait_for_state("keys", "idle"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Requirements, SurviveTheServerAndUpgrades) {
  ASSERT_NO_FATAL_FAILURE(start_pair(kOpens));
  EXPECT_EQ(key_in_crypt(), "open\n");
  for (int i = 0; i < 2; ++i) {
    ASSERT_NO_FATAL_FAILURE(kill_server());
    EXPECT_EQ(key_in_crypt(), "open\n");
    EXPECT_EQ(status("keys")["required_by"], nlohmann::json::array({"crypt"}));
    ASSERT_TRUE(ok(server_.write_control("control", "upgrade")));
    EXPECT_EQ(status("keys")["required_by"], nlohmann::json::array({"crypt"}));
    EXPECT_EQ(server_.state("keys"), "mounted");
  }
  ASSERT_TRUE(ok(server_.write_control("shares/crypt/control", "unmount")));
  EXPECT_TRUE(server_.wait_for_state("keys", "idle"));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Requirements, MountUnderWayAtTheDeathHasItsKeyAgain) {
  ASSERT_NO_FATAL_FAILURE(
      start_pair("echo >> \"$3/started\"; while ! test -e \"$3/go\"; do sleep 0.01; done\n" + std::string(kOpens)));
  Doer caller([&] { return ::access(server_.in_namespace("crypt/key").c_str(), F_OK) == 0 ? 0 : errno; });
  ASSERT_TRUE(eventually([&] { return !server_.read_file("notes/started").value_or("").empty(); }));
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_TRUE(ok(server_.write_file("notes/go", "")));
  EXPECT_EQ(caller.result(), 0);
  EXPECT_EQ(key_in_crypt(), "open\n");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Requirements, FailureIsToldAsTheReason) {
  ASSERT_NO_FATAL_FAILURE(start_pair(kOpens));
  std::filesystem::remove_all(keys_);
  EXPECT_EQ(::access(server_.in_namespace("crypt/key").c_str(), F_OK), -1);
  EXPECT_EQ(errno, EHOSTDOWN);
  const std::string error = server_.read_control("shares/crypt/error").value_or("");
  EXPECT_NE(error.find("it requires \"keys\": cannot open the source"), std::string::npos) << error;
  server_.make_directory("keys-source");
  ASSERT_TRUE(ok(server_.write_file("keys-source/key", "again\n")));
  ASSERT_TRUE(ok(server_.write_control("shares/crypt/control", "retry")));
  EXPECT_EQ(key_in_crypt(), "again\n");
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A bind of a directory in another share, which is used in its own mount.
class PartOfAShare : public Requirements {
 protected:
  void start_part(const std::string& source, const std::string& of_whole = "type = \"tmpfs\"\n") {
    ASSERT_NO_FATAL_FAILURE(start("", "",
                                  "[share.whole]\n" + of_whole +
                                      "[share.part]\ntype = \"bind\"\nrequires = [\"whole\"]\nsource = \"" +
                                      server_.in_namespace(source) + "\"\n"));
  }
};

TEST_F(PartOfAShare, IsShownAndHoldsTheWhole) {
  ASSERT_NO_FATAL_FAILURE(start_part("whole/projects"));
  ASSERT_EQ(::mkdir(server_.in_namespace("whole/projects").c_str(), 0755), 0) << errno_name(errno);
  ASSERT_TRUE(ok(server_.write_file("namespace/whole/projects/one", "1")));
  EXPECT_EQ(server_.read_file("namespace/part/one").value_or("none"), "1");
  ASSERT_TRUE(ok(server_.write_file("namespace/part/two", "2")));
  EXPECT_EQ(server_.read_file("namespace/whole/projects/two").value_or("none"), "2");
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(server_.read_file("namespace/part/two").value_or("none"), "2");
  EXPECT_EQ(status("whole")["required_by"], nlohmann::json::array({"part"}));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(PartOfAShare, LinkOutOfTheWholeLeadsNowhere) {
  ASSERT_NO_FATAL_FAILURE(start_part("whole/out"));
  ASSERT_EQ(::symlink("/etc", server_.in_namespace("whole/out").c_str()), 0) << errno_name(errno);
  EXPECT_EQ(::access(server_.in_namespace("part/passwd").c_str(), F_OK), -1);
  EXPECT_EQ(errno, EHOSTDOWN);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(PartOfAShare, OfADirectoryOfTheHostAsWell) {
  const std::string host = server_.make_directory("host/sub");
  ASSERT_TRUE(ok(server_.write_file("host/sub/file", "3")));
  ASSERT_NO_FATAL_FAILURE(start_part("whole/sub", "type = \"dir\"\nsource = \"" + server_.path("host") + "\"\n"));
  EXPECT_EQ(server_.read_file("namespace/part/file").value_or("none"), "3");
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(PartOfAShare, ReloadThatRemovesTheWholeAloneIsRefused) {
  ASSERT_NO_FATAL_FAILURE(start_part("whole/projects"));
  ASSERT_TRUE(ok(server_.write_file("berth.toml", "[share.part]\ntype = \"bind\"\nrequires = [\"whole\"]\nsource = \"" +
                                                      server_.in_namespace("whole/projects") + "\"\n")));
  EXPECT_FALSE(server_.write_control("control", "reload"));
  const std::string said = server_.read_control("reload").value_or("");
  EXPECT_NE(said.find("berth.toml:3: \"requires\" in [share.part]: \"whole\" is no share"), std::string::npos) << said;
  EXPECT_EQ(server_.state("whole"), "idle");
  EXPECT_EQ(server_.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
