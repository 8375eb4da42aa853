// Shares that are overmounted with their real mount for the first caller that comes in.
#include "manager/engine/life_cycle.h"
#include "tests/unit/manager/engine/fixture.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;

/// Overmounts as asked, unless it has an error for that.
class CountedNativeAccess final : public NativeAccess {
 public:
  Result<std::uint64_t> overmount(Share& share, int, TimePoint) override {
    ++attempts;
    if (error.code() != 0) return fail(error);
    overmounted.insert(share.name());
    return static_cast<std::uint64_t>(attempts);
  }
  Result<Users> count_users(const std::vector<std::uint64_t>& overmounts) override {
    return Users{.in = std::vector<std::size_t>(overmounts.size())};
  }
  Result<Outcome> remove_overmount(const Share&, When, TimePoint) override { return Outcome::kTouched; }
  Result<std::vector<std::string>> find_holders(const std::vector<Unmounted>& shares) override {
    return std::vector<std::string>(shares.size());
  }

  int attempts = 0;
  Error error{0};
  std::set<std::string> overmounted;
};

class HandOver : public ManagerTest {
 protected:
  void serve(int shares, SharePolicy policy = {}) {
    setup_.native = &native_;
    for (int i = 0; i < shares; ++i) add("s" + std::to_string(i), policy);
    start();
  }
  /// The answer to a caller that waits for it, once it is.
  std::shared_ptr<std::optional<bool>> wait_for(const std::string& name) {
    auto told = std::make_shared<std::optional<bool>>();
    manager_->await_native(share(name), [told](bool native) {
      EXPECT_FALSE(told->has_value()) << "told once";
      *told = native;
    });
    manager_->run_pending();
    return told;
  }

  CountedNativeAccess native_;
};

TEST_F(HandOver, FirstThatWaitsHasItMountedAndOvermounted) {
  serve(2);
  EXPECT_EQ(share("s0").native_door(), NativeDoor::kShut) << "nothing is remembered of it though it is idle";
  EXPECT_EQ(*wait_for("s0"), true);
  EXPECT_EQ(native_.overmounted, std::set<std::string>{"s0"});
  EXPECT_EQ(share("s0").native_door(), NativeDoor::kOpen);
  EXPECT_EQ(share("s1").native_door(), NativeDoor::kShut);
  EXPECT_EQ(share("s1").status().state, ShareState::kIdle);
  EXPECT_EQ(*wait_for("s0"), true) << "it is";
  EXPECT_EQ(native_.attempts, 1);
}

TEST_F(HandOver, AccessThroughBerthAloneLaysNothingOver) {
  serve(1);
  const auto lease = ask("s0");
  manager_->run_pending();
  EXPECT_EQ(native_.attempts, 0);
  EXPECT_EQ(share("s0").native_door(), NativeDoor::kShut);
  EXPECT_EQ(*wait_for("s0"), true);
}

TEST_F(HandOver, BadMomentLetsThoseInThatWaitAndTheNextOneTriesAgain) {
  serve(1);
  native_.error = Error(EBUSY, "something is mounted in it");
  EXPECT_EQ(*wait_for("s0"), false);
  EXPECT_EQ(share("s0").status().with_berth, "something is mounted in it");
  EXPECT_EQ(share("s0").native_door(), NativeDoor::kShut);
  native_.error = Error(0);
  EXPECT_EQ(*wait_for("s0"), true);
  EXPECT_EQ(share("s0").status().with_berth, "");
  EXPECT_EQ(native_.attempts, 2);
}

TEST_F(HandOver, MountThatMayNotBeNativeGoesOnThroughBerth) {
  serve(1);
  native_.error = Error(EOPNOTSUPP, "other pages");
  EXPECT_EQ(*wait_for("s0"), false);
  EXPECT_EQ(share("s0").native_door(), NativeDoor::kNone) << "so that what it answers is remembered";
  EXPECT_EQ(*wait_for("s0"), false);
  EXPECT_EQ(native_.attempts, 1);
  EXPECT_EQ(share("s0").status().with_berth, "other pages");
}

TEST_F(HandOver, NobodyWaitsWhereItIsNotToBeNativeOrTheHostIsDrained) {
  SharePolicy proxied;
  proxied.access = Access::kProxy;
  serve(1, proxied);
  EXPECT_EQ(*wait_for("s0"), false);
  EXPECT_EQ(share("s0").status().state, ShareState::kIdle) << "that it does not mount";
  EXPECT_EQ(share("s0").native_door(), NativeDoor::kNone);
}

}  // namespace
}  // namespace berth::manager
