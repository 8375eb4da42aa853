#include "fuse/session/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <bit>
#include <functional>
#include <latch>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fuse/session/parked_reply.h"
#include "src/lib/base/mutex.h"
#include "tests/fake/fake_kernel.h"

namespace berth::fuse {
namespace {

using testing::Answer;
using ::testing::ElementsAre;
using testing::FakeKernel;
using testing::FakeMount;

constexpr NodeId kName = make_node_id(NodeOwner::kNamespace, 7);
constexpr NodeId kControlNode = make_node_id(NodeOwner::kControl, 7);
constexpr NodeId kShareNode = make_node_id(NodeOwner::kShare, 7);

/// Answers what the test says, and remembers what it was asked.
class Scripted : public Operations {
 public:
  void lookup(Reply reply, NodeId parent, const char* name) override {
    note("lookup " + std::to_string(parent & 0xff) + " " + name);
    if (on_lookup) return on_lookup(std::move(reply));
    Entry entry;
    entry.node = parent + 1;
    entry.attributes.st_mode = S_IFDIR | 0755;
    entry.attributes.st_ino = 4711;
    entry.attr_ttl = 1.5;
    if (!std::move(reply).entry(entry)) note("not taken");
  }
  void forget(NodeId node, std::uint64_t count) noexcept override {
    note("forget " + std::to_string(node & 0xff) + " " + std::to_string(count));
  }
  void rename(Reply reply, NodeId, const char* name, NodeId, const char* new_name, unsigned) override {
    note(std::string("rename ") + name + " " + new_name);
    std::move(reply).error(0);
  }
  void write(Reply reply, NodeId, std::span<const char> bytes, off_t, const fuse_file_info& handle) override {
    note("write " + std::to_string(bytes.size()) + " to " + std::to_string(handle.fh));
    std::move(reply).written(bytes.size());
  }
  void read(Reply reply, NodeId, std::size_t size, off_t offset, const fuse_file_info&) override {
    std::move(reply).data(std::string(std::min<std::size_t>(size, 5), static_cast<char>('a' + offset)));
  }
  void open(Reply reply, NodeId, const fuse_file_info& handle) override {
    note("open " + std::to_string(handle.flags));
    if (!std::move(reply).opened({.handle = 99, .direct_io = true})) note("not taken");
  }

  std::vector<std::string> notes() {
    MutexLock lock(mutex_);
    return notes_;
  }
  void note(std::string text) {
    MutexLock lock(mutex_);
    notes_.push_back(std::move(text));
  }

  std::function<void(Reply)> on_lookup;

 private:
  Mutex mutex_;
  std::vector<std::string> notes_ BERTH_GUARDED_BY(mutex_);
};

class SessionTest : public ::testing::Test {
 protected:
  void TearDown() override {
    mount.unmount();
    EXPECT_EQ(mount.kernel().unexpected(), 0U);
  }

  Scripted names;
  Scripted control;
  Scripted shares;
  FakeMount mount{Router{names, control, shares}};
  FakeKernel& kernel = mount.kernel();
};

TEST_F(SessionTest, InitAsksForParallelLookUpsAndAbortError) {
  const std::uint32_t flags = mount.init().flags;
  EXPECT_TRUE((flags & FUSE_PARALLEL_DIROPS) != 0);
  EXPECT_TRUE((flags & FUSE_ABORT_ERROR) != 0);
  EXPECT_TRUE((flags & FUSE_ASYNC_READ) != 0);
  EXPECT_TRUE((flags & FUSE_ATOMIC_O_TRUNC) != 0);
  EXPECT_TRUE((flags & FUSE_DO_READDIRPLUS) != 0);
  EXPECT_TRUE((flags & FUSE_READDIRPLUS_AUTO) != 0);
  EXPECT_EQ(flags & FUSE_WRITEBACK_CACHE, 0U);
  EXPECT_EQ(flags & FUSE_HANDLE_KILLPRIV, 0U);
  EXPECT_EQ(flags & FUSE_EXPORT_SUPPORT, 0U);
  EXPECT_EQ(mount.init().max_write, 65536U);
  EXPECT_EQ(mount.init().max_background, 16U);
  EXPECT_TRUE(mount.session().ready());
}

TEST_F(SessionTest, InitAsksToLendFilesOfUnstackedFileSystems) {
  const auto answer = std::bit_cast<protocol::InitAnswer>(mount.init());
  EXPECT_TRUE((answer.flags & FUSE_INIT_EXT) != 0);
  EXPECT_TRUE((answer.flags & FUSE_HANDLE_KILLPRIV_V2) != 0);
  EXPECT_EQ(answer.flags2 & protocol::kInitPassthrough, protocol::kInitPassthrough);
  EXPECT_EQ(answer.max_stack_depth, 1U);
  EXPECT_TRUE(mount.passthrough().enabled());
}

TEST(SessionInit, AsksForNothingThatTheKernelDoesNotOffer) {
  Scripted operations;
  FakeKernel kernel;
  Passthrough passthrough;
  auto session =
      Session::make(kernel.take_device(), Router{operations, operations, operations}, {.passthrough = &passthrough});
  ASSERT_TRUE(session);
  Requests requests(nullptr);
  Workers workers(**session, requests);
  std::thread serving([&] { EXPECT_EQ(workers.run(), StopReason::kUnmounted); });
  const fuse_init_out init = kernel.say_init(FUSE_ASYNC_READ | FUSE_BIG_WRITES);
  kernel.hang_up();
  serving.join();
  EXPECT_EQ(init.flags & ~static_cast<std::uint32_t>(FUSE_ASYNC_READ | FUSE_BIG_WRITES), 0U);
  EXPECT_EQ(init.flags2, 0U);
  EXPECT_FALSE(passthrough.enabled());
}

TEST_F(SessionTest, SendsEachRequestToTheOwnerOfItsNode) {
  kernel.lookup(kRootNode, "a");
  kernel.lookup(kName, "b");
  kernel.lookup(kControlNode, "c");
  kernel.lookup(kShareNode, "d");
  EXPECT_THAT(names.notes(), ElementsAre("lookup 1 a", "lookup 7 b"));
  EXPECT_THAT(control.notes(), ElementsAre("lookup 7 c"));
  EXPECT_THAT(shares.notes(), ElementsAre("lookup 7 d"));
}

TEST_F(SessionTest, NodeOfNoOwnerIsStale) {
  EXPECT_EQ(kernel.lookup(~NodeId{0}, "x").error, ESTALE);
  EXPECT_EQ(kernel.poll(~NodeId{0}, 1, 5).error, ESTALE);
}

TEST_F(SessionTest, EntryReachesTheKernelAsItWasGiven) {
  const Answer answer = kernel.lookup(kShareNode, "x");
  ASSERT_EQ(answer.error, 0);
  const auto entry = answer.as<fuse_entry_out>();
  EXPECT_EQ(entry.nodeid, kShareNode + 1);
  EXPECT_EQ(entry.attr.ino, 4711U);
  EXPECT_EQ(entry.attr.mode, static_cast<std::uint32_t>(S_IFDIR | 0755));
  EXPECT_EQ(entry.attr_valid, 1U);
  EXPECT_EQ(entry.attr_valid_nsec, 500'000'000U);
  EXPECT_EQ(entry.entry_valid, 0U);
}

TEST_F(SessionTest, ReadsWritesAndOpensPassTheirArguments) {
  const Answer opened = kernel.open(kShareNode, O_RDWR);
  EXPECT_EQ(opened.as<fuse_open_out>().fh, 99U);
  EXPECT_EQ(opened.as<fuse_open_out>().open_flags, static_cast<std::uint32_t>(FOPEN_DIRECT_IO));
  EXPECT_EQ(kernel.read(kShareNode, 99, 2).text(), "ccccc");
  EXPECT_EQ(kernel.write(kShareNode, 99, "hello").as<fuse_write_out>().size, 5U);
  EXPECT_THAT(shares.notes(), ElementsAre("open 2", "write 5 to 99"));
}

TEST_F(SessionTest, RenameAndLinkAcrossOwnersAreExdev) {
  EXPECT_EQ(kernel.rename(kShareNode, "a", kControlNode, "b"), EXDEV);
  EXPECT_EQ(kernel.link(kShareNode, kRootNode, "b"), EXDEV);
  EXPECT_EQ(kernel.rename(kShareNode, "a", kShareNode + 2, "b"), 0);
  EXPECT_THAT(shares.notes(), ElementsAre("rename a b"));
  EXPECT_TRUE(control.notes().empty());
}

TEST_F(SessionTest, ForgetsReachTheirOwners) {
  kernel.lookup(kShareNode, "x");
  kernel.lookup(kShareNode, "x");
  kernel.lookup(kControlNode, "y");
  kernel.forget(kShareNode + 1, 1);
  kernel.forget_all();
  EXPECT_EQ(kernel.lookup(kName, "fence").error, 0);
  // Requests without an answer may be handled later than a request that was sent after them.
  while (shares.notes().size() < 4 || control.notes().size() < 2) std::this_thread::yield();
  std::vector<std::string> forgotten = shares.notes();
  std::sort(forgotten.begin(), forgotten.end());
  EXPECT_THAT(forgotten, ElementsAre("forget 8 1", "forget 8 1", "lookup 7 x", "lookup 7 x"));
  EXPECT_THAT(control.notes(), ElementsAre("lookup 7 y", "forget 8 1"));
}

TEST_F(SessionTest, WhatIsNotSupportedIsNeverEnosys) {
  // The kernel would cache ENOSYS for the whole connection, and stop asking the owners that do support it.
  EXPECT_EQ(kernel.getattr(kShareNode).error, ESTALE);
  EXPECT_EQ(kernel.unlink(kShareNode, "x"), EPERM);
  EXPECT_EQ(kernel.mkdir(kShareNode, "x").error, EPERM);
  EXPECT_EQ(kernel.opendir(kShareNode).error, EOPNOTSUPP);
  EXPECT_EQ(kernel.poll(kShareNode, 1, 77).as<fuse_poll_out>().revents,
            static_cast<std::uint32_t>(EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM));
  for (const fuse_opcode opcode : {FUSE_FLUSH, FUSE_FSYNC, FUSE_FSYNCDIR, FUSE_ACCESS, FUSE_STATFS, FUSE_RELEASE}) {
    const std::vector<char> zeros(64);
    EXPECT_NE(kernel.call(opcode, kShareNode, zeros).error, ENOSYS) << "opcode " << opcode;
  }
}

TEST_F(SessionTest, DroppedReplyIsAnsweredEioExactlyOnce) {
  shares.on_lookup = [](Reply reply) { const Reply dropped = std::move(reply); };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, EIO);
  EXPECT_EQ(kernel.lookup(kName, "fence").error, 0);
}

TEST_F(SessionTest, AssigningOverAReplyDropsIt) {
  shares.on_lookup = [kept = std::make_shared<std::optional<Reply>>()](Reply reply) {
    if (!kept->has_value()) {
      kept->emplace(std::move(reply));
    } else {
      **kept = std::move(reply);
      std::move(**kept).error(ENOTTY);
    }
  };
  const std::uint64_t first = kernel.send(FUSE_LOOKUP, kShareNode, std::string_view("x\0", 2));
  // Kept while a second one is handled.
  while (shares.notes().empty()) std::this_thread::yield();
  EXPECT_EQ(kernel.lookup(kShareNode, "y").error, ENOTTY);
  EXPECT_EQ(kernel.wait(first).error, EIO);
}

TEST_F(SessionTest, BadAllocIsEnomemAndTheSessionLivesOn) {
  shares.on_lookup = [](Reply) { throw std::bad_alloc(); };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, ENOMEM);
  shares.on_lookup = [](const Reply&) { throw std::bad_alloc(); };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, ENOMEM);
  EXPECT_EQ(kernel.lookup(kName, "y").error, 0);
}

TEST_F(SessionTest, AnyOtherExceptionIsEio) {
  shares.on_lookup = [](Reply) { throw std::runtime_error("a bug"); };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, EIO);
  shares.on_lookup = [](Reply) { throw 5; };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, EIO);
  EXPECT_EQ(kernel.lookup(kName, "y").error, 0);
}

TEST_F(SessionTest, ExceptionAfterTheAnswerChangesNothing) {
  shares.on_lookup = [](Reply reply) {
    std::move(reply).error(ENOTTY);
    throw std::runtime_error("too late");
  };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, ENOTTY);
  EXPECT_EQ(kernel.lookup(kName, "y").error, 0);
}

TEST_F(SessionTest, SecondAnswerIsDropped) {
  shares.on_lookup = [](Reply reply) {
    Reply& again = reply;
    std::move(reply).error(ENOTTY);
    std::move(again).error(EBUSY);
  };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, ENOTTY);
  EXPECT_EQ(kernel.lookup(kName, "fence").error, 0);
}

TEST_F(SessionTest, AnsweringOnAnotherThreadIsFine) {
  shares.on_lookup = [](Reply reply) {
    std::thread([reply = std::move(reply)]() mutable { std::move(reply).error(ENOTTY); }).join();
  };
  EXPECT_EQ(kernel.lookup(kShareNode, "x").error, ENOTTY);
}

TEST_F(SessionTest, InterruptOfAParkedRequestReachesWhoParkedIt) {
  std::shared_ptr<ParkedReply> parked;
  std::latch is_parked(1);
  shares.on_lookup = [&](Reply reply) {
    parked = ParkedReply::park(std::move(reply), [](Reply answered) { std::move(answered).error(EINTR); });
    is_parked.count_down();
  };
  const std::uint64_t request = kernel.send(FUSE_LOOKUP, kShareNode, std::string_view("x\0", 2));
  is_parked.wait();
  kernel.interrupt(request);
  EXPECT_EQ(kernel.wait(request).error, EINTR);
  EXPECT_FALSE(parked->take().has_value());
}

TEST_F(SessionTest, InterruptThatComesBeforeTheRequestIsParkedIsNotLost) {
  std::latch interrupted(1);
  shares.on_lookup = [&](Reply reply) {
    interrupted.wait();
    // libfuse has marked the request by now or will find the function.
    ParkedReply::park(std::move(reply), [](Reply answered) { std::move(answered).error(EINTR); });
  };
  const std::uint64_t request = kernel.send(FUSE_LOOKUP, kShareNode, std::string_view("x\0", 2));
  while (shares.notes().empty()) std::this_thread::yield();
  kernel.interrupt(request);
  EXPECT_EQ(kernel.lookup(kName, "fence").error, 0);
  interrupted.count_down();
  EXPECT_EQ(kernel.wait(request).error, EINTR);
}

TEST_F(SessionTest, InterruptAndAnswerRaceToOneAnswer) {
  std::shared_ptr<ParkedReply> parked;
  std::atomic<int> parked_count{0};
  shares.on_lookup = [&](Reply reply) {
    parked = ParkedReply::park(std::move(reply), [](Reply answered) { std::move(answered).error(EINTR); });
    ++parked_count;
  };
  int interrupted = 0;
  for (int round = 1; round <= 300; ++round) {
    const std::uint64_t request = kernel.send(FUSE_LOOKUP, kShareNode, std::string_view("x\0", 2));
    while (parked_count < round) std::this_thread::yield();
    kernel.interrupt(request);
    for (int turn = 0; turn < round % 50; ++turn) std::this_thread::yield();
    if (auto reply = parked->take()) std::move(*reply).error(ENOTTY);
    const int error = kernel.wait(request).error;
    ASSERT_TRUE(error == EINTR || error == ENOTTY) << error;
    interrupted += error == EINTR ? 1 : 0;
  }
  EXPECT_EQ(kernel.lookup(kName, "fence").error, 0);
  RecordProperty("interrupted", interrupted);
}

TEST_F(SessionTest, MessageThatIsNoRequestIsDropped) {
  const std::vector<char> garbage(64, '\x55');
  kernel.send_raw(garbage);
  kernel.send_raw(std::vector<char>(3, 'x'));
  EXPECT_EQ(kernel.lookup(kName, "x").error, 0);
}

TEST_F(SessionTest, InvalidationsReachTheKernel) {
  EXPECT_TRUE(mount.session().invalidate_node(kShareNode, -1, 0));
  EXPECT_EQ(kernel.wait_notification().code, FUSE_NOTIFY_INVAL_INODE);
}

TEST_F(SessionTest, AnsweringAConnectionThatIsGoneIsNoError) {
  std::optional<Reply> kept;
  std::latch is_kept(1);
  shares.on_lookup = [&](Reply reply) {
    kept.emplace(std::move(reply));
    is_kept.count_down();
  };
  kernel.send(FUSE_LOOKUP, kShareNode, std::string_view("x\0", 2));
  is_kept.wait();
  mount.unmount();
  ::testing::internal::CaptureStderr();
  Entry entry;
  entry.node = kShareNode + 1;
  EXPECT_FALSE(std::move(*kept).entry(entry));
  EXPECT_TRUE(mount.session().invalidate_node(kShareNode, -1, 0));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

TEST_F(SessionTest, HangUpIsAnUnmount) {
  kernel.hang_up();
  EXPECT_EQ(mount.join(), StopReason::kUnmounted);
  EXPECT_EQ(mount.workers().threads(), 0U);
}

TEST_F(SessionTest, StopEndsReadsThatWait) {
  EXPECT_EQ(kernel.lookup(kName, "x").error, 0);
  mount.workers().stop();
  EXPECT_EQ(mount.join(), StopReason::kRequested);
}

TEST_F(SessionTest, RequestsThatBlockHoldUpNoOther) {
  constexpr int kBlocked = 40;
  std::latch release(1);
  shares.on_lookup = [&](Reply reply) {
    release.wait();
    std::move(reply).error(ENOTTY);
  };
  std::vector<std::uint64_t> blocked;
  for (int i = 0; i < kBlocked; ++i) {
    blocked.push_back(kernel.send(FUSE_LOOKUP, kShareNode, std::string_view("x\0", 2)));
  }
  EXPECT_EQ(kernel.lookup(kName, "x").error, 0);
  EXPECT_GE(mount.workers().threads(), static_cast<std::size_t>(kBlocked));
  release.count_down();
  for (const std::uint64_t request : blocked) EXPECT_EQ(kernel.wait(request).error, ENOTTY);
  // What is not needed any more ends.
  while (mount.workers().threads() > WorkerLimits{}.max_without_request + 1) {
    EXPECT_EQ(kernel.lookup(kName, "x").error, 0);
  }
}

TEST(WorkersLimit, ThreadsAreBounded) {
  Scripted operations;
  std::latch release(1);
  std::atomic<int> entered{0};
  operations.on_lookup = [&](Reply reply) {
    ++entered;
    release.wait();
    std::move(reply).error(ENOTTY);
  };
  FakeMount mount(Router{operations, operations, operations}, {.max_threads = 3, .max_without_request = 2});
  std::vector<std::uint64_t> requests;
  for (int i = 0; i < 10; ++i) requests.push_back(mount.kernel().send(FUSE_LOOKUP, kName, std::string_view("x\0", 2)));
  while (entered < 3) std::this_thread::yield();
  EXPECT_EQ(mount.workers().threads(), 3U);
  EXPECT_EQ(entered, 3);
  release.count_down();
  for (const std::uint64_t request : requests) EXPECT_EQ(mount.kernel().wait(request).error, ENOTTY);
}

}  // namespace
}  // namespace berth::fuse
