#include "fuse/tables/handle_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>
#include <vector>

namespace berth::fuse {
namespace {

std::shared_ptr<Handle> open_null(NodeId node, ShareIndex share = 0) {
  auto handle = std::make_shared<Handle>();
  handle->file = std::make_shared<const UniqueFd>(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  handle->node = node;
  handle->share = share;
  return handle;
}

TEST(HandleTable, NamesAHandleByItsDescriptor) {
  HandleTable handles;
  const auto handle = open_null(5);
  const std::uint64_t number = handles.add(handle);
  EXPECT_EQ(static_cast<int>(static_cast<std::uint32_t>(number)), handle->fd());
  EXPECT_EQ(handles.find(number, 5), handle);
  EXPECT_EQ(handles.size(), 1U);
}

TEST(HandleTable, NumberOfAClosedHandleIsNotThatOfTheNextOneWithItsDescriptor) {
  HandleTable handles;
  std::shared_ptr<Handle> handle = open_null(5);
  const int descriptor = handle->fd();
  const std::uint64_t closed = handles.add(std::move(handle));
  ASSERT_NE(handles.remove(closed, 5), nullptr);
  handle = open_null(5);
  ASSERT_EQ(handle->fd(), descriptor);
  EXPECT_NE(handles.add(std::move(handle)), closed);
  EXPECT_EQ(handles.find(closed, 5), nullptr);
}

TEST(HandleTable, RefusesWhatItDidNotGiveOut) {
  HandleTable handles;
  const std::uint64_t number = handles.add(open_null(5));
  EXPECT_EQ(handles.find(number, 6), nullptr) << "of another node";
  EXPECT_EQ(handles.remove(number, 6), nullptr);
  EXPECT_EQ(handles.find(number + 1, 5), nullptr);
  EXPECT_EQ(handles.find(0, 5), nullptr) << "a descriptor that is open, but no handle";
  EXPECT_EQ(handles.find(~std::uint64_t{0}, 5), nullptr);
  EXPECT_EQ(handles.remove(std::uint64_t{1} << 40, 5), nullptr);
  EXPECT_NE(handles.remove(number, 5), nullptr);
  EXPECT_EQ(handles.remove(number, 5), nullptr) << "twice";
}

TEST(HandleTable, ClosesAHandleWhenTheLastUserIsDone) {
  HandleTable handles;
  const std::uint64_t number = handles.add(open_null(5));
  auto used = handles.find(number, 5);
  handles.remove(number, 5);
  const int fd = used->fd();
  EXPECT_GE(::fcntl(fd, F_GETFD), 0);
  used.reset();
  EXPECT_LT(::fcntl(fd, F_GETFD), 0);
}

TEST(HandleTable, FindsByShareAndByNode) {
  HandleTable handles;
  handles.add(open_null(5, 1));
  handles.add(open_null(6, 1));
  handles.add(open_null(7, 2));
  const auto count = [&handles](ShareIndex share) {
    std::size_t seen = 0;
    handles.each_of_share(share, [&seen](const Handle&) { ++seen; });
    return seen;
  };
  EXPECT_EQ(count(1), 2U);
  EXPECT_EQ(count(3), 0U);
  ASSERT_EQ(handles.find_some(7, 0).size(), 1U);
  EXPECT_EQ(handles.find_some(7, 0).front()->node, 7U);
  EXPECT_TRUE(handles.find_some(8, 0).empty());
}

TEST(HandleTable, FindsFirstWhatIsInTheMountAndThenWhatOnlyReads) {
  HandleTable handles;
  const auto add = [&](int flags, std::uint32_t generation) {
    auto handle = open_null(7, 1);
    handle->flags = flags;
    handle->mount_generation = generation;
    handles.add(handle);
    return handle;
  };
  const auto writer = add(O_RDWR, 1);
  const auto reader = add(O_RDONLY, 1);
  const auto now = add(O_WRONLY, 2);
  EXPECT_EQ(handles.find_some(7, 2), (std::vector<std::shared_ptr<Handle>>{now, reader, writer}));
  for (int i = 0; i < 100; ++i) add(O_RDWR, 1);
  const auto some = handles.find_some(7, 2);
  EXPECT_LT(some.size(), 100U);
  EXPECT_EQ(some.front(), now);
}

TEST(HandleTable, HoldsTogetherUnderManyThreads) {
  HandleTable handles;
  std::vector<std::thread> threads;
  std::atomic<std::size_t> lost{0};
  for (NodeId node = 1; node <= 4; ++node) {
    threads.emplace_back([&, node] {
      std::mt19937_64 random(node);
      std::vector<std::uint64_t> mine;
      for (int i = 0; i < 20000; ++i) {
        if (mine.empty() || (mine.size() < 50 && random() % 2 == 0)) {
          mine.push_back(handles.add(open_null(node)));
        } else if (random() % 2 == 0) {
          if (handles.remove(mine.back(), node) == nullptr) ++lost;
          mine.pop_back();
        } else {
          if (handles.find(mine[random() % mine.size()], node) == nullptr) ++lost;
          (void)handles.find(random() % 300, node);
          if (i % 1000 == 0) handles.each_of_share(0, [](const Handle&) {});
        }
      }
      for (const std::uint64_t number : mine) handles.remove(number, node);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(lost, 0U);
  EXPECT_EQ(handles.size(), 0U);
}

}  // namespace
}  // namespace berth::fuse
