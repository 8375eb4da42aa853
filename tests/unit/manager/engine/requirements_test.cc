// Shares that require others.
#include "manager/model/requirements.h"

#include <map>
#include <string>
#include <vector>

#include "src/lib/sys/shared_memory.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

using Names = std::vector<std::string>;

class Requirements : public ManagerTest {
 protected:
  void SetUp() override {
    ManagerTest::SetUp();
    backend_->during_mount = [this](const ShareSpec& spec, const Attempt& attempt) {
      mounted_.push_back(spec.name());
      for (const RequiredShare& one : attempt.required) {
        EXPECT_GE(one.root, 0);
        given_[spec.name()].push_back(one.name);
      }
    };
  }
  void require(const std::string& name, Names required, SharePolicy policy = {.idle_timeout = 1min}) {
    policy.required = std::move(required);
    add(name, policy);
  }
  /// The mount of that share fails, of the others not.
  void fail_mount_of(const std::string& name, const Error& error) {
    const auto before = backend_->during_mount;
    backend_->during_mount = [this, name, error, before](const ShareSpec& spec, const Attempt& attempt) {
      before(spec, attempt);
      backend_->mount_error.reset();
      if (spec.name() == name) backend_->mount_error = error;
    };
  }
  [[nodiscard]] ShareState state(const std::string& name) { return share(name).status().state; }
  std::shared_ptr<std::optional<Result<Lease>>> enter(const std::string& name) {
    auto lease = ask(name);
    manager_->run_pending();
    return lease;
  }

  Names mounted_;
  std::map<std::string, Names> given_;
};

TEST_F(Requirements, AreMountedFirstAndInOrder) {
  require("crypt", {"net", "keys"});
  require("keys", {"disk"});
  require("net", {});
  require("disk", {});
  start();
  const auto lease = enter("crypt");
  EXPECT_EQ(code_of(lease), 0);
  EXPECT_EQ(mounted_, (Names{"net", "disk", "keys", "crypt"}));
  EXPECT_EQ(given_["crypt"], (Names{"net", "keys"}));
  EXPECT_EQ(given_["keys"], Names{"disk"});
  EXPECT_EQ(share("keys").status().required_by, Names{"crypt"});
  EXPECT_EQ(share("disk").status().required_by, Names{"keys"});
}

TEST_F(Requirements, StayMountedForAsLongAsTheShareThatRequiresThem) {
  require("crypt", {"keys"}, {.idle_timeout = 10min});
  require("keys", {}, {.idle_timeout = 0s});
  start();
  auto lease = enter("crypt");
  ASSERT_EQ(code_of(lease), 0);
  lease->reset();
  pass(5min);
  EXPECT_EQ(state("keys"), ShareState::kMounted);
  EXPECT_EQ(state("crypt"), ShareState::kMounted);
  EXPECT_EQ(share("keys").users(), 1U);
  pass(6min);
  pass(1s);
  EXPECT_EQ(state("crypt"), ShareState::kIdle);
  EXPECT_EQ(state("keys"), ShareState::kIdle);
  EXPECT_TRUE(share("keys").status().required_by.empty());
}

TEST_F(Requirements, UnmountOfOneInUseSaysWhichShareUsesIt) {
  require("crypt", {"keys"});
  require("keys", {});
  start();
  auto lease = enter("crypt");
  lease->reset();
  const Answer refused = unmount("keys");
  pass(1s);
  ASSERT_EQ(code_of(refused), EBUSY);
  EXPECT_EQ((*refused)->error().story(), "in use by 1 user; required by \"crypt\"");
  EXPECT_EQ(share("keys").status().busy, (*refused)->error().message());
  EXPECT_EQ(code_of(unmount("crypt")), 0);
  EXPECT_EQ(code_of(unmount("keys")), 0);
}

TEST_F(Requirements, FailureIsTheReasonAndNothingIsHeld) {
  require("crypt", {"net", "keys"});
  require("keys", {});
  require("net", {}, {.idle_timeout = 0s});
  start();
  fail_mount_of("keys", Error(EACCES, "access denied by server"));
  const auto lease = enter("crypt");
  ASSERT_EQ(code_of(lease), EACCES);
  EXPECT_EQ((*lease)->error().story(), "it requires \"keys\": access denied by server");
  EXPECT_EQ(state("crypt"), ShareState::kFailed);
  EXPECT_EQ(share("crypt").status().last_failure->failure.error.story(),
            "it requires \"keys\": access denied by server");
  EXPECT_EQ(mounted_, (Names{"net", "keys"})) << "it was not tried";
  pass(100ms);
  EXPECT_EQ(state("net"), ShareState::kIdle);
}

TEST_F(Requirements, RetryForgetsTheErrorOfWhatItRequiresAsWell) {
  require("crypt", {"keys"});
  require("keys", {});
  start();
  const auto before = backend_->during_mount;
  fail_mount_of("keys", Error(EHOSTDOWN));
  EXPECT_EQ(code_of(enter("crypt")), EHOSTDOWN);
  backend_->during_mount = before;
  backend_->mount_error.reset();
  EXPECT_EQ(code_of(enter("crypt")), EHOSTDOWN) << "it is remembered";
  manager_->retry(share("crypt"));
  EXPECT_EQ(code_of(enter("crypt")), 0);
}

TEST_F(Requirements, CallersKeepTheirDeadlineWhileOneIsMounted) {
  require("crypt", {"keys"}, {.mount_timeout = 5s});
  require("keys", {}, {.mount_timeout = 1h});
  setup_.max_concurrent_mounts = 1;
  add("slow", {.mount_timeout = 1h});
  start();
  std::shared_ptr<std::optional<Result<Lease>>> lease;
  // A mount that takes so long: the others wait for its turn.
  const auto before = backend_->during_mount;
  backend_->during_mount = [&](const ShareSpec& spec, const Attempt& attempt) {
    before(spec, attempt);
    if (spec.name() == "keys") clock_.advance(6s);
  };
  lease = enter("crypt");
  EXPECT_EQ(code_of(lease), ETIMEDOUT);
  EXPECT_EQ(state("crypt"), ShareState::kFailed);
  EXPECT_EQ(mounted_, Names{"keys"});
  EXPECT_EQ(state("keys"), ShareState::kMounted);
  EXPECT_EQ(share("keys").users(), 0U);
}

TEST_F(Requirements, OneThatIsNotThereIsNoNameThatIsNotThere) {
  require("crypt", {"gone"});
  start();
  const auto lease = enter("crypt");
  ASSERT_EQ(code_of(lease), EHOSTDOWN);
  EXPECT_EQ((*lease)->error().story(), "it requires \"gone\", which is not there");
}

TEST_F(Requirements, TemplateMakesWhatIsRequiredOfIt) {
  require("home/*", {"keys/&"});
  require("keys/*", {});
  start();
  auto found = std::make_shared<std::optional<Result<std::shared_ptr<Share>>>>();
  manager_->look_up("home/alice", 0,
                    [found](Result<std::shared_ptr<Share>> share) { found->emplace(std::move(share)); });
  manager_->run_pending();
  ASSERT_EQ(code_of(found), 0);
  EXPECT_EQ(manager_->find("keys/alice"), nullptr);
  EXPECT_EQ(code_of(enter("home/alice")), 0);
  EXPECT_EQ(mounted_, (Names{"keys/alice", "home/alice"}));
  EXPECT_EQ(share("keys/alice").status().required_by, Names{"home/alice"});
}

TEST_F(Requirements, StopUnmountsTheOnesThatRequireFirst) {
  require("crypt", {"keys"});
  require("keys", {});
  start();
  auto lease = enter("crypt");
  lease->reset();
  manager_->drain([](const Result<>&) {});
  for (int i = 0; i < 10; ++i) pass(50ms);
  EXPECT_EQ(state("crypt"), ShareState::kIdle);
  EXPECT_EQ(state("keys"), ShareState::kIdle);
}

TEST_F(Requirements, AreHeldByTheNextManager) {
  const auto memory = sys::SharedMemory::make("mounts", sizeof(KeptMounts));
  ASSERT_TRUE(memory);
  setup_.kept = reinterpret_cast<KeptMounts*>(memory->data());
  setup_.configuration = 1;
  require("crypt", {"keys"}, {.idle_timeout = 10min});
  require("keys", {}, {.idle_timeout = 0s});
  start();
  std::unique_ptr<Manager> dead;
  const auto lease = enter("crypt");
  ASSERT_EQ(code_of(lease), 0);
  // As if it was killed: nothing is taken down, and the next one has the same memory.
  dead = std::move(manager_);
  auto fake = std::make_unique<FakeBackend>();
  fake->table = backend_->table;
  backend_ = fake.get();
  ManagerSetup next;
  next.berth_directory = directory_;
  next.manual = true;
  next.kept = reinterpret_cast<KeptMounts*>(memory->data());
  next.configuration = 1;
  next.backends.emplace(ShareKind::kBind, std::move(fake));
  setup_ = std::move(next);
  start();
  manager_->begin();
  manager_->run_pending();
  EXPECT_EQ(share("crypt").spec().policy().required, Names{"keys"});
  EXPECT_EQ(share("keys").status().required_by, Names{"crypt"});
  pass(1min);
  EXPECT_EQ(state("keys"), ShareState::kMounted);
  pass(10min);
  pass(1s);
  EXPECT_EQ(state("crypt"), ShareState::kIdle);
  EXPECT_EQ(state("keys"), ShareState::kIdle);
}

TEST_F(Requirements, ReloadThatRequiresMoreHoldsWhatIsMounted) {
  require("crypt", {});
  require("keys", {}, {.idle_timeout = 0s});
  start();
  const auto inside = enter("crypt");
  auto keys = enter("keys");
  catalog_ = Catalog();
  require("crypt", {"keys"});
  require("keys", {}, {.idle_timeout = 0s});
  manager_->reload(catalog_, false, [](const Result<ReloadReport>&) {});
  manager_->run_pending();
  keys->reset();
  pass(1s);
  EXPECT_EQ(state("keys"), ShareState::kMounted);
  EXPECT_EQ(share("keys").status().required_by, Names{"crypt"});
}

/// What is wrong with a catalog of shares that require these others: "NAME: reason".
Names faults_in(const std::map<std::string, Names>& shares) {
  Catalog catalog;
  for (const auto& [name, required] : shares) {
    ShareFields fields;
    fields.name = name;
    fields.type = "bind";
    fields.sources = {"/srv"};
    fields.policy.required = required;
    EXPECT_TRUE(catalog.add(ShareSpec::make(std::move(fields)).value())) << name;
  }
  Names faults;
  for (const RequirementFault& fault : faults_of_requirements(catalog)) {
    faults.push_back(fault.share.name() + ": " + fault.reason);
  }
  return faults;
}

TEST(RequirementFaults, NamesThatAreThereInAnyOrderAreRight) {
  EXPECT_EQ(faults_in({{"a", {"z", "m"}}, {"m", {"z"}}, {"z", {}}}), Names{});
  EXPECT_EQ(
      faults_in(
          {{"home/*", {"keys/&", "net"}}, {"keys/*", {}}, {"keys/bob", {"net"}}, {"net", {}}, {"x", {"home/bob"}}}),
      Names{});
}

TEST(RequirementFaults, UnknownNamesAreTold) {
  EXPECT_EQ(faults_in({{"a", {"b"}}, {"c", {"b"}}}), (Names{"a: \"b\" is no share, and no template makes it",
                                                            "c: \"b\" is no share, and no template makes it"}));
  EXPECT_EQ(faults_in({{"home/*", {"keys/&"}}}), Names{"home/*: \"keys/&\" is no share, and no template makes it"});
  EXPECT_EQ(faults_in({{"a", {"home/-x"}}, {"home/*", {}}}),
            Names{"a: \"home/-x\" is no share, and no template makes it"});
}

TEST(RequirementFaults, CirclesAreToldOnceWithTheirPath) {
  EXPECT_EQ(faults_in({{"a", {"a"}}}), Names{"a: it requires itself: a -> a"});
  EXPECT_EQ(faults_in({{"a", {"b"}}, {"b", {"c"}}, {"c", {"b"}}}), Names{"b: it requires itself: b -> c -> b"});
  EXPECT_EQ(faults_in({{"a/*", {"b/&"}}, {"b/*", {"a/&"}}}), Names{"a/*: it requires itself: a/& -> b/& -> a/&"});
  // By one key alone.
  EXPECT_EQ(faults_in({{"a/*", {"b/&"}}, {"b/*", {}}, {"b/x", {"a/x"}}}),
            Names{"b/x: it requires itself: b/x -> a/x -> b/x"});
}

TEST(RequirementFaults, RowsHaveABound) {
  std::map<std::string, Names> shares;
  for (int i = 10; i < 10 + static_cast<int>(kMostInARow); ++i)
    shares["s" + std::to_string(i)] = {"s" + std::to_string(i + 1)};
  shares["s" + std::to_string(10 + kMostInARow)] = {};
  const Names faults = faults_in(shares);
  ASSERT_EQ(faults.size(), 1U);
  EXPECT_TRUE(faults.front().starts_with("s10: more than 16 shares in a row: s10 -> s11")) << faults.front();
  shares.erase("s10");
  EXPECT_EQ(faults_in(shares), Names{});
  // However many there are.
  shares.clear();
  for (int i = 0; i < 20'000; ++i) shares["t" + std::to_string(i)] = {"t" + std::to_string(i + 1)};
  shares["t20000"] = {};
  EXPECT_FALSE(faults_in(shares).empty());
}

}  // namespace
}  // namespace berth::manager
