#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "manager/engine/manager.h"

namespace berth::manager {

/// A clock that stands still until it is turned.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const noexcept override { return now_; }
  [[nodiscard]] WallTime wall_now() const noexcept override {
    return WallTime(std::chrono::duration_cast<WallTime::duration>(now_.time_since_epoch()));
  }
  void advance(Duration by) { now_ += by; }

 private:
  // Leases are stamped with the machine's clock, so this one starts there; it only ever runs ahead.
  TimePoint now_ = std::chrono::steady_clock::now();
};

/// A backend whose mount table is a set: counts what is asked of it and does what the test says.
class FakeBackend final : public Backend {
 public:
  struct Counts {
    int mounts = 0, unmounts = 0, finds = 0;
    friend bool operator==(const Counts&, const Counts&) = default;
  };

  tl::expected<RealMount, AttemptFailure> mount(const ShareSpec& spec, const Attempt& attempt) override {
    ++counts.mounts;
    if (const auto during = during_mount) during(spec, attempt);  // a copy: it may take itself away
    if (mount_error) {
      if (mounts_all_the_same) table.insert(attempt.berth);
      return tl::unexpected(
          AttemptFailure{.error = *mount_error, .command = {"mount", attempt.berth}, .exit = "exit status 32"});
    }
    if (says_so_only) return RealMount{};
    table.insert(attempt.berth);
    return real_mount(spec);
  }

  Result<std::optional<RealMount>> find(const ShareSpec& spec, const Attempt& attempt) override {
    ++counts.finds;
    if (!table.contains(attempt.berth)) return std::nullopt;
    return real_mount(spec);
  }

  Result<bool> is_there(const Attempt& attempt) override {
    ++counts.finds;
    return table.contains(attempt.berth);
  }

  Result<> unmount(const ShareSpec&, RealMount& mount, const Attempt& attempt, bool force) override {
    ++counts.unmounts;
    if (during_unmount) during_unmount();
    if (unmount_error && !force) {
      if (unmounts_all_the_same) table.erase(attempt.berth);
      return fail(*unmount_error);
    }
    table.erase(attempt.berth);
    mount = RealMount{};
    return {};
  }

  static RealMount real_mount(const ShareSpec& spec) {
    RealMount mount;
    mount.id = 7;
    mount.root = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    mount.source = spec.sources().front();
    return mount;
  }

  Counts counts;
  std::set<std::string> table;  ///< berths on which something is mounted
  std::optional<Error> mount_error;
  bool mounts_all_the_same = false;  ///< the attempt fails, its mount is there
  bool says_so_only = false;         ///< the attempt succeeds, nothing is mounted
  std::optional<Error> unmount_error;
  bool unmounts_all_the_same = false;
  std::function<void(const ShareSpec&, const Attempt&)> during_mount;
  std::function<void()> during_unmount;
};

/// A manager turned by hand over fake backends, with its own directory for berths.
class ManagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/berth-manager-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    setup_.berth_directory = directory_;
    setup_.manual = true;
    setup_.on_event = [this](const Event& event) { events_.push_back(event); };
    auto fake = std::make_unique<FakeBackend>();
    backend_ = fake.get();
    setup_.backends.emplace(ShareKind::kBind, std::move(fake));
  }

  void TearDown() override {
    if (manager_) {
      for (const auto& [name, share] : *manager_->directory()) EXPECT_EQ(share->status().waiting, 0U) << name;
    }
    manager_.reset();
    std::filesystem::remove_all(directory_);
  }

  void add(const std::string& name, SharePolicy policy = {}) { add(name, "bind", "/srv/" + name, policy); }
  void add_remote(const std::string& name, const std::string& source) { add(name, "nfs", source, {}); }
  void add(const std::string& name, const std::string& type, const std::string& source, SharePolicy policy) {
    ShareFields fields;
    fields.name = name;
    fields.type = type;
    fields.sources = {source};
    fields.policy = policy;
    Result<ShareSpec> spec = ShareSpec::make(std::move(fields));
    ASSERT_TRUE(spec) << spec.error().message();
    ASSERT_TRUE(catalog_.add(std::move(*spec)));
  }

  void start() {
    auto made = Manager::make(std::move(setup_), catalog_, clock_);
    ASSERT_TRUE(made) << made.error().message();
    manager_ = std::move(*made);
  }

  Share& share(const std::string& name) { return *manager_->find(name); }

  /// Asks for a lease and runs what is pending; absent while it waits.
  std::shared_ptr<std::optional<Result<Lease>>> ask(const std::string& name, WaiterId* id = nullptr) {
    auto answer = std::make_shared<std::optional<Result<Lease>>>();
    const WaiterId waiter =
        manager_->lease(share(name), [answer](Result<Lease> lease) { answer->emplace(std::move(lease)); });
    if (id != nullptr) *id = waiter;
    return answer;
  }

  /// What an operation answered; absent while it has not.
  using Answer = std::shared_ptr<std::optional<Result<>>>;
  std::pair<Answer, DoneCallback> answer() {
    auto slot = std::make_shared<std::optional<Result<>>>();
    return {slot, [slot](Result<> result) { slot->emplace(std::move(result)); }};
  }
  Answer attach(const std::string& name, const std::string& instance, const std::string& volume) {
    auto [slot, done] = answer();
    manager_->attach(share(name), {instance, volume}, std::move(done));
    manager_->run_pending();
    return slot;
  }
  Answer detach(const std::string& name, const std::string& instance, const std::string& volume) {
    auto [slot, done] = answer();
    manager_->detach(share(name), {instance, volume}, std::move(done));
    manager_->run_pending();
    return slot;
  }
  Answer unmount(const std::string& name, bool force = false) {
    auto [slot, done] = answer();
    manager_->unmount(share(name), force, std::move(done));
    manager_->run_pending();
    return slot;
  }
  void pass(Duration time) {
    clock_.advance(time);
    manager_->run_pending();
  }

  [[nodiscard]] std::string berth(const std::string& name) const { return directory_ + "/" + name; }
  [[nodiscard]] bool has_berth(const std::string& name) const { return std::filesystem::exists(berth(name)); }
  [[nodiscard]] int told(Event::Kind kind) const {
    return static_cast<int>(
        std::count_if(events_.begin(), events_.end(), [&](const Event& e) { return e.kind == kind; }));
  }

  ManualClock clock_;
  std::string directory_;
  ManagerSetup setup_;
  Catalog catalog_;
  FakeBackend* backend_ = nullptr;
  std::vector<Event> events_;
  std::unique_ptr<Manager> manager_;
};

/// An error code for comparisons: 0 for success, -1 while there is no answer.
template <typename T>
int code_of(const std::shared_ptr<std::optional<Result<T>>>& answer) {
  if (!answer->has_value()) return -1;
  return **answer ? 0 : (*answer)->error().code();
}

}  // namespace berth::manager
