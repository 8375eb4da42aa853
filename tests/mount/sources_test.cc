// What shares are made of: where their sources come from, what becomes of them, and what is told of those that do not work.
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

class Sources : public ::testing::Test {
 protected:
  [[nodiscard]] int errno_of_listing(const std::string& share) const {
    errno = 0;
    return ::access(server_.in_namespace(share + "/nothing").c_str(), F_OK) == 0 ? 0 : errno;
  }
  [[nodiscard]] bool event_tells(std::string_view kind, std::string_view text) const {
    const std::string events = server_.read_control("events").value_or("");
    for (std::size_t at = events.find(kind); at != std::string::npos; at = events.find(kind, at + 1)) {
      if (events.substr(at, events.find('\n', at) - at).find(text) != std::string::npos) return true;
    }
    return false;
  }

  BerthServer server_;
};

TEST_F(Sources, MemoryFileSystemsNeverExpireUnlessTheirOwnIdleTimeoutSaysSo) {
  ASSERT_TRUE(
      ok(server_.start("[berth]\nidle_timeout = \"50ms\"\n"
                       "[share.kept]\ntype = \"tmpfs\"\naccess = \"proxy\"\n"
                       "[share.ram]\ntype = \"ramfs\"\naccess = \"proxy\"\n"
                       "[share.native]\ntype = \"tmpfs\"\naccess = \"native\"\n"
                       "[share.command]\ntype = \"command\"\n"
                       "mount = [\"mount\", \"-t\", \"tmpfs\", \"none\", \"{mountpoint}\"]\n"
                       "[share.asked]\ntype = \"tmpfs\"\naccess = \"proxy\"\nidle_timeout = \"50ms\"\n")));
  for (const std::string name : {"kept", "ram", "native", "command", "asked"}) {
    ASSERT_TRUE(ok(server_.write_file("namespace/" + name + "/file", "kept"))) << name;
  }
  // The one that may expire shows that the time is over for all: they were written to before it.
  ASSERT_TRUE(server_.wait_for_state("asked", "idle"));
  for (const std::string name : {"kept", "ram", "native", "command"}) {
    EXPECT_EQ(server_.state(name), "mounted") << name;
    EXPECT_EQ(server_.read_file("namespace/" + name + "/file").value_or("lost"), "kept") << name;
  }
  EXPECT_NE(server_.read_control("shares/kept/status").value_or("").find("only copy"), std::string::npos);
  EXPECT_FALSE(ok(server_.read_file("namespace/asked/file")));
}

TEST_F(Sources, DrainAndResumeKeepTheFilesOfAMemoryFileSystem) {
  ASSERT_TRUE(ok(server_.start("[share.kept]\ntype = \"tmpfs\"\n")));
  ASSERT_TRUE(ok(server_.write_file("namespace/kept/file", "kept")));
  ASSERT_TRUE(ok(server_.write_control("control", "drain")));
  EXPECT_NE(server_.read_control("status").value_or("").find("drained"), std::string::npos);
  ASSERT_TRUE(ok(server_.write_control("control", "resume")));
  EXPECT_EQ(server_.read_file("namespace/kept/file").value_or("lost"), "kept");
  ASSERT_TRUE(ok(server_.write_control("shares/kept/control", "unmount"))) << "by name it goes";
  EXPECT_EQ(server_.state("kept"), "idle");
}

TEST_F(Sources, FailedShareIsCountedAsFailedAfterItsBackOffUntilAnAttemptSucceeds) {
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"bind\"\nsource = \"" + server_.path("source") + "\"\n")));
  EXPECT_EQ(errno_of_listing("a"), EHOSTDOWN);
  ASSERT_TRUE(eventually([&] { return server_.read_json("shares/a/status.json")["retry_at"].is_null(); }))
      << "the back-off ends";
  EXPECT_EQ(server_.state("a"), "failed");
  EXPECT_NE(server_.read_control("status").value_or("").find("1 failed"), std::string::npos);
  const auto server = server_.read_json("status.json").value("server_pid", 0);
  ASSERT_EQ(::kill(server, SIGKILL), 0);
  ASSERT_TRUE(eventually([&] { return server_.read_json("status.json").value("server_pid", server) != server; }));
  EXPECT_EQ(server_.state("a"), "failed") << "the next server knows";
  server_.make_directory("source");
  EXPECT_EQ(errno_of_listing("a"), ENOENT);
  EXPECT_EQ(server_.state("a"), "mounted");
  ASSERT_TRUE(ok(server_.write_control("shares/a/control", "unmount")));
  EXPECT_EQ(server_.state("a"), "idle");
}

TEST_F(Sources, ReplicaThatIsPassedOverIsAnEventAndTheTableShowsTheOneThatWasUsedLast) {
  // Two images, the first of which is none.
  ASSERT_TRUE(ok(server_.write_file("bad.img", std::string(4096, 'x'))));
  ASSERT_EQ(
      ::system(("truncate -s 8M " + server_.path("good.img") + " && mkfs.ext4 -q " + server_.path("good.img")).c_str()),
      0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"ext4\"\nsource = [\"" + server_.path("bad.img") + "\", \"" +
                               server_.path("good.img") + "\"]\n")));
  EXPECT_EQ(errno_of_listing("a"), ENOENT);
  EXPECT_TRUE(event_tells("passed-over", "bad.img")) << server_.read_control("events").value_or("");
  EXPECT_NE(server_.read_control("status").value_or("").find("good.img"), std::string::npos);
  ASSERT_TRUE(ok(server_.write_control("shares/a/control", "unmount")));
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_NE(server_.read_control("status").value_or("").find("good.img"), std::string::npos);
  EXPECT_EQ(server_.read_control("status").value_or("").find("bad.img"), std::string::npos);
}

}  // namespace
}  // namespace berth::test
