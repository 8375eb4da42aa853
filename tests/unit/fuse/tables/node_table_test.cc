#include "fuse/tables/node_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "fuse/tables/node_pruner.h"
#include "tests/unit/eventually.h"

namespace berth::fuse {
namespace {

constexpr NodeId kRoot = NodeTable::root_id(7);

RealFile file(std::uint64_t inode) { return {.share = 7, .device = 0, .inode = inode}; }
SharedFd open_null() { return std::make_shared<const UniqueFd>(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(NodeTable, FindsWhatItRemembered) {
  NodeTable nodes(100);
  const NodeId directory = nodes.remember(file(10), S_IFDIR | 0755, kRoot, "directory");
  const NodeId child = nodes.remember(file(11), S_IFREG | 0644, directory, "child");
  EXPECT_EQ(owner_of(child), NodeOwner::kShare);
  const auto found = nodes.find(child);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->file, file(11));
  EXPECT_EQ(found->type, static_cast<mode_t>(S_IFREG));
  EXPECT_EQ(found->parent, directory);
  EXPECT_EQ(found->name, "child");
  EXPECT_EQ(nodes.share_of(child), 7U);
  EXPECT_EQ(nodes.path_of(child), "directory/child");
  EXPECT_EQ(nodes.path_of(kRoot), "");
}

TEST(NodeTable, HasOneNodeForAllHardLinksAtTheNameThatWorkedLast) {
  NodeTable nodes(100);
  const NodeId directory = nodes.remember(file(10), S_IFDIR, kRoot, "directory");
  const NodeId first = nodes.remember(file(11), S_IFREG, kRoot, "first");
  EXPECT_EQ(nodes.remember(file(11), S_IFREG, directory, "second"), first);
  EXPECT_EQ(nodes.path_of(first), "directory/second");
  EXPECT_EQ(nodes.counts().nodes, 2U);
}

TEST(NodeTable, KeepsSharesAndDevicesApart) {
  NodeTable nodes(100);
  const NodeId one = nodes.remember({1, 0, 5}, S_IFREG, NodeTable::root_id(1), "x");
  EXPECT_NE(nodes.remember({2, 0, 5}, S_IFREG, NodeTable::root_id(2), "x"), one);
  EXPECT_NE(nodes.remember({1, 9, 5}, S_IFREG, NodeTable::root_id(1), "y"), one);
}

TEST(NodeTable, ForgetsWhenAllLookUpsAreGivenBack) {
  NodeTable nodes(100);
  const NodeId node = nodes.remember(file(11), S_IFREG, kRoot, "x");
  nodes.remember(file(11), S_IFREG, kRoot, "x");
  nodes.forget(node, 1);
  EXPECT_TRUE(nodes.find(node));
  nodes.forget(node, 1);
  EXPECT_FALSE(nodes.find(node));
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, KeepsParentsAsLongAsTheirChildren) {
  NodeTable nodes(100);
  const NodeId a = nodes.remember(file(10), S_IFDIR, kRoot, "a");
  const NodeId b = nodes.remember(file(11), S_IFDIR, a, "b");
  const NodeId c = nodes.remember(file(12), S_IFREG, b, "c");
  nodes.forget(a, 1);
  nodes.forget(b, 1);
  EXPECT_EQ(nodes.path_of(c), "a/b/c");
  nodes.forget(c, 1);
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, TheFirstHandleDecidesHowAllAreReadAndWritten) {
  NodeTable nodes(100);
  const NodeId node = nodes.remember(file(11), S_IFREG, kRoot, "x");
  const SharedFd open = open_null();
  EXPECT_FALSE(nodes.join_handles(node, open, 1)) << "there is none to join";
  EXPECT_EQ(nodes.add_handle(node, open, 1, 5), 5);
  EXPECT_EQ(nodes.add_handle(node, open, 1, 6), 5);
  EXPECT_EQ(nodes.add_handle(node, open, 1, kNoBacking), 5);
  EXPECT_EQ(nodes.join_handles(node, open, 1), 5);
  EXPECT_EQ(nodes.remove_handle(node), kNoBacking);
  EXPECT_EQ(nodes.remove_handle(node), kNoBacking);
  EXPECT_EQ(nodes.remove_handle(node), kNoBacking);
  EXPECT_EQ(nodes.remove_handle(node), 5) << "the last one";
  EXPECT_EQ(nodes.add_handle(node, open, 1, kNoBacking), kNoBacking);
  EXPECT_EQ(nodes.add_handle(node, open, 1, 7), kNoBacking);
}

TEST(NodeTable, KeepsANodeThatHasHandles) {
  NodeTable nodes(100);
  const NodeId node = nodes.remember(file(11), S_IFREG, kRoot, "x");
  nodes.add_handle(node, open_null(), 1, 5);
  nodes.forget(node, 1);
  EXPECT_EQ(nodes.remember(file(11), S_IFREG, kRoot, "x"), node) << "FORGET may overtake RELEASE";
  nodes.forget(node, 1);
  EXPECT_EQ(nodes.remove_handle(node), 5);
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, RefusesStaleAndInventedIds) {
  NodeTable nodes(100);
  const NodeId old = nodes.remember(file(11), S_IFREG, kRoot, "x");
  nodes.forget(old, 1);
  const NodeId young = nodes.remember(file(11), S_IFREG, kRoot, "x");
  EXPECT_NE(young, old) << "the slot is used again, the id must not be";
  std::mt19937_64 random(1);
  for (int i = 0; i < 100000; ++i) {
    const NodeId invented = random();
    if (NodeTable::is_root(invented)) continue;
    EXPECT_FALSE(nodes.find(invented));
    nodes.forget(invented, random());
    nodes.keep_descriptor(invented, nullptr, 1);
    nodes.remove_handle(invented);
    EXPECT_EQ(nodes.remember(file(99), S_IFREG, invented, "child"), 0U);
  }
  EXPECT_FALSE(nodes.share_of(NodeTable::root_id(3) | NodeId{1} << 40));
  EXPECT_FALSE(nodes.share_of(young | NodeId{1} << 63));
  nodes.forget(young, 1000);
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, GivesAFileMadeAfreshANodeOfItsOwn) {
  NodeTable nodes(100);
  const NodeId removed = nodes.remember(file(11), S_IFREG, kRoot, "removed");
  const NodeId made = nodes.remember(file(11), S_IFREG, kRoot, "made", true);
  EXPECT_NE(made, removed);
  EXPECT_TRUE(nodes.find(removed)->replaced);
  EXPECT_EQ(nodes.remember(file(11), S_IFREG, kRoot, "made"), made);
  nodes.forget(removed, 1);
  nodes.forget(made, 2);
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, KnowsThatAnOpenFileIsNotMadeAfresh) {
  NodeTable nodes(100);
  const NodeId node = nodes.remember(file(11), S_IFREG, kRoot, "x");
  nodes.add_handle(node, open_null());
  EXPECT_EQ(nodes.remember(file(11), S_IFREG, kRoot, "x", true), node);
}

TEST(NodeTable, GivesAnotherTypeOfFileANodeOfItsOwn) {
  NodeTable nodes(100);
  const NodeId node = nodes.remember(file(11), S_IFREG, kRoot, "x");
  EXPECT_NE(nodes.remember(file(11), S_IFDIR, kRoot, "x"), node);
}

TEST(NodeTable, FollowsAMove) {
  NodeTable nodes(100);
  const NodeId from = nodes.remember(file(10), S_IFDIR, kRoot, "from");
  const NodeId to = nodes.remember(file(11), S_IFDIR, kRoot, "to");
  const NodeId moved = nodes.remember(file(12), S_IFDIR, from, "old");
  const NodeId below = nodes.remember(file(13), S_IFREG, moved, "below");
  nodes.move(file(12), S_IFDIR, to, "new");
  EXPECT_EQ(nodes.path_of(below), "to/new/below");
  nodes.forget(from, 1);
  EXPECT_FALSE(nodes.find(from)) << "nothing is below it any more";
  nodes.move(file(99), S_IFREG, to, "unknown");
  EXPECT_EQ(nodes.counts().nodes, 3U);
  for (const NodeId node : {to, moved, below}) nodes.forget(node, 1);
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, NeverPutsADirectoryBelowItself) {
  NodeTable nodes(100);
  const NodeId upper = nodes.remember(file(10), S_IFDIR, kRoot, "upper");
  const NodeId lower = nodes.remember(file(11), S_IFDIR, upper, "lower");
  // Past berth, `lower` was moved out and `upper` into it; of that only the second is seen.
  EXPECT_EQ(nodes.remember(file(10), S_IFDIR, lower, "upper"), upper);
  nodes.move(file(10), S_IFDIR, lower, "upper");
  EXPECT_EQ(nodes.path_of(lower), "upper/lower");
  nodes.forget(lower, 1);
  nodes.forget(upper, 2);
  EXPECT_EQ(nodes.counts().nodes, 0U);
}

TEST(NodeTable, KeepsABoundedNumberOfDescriptors) {
  NodeTable nodes(64);
  std::vector<std::weak_ptr<const UniqueFd>> kept;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const NodeId node = nodes.remember(file(i), S_IFDIR, kRoot, std::to_string(i));
    const SharedFd descriptor = open_null();
    kept.push_back(descriptor);
    nodes.keep_descriptor(node, descriptor, 1);
  }
  EXPECT_LE(nodes.counts().descriptors, 64U);
  EXPECT_GE(nodes.counts().descriptors, 32U);
  std::size_t open = 0;
  for (const auto& descriptor : kept) open += descriptor.expired() ? 0U : 1U;
  EXPECT_EQ(open, nodes.counts().descriptors);
}

TEST(NodeTable, SparesADescriptorThatIsUsed) {
  NodeTable nodes(64);  // two a part
  const NodeId used = nodes.remember(file(0), S_IFDIR, kRoot, "used");
  nodes.keep_descriptor(used, open_null(), 1);
  for (std::uint64_t i = 1; i < 1000; ++i) {
    nodes.keep_descriptor(nodes.remember(file(i), S_IFDIR, kRoot, std::to_string(i)), open_null(), 1);
    ASSERT_NE(nodes.find(used)->descriptor, nullptr) << i;
  }
}

TEST(NodeTable, ClosesADescriptorOnlyWhenNobodyUsesIt) {
  NodeTable nodes(64);
  const NodeId node = nodes.remember(file(1), S_IFDIR, kRoot, "x");
  nodes.keep_descriptor(node, open_null(), 3);
  auto found = nodes.find(node);
  EXPECT_EQ(found->mount_generation, 3U);
  const int fd = found->descriptor->get();
  nodes.drop_descriptors(8);
  EXPECT_NE(nodes.find(node)->descriptor, nullptr) << "another share's were dropped";
  nodes.drop_descriptors(7);
  EXPECT_EQ(nodes.find(node)->descriptor, nullptr);
  EXPECT_TRUE(is_open(fd));
  found.reset();
  EXPECT_FALSE(is_open(fd));
}

TEST(NodeTable, TakesANumberOfAnEarlierMountUnderAnotherNameForAnotherFile) {
  NodeTable nodes(64);
  const NodeId one = nodes.remember(file(1), S_IFDIR, kRoot, "one", false, 1);
  EXPECT_EQ(nodes.remember(file(1), S_IFDIR, kRoot, "moved", false, 1), one) << "in one mount it is a rename";
  EXPECT_EQ(nodes.remember(file(1), S_IFDIR, kRoot, "moved", false, 2), one) << "the name is the same";
  const NodeId two = nodes.remember(file(1), S_IFDIR, kRoot, "two", false, 3);
  EXPECT_NE(two, one);
  EXPECT_TRUE(nodes.find(one)->replaced);
  EXPECT_EQ(nodes.find(one)->name, "moved");
  nodes.move(file(1), S_IFDIR, kRoot, "three", 4);
  EXPECT_EQ(nodes.find(two)->name, "two") << "not what was moved";
}

TEST(NodeTable, LendsWhatIsOpenWhileItIs) {
  NodeTable nodes(64);
  const NodeId node = nodes.remember(file(1), S_IFREG, kRoot, "x");
  const SharedFd first = open_null();
  SharedFd second = open_null();
  nodes.add_handle(node, first);
  nodes.add_handle(node, second);
  EXPECT_EQ(nodes.find(node)->opened, second);
  EXPECT_EQ(nodes.find(node)->open_count, 2U);
  nodes.remove_handle(node);
  second.reset();
  EXPECT_EQ(nodes.find(node)->opened, nullptr);
  EXPECT_EQ(nodes.find(node)->open_count, 1U);
  nodes.remove_handle(node);
  nodes.remove_handle(node);
  EXPECT_EQ(nodes.find(node)->open_count, 0U);
}

TEST(NodeTable, StaysWithinItsMemory) {
  // What a node costs at most is promised; here by the size of what the table allocates for a million of them.
  NodeTable nodes(64);
  const auto resident = [] {
    long pages = 0;
    std::FILE* statm = std::fopen("/proc/self/statm", "r");
    EXPECT_EQ(std::fscanf(statm, "%*d %ld", &pages), 1);
    std::fclose(statm);
    return static_cast<std::size_t>(pages) * 4096;
  };
  const std::size_t before = resident();
  constexpr std::size_t kNodes = 200'000;
  for (std::uint64_t i = 0; i < kNodes; ++i) nodes.remember(file(i), S_IFREG, kRoot, "a-name-as-long-as-most");
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LE((resident() - before) / kNodes, 300U);
#else
  EXPECT_GT(resident(), before);
#endif
}

TEST(NodeTable, HoldsTogetherUnderManyThreads) {
  NodeTable nodes(64);
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&nodes, seed] {
      std::mt19937 random(seed);
      std::vector<NodeId> mine{};
      for (int i = 0; i < 20000; ++i) {
        const NodeId parent = mine.empty() || random() % 4 == 0 ? kRoot : mine[random() % mine.size()];
        const std::uint64_t inode = random() % 64;
        const std::string name = std::to_string(random() % 8);
        switch (random() % 8) {
          case 0:
            nodes.move(file(inode), S_IFDIR, parent, name);
            break;
          case 1:
            nodes.drop_descriptors(7);
            break;
          case 2:
          case 3:
            if (!mine.empty()) {
              nodes.forget(mine.back(), 1);
              mine.pop_back();
            }
            break;
          case 4:
            if (!NodeTable::is_root(parent)) nodes.keep_descriptor(parent, open_null(), 1);
            break;
          case 5:
            (void)nodes.path_of(parent);
            break;
          default: {
            const NodeId node = nodes.remember(file(inode), S_IFDIR, parent, name, random() % 64 == 0);
            ASSERT_NE(node, 0U);
            mine.push_back(node);
            const auto found = nodes.find(node);
            ASSERT_TRUE(found);
            ASSERT_EQ(found->file, file(inode));
          }
        }
      }
      for (const NodeId node : mine) nodes.forget(node, 1);
    });
  }
  for (std::thread& thread : threads) thread.join();
  // Two moves at once may make a loop that nothing looks up again; whatever is in none is gone.
  EXPECT_LE(nodes.counts().nodes, 64U);
}

/// All that is cold, in one turn.
std::vector<NodeId> cold_now(NodeTable& nodes, NodeTable::ClockHand& hand) {
  std::size_t steps = nodes.slots() + 32;
  return nodes.collect_cold(hand, steps, 1000);
}

TEST(NodeTable, ColdIsWhatNobodyHasAskedForSinceTheLastTurn) {
  NodeTable nodes(100);
  const NodeId asked = nodes.remember(file(1), S_IFREG, kRoot, "asked");
  const NodeId seen_again = nodes.remember(file(2), S_IFREG, kRoot, "seen again");
  const NodeId left = nodes.remember(file(3), S_IFREG, kRoot, "left");
  ASSERT_TRUE(nodes.find(asked));
  nodes.remember(file(2), S_IFREG, kRoot, "seen again");
  NodeTable::ClockHand hand;
  EXPECT_EQ(cold_now(nodes, hand), std::vector<NodeId>{left});
  hand = {};
  std::vector<NodeId> collect_cold = cold_now(nodes, hand);
  std::sort(collect_cold.begin(), collect_cold.end());
  std::vector<NodeId> all{asked, seen_again, left};
  std::sort(all.begin(), all.end());
  EXPECT_EQ(collect_cold, all);
}

TEST(NodeTable, ColdIsNothingThatSomethingHangsOn) {
  NodeTable nodes(100);
  const NodeId directory = nodes.remember(file(1), S_IFDIR, kRoot, "directory");
  const NodeId child = nodes.remember(file(2), S_IFREG, directory, "child");
  const NodeId open = nodes.remember(file(3), S_IFREG, kRoot, "open");
  nodes.add_handle(open, open_null());
  NodeTable::ClockHand hand;
  EXPECT_EQ(cold_now(nodes, hand), std::vector<NodeId>{child});
  nodes.forget(child, 1);
  nodes.remove_handle(open);
  hand = {};
  std::vector<NodeId> collect_cold = cold_now(nodes, hand);
  std::sort(collect_cold.begin(), collect_cold.end());
  std::vector<NodeId> all{directory, open};
  std::sort(all.begin(), all.end());
  EXPECT_EQ(collect_cold, all);
  // What the kernel has forgotten already, and a handle keeps.
  nodes.add_handle(open, open_null());
  nodes.forget(open, 1);
  hand = {};
  EXPECT_EQ(cold_now(nodes, hand), std::vector<NodeId>{directory});
}

TEST(NodeTable, ColdIsAsManyAsAreAskedForAndGoesOnWhereItWas) {
  NodeTable nodes(100);
  for (std::uint64_t i = 0; i < 1000; ++i) nodes.remember(file(i), S_IFREG, kRoot, "f" + std::to_string(i));
  NodeTable::ClockHand hand;
  std::vector<NodeId> all;
  for (int i = 0; i < 10; ++i) {
    std::size_t steps = 100'000;
    const std::vector<NodeId> some = nodes.collect_cold(hand, steps, 100);
    EXPECT_EQ(some.size(), 100U);
    all.insert(all.end(), some.begin(), some.end());
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
}

TEST(NodeTable, RoomThatColdOnesLeaveIsUsedAgain) {
  constexpr std::uint64_t kNodes = 32'000;
  constexpr std::uint64_t kAtOnce = 2'000;
  NodeTable nodes(100);
  std::uint64_t next = 0;
  const auto add = [&](std::uint64_t count) {
    for (std::uint64_t end = next + count; next < end; ++next) {
      nodes.remember(file(next), S_IFREG, kRoot, "f" + std::to_string(next));
    }
  };
  add(kNodes);
  NodeTable::ClockHand hand;
  for (std::uint64_t round = 0; round < 5 * kNodes / kAtOnce; ++round) {
    std::size_t steps = 10 * kNodes;
    const std::vector<NodeId> collect_cold = nodes.collect_cold(hand, steps, kAtOnce);
    ASSERT_EQ(collect_cold.size(), kAtOnce);
    for (const NodeId node : collect_cold) nodes.forget(node, 1);
    add(kAtOnce);
  }
  EXPECT_EQ(nodes.size(), kNodes);
  EXPECT_LT(nodes.slots(), kNodes + kNodes / 4);
}

TEST(NodeTable, WhereThereIsNoRoomNothingIsLost) {
  NodeTable nodes(100, nullptr, 64);
  const NodeId directory = nodes.remember(file(1), S_IFDIR, kRoot, "directory");
  std::vector<NodeId> made{directory};
  std::size_t refused = 0;
  for (std::uint64_t i = 2; i < 1000; ++i) {
    try {
      made.push_back(nodes.remember(file(i), S_IFREG, directory, "f" + std::to_string(i)));
    } catch (const std::bad_alloc&) {
      ++refused;
    }
  }
  EXPECT_EQ(made.size(), 64U);
  EXPECT_EQ(refused, 999U - made.size());
  EXPECT_EQ(nodes.path_of(made.back()).substr(0, 11), "directory/f");
  nodes.forget(made.back(), 1);
  EXPECT_EQ(nodes.size(), 63U);
  for (std::size_t i = 0; i + 1 < made.size(); ++i) nodes.forget(made[i], 1);
  EXPECT_EQ(nodes.counts().nodes, 0U);  // the directory too: no refused caller hangs on it
}

TEST(NodePruner, KeepsTheNodesBelowTheLimit) {
  constexpr std::size_t kLimit = 500;
  NodeTable nodes(100);
  const Result<std::unique_ptr<NodePruner>> pruner =
      NodePruner::start(nodes, kLimit, [&](std::span<const NodeId> collect_cold) -> Result<> {
        for (const NodeId node : collect_cold) nodes.forget(node, 1);
        return {};
      });
  ASSERT_TRUE(pruner);
  for (std::uint64_t i = 0; i < 5000; ++i) nodes.remember(file(i), S_IFREG, kRoot, "f" + std::to_string(i));
  EXPECT_TRUE(testing::eventually([&] { return nodes.size() <= kLimit; })) << nodes.size();
}

TEST(NodePruner, GoesOnWhenWhatWasHeldIsLetGo) {
  constexpr std::size_t kLimit = 100;
  NodeTable nodes(100);
  std::atomic<bool> held{true};
  std::atomic<std::size_t> asked{0};
  const Result<std::unique_ptr<NodePruner>> pruner =
      NodePruner::start(nodes, kLimit, [&](std::span<const NodeId> collect_cold) -> Result<> {
        asked += collect_cold.size();
        if (held) return {};
        for (const NodeId node : collect_cold) nodes.forget(node, 1);
        return {};
      });
  ASSERT_TRUE(pruner);
  for (std::uint64_t i = 0; i < 1000; ++i) nodes.remember(file(i), S_IFREG, kRoot, "f" + std::to_string(i));
  EXPECT_TRUE(testing::eventually([&] { return asked > 1000; }));
  EXPECT_EQ(nodes.size(), 1000U);
  held = false;
  // Some more, so that it need not be waited for.
  for (std::uint64_t i = 1000; i < 1010; ++i) nodes.remember(file(i), S_IFREG, kRoot, "f" + std::to_string(i));
  EXPECT_TRUE(testing::eventually([&] { return nodes.size() <= kLimit; })) << nodes.size();
}

TEST(NodePruner, EndsWhenTheKernelCannot) {
  NodeTable nodes(100);
  std::atomic<int> asked{0};
  {
    const Result<std::unique_ptr<NodePruner>> pruner =
        NodePruner::start(nodes, 10, [&](std::span<const NodeId>) -> Result<> {
          ++asked;
          return fail(EINVAL);
        });
    ASSERT_TRUE(pruner);
    for (std::uint64_t i = 0; i < 1000; ++i) nodes.remember(file(i), S_IFREG, kRoot, "f" + std::to_string(i));
    EXPECT_TRUE(testing::eventually([&] { return asked > 0; }));
  }
  EXPECT_EQ(asked, 1);
}

}  // namespace
}  // namespace berth::fuse
