// Catalogs that take the place of one another while shares are in use.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "manager/engine/kept_catalog.h"
#include "manager/state/state_format.h"
#include "src/lib/sys/shared_memory.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

class Reload : public ManagerTest {
 protected:
  /// The catalog that is asked for next: each name with its source.
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
  std::string reload(bool dry_run = false) {
    const auto slot = std::make_shared<std::string>("no answer");
    manager_->reload(catalog_, dry_run, [slot](Result<ReloadReport> report) {
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
  Answer remount(const std::string& name, bool force) {
    auto [slot, done] = answer();
    manager_->remount(share(name), force, std::move(done));
    manager_->run_pending();
    return slot;
  }
  /// Another manager goes on with what this one has kept, as after kill -9: nothing of the killed one is destroyed.
  void succeed(KeptMounts* area, std::uint64_t configuration) {
    static std::vector<std::unique_ptr<Manager>> killed;
    if (manager_) killed.push_back(std::move(manager_));
    ManagerSetup next;
    next.berth_directory = directory_;
    next.manual = true;
    next.kept = area;
    next.configuration = configuration;
    next.is_known = setup_.is_known;
    auto fake = std::make_unique<FakeBackend>();
    fake->table = backend_->table;
    backend_ = fake.get();
    next.backends.emplace(ShareKind::kBind, std::move(fake));
    setup_ = std::move(next);
    start();
  }
};

TEST_F(Reload, AddedShareIsThereAtOnceAndWhatIsTheSameStays) {
  want({{"a", "/srv/a"}});
  start();
  Share* const before = &share("a");
  const auto lease = enter("a");
  want({{"a", "/srv/a"}, {"b", "/srv/b"}, {"c", "/srv/c"}});
  EXPECT_EQ(reload(true), "+2 added");
  EXPECT_EQ(manager_->find("b"), nullptr);
  EXPECT_EQ(reload(), "+2 added");
  EXPECT_NE(manager_->find("b"), nullptr);
  EXPECT_EQ(&share("a"), before);
  EXPECT_EQ(reload(), "nothing has changed");
  EXPECT_EQ(backend_->counts.unmounts, 0);
}

TEST_F(Reload, RemovedShareIsGoneForLookUpsAndUnmountedWhenTheLastUserLeaves) {
  want({{"old", "/srv/old"}});
  start();
  auto lease = enter("old");
  Lease second = (**lease)->duplicate();
  want({});
  EXPECT_EQ(reload(), "1 removed (old: 2 users)");
  EXPECT_EQ(manager_->find("old"), nullptr);
  ASSERT_EQ(manager_->removed().size(), 1U);
  EXPECT_TRUE(manager_->removed().front()->is_removed());
  EXPECT_TRUE(manager_->shown()->contains("old"));
  lease->reset();
  pass(1h);
  EXPECT_EQ(backend_->counts.unmounts, 0) << "a caller is inside";
  second = Lease();
  pass(1s);
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_TRUE(manager_->removed().empty());
  EXPECT_FALSE(manager_->shown()->contains("old"));
}

TEST_F(Reload, ShareThatIsAddedAgainIsAnotherOne) {
  want({{"a", "/srv/a"}});
  start();
  const auto old = enter("a");
  Share& first = (**old)->share();
  want({});
  reload();
  want({{"a", "/srv/a"}});
  EXPECT_EQ(reload(), "+1 added");
  Share& second = share("a");
  EXPECT_NE(&first, &second);
  EXPECT_NE(first.incarnation(), second.incarnation());
  const auto lease = enter("a");
  EXPECT_EQ(backend_->table, (std::set<std::string>{berth("a"), berth(second.berth())}));
  EXPECT_EQ(first.users(), 1U);
  EXPECT_EQ(second.users(), 1U);
}

TEST_F(Reload, CallerThatComesBackIntoARemovedShareFindsItMounted) {
  std::size_t known = 1;
  setup_.is_known = [&known](const Share&, bool) { return known > 0; };
  want({{"a", "/srv/a"}});
  start();
  Share* const first = &share("a");
  enter("a")->reset();
  want({});
  reload();
  pass(1h);
  EXPECT_EQ(backend_->counts.unmounts, 0) << "a working directory is in it";
  auto back = std::make_shared<std::optional<Result<Lease>>>();
  manager_->lease(*first, [back](Result<Lease> lease) { back->emplace(std::move(lease)); });
  manager_->run_pending();
  EXPECT_EQ(code_of(back), 0);
  back->reset();
  known = 0;
  pass(10s);
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(Reload, PolicyIsInForceAtOnce) {
  want({{"a", "/srv/a"}}, {.idle_timeout = 1h});
  start();
  const auto lease = enter("a");
  want({{"a", "/srv/a"}}, {.idle_timeout = 1min, .allow_users = {7}});
  EXPECT_EQ(reload(), "1 changed");
  EXPECT_EQ(share("a").spec().policy().allow_users, std::vector<uid_t>{7});
  EXPECT_TRUE(share("a").status().pending.empty());
  lease->reset();
  pass(30s);
  EXPECT_EQ(backend_->counts.unmounts, 0);
  pass(1min);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(Reload, AnotherMountWaitsUntilTheOldOneIsNotInUse) {
  want({{"media", "/srv/old"}}, {.idle_timeout = 1h});
  start();
  const auto lease = enter("media");
  Share& old = share("media");
  want({{"media", "/srv/new"}}, {.idle_timeout = 1h});
  EXPECT_EQ(reload(), "1 changed (media: pending, 1 user)");
  EXPECT_EQ(old.status().pending, std::vector<std::string>{"source: /srv/old -> /srv/new"});
  // New callers are led to the old mount.
  const auto another = enter("media");
  EXPECT_EQ(&(**another)->share(), &old);
  lease->reset();
  another->reset();
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 1);
  EXPECT_NE(&share("media"), &old);
  EXPECT_EQ(share("media").spec().sources().front(), "/srv/new");
  EXPECT_TRUE(manager_->removed().empty());
}

TEST_F(Reload, ChangeThatIsTakenBackIsPendingNoMore) {
  want({{"media", "/srv/old"}});
  start();
  const auto lease = enter("media");
  want({{"media", "/srv/new"}});
  reload();
  want({{"media", "/srv/old"}});
  EXPECT_EQ(reload(), "1 changed");
  EXPECT_TRUE(share("media").status().pending.empty());
  EXPECT_EQ(share("media").standing(), Standing::kCurrent);
}

TEST_F(Reload, ShareThatIsNotMountedIsChangedAtOnce) {
  want({{"media", "/srv/old"}});
  start();
  want({{"media", "/srv/new"}});
  EXPECT_EQ(reload(), "1 changed");
  EXPECT_EQ(share("media").spec().sources().front(), "/srv/new");
}

TEST_F(Reload, AttachmentsHoldARemovedShareAndAreNamed) {
  want({{"old", "/srv/old"}});
  start();
  EXPECT_EQ(code_of(attach("old", "vm1", "disk0")), 0);
  Share& old = share("old");
  want({});
  EXPECT_EQ(reload(), "1 removed (old: attached: vm1/disk0)");
  pass(1h);
  EXPECT_EQ(backend_->counts.unmounts, 0);
  auto [attached, again] = answer();
  manager_->attach(old, {"vm2", "disk0"}, std::move(again));
  manager_->run_pending();
  EXPECT_EQ(code_of(attached), ENOENT);
  auto [slot, done] = answer();
  manager_->detach(old, {"vm1", "disk0"}, std::move(done));
  manager_->run_pending();
  EXPECT_EQ(code_of(slot), 0);
  pass(1s);
  pass(1s);
  EXPECT_EQ(backend_->counts.unmounts, 1);
}

TEST_F(Reload, RemountIsRefusedWhileInUseUnlessForced) {
  want({{"media", "/srv/old"}});
  start();
  auto lease = enter("media");
  EXPECT_EQ(code_of(attach("media", "vm1", "disk0")), 0);
  want({{"media", "/srv/new"}});
  EXPECT_EQ(reload(), "1 changed (media: pending, 1 user, attached: vm1/disk0)");
  const Answer refused = remount("media", false);
  for (int i = 0; i < 50; ++i) pass(10ms);
  EXPECT_EQ(code_of(refused), EBUSY);
  EXPECT_EQ(code_of(remount("media", true)), 0);
  EXPECT_EQ(share("media").spec().sources().front(), "/srv/new");
  EXPECT_TRUE(share("media").has_attachment({"vm1", "disk0"}));
  EXPECT_EQ(share("media").users(), 1U) << "the attachment";
}

TEST_F(Reload, AttachmentsOfARemovedShareAreThoseOfTheNextWithItsName) {
  want({{"media", "/srv/old"}});
  start();
  EXPECT_EQ(code_of(attach("media", "vm1", "disk0")), 0);
  const std::shared_ptr<Share> old = manager_->find("media");
  want({});
  EXPECT_EQ(reload(), "1 removed (media: attached: vm1/disk0)");
  EXPECT_TRUE(old->has_attachment({"vm1", "disk0"})) << "it can be given back";
  want({{"media", "/srv/new"}});
  EXPECT_EQ(reload(), "+1 added");
  pass(1s);
  EXPECT_TRUE(share("media").has_attachment({"vm1", "disk0"}));
  EXPECT_EQ(share("media").users(), 1U) << "the attachment";
  EXPECT_EQ(share("media").status().state, ShareState::kMounted);
  EXPECT_FALSE(old->has_attachment({"vm1", "disk0"}));
  EXPECT_EQ(old->users(), 0U);
  EXPECT_EQ(code_of(detach("media", "vm1", "disk0")), 0);
  EXPECT_EQ(share("media").attachment_count(), 0U);
}

/// Changes of attachments take until they are on disk, and catalogs change meanwhile.
class ReloadWithStore : public Reload {
 protected:
  void SetUp() override {
    Reload::SetUp();
    state_ = directory_ + ".state";
    setup_.store = std::make_unique<AttachmentStore>(StateDirectory(state_, "/volumes"));
    want({{"media", "/srv/old"}});
    start();
  }
  void TearDown() override {
    Reload::TearDown();
    std::filesystem::remove_all(state_);
  }
  [[nodiscard]] std::set<Attachment> on_disk() const {
    const std::string directory = StateDirectory(state_, "/volumes").path();
    std::ifstream file(directory + "/" + state_format::file_name("media") + ".attachments");
    return state_format::parse(std::string(std::istreambuf_iterator<char>(file), {})).attachments;
  }
  /// Begun, and not done before the next run_pending().
  Answer begin_attach(const std::shared_ptr<Share>& to) {
    auto [slot, done] = answer();
    manager_->attach(*to, kDisk, std::move(done));
    return slot;
  }
  Answer begin_detach(const std::shared_ptr<Share>& from) {
    auto [slot, done] = answer();
    manager_->detach(*from, kDisk, std::move(done));
    return slot;
  }
  void begin_reload(const std::map<std::string, std::string>& shares) {
    want(shares);
    manager_->reload(catalog_, false, [](const Result<ReloadReport>&) {});
  }
  void begin_removing_and_adding() {
    begin_reload({});
    begin_reload({{"media", "/srv/new"}});
  }
  /// When what is posted before this has begun and is not on disk.
  void then(Task task) {
    manager_->look_up("nothing", 0, [task = std::make_shared<Task>(std::move(task))](const auto&) { (*task)(); });
  }
  void expect_attached(const std::set<Attachment>& attachments) {
    pass(1s);
    EXPECT_EQ(share("media").spec().sources().front(), "/srv/new");
    EXPECT_EQ(share("media").status().attachments.size(), attachments.size());
    EXPECT_EQ(share("media").users(), attachments.size()) << "each holds it";
    EXPECT_EQ(on_disk(), attachments);
    for (const std::shared_ptr<Share>& old : manager_->removed()) EXPECT_EQ(old->attachment_count(), 0U);
  }

  const Attachment kDisk{"vm1", "disk0"};
  std::string state_;
};

TEST_F(ReloadWithStore, AttachThatWaitsForTheMountIsOfTheShareThatHasTheNameThen) {
  const Answer attached = begin_attach(manager_->find("media"));
  begin_removing_and_adding();
  manager_->run_pending();
  EXPECT_EQ(code_of(attached), 0);
  expect_attached({kDisk});
  EXPECT_EQ(code_of(detach("media", "vm1", "disk0")), 0);
  expect_attached({});
}

TEST_F(ReloadWithStore, AttachThatWaitsForTheMountOfARemovedShareIsRefused) {
  const std::shared_ptr<Share> old = manager_->find("media");
  const Answer attached = begin_attach(old);
  begin_reload({});
  manager_->run_pending();
  EXPECT_EQ(code_of(attached), ENOENT);
  EXPECT_EQ(on_disk(), std::set<Attachment>());
  EXPECT_FALSE(old->has_attachment(kDisk));
}

TEST_F(ReloadWithStore, AttachThatIsBeingRecordedIsOfTheShareThatHasTheNameThen) {
  const auto lease = enter("media");
  const std::shared_ptr<Share> old = manager_->find("media");
  const Answer attached = begin_attach(old);
  Answer again;
  then([&] {
    begin_removing_and_adding();
    again = begin_attach(old);
  });
  manager_->run_pending();
  EXPECT_EQ(code_of(attached), 0);
  EXPECT_EQ(code_of(again), 0);
  EXPECT_FALSE(old->has_attachment(kDisk));
  expect_attached({kDisk});
}

TEST_F(ReloadWithStore, AttachThatIsBeingRecordedHoldsARemovedShare) {
  const auto lease = enter("media");
  const std::shared_ptr<Share> old = manager_->find("media");
  const Answer attached = begin_attach(old);
  then([&] { begin_reload({}); });
  manager_->run_pending();
  EXPECT_EQ(code_of(attached), 0);
  EXPECT_TRUE(old->has_attachment(kDisk));
  EXPECT_EQ(on_disk(), std::set<Attachment>{kDisk});
  begin_reload({{"media", "/srv/new"}});
  expect_attached({kDisk});
}

TEST_F(ReloadWithStore, DetachThatIsBeingRecordedIsOfTheShareThatHasTheNameThen) {
  ASSERT_EQ(code_of(attach("media", "vm1", "disk0")), 0);
  const std::shared_ptr<Share> old = manager_->find("media");
  const Answer detached = begin_detach(old);
  begin_removing_and_adding();
  const Answer attached_again = begin_attach(old);
  const Answer detached_again = begin_detach(old);
  manager_->run_pending();
  EXPECT_EQ(code_of(detached), 0);
  EXPECT_EQ(code_of(attached_again), 0);
  // In the order in which they are done: it waits for no mount.
  EXPECT_EQ(code_of(detached_again), ENOENT);
  expect_attached({kDisk});
}

TEST_F(ReloadWithStore, DirectoriesOfInstancesThatAreBeingRecordedAreOfTheShareThatHasTheNameThen) {
  const std::shared_ptr<Share> old = manager_->find("media");
  auto [made, on_made] = answer();
  manager_->make_instance(*old, "vm1", std::move(on_made));
  begin_removing_and_adding();
  manager_->run_pending();
  EXPECT_EQ(code_of(made), 0);
  EXPECT_TRUE(share("media").has_instance("vm1"));
  auto [removed, on_removed] = answer();
  manager_->remove_instance(share("media"), "vm1", std::move(on_removed));
  begin_removing_and_adding();
  manager_->run_pending();
  EXPECT_EQ(code_of(removed), 0);
  EXPECT_FALSE(share("media").has_instance("vm1"));
  EXPECT_EQ(on_disk(), std::set<Attachment>());
}

TEST_F(Reload, UnknownKindIsRefusedWhole) {
  want({{"a", "/srv/a"}});
  start();
  ShareFields fields;
  fields.name = "b";
  fields.type = "tmpfs";
  want({});
  ASSERT_TRUE(catalog_.add(ShareSpec::make(std::move(fields)).value()));
  EXPECT_NE(reload().find("not served here"), std::string::npos);
  EXPECT_NE(manager_->find("a"), nullptr);
}

/// Memory that outlives managers.
class ReloadOverKills : public Reload {
 protected:
  ReloadOverKills() : memory_(sys::SharedMemory::make("mounts", sizeof(KeptMounts)).value()) { setup_.kept = area(); }
  KeptMounts* area() const { return reinterpret_cast<KeptMounts*>(memory_.data()); }

  const sys::SharedMemory memory_;
};

TEST_F(ReloadOverKills, FirstCatalogThatIsTooLargeToBeKeptIsRefused) {
  const std::string source = "/" + std::string(4000, 'x');
  for (std::size_t i = 0; i <= CatalogArea::kHalf / source.size(); ++i) {
    ShareFields fields;
    fields.name = std::to_string(1'000'000 + i);  // in the order in which they are added
    fields.type = "bind";
    fields.sources = {source};
    ASSERT_TRUE(catalog_.add(ShareSpec::make(std::move(fields)).value()));
  }
  const auto made = Manager::make(std::move(setup_), catalog_, clock_);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), ENOSPC);
}

TEST_F(ReloadOverKills, NextManagerGoesOnWithTheCatalogInForce) {
  setup_.configuration = 1;
  want({{"gone", "/srv/gone"}, {"media", "/srv/old"}, {"stays", "/srv/stays"}});
  const Catalog at_the_start = catalog_;
  start();
  const auto gone = enter("gone");
  const auto media = enter("media");
  const std::uint64_t incarnation = share("stays").incarnation();
  want({{"media", "/srv/new"}, {"stays", "/srv/stays"}, {"new", "/srv/new"}}, {.attr_timeout = 7s});
  reload();
  catalog_ = at_the_start;  // as the keeper has read it
  EXPECT_TRUE(manager_->untold().empty());
  succeed(area(), 1);
  EXPECT_EQ(manager_->find("gone"), nullptr);
  EXPECT_NE(manager_->find("new"), nullptr);
  EXPECT_EQ(share("stays").incarnation(), incarnation);
  EXPECT_EQ(share("stays").spec().policy().attr_timeout, 7s);
  EXPECT_EQ(share("media").spec().sources().front(), "/srv/old");
  EXPECT_EQ(share("media").spec().policy().attr_timeout, 7s);
  EXPECT_EQ(share("media").status().state, ShareState::kMounted);
  EXPECT_EQ(share("media").standing(), Standing::kPending);
  EXPECT_EQ(manager_->incarnations().size(), 4U);
}

TEST_F(ReloadOverKills, NextManagerThatReadsAnotherConfigurationMakesTheSameChange) {
  setup_.configuration = 1;
  want({{"a", "/srv/a"}, {"b", "/srv/b"}});
  start();
  const std::uint64_t a = share("a").incarnation();
  const std::uint64_t b = share("b").incarnation();
  const auto inside = enter("a");
  want({{"b", "/srv/b"}});
  succeed(area(), 2);
  EXPECT_EQ(manager_->find("a"), nullptr);
  EXPECT_EQ(share("b").incarnation(), b);
  ASSERT_TRUE(manager_->incarnations().contains(a));
  EXPECT_TRUE(manager_->incarnations().at(a)->try_lease().has_value()) << "what is open in it goes on";
  want({{"a", "/srv/a"}, {"b", "/srv/b"}});
  succeed(area(), 3);
  EXPECT_GT(share("a").incarnation(), b) << "it is another share";
  EXPECT_FALSE(share("a").try_lease().has_value());
}

TEST_F(ReloadOverKills, OnlyNamesThatHaveChangedAreUntold) {
  setup_.configuration = 1;
  want({{"a", "/srv/a"}, {"b", "/srv/b"}});
  start();
  succeed(area(), 1);
  EXPECT_TRUE(manager_->untold().empty());
  want({{"b", "/srv/b"}});
  succeed(area(), 2);
  EXPECT_EQ(manager_->untold(), std::vector<std::string>{"a"}) << "the kernel may know what it was";
  manager_->begin();
  manager_->run_pending();
  EXPECT_TRUE(manager_->untold().empty());
}

TEST_F(ReloadOverKills, RecordsOfMountsAreUsedAgain) {
  start();
  for (int i = 0; i < 20; ++i) {
    want({{"a", "/srv/a"}});
    reload();
    enter("a")->reset();
    want({});
    reload();
    pass(1s);
    pass(1s);
  }
  EXPECT_LE(area()->used, 2U);
  EXPECT_TRUE(backend_->table.empty());
}

TEST_F(ReloadOverKills, CatalogOfThousandsIsKeptWholeOverManyChanges) {
  setup_.configuration = 1;
  std::map<std::string, std::string> shares;
  for (int i = 0; i < 2000; ++i) shares.emplace("share" + std::to_string(i), "/srv/" + std::to_string(i));
  want(shares);
  start();
  for (int i = 0; i < 200; ++i) {
    want(shares, {.attr_timeout = std::chrono::milliseconds(i + 1)});
    ASSERT_EQ(reload(), "2000 changed");
  }
  succeed(area(), 1);
  EXPECT_EQ(manager_->directory()->size(), 2000U);
  EXPECT_EQ(share("share1999").spec().policy().attr_timeout, 200ms);
  const CatalogArea& log = area()->catalog;
  EXPECT_LT(log.halves[log.active % 2].used, 8U << 20) << "it is written afresh from time to time";
}

/// Random catalogs, accesses and kills against what the shares of a name must be.
TEST_F(ReloadOverKills, RandomChangesLeadEachCallerToItsOwnIncarnation) {
  rlimit files{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
  static std::vector<sys::SharedMemory> memories;  // managers that were killed are never destroyed
  for (unsigned seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&random](std::size_t count) { return random() % count; };
    memories.push_back(sys::SharedMemory::make("mounts", sizeof(KeptMounts)).value());
    auto* const area = reinterpret_cast<KeptMounts*>(memories.back().data());
    want({});
    std::uint64_t configuration = 1;
    backend_->table.clear();
    succeed(area, configuration);
    std::map<std::string, std::string> shares;  ///< what is configured
    struct Inside {
      Lease lease;
      std::string source;  ///< where it was led to
    };
    std::vector<Inside> inside;
    for (int step = 0; step < 120; ++step) {
      const std::string name(1, static_cast<char>('a' + below(4)));
      switch (below(8)) {
        case 0:
        case 1:
        case 5:
          if (below(3) == 0) {
            shares.erase(name);
          } else {
            shares[name] = "/srv/" + name + std::to_string(below(3));
          }
          want(shares, {.idle_timeout = std::chrono::milliseconds(below(2) * 1000)});
          ASSERT_NE(reload(), "no answer");
          break;
        case 2:
        case 6:
          if (manager_->find(name) != nullptr) {
            auto lease = ask(name);
            manager_->run_pending();
            ASSERT_EQ(code_of(lease), 0);
            Lease held = std::move(***lease);
            const std::string source = held.share().spec().sources().front();
            inside.push_back({std::move(held), source});
          }
          break;
        case 3:
          if (!inside.empty()) inside.erase(inside.begin() + static_cast<std::ptrdiff_t>(below(inside.size())));
          break;
        case 4:
          pass(std::chrono::milliseconds(below(2000)));
          break;
        default: {
          // The leases of a server end with it; what is open takes them again, by the incarnation.
          std::vector<std::pair<std::uint64_t, std::string>> open;
          for (const Inside& one : inside) open.emplace_back(one.lease.share().incarnation(), one.source);
          inside.clear();
          if (below(2) == 0) ++configuration;
          succeed(area, configuration);
          const auto all = manager_->incarnations();
          for (const auto& [incarnation, source] : open) {
            ASSERT_TRUE(all.contains(incarnation));
            std::optional<Lease> lease = all.at(incarnation)->try_lease();
            ASSERT_TRUE(lease) << "its mount was there";
            inside.push_back({*std::move(lease), source});
          }
        }
      }
      manager_->run_pending();
      ASSERT_EQ(manager_->directory()->size(), shares.size());
      for (const auto& [configured, source] : shares) {
        Share* const now = manager_->find(configured).get();
        ASSERT_NE(now, nullptr);
        const bool is_pending = now->standing() == Standing::kPending;
        ASSERT_TRUE(now->spec().sources().front() == source || is_pending);
        ASSERT_FALSE(is_pending && now->state() == ShareState::kIdle) << "what is free is changed at once";
      }
      for (const Inside& one : inside) ASSERT_EQ(one.lease.share().spec().sources().front(), one.source);
    }
    inside.clear();
    want({});
    reload();
    for (int i = 0; i < 5; ++i) pass(1s);
    EXPECT_TRUE(backend_->table.empty());
    EXPECT_TRUE(manager_->removed().empty());
  }
}

}  // namespace
}  // namespace berth::manager
