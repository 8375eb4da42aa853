#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fuse/control/control_tree.h"
#include "manager/engine/manager.h"
#include "src/lib/base/mutex.h"
#include "tests/fake/fake_kernel.h"

namespace berth::fuse::testing {

/// A backend whose mounts are names in a set; a test can hold a mount back and choose its error.
class GatedBackend final : public manager::Backend {
 public:
  tl::expected<manager::RealMount, manager::AttemptFailure> mount(const manager::ShareSpec& spec,
                                                                  const manager::Attempt& attempt) override {
    MutexLock lock(mutex_);
    ++mounts_;
    while (held_) changed_.wait(mutex_);
    if (error_ != 0) {
      return tl::unexpected(manager::AttemptFailure{.error = Error(error_, "the server said no"),
                                                    .command = {"mount", "server:/export"},
                                                    .exit = "exit status 32",
                                                    .output = "mount: access denied\n"});
    }
    mounted_.insert(attempt.berth);
    return real_mount(spec);
  }
  Result<std::optional<manager::RealMount>> find(const manager::ShareSpec& spec,
                                                 const manager::Attempt& attempt) override {
    MutexLock lock(mutex_);
    if (!mounted_.contains(attempt.berth)) return std::nullopt;
    return real_mount(spec);
  }
  Result<bool> is_there(const manager::Attempt& attempt) override {
    MutexLock lock(mutex_);
    return mounted_.contains(attempt.berth);
  }
  Result<> unmount(const manager::ShareSpec&, manager::RealMount& mount, const manager::Attempt& attempt,
                   bool) override {
    mount = manager::RealMount{};
    MutexLock lock(mutex_);
    mounted_.erase(attempt.berth);
    return {};
  }

  /// Mounts wait from here on, until release().
  void hold() {
    MutexLock lock(mutex_);
    held_ = true;
  }
  void release() {
    MutexLock lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  /// Mounts fail with `error` from here on; 0: they succeed.
  void fail_with(int error) {
    MutexLock lock(mutex_);
    error_ = error;
  }
  int mounts() {
    MutexLock lock(mutex_);
    return mounts_;
  }

 private:
  static manager::RealMount real_mount(const manager::ShareSpec& spec) {
    manager::RealMount mount;
    mount.id = 7;
    mount.root = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    mount.source = spec.sources().front();
    return mount;
  }

  Mutex mutex_;
  ConditionVariable changed_;
  bool held_ BERTH_GUARDED_BY(mutex_) = false;
  int error_ BERTH_GUARDED_BY(mutex_) = 0;
  int mounts_ BERTH_GUARDED_BY(mutex_) = 0;
  std::set<std::string> mounted_ BERTH_GUARDED_BY(mutex_);
};

/// The control tree of a real manager over a fake backend, asked by a fake kernel. Shares: media, home/alice, home/bob.
class ControlTreeTest : public ::testing::Test {
 protected:
  static constexpr gid_t kGroup = 4242;
  static constexpr Caller kStranger{.uid = 1000, .gid = 1000, .pid = 0};
  static constexpr Caller kMember{.uid = 1000, .gid = kGroup, .pid = 0};

  void SetUp() override {
    char name[] = "/tmp/berth-control-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory = name;
    manager::Catalog catalog;
    for (const char* share : {"media", "home/alice", "home/bob"}) {
      manager::ShareFields fields;
      fields.name = share;
      fields.type = "bind";
      fields.sources = {std::string("/srv/") + share};
      fields.origin_file = "berth.toml";
      fields.origin_line = 7;
      ASSERT_TRUE(catalog.add(manager::ShareSpec::make(std::move(fields)).value()));
    }
    manager::ManagerSetup setup;
    setup.berth_directory = directory;
    setup.max_attachments_per_share = max_attachments;
    auto gated = std::make_unique<GatedBackend>();
    backend = gated.get();
    setup.backends.emplace(manager::ShareKind::kBind, std::move(gated));
    setup.on_event = [this](const manager::Event& event) {
      if (ControlTree* to = tree_for_events.load()) {
        to->append_event(event);
        to->count_event(event);
      }
    };
    manager = manager::Manager::make(std::move(setup), catalog, clock).value();
    make_tree();
    manager->begin();
  }

  void make_tree() {
    ControlSetup setup;
    setup.version = "1.2.3";
    setup.directory = "/volumes";
    setup.keeper = 11;
    setup.server = 12;
    setup.group = kGroup;
    setup.users_of = [this](const manager::Share& share, const UsersWanted& wanted) {
      HandleUsers found;
      if (share.name() == "media") found.users = users;
      for (HandleUser& user : found.users) {
        if (!wanted.names_are_told(user.uid)) user.what.reset();
      }
      return found;
    };
    tree = std::make_unique<ControlTree>(*manager, clock, std::move(setup));
    tree_for_events = tree.get();
    mount = std::make_unique<FakeMount>(Router{*tree, *tree, *tree});
    kernel = &mount->kernel();
    root = tree->root_entry().node;
  }

  void TearDown() override {
    EXPECT_EQ(tree->counts().handles, 0U);
    kernel->forget_all();
    EXPECT_EQ(kernel->lookup(root, "fence").error, ENOENT);
    while (tree->counts().nodes != 0) std::this_thread::yield();
    backend->release();
    EXPECT_EQ(kernel->unexpected(), 0U);
    mount->unmount();
    manager->stop(std::chrono::steady_clock::now() + std::chrono::seconds(20));
    tree->stop();
    tree_for_events = nullptr;
    mount.reset();
    manager.reset();
    tree.reset();
    std::filesystem::remove_all(directory);
  }

  /// The node at a path of the control tree; fails the test when there is none.
  NodeId at(std::string_view path) {
    const std::int64_t node = kernel->walk(root, path);
    if (node < 0) throw std::system_error(static_cast<int>(-node), std::generic_category(), std::string(path));
    return static_cast<NodeId>(node);
  }
  std::string read(std::string_view path) { return kernel->read_file(at(path)); }

  /// Writes to a file as `caller`: the errno value.
  int write(std::string_view path, std::string_view text, const Caller& caller = {}) {
    const NodeId node = at(path);
    const Answer opened = kernel->open(node, O_WRONLY | O_TRUNC, caller);
    if (opened.error != 0) return opened.error;
    const std::uint64_t handle = opened.as<fuse_open_out>().fh;
    const Answer answer = kernel->write(node, handle, text, caller);
    if (answer.error == 0) {
      EXPECT_EQ(answer.as<fuse_write_out>().size, text.size());
    }
    kernel->release(node, handle);
    return answer.error;
  }

  [[nodiscard]] manager::ShareState state(std::string_view share) const { return manager->find(share)->state(); }

  std::size_t max_attachments = 16384;
  SystemClock clock;
  std::string directory;
  GatedBackend* backend = nullptr;
  std::vector<HandleUser> users;
  std::atomic<ControlTree*> tree_for_events{nullptr};
  std::unique_ptr<manager::Manager> manager;
  std::unique_ptr<ControlTree> tree;
  std::unique_ptr<FakeMount> mount;
  FakeKernel* kernel = nullptr;
  NodeId root = 0;
};

}  // namespace berth::fuse::testing
