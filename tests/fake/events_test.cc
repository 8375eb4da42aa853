#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <string>
#include <thread>

#include "fuse/control/event_log.h"
#include "tests/fake/control_fixture.h"

namespace berth::fuse::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::uint32_t kReadable = EPOLLIN | EPOLLRDNORM;

class EventsTest : public ControlTreeTest {
 protected:
  void SetUp() override {
    ControlTreeTest::SetUp();
    node = at("events");
    handle = kernel->open(node, O_RDONLY).as<fuse_open_out>().fh;
  }
  void TearDown() override {
    kernel->release(node, handle);
    ControlTreeTest::TearDown();
  }

  void tell(const std::string& share, const std::string& reason = "") {
    tree->append_event(
        {.when = clock.wall_now(), .kind = manager::Event::Kind::kMounted, .share = share, .reason = reason});
  }
  std::uint64_t size() { return kernel->getattr(node).as<fuse_attr_out>().attr.size; }
  std::string read_at(std::uint64_t offset) { return kernel->read(node, handle, offset).text(); }

  NodeId node = 0;
  std::uint64_t handle = 0;
};

TEST_F(EventsTest, TellsTheLifeOfAShare) {
  EXPECT_EQ(size(), 0U);
  EXPECT_EQ(write("shares/media/control", "mount"), 0);
  const std::string text = read("events");
  EXPECT_THAT(text, HasSubstr(" mounting share=media"));
  EXPECT_THAT(text, HasSubstr(" mounted share=media"));
  EXPECT_THAT(text, EndsWith("\n"));
  EXPECT_EQ(size(), text.size());
}

TEST_F(EventsTest, NamesCannotForgeALine) {
  tell("media", "mount: exit status 1\n2026-01-01T00:00:00.000Z mounted share=other");
  const std::string text = read_at(0);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST_F(EventsTest, ReaderAtTheEndGetsNothingAndGoesOnLater) {
  tell("one");
  const std::string first = read_at(0);
  EXPECT_EQ(read_at(first.size()), "");
  tell("two");
  EXPECT_THAT(read_at(first.size()), HasSubstr("share=two"));
}

TEST_F(EventsTest, PollTellsOfTheNextEvent) {
  tell("one");
  EXPECT_EQ(kernel->poll(node, handle, 5).as<fuse_poll_out>().revents, kReadable);
  const std::string first = read_at(0);
  EXPECT_EQ(kernel->poll(node, handle, 6).as<fuse_poll_out>().revents, 0U);
  // A second question replaces the first.
  EXPECT_EQ(kernel->poll(node, handle, 7).as<fuse_poll_out>().revents, 0U);
  tell("two");
  fuse_notify_poll_wakeup_out wakeup{};
  // The first may have been notified of "one", which is sent on a thread of its own.
  do {
    const Notification told = kernel->wait_notification();
    EXPECT_EQ(told.code, FUSE_NOTIFY_POLL);
    ASSERT_EQ(told.body.size(), sizeof wakeup);
    std::memcpy(&wakeup, told.body.data(), sizeof wakeup);
  } while (wakeup.kh == 6);
  EXPECT_EQ(wakeup.kh, 7U);
  EXPECT_EQ(kernel->poll(node, handle).as<fuse_poll_out>().revents, kReadable);
}

TEST_F(EventsTest, EveryReaderIsTold) {
  const std::uint64_t other = kernel->open(node, O_RDONLY).as<fuse_open_out>().fh;
  EXPECT_EQ(kernel->poll(node, handle, 5).as<fuse_poll_out>().revents, 0U);
  EXPECT_EQ(kernel->poll(node, other, 6).as<fuse_poll_out>().revents, 0U);
  tell("one");
  kernel->wait_notification();
  kernel->wait_notification();
  kernel->release(node, other);
}

TEST_F(EventsTest, OtherFilesAreAlwaysReadable) {
  const NodeId version = at("version");
  const std::uint64_t open = kernel->open(version, O_RDONLY).as<fuse_open_out>().fh;
  EXPECT_EQ(kernel->poll(version, open, 9).as<fuse_poll_out>().revents & kReadable, kReadable);
  kernel->release(version, open);
}

TEST_F(EventsTest, HistoryIsBoundedAndALateReaderGetsTheOldestKeptLine) {
  const std::string reason(1000, 'x');
  std::uint64_t told = 0;
  while (size() < 3 * EventLog::kKept) tell("share" + std::to_string(told++), reason);
  // What was asked for is gone: the reader is given the oldest line that is kept, from its start, and reads on.
  std::string text;
  for (std::string part; !(part = read_at(text.size())).empty();) text += part;
  EXPECT_LE(text.size(), EventLog::kKept);
  EXPECT_GE(text.size(), EventLog::kKept / 2);
  EXPECT_THAT(text, StartsWith("20"));
  EXPECT_THAT(text, HasSubstr("share=share" + std::to_string(told - 1)));
  // A reader that follows is not confused by what was dropped.
  EXPECT_EQ(read_at(text.size()), "");
  tell("next");
  EXPECT_THAT(read_at(text.size()), HasSubstr("share=next"));
}

TEST_F(EventsTest, ReaderThatSeeksToTheEndFollowsFromThere) {
  const std::string reason(1000, 'x');
  while (size() < 2 * EventLog::kKept) tell("media", reason);
  const std::uint64_t end = size();
  EXPECT_EQ(read_at(end), "");
  EXPECT_EQ(kernel->poll(node, handle, 3).as<fuse_poll_out>().revents, 0U);
  tell("next");
  EXPECT_THAT(read_at(end), HasSubstr("share=next"));
}

}  // namespace
}  // namespace berth::fuse::testing
