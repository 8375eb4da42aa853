#include "fuse/control/control_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "fuse/control/control_handles.h"
#include "src/lib/formats/json.h"
#include "tests/fake/control_fixture.h"

namespace berth::fuse::testing {
namespace {

using manager::ShareState;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

TEST_F(ControlTreeTest, ShowsTheTree) {
  EXPECT_THAT(kernel->list(root), UnorderedElementsAre("version", "status", "status.json", "events", "metrics",
                                                       "control", "reload", "reload-dry-run", "sources", "shares"));
  EXPECT_THAT(kernel->list(at("shares")), ElementsAre("home", "media"));
  EXPECT_THAT(kernel->list(at("shares/home")), ElementsAre("alice", "bob"));
  EXPECT_THAT(kernel->list(at("shares/home/alice")), UnorderedElementsAre("state", "status", "status.json", "error",
                                                                          "users", "log", "control", "attachments"));
  EXPECT_THAT(kernel->list(at("shares/media/attachments")), ElementsAre());
}

TEST_F(ControlTreeTest, ListingCountsNoLookUps) {
  const NodeId shares = at("shares");
  const std::size_t known = tree->counts().nodes;
  EXPECT_THAT(kernel->list(shares, true), ElementsAre("home", "media"));
  EXPECT_EQ(tree->counts().nodes, known);
}

TEST_F(ControlTreeTest, WhatIsNotThereIsEnoent) {
  EXPECT_EQ(kernel->walk(root, "nothing"), -ENOENT);
  EXPECT_EQ(kernel->walk(root, "shares/hom"), -ENOENT);
  EXPECT_EQ(kernel->walk(root, "shares/home/alice/nothing"), -ENOENT);
  EXPECT_EQ(kernel->walk(root, "shares/media/attachments/vm1"), -ENOENT);
  EXPECT_EQ(kernel->lookup(root, std::string(256, 'x')).error, ENAMETOOLONG);
}

TEST_F(ControlTreeTest, ModesSayWhoMayChange) {
  const auto mode_of = [this](std::string_view path) { return kernel->getattr(at(path)).as<fuse_attr_out>().attr; };
  EXPECT_EQ(mode_of("status").mode, static_cast<unsigned>(S_IFREG | 0444));
  EXPECT_EQ(mode_of("shares").mode, static_cast<unsigned>(S_IFDIR | 0555));
  EXPECT_EQ(mode_of("shares/media/control").mode, static_cast<unsigned>(S_IFREG | 0660));
  EXPECT_EQ(mode_of("shares/media/control").gid, kGroup);
  EXPECT_EQ(mode_of("shares/media/control").uid, 0U);
  EXPECT_EQ(mode_of("shares/media/attachments").mode, static_cast<unsigned>(S_IFDIR | 0775));
  EXPECT_EQ(kernel->getattr(root).as<fuse_attr_out>().attr.mode, static_cast<unsigned>(S_IFDIR | 0555));
}

TEST_F(ControlTreeTest, InodeNumbersAreTheOnesThatAreListed) {
  // READDIR and LOOKUP must agree, and no two paths share one.
  const auto inode_of = [this](std::string_view path) {
    return kernel->getattr(at(path)).as<fuse_attr_out>().attr.ino;
  };
  EXPECT_NE(inode_of("status"), inode_of("shares/media/status"));
  EXPECT_NE(inode_of("shares/home/alice/status"), inode_of("shares/home/bob/status"));
  EXPECT_EQ(inode_of("shares/media/status"), inode_of("shares/media/status"));
}

TEST_F(ControlTreeTest, ReadingMountsNothing) {
  for (const char* file : {"version", "status", "status.json", "events", "metrics"}) read(file);
  for (const char* file : {"state", "status", "status.json", "error", "users"}) {
    read(std::string("shares/home/alice/") + file);
  }
  EXPECT_EQ(read("version"), "1.2.3\n");
  EXPECT_EQ(read("shares/media/state"), "idle\n");
  EXPECT_EQ(backend->mounts(), 0);
}

TEST_F(ControlTreeTest, ReadingWaitsForNoMount) {
  backend->hold();
  const NodeId control = at("shares/media/control");
  const std::uint64_t handle = kernel->open(control, O_WRONLY).as<fuse_open_out>().fh;
  const std::uint64_t request = kernel->send_write(control, handle, "mount\n");
  while (backend->mounts() == 0) std::this_thread::yield();
  EXPECT_EQ(read("shares/media/state"), "mounting\n");
  EXPECT_THAT(read("status"), HasSubstr("mounting"));
  EXPECT_FALSE(kernel->answered(request));
  backend->release();
  EXPECT_EQ(kernel->wait(request).error, 0);
  EXPECT_EQ(read("shares/media/state"), "mounted\n");
  kernel->release(control, handle);
}

TEST_F(ControlTreeTest, StatusJsonIsReadBack) {
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  const auto share = formats::parse_share_json(read("shares/media/status.json"));
  ASSERT_TRUE(share) << share.error().message();
  EXPECT_EQ(share->name, "media");
  EXPECT_EQ(share->state, "mounted");
  EXPECT_EQ(share->source, "/srv/media");
  EXPECT_EQ(share->mounts, 1U);
  EXPECT_EQ(share->origin, "berth.toml:7");
  const auto berth = formats::parse_namespace_json(read("status.json"));
  ASSERT_TRUE(berth) << berth.error().message();
  EXPECT_EQ(berth->version, "1.2.3");
  EXPECT_EQ(berth->keeper, 11);
  EXPECT_EQ(berth->server, 12);
  ASSERT_EQ(berth->shares.size(), 3U);
  EXPECT_EQ(berth->shares[2].state, "mounted");
}

TEST_F(ControlTreeTest, MetricsCountWhatHappensAndNameWhatFails) {
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  backend->fail_with(EACCES);
  EXPECT_EQ(write("shares/home/bob/control", "mount"), EACCES);
  const std::string text = read("metrics");
  for (const char* line :
       {"berth_build_info{version=\"1.2.3\"} 1\n", "berth_shares{state=\"mounted\"} 1\n",
        "berth_shares{state=\"failed\"} 1\n", "berth_shares{state=\"idle\"} 1\n",
        "berth_events_total{event=\"mounted\"} 1\n", "berth_mount_failures_total{errno=\"EACCES\"} 1\n",
        "berth_mount_duration_seconds_count{result=\"success\"} 1\n",
        "berth_share_in_trouble{share=\"home/bob\",state=\"failed\"} 1\n"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
}

TEST_F(ControlTreeTest, OpenFileIsASnapshot) {
  const NodeId state_file = at("shares/media/state");
  const std::uint64_t handle = kernel->open(state_file, O_RDONLY).as<fuse_open_out>().fh;
  EXPECT_EQ(kernel->read(state_file, handle, 0, 2).text(), "id");
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  EXPECT_EQ(kernel->read(state_file, handle, 2).text(), "le\n");
  EXPECT_EQ(kernel->read(state_file, handle, 100).text(), "");
  kernel->release(state_file, handle);
}

TEST_F(ControlTreeTest, WordsMountAndUnmount) {
  EXPECT_EQ(write("shares/media/control", "mount\n"), 0);
  EXPECT_EQ(state("media"), ShareState::kMounted);
  EXPECT_EQ(write("shares/media/control", " unmount "), 0);
  EXPECT_EQ(state("media"), ShareState::kIdle);
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  const auto lease = manager->find("media")->try_lease();
  ASSERT_TRUE(lease);
  EXPECT_EQ(write("shares/media/control", "unmount"), EBUSY);
  EXPECT_EQ(write("shares/media/control", "force-unmount"), 0);
}

TEST_F(ControlTreeTest, EachWordCanBeWrittenToAnInodeOfItsOwn) {
  const NodeId share = at("shares/media");
  const auto look_up = [&](const Caller& caller) {
    return kernel->lookup(share, "control", caller).as<fuse_entry_out>();
  };
  const fuse_entry_out first = look_up({});
  const fuse_entry_out second = look_up({});
  EXPECT_NE(first.nodeid, second.nodeid);
  EXPECT_EQ(first.attr.ino, second.attr.ino);
  EXPECT_EQ(first.attr.size, 0U);
  EXPECT_NE(look_up(kMember).nodeid, first.nodeid);
  EXPECT_EQ(look_up(kStranger).nodeid, look_up(kStranger).nodeid) << "one that may write no word";
  kernel->forget(first.nodeid, 1);
  EXPECT_EQ(kernel->getattr(first.nodeid).error, ESTALE);
  EXPECT_EQ(kernel->getattr(second.nodeid).error, 0);
}

TEST_F(ControlTreeTest, FailedMountIsTheErrnoOfTheWriteAndTheErrorFile) {
  EXPECT_EQ(read("shares/media/error"), "");
  backend->fail_with(EACCES);
  EXPECT_EQ(write("shares/media/control", "mount"), EACCES);
  const std::string error = read("shares/media/error");
  EXPECT_THAT(error, HasSubstr("EACCES"));
  EXPECT_THAT(error, HasSubstr("mount server:/export"));
  EXPECT_THAT(error, HasSubstr("exit status 32"));
  EXPECT_THAT(error, HasSubstr("access denied"));
  EXPECT_EQ(read("shares/media/state"), "failed\n");
  backend->fail_with(0);
  EXPECT_EQ(write("shares/media/control", "retry"), 0);
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
}

TEST_F(ControlTreeTest, WordThatIsNotUnderstoodIsEinvalWithTheReasonInError) {
  EXPECT_EQ(write("shares/media/control", "monut"), EINVAL);
  EXPECT_THAT(read("shares/media/error"), HasSubstr("did you mean \"mount\"?"));
  EXPECT_EQ(write("shares/media/control", ""), EINVAL);
  EXPECT_EQ(write("shares/media/control", std::string("mo\0unt", 6)), EINVAL);
  EXPECT_EQ(read("shares/home/bob/error"), "");
  EXPECT_EQ(write("control", "reloaded"), EINVAL);
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  EXPECT_EQ(read("shares/media/error"), "");
}

TEST_F(ControlTreeTest, AMebibyteOfGarbageIsRefusedAndServedOn) {
  const NodeId control = at("shares/media/control");
  const std::uint64_t handle = kernel->open(control, O_WRONLY).as<fuse_open_out>().fh;
  for (int part = 0; part < 16; ++part) {
    EXPECT_EQ(kernel->write(control, handle, std::string(65536, '\xff')).error, EMSGSIZE);
  }
  kernel->release(control, handle);
  EXPECT_LT(read("shares/media/error").size(), 1024U);
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
}

TEST_F(ControlTreeTest, OnlyRootAndTheGroupMayChange) {
  EXPECT_EQ(write("shares/media/control", "mount", kStranger), EACCES);
  EXPECT_EQ(kernel->mkdir(at("shares/media/attachments"), "vm1", 0755, kStranger).error, EACCES);
  EXPECT_EQ(backend->mounts(), 0);
  EXPECT_EQ(write("shares/media/control", "mount", kMember), 0);
  EXPECT_EQ(kernel->mkdir(at("shares/media/attachments"), "vm1", 0755, kMember).error, 0);
  EXPECT_EQ(kernel->rmdir(at("shares/media/attachments"), "vm1", kStranger), EACCES);
  EXPECT_EQ(kernel->rmdir(at("shares/media/attachments"), "vm1", kMember), 0);
}

TEST_F(ControlTreeTest, NothingElseCanBeChanged) {
  EXPECT_EQ(kernel->open(at("status"), O_RDWR).error, EACCES);
  EXPECT_EQ(kernel->open(at("events"), O_WRONLY | O_TRUNC).error, EACCES);
  EXPECT_EQ(kernel->open(at("shares"), O_RDONLY).error, EISDIR);
  EXPECT_EQ(kernel->opendir(at("status")).error, ENOTDIR);
  EXPECT_EQ(kernel->unlink(at("shares/media"), "status"), EPERM);
  EXPECT_EQ(kernel->rmdir(at("shares"), "media"), EPERM);
  EXPECT_EQ(kernel->rmdir(at("shares/media"), "status"), ENOTDIR);
  EXPECT_EQ(kernel->mkdir(at("shares"), "new").error, EPERM);
  EXPECT_EQ(kernel->rename(at("shares/media"), "status", at("shares/media"), "x"), EPERM);
}

TEST_F(ControlTreeTest, ControlFilesCanBeTruncatedToNoEffect) {
  fuse_setattr_in in{};
  in.valid = FATTR_SIZE;
  const std::span<const char> payload(reinterpret_cast<const char*>(&in), sizeof in);
  EXPECT_EQ(kernel->call(FUSE_SETATTR, at("shares/media/control"), payload).error, 0);
  EXPECT_EQ(kernel->call(FUSE_SETATTR, at("shares/media/control"), payload, kStranger).error, EACCES);
  EXPECT_EQ(kernel->call(FUSE_SETATTR, at("shares/media/status"), payload).error, EPERM);
  in.valid = FATTR_MODE;
  EXPECT_EQ(kernel->call(FUSE_SETATTR, at("shares/media/control"), payload).error, EPERM);
}

TEST_F(ControlTreeTest, UsersNameWhoHoldsIt) {
  users = {{.pid = ::getpid(), .uid = 1000, .directory = false, .what = "films/one.mkv"},
           {.pid = 0, .uid = 5, .directory = true, .what = ""}};
  EXPECT_EQ(kernel->mkdir(at("shares/media/attachments"), "vm1").error, 0);
  EXPECT_EQ(kernel->mkdir(at("shares/media/attachments/vm1"), "disk").error, 0);
  const std::string text = read("shares/media/users");
  EXPECT_THAT(text, HasSubstr("films/one.mkv"));
  EXPECT_THAT(text, HasSubstr("fake-control"));
  EXPECT_THAT(text, HasSubstr(std::to_string(::getpid())));
  EXPECT_THAT(text, HasSubstr("directory"));
  EXPECT_THAT(text, HasSubstr("vm1/disk"));
  EXPECT_EQ(read("shares/home/bob/users"), "");
}

TEST_F(ControlTreeTest, InterruptedControlWriteIsEintrAndTheMountGoesOn) {
  backend->hold();
  const NodeId control = at("shares/media/control");
  const std::uint64_t handle = kernel->open(control, O_WRONLY).as<fuse_open_out>().fh;
  const std::uint64_t request = kernel->send_write(control, handle, "mount\n");
  while (backend->mounts() == 0) std::this_thread::yield();
  kernel->interrupt(request);
  EXPECT_EQ(kernel->wait(request).error, EINTR);
  backend->release();
  EXPECT_EQ(kernel->write(control, handle, "mount").error, 0);
  EXPECT_EQ(backend->mounts(), 1);
  kernel->release(control, handle);
}

TEST_F(ControlTreeTest, OpenFilesAreBoundedForEachUserAndLeaveRoomForRootAndTheGroup) {
  const NodeId version = at("version");
  std::vector<std::uint64_t> handles;
  const auto fill = [&](const Caller& caller) {
    for (;;) {
      const Answer answer = kernel->open(version, O_RDONLY, caller);
      if (answer.error != 0) return answer.error;
      handles.push_back(answer.as<fuse_open_out>().fh);
    }
  };
  EXPECT_EQ(fill(kStranger), EMFILE);
  EXPECT_EQ(handles.size(), ControlHandles::kOneStranger.handles);
  EXPECT_EQ(kernel->opendir(root, kStranger).error, EMFILE);
  EXPECT_EQ(kernel->open(at("shares/media/users"), O_RDONLY, kStranger).error, EMFILE);
  for (uid_t uid = 2000; uid < 2100; ++uid) EXPECT_EQ(fill({.uid = uid, .gid = uid, .pid = 0}), EMFILE);
  EXPECT_EQ(handles.size(), ControlHandles::kStrangers.handles);
  // Root and the group still work.
  EXPECT_EQ(read("version"), "1.2.3\n");
  EXPECT_EQ(write("shares/media/control", "mount", kMember), 0);
  EXPECT_EQ(fill({}), EMFILE);
  EXPECT_EQ(handles.size(), ControlHandles::kAll.handles);
  EXPECT_EQ(kernel->opendir(root).error, EMFILE);
  for (const std::uint64_t handle : handles) kernel->release(version, handle);
  EXPECT_EQ(read("version"), "1.2.3\n");
}

TEST_F(ControlTreeTest, NamesOfOpenFilesAreToldToRootTheGroupAndTheirUserAlone) {
  users = {{.pid = 0, .uid = 1000, .directory = false, .what = "mine"},
           {.pid = 0, .uid = 1001, .directory = false, .what = "others"}};
  const auto read_as = [this](const Caller& caller) {
    const NodeId node = at("shares/media/users");
    const std::uint64_t handle = kernel->open(node, O_RDONLY, caller).as<fuse_open_out>().fh;
    const std::string text = kernel->read(node, handle, 0).text();
    kernel->release(node, handle);
    return text;
  };
  for (const Caller& all : {Caller{}, kMember}) {
    EXPECT_THAT(read_as(all), AllOf(HasSubstr("mine"), HasSubstr("others")));
  }
  EXPECT_THAT(read_as(kStranger), AllOf(HasSubstr("mine"), Not(HasSubstr("others"))));
  EXPECT_THAT(read_as({.uid = 77, .gid = 77, .pid = 0}), AllOf(Not(HasSubstr("mine")), Not(HasSubstr("others"))));
}

TEST_F(ControlTreeTest, NodesThatWereForgottenAreStale) {
  const NodeId node = at("shares/media");
  kernel->forget(node, kernel->look_ups(node));
  while (kernel->getattr(node).error == 0) std::this_thread::yield();
  EXPECT_EQ(kernel->getattr(node).error, ESTALE);
  EXPECT_EQ(kernel->getattr(make_node_id(NodeOwner::kControl, 1234567)).error, ESTALE);
  EXPECT_EQ(kernel->read(node, 4711, 0).error, EBADF);
}

TEST_F(ControlTreeTest, ForgetsAreCountedPerNode) {
  const NodeId node = at("version");
  EXPECT_EQ(at("version"), node);
  EXPECT_EQ(kernel->look_ups(node), 2U);
  kernel->forget(node, 1);
  EXPECT_EQ(kernel->lookup(root, "fence").error, ENOENT);
  EXPECT_EQ(kernel->getattr(node).error, 0);
}

formats::HostView host_of(const std::string& json) { return formats::parse_namespace_json(json).value().host; }

TEST_F(ControlTreeTest, DrainAndResumeAreWordsForTheHost) {
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  EXPECT_EQ(host_of(read("status.json")).state, "up");
  EXPECT_EQ(write("control", "drain\n"), 0);
  EXPECT_EQ(state("media"), ShareState::kIdle);
  EXPECT_EQ(host_of(read("status.json")).state, "drained");
  EXPECT_THAT(read("status"), HasSubstr("warning: the host is drained"));
  EXPECT_EQ(write("shares/media/control", "mount"), ESHUTDOWN);
  EXPECT_EQ(write("control", "drain"), 0) << "a second one is no error";
  EXPECT_EQ(write("control", "resume"), 0);
  EXPECT_EQ(host_of(read("status.json")).generation, 1U);
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  EXPECT_EQ(write("control", "resume"), 0) << "a second one is no error";
  EXPECT_THAT(read("events"), AllOf(HasSubstr(" draining reason="), HasSubstr(" drained reason="),
                                    HasSubstr(" resumed reason=\"generation 1\""), HasSubstr(" warning reason=")));
}

TEST_F(ControlTreeTest, HostWordsAreForRootAndTheGroup) {
  EXPECT_EQ(write("control", "drain", kStranger), EACCES);
  EXPECT_EQ(host_of(read("status.json")).state, "up");
  EXPECT_EQ(write("control", "drain", kMember), 0);
  EXPECT_EQ(write("control", "resume", kMember), 0);
  EXPECT_EQ(write("control", "drain media"), EINVAL);
  EXPECT_EQ(write("control", "mount"), EINVAL);
  EXPECT_EQ(write("control", std::string(5000, 'x')), EMSGSIZE);
}

TEST_F(ControlTreeTest, InterruptedDrainIsInForceAndWaitsForNobody) {
  const NodeId attachments = at("shares/media/attachments");
  ASSERT_EQ(kernel->mkdir(attachments, "vm").error, 0);
  ASSERT_EQ(kernel->mkdir(at("shares/media/attachments/vm"), "disk").error, 0);
  const NodeId control = at("control");
  const std::uint64_t handle = kernel->open(control, O_WRONLY).as<fuse_open_out>().fh;
  const std::uint64_t request = kernel->send_write(control, handle, "drain\n");
  while (host_of(read("status.json")).state != "draining") std::this_thread::yield();
  EXPECT_FALSE(kernel->answered(request));
  EXPECT_EQ(state("media"), ShareState::kDraining);
  kernel->interrupt(request);
  EXPECT_EQ(kernel->wait(request).error, EINTR);
  kernel->release(control, handle);
  EXPECT_EQ(host_of(read("status.json")).state, "draining");
  EXPECT_EQ(kernel->mkdir(at("shares/media/attachments/vm"), "other").error, ESHUTDOWN);
  EXPECT_EQ(kernel->rmdir(at("shares/media/attachments/vm"), "disk"), 0);
  while (host_of(read("status.json")).state != "drained") std::this_thread::yield();
  EXPECT_EQ(state("media"), ShareState::kIdle);
}

}  // namespace
}  // namespace berth::fuse::testing
