#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fuse/root/namespace.h"
#include "fuse/shares/share_fs.h"
#include "manager/engine/manager.h"
#include "tests/fake/fake_kernel.h"
#include "tests/unit/temporary_directory.h"

namespace berth::fuse::testing {

/// Shows directories as they are and counts; a mount waits or fails when the test says so.
class TestBackend final : public manager::Backend {
 public:
  tl::expected<manager::RealMount, manager::AttemptFailure> mount(const manager::ShareSpec& spec,
                                                                  const manager::Attempt&) override {
    ++mounts;
    if (std::latch* const latch = wait_for.load()) latch->wait();
    if (error != 0) return tl::unexpected(manager::AttemptFailure{.error = Error(error)});
    manager::RealMount made;
    made.root = UniqueFd(::open(spec.sources().front().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    made.source = spec.sources().front();
    return made;
  }
  Result<std::optional<manager::RealMount>> find(const manager::ShareSpec&, const manager::Attempt&) override {
    return std::nullopt;
  }
  Result<bool> is_there(const manager::Attempt&) override { return false; }
  Result<> unmount(const manager::ShareSpec&, manager::RealMount& mount, const manager::Attempt&, bool) override {
    mount = manager::RealMount{};
    return {};
  }
  bool has_source(const manager::ShareSpec&) override {
    if (std::latch* const latch = look_up_waits_for.load()) latch->wait();
    return true;
  }
  [[nodiscard]] bool needs_berth() const noexcept override { return false; }

  std::atomic<int> mounts{0};
  std::atomic<int> error{0};
  std::atomic<std::latch*> wait_for{nullptr};
  std::atomic<std::latch*> look_up_waits_for{nullptr};  ///< of a name that a template knows
};

/// The namespace and the shares' file system over a real manager, with a fake kernel. After each test everything that
/// the kernel was told is forgotten, and nothing may be left.
class SharesTest : public ::testing::Test {
 protected:
  /// A share of `source`; "": of the directory `name` below the scratch directory (made, '/' and all).
  void add_share(const std::string& name, const manager::SharePolicy& policy = {}, const std::string& source = "");
  void start();
  void TearDown() override;

  [[nodiscard]] FakeKernel& kernel() { return mount_->kernel(); }
  /// The node of a path; fails the test when there is none.
  NodeId node(const std::string& path);
  /// The errno of a look-up; -1 for a negative entry.
  int look_up_error(NodeId parent, const std::string& name);
  fuse_attr attributes(NodeId node);
  /// Unmounts a share that is not in use.
  void unmount(const std::string& share);
  [[nodiscard]] int mounts() const { return backend_->mounts; }
  /// A real path.
  [[nodiscard]] std::string real(const std::string& path) const { return scratch_ / path; }
  void write_real(const std::string& path, const std::string& text) const;
  [[nodiscard]] std::string read_real(const std::string& path) const;

  berth::testing::TemporaryDirectory scratch_;
  manager::Catalog catalog_;
  TestBackend* backend_ = new TestBackend;           ///< the manager owns it
  std::atomic<std::latch*> unmount_after_{nullptr};  ///< an unmount waits for it first
  SystemClock clock_;
  std::unique_ptr<manager::Manager> manager_;
  std::unique_ptr<ShareFs> shares_;
  std::unique_ptr<Namespace> names_;
  std::unique_ptr<FakeMount> mount_;
};

}  // namespace berth::fuse::testing
