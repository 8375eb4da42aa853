#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "tests/fake/control_fixture.h"

namespace berth::fuse::testing {
namespace {

using manager::ShareState;
using ::testing::ElementsAre;

class AttachmentsTest : public ControlTreeTest {
 protected:
  /// mkdir of a path below the attachments of media: the errno value.
  int make(const std::string& path) {
    const std::size_t slash = path.find('/');
    const std::string base = "shares/media/attachments";
    if (slash == std::string::npos) return kernel->mkdir(at(base), path).error;
    return kernel->mkdir(at(base + "/" + path.substr(0, slash)), path.substr(slash + 1)).error;
  }
  int remove(const std::string& path) {
    const std::size_t slash = path.find('/');
    const std::string base = "shares/media/attachments";
    if (slash == std::string::npos) return kernel->rmdir(at(base), path);
    return kernel->rmdir(at(base + "/" + path.substr(0, slash)), path.substr(slash + 1));
  }
};

TEST_F(AttachmentsTest, MkdirAttachesAndRmdirDetaches) {
  EXPECT_EQ(make("vm1"), 0);
  EXPECT_EQ(state("media"), ShareState::kIdle);
  EXPECT_EQ(make("vm1/disk"), 0);
  EXPECT_EQ(state("media"), ShareState::kMounted);
  EXPECT_EQ(manager->find("media")->users(), 1U);
  EXPECT_THAT(kernel->list(at("shares/media/attachments")), ElementsAre("vm1"));
  EXPECT_THAT(kernel->list(at("shares/media/attachments/vm1")), ElementsAre("disk"));
  EXPECT_THAT(kernel->list(at("shares/media/attachments/vm1/disk")), ElementsAre("attached"));
  EXPECT_EQ(remove("vm1"), ENOTEMPTY);
  EXPECT_EQ(remove("vm1/disk"), 0);
  EXPECT_EQ(manager->find("media")->users(), 0U);
  EXPECT_THAT(kernel->list(at("shares/media/attachments/vm1")), ElementsAre());
  EXPECT_EQ(remove("vm1"), 0);
  EXPECT_EQ(remove("vm1"), ENOENT);
  EXPECT_THAT(kernel->list(at("shares/media/attachments")), ElementsAre());
}

TEST_F(AttachmentsTest, WhatIsThereIsEexist) {
  EXPECT_EQ(make("vm1"), 0);
  EXPECT_EQ(make("vm1"), EEXIST);
  EXPECT_EQ(make("vm1/disk"), 0);
  EXPECT_EQ(make("vm1/disk"), EEXIST);
  EXPECT_EQ(make("vm1"), EEXIST);
  EXPECT_EQ(manager->find("media")->users(), 1U);
}

TEST_F(AttachmentsTest, DetachingWhatIsNotThereIsEnoent) {
  EXPECT_EQ(make("vm1"), 0);
  EXPECT_EQ(remove("vm1/disk"), ENOENT);
  EXPECT_EQ(remove("vm2"), ENOENT);
}

TEST_F(AttachmentsTest, NamesAreChecked) {
  EXPECT_EQ(make(std::string(256, 'x')), ENAMETOOLONG);
  EXPECT_EQ(make(".."), EINVAL);
  EXPECT_EQ(make(std::string(255, 'x')), 0);
  EXPECT_EQ(make(std::string(255, 'x') + "/" + std::string(256, 'y')), ENAMETOOLONG);
  EXPECT_EQ(make(std::string(255, 'x') + "/" + std::string(255, 'y')), 0);
  EXPECT_EQ(make("line\nbreak"), 0);
}

TEST_F(AttachmentsTest, FailedMountFailsTheMkdirAndLeavesNothing) {
  backend->fail_with(EACCES);
  EXPECT_EQ(make("vm1"), 0);
  EXPECT_EQ(make("vm1/disk"), EACCES);
  EXPECT_THAT(kernel->list(at("shares/media/attachments/vm1")), ElementsAre());
  EXPECT_EQ(kernel->walk(root, "shares/media/attachments/vm1/disk"), -ENOENT);
  EXPECT_EQ(remove("vm1"), 0);
}

TEST_F(AttachmentsTest, InterruptedMkdirLeavesNoAttachment) {
  backend->hold();
  EXPECT_EQ(make("vm1"), 0);
  const std::uint64_t request = kernel->send_mkdir(at("shares/media/attachments/vm1"), "disk");
  while (backend->mounts() == 0) std::this_thread::yield();
  EXPECT_FALSE(kernel->answered(request));
  kernel->interrupt(request);
  EXPECT_EQ(kernel->wait(request).error, EINTR);
  backend->release();
  // The mount continues; its attachment is given back when it is there.
  while (state("media") != ShareState::kMounted || manager->find("media")->users() != 0 ||
         manager->find("media")->attachment_count() != 0) {
    std::this_thread::yield();
  }
  EXPECT_EQ(make("vm1/disk"), 0);
}

TEST_F(AttachmentsTest, WhoAsksAgainForWhatAnotherHasLeftKeepsIt) {
  EXPECT_EQ(make("vm1"), 0);
  const NodeId instance = at("shares/media/attachments/vm1");
  int left = 0;
  for (int i = 0; i < 2000 && left < 20; ++i) {
    const std::uint64_t request = kernel->send_mkdir(instance, "disk");
    kernel->interrupt(request);
    const int told = kernel->wait(request).error;
    ASSERT_TRUE(told == 0 || told == EINTR) << told;
    if (told == EINTR) ++left;
    ASSERT_EQ(make("vm1/disk"), told == 0 ? EEXIST : 0);
    // Whatever was to be given back has been by now.
    ASSERT_EQ(make("vm1/other"), 0);
    ASSERT_EQ(remove("vm1/other"), 0);
    ASSERT_TRUE(manager->find("media")->has_attachment({.instance = "vm1", .volume = "disk"}));
    ASSERT_EQ(remove("vm1/disk"), 0);
  }
}

TEST_F(AttachmentsTest, InstancesAreBounded) {
  const NodeId parent = at("shares/media/attachments");
  for (std::size_t i = 0; i < max_attachments; ++i) {
    ASSERT_EQ(kernel->mkdir(parent, "vm" + std::to_string(i)).error, 0);
  }
  EXPECT_EQ(kernel->mkdir(parent, "one-more").error, EMLINK);
  EXPECT_EQ(kernel->rmdir(parent, "vm7"), 0);
  EXPECT_EQ(kernel->mkdir(parent, "one-more").error, 0);
}

TEST_F(AttachmentsTest, TenThousandAttachmentsAreListed) {
  constexpr std::size_t kMany = 10'000;
  EXPECT_EQ(make("vm1"), 0);
  const NodeId instance = at("shares/media/attachments/vm1");
  std::vector<std::string> expected;
  for (std::size_t i = 0; i < kMany; ++i) {
    expected.push_back("disk" + std::to_string(i));
    ASSERT_EQ(kernel->mkdir(instance, expected.back()).error, 0);
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(kernel->list(instance), expected);
  EXPECT_EQ(kernel->list(instance, true), expected);
  EXPECT_EQ(backend->mounts(), 1);
  EXPECT_EQ(manager->find("media")->users(), kMany);
  EXPECT_EQ(remove("vm1/disk77"), 0);
  EXPECT_EQ(kernel->list(instance).size(), kMany - 1);
}

class FewAttachmentsTest : public AttachmentsTest {
 protected:
  FewAttachmentsTest() { max_attachments = 2; }
};

TEST_F(FewAttachmentsTest, OneBeyondTheLimitIsEmlink) {
  EXPECT_EQ(make("vm1"), 0);
  EXPECT_EQ(make("vm1/a"), 0);
  EXPECT_EQ(make("vm1/b"), 0);
  EXPECT_EQ(make("vm1/c"), EMLINK);
  EXPECT_EQ(remove("vm1/a"), 0);
  EXPECT_EQ(make("vm1/c"), 0);
}

}  // namespace
}  // namespace berth::fuse::testing
