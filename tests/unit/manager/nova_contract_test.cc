// The contract of Nova's mount manager (nova/virt/libvirt/volume/mount.py): each test bears the name of the behaviour
// that it holds, lines L (locking), A (mount) and U (umount), with exact call counts; and where berth does better on
// purpose, what it does instead.
#include "tests/unit/manager/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;
using Counts = FakeBackend::Counts;

/// Nova unmounts at the last detach; here that is idle_timeout = 0.
class NovaContract : public ManagerTest {
 protected:
  void SetUp() override {
    ManagerTest::SetUp();
    add("nfs", {.idle_timeout = 0s});
    add("other", {.idle_timeout = 0s});
  }
  void settle() {
    manager_->run_pending();
    pass(1s);
  }
};

TEST_F(NovaContract, L1_OperationsOnDifferentMountpointsDoNotBlockOneAnother) {
  start();
  Answer other;
  backend_->during_mount = [&](const ShareSpec& spec, const Attempt&) {
    if (spec.name() != "nfs") return;
    other = attach("other", "vm", "vol");  // completes while "nfs" is inside its mount
    EXPECT_EQ(code_of(other), 0);
  };
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), 0);
  EXPECT_EQ(backend_->counts.mounts, 2);
}

TEST_F(NovaContract, L2_L3_RecordAppearsOnFirstAccessAndLeavesNothingAfterTheLast) {
  start();
  EXPECT_FALSE(has_berth("nfs"));
  attach("nfs", "vm", "vol");
  EXPECT_TRUE(has_berth("nfs"));
  detach("nfs", "vm", "vol");
  settle();
  EXPECT_FALSE(has_berth("nfs"));
  EXPECT_TRUE(share("nfs").status().attachments.empty());
}

TEST_F(NovaContract, L4_WaiterDuringAnUnmountNeverGetsASecondOwner) {
  start();
  attach("nfs", "vm1", "vol");
  Answer second, third;
  backend_->during_unmount = [&] {
    second = answer().first;
    auto [s2, d2] = answer();
    auto [s3, d3] = answer();
    second = s2;
    third = s3;
    manager_->attach(share("nfs"), {"vm2", "vol"}, std::move(d2));
    manager_->attach(share("nfs"), {"vm3", "vol"}, std::move(d3));
  };
  detach("nfs", "vm1", "vol");
  settle();
  EXPECT_EQ(code_of(second), 0);
  EXPECT_EQ(code_of(third), 0);
  EXPECT_EQ(backend_->counts.mounts, 2) << "exactly one new mount for both";
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(NovaContract, A1_AlreadyMountedTakesNoMountCommand) {
  start();
  std::filesystem::create_directory(berth("nfs"));
  backend_->table.insert(berth("nfs"));
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), 0);
  EXPECT_EQ(backend_->counts.mounts, 0);
  EXPECT_EQ(share("nfs").status().attachments.size(), 1U);
}

TEST_F(NovaContract, A2_NotMountedMakesTheDirectoryAndMountsOnce) {
  start();
  bool directory_was_there = false;
  backend_->during_mount = [&](const ShareSpec&, const Attempt& attempt) {
    directory_was_there = std::filesystem::is_directory(attempt.berth);
  };
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), 0);
  EXPECT_TRUE(directory_was_there);
  EXPECT_EQ(backend_->counts.mounts, 1);
}

TEST_F(NovaContract, A3_FailedCommandWhoseMountIsThereIsLoggedNotRaised) {
  start();
  backend_->mount_error = Error(EHOSTDOWN, "mount.nfs: weird");
  backend_->mounts_all_the_same = true;
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), 0);
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(told(Event::Kind::kWarning), 1);
  EXPECT_EQ(share("nfs").status().attachments.size(), 1U);
}

TEST_F(NovaContract, A4_FailedCommandWithoutAMountRaisesAndKeepsNothing) {
  start();
  backend_->mount_error = Error(EHOSTDOWN, "mount.nfs: Connection refused");
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), EHOSTDOWN);
  EXPECT_TRUE(share("nfs").status().attachments.empty());
  EXPECT_EQ(share("nfs").users(), 0U);
  EXPECT_FALSE(has_berth("nfs")) << "better than the ancestor: the directory goes as well";
}

TEST_F(NovaContract, A5_DirectoryThatCannotBeMadeIsAnErrorAndNoMountIsTried) {
  start();
  std::filesystem::remove_all(directory_);
  EXPECT_NE(code_of(attach("nfs", "vm", "vol")), 0);
  EXPECT_EQ(backend_->counts.mounts, 0);
  std::filesystem::create_directory(directory_);
  pass(3s);
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), 0) << "and the next caller may try again";
}

TEST_F(NovaContract, A6_SamePairTwiceIsOneAttachment) {
  start();
  attach("nfs", "vm", "vol");
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), 0);
  EXPECT_EQ(share("nfs").status().attachments.size(), 1U);
  detach("nfs", "vm", "vol");
  settle();
  EXPECT_EQ(backend_->counts, (Counts{.mounts = 1, .unmounts = 1, .finds = backend_->counts.finds}));
}

TEST_F(NovaContract, A7_TwoInstancesOrTwoVolumesAreTwoAttachmentsAndOneMount) {
  start();
  attach("nfs", "vm1", "vol");
  attach("nfs", "vm2", "vol");
  attach("nfs", "vm2", "vol2");
  EXPECT_EQ(share("nfs").status().attachments.size(), 3U);
  EXPECT_EQ(backend_->counts.mounts, 1);
  detach("nfs", "vm1", "vol");
  detach("nfs", "vm2", "vol");
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 0);
  detach("nfs", "vm2", "vol2");
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_FALSE(has_berth("nfs"));
}

TEST_F(NovaContract, A8_MountAfterABusyUnmountDoesNotMountAgain) {
  start();
  attach("nfs", "vm", "vol");
  backend_->unmount_error = Error(EBUSY);
  detach("nfs", "vm", "vol");
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_EQ(code_of(attach("nfs", "vm2", "vol")), 0);
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_TRUE(has_berth("nfs")) << "no rmdir after a failed unmount";
  backend_->unmount_error.reset();
  detach("nfs", "vm2", "vol");
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 2);
}

TEST_F(NovaContract, A9_OptionsBelongToTheShareSoASecondCallerCannotBringOthers) {
  start();
  attach("nfs", "vm1", "vol");
  attach("nfs", "vm2", "vol");
  EXPECT_EQ(share("nfs").spec().sources(), std::vector<std::string>{"/srv/nfs"});
  EXPECT_EQ(backend_->counts.mounts, 1);
}

TEST_F(NovaContract, U1_NotTheLastAttachmentUnmountsNothing) {
  start();
  attach("nfs", "vm1", "vol");
  attach("nfs", "vm2", "vol");
  EXPECT_EQ(code_of(detach("nfs", "vm1", "vol")), 0);
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 0);
  EXPECT_EQ(share("nfs").status().state, ShareState::kMounted);
}

TEST_F(NovaContract, U2_LastAttachmentUnmountsOnceAndRemovesTheDirectory) {
  start();
  attach("nfs", "vm", "vol");
  bool directory_was_there = false;
  backend_->during_unmount = [&] { directory_was_there = has_berth("nfs"); };
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), 0);
  settle();
  EXPECT_TRUE(directory_was_there) << "no rmdir before the unmount";
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_FALSE(has_berth("nfs"));
}

TEST_F(NovaContract, U3_BusyUnmountIsToldNotRaisedAndTriedAgainByItself) {
  start();
  attach("nfs", "vm", "vol");
  backend_->unmount_error = Error(EBUSY);
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), 0);
  settle();
  EXPECT_EQ(told(Event::Kind::kUnmountFailed), 1);
  EXPECT_TRUE(share("nfs").status().attachments.empty());
  EXPECT_EQ(share("nfs").status().state, ShareState::kMounted);
  backend_->unmount_error.reset();
  pass(10s);  // better than the ancestor (G4): nobody has to call again
  EXPECT_EQ(backend_->counts.unmounts, 2);
  EXPECT_EQ(share("nfs").status().state, ShareState::kIdle);
}

TEST_F(NovaContract, U4_FailedUnmountThatIsGoneCountsAsUnmounted) {
  start();
  attach("nfs", "vm", "vol");
  backend_->unmount_error = Error(EIO);
  backend_->unmounts_all_the_same = true;
  detach("nfs", "vm", "vol");
  settle();
  EXPECT_EQ(share("nfs").status().state, ShareState::kIdle);
  EXPECT_FALSE(has_berth("nfs"));
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(NovaContract, U5_U6_UnknownAttachmentIsEnoentAndUnmountsNothing) {
  start();
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), ENOENT);
  attach("nfs", "vm", "vol");
  EXPECT_EQ(code_of(detach("nfs", "vm", "other")), ENOENT);
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 0);
  EXPECT_EQ(share("nfs").status().attachments.size(), 1U);
}

TEST_F(NovaContract, U7_WhatSomebodyElseUnmountedIsNotUnmountedAgain) {
  start();
  attach("nfs", "vm", "vol");
  backend_->table.clear();
  manager_->report_lost(share("nfs"));
  settle();
  detach("nfs", "vm", "vol");
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 0);
}

TEST_F(NovaContract, U8_DirectoryThatIsNotEmptyIsLeftAndIsNoError) {
  start();
  attach("nfs", "vm", "vol");
  std::filesystem::create_directory(berth("nfs") + "/left-by-somebody");
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), 0);
  settle();
  EXPECT_EQ(share("nfs").status().state, ShareState::kIdle);
  EXPECT_TRUE(has_berth("nfs"));
}

TEST_F(NovaContract, U9_UnmountAfterTheLastDetachFollowsIdleTimeout) {
  add("slow", {.idle_timeout = 60s});
  start();
  attach("slow", "vm", "vol");
  detach("slow", "vm", "vol");
  pass(30s);
  EXPECT_EQ(backend_->counts.unmounts, 0);
  pass(61s);
  pass(61s);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(NovaContract, T4_SecondCallerDuringTheMountRunsNoMountAndHoldsItAgainstADetach) {
  start();
  Answer second;
  backend_->during_mount = [&](const ShareSpec&, const Attempt&) {
    auto [slot, done] = answer();
    second = slot;
    manager_->attach(share("nfs"), {"vm2", "vol"}, std::move(done));
  };
  attach("nfs", "vm1", "vol");
  EXPECT_EQ(code_of(second), 0);
  EXPECT_EQ(backend_->counts.mounts, 1);
  detach("nfs", "vm2", "vol");
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 0);
}

}  // namespace
}  // namespace berth::manager
