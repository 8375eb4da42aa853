#include "tests/fake/shares_fixture.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

namespace berth::fuse::testing {
namespace {

class NoControl final : public Operations {
 public:
  void forget(NodeId, std::uint64_t) noexcept override {}
};
NoControl no_control;

}  // namespace

void SharesTest::add_share(const std::string& name, const manager::SharePolicy& policy, const std::string& source) {
  if (source.empty()) std::filesystem::create_directories(real(name));
  manager::ShareFields fields;
  fields.name = name;
  fields.type = "dir";
  fields.sources = {source.empty() ? real(name) : source};
  fields.policy = policy;
  auto spec = manager::ShareSpec::make(std::move(fields));
  ASSERT_TRUE(spec) << spec.error().message();
  ASSERT_TRUE(catalog_.add(*std::move(spec)));
}

void SharesTest::start() {
  ::umask(0);
  manager::ManagerSetup setup;
  setup.berth_directory = real(".berths");
  std::filesystem::create_directories(setup.berth_directory);
  setup.backends.emplace(manager::ShareKind::kDir, backend_);
  setup.before_unmount = [this](manager::Share& share, int root, bool force) {
    if (std::latch* const latch = unmount_after_.load()) latch->wait();
    shares_->before_unmount(share, root, force);
  };
  setup.after_mount = [this](manager::Share& share) { shares_->on_mounted(share); };
  auto manager = manager::Manager::make(std::move(setup), catalog_, clock_);
  ASSERT_TRUE(manager) << manager.error().message();
  manager_ = *std::move(manager);
  shares_ = std::make_unique<ShareFs>(ShareFs::Setup{.manager = *manager_});
  names_ = std::make_unique<Namespace>(Namespace::Setup{.manager = *manager_, .shares = *shares_});
  mount_ = std::make_unique<FakeMount>(Router{*names_, no_control, *shares_});
  shares_->serve(mount_->session());
  manager_->begin();
}

void SharesTest::TearDown() {
  if (mount_ == nullptr) return;
  kernel().forget_all();
  EXPECT_EQ(kernel().getattr(kRootNode).error, 0) << "and so everything before it has been done";
  EXPECT_EQ(kernel().unexpected(), 0U);
  mount_->unmount();
  const auto report = manager_->stop(std::chrono::steady_clock::now() + std::chrono::seconds(20));
  EXPECT_EQ(report.given_up, 0U) << "a share is still held";
  EXPECT_EQ(shares_->counts().handles, 0U);
  EXPECT_EQ(shares_->counts().nodes, 0U);
  EXPECT_EQ(shares_->counts().cached_descriptors, 0U);
  mount_.reset();
  names_.reset();
  manager_.reset();
  shares_.reset();
}

NodeId SharesTest::node(const std::string& path) {
  const std::int64_t found = kernel().walk(kRootNode, path);
  EXPECT_GT(found, 0) << path;
  return static_cast<NodeId>(found);
}

int SharesTest::look_up_error(NodeId parent, const std::string& name) {
  const Answer answer = kernel().lookup(parent, name);
  if (answer.error != 0) return answer.error;
  return answer.as<fuse_entry_out>().nodeid == 0 ? -1 : 0;
}

fuse_attr SharesTest::attributes(NodeId node) {
  const Answer answer = kernel().getattr(node);
  EXPECT_EQ(answer.error, 0);
  return answer.as<fuse_attr_out>().attr;
}

void SharesTest::unmount(const std::string& share) {
  std::promise<int> done;
  manager_->unmount(*manager_->find(share), false,
                    [&done](const Result<>& result) { done.set_value(result ? 0 : result.error().code()); });
  ASSERT_EQ(done.get_future().get(), 0);
}

void SharesTest::write_real(const std::string& path, const std::string& text) const {
  std::ofstream(real(path), std::ios::binary) << text;
}

std::string SharesTest::read_real(const std::string& path) const {
  std::ostringstream text;
  text << std::ifstream(real(path), std::ios::binary).rdbuf();
  return text.str();
}

}  // namespace berth::fuse::testing
