// Shares that templates make on look-up.

#include "manager/engine/instances.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "src/lib/sys/shared_memory.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kAlice = 1000;
constexpr uid_t kBob = 1001;

/// Of which some sources are not there, and some do not answer.
class SourcesBackend final : public Backend {
 public:
  explicit SourcesBackend(FakeBackend& fake) : fake_(fake) {}
  tl::expected<RealMount, AttemptFailure> mount(const ShareSpec& spec, const Attempt& attempt) override {
    return fake_.mount(spec, attempt);
  }
  Result<std::optional<RealMount>> find(const ShareSpec& spec, const Attempt& attempt) override {
    return fake_.find(spec, attempt);
  }
  Result<bool> is_there(const Attempt& attempt) override { return fake_.is_there(attempt); }
  Result<> unmount(const ShareSpec& spec, RealMount& mount, const Attempt& attempt, bool force) override {
    return fake_.unmount(spec, mount, attempt, force);
  }
  bool has_source(const ShareSpec& spec) override {
    ++asked;
    if (during) during();
    return !missing.contains(spec.sources().front());
  }

  int asked = 0;
  std::set<std::string> missing;
  std::function<void()> during;

 private:
  FakeBackend& fake_;
};

class InstancesOfTemplates : public ManagerTest {
 protected:
  void SetUp() override {
    ManagerTest::SetUp();
    fake_ = std::make_unique<FakeBackend>();
    backend_ = fake_.get();
    use_backend(setup_);
  }
  void use_backend(ManagerSetup& setup) {
    auto sources = std::make_unique<SourcesBackend>(*fake_);
    sources_ = sources.get();
    setup.backends[ShareKind::kBind] = std::move(sources);
  }

  void want(const std::map<std::string, std::string>& shares, const SharePolicy& policy = {}) {
    catalog_ = Catalog();
    for (const auto& [name, source] : shares) {
      ShareFields fields;
      fields.name = name;
      fields.type = "bind";
      fields.sources = {source};
      fields.policy = policy;
      ASSERT_TRUE(catalog_.add(ShareSpec::make(std::move(fields)).value()));
    }
  }
  using Found = std::shared_ptr<std::optional<Result<std::shared_ptr<Share>>>>;
  Found begin_look_up(const std::string& name, uid_t user = kAlice) {
    auto slot = std::make_shared<std::optional<Result<std::shared_ptr<Share>>>>();
    manager_->look_up(name, user, [slot](Result<std::shared_ptr<Share>> found) { slot->emplace(std::move(found)); });
    return slot;
  }
  int look_up(const std::string& name, uid_t user = kAlice) {
    const Found found = begin_look_up(name, user);
    manager_->run_pending();
    return code_of(found);
  }
  std::string reload() {
    const auto slot = std::make_shared<std::string>("no answer");
    manager_->reload(catalog_, false, [slot](Result<ReloadReport> report) {
      *slot = report ? to_string(*report) : report.error().message();
    });
    manager_->run_pending();
    return *slot;
  }
  std::shared_ptr<std::optional<Result<Lease>>> enter(const std::string& name) {
    auto lease = ask(name);
    manager_->run_pending();
    EXPECT_EQ(code_of(lease), 0);
    return lease;
  }
  std::string source_of(const std::string& name) { return share(name).spec().sources().front(); }
  /// As after kill -9: nothing of the killed manager is destroyed.
  void succeed(KeptMounts* area, std::uint64_t configuration) {
    static auto* const killed = new std::vector<std::unique_ptr<Manager>>;
    killed->push_back(std::move(manager_));
    ManagerSetup next;
    next.berth_directory = directory_;
    next.manual = true;
    next.kept = area;
    next.configuration = configuration;
    use_backend(next);
    setup_ = std::move(next);
    start();
    manager_->begin();
    manager_->run_pending();
  }

  std::unique_ptr<FakeBackend> fake_;
  SourcesBackend* sources_ = nullptr;
};

TEST_F(InstancesOfTemplates, LookUpMakesAShareAndMountsNothing) {
  want({{"home/*", "/srv/home/&"}, {"home/carol", "/srv/carol"}});
  start();
  EXPECT_EQ(manager_->directory()->size(), 1U);
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(source_of("home/alice"), "/srv/home/alice");
  EXPECT_EQ(backend_->counts.mounts, 0);
  Share* const made = &share("home/alice");
  EXPECT_EQ(look_up("home/alice", kBob), 0);
  EXPECT_EQ(&share("home/alice"), made);
  EXPECT_EQ(look_up("home/carol"), 0);
  EXPECT_EQ(source_of("home/carol"), "/srv/carol");
  EXPECT_EQ(sources_->asked, 1);
  *enter("home/alice") = std::nullopt;
  EXPECT_TRUE(backend_->table.contains(berth("home/alice")));
}

TEST_F(InstancesOfTemplates, WhatCannotBeAKeyIsAbsentAndNoSourceIsAsked) {
  want({{"home/*", "/srv/home/&"}, {"*", "/srv/&"}});
  start();
  const std::vector<std::string> wrong{"home/..",
                                       "home/.",
                                       "home/a,suid",
                                       "home/-o",
                                       "home/a\nb",
                                       "home/{source}",
                                       "home/a\xff",
                                       "home/*",
                                       "..",
                                       ".berth",
                                       "home/a\x7f",
                                       "other/alice",
                                       "home/a/b",
                                       "home/",
                                       "",
                                       "/",
                                       "home//a",
                                       std::string(256, 'x'),
                                       "home/" + std::string(256, 'x')};
  for (const std::string& name : wrong) EXPECT_EQ(look_up(name), ENOENT) << ::testing::PrintToString(name);
  EXPECT_EQ(sources_->asked, 0);
  EXPECT_TRUE(manager_->directory()->empty());
  EXPECT_EQ(look_up("home/" + std::string(255, 'x')), 0);
}

TEST_F(InstancesOfTemplates, UnknownKeyIsRememberedAsAbsentForAWhile) {
  want({{"home/*", "/srv/&"}});
  start();
  sources_->missing = {"/srv/bob"};
  EXPECT_EQ(look_up("home/bob"), ENOENT);
  EXPECT_EQ(look_up("home/bob"), ENOENT);
  EXPECT_EQ(sources_->asked, 1);
  sources_->missing = {};
  EXPECT_EQ(look_up("home/bob"), ENOENT);
  pass(1min);
  EXPECT_EQ(look_up("home/bob"), 0);
  // And not after another template may know it.
  sources_->missing = {"/srv/dave"};
  EXPECT_EQ(look_up("home/dave"), ENOENT);
  want({{"home/*", "/export/&"}});
  reload();
  EXPECT_EQ(look_up("home/dave"), 0);
}

/// A template whose program a test plays.
class InstancesByProgram : public InstancesOfTemplates {
 protected:
  void SetUp() override {
    InstancesOfTemplates::SetUp();
    ShareFields fields;
    fields.name = "home/*";
    fields.program = {"/find", "{key}"};
    ASSERT_TRUE(catalog_.add(ShareSpec::make(std::move(fields)).value()));
    setup_.ask_program = [this](const LookUpQuestion& question) -> Result<LookUpAnswer> {
      asked_.push_back(question.argv);
      if (during_) during_();
      if (!answer_) return fail(answer_.error());
      ShareFields answered = question.fields;
      answered.type = "bind";
      answered.sources = {*answer_ + question.key};
      if (below_.empty()) return LookUpAnswer{.shares = {answered}, .notes = notes_};
      LookUpAnswer several{.shares = {}, .notes = notes_};
      for (const std::string& name : below_) {
        several.shares.push_back(answered);
        several.shares.back().name += "/" + name;
        several.shares.back().sources = {*answer_ + question.key + "/" + name};
      }
      return several;
    };
    setup_.on_catalog_change = [this](const std::vector<std::string>& names, const auto&) {
      told_names_.insert(told_names_.end(), names.begin(), names.end());
    };
    start();
  }

  Result<std::string> answer_ = std::string("/srv/");
  std::function<void()> during_;
  std::vector<std::vector<std::string>> asked_;
  std::vector<std::string> below_;  ///< shares below the key, instead of one at it
  std::vector<std::string> notes_;
  std::vector<std::string> told_names_;
};

TEST_F(InstancesByProgram, ShareIsWhatTheProgramSays) {
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(source_of("home/alice"), "/srv/alice");
  EXPECT_EQ(look_up("home/alice", kBob), 0);
  EXPECT_EQ(asked_, (std::vector<std::vector<std::string>>{{"/find", "alice"}}));
}

TEST_F(InstancesByProgram, KeyThatCouldBeMoreThanANameIsNotGivenToIt) {
  for (const char* name :
       {"home/-x", "home/a b", "home/a\nb", "home/$(id)", "home/a;b", "home/..", "home/a,b", "home/{key}"}) {
    EXPECT_EQ(look_up(name), ENOENT) << name;
  }
  EXPECT_TRUE(asked_.empty());
}

TEST_F(InstancesByProgram, FailureIsAnErrorOfThatKeyForAShortWhileAndIsShown) {
  answer_ = fail(EHOSTDOWN, "/find: exit status 3: \"no LDAP\"");
  EXPECT_EQ(look_up("home/alice"), EHOSTDOWN);
  EXPECT_EQ(look_up("home/alice", kBob), EHOSTDOWN);
  EXPECT_EQ(asked_.size(), 1U);
  ASSERT_EQ(manager_->failed_look_ups().size(), 1U);
  EXPECT_EQ(manager_->failed_look_ups().front().share, "home/alice");
  EXPECT_EQ(manager_->failed_look_ups().front().error.story(), "/find: exit status 3: \"no LDAP\"");
  answer_ = std::string("/srv/");
  EXPECT_EQ(look_up("home/bob"), 0);
  pass(Instances::kFailed);
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_TRUE(manager_->failed_look_ups().empty());
}

TEST_F(InstancesByProgram, ScanWhileTheProgramFailsFillsNeitherTheEventsNorTheStatus) {
  answer_ = fail(EHOSTDOWN, "down");
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(look_up("home/" + std::to_string(i)), EHOSTDOWN);
  EXPECT_EQ(told(Event::Kind::kWarning), 64);
  EXPECT_EQ(manager_->failed_look_ups().size(), 256U);
  EXPECT_EQ(manager_->failed_look_ups().back().share, "home/999");
}

TEST_F(InstancesByProgram, AbsentKeyIsNotAskedForAgainForNegativeTimeout) {
  answer_ = fail(ENOENT);
  EXPECT_EQ(look_up("home/alice"), ENOENT);
  pass(59s);
  EXPECT_EQ(look_up("home/alice"), ENOENT);
  EXPECT_EQ(asked_.size(), 1U);
  EXPECT_TRUE(manager_->failed_look_ups().empty());
  pass(2s);
  answer_ = std::string("/srv/");
  EXPECT_EQ(look_up("home/alice"), 0);
}

TEST_F(InstancesByProgram, UnusedShareIsAskedForAgainByTheNextLookUpAfterPositiveTimeout) {
  ASSERT_EQ(look_up("home/alice"), 0);
  answer_ = std::string("/new/");
  pass(9min);
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(asked_.size(), 1U);
  pass(2min);
  EXPECT_EQ(manager_->find("home/alice"), nullptr);
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(source_of("home/alice"), "/new/alice");
}

TEST_F(InstancesByProgram, OfAShareInUseAnotherAnswerIsPendingAndAFailureChangesNothing) {
  ASSERT_EQ(look_up("home/alice"), 0);
  const auto lease = enter("home/alice");
  answer_ = fail(EHOSTDOWN, "down");
  pass(11min);
  EXPECT_EQ(asked_.size(), 2U);
  EXPECT_EQ(manager_->failed_look_ups().size(), 1U);
  EXPECT_EQ(source_of("home/alice"), "/srv/alice");
  answer_ = std::string("/new/");
  pass(2min);
  EXPECT_EQ(asked_.size(), 3U);
  EXPECT_TRUE(manager_->failed_look_ups().empty());
  EXPECT_EQ(source_of("home/alice"), "/srv/alice");
  EXPECT_FALSE(share("home/alice").status().pending.empty());
  // The same answer is no change.
  pass(11min);
  EXPECT_EQ(asked_.size(), 4U);
  *lease = std::nullopt;
  manager_->run_pending();
  EXPECT_EQ(source_of("home/alice"), "/new/alice");
}

TEST_F(InstancesByProgram, AnotherAnswerForAnAttachedShareThatCannotBeMountedIsToldToTheKernel) {
  ASSERT_EQ(look_up("home/alice"), 0);
  ASSERT_EQ(code_of(attach("home/alice", "vm", "disk")), 0);
  backend_->mount_error = Error(EHOSTDOWN);
  manager_->remount(share("home/alice"), true, [](const Result<>&) {});
  manager_->run_pending();
  ASSERT_EQ(share("home/alice").status().state, ShareState::kFailed);
  ASSERT_TRUE(told_names_.empty());
  const std::uint64_t before = share("home/alice").incarnation();
  answer_ = std::string("/new/");
  pass(11min);
  EXPECT_EQ(source_of("home/alice"), "/new/alice");
  EXPECT_NE(share("home/alice").incarnation(), before);
  EXPECT_EQ(told_names_, std::vector<std::string>{"home/alice"})
      << "else the kernel would lead to the old one for years";
}

TEST_F(InstancesByProgram, OfAShareInUseThatIsNoneAnyMoreOnlyLookUpsEnd) {
  ASSERT_EQ(look_up("home/alice"), 0);
  const auto lease = enter("home/alice");
  answer_ = fail(ENOENT);
  pass(11min);
  EXPECT_EQ(manager_->find("home/alice"), nullptr);
  EXPECT_EQ(look_up("home/alice"), ENOENT);
  EXPECT_TRUE(lease->has_value());
  EXPECT_EQ(manager_->removed().size(), 1U);
  *lease = std::nullopt;
  manager_->run_pending();
  answer_ = std::string("/srv/");
  pass(1min);
  EXPECT_EQ(look_up("home/alice"), 0);
}

TEST_F(InstancesByProgram, EntryWithMountsBelowItsKeyMakesThemAll) {
  below_ = {"usr", "src/linux"};
  notes_ = {"something"};
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(look_up("home/alice", kBob), 0) << "it is a directory";
  EXPECT_EQ(asked_.size(), 1U);
  EXPECT_EQ(source_of("home/alice/usr"), "/srv/alice/usr");
  EXPECT_EQ(source_of("home/alice/src/linux"), "/srv/alice/src/linux");
  EXPECT_EQ(manager_->find("home/alice"), nullptr);
  EXPECT_EQ(told(Event::Kind::kWarning), 1) << "the note";
}

TEST_F(InstancesByProgram, SharesOfOneKeyAreForgottenTogether) {
  below_ = {"usr", "src"};
  ASSERT_EQ(look_up("home/alice"), 0);
  auto lease = enter("home/alice/usr");
  pass(1h);
  EXPECT_NE(manager_->find("home/alice/src"), nullptr) << "else the directory would lack it";
  *lease = std::nullopt;
  manager_->run_pending();
  for (int i = 0; i < 3; ++i) pass(1h);
  EXPECT_TRUE(manager_->directory()->empty());
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(manager_->directory()->size(), 2U);
}

TEST_F(InstancesByProgram, AnotherAnswerAddsAndRemovesSharesOfAKeyThatIsInUse) {
  below_ = {"usr", "src"};
  ASSERT_EQ(look_up("home/alice"), 0);
  const auto lease = enter("home/alice/usr");
  below_ = {"new", "usr"};
  pass(11min);
  EXPECT_EQ(asked_.size(), 2U);
  EXPECT_EQ(manager_->find("home/alice/src"), nullptr);
  EXPECT_EQ(source_of("home/alice/new"), "/srv/alice/new");
  EXPECT_TRUE(share("home/alice/usr").status().pending.empty());
  // A share in the place of the directory takes the name when those below it have lost theirs.
  below_ = {};
  pass(11min);
  EXPECT_EQ(manager_->find("home/alice/usr"), nullptr);
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(source_of("home/alice"), "/srv/alice");
}

TEST_F(InstancesByProgram, ConfiguredShareInThePlaceOfTheKeyEndsThem) {
  below_ = {"usr", "src"};
  ASSERT_EQ(look_up("home/alice"), 0);
  ShareFields fields;
  fields.name = "home/alice";
  fields.type = "bind";
  fields.sources = {"/own"};
  ASSERT_TRUE(catalog_.add(ShareSpec::make(std::move(fields)).value()));
  reload();
  EXPECT_EQ(source_of("home/alice"), "/own");
  EXPECT_EQ(manager_->directory()->size(), 1U);
}

TEST_F(InstancesByProgram, MoreThanAUserMayHaveAreNotMade) {
  for (std::size_t i = 0; i <= Instances::Limits().of_user; ++i) below_.push_back(std::to_string(i));
  EXPECT_EQ(look_up("home/alice"), EAGAIN);
  EXPECT_TRUE(manager_->directory()->empty());
  EXPECT_EQ(look_up("home/alice", 0), 0);
  EXPECT_EQ(manager_->directory()->size(), below_.size());
}

TEST_F(InstancesByProgram, AsManyUnusedOnesOfTheUserGiveWayAsAnEntryHasMounts) {
  const auto name_of = [](std::size_t number) { return "home/" + std::to_string(number); };
  const std::size_t most = Instances::Limits().of_user;
  for (std::size_t i = 0; i < most; ++i) {
    pass(1ms);
    ASSERT_EQ(look_up(name_of(i)), 0);
  }
  ASSERT_EQ(look_up("home/bob", kBob), 0);
  std::vector<std::shared_ptr<std::optional<Result<Lease>>>> leases{enter(name_of(0))};
  below_ = {"usr", "src", "doc"};
  pass(10s);
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(manager_->directory()->size(), most + 1);
  for (const std::size_t unused : {1U, 2U, 3U}) EXPECT_EQ(manager_->find(name_of(unused)), nullptr);
  // All but two are in use now: what there is of these is not enough.
  for (const char* name : {"home/alice/usr", "home/bob"}) leases.push_back(enter(name));
  for (std::size_t i = 4; i < most - 2; ++i) leases.push_back(enter(name_of(i)));
  EXPECT_EQ(look_up("home/carol"), EAGAIN);
  EXPECT_EQ(manager_->directory()->size(), most + 1) << "nothing goes in vain";
  // What was made together goes together, whatever of it is needed.
  for (const std::size_t last : {most - 2, most - 1}) leases.push_back(enter(name_of(last)));
  below_ = {};
  EXPECT_EQ(look_up("home/carol"), EAGAIN);
  *leases[1] = std::nullopt;
  manager_->run_pending();
  ASSERT_EQ(code_of(unmount("home/alice/usr")), 0);
  EXPECT_EQ(look_up("home/carol"), 0);
  EXPECT_EQ(manager_->directory()->size(), most - 1);
  EXPECT_NE(manager_->find("home/bob"), nullptr);
}

TEST_F(InstancesByProgram, ReloadForgetsWhatHasFailed) {
  answer_ = fail(EHOSTDOWN, "down");
  EXPECT_EQ(look_up("home/alice"), EHOSTDOWN);
  reload();
  EXPECT_TRUE(manager_->failed_look_ups().empty());
  answer_ = std::string("/srv/");
  EXPECT_EQ(look_up("home/alice"), 0);
}

TEST_F(InstancesByProgram, ReloadWhileItRunsCounts) {
  during_ = [this] {
    during_ = nullptr;
    want({{"home/*", "/export/&"}});
    manager_->reload(catalog_, false, [](const Result<ReloadReport>&) {});
  };
  EXPECT_EQ(look_up("home/alice"), 0);
  EXPECT_EQ(source_of("home/alice"), "/export/alice");
}

TEST_F(InstancesOfTemplates, CallersOfOneNameAskItsSourceOnce) {
  want({{"home/*", "/srv/&"}});
  start();
  std::vector<Found> found;
  for (int i = 0; i < 100; ++i) found.push_back(begin_look_up("home/a", kAlice + static_cast<uid_t>(i)));
  manager_->run_pending();
  for (const Found& one : found) EXPECT_EQ(code_of(one), 0);
  EXPECT_EQ(sources_->asked, 1);
  EXPECT_EQ(manager_->directory()->size(), 1U);
}

TEST_F(InstancesOfTemplates, ReloadWhileASourceIsAskedCounts) {
  want({{"home/*", "/srv/&"}});
  start();
  sources_->during = [this] {
    sources_->during = nullptr;
    want({{"home/*", "/export/&"}});
    manager_->reload(catalog_, false, [](const Result<ReloadReport>&) {});
  };
  EXPECT_EQ(look_up("home/a"), 0);
  EXPECT_EQ(source_of("home/a"), "/export/a");
  sources_->during = [this] {
    sources_->during = nullptr;
    want({});
    manager_->reload(catalog_, false, [](const Result<ReloadReport>&) {});
  };
  EXPECT_EQ(look_up("home/b"), ENOENT);
}

TEST_F(InstancesOfTemplates, ChangedTemplateChangesThemAsShares) {
  want({{"home/*", "/srv/&"}});
  start();
  ASSERT_EQ(look_up("home/idle"), 0);
  ASSERT_EQ(look_up("home/used"), 0);
  const auto lease = enter("home/used");
  want({{"home/*", "/export/&"}});
  EXPECT_EQ(reload(), "3 changed (home/used: pending, 1 user)");
  EXPECT_EQ(source_of("home/idle"), "/export/idle");
  EXPECT_EQ(source_of("home/used"), "/srv/used");
  *lease = std::nullopt;
  manager_->run_pending();
  EXPECT_EQ(source_of("home/used"), "/export/used");
  SharePolicy slow;
  slow.idle_timeout = 1h;
  want({{"home/*", "/export/&"}}, slow);
  reload();
  EXPECT_EQ(share("home/used").spec().policy().idle_timeout, 1h);
  want({{"other", "/srv/other"}});
  EXPECT_EQ(reload(), "+1 added, 3 removed");
  EXPECT_EQ(manager_->find("home/used"), nullptr);
}

TEST_F(InstancesOfTemplates, ConfiguredShareOfTheirNameOrBelowTakesTheirPlace) {
  want({{"home/*", "/srv/&"}});
  start();
  ASSERT_EQ(look_up("home/a"), 0);
  ASSERT_EQ(look_up("home/b"), 0);
  want({{"home/*", "/srv/&"}, {"home/a", "/srv/a"}, {"home/b/c", "/srv/c"}});
  EXPECT_EQ(reload(), "+2 added, 2 removed");
  EXPECT_EQ(manager_->find("home/b"), nullptr);
  // A directory above a share is no key.
  EXPECT_EQ(look_up("home/b"), ENOENT);
  // It is configured: the end of the template is not its end.
  want({{"home/a", "/srv/a"}});
  reload();
  EXPECT_NE(manager_->find("home/a"), nullptr);
}

TEST_F(InstancesOfTemplates, ThoseThatNothingUsesAreForgotten) {
  bool is_known = true;
  int dropped = 0;
  setup_.is_known = [&](const Share&, bool) { return is_known; };
  setup_.drop_unused = [&](const Share&) { ++dropped; };
  want({{"home/*", "/srv/&"}});
  start();
  ASSERT_EQ(look_up("home/a"), 0);
  ASSERT_EQ(look_up("home/used"), 0);
  const auto lease = enter("home/used");
  pass(11min);
  // The kernel knows it: it is asked to drop what it does not use.
  EXPECT_NE(manager_->find("home/a"), nullptr);
  EXPECT_GT(dropped, 0);
  is_known = false;
  pass(11s);
  EXPECT_EQ(manager_->find("home/a"), nullptr);
  EXPECT_NE(manager_->find("home/used"), nullptr);
  EXPECT_TRUE(manager_->removed().empty());
  EXPECT_EQ(look_up("home/a"), 0);
}

TEST_F(InstancesOfTemplates, TheySurviveTheServerWithTheirTemplates) {
  // Managers that were killed are never destroyed.
  static auto* const memory = new sys::SharedMemory(sys::SharedMemory::make("mounts", sizeof(KeptMounts)).value());
  auto* const area = reinterpret_cast<KeptMounts*>(memory->data());
  setup_.kept = area;
  setup_.configuration = 7;
  want({{"home/*", "/srv/&"}, {"plain", "/srv/plain"}});
  start();
  ASSERT_EQ(look_up("home/a"), 0);
  const std::uint64_t incarnation = share("home/a").incarnation();
  // The same configuration: its files are not read.
  catalog_ = Catalog();
  succeed(area, 7);
  EXPECT_EQ(share("home/a").incarnation(), incarnation);
  EXPECT_EQ(look_up("home/b"), 0);
  // Another one, as at an upgrade.
  want({{"home/*", "/srv/&"}, {"plain", "/srv/plain"}});
  succeed(area, 8);
  EXPECT_EQ(share("home/a").incarnation(), incarnation);
  EXPECT_EQ(look_up("home/c"), 0);
  pass(11min);
  EXPECT_EQ(manager_->directory()->size(), 1U) << "what was made before is forgotten as well";
  want({{"plain", "/srv/plain"}});
  succeed(area, 9);
  EXPECT_EQ(look_up("home/d"), ENOENT);
  EXPECT_EQ(manager_->directory()->size(), 1U);
}

TEST_F(InstancesOfTemplates, ScanOfOneUserIsBoundedAndLeavesOthersAlone) {
  want({{"home/*", "/srv/&"}});
  start();
  ASSERT_EQ(look_up("home/bob", kBob), 0);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    if (look_up("home/" + std::to_string(i)) == EAGAIN) ++refused;
  }
  EXPECT_GE(refused, 1900);
  EXPECT_LE(manager_->directory()->size(), Instances::Limits().of_user + 1);
  EXPECT_NE(manager_->find("home/bob"), nullptr);
  EXPECT_EQ(look_up("home/carol", kBob), 0);
  // Later the user has others made, and the ones that were not used for longest go.
  pass(100s);
  EXPECT_EQ(look_up("home/new"), 0);
  EXPECT_LE(manager_->directory()->size(), Instances::Limits().of_user + 2);
  EXPECT_NE(manager_->find("home/bob"), nullptr);
}

TEST_F(InstancesOfTemplates, WhatIsInUseIsNotGivenUpForAnother) {
  Instances instances;
  const auto add = [&](std::size_t number, uid_t user) {
    const std::string name = "home/" + std::to_string(number);
    instances.add(name, name, user, clock_.now());
  };
  for (std::size_t i = 0; i < Instances::Limits().of_user; ++i) add(i, kAlice);
  EXPECT_EQ(instances.full("home/x", kAlice, 1), Instances::Full::kOfUser);
  EXPECT_EQ(instances.full("home/x", kBob, 1), Instances::Full::kNo);
  EXPECT_EQ(instances.full("home/x", 0, 1), Instances::Full::kNo);
  for (std::size_t i = 0; i < Instances::Limits().of_template; ++i) {
    add(i, static_cast<uid_t>(i));
  }
  EXPECT_EQ(instances.full("home/x", kBob, 1), Instances::Full::kOfTemplate);
  EXPECT_EQ(instances.full("other/x", kBob, 1), Instances::Full::kNo);
  while (!instances.all().empty()) instances.remove(instances.all().begin()->first);
  EXPECT_EQ(instances.full("home/x", kAlice, 1), Instances::Full::kNo);
}

TEST_F(InstancesOfTemplates, AbsentNamesAreBounded) {
  Instances instances;
  const TimePoint now = clock_.now();
  for (std::size_t i = 0; i <= Instances::kMostRefused; ++i)
    instances.note_refused(std::to_string(i), Error(ENOENT), now + 60s);
  EXPECT_FALSE(instances.refusal_of("0", now));
  EXPECT_TRUE(instances.refusal_of("1", now));
  EXPECT_FALSE(instances.refusal_of("1", now + 60s));
}

TEST_F(InstancesOfTemplates, AttachmentsOnDiskMakeThemAgain) {
  want({{"home/*", "/srv/&"}});
  start();
  sources_->missing = {"/srv/a"};
  StoredState kept;
  kept.shares = {{"home/a", {{"vm", "disk"}}}, {"other/b", {{"vm", "disk"}}}, {"home/a,b", {{"vm", "disk"}}}};
  manager_->begin(std::move(kept));
  manager_->run_pending();
  pass(1min);
  ASSERT_NE(manager_->find("home/a"), nullptr);
  EXPECT_EQ(share("home/a").status().state, ShareState::kMounted);
  EXPECT_EQ(share("home/a").attachment_count(), 1U);
  EXPECT_EQ(manager_->state_report().unknown_shares.size(), 2U);
}

TEST_F(InstancesOfTemplates, AttachmentsHoldThem) {
  want({{"home/*", "/srv/&"}});
  start();
  ASSERT_EQ(look_up("home/a"), 0);
  EXPECT_EQ(code_of(attach("home/a", "vm", "disk")), 0);
  pass(1h);
  EXPECT_NE(manager_->find("home/a"), nullptr);
  EXPECT_EQ(code_of(detach("home/a", "vm", "disk")), 0);
  pass(1h);
  pass(1h);
  EXPECT_EQ(manager_->find("home/a"), nullptr);
}

}  // namespace
}  // namespace berth::manager
