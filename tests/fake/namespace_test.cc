#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <latch>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/fake/shares_fixture.h"

namespace berth::fuse::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

class NamespaceTest : public SharesTest {};

TEST_F(NamespaceTest, ListsSharesAndTheDirectoriesAboveThemAndMountsNothing) {
  for (const char* name : {"media", "home/alice", "home/bob", "a/b/c", "home-page"}) add_share(name);
  start();
  EXPECT_THAT(kernel().list(kRootNode), UnorderedElementsAre("a", "home", "home-page", "media"));
  EXPECT_THAT(kernel().list(kRootNode, true), UnorderedElementsAre("a", "home", "home-page", "media"));
  EXPECT_THAT(kernel().list(node("home")), ElementsAre("alice", "bob"));
  EXPECT_THAT(kernel().list(node("a/b"), true), ElementsAre("c"));
  for (const char* name : {"media", "home/alice", "home", "a/b"}) EXPECT_TRUE(S_ISDIR(attributes(node(name)).mode));
  EXPECT_EQ(kernel().call(FUSE_STATFS, kRootNode, {}).error, 0);
  EXPECT_EQ(mounts(), 0);
}

TEST_F(NamespaceTest, SaysWhatIsNotThere) {
  add_share("home/alice");
  start();
  EXPECT_EQ(look_up_error(kRootNode, "nobody"), -1);
  EXPECT_EQ(look_up_error(kRootNode, "hom"), -1);
  EXPECT_EQ(look_up_error(kRootNode, ".berth"), -1) << "there is no control tree here";
  EXPECT_EQ(look_up_error(node("home"), "al"), -1);
  EXPECT_EQ(look_up_error(kRootNode, std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(look_up_error(make_node_id(NodeOwner::kNamespace, 4711), "x"), ESTALE);
}

TEST_F(NamespaceTest, IsNotChangedThroughItself) {
  add_share("home/alice");
  start();
  EXPECT_EQ(kernel().mkdir(kRootNode, "new").error, EPERM);
  EXPECT_EQ(kernel().rmdir(kRootNode, "home"), EPERM);
  EXPECT_EQ(kernel().unlink(node("home"), "alice"), EPERM);
  EXPECT_EQ(kernel().rename(kRootNode, "home", kRootNode, "house"), EPERM);
  EXPECT_EQ(kernel().rename(kRootNode, "home", node("home/alice"), "house"), EXDEV);
}

TEST_F(NamespaceTest, ShowsTheSameNumbersInListingsAndAttributes) {
  add_share("home/alice");
  add_share("media");
  start();
  std::set<std::uint64_t> numbers{1};
  for (const char* name : {"home", "home/alice", "media"}) {
    const std::uint64_t number = attributes(node(name)).ino;
    EXPECT_TRUE(numbers.insert(number).second) << name;
  }
  EXPECT_EQ(attributes(node("media")).ino, ShareFs::root_inode(*manager_->find("media")));
  EXPECT_EQ(attributes(kRootNode).ino, 1U);
}

TEST_F(NamespaceTest, ListsThousandsOfSharesOverAllPages) {
  std::set<std::string> expected;
  for (int i = 0; i < 5000; ++i) {
    expected.insert("share" + std::to_string(i));
    add_share("share" + std::to_string(i), {}, "/");
  }
  start();
  for (const bool plus : {false, true}) {
    const std::vector<std::string> names = kernel().list(kRootNode, plus);
    EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected);
    EXPECT_EQ(names.size(), expected.size()) << "none twice";
  }
  EXPECT_EQ(mounts(), 0);
}

/// Whether the kernel may use the listing of the root that it has; as it opens it.
bool keeps_listing(FakeKernel& kernel) {
  const auto opened = kernel.opendir(kRootNode).as<fuse_open_out>();
  kernel.releasedir(kRootNode, opened.fh);
  return (opened.open_flags & FOPEN_KEEP_CACHE) != 0;
}

// What it does not know it would ask about name by name.
TEST_F(NamespaceTest, ListingTellsTheKernelOnlyWhatItDoesNotKnow) {
  add_share("media");
  add_share("music");
  start();
  EXPECT_FALSE(keeps_listing(kernel())) << "it has none with attributes";
  const auto list = [&] { EXPECT_THAT(kernel().list(kRootNode, true), UnorderedElementsAre("media", "music")); };
  list();
  EXPECT_TRUE(keeps_listing(kernel()));
  const NodeId media = NodeTable::root_id(0);
  const NodeId music = NodeTable::root_id(1);
  EXPECT_EQ(kernel().look_ups(media), 1U);
  EXPECT_EQ(kernel().look_ups(music), 1U);
  list();
  EXPECT_EQ(kernel().look_ups(media), 1U) << "a name alone";
  EXPECT_EQ(kernel().look_ups(music), 1U);
  kernel().forget(music, 1);
  EXPECT_EQ(look_up_error(media, "x"), -1);  // mounts it
  const std::uint64_t before = kernel().look_ups(media);
  list();
  EXPECT_EQ(kernel().look_ups(media), before + 1) << "of a mounted one nothing is believed for long";
  EXPECT_EQ(kernel().look_ups(music), 1U) << "it has been forgotten";
}

/// The errno value of asking for an access list of `node`.
int list_error(FakeKernel& kernel, NodeId node, std::string_view name, pid_t thread) {
  const fuse_getxattr_in in{.size = 0, .padding = 0};
  std::string payload(reinterpret_cast<const char*>(&in), sizeof in);
  payload.append(name).push_back('\0');
  return kernel.call(FUSE_GETXATTR, node, payload, {.pid = thread}).error;
}

TEST_F(NamespaceTest, LookUpThatComesWhileNamesAreForgottenIsSentBackOnceAndWaitsThen) {
  add_share("home/*", {}, real("homes/{key}"));
  std::filesystem::create_directories(real("homes/alice"));
  start();
  const NodeId home = node("home");
  // More than the connection holds: the names are being forgotten for as long as nothing is received.
  std::vector<std::string> names;
  for (int i = 0; i < 20000; ++i) names.push_back("home/" + std::string(200, 'x') + std::to_string(i));
  std::thread forgetting([&] { names_->forget_names(names, mount_->session()); });
  EXPECT_EQ(kernel().wait_notification().code, FUSE_NOTIFY_INVAL_ENTRY);
  std::latch source(1);
  backend_->look_up_waits_for = &source;
  const Caller caller{.pid = ::getpid()};
  EXPECT_EQ(kernel().lookup(home, "alice", caller).error, ESTALE) << "it would hold the lock of its directory";
  const std::uint64_t again = kernel().send(FUSE_LOOKUP, home, std::string("alice") + '\0', caller);
  while (kernel().wait_notification().code != FUSE_NOTIFY_INVAL_INODE) EXPECT_FALSE(kernel().answered(again));
  source.count_down();
  EXPECT_EQ(kernel().wait(again).error, 0) << "its program would be told a second time";
  forgetting.join();
}

TEST_F(NamespaceTest, SaysOfAnIdleShareThatItHasNoListsAndNotThatItCannotHaveAny) {
  constexpr pid_t kLister = 71;
  add_share("media");
  // A default list of owner, group and others (linux/posix_acl_xattr.h).
  constexpr std::array<std::uint16_t, 14> kList{2, 0,      1,      7,    0xffff, 0xffff, 4,
                                                5, 0xffff, 0xffff, 0x20, 5,      0xffff, 0xffff};
  ASSERT_EQ(::setxattr(real("media").c_str(), kDefaultList, kList.data(), sizeof kList, 0), 0) << errno;
  start();
  const NodeId media = node("media");
  const auto handle = kernel().opendir(kRootNode, {.pid = kLister}).as<fuse_open_out>().fh;
  EXPECT_EQ(list_error(kernel(), media, kDefaultList, kLister), ENODATA);
  EXPECT_EQ(list_error(kernel(), media, kAccessList, kLister), ENODATA);
  EXPECT_EQ(mounts(), 0);
  EXPECT_EQ(look_up_error(media, "x"), -1);
  unmount("media");
  EXPECT_EQ(list_error(kernel(), media, kDefaultList, kLister), 0) << "it is known now";
  EXPECT_EQ(kernel().releasedir(kRootNode, handle), 0);
}

TEST_F(NamespaceTest, RefusesHandlesThatItDidNotGiveOut) {
  start();
  EXPECT_EQ(kernel().releasedir(kRootNode, 4711), EBADF);
  const fuse_read_in in{.fh = 4711, .offset = 0, .size = 4096};
  EXPECT_EQ(kernel().call(FUSE_READDIR, kRootNode, {reinterpret_cast<const char*>(&in), sizeof in}).error, EBADF);
}

}  // namespace
}  // namespace berth::fuse::testing
