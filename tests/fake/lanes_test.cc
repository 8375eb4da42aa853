// Requests in a share that does not answer, over the wire.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fuse/session/this_request.h"
#include "src/lib/base/mutex.h"
#include "tests/fake/fake_kernel.h"
#include "tests/unit/eventually.h"

namespace berth::fuse {
namespace {

using berth::testing::eventually;
using testing::Answer;
using testing::Caller;
using testing::FakeMount;

constexpr NodeId kShareNode = make_node_id(NodeOwner::kShare, 7);
constexpr NodeId kSecondNode = make_node_id(NodeOwner::kShare, 8);  ///< of the same share; look-ups in it do not hang
constexpr NodeId kOtherNode = make_node_id(NodeOwner::kNamespace, 7);

/// A share that answers no look-up and no close while it hangs.
class HangingShare : public Operations {
 public:
  [[nodiscard]] Lane* lane_of(NodeId node, std::uint32_t opcode) const override {
    return (node == kShareNode || node == kSecondNode) && opcode != FUSE_FORGET ? &lane : nullptr;
  }
  void note_lost_pages(NodeId node) override {
    EXPECT_EQ(node, kShareNode);
    ++lost;
  }
  void write(Reply reply, NodeId, std::span<const char> bytes, off_t, const fuse_file_info& handle) override {
    EXPECT_NE(handle.writepage, 0U);
    if (on_write) on_write();
    {
      MutexLock lock(mutex_);
      ++inside_;
      while (hangs_) changed_.wait(mutex_);
      --inside_;
      done_.emplace_back("write");
    }
    if (!is_full) this_request::set_written();
    if (is_full) return std::move(reply).error(ENOSPC);
    std::move(reply).written(bytes.size());
  }
  void fsync(Reply reply, NodeId, bool, const fuse_file_info&) override {
    {
      MutexLock lock(mutex_);
      done_.emplace_back("fsync");
    }
    std::move(reply).error(0);
  }
  void lookup(Reply reply, NodeId parent, const char* name) override {
    {
      MutexLock lock(mutex_);
      ++inside_;
      while (hangs_ && parent == kShareNode) changed_.wait(mutex_);
      --inside_;
      done_.emplace_back(name);
    }
    Entry entry;
    entry.node = kShareNode;
    if (!std::move(reply).entry(entry)) ++not_taken;
  }
  void forget(NodeId, std::uint64_t) noexcept override {}
  void flush(Reply reply, NodeId, const fuse_file_info&) override {
    ++flushed;
    std::move(reply).error(0);
  }

  void hang(bool hangs) {
    MutexLock lock(mutex_);
    hangs_ = hangs;
    changed_.notify_all();
  }
  std::size_t inside() {
    MutexLock lock(mutex_);
    return inside_;
  }
  std::vector<std::string> done() {
    MutexLock lock(mutex_);
    return done_;
  }

  mutable Lane lane;
  std::function<void()> on_write;
  std::atomic<bool> is_full{false};
  std::atomic<int> lost{0};
  std::atomic<int> not_taken{0};
  std::atomic<int> flushed{0};

 private:
  Mutex mutex_;
  ConditionVariable changed_;
  bool hangs_ BERTH_GUARDED_BY(mutex_) = true;
  std::size_t inside_ BERTH_GUARDED_BY(mutex_) = 0;
  std::vector<std::string> done_ BERTH_GUARDED_BY(mutex_);
};

class LanesTest : public ::testing::Test {
 protected:
  void TearDown() override {
    share.hang(false);
    EXPECT_TRUE(eventually([this] { return share.inside() == 0; }));
    mount.unmount();
    EXPECT_EQ(mount.kernel().unexpected(), 0U);
    EXPECT_FALSE(mount.session().in_flight().is_troubled());
    EXPECT_EQ(mount.session().in_flight().stuck_threads(), 0U);
  }

  std::uint64_t ask(const std::string& name, const Caller& caller = {}) {
    return mount.kernel().send(FUSE_LOOKUP, kShareNode, std::string_view(name.c_str(), name.size() + 1), caller);
  }
  std::uint64_t write_back(const std::string& pages, NodeId node = kShareNode) {
    fuse_write_in in{};
    in.size = static_cast<std::uint32_t>(pages.size());
    in.write_flags = FUSE_WRITE_CACHE;
    return mount.kernel().send(FUSE_WRITE, node, std::string(reinterpret_cast<const char*>(&in), sizeof in) + pages);
  }
  std::uint64_t sync(NodeId node) {
    const fuse_fsync_in in{};
    return mount.kernel().send(FUSE_FSYNC, node, std::string(reinterpret_cast<const char*>(&in), sizeof in));
  }
  /// Until the share is silent, and what comes next waits behind all that will be sent to try.
  void fill() {
    for (std::size_t i = 0; i < Lane::kFewStuck; ++i) stuck.push_back(ask("stuck" + std::to_string(i)));
    ASSERT_TRUE(eventually([this] { return mount.session().in_flight().stuck_threads() == Lane::kFewStuck; }));
    for (std::size_t i = 0; i < Lane::kFewStuck + 1; ++i) stuck.push_back(ask("tried" + std::to_string(i)));
    ASSERT_TRUE(all_are_in(0));
  }
  /// All that was asked, and `more` requests, are inside or wait.
  bool all_are_in(std::size_t more) {
    return eventually([&] { return share.lane.callers().size() + share.inside() == stuck.size() + more; });
  }

  HangingShare share;
  FakeMount mount{Router{share, share, share}};
  std::vector<std::uint64_t> stuck;
};

TEST_F(LanesTest, InterruptAnswersARequestWhoseThreadIsStuck) {
  const std::uint64_t request = ask("a");
  ASSERT_TRUE(eventually([this] { return share.inside() == 1; }));
  mount.kernel().interrupt(request);
  EXPECT_EQ(mount.kernel().wait(request).error, EINTR);
  EXPECT_EQ(share.inside(), 1U);
  share.hang(false);
  // What it brings is taken back, and not sent.
  EXPECT_TRUE(eventually([this] { return share.not_taken == 1; }));
}

TEST_F(LanesTest, InterruptThatComesWithTheAnswerChangesNothing) {
  share.hang(false);
  for (int i = 0; i < 200; ++i) {
    const std::uint64_t request = ask("a");
    mount.kernel().interrupt(request);
    EXPECT_EQ(mount.kernel().wait(request).error, 0);
  }
  // libfuse keeps an INTERRUPT of a request that it does not know until another request comes.
  for (int i = 0; i < 3; ++i) EXPECT_EQ(mount.kernel().wait(ask("a")).error, 0);
  EXPECT_EQ(share.not_taken, 0);
}

TEST_F(LanesTest, FewThreadsAreStuckAndTheRestWaitsInOrder) {
  fill();
  std::vector<std::uint64_t> waiting;
  for (int i = 0; i < 300; ++i) waiting.push_back(ask(std::to_string(i)));
  EXPECT_TRUE(all_are_in(waiting.size()));
  EXPECT_LE(share.inside(), 2 * Lane::kFewStuck);  // those that were sent to try are among them
  for (int i = 0; i < 20; ++i) EXPECT_EQ(mount.kernel().lookup(kOtherNode, "other").error, 0);
  share.hang(false);
  for (const std::uint64_t request : waiting) EXPECT_EQ(mount.kernel().wait(request).error, 0);
  for (const std::uint64_t request : stuck) EXPECT_EQ(mount.kernel().wait(request).error, 0);
}

TEST_F(LanesTest, InterruptOfARequestThatWaitsLeavesItUndone) {
  fill();
  const std::uint64_t request = ask("given-up");
  ASSERT_TRUE(all_are_in(1));
  mount.kernel().interrupt(request);
  EXPECT_EQ(mount.kernel().wait(request).error, EINTR);
  share.hang(false);
  for (const std::uint64_t one : stuck) EXPECT_EQ(mount.kernel().wait(one).error, 0);
  EXPECT_EQ(mount.kernel().lookup(kShareNode, "next").error, 0);
  for (const std::string& name : share.done()) EXPECT_NE(name, "given-up");
}

/// A request that was parked for a mount has its opcode with it, so request_timeout knows whether it changes something.
TEST_F(LanesTest, RequestThatWasParkedIsTimedOutUnlessItChangesSomething) {
  fill();
  share.lane.set_request_timeout(std::chrono::milliseconds(100));
  std::atomic<int> looked_up{-1};
  std::atomic<int> truncated{-1};
  const auto park = [&](std::uint64_t number, std::uint32_t opcode, bool changes, std::atomic<int>& told) {
    Lane::Waiting waiting;
    waiting.unique = number;
    waiting.node = kShareNode;
    waiting.opcode = opcode;
    waiting.changes = changes;
    waiting.work = [&told](int refused) { told = refused; };
    mount.session().in_flight().go_on(share.lane, std::move(waiting));
  };
  park(1'000'000, FUSE_LOOKUP, false, looked_up);
  park(1'000'002, FUSE_OPEN, true, truncated);
  EXPECT_TRUE(eventually([&] { return looked_up == ETIMEDOUT; }));
  EXPECT_EQ(truncated, -1);
  share.hang(false);
  EXPECT_TRUE(eventually([&] { return truncated == 0; }));
}

// It gives locks back.
TEST_F(LanesTest, CloseThatIsGivenUpIsDoneAllTheSame) {
  fill();
  const fuse_flush_in flush{};
  const void* const bytes = &flush;
  const std::uint64_t request =
      mount.kernel().send(FUSE_FLUSH, kShareNode, std::string_view(static_cast<const char*>(bytes), sizeof flush));
  ASSERT_TRUE(all_are_in(1));
  mount.kernel().interrupt(request);
  EXPECT_EQ(mount.kernel().wait(request).error, EINTR);
  share.hang(false);
  EXPECT_TRUE(eventually([this] { return share.flushed == 1; }));
}

TEST_F(LanesTest, PagesAreAcknowledgedAndOtherRequestsOnTheirNodeWaitForThem) {
  const std::uint64_t written = write_back("pages");
  EXPECT_EQ(mount.kernel().wait(written).error, 0);
  EXPECT_EQ(share.inside(), 1U);
  const std::uint64_t behind = sync(kShareNode);
  ASSERT_TRUE(eventually([this] { return share.lane.callers().size() == 1; }));
  // Not on another node of the share, which answers.
  EXPECT_EQ(mount.kernel().wait(sync(kSecondNode)).error, 0);
  EXPECT_FALSE(mount.kernel().answered(behind));
  share.hang(false);
  EXPECT_EQ(mount.kernel().wait(behind).error, 0);
  EXPECT_EQ(share.done(), (std::vector<std::string>{"fsync", "write", "fsync"}));
  EXPECT_EQ(share.lost, 0);
}

TEST_F(LanesTest, PagesThatWaitForASilentShareAreAcknowledgedAndNeverRefused) {
  fill();
  const std::size_t most = Lane::kMostWaiting + Lane::kMostWaitingOfUser;
  for (std::size_t i = 0; i < most + 8; ++i) EXPECT_EQ(mount.kernel().wait(write_back("pages")).error, 0);
  const std::uint64_t behind = sync(kShareNode);
  share.hang(false);
  EXPECT_EQ(mount.kernel().wait(behind).error, 0);
  for (const std::uint64_t one : stuck) mount.kernel().wait(one);
  ASSERT_TRUE(eventually([this] { return !share.lane.has_waiting() && share.inside() == 0; }));
  const std::vector<std::string> done = share.done();
  EXPECT_EQ(static_cast<std::size_t>(std::count(done.begin(), done.end(), "write")), most + 8);
  const auto last = std::find(done.rbegin(), done.rend(), "write");
  EXPECT_NE(std::find(done.rbegin(), last, "fsync"), last) << "it waited for all of them";
  EXPECT_EQ(share.lost, 0);
}

// The share answers again, no other request waits or is stuck, and the pages are under way.
TEST_F(LanesTest, OtherRequestsEnterTheLaneAsLongAsAcknowledgedPagesAreBeingWritten) {
  fill();
  std::atomic<bool> is_bypassed{false};
  std::atomic<bool> is_written{false};
  share.on_write = [&] {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (std::chrono::steady_clock::now() < end) {
      if (!mount.session().in_flight().is_troubled()) is_bypassed = true;
    }
    is_written = true;
  };
  EXPECT_EQ(mount.kernel().wait(write_back("pages", kSecondNode)).error, 0);
  share.hang(false);
  for (const std::uint64_t one : stuck) mount.kernel().wait(one);
  EXPECT_TRUE(eventually([&] { return is_written.load(); }));
  EXPECT_FALSE(is_bypassed);
}

TEST_F(LanesTest, AcknowledgedPagesThatAreNotWrittenAreLost) {
  share.is_full = true;
  EXPECT_EQ(mount.kernel().wait(write_back("pages")).error, 0);
  share.hang(false);
  EXPECT_EQ(mount.kernel().wait(sync(kShareNode)).error, 0);
  EXPECT_EQ(share.lost, 1);
}

TEST_F(LanesTest, GivingAShareUpLosesItsAcknowledgedPages) {
  EXPECT_EQ(mount.kernel().wait(write_back("pages")).error, 0);
  mount.session().in_flight().give_up(share.lane, ECONNABORTED);
  EXPECT_EQ(share.lost, 1);
  EXPECT_EQ(mount.kernel().wait(sync(kShareNode)).error, 0) << "it waits for no server any more";
}

TEST_F(LanesTest, OneUsersRequestsLeaveRoomForOthersAndForRoot) {
  fill();
  const Caller greedy{.uid = 1000};
  std::vector<std::uint64_t> requests;
  for (std::size_t i = 0; i < Lane::kMostWaitingOfUser + 8; ++i) requests.push_back(ask("greedy", greedy));
  std::size_t refused = 0;
  ASSERT_TRUE(eventually([&] {
    refused = 0;
    for (const std::uint64_t request : requests) refused += mount.kernel().answered(request) ? 1U : 0U;
    return refused != 0 && refused + share.lane.callers().size() + share.inside() == requests.size() + stuck.size();
  }));
  const std::uint64_t other = ask("other", {.uid = 1001});
  const std::uint64_t root = ask("root");
  EXPECT_TRUE(eventually([&] {
    std::set<uid_t> users;
    for (const Lane::Caller& caller : share.lane.callers()) users.insert(caller.uid);
    return users.contains(1001) && users.contains(0);
  }));
  share.hang(false);
  EXPECT_EQ(mount.kernel().wait(other).error, 0);
  EXPECT_EQ(mount.kernel().wait(root).error, 0);
  std::size_t again = 0;
  for (const std::uint64_t request : requests) again += mount.kernel().wait(request).error == EAGAIN ? 1U : 0U;
  EXPECT_EQ(again, refused);
  for (const std::uint64_t one : stuck) mount.kernel().wait(one);
}

TEST_F(LanesTest, GivingAShareUpAnswersAllWhoAreInIt) {
  fill();
  std::vector<std::uint64_t> waiting;
  for (int i = 0; i < 50; ++i) waiting.push_back(ask(std::to_string(i)));
  ASSERT_TRUE(all_are_in(waiting.size()));
  mount.session().in_flight().give_up(share.lane, ECONNABORTED);
  for (const std::uint64_t request : waiting) EXPECT_EQ(mount.kernel().wait(request).error, ECONNABORTED);
  for (const std::uint64_t request : stuck) EXPECT_EQ(mount.kernel().wait(request).error, ECONNABORTED);
  // Beside what is still stuck, the next mount is served.
  const std::uint64_t next = ask("next");
  const std::size_t before = share.inside();
  EXPECT_TRUE(eventually([&] { return share.inside() == before || share.lane.callers().empty(); }));
  share.hang(false);
  EXPECT_EQ(mount.kernel().wait(next).error, 0);
}

}  // namespace
}  // namespace berth::fuse
