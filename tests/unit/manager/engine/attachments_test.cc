// Attachments that survive: recorded before any caller is answered, and taken up again.
#include <filesystem>
#include <fstream>

#include "manager/state/state_format.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Attachments = std::set<Attachment>;

class DurableAttachments : public ManagerTest {
 protected:
  void SetUp() override {
    ManagerTest::SetUp();
    state_ = directory_ + ".state";
    add("nfs", {.idle_timeout = 0s});
    add("other", {.idle_timeout = 0s});
  }
  void TearDown() override {
    ManagerTest::TearDown();
    fs::remove_all(state_);
  }

  [[nodiscard]] std::unique_ptr<AttachmentStore> store() const {
    return std::make_unique<AttachmentStore>(StateDirectory(state_, "/volumes"));
  }
  /// As a berth starts: with what is on disk.
  void start_with_store() {
    setup_.store = store();
    StoredState kept = setup_.store->load().value();
    start();
    manager_->begin(std::move(kept));
  }
  /// Ends this berth, however it ends, and starts the next over the same disk.
  void restart() {
    manager_.reset();
    events_.clear();
    auto fake = std::make_unique<FakeBackend>();
    backend_ = fake.get();
    ManagerSetup next;
    next.berth_directory = directory_;
    next.manual = true;
    next.max_concurrent_mounts = setup_.max_concurrent_mounts;
    next.on_event = [this](const Event& event) { events_.push_back(event); };
    next.backends.emplace(ShareKind::kBind, std::move(fake));
    setup_ = std::move(next);
    start_with_store();
  }
  [[nodiscard]] bool is_on_disk(const std::string& share, const Attachment& attachment) const {
    const std::string file = StateDirectory(state_, "/volumes").path() + "/" + state_format::file_name(share);
    const auto text = sys_read(file + ".attachments");
    return state_format::parse(text).attachments.contains(attachment);
  }
  static std::string sys_read(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::string text(1 << 16, '\0');
    const ssize_t got = ::read(file.get(), text.data(), text.size());
    text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return text;
  }
  /// Every jitter and back-off of a first attempt is over.
  void pass_the_jitter() {
    manager_->run_pending();
    pass(600ms);
  }

  std::string state_;
};

TEST_F(DurableAttachments, IsOnDiskWhenTheAnswerComes) {
  start_with_store();
  bool was_on_disk = false;
  manager_->attach(share("nfs"), {"vm", "vol"}, [&](const Result<>& result) {
    was_on_disk = result.has_value() && is_on_disk("nfs", {"vm", "vol"});
  });
  manager_->run_pending();
  EXPECT_TRUE(was_on_disk);
  bool was_gone = false;
  manager_->detach(share("nfs"), {"vm", "vol"}, [&](const Result<>& result) {
    was_gone = result.has_value() && !is_on_disk("nfs", {"vm", "vol"});
  });
  manager_->run_pending();
  EXPECT_TRUE(was_gone);
}

TEST_F(DurableAttachments, FailedMountLeavesNothingOnDisk) {
  start_with_store();
  backend_->mount_error = Error(EHOSTDOWN);
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), EHOSTDOWN);
  EXPECT_FALSE(is_on_disk("nfs", {"vm", "vol"}));
  EXPECT_TRUE(share("nfs").status().attachments.empty());
}

TEST_F(DurableAttachments, WhatCannotBeRecordedIsNotAttachedAndItsMountGoes) {
  start_with_store();
  fs::remove_all(state_);
  std::ofstream(state_) << "in the way";
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), ENOTDIR);
  EXPECT_TRUE(share("nfs").status().attachments.empty());
  EXPECT_EQ(share("nfs").users(), 0U);
  pass(1s);
  EXPECT_EQ(share("nfs").state(), ShareState::kIdle);
  EXPECT_NE(manager_->state_report().failure, "");
  EXPECT_EQ(code_of(attach("nfs", "vm", "vol")), ENOTDIR);
  EXPECT_EQ(told(Event::Kind::kWarning), 1) << "told once, as long as it stays so";
}

TEST_F(DurableAttachments, DetachThatCannotBeRecordedKeepsTheAttachment) {
  start_with_store();
  ASSERT_EQ(code_of(attach("nfs", "vm", "vol")), 0);
  ASSERT_EQ(code_of(attach("nfs", "vm", "second")), 0);
  fs::remove_all(state_);
  std::ofstream(state_) << "in the way";
  EXPECT_NE(code_of(detach("nfs", "vm", "vol")), 0);
  EXPECT_EQ(share("nfs").status().attachments.size(), 2U);
  EXPECT_EQ(share("nfs").users(), 2U);
}

TEST_F(DurableAttachments, ChangesOfOnePairHappenInTheirOrder) {
  start_with_store();
  std::vector<int> codes;
  const auto note = [&](const Result<>& result) { codes.push_back(result ? 0 : result.error().code()); };
  manager_->attach(share("nfs"), {"vm", "vol"}, note);
  manager_->run_pending();
  // All before any of them is on disk.
  manager_->detach(share("nfs"), {"vm", "vol"}, note);
  manager_->attach(share("nfs"), {"vm", "vol"}, note);
  manager_->detach(share("nfs"), {"vm", "vol"}, note);
  manager_->detach(share("nfs"), {"vm", "vol"}, note);
  manager_->attach(share("nfs"), {"vm", "vol"}, note);
  manager_->run_pending();
  EXPECT_EQ(std::count(codes.begin(), codes.end(), 0) + std::count(codes.begin(), codes.end(), ENOENT), 6);
  EXPECT_EQ(share("nfs").has_attachment({"vm", "vol"}), is_on_disk("nfs", {"vm", "vol"}));
  EXPECT_EQ(share("nfs").users(), share("nfs").status().attachments.size());
}

TEST_F(DurableAttachments, LimitCountsWhatIsOnItsWay) {
  setup_.max_attachments_per_share = 2;
  start_with_store();
  std::vector<Answer> answers;
  for (const char* volume : {"a", "b", "c"}) {
    auto [slot, done] = answer();
    manager_->attach(share("nfs"), {"vm", volume}, std::move(done));
    answers.push_back(slot);
  }
  manager_->run_pending();
  EXPECT_EQ(code_of(answers[0]) + code_of(answers[1]) + code_of(answers[2]), EMLINK);
  EXPECT_EQ(share("nfs").status().attachments.size(), 2U);
}

TEST_F(DurableAttachments, RestartMountsWhatIsAttachedAndHoldsIt) {
  start_with_store();
  attach("nfs", "vm1", "vol");
  attach("nfs", "vm2", "vol");
  restart();
  manager_->run_pending();
  EXPECT_EQ(share("nfs").status().attachments.size(), 2U) << "known before it is mounted";
  pass_the_jitter();
  EXPECT_EQ(backend_->counts.mounts, 1) << "and nothing that is not attached";
  EXPECT_EQ(share("nfs").state(), ShareState::kMounted);
  EXPECT_EQ(share("nfs").users(), 2U);
  pass(1h);
  EXPECT_EQ(share("nfs").state(), ShareState::kMounted);
  detach("nfs", "vm1", "vol");
  detach("nfs", "vm2", "vol");
  pass(1s);
  EXPECT_EQ(share("nfs").state(), ShareState::kIdle);
  restart();
  pass_the_jitter();
  EXPECT_EQ(backend_->counts.mounts, 0);
}

TEST_F(DurableAttachments, StopKeepsThemOnDisk) {
  start_with_store();
  attach("nfs", "vm", "vol");
  manager_.reset();
  EXPECT_TRUE(is_on_disk("nfs", {"vm", "vol"}));
}

TEST_F(DurableAttachments, EventsSayWhatAShareIsMountedFor) {
  const auto reasons = [this] {
    std::vector<std::string> found;
    for (const Event& event : events_) {
      if (event.kind == Event::Kind::kMounting) found.push_back(event.share + ": " + event.reason);
    }
    return found;
  };
  start_with_store();
  attach("nfs", "vm", "vol");
  manager_->mount(share("other"), answer().second);
  manager_->run_pending();
  EXPECT_EQ(reasons(), (std::vector<std::string>{"nfs: attachment", "other: on request"}));
  restart();
  pass_the_jitter();
  ask("other");
  manager_->run_pending();
  EXPECT_EQ(reasons(), (std::vector<std::string>{"nfs: restored attachment", "other: first access"}));
}

TEST_F(DurableAttachments, ServerThatIsAwayIsTriedAgainWithBackoffUntilItIsBack) {
  start_with_store();
  attach("nfs", "vm", "vol");
  restart();
  backend_->mount_error = Error(EHOSTDOWN, "no route");
  pass_the_jitter();
  EXPECT_EQ(backend_->counts.mounts, 1);
  for (int minute = 0; minute < 60; ++minute) pass(1min);
  EXPECT_GT(backend_->counts.mounts, 20);
  EXPECT_LT(backend_->counts.mounts, 40) << "at most two minutes apart, and not at every look";
  EXPECT_EQ(share("nfs").status().attachments.size(), 1U);
  backend_->mount_error.reset();
  for (int minute = 0; minute < 4; ++minute) pass(1min);
  EXPECT_EQ(share("nfs").state(), ShareState::kMounted);
  EXPECT_EQ(share("nfs").users(), 1U);
  const int mounts = backend_->counts.mounts;
  pass(1h);
  EXPECT_EQ(backend_->counts.mounts, mounts);
}

TEST_F(DurableAttachments, WhoeverMountsItFirstTheAttachmentsHoldIt) {
  start_with_store();
  attach("nfs", "vm", "vol");
  restart();
  {
    const auto lease = ask("nfs");
    manager_->run_pending();
  }
  EXPECT_EQ(share("nfs").users(), 1U);
  pass_the_jitter();
  pass(1h);
  EXPECT_EQ(backend_->counts.mounts, 1);
  EXPECT_EQ(share("nfs").state(), ShareState::kMounted);
}

TEST_F(DurableAttachments, DetachedBeforeItIsMountedAgainIsNotMounted) {
  start_with_store();
  attach("nfs", "vm", "vol");
  restart();
  manager_->run_pending();
  EXPECT_EQ(code_of(detach("nfs", "vm", "vol")), 0);
  pass_the_jitter();
  pass(1h);
  EXPECT_EQ(backend_->counts.mounts, 0);
}

TEST_F(DurableAttachments, RestoresLeaveAQuarterOfTheMountsToOthers) {
  for (int i = 0; i < 40; ++i) add("s" + std::to_string(i));
  start_with_store();
  for (int i = 0; i < 40; ++i) attach("s" + std::to_string(i), "vm", "vol");
  setup_.max_concurrent_mounts = 8;
  restart();
  std::ptrdiff_t most = 0;
  backend_->during_mount = [&](const ShareSpec&, const Attempt&) {
    const auto directory = manager_->directory();
    most = std::max(most, std::count_if(directory->begin(), directory->end(), [](const auto& entry) {
                      return entry.second->state() == ShareState::kMounting;
                    }));
  };
  pass_the_jitter();
  EXPECT_EQ(backend_->counts.mounts, 40);
  EXPECT_EQ(most, 6);
}

TEST_F(DurableAttachments, TakenUpByAServerThatFindsTheShareMountedNothingIsMountedAgain) {
  start_with_store();
  attach("nfs", "vm", "vol");
  restart();
  const auto lease = ask("nfs");
  manager_->run_pending();
  EXPECT_EQ(backend_->counts.mounts, 1);
  manager_->begin(StoredState{.shares = {{"nfs", {{"vm", "vol"}, {"vm", "vol2"}}}}});
  manager_->run_pending();
  EXPECT_EQ(share("nfs").users(), 3U);
  pass_the_jitter();
  EXPECT_EQ(backend_->counts.mounts, 1);
}

TEST_F(DurableAttachments, AttachmentsOfAShareThatIsGoneStayAndAreReported) {
  add("gone");
  start_with_store();
  attach("gone", "vm", "vol");
  attach("nfs", "vm", "vol");
  catalog_ = Catalog();
  add("nfs", {.idle_timeout = 0s});
  restart();
  pass_the_jitter();
  EXPECT_EQ(share("nfs").state(), ShareState::kMounted);
  EXPECT_EQ(manager_->state_report().unknown_shares, (std::map<std::string, std::size_t>{{"gone", 1}}));
  EXPECT_EQ(told(Event::Kind::kWarning), 1);
  EXPECT_TRUE(is_on_disk("gone", {"vm", "vol"}));
  add("gone");
  restart();
  pass_the_jitter();
  EXPECT_EQ(share("gone").state(), ShareState::kMounted);
}

TEST_F(DurableAttachments, DamageIsToldAndStopsNothing) {
  start_with_store();
  attach("nfs", "vm", "vol");
  attach("other", "vm", "vol");
  const std::string file = StateDirectory(state_, "/volumes").path() + "/" + state_format::file_name("nfs");
  fs::resize_file(file + ".attachments", 10);
  restart();
  pass_the_jitter();
  EXPECT_EQ(told(Event::Kind::kStateDamaged), 1);
  EXPECT_EQ(manager_->state_report().damages.size(), 1U);
  EXPECT_EQ(share("other").state(), ShareState::kMounted);
  EXPECT_EQ(share("nfs").state(), ShareState::kIdle);
}

}  // namespace
}  // namespace berth::manager
