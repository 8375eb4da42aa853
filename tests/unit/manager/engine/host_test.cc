// Drain and resume beyond the contract of Nova (nova_contract_test.cc, lines M).
#include <filesystem>
#include <future>
#include <span>

#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

class Host : public ManagerTest {
 protected:
  void SetUp() override {
    ManagerTest::SetUp();
    add("a");
    add("b", {.idle_timeout = 0s});
  }
  Answer drain() {
    auto [slot, done] = answer();
    manager_->drain(std::move(done));
    manager_->run_pending();
    return slot;
  }
  Answer resume() {
    auto [slot, done] = answer();
    manager_->resume(std::move(done));
    manager_->run_pending();
    return slot;
  }
  void touch(const std::string& name) {
    const auto lease = ask(name);
    manager_->run_pending();
    EXPECT_EQ(code_of(lease), 0);
  }
};

TEST_F(Host, DrainUnmountsWhatIsIdleWithoutItsIdleTimeout) {
  start();
  touch("a");
  const Answer down = drain();
  pass(20ms);
  EXPECT_EQ(code_of(down), 0);
  EXPECT_EQ(share("a").state(), ShareState::kIdle);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(Host, DrainOfNothingIsDoneAtOnce) {
  start();
  EXPECT_EQ(code_of(drain()), 0);
  EXPECT_EQ(told(Event::Kind::kDrained), 1);
}

TEST_F(Host, ResumeOpensWhatIsStillMountedAndMountsNothing) {
  start();
  const auto lease = ask("b");
  manager_->run_pending();
  const Answer down = drain();
  EXPECT_EQ(share("b").state(), ShareState::kDraining);
  EXPECT_EQ(code_of(resume()), 0);
  EXPECT_EQ(code_of(down), ECANCELED);
  EXPECT_EQ(share("b").state(), ShareState::kMounted);
  touch("b");
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(backend_->counts.unmounts, 0);
}

TEST_F(Host, BusyUnmountWhileDrainingIsTriedAgain) {
  start();
  touch("a");
  backend_->unmount_error = Error(EBUSY);
  const Answer down = drain();
  pass(20ms);
  EXPECT_EQ(share("a").state(), ShareState::kDraining);
  EXPECT_FALSE(share("a").try_lease());
  backend_->unmount_error.reset();
  pass(6s);
  EXPECT_EQ(code_of(down), 0);
  EXPECT_EQ(backend_->counts.unmounts, 2);
}

TEST_F(Host, DrainCallsOffAResumeThatWaits) {
  start();
  Answer up, down;
  backend_->during_mount = [&](const ShareSpec&, const Attempt&) {
    backend_->during_mount = nullptr;
    up = resume();
    down = drain();
  };
  touch("a");
  EXPECT_EQ(code_of(up), ECANCELED);
  manager_->run_pending();
  pass(20ms);
  EXPECT_EQ(code_of(down), 0);
  EXPECT_FALSE(manager_->host().state.up) << "the last word counts";
}

TEST_F(Host, UnmountOnRequestWorksWhileDraining) {
  start();
  const auto lease = ask("a");
  manager_->run_pending();
  drain();
  const Answer refused = unmount("a");
  pass(300ms);
  EXPECT_EQ(code_of(refused), EBUSY);
  EXPECT_EQ(code_of(unmount("a", true)), 0);
  EXPECT_EQ(share("a").state(), ShareState::kIdle);
}

TEST_F(Host, StopAnswersWhoWaitsForADrain) {
  setup_.manual = false;
  start();
  manager_->begin();
  std::promise<int> drained;
  std::promise<void> attached;
  manager_->attach(share("a"), {"vm", "vol"}, [&](const Result<>&) { attached.set_value(); });
  attached.get_future().wait();
  manager_->drain([&](const Result<>& result) { drained.set_value(result ? 0 : result.error().code()); });
  manager_->stop(std::chrono::steady_clock::now() + 20s);
  EXPECT_EQ(drained.get_future().get(), ESHUTDOWN);
}

TEST_F(Host, RestartOfEverythingIsANewGenerationAndASuccessorIsNot) {
  HostState host;
  for (std::uint64_t generation = 0; generation < 3; ++generation) {
    host = next_generation_of(host, clock_.wall_now());
    EXPECT_TRUE(host.up);
    EXPECT_EQ(host.generation(), generation);
  }
  setup_.host = host;
  std::vector<HostState> handed_on;
  setup_.on_host_change = [&](const HostState& state) { handed_on.push_back(state); };
  start();
  EXPECT_EQ(manager_->host().state, host) << "as it was handed over";
  drain();
  ASSERT_EQ(handed_on.size(), 1U);
  EXPECT_EQ(next_generation_of(handed_on.back(), clock_.wall_now()), handed_on.back()) << "drained stays drained";
  resume();
  ASSERT_EQ(handed_on.size(), 2U);
  EXPECT_EQ(handed_on.back().generation(), 3U);
}

TEST_F(Host, DrainedOnDiskIsDrainedAtTheNextStartAndRestoresWaitForResume) {
  const std::string state = directory_ + ".state";
  {
    AttachmentStore store{StateDirectory(state, "/volumes")};
    const AttachmentStore::Change change{.share = "a", .attachment = {"vm", "vol"}};
    ASSERT_TRUE(store.commit(std::span(&change, 1)).front());
  }
  setup_.store = std::make_unique<AttachmentStore>(StateDirectory(state, "/volumes"));
  start();
  drain();
  manager_.reset();
  AttachmentStore store{StateDirectory(state, "/volumes")};
  StoredState kept = store.load().value();
  ASSERT_TRUE(kept.host);
  EXPECT_FALSE(kept.host->up);
  store = AttachmentStore(StateDirectory(state, "/elsewhere"));

  ManagerSetup next;
  next.berth_directory = directory_;
  next.manual = true;
  next.host = next_generation_of(*kept.host, clock_.wall_now());
  auto fake = std::make_unique<FakeBackend>();
  backend_ = fake.get();
  next.backends.emplace(ShareKind::kBind, std::move(fake));
  next.store = std::make_unique<AttachmentStore>(StateDirectory(state, "/volumes"));
  setup_ = std::move(next);
  start();
  manager_->begin(std::move(kept));
  manager_->run_pending();
  pass(1h);
  EXPECT_EQ(backend_->counts.mounts, 0);
  EXPECT_EQ(share("a").status().attachments.size(), 1U);
  EXPECT_EQ(code_of(resume()), 0);
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(share("a").users(), 1U);
  EXPECT_EQ(manager_->host().state.generation(), 1U);
  manager_.reset();
  std::filesystem::remove_all(state);
}

}  // namespace
}  // namespace berth::manager
