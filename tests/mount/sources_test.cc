// What shares are made of: where their sources come from, what becomes of them, and what is reported of those that do
// not work.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

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
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
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

/// A mount of the host's, in these tests the test's own, that is private.
class HostMount {
 public:
  HostMount(std::string target, const std::string& file) : target_(std::move(target)) {
    EXPECT_EQ(::mount("none", target_.c_str(), "tmpfs", 0, nullptr), 0) << std::strerror(errno);
    EXPECT_EQ(::close(::open((target_ + "/" + file).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644)), 0);
  }
  ~HostMount() { ::umount2(target_.c_str(), MNT_DETACH); }
  HostMount(const HostMount&) = delete;
  HostMount& operator=(const HostMount&) = delete;

 private:
  const std::string target_;
};

TEST_F(Sources, AreLookedUpOnTheHostWhenTheyAreMounted) {
  for (const std::string name : {"bind", "dir", "readonly", "below/disk", "command", "lower", "upper"}) {
    server_.make_directory("src/" + name);
  }
  const std::string src = server_.path("src/");
  ASSERT_TRUE(ok(server_.start(
      "[share.bind]\ntype = \"bind\"\nsource = \"" + src + "bind\"\n[share.dir]\ntype = \"dir\"\nsource = \"" + src +
      "dir\"\n[share.readonly]\ntype = \"dir\"\nread_only = true\nsource = \"" + src +
      "readonly\"\n[share.below]\ntype = \"dir\"\nread_only = true\nsource = \"" + src +
      "below\"\n[share.overlay]\ntype = \"overlay\"\noptions = \"lowerdir=" + src + "lower:" + src + "upper" +
      "\"\n[share.command]\ntype = \"command\"\nmount = [\"mount\", \"--bind\", \"" + src +
      "command\", \"{mountpoint}\"]\n")));
  // Mounted after the server has begun, where it gets no news of it.
  const HostMount bind(src + "bind", "there"), dir(src + "dir", "there"), readonly(src + "readonly", "there");
  const HostMount below(src + "below/disk", "there"), command(src + "command", "there"), lower(src + "lower", "there");
  for (const std::string file :
       {"bind/there", "dir/there", "readonly/there", "below/disk/there", "command/there", "overlay/there"}) {
    EXPECT_EQ(::access(server_.in_namespace(file).c_str(), F_OK), 0) << file << ": " << std::strerror(errno);
  }
  EXPECT_FALSE(ok(server_.write_file("namespace/below/disk/new", "")));
  EXPECT_EQ(errno, EROFS);
}

TEST_F(Sources, DiskThatIsNoShareIsFreeAsSoonAsItsOwnerHasUnmountedIt) {
  const std::string image = server_.path("disk.img");
  const std::string disk = server_.make_directory("disk");
  ASSERT_EQ(
      ::system(("truncate -s 8M " + image + " && mkfs.ext4 -q " + image + " && mount -o loop " + image + " " + disk)
                   .c_str()),
      0);
  const std::string source = server_.make_directory("source");
  const std::string script = server_.path("daemon");
  ASSERT_TRUE(ok(server_.write_file("daemon", "#!/bin/sh\nmount -t tmpfs none \"$1\" && setsid sleep 1000 &\nwait\n")));
  ASSERT_EQ(::chmod(script.c_str(), 0755), 0);
  const bool started =
      ok(server_.start("[share.a]\ntype = \"bind\"\nsource = \"" + source +
                       "\"\n[share.helper]\ntype = \"command\"\nmount = [\"" + script + "\", \"{mountpoint}\"]\n"));
  EXPECT_TRUE(started);
  EXPECT_EQ(errno_of_listing("a"), ENOENT);
  EXPECT_EQ(errno_of_listing("helper"), ENOENT);
  EXPECT_EQ(::umount2(disk.c_str(), 0), 0);
  EXPECT_EQ(::system(("test -z \"$(losetup -j " + image + ")\"").c_str()), 0) << "no copy of ours keeps it";
}

TEST_F(Sources, AllThatAnAttemptHasStartedEndsWithItOrWithItsMount) {
  const std::string script = server_.path("starts");
  ASSERT_TRUE(
      ok(server_.write_file("starts",
                            "#!/bin/sh\n(setsid setsid sleep 1000 >/dev/null 2>&1 &)\n[ $1 = mounts ] || exit 1\n"
                            "exec mount -t tmpfs none \"$2\"\n")));
  ASSERT_EQ(::chmod(script.c_str(), 0755), 0);
  const std::string begin = "type = \"command\"\nmount = [\"" + script + "\", ";
  ASSERT_TRUE(ok(server_.start("[share.good]\n" + begin + "\"mounts\", \"{mountpoint}\"]\n[share.bad]\n" + begin +
                               "\"fails\", \"{mountpoint}\"]\n")));
  const std::size_t before = server_.processes().size();
  EXPECT_EQ(errno_of_listing("bad"), EHOSTDOWN);
  EXPECT_EQ(server_.processes().size(), before) << "when the failure is told they have ended";
  EXPECT_EQ(errno_of_listing("good"), ENOENT);
  EXPECT_EQ(server_.processes().size(), before + 1) << "what a mount has started may serve it";
  // The next server knows of them.
  ASSERT_NO_FATAL_FAILURE(server_.kill_server());
  ASSERT_TRUE(ok(server_.write_control("shares/good/control", "unmount")));
  EXPECT_TRUE(eventually([&] { return server_.processes().size() == before; }));
}

TEST_F(Sources, MountThatWasUnderWayWhenTheServerDiedIsBegunAgain) {
  const std::string script = server_.path("slow");
  const std::string log = server_.path("attempts");
  ASSERT_TRUE(ok(server_.write_file(
      "slow",
      "#!/bin/sh\nmount -t tmpfs none \"$2\"\necho x >> \"$1\"\n[ $(wc -l < \"$1\") -gt 1 ] || exec sleep 1000\n")));
  ASSERT_EQ(::chmod(script.c_str(), 0755), 0);
  ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"command\"\nmount = [\"" + script + "\", \"" + log +
                               "\", \"{mountpoint}\"]\n")));
  const std::size_t before = server_.processes().size();
  std::thread caller([&] { EXPECT_EQ(errno_of_listing("a"), ENOENT); });
  EXPECT_TRUE(eventually([&] { return server_.read_file("attempts").value_or("") == "x\n"; }));
  const auto server = server_.server_pid();
  EXPECT_EQ(::kill(server, SIGKILL), 0);
  caller.join();
  EXPECT_EQ(server_.read_file("attempts").value_or(""), "x\nx\n");
  EXPECT_EQ(server_.processes().size(), before) << "the program of the first attempt has ended";
}

TEST_F(Sources, BindWithAllThatIsMountedBelowExpiresAndCanBeDrained) {
  const std::string source = server_.make_directory("source");
  server_.make_directory("source/below");
  const HostMount below(source + "/below", "there");
  const HostMount deeper(server_.make_directory("source/below/deeper"), "there");
  const std::string share = "type = \"bind\"\noptions = \"rbind\"\nsource = \"" + source + "\"\nidle_timeout = ";
  ASSERT_TRUE(ok(server_.start("[share.short]\n" + share + "\"50ms\"\n[share.long]\n" + share + "\"1h\"\n")));
  EXPECT_EQ(::access(server_.in_namespace("short/below/deeper/there").c_str(), F_OK), 0);
  EXPECT_EQ(::access(server_.in_namespace("long/below/deeper/there").c_str(), F_OK), 0);
  EXPECT_TRUE(server_.wait_for_state("short", "idle"));
  EXPECT_TRUE(ok(server_.write_control("control", "drain")));
  EXPECT_EQ(server_.state("long"), "idle");
  EXPECT_EQ(::access((source + "/below/deeper/there").c_str(), F_OK), 0) << "the host's own mounts stay";
}

TEST_F(Sources, RemovedOrReplacedSourceIsAnErrorOrTheNewDirectoryAndNeverAnEmptyOne) {
  std::string config;
  const std::vector<std::string> kinds{"bind", "dir", "native"};
  for (const std::string& kind : kinds) {
    server_.make_directory("src/" + kind);
    ASSERT_TRUE(ok(server_.write_file("src/" + kind + "/old", "")));
    const std::string type = kind == "dir" ? "dir" : "bind";
    const std::string access = kind == "native" ? "native" : "proxy";
    config += "[share." + kind + "]\ntype = \"" + type + "\"\naccess = \"" + access + "\"\nsource = \"" +
              server_.path("src/" + kind) + "\"\n";
  }
  ASSERT_TRUE(ok(server_.start(config)));
  for (const bool kill_first : {false, true}) {
    for (const std::string& kind : kinds) {
      SCOPED_TRACE(kind);
      const std::string source = server_.path("src/" + kind);
      ASSERT_TRUE(ok(server_.read_file("namespace/" + kind + "/old")));
      if (kind == "native") {
        ASSERT_TRUE(eventually([&] { return server_.read_json("shares/native/status.json").value("native", false); }));
      }
      const int held = ::open((server_.in_namespace(kind) + "/old").c_str(), O_RDONLY | O_CLOEXEC);
      EXPECT_GE(held, 0);
      if (kill_first) {
        ASSERT_NO_FATAL_FAILURE(server_.kill_server());
      }
      ASSERT_EQ(::system(("rm -r " + source).c_str()), 0);
      EXPECT_TRUE(eventually([&] { return errno_of_listing(kind) == EHOSTDOWN; })) << "it is gone";
      ASSERT_EQ(::mkdir(source.c_str(), 0755), 0);
      ASSERT_TRUE(ok(server_.write_file("src/" + kind + "/old", "new")));
      ASSERT_TRUE(ok(server_.write_control("shares/" + kind + "/control", "retry")));
      EXPECT_TRUE(eventually([&] { return server_.read_file("namespace/" + kind + "/old").value_or("") == "new"; }));
      // Another one in its place, at once.
      ASSERT_EQ(
          ::system(
              ("mv " + source + " " + source + ".away && mkdir " + source + " && touch " + source + "/old").c_str()),
          0);
      EXPECT_TRUE(eventually([&] { return server_.read_file("namespace/" + kind + "/old").value_or("x").empty(); }));
      ASSERT_EQ(::system(("rm -r " + source + ".away").c_str()), 0);
      ::close(held);
    }
  }
}

TEST_F(Sources, SourceThatIsNoDirectoryAnyMoreIsAnErrorAtOnce) {
  std::string config;
  for (const std::string type : {"bind", "dir"}) {
    server_.make_directory("src/" + type);
    config += "[share." + type + "]\ntype = \"" + type + "\"\nsource = \"" + server_.path("src/" + type) + "\"\n";
  }
  ASSERT_TRUE(ok(server_.start(config)));
  for (const std::string type : {"bind", "dir"}) {
    const std::string source = server_.path("src/" + type);
    for (const std::string other : {"touch ", "mkfifo ", "ln -s /nowhere "}) {
      SCOPED_TRACE(type + ", " + other);
      ASSERT_EQ(errno_of_listing(type), ENOENT);
      ASSERT_EQ(::system(("rm -r " + source + " && " + other + source).c_str()), 0);
      EXPECT_TRUE(eventually([&] { return errno_of_listing(type) == EHOSTDOWN; }));
      ASSERT_EQ(::system(("rm " + source + " && mkdir " + source).c_str()), 0);
      ASSERT_TRUE(ok(server_.write_control("shares/" + type + "/control", "retry")));
      EXPECT_TRUE(eventually([&] { return errno_of_listing(type) == ENOENT; }));
    }
  }
}

TEST_F(Sources, RemovedOrReplacedLayerOfAnOverlayIsAnErrorOrTheNewOne) {
  const std::string layers = server_.make_directory("layers");
  ASSERT_EQ(::mount("none", layers.c_str(), "tmpfs", 0, nullptr), 0) << errno_name(errno);
  const auto layer = [&](const std::string& name) { return layers + "/in/" + name; };
  const std::vector<std::string> names{"first", "second", "up"};
  for (const std::string& name : names) {
    server_.make_directory("layers/in/" + name);
    ASSERT_TRUE(ok(server_.write_file("layers/in/" + name + "/of-" + name, "old")));
  }
  server_.make_directory("layers/work");
  ASSERT_TRUE(ok(server_.start("[share.o]\ntype = \"overlay\"\noptions = \"lowerdir=" + layer("first") + ":" +
                               layer("second") + ",upperdir=" + layer("up") + ",workdir=" + layers + "/work\"\n")));
  for (const bool kill_first : {false, true}) {
    for (const std::string& name : names) {
      SCOPED_TRACE(name);
      ASSERT_TRUE(ok(server_.read_file("namespace/o/of-" + name)));
      if (kill_first) {
        ASSERT_NO_FATAL_FAILURE(server_.kill_server());
      }
      ASSERT_EQ(::system(("rm -r " + layer(name)).c_str()), 0);
      EXPECT_TRUE(eventually([&] { return errno_of_listing("o") == EHOSTDOWN; })) << "it is gone";
      server_.make_directory("layers/in/" + name);
      ASSERT_TRUE(ok(server_.write_file("layers/in/" + name + "/of-" + name, "new")));
      ASSERT_TRUE(ok(server_.write_control("shares/o/control", "retry")));
      EXPECT_TRUE(eventually([&] { return server_.read_file("namespace/o/of-" + name).value_or("") == "new"; }));
      // Another one in its place, at once.
      ASSERT_EQ(::system(("cd " + layers + "/in && cp -r " + name + " other && mv " + name + " ../away && mv other " +
                          name + " && echo moved > " + name + "/of-" + name)
                             .c_str()),
                0);
      EXPECT_TRUE(eventually([&] { return server_.read_file("namespace/o/of-" + name).value_or("") == "moved\n"; }));
      ASSERT_EQ(::system(("rm -r " + layers + "/away").c_str()), 0);
    }
  }
  EXPECT_EQ(server_.stop(), Ending{});
  EXPECT_EQ(::umount2(layers.c_str(), MNT_DETACH), 0) << errno_name(errno);
}

TEST_F(Sources, RemovedOrReplacedImageIsAnErrorOrTheNewOne) {
  const std::string content = server_.make_directory("content");
  const auto make_image = [&](const std::string& image, const std::string& text) {
    ASSERT_TRUE(ok(server_.write_file("content/file", text)));
    const std::string made = server_.path(image);
    ASSERT_EQ(::system(("truncate -s 4M " + made + " && mke2fs -q -t ext4 -d " + content + " " + made).c_str()), 0);
  };
  const std::vector<std::string> kinds{"proxy", "native"};
  std::string config;
  for (const std::string& kind : kinds) {
    make_image(kind, "old");
    config +=
        "[share." + kind + "]\ntype = \"ext4\"\naccess = \"" + kind + "\"\nsource = \"" + server_.path(kind) + "\"\n";
  }
  ASSERT_TRUE(ok(server_.start(config)));
  for (const bool kill_first : {false, true}) {
    for (const std::string& kind : kinds) {
      SCOPED_TRACE(kind + (kill_first ? " after a take-over" : ""));
      const auto shows = [&](const std::string& text) {
        return eventually([&] { return server_.read_file("namespace/" + kind + "/file").value_or("") == text; });
      };
      ASSERT_TRUE(ok(server_.read_file("namespace/" + kind + "/file")));
      const int held = ::open((server_.in_namespace(kind) + "/held").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
      EXPECT_GE(held, 0);
      if (kill_first) {
        ASSERT_NO_FATAL_FAILURE(server_.kill_server());
      }
      ASSERT_EQ(::unlink(server_.path(kind).c_str()), 0);
      EXPECT_TRUE(eventually([&] { return errno_of_listing(kind) == EHOSTDOWN; })) << "it is gone";
      make_image(kind, "new");
      ASSERT_TRUE(ok(server_.write_control("shares/" + kind + "/control", "retry")));
      EXPECT_TRUE(shows("new"));
      EXPECT_EQ(::write(held, "more", 4), 4) << "a program that is in the old one goes on";
      // Another one in its place, at once.
      make_image("next", "moved");
      ASSERT_EQ(::rename(server_.path("next").c_str(), server_.path(kind).c_str()), 0);
      EXPECT_TRUE(shows("moved"));
      // One that gets another name or other attributes stays what it is.
      const auto mounts = [&] { return server_.read_json("shares/" + kind + "/status.json").value("mounts", 0); };
      const int before = mounts();
      ASSERT_EQ(::link(server_.path(kind).c_str(), server_.path("second").c_str()), 0);
      ASSERT_EQ(::chmod(server_.path(kind).c_str(), 0640), 0);
      ASSERT_EQ(::unlink(server_.path("second").c_str()), 0);
      // The next one that is replaced shows that these have been looked at.
      make_image("next", "last");
      ASSERT_EQ(::rename(server_.path("next").c_str(), server_.path(kind).c_str()), 0);
      EXPECT_TRUE(shows("last"));
      EXPECT_EQ(mounts(), before + 1);
      ::close(held);
    }
  }
}

TEST_F(Sources, RenamedAncestorAndLinkThatLeadsElsewhereCountAsAReplacedSource) {
  // One share for each kind and each way; all over again when another server has taken over the watches.
  struct Way {
    std::string name, source, move;  // `move` puts another directory there, with a file "new"
  };
  const std::string top = server_.path("top");
  const std::string remake = " && mkdir -p $1/grand/parent/src && touch $1/grand/parent/src/new";
  const std::vector<Way> ways{
      {"parent", "/grand/parent/src", "mv $1/grand/parent $1/grand/away" + remake},
      {"grand", "/grand/parent/src", "mv $1/grand $1/away" + remake},
      {"exchanged", "/grand/parent/src",
       "mkdir -p $1/other/parent/src && touch $1/other/parent/src/new && mv $1/grand $1/away && mv $1/other $1/grand"},
      {"link", "/current/parent/src",
       "mkdir -p $1/v2/parent/src && touch $1/v2/parent/src/new && ln -s v2 $1/next && mv -T $1/next $1/current"},
      {"last", "/last", "mkdir $1/v2 && touch $1/v2/new && ln -s v2 $1/next && mv -T $1/next $1/last"},
      {"relink", "/current/parent/src",
       "mkdir -p $1/v2/parent/src && touch $1/v2/parent/src/new && rm $1/current && ln -s $1/v2 $1/current"},
  };
  std::string config;
  std::vector<std::pair<std::string, const Way*>> shares;
  for (const std::string kind : {"bind", "dir", "native"}) {
    for (const Way& way : ways) {
      shares.emplace_back(kind + "-" + way.name, &way);
      config += "[share." + shares.back().first + "]\ntype = \"" + (kind == "dir" ? "dir" : "bind") +
                "\"\naccess = \"" + (kind == "native" ? "native" : "proxy") + "\"\nsource = \"" + top + "/" +
                shares.back().first + way.source + "\"\n";
    }
  }
  for (const bool kill_first : {false, true}) {
    for (const auto& [share, way] : shares) {
      const std::string root = top + "/" + share;
      ASSERT_EQ(::system(("rm -rf " + root + " && mkdir -p " + root + "/grand/parent/src && touch " + root +
                          "/grand/parent/src/old && ln -s grand " + root + "/current && ln -s grand/parent/src " +
                          root + "/last")
                             .c_str()),
                0);
    }
    if (!kill_first) {
      ASSERT_TRUE(ok(server_.start(config)));
    }
    for (const auto& [share, way] : shares) {
      SCOPED_TRACE(share + (kill_first ? " after a take-over" : ""));
      EXPECT_TRUE(eventually([&, &share = share] { return ok(server_.read_file("namespace/" + share + "/old")); }));
    }
    if (kill_first) {
      ASSERT_NO_FATAL_FAILURE(server_.kill_server());
    }
    for (const auto& [share, way] : shares) {
      SCOPED_TRACE(share + (kill_first ? " after a take-over" : ""));
      ASSERT_EQ(::system(("set -- " + top + "/" + share + "; " + way->move).c_str()), 0);
      EXPECT_TRUE(eventually([&, &share = share] { return ok(server_.read_file("namespace/" + share + "/new")); }))
          << server_.read_control("shares/" + share + "/status").value_or("");
      EXPECT_FALSE(ok(server_.read_file("namespace/" + share + "/old")));
    }
  }
}

TEST_F(Sources, WayThatLeadsIntoTheNamespaceIsAnErrorAndHoldsUpNothing) {
  // The owner of a directory above a source can lay such a link. berth must not wait for itself.
  const std::string top = server_.make_directory("top");
  const std::string plain = server_.make_directory("source");
  ASSERT_TRUE(ok(server_.write_file("source/hello", "hi")));
  ASSERT_EQ(::symlink(server_.in_namespace("").c_str(), (top + "/all").c_str()), 0);
  ASSERT_EQ(::symlink(server_.in_namespace("dir-last").c_str(), (top + "/last").c_str()), 0);
  ASSERT_EQ(::symlink("all/plain", (top + "/other").c_str()), 0);
  std::string config = "[share.plain]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + plain + "\"\n";
  std::vector<std::string> shares;
  for (const std::string kind : {"bind", "dir"}) {
    for (const auto& [name, source] :
         std::vector<std::pair<std::string, std::string>>{{"-all", "/all"},
                                                          {"-itself", "/all/" + kind + "-itself"},
                                                          {"-below", "/all/" + kind + "-below/x"},
                                                          {"-last", "/last"},
                                                          {"-other", "/other"},
                                                          {"-up", "/all/../../top/all"}}) {
      shares.push_back(kind + name);
      config += "[share." + shares.back() + "]\ntype = \"" + kind + "\"\nsource = \"" + top + source + "\"\n";
    }
  }
  ASSERT_TRUE(ok(server_.start(config)));
  for (const std::string& share : shares) {
    EXPECT_EQ(::access(server_.in_namespace(share + "/x").c_str(), F_OK), -1);
    EXPECT_EQ(errno, EHOSTDOWN) << share;
    const std::string error = server_.read_control("shares/" + share + "/error").value_or("");
    EXPECT_NE(error.find("it leads into the namespace itself"), std::string::npos) << share << ": " << error;
  }
  EXPECT_TRUE(ok(server_.read_file("namespace/plain/hello")));
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Sources, OptionsShowAPartOfADiskAndNamesWithCommas) {
  const std::string image = server_.path("disk.img");
  const std::string scratch = server_.make_directory("scratch");
  const std::string layer = server_.make_directory("ov,a:b");
  ASSERT_TRUE(ok(server_.write_file("ov,a:b/there", "")));
  ASSERT_EQ(
      ::system(("truncate -s 8M " + image + " && mkfs.ext4 -q " + image + " && mount -o loop " + image + " " + scratch +
                " && mkdir -p " + scratch + "/part/a && touch " + scratch + "/secret && umount " + scratch)
                   .c_str()),
      0);
  ASSERT_TRUE(
      ok(server_.start("[share.part]\ntype = \"ext4\"\nsource = \"" + image +
                       "\"\noptions = \"X-mount.subdir=part\"\n[share.none]\ntype = \"ext4\"\nsource = \"" + image +
                       "\"\noptions = \"X-mount.subdir=missing\"\n[share.out]\ntype = \"ext4\"\nsource = \"" + image +
                       "\"\noptions = \"X-mount.subdir=..\"\n[share.comma]\ntype = \"overlay\"\noptions = 'lowerdir=" +
                       server_.path("ov\\,a\\:b") + ":" + scratch + "'\n")));
  EXPECT_EQ(errno_of_listing("none"), EHOSTDOWN);
  EXPECT_EQ(errno_of_listing("out"), EHOSTDOWN);
  EXPECT_EQ(::access(server_.in_namespace("part/a").c_str(), F_OK), 0);
  EXPECT_NE(::access(server_.in_namespace("part/secret").c_str(), F_OK), 0);
  EXPECT_EQ(::access(server_.in_namespace("comma/there").c_str(), F_OK), 0) << std::strerror(errno);
}

}  // namespace
}  // namespace berth::test
