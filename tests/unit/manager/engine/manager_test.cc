#include "manager/engine/manager.h"

#include "src/lib/sys/shared_memory.h"
#include "tests/unit/eventually.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;
using testing::eventually;

TEST_F(ManagerTest, NothingIsMountedBeforeItIsWanted) {
  add("media");
  start();
  manager_->run_pending();
  EXPECT_EQ(share("media").status().state, ShareState::kIdle);
  EXPECT_FALSE(share("media").try_lease());
  EXPECT_EQ(backend_->counts, (FakeBackend::Counts{}));
  EXPECT_FALSE(has_berth("media"));
}

TEST_F(ManagerTest, ManyCallersCauseOneMount) {
  add("media");
  start();
  std::vector<std::shared_ptr<std::optional<Result<Lease>>>> answers;
  for (int i = 0; i < 50; ++i) answers.push_back(ask("media"));
  manager_->run_pending();
  for (const auto& answer : answers) EXPECT_EQ(code_of(answer), 0);
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(share("media").users(), 50U);
  EXPECT_EQ(share("media").status().mounts, 1U);
}

TEST_F(ManagerTest, IdleShareIsUnmountedAfterItsTimeoutAndNotBefore) {
  add("media", {.idle_timeout = 60s});
  start();
  auto lease = ask("media");
  manager_->run_pending();
  pass(10min);
  EXPECT_EQ(backend_->counts.unmounts, 0) << "it has a lease";
  lease->reset();
  pass(30s);
  EXPECT_EQ(share("media").status().state, ShareState::kMounted);
  pass(61s);
  pass(61s);
  EXPECT_EQ(share("media").status().state, ShareState::kIdle);
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_FALSE(has_berth("media"));
}

TEST_F(ManagerTest, ZeroIdleTimeoutUnmountsRightAfterTheLastUser) {
  add("media", {.idle_timeout = 0s});
  start();
  auto lease = ask("media");
  manager_->run_pending();
  lease->reset();
  manager_->run_pending();
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(ManagerTest, FailureIsRememberedUntilTheBackoffIsOver) {
  add("media");
  start();
  backend_->mount_error = Error(EACCES, "access denied by server");
  auto first = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(first), EACCES);
  auto second = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(second), EACCES);
  EXPECT_EQ(backend_->counts.mounts, 1) << "the second caller gets the remembered error";
  EXPECT_TRUE(share("media").status().retry_at.has_value());

  backend_->mount_error.reset();
  pass(2s);
  auto third = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(third), 0);
  EXPECT_EQ(backend_->counts.mounts, 2);
  EXPECT_EQ(share("media").status().failures, 1U);
  EXPECT_EQ(share("media").status().last_failure->failure.exit, "exit status 32");
}

TEST_F(ManagerTest, ShareInUseIsAskedWhetherItAnswersOnlyWhereNoRequestShowsIt) {
  int asked = 0;
  setup_.ask_root = [&asked](int root) -> Result<> {
    EXPECT_GE(root, 0);
    ++asked;
    return {};
  };
  auto fake = std::make_unique<FakeBackend>();
  setup_.backends.emplace(ShareKind::kCommand, std::move(fake));
  ShareFields fields;
  fields.name = "remote";
  fields.type = "command";
  fields.sources = {"far:away"};
  fields.mount_command = {"mount-it", "{mountpoint}"};
  fields.policy = {.idle_timeout = 1h, .stall_timeout = 10s};
  ASSERT_TRUE(catalog_.add(ShareSpec::make(fields).value()));
  add("local", {.idle_timeout = 1h, .stall_timeout = 10s});
  start();
  auto lease = ask("remote");
  const auto local = ask("local");
  manager_->run_pending();
  for (int i = 0; i < 10; ++i) {
    share("remote").note_answer();
    pass(5s);
  }
  EXPECT_EQ(asked, 0) << "requests were answered";
  pass(5s);
  pass(5s);
  EXPECT_GE(asked, 1);
  EXPECT_LE(asked, 2);
  asked = 0;
  lease->reset();
  pass(1min);
  EXPECT_EQ(asked, 0) << "no program uses it, or it is of this host";
  EXPECT_EQ(told(Event::Kind::kStalled), 0);
}

TEST_F(ManagerTest, ShareWhoseRootIsGoneIsLost) {
  setup_.ask_root = [](int) -> Result<> { return fail(ESTALE); };
  auto fake = std::make_unique<FakeBackend>();
  setup_.backends.emplace(ShareKind::kCommand, std::move(fake));
  ShareFields fields;
  fields.name = "remote";
  fields.type = "command";
  fields.mount_command = {"mount-it", "{mountpoint}"};
  fields.sources = {"far:away"};
  ASSERT_TRUE(catalog_.add(ShareSpec::make(fields).value()));
  start();
  const auto lease = ask("remote");
  manager_->run_pending();
  pass(6s);
  EXPECT_EQ(told(Event::Kind::kLost), 1);
  lease->reset();
}

TEST_F(ManagerTest, FailureIsRememberedByTheNextManager) {
  add("media");
  const auto memory = sys::SharedMemory::make("mounts", sizeof(KeptMounts));
  ASSERT_TRUE(memory);
  auto* const area = reinterpret_cast<KeptMounts*>(memory->data());
  setup_.kept = area;
  start();
  backend_->mount_error = Error(EACCES, "access denied by server");
  ask("media");
  manager_->run_pending();
  const ShareStatus before = share("media").status();

  // As if it was killed: nothing is taken down, and the next one has the same memory.
  const std::unique_ptr<Manager> dead = std::move(manager_);
  auto fake = std::make_unique<FakeBackend>();
  backend_ = fake.get();
  ManagerSetup next;
  next.berth_directory = directory_;
  next.manual = true;
  next.kept = area;
  next.backends.emplace(ShareKind::kBind, std::move(fake));
  setup_ = std::move(next);
  start();
  const ShareStatus status = share("media").status();
  EXPECT_EQ(status.state, ShareState::kFailed);
  EXPECT_EQ(status.retry_at, before.retry_at);
  EXPECT_EQ(status.failures, 1U);
  ASSERT_TRUE(status.last_failure);
  EXPECT_EQ(status.last_failure->failure.error.story(), "access denied by server");
  EXPECT_EQ(status.last_failure->when, before.last_failure->when);
  const auto refused = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(refused), EACCES);
  EXPECT_EQ(backend_->counts.mounts, 0);
  pass(2s);
  const auto mounted = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(mounted), 0);
}

TEST_F(ManagerTest, RetryForgetsTheRememberedError) {
  add("media");
  start();
  backend_->mount_error = Error(EHOSTDOWN);
  auto first = ask("media");
  manager_->run_pending();
  backend_->mount_error.reset();
  manager_->retry(share("media"));
  auto second = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(second), 0);
}

TEST_F(ManagerTest, WaiterIsInterrupted) {
  add("media");
  start();
  WaiterId id = 0;
  std::shared_ptr<std::optional<Result<Lease>>> answer;
  backend_->during_mount = [&](const ShareSpec&, const Attempt&) { manager_->interrupt(share("media"), id); };
  answer = ask("media", &id);
  manager_->run_pending();
  EXPECT_EQ(code_of(answer), EINTR);
  EXPECT_EQ(share("media").status().state, ShareState::kMounted) << "the mount itself goes on";
}

TEST_F(ManagerTest, WaiterGivesUpAtItsDeadlineAndALateMountIsUndone) {
  add("media", {.mount_timeout = 5s});
  start();
  std::shared_ptr<std::optional<Result<Lease>>> answer;
  backend_->during_mount = [&](const ShareSpec&, const Attempt&) {
    pass(6s);  // the attempt is stuck in the kernel meanwhile
    EXPECT_EQ(code_of(answer), ETIMEDOUT);
    EXPECT_EQ(share("media").status().state, ShareState::kFailed);
    EXPECT_EQ(code_of(attach("media", "vm", "vol")), ETIMEDOUT) << "no second attempt beside the first";
  };
  answer = ask("media");
  manager_->run_pending();
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(share("media").status().state, ShareState::kFailed);
  EXPECT_EQ(backend_->counts.unmounts, 1) << "a mount that came too late is taken away";
  EXPECT_FALSE(has_berth("media"));
  EXPECT_TRUE(backend_->table.empty());
}

TEST_F(ManagerTest, RootOfAMountThatWasGivenUpStaysForItsUsersAlone) {
  const auto descriptors = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  add("media");
  start();
  const auto reader = ask("media");
  manager_->run_pending();
  ASSERT_EQ(code_of(reader), 0);
  const int root = (**reader)->root();
  const auto before = descriptors();
  std::shared_ptr<std::optional<Result<Lease>>> other;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(code_of(unmount("media", true)), 0);
    other = ask("media");
    manager_->run_pending();
    ASSERT_EQ(code_of(other), 0);
    EXPECT_NE((**other)->root(), root);
    EXPECT_EQ(share("media").users(), 2U);
  }
  EXPECT_TRUE(eventually([&] { return descriptors() <= before + 1; })) << descriptors() << " of " << before;
  EXPECT_EQ((**reader)->root(), root);
  EXPECT_GE(::fcntl(root, F_GETFD), 0);
  other->reset();
  const Answer busy = unmount("media");
  pass(1s);
  EXPECT_EQ(code_of(busy), EBUSY) << "though its only user is in an earlier mount";
  reader->reset();
  EXPECT_EQ(code_of(unmount("media")), 0);
  EXPECT_TRUE(eventually([&] { return descriptors() < before; })) << descriptors() << " of " << before;
}

TEST_F(ManagerTest, WantedWhileUnmountingIsMountedAgain) {
  add("media", {.idle_timeout = 1s});
  start();
  ask("media");
  manager_->run_pending();
  std::shared_ptr<std::optional<Result<Lease>>> again;
  backend_->during_unmount = [&] {
    if (!again) again = ask("media");
  };
  pass(3s);
  pass(3s);
  ASSERT_TRUE(again);
  EXPECT_EQ(code_of(again), 0);
  EXPECT_EQ(backend_->counts.mounts, 2);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(ManagerTest, BusyUnmountLeavesItMountedSaysSoAndIsTriedAgain) {
  add("media", {.idle_timeout = 1s});
  start();
  ask("media");
  manager_->run_pending();
  backend_->unmount_error = Error(EBUSY);
  pass(3s);
  EXPECT_EQ(share("media").status().state, ShareState::kMounted);
  EXPECT_NE(share("media").status().busy, "");
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_TRUE(has_berth("media"));
  backend_->unmount_error.reset();
  pass(10s);
  EXPECT_EQ(share("media").status().state, ShareState::kIdle);
  EXPECT_EQ(share("media").status().busy, "");
  EXPECT_EQ(backend_->counts.unmounts, 2);
}

TEST_F(ManagerTest, UnmountOnRequestAnswersBusyWithTheNumberOfUsers) {
  add("media");
  start();
  auto lease = ask("media");
  manager_->run_pending();
  auto busy = unmount("media");
  EXPECT_EQ(code_of(busy), -1) << "a release may be under way";
  pass(1s);
  EXPECT_EQ(code_of(busy), EBUSY);
  EXPECT_NE((*busy)->error().story().find("1 user"), std::string_view::npos);
  lease->reset();
  EXPECT_EQ(code_of(unmount("media")), 0);
  EXPECT_EQ(code_of(unmount("media")), 0) << "of an idle share: nothing to do";
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(ManagerTest, UnmountOnRequestWaitsAMomentForTheLastUser) {
  add("media");
  start();
  auto lease = ask("media");
  manager_->run_pending();
  auto unmounted = unmount("media");
  lease->reset();
  pass(10ms);
  EXPECT_EQ(code_of(unmounted), 0);
  EXPECT_EQ(share("media").status().state, ShareState::kIdle);
}

TEST_F(ManagerTest, ForcedUnmountGivesUpUsersAndTheirDescriptorStaysValid) {
  add("media");
  start();
  auto lease = ask("media");
  manager_->run_pending();
  const int root = (**lease)->root();
  EXPECT_EQ(code_of(unmount("media", true)), 0);
  EXPECT_EQ(share("media").status().state, ShareState::kIdle);
  EXPECT_GE(::fcntl(root, F_GETFD), 0) << "a request under way must not find another file under its number";
  lease->reset();
  manager_->run_pending();
  // On a thread of its own: to close it may wait for a server.
  for (int tries = 0; tries < 10'000 && ::fcntl(root, F_GETFD) >= 0; ++tries) std::this_thread::sleep_for(1ms);
  EXPECT_LT(::fcntl(root, F_GETFD), 0);
}

TEST_F(ManagerTest, MountsAreThrottled) {
  for (int i = 0; i < 40; ++i) add("s" + std::to_string(i));
  setup_.max_concurrent_mounts = 4;
  std::size_t most = 0;
  start();
  std::vector<std::shared_ptr<std::optional<Result<Lease>>>> answers;
  for (int i = 0; i < 40; ++i) answers.push_back(ask("s" + std::to_string(i)));
  backend_->during_mount = [&](const ShareSpec&, const Attempt&) {
    std::size_t begun = 0;
    for (const auto& [name, share] : *manager_->directory())
      begun += has_berth(std::string(name)) && share->state() == ShareState::kMounting;
    most = std::max(most, begun);
  };
  manager_->run_pending();
  for (const auto& answer : answers) EXPECT_EQ(code_of(answer), 0);
  EXPECT_LE(most, 4U);
  EXPECT_EQ(backend_->counts.mounts, 40);
}

TEST_F(ManagerTest, MountsOfOneServerAreThrottledAndKeepNoOtherServerWaiting) {
  for (int i = 0; i < 20; ++i) add_remote("filer" + std::to_string(i), "filer:/s" + std::to_string(i));
  add_remote("other", "other:/s");
  setup_.max_mounts_per_server = 2;
  auto remote = std::make_unique<FakeBackend>();
  FakeBackend& backend = *remote;
  setup_.backends.emplace(ShareKind::kFilesystem, std::move(remote));
  start();
  std::vector<std::string> begun;
  backend.during_mount = [&](const ShareSpec& spec, const Attempt&) { begun.push_back(spec.name()); };
  std::vector<std::shared_ptr<std::optional<Result<Lease>>>> answers;
  for (int i = 0; i < 20; ++i) answers.push_back(ask("filer" + std::to_string(i)));
  answers.push_back(ask("other"));
  manager_->run_pending();
  for (const auto& answer : answers) EXPECT_EQ(code_of(answer), 0);
  ASSERT_EQ(begun.size(), 21U);
  EXPECT_EQ(begun[2], "other");
}

TEST_F(ManagerTest, ParkedRequestsHaveALimit) {
  add("media");
  setup_.max_waiters_per_share = 3;
  start();
  std::vector<std::shared_ptr<std::optional<Result<Lease>>>> answers;
  for (int i = 0; i < 5; ++i) answers.push_back(ask("media"));
  manager_->run_pending();
  int refused = 0;
  for (const auto& answer : answers) refused += code_of(answer) == EAGAIN;
  EXPECT_EQ(refused, 2);
}

TEST_F(ManagerTest, AttachmentsHaveALimitAndCheckedNames) {
  add("media");
  setup_.max_attachments_per_share = 2;
  start();
  EXPECT_EQ(code_of(attach("media", "vm1", "a")), 0);
  EXPECT_EQ(code_of(attach("media", "vm1", "b")), 0);
  EXPECT_EQ(code_of(attach("media", "vm1", "c")), EMLINK);
  EXPECT_EQ(code_of(attach("media", "vm1", "b")), 0) << "one that is there takes no room";
  EXPECT_EQ(code_of(attach("media", "..", "c")), EINVAL);
  EXPECT_EQ(code_of(attach("media", "", "c")), EINVAL);
  EXPECT_EQ(code_of(attach("media", "a/b", "c")), EINVAL);
  EXPECT_EQ(code_of(attach("media", std::string(256, 'x'), "c")), EINVAL);
}

TEST_F(ManagerTest, LostMountIsTakenAwayAndMadeAgainOnTheNextAccess) {
  add("media");
  start();
  ask("media");
  manager_->run_pending();
  backend_->table.clear();
  manager_->report_lost(share("media"), share("media").mount_generation());
  manager_->run_pending();
  EXPECT_EQ(share("media").status().state, ShareState::kIdle);
  EXPECT_EQ(backend_->counts.unmounts, 0) << "what is gone is not unmounted";
  EXPECT_EQ(told(Event::Kind::kLost), 1);
  auto again = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(again), 0);
}

TEST_F(ManagerTest, LostMountIsMadeAgainAtOnceWhereItIsInUse) {
  add("media");
  start();
  EXPECT_EQ(code_of(attach("media", "vm", "disk")), 0);
  const std::uint32_t first = share("media").mount_generation();
  manager_->report_lost(share("media"), first);
  manager_->run_pending();
  EXPECT_EQ(share("media").status().state, ShareState::kMounted);
  EXPECT_EQ(backend_->counts.mounts, 2);
  // Told late by a request in the mount that is gone.
  manager_->report_lost(share("media"), first);
  manager_->run_pending();
  EXPECT_EQ(told(Event::Kind::kLost), 1);
  EXPECT_EQ(backend_->counts.mounts, 2);
}

TEST_F(ManagerTest, LostMountIsAnErrorUntilRetryWhereThePolicySaysSo) {
  add("media", {.on_stale = OnStale::kError});
  start();
  const auto lease = ask("media");
  manager_->run_pending();
  manager_->report_lost(share("media"), share("media").mount_generation());
  manager_->run_pending();
  EXPECT_EQ(share("media").status().state, ShareState::kFailed);
  EXPECT_EQ(share("media").status().retry_at, std::nullopt);
  pass(1h);
  const auto refused = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(refused), ESTALE);
  manager_->retry(share("media"));
  const auto let_in = ask("media");
  manager_->run_pending();
  EXPECT_EQ(code_of(let_in), 0);
}

TEST_F(ManagerTest, NestedNamesShareTheirDirectoriesAndLeaveNone) {
  add("home/alice", {.idle_timeout = 1s});
  add("home/bob", {.idle_timeout = 1h});
  start();
  ask("home/alice");
  ask("home/bob");
  manager_->run_pending();
  pass(3s);
  EXPECT_FALSE(has_berth("home/alice"));
  EXPECT_TRUE(has_berth("home/bob"));
  pass(3h);
  pass(3h);
  EXPECT_FALSE(has_berth("home"));
}

}  // namespace
}  // namespace berth::manager
