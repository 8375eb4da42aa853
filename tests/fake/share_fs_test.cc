#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <future>

#include "tests/fake/shares_fixture.h"
#include "tests/unit/eventually.h"

namespace berth::fuse::testing {
namespace {

using ::testing::UnorderedElementsAre;

class ShareFsTest : public SharesTest {};

TEST_F(ShareFsTest, MountsWhenALookUpGoesIn) {
  add_share("a");
  write_real("a/file", "hello");
  start();
  const NodeId root = node("a");
  attributes(root);
  EXPECT_EQ(mounts(), 0);
  EXPECT_EQ(kernel().read_file(node("a/file")), "hello");
  EXPECT_EQ(mounts(), 1);
}

TEST_F(ShareFsTest, ShowsTheRealRootFromTheFirstMountOn) {
  manager::SharePolicy policy;
  policy.mode = 0711;
  policy.owner = 4711;
  add_share("a", policy);
  ::chmod(real("a").c_str(), 0705);
  start();
  const fuse_attr before = attributes(node("a"));
  EXPECT_EQ(before.mode & 07777, 0711U);
  EXPECT_EQ(before.uid, 4711U);
  EXPECT_EQ(look_up_error(node("a"), "x"), -1);
  const fuse_attr mounted = attributes(node("a"));
  EXPECT_EQ(mounted.mode & 07777, 0705U);
  EXPECT_EQ(mounted.ino, before.ino);
  ::chmod(real("a").c_str(), 0701);
  unmount("a");
  EXPECT_EQ(attributes(node("a")).mode & 07777, 0701U) << "as it was when it was unmounted";
  EXPECT_EQ(mounts(), 1);
}

TEST_F(ShareFsTest, LetsAnIdleRootBeBelievedUntilItIsMounted) {
  add_share("a");
  start();
  const NodeId root = node("a");
  EXPECT_GE(kernel().getattr(root).as<fuse_attr_out>().attr_valid, 60U);
  EXPECT_EQ(look_up_error(root, "x"), -1);
  const Notification told = kernel().wait_notification();
  EXPECT_EQ(told.code, FUSE_NOTIFY_INVAL_INODE);
  fuse_notify_inval_inode_out about{};
  ASSERT_EQ(told.body.size(), sizeof about);
  std::memcpy(&about, told.body.data(), sizeof about);
  EXPECT_EQ(about.ino, root);
  EXPECT_LT(about.off, 0) << "attributes alone";
  EXPECT_LE(kernel().getattr(root).as<fuse_attr_out>().attr_valid, 1U);
  unmount("a");
  EXPECT_GE(kernel().getattr(root).as<fuse_attr_out>().attr_valid, 60U);
}

TEST_F(ShareFsTest, AnswersTheErrorOfAMountThatFailed) {
  add_share("a");
  backend_->error = ENODEV;
  start();
  EXPECT_EQ(look_up_error(node("a"), "x"), ENODEV);
  EXPECT_EQ(kernel().opendir(node("a")).error, ENODEV);
  EXPECT_THAT(kernel().list(kRootNode), UnorderedElementsAre("a"));
  EXPECT_TRUE(S_ISDIR(attributes(node("a")).mode));
}

TEST_F(ShareFsTest, LetsAWaitingCallerBeInterrupted) {
  add_share("a");
  start();
  const NodeId root = node("a");
  std::latch mounted(1);
  backend_->wait_for = &mounted;
  const std::uint64_t request = kernel().send_mkdir(root, "x");
  while (mounts() == 0) std::this_thread::yield();
  EXPECT_FALSE(kernel().answered(request));
  kernel().interrupt(request);
  EXPECT_EQ(kernel().wait(request).error, EINTR);
  const std::uint64_t patient = kernel().send_mkdir(root, "y");
  mounted.count_down();
  EXPECT_EQ(kernel().wait(patient).error, 0);
  EXPECT_FALSE(std::filesystem::exists(real("a/x")));
  EXPECT_TRUE(std::filesystem::is_directory(real("a/y")));
  EXPECT_EQ(mounts(), 1);
}

TEST_F(ShareFsTest, CallerThatComesDuringAnUnmountIsLetInByTheNextMount) {
  add_share("a");
  write_real("a/file", "hello");
  start();
  const NodeId root = node("a");
  EXPECT_EQ(look_up_error(root, "file"), 0);
  std::latch latch(1);
  unmount_after_ = &latch;
  manager::Share& share = *manager_->find("a");
  std::promise<int> unmounted;
  manager_->unmount(share, false,
                    [&unmounted](const Result<>& result) { unmounted.set_value(result ? 0 : result.error().code()); });
  ASSERT_TRUE(berth::testing::eventually([&] { return share.status().state == manager::ShareState::kExpiring; }));
  const std::uint64_t request = kernel().send_mkdir(root, "made");
  ASSERT_TRUE(berth::testing::eventually([&] { return share.status().waiting == 1; }));
  unmount_after_ = nullptr;  // a later unmount does not wait
  latch.count_down();
  EXPECT_EQ(kernel().wait(request).error, 0) << "not ECONNABORTED, which is for those that are given up by force";
  EXPECT_EQ(unmounted.get_future().get(), 0);
  EXPECT_EQ(mounts(), 2);
}

TEST_F(ShareFsTest, FindsNodesAgainAfterAnUnmount) {
  add_share("a");
  std::filesystem::create_directories(real("a/b/c"));
  write_real("a/b/c/file", "hello");
  start();
  const NodeId directory = node("a/b/c");
  const NodeId file = node("a/b/c/file");
  const std::uint64_t number = attributes(file).ino;
  EXPECT_GT(shares_->counts().cached_descriptors, 0U);
  unmount("a");
  EXPECT_EQ(shares_->counts().cached_descriptors, 0U);
  EXPECT_EQ(kernel().lookup(directory, "file").as<fuse_entry_out>().nodeid, file);
  unmount("a");
  EXPECT_EQ(attributes(file).ino, number);
  unmount("a");
  EXPECT_EQ(kernel().read_file(file), "hello");
  EXPECT_EQ(mounts(), 4);
}

TEST_F(ShareFsTest, SaysStaleOfWhatWasReplacedBesideUs) {
  add_share("a");
  std::filesystem::create_directories(real("a/directory"));
  write_real("a/file", "hello");
  start();
  const NodeId file = node("a/file");
  const NodeId directory = node("a/directory");
  std::filesystem::rename(real("a/file"), real("a/old"));
  write_real("a/file", "another");
  std::filesystem::rename(real("a/directory"), real("a/elsewhere"));
  EXPECT_EQ(kernel().getattr(file).error, ESTALE);
  EXPECT_EQ(kernel().open(file, O_RDONLY).error, ESTALE);
  EXPECT_EQ(kernel().open(file, O_WRONLY | O_TRUNC).error, ESTALE);
  EXPECT_EQ(kernel().call(FUSE_READLINK, file, {}).error, ESTALE);
  EXPECT_EQ(kernel().opendir(directory).error, ESTALE);
  EXPECT_EQ(look_up_error(directory, "x"), ESTALE);
  EXPECT_EQ(read_real("a/file"), "another") << "not truncated";
  EXPECT_NE(node("a/file"), file);
  EXPECT_EQ(node("a/old"), file) << "the same file under its new name";
  EXPECT_EQ(kernel().read_file(file), "hello");
}

TEST_F(ShareFsTest, KeepsAFileThatLostItsNameWhileItIsOpen) {
  add_share("a");
  write_real("a/file", "hello");
  start();
  const NodeId file = node("a/file");
  const std::uint64_t first = kernel().open(file, O_RDONLY).as<fuse_open_out>().fh;
  const std::uint64_t second = kernel().open(file, O_RDONLY).as<fuse_open_out>().fh;
  EXPECT_EQ(kernel().unlink(node("a"), "file"), 0);
  write_real("a/file", "another");
  EXPECT_EQ(attributes(file).nlink, 0U);
  EXPECT_EQ(kernel().release(file, second), 0);
  EXPECT_EQ(attributes(file).nlink, 0U) << "through the handle that is left";
  EXPECT_EQ(kernel().read(file, first, 0).text(), "hello");
  EXPECT_EQ(kernel().read_file(file), "hello") << "opened once more, as /proc/PID/fd does";
  EXPECT_EQ(kernel().release(file, first), 0);
  EXPECT_EQ(kernel().getattr(file).error, ESTALE);
}

TEST_F(ShareFsTest, FollowsItsOwnRenames) {
  add_share("a");
  std::filesystem::create_directories(real("a/from/below"));
  std::filesystem::create_directories(real("a/to"));
  write_real("a/from/below/file", "hello");
  start();
  const NodeId file = node("a/from/below/file");
  EXPECT_EQ(kernel().rename(node("a"), "from", node("a/to"), "new"), 0);
  unmount("a");
  EXPECT_EQ(kernel().read_file(file), "hello");
}

TEST_F(ShareFsTest, LeavesTheShareBeforeItAnswers) {
  add_share("a");
  write_real("a/file", "hello");
  start();
  const NodeId root = node("a");
  const NodeId file = node("a/file");
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(kernel().lookup(root, "file").error, 0);
    ASSERT_EQ(manager_->find("a")->users(), 0U);
    EXPECT_EQ(kernel().getattr(file).error, 0);
    ASSERT_EQ(manager_->find("a")->users(), 0U);
    EXPECT_EQ(kernel().getattr(root).error, 0);
    ASSERT_EQ(manager_->find("a")->users(), 0U);
  }
}

TEST_F(ShareFsTest, CountsWhoHasSomethingOpenAndStaysMountedForThem) {
  add_share("a");
  std::filesystem::create_directories(real("a/directory"));
  write_real("a/directory/file", "hello");
  start();
  const NodeId file = node("a/directory/file");
  const NodeId directory = node("a");
  const std::uint64_t handle = kernel().open(file, O_RDONLY, {.pid = 77}).as<fuse_open_out>().fh;
  const std::uint64_t listing = kernel().opendir(directory, {.pid = 78}).as<fuse_open_out>().fh;
  const auto share = manager_->find("a");
  EXPECT_EQ(share->users(), 2U);
  UsersWanted wanted{.most = 9, .most_of_one = 9, .longest_name = 99, .most_of_names = 99, .names_are_told = [](uid_t) {
                       return true;
                     }};
  const auto users = shares_->users_of(*share, wanted).users;
  ASSERT_EQ(users.size(), 2U);
  const auto& of_file = users[0].directory ? users[1] : users[0];
  const auto& of_directory = users[0].directory ? users[0] : users[1];
  EXPECT_EQ(of_file.what, "directory/file");
  EXPECT_EQ(of_file.pid, 77);
  EXPECT_EQ(of_directory.what, "");
  EXPECT_EQ(of_directory.pid, 78);
  wanted.longest_name = 6;
  for (const HandleUser& user : shares_->users_of(*share, wanted).users)
    EXPECT_EQ(user.what, user.directory ? "" : ".../file");
  wanted.names_are_told = [](uid_t) { return false; };
  wanted.most_of_one = 1;
  const HandleUsers few = shares_->users_of(*share, wanted);
  ASSERT_EQ(few.users.size(), 1U);
  EXPECT_EQ(few.users.front().what, std::nullopt);
  EXPECT_EQ(few.more, 1U);
  EXPECT_EQ(kernel().release(file, handle), 0);
  EXPECT_EQ(kernel().releasedir(directory, listing), 0);
  EXPECT_EQ(share->users(), 0U);
}

TEST_F(ShareFsTest, RefusesNodesAndHandlesThatItDidNotGiveOut) {
  add_share("a");
  write_real("a/file", "hello");
  start();
  const NodeId file = node("a/file");
  for (const NodeId invented : {make_node_id(NodeOwner::kShare, 4711), file + 1, file ^ (NodeId{1} << 40),
                                make_node_id(NodeOwner::kShare, NodeId{1} << 60 | 4711)}) {
    EXPECT_EQ(kernel().getattr(invented).error, ESTALE);
    EXPECT_EQ(look_up_error(invented, "x"), ESTALE);
    EXPECT_EQ(kernel().open(invented, 0).error, ESTALE);
    kernel().forget(invented, 4711);
  }
  for (const std::uint64_t invented : {std::uint64_t{0}, std::uint64_t{2}, ~std::uint64_t{0}}) {
    EXPECT_EQ(kernel().read(file, invented, 0).error, EBADF);
    EXPECT_EQ(kernel().write(file, invented, "x").error, EBADF);
    EXPECT_EQ(kernel().release(file, invented), EBADF);
    EXPECT_EQ(kernel().releasedir(file, invented), EBADF);
  }
  EXPECT_EQ(look_up_error(node("a"), ".."), EINVAL);
  EXPECT_EQ(look_up_error(node("a"), "../a"), EINVAL);
  EXPECT_EQ(kernel().mkdir(node("a"), "../x").error, EINVAL);
}

TEST_F(ShareFsTest, GivesANewFileInAnOldInodeANewNode) {
  add_share("a");
  start();
  const NodeId root = node("a");
  // File systems give the number of a removed file to the next one; where this one does not there is nothing to see.
  for (int i = 0; i < 50; ++i) {
    const auto old = kernel().mkdir(root, "old").as<fuse_entry_out>();
    ASSERT_EQ(kernel().rmdir(root, "old"), 0);
    const auto young = kernel().mkdir(root, "young").as<fuse_entry_out>();
    EXPECT_NE(young.nodeid, old.nodeid);
    ASSERT_EQ(kernel().rmdir(root, "young"), 0);
  }
}

TEST_F(ShareFsTest, RefusesChangesOfAReadOnlyShareBeforeItIsMounted) {
  manager::SharePolicy policy;
  policy.read_only = true;
  add_share("a", policy);
  write_real("a/file", "hello");
  start();
  const NodeId root = node("a");
  EXPECT_EQ(kernel().mkdir(root, "x").error, EROFS);
  EXPECT_EQ(kernel().unlink(root, "file"), EROFS);
  EXPECT_EQ(kernel().rename(root, "file", root, "x"), EROFS);
  EXPECT_EQ(mounts(), 0);
  const NodeId file = node("a/file");
  EXPECT_EQ(kernel().open(file, O_RDWR).error, EROFS);
  EXPECT_EQ(kernel().open(file, O_RDONLY | O_TRUNC).error, EROFS);
  EXPECT_EQ(kernel().read_file(file), "hello");
}

TEST_F(ShareFsTest, LetsInOnlyWhoTheShareAllows) {
  manager::SharePolicy policy;
  policy.allow_users = {1000};
  policy.allow_groups = {2000};
  add_share("a", policy);
  start();
  const NodeId root = node("a");
  EXPECT_EQ(kernel().lookup(root, "x", {.uid = 1001, .gid = 1001}).error, EACCES);
  EXPECT_EQ(kernel().opendir(root, {.uid = 1001, .gid = 1001}).error, EACCES);
  EXPECT_EQ(mounts(), 0);
  EXPECT_EQ(kernel().getattr(root, {.uid = 1001, .gid = 1001}).error, 0);
  if (::geteuid() != 0) GTEST_SKIP() << "only root can act as others";
  EXPECT_EQ(kernel().lookup(root, "x", {.uid = 1000, .gid = 1001}).error, 0);
  EXPECT_EQ(kernel().lookup(root, "x", {.uid = 1001, .gid = 2000}).error, 0);
}

TEST_F(ShareFsTest, ActsAsTheCaller) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can act as others";
  add_share("a");
  ::chmod(real("a").c_str(), 0777);
  std::filesystem::create_directory(real("a/private"));
  ::chmod(real("a/private").c_str(), 0700);
  write_real("a/secret", "hello");
  ::chmod(real("a/secret").c_str(), 0600);
  start();
  const Caller nobody{.uid = 65534, .gid = 65534};
  const NodeId root = node("a");
  EXPECT_EQ(kernel().lookup(node("a/private"), "x", nobody).error, EACCES);
  EXPECT_EQ(kernel().open(node("a/secret"), O_RDONLY, nobody).error, EACCES);
  EXPECT_EQ(kernel().mkdir(root, "mine", 0700, nobody).error, 0);
  struct stat made {};
  ASSERT_EQ(::stat(real("a/mine").c_str(), &made), 0);
  EXPECT_EQ(made.st_uid, 65534U);
  EXPECT_EQ(made.st_gid, 65534U);
  unmount("a");
  EXPECT_EQ(kernel().mkdir(root, "parked", 0700, nobody).error, 0) << "on the thread that mounted";
  ASSERT_EQ(::stat(real("a/parked").c_str(), &made), 0);
  EXPECT_EQ(made.st_uid, 65534U);
}

TEST_F(ShareFsTest, WritesPagesWhereTheyBelongThoughTheFileIsOpenForAppending) {
  add_share("a");
  write_real("a/file", "0123456789");
  start();
  const NodeId file = node("a/file");
  const std::uint64_t handle = kernel().open(file, O_WRONLY | O_APPEND).as<fuse_open_out>().fh;
  const auto write = [&](std::uint32_t write_flags, std::uint32_t flags) {
    struct {
      fuse_write_in in{};
      char bytes[2] = {'x', 'y'};
      char padding[6]{};
    } request;
    request.in.fh = handle;
    request.in.offset = 4;
    request.in.size = 2;
    request.in.write_flags = write_flags;
    request.in.flags = flags;
    return kernel().call(FUSE_WRITE, file, {reinterpret_cast<const char*>(&request), sizeof request.in + 2}).error;
  };
  EXPECT_EQ(write(FUSE_WRITE_CACHE, O_WRONLY | O_APPEND), 0);
  EXPECT_EQ(read_real("a/file"), "0123xy6789");
  EXPECT_EQ(write(0, O_WRONLY | O_APPEND), 0);
  EXPECT_EQ(read_real("a/file"), "0123xy6789xy");
  EXPECT_EQ(write(0, O_WRONLY), 0) << "O_APPEND was taken away with fcntl(2)";
  EXPECT_EQ(read_real("a/file"), "0123xy6789xy");
  EXPECT_EQ(kernel().release(file, handle), 0);
}

TEST_F(ShareFsTest, ShowsInListingsTheNumbersOfAttributes) {
  add_share("a");
  std::filesystem::create_directory(real("a/directory"));
  write_real("a/file", "hello");
  start();
  EXPECT_THAT(kernel().list(node("a")), UnorderedElementsAre("directory", "file"));
  EXPECT_THAT(kernel().list(node("a"), true), UnorderedElementsAre("directory", "file"));
  const fuse_read_in in{.fh = kernel().opendir(node("a")).as<fuse_open_out>().fh, .offset = 0, .size = 4096};
  const Answer page = kernel().call(FUSE_READDIR, node("a"), {reinterpret_cast<const char*>(&in), sizeof in});
  std::size_t seen = 0;
  for (std::size_t at = 0; at < page.body.size();) {
    const auto entry = page.as<fuse_dirent>(at);
    const std::string name(page.body.data() + at + FUSE_NAME_OFFSET, entry.namelen);
    at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
    if (name == "..") continue;
    EXPECT_EQ(entry.ino, attributes(name == "." ? node("a") : node("a/" + name)).ino) << name;
    ++seen;
  }
  EXPECT_EQ(seen, 3U);
  EXPECT_EQ(kernel().releasedir(node("a"), in.fh), 0);
}

}  // namespace
}  // namespace berth::fuse::testing
