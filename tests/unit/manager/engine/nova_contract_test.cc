// The contract of Nova's mount manager (nova/virt/libvirt/volume/mount.py): each test bears the name of the behaviour
// that it holds, lines L (locking), A (mount), U (umount) and M (host_up and host_down), with exact call counts; and
// where berth does better on purpose, what it does instead.
#include "tests/unit/manager/engine/fixture.h"

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
  pass(10s);  // better than the ancestor (G4): no caller has to call again
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
  manager_->report_lost(share("nfs"), share("nfs").mount_generation());
  settle();
  EXPECT_EQ(backend_->counts.unmounts, 0);
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), 0);
}

TEST_F(NovaContract, U8_DirectoryThatIsNotEmptyIsLeftAndIsNoError) {
  start();
  attach("nfs", "vm", "vol");
  std::filesystem::create_directory(berth("nfs") + "/left-by-a-program");
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

/// host_down is drain, host_up is resume, a state with its generation is HostState. What holds a state there for the
/// time of its with-body is here an operation that is not answered yet.
class NovaHost : public NovaContract {
 protected:
  /// No state yet, as after Nova's start.
  void start_without_state() {
    setup_.host = HostState{};
    start();
  }
  Answer drain() {
    auto [slot, done] = answer();
    manager_->drain(std::move(done));
    return slot;
  }
  Answer resume() {
    auto [slot, done] = answer();
    manager_->resume(std::move(done));
    return slot;
  }
  /// Asks for an attachment and runs until its mount runs, which ends only when `during` has returned.
  template <typename During>
  Answer attach_during(const std::string& name, During during) {
    backend_->during_mount = [this, during](const ShareSpec&, const Attempt&) {
      backend_->during_mount = nullptr;
      during();
    };
    return attach(name, "vm", "vol");
  }
};

TEST_F(NovaHost, M1_InitiallyThereIsNoStateNoUseAndTheNextGenerationIsZero) {
  start_without_state();
  const HostStatus host = manager_->host();
  EXPECT_FALSE(host.state.up);
  EXPECT_EQ(host.state.next_generation, 0U);
  EXPECT_EQ(host.uses, 0U);
}

TEST_F(NovaHost, M2_WithoutAStateEveryRequestIsRefusedAtOnceAndSaysWhy) {
  start_without_state();
  const auto lease = ask("nfs");
  auto [mounted, done] = answer();
  manager_->mount(share("nfs"), std::move(done));
  const Answer attached = attach("nfs", "vm", "vol");
  EXPECT_EQ(code_of(lease), ESHUTDOWN);
  EXPECT_EQ(code_of(mounted), ESHUTDOWN);
  EXPECT_EQ(code_of(attached), ESHUTDOWN);
  EXPECT_NE((*attached)->error().story().find("drained"), std::string::npos);
  EXPECT_EQ(backend_->counts, Counts{});
}

TEST_F(NovaHost, M3_WhoAsksWhileAStateIsBuiltWaitsForIt) {
  start_without_state();
  const Answer up = resume();
  const auto lease = ask("nfs");
  manager_->run_pending();
  EXPECT_EQ(code_of(up), 0);
  EXPECT_EQ(code_of(lease), 0);
}

TEST_F(NovaHost, M4_EachOperationIsAUseUntilItIsAnsweredAlsoWhenItFails) {
  start();
  std::size_t during = 0;
  attach_during("nfs", [&] { during = manager_->host().uses; });
  EXPECT_GE(during, 1U);
  EXPECT_EQ(manager_->host().uses, 0U) << "an attachment that is there is no operation";
  backend_->mount_error = Error(EHOSTDOWN);
  during = 0;
  EXPECT_EQ(code_of(attach_during("other", [&] { during = manager_->host().uses; })), EHOSTDOWN);
  EXPECT_GE(during, 1U);
  EXPECT_EQ(manager_->host().uses, 0U);
}

TEST_F(NovaHost, M5_ResumeWhenDownBuildsOneStateWithTheNextGeneration) {
  start_without_state();
  for (std::uint64_t generation = 0; generation < 3; ++generation) {
    const Answer up = resume();
    manager_->run_pending();
    EXPECT_EQ(code_of(up), 0);
    EXPECT_TRUE(manager_->host().state.up);
    EXPECT_EQ(manager_->host().state.generation(), generation);
    EXPECT_EQ(manager_->host().state.next_generation, generation + 1);
    const Answer down = drain();
    manager_->run_pending();
    EXPECT_EQ(code_of(down), 0);
  }
  EXPECT_EQ(told(Event::Kind::kResumed), 3);
  EXPECT_EQ(told(Event::Kind::kWarning), 0);
}

TEST_F(NovaHost, M6_ResumeWhenUpWarnsAndBuildsTheNextGenerationAndUnmountsNothing) {
  start();
  attach("nfs", "vm", "vol");
  const auto idle = ask("other");
  manager_->run_pending();
  const Answer up = resume();
  manager_->run_pending();
  EXPECT_EQ(code_of(up), 0) << "a warning, no error";
  EXPECT_EQ(told(Event::Kind::kWarning), 1);
  EXPECT_EQ(manager_->host().state.generation(), 1U);
  EXPECT_EQ(share("nfs").state(), ShareState::kMounted);
  EXPECT_EQ(backend_->counts.unmounts, 0);
  EXPECT_EQ(backend_->counts.mounts, 2);
}

TEST_F(NovaHost, M7_ResumeWaitsUntilNobodyUsesTheOlderGenerationBeforeItBuilds) {
  start();
  Answer up;
  const Answer attached = attach_during("nfs", [&] {
    drain();
    up = resume();
    manager_->run_pending();
    EXPECT_EQ(code_of(up), -1);
    EXPECT_FALSE(manager_->host().state.up);
    EXPECT_TRUE(manager_->host().is_resuming);
    EXPECT_EQ(manager_->host().state.generation(), 0U);
  });
  EXPECT_EQ(code_of(attached), 0);
  EXPECT_EQ(code_of(up), 0);
  EXPECT_TRUE(manager_->host().state.up);
  EXPECT_EQ(manager_->host().state.generation(), 1U);
  EXPECT_EQ(told(Event::Kind::kResumed), 1);
}

TEST_F(NovaHost, M8_WhileResumeWaitsNewRequestsAreRefused) {
  start();
  const Answer attached = attach_during("nfs", [&] {
    resume();
    manager_->run_pending();
    EXPECT_EQ(code_of(attach("other", "vm", "vol")), ESHUTDOWN);
    const auto lease = ask("nfs");
    manager_->run_pending();
    EXPECT_EQ(code_of(lease), ESHUTDOWN) << "also of what others are waiting for";
  });
  EXPECT_EQ(code_of(attached), 0);
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(code_of(attach("other", "vm", "vol")), 0);
}

TEST_F(NovaHost, M9_OfSeveralThatWaitedOneBuilds) {
  start();
  std::vector<Answer> ups;
  attach_during("nfs", [&] {
    drain();
    for (int i = 0; i < 3; ++i) ups.push_back(resume());
    manager_->run_pending();
  });
  for (const Answer& up : ups) EXPECT_EQ(code_of(up), 0);
  EXPECT_EQ(manager_->host().state.generation(), 1U);
  EXPECT_EQ(told(Event::Kind::kResumed), 1);
}

TEST_F(NovaHost, M10_DrainLetsWhoIsInsideGoOnAndUnmountsNothingInUse) {
  start();
  attach("nfs", "vm", "vol");
  const auto lease = ask("other");
  manager_->run_pending();
  const Answer down = drain();
  manager_->run_pending();
  pass(1h);
  EXPECT_EQ(code_of(down), -1);
  EXPECT_EQ(backend_->counts.unmounts, 0);
  EXPECT_EQ(share("nfs").state(), ShareState::kDraining);
  EXPECT_TRUE(manager_->host().is_draining);
  EXPECT_GE((**lease)->root(), 0);
  EXPECT_FALSE(share("nfs").try_lease()) << "no new user comes in, mounted or not";
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), 0) << "better than the ancestor: what is held can be given back";
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 1) << "what is not used any more goes";
  EXPECT_EQ(code_of(down), -1);
  **lease = fail(EINTR);
  manager_->run_pending();
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 2);
  EXPECT_EQ(code_of(down), 0);
  EXPECT_EQ(told(Event::Kind::kDrained), 1);
}

TEST_F(NovaHost, M10_OperationsThatHadBegunEndAsIfNothingHadHappened) {
  start();
  const Answer attached = attach_during("nfs", [&] {
    drain();
    manager_->run_pending();
  });
  EXPECT_EQ(code_of(attached), 0);
  EXPECT_EQ(share("nfs").state(), ShareState::kDraining);
  EXPECT_EQ(share("nfs").users(), 1U);
}

TEST_F(NovaHost, M11_DrainWhenDownWarnsAndChangesNothing) {
  start();
  attach("nfs", "vm", "vol");
  const Answer first = drain();
  manager_->run_pending();
  const WallTime since = manager_->host().state.since;
  pass(1h);
  const Answer second = drain();
  manager_->run_pending();
  EXPECT_EQ(told(Event::Kind::kWarning), 1);
  EXPECT_EQ(told(Event::Kind::kDraining), 1);
  EXPECT_EQ(manager_->host().state.since, since);
  detach("nfs", "vm", "vol");
  pass(1s);
  EXPECT_EQ(code_of(first), 0);
  EXPECT_EQ(code_of(second), 0) << "a warning, no error: it waits as the first does";
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

// M12, the wiring to the hypervisor's connection, comes with discovery (lines D).

}  // namespace
}  // namespace berth::manager
