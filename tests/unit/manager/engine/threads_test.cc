// The manager with its real threads: what the tests that turn it by hand cannot see.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <stdlib.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

#include "manager/engine/manager.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

/// Mounts nothing, but checks that one share never gets two requests at once.
class CountingBackend final : public Backend {
 public:
  tl::expected<RealMount, AttemptFailure> mount(const ShareSpec&, const Attempt& attempt) override {
    EXPECT_EQ(inside.fetch_add(1), 0) << "one operation at a time";
    ++mounts;
    if (hang) {
      pollfd cancelled{attempt.cancel_fd, POLLIN, 0};
      ::poll(&cancelled, 1, -1);
      --inside;
      return tl::unexpected(AttemptFailure{.error = Error(ECANCELED)});
    }
    const bool works = mounts % 7 != 0;
    mounted = works;
    --inside;
    if (!works) return tl::unexpected(AttemptFailure{.error = Error(EHOSTDOWN)});
    RealMount mount;
    mount.id = 1;
    mount.root = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return mount;
  }
  Result<std::optional<RealMount>> find(const ShareSpec&, const Attempt&) override { return std::nullopt; }
  Result<bool> is_there(const Attempt&) override { return mounted.load(); }
  Result<> unmount(const ShareSpec&, RealMount& mount, const Attempt&, bool) override {
    EXPECT_EQ(inside.fetch_add(1), 0) << "one operation at a time";
    EXPECT_TRUE(mounted);
    mounted = false;
    mount = RealMount{};
    --inside;
    return {};
  }

  std::atomic<int> inside{0};
  std::atomic<int> mounts{0};
  std::atomic<bool> mounted{false};
  std::atomic<bool> hang{false};
};

class ManagerThreads : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/berth-threads-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    ShareFields fields;
    fields.name = "a";
    fields.type = "bind";
    fields.sources = {"/srv/a"};
    fields.policy.idle_timeout = 0ms;
    Catalog catalog;
    ASSERT_TRUE(catalog.add(*ShareSpec::make(std::move(fields))));
    ManagerSetup setup;
    setup.berth_directory = directory_;
    auto backend = std::make_unique<CountingBackend>();
    backend_ = backend.get();
    setup.backends.emplace(ShareKind::kBind, std::move(backend));
    auto made = Manager::make(std::move(setup), catalog, clock_);
    ASSERT_TRUE(made);
    manager_ = std::move(*made);
    share_ = manager_->find("a");
  }
  void TearDown() override {
    EXPECT_EQ(share_->users(), 0U);
    manager_.reset();
    share_.reset();
    EXPECT_TRUE(std::filesystem::is_empty(directory_));
    std::filesystem::remove_all(directory_);
  }

  Result<Lease> lease_and_wait() {
    if (std::optional<Lease> lease = share_->try_lease()) return std::move(*lease);
    std::promise<Result<Lease>> answer;
    std::future<Result<Lease>> future = answer.get_future();
    manager_->lease(*share_, [&answer](Result<Lease> lease) { answer.set_value(std::move(lease)); });
    return future.get();
  }
  Result<> wait(const std::function<void(DoneCallback)>& start) {
    std::promise<Result<>> answer;
    std::future<Result<>> future = answer.get_future();
    start([&answer](Result<> result) { answer.set_value(std::move(result)); });
    return future.get();
  }

  const SystemClock clock_{};
  std::string directory_;
  CountingBackend* backend_ = nullptr;
  std::unique_ptr<Manager> manager_;
  std::shared_ptr<Share> share_;
};

TEST_F(ManagerThreads, WhatWasOnDiskIsShownWhenBeginReturns) {
  constexpr std::size_t kMany = 5000;  // more than a control thread that is not waited for goes through meanwhile
  StoredState kept;
  for (std::size_t i = 0; i < kMany; ++i) kept.shares.push_back({"gone" + std::to_string(i), {{"vm", "vol"}}});
  kept.damages.push_back({.file = "damaged", .reason = "as a test", .set_aside = "damaged"});
  manager_->begin(std::move(kept));
  const StateReport report = manager_->state_report();
  EXPECT_EQ(report.unknown_shares.size(), kMany);
  EXPECT_EQ(report.damages.size(), 1U);
}

TEST_F(ManagerThreads, NothingHappensBeforeBegin) {
  std::promise<Result<Lease>> answer;
  std::future<Result<Lease>> future = answer.get_future();
  manager_->lease(*share_, [&answer](Result<Lease> lease) { answer.set_value(std::move(lease)); });
  EXPECT_EQ(future.wait_for(50ms), std::future_status::timeout);
  EXPECT_EQ(backend_->mounts, 0);
  manager_->begin();
  EXPECT_TRUE(future.get());
}

TEST_F(ManagerThreads, UsersUnmountersAndAttachersAtOnce) {
  manager_->begin();
  constexpr int kThreads = 6;
  constexpr int kRounds = 300;
  std::atomic<int> leased{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int i = 0; i < kRounds; ++i) {
        switch (random() % 6) {
          case 0:
            (void)wait([&](DoneCallback done) { manager_->unmount(*share_, random() % 4 == 0, std::move(done)); });
            break;
          case 1:
            manager_->retry(*share_);
            break;
          case 2: {
            const Attachment mine{"vm" + std::to_string(t), "vol"};
            (void)wait([&](DoneCallback done) { manager_->attach(*share_, mine, std::move(done)); });
            (void)wait([&](DoneCallback done) { manager_->detach(*share_, mine, std::move(done)); });
            break;
          }
          default: {
            const Result<Lease> lease = lease_and_wait();
            if (!lease) {
              manager_->retry(*share_);
              break;
            }
            ++leased;
            EXPECT_GE(::fcntl(lease->root(), F_GETFD), 0) << "the root stays open while it is leased";
          }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(leased, 0);
  EXPECT_GT(backend_->mounts, 1);
}

TEST_F(ManagerThreads, StopAnswersWhoWaitsAndCancelsTheMount) {
  manager_->begin();
  backend_->hang = true;
  std::promise<Result<Lease>> answer;
  std::future<Result<Lease>> future = answer.get_future();
  manager_->lease(*share_, [&answer](Result<Lease> lease) { answer.set_value(std::move(lease)); });
  while (backend_->inside == 0) std::this_thread::yield();
  manager_->stop(clock_.now() + 30s);
  ASSERT_EQ(future.wait_for(0s), std::future_status::ready);
  EXPECT_EQ(future.get().error().code(), ESHUTDOWN);
}

TEST_F(ManagerThreads, StopWaitsForUsersUntilItIsHurried) {
  manager_->begin();
  std::optional<Result<Lease>> lease(lease_and_wait());
  ASSERT_TRUE(*lease);
  std::thread stopper([&] { manager_->stop(clock_.now() + 1h); });
  manager_->hurry();
  stopper.join();
  EXPECT_EQ(share_->state(), ShareState::kIdle);
  EXPECT_FALSE(share_->try_lease());
  lease.reset();
}

}  // namespace
}  // namespace berth::manager
