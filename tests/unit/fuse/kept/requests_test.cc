#include "fuse/kept/requests.h"

#include <gtest/gtest.h>
#include <linux/fuse.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "fuse/wire/protocol.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::fuse {
namespace {

constexpr std::uint64_t kNode = 7;

/// One server after another over the same memory.
class RequestsOfTheDead : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<sys::SharedMemory> memory = sys::SharedMemory::make("requests", sizeof(RequestArea));
    ASSERT_TRUE(memory);
    memory_.emplace(std::move(*memory));
  }
  [[nodiscard]] RequestArea* area() const { return reinterpret_cast<RequestArea*>(memory_->data()); }

  /// A server that dies when it has counted a look-up for the request.
  void die_over(std::uint64_t unique) {
    Requests requests(area());
    take_over(requests);
    RequestRecord* const record = requests.acquire();
    ASSERT_NE(record, nullptr);
    read_into(*record, unique);
    {
      const CurrentRequest current(record, unique, nullptr);
      CurrentRequest::note_look_up(kNode);
    }
    record->unique = unique;  // as a process that is killed leaves it
  }
  void take_over(Requests& requests) {
    requests.take_over([](std::uint64_t, std::uint64_t) { return true; },
                       [this](const Requests::Interrupted& what) {
                         taken_back_ += static_cast<int>(std::count(what.counted.begin(), what.counted.end(), kNode));
                       });
  }
  static void read_into(RequestRecord& record, std::uint64_t unique) {
    const fuse_in_header header{.len = sizeof header, .opcode = FUSE_LOOKUP, .unique = unique, .nodeid = 1};
    std::memcpy(record.message, &header, sizeof header);
  }
  /// How many records a thread can have that were used before.
  int free_records(Requests& requests) {
    const std::uint32_t end = area()->end;
    int count = 0;
    while (requests.acquire() != nullptr && area()->end == end) ++count;
    return count;
  }

  int taken_back_ = 0;

 private:
  std::optional<sys::SharedMemory> memory_;
};

TEST_F(RequestsOfTheDead, WhatComesAgainIsTakenBackAndGivesItsRecordBack) {
  die_over(12);
  Requests requests(area(), [](std::uint64_t) { return true; });
  take_over(requests);
  RequestRecord* const record = requests.acquire();
  ASSERT_NE(record, nullptr);
  read_into(*record, 12 | protocol::kUniqueResend);
  requests.handle(record, protocol::Message({record->message, sizeof(fuse_in_header)}),
                  [](const protocol::Message&) {});
  EXPECT_EQ(taken_back_, 1);
  EXPECT_EQ(free_records(requests), 1);
}

TEST_F(RequestsOfTheDead, ARequestThatHasKilledTwoServersIsRefused) {
  std::vector<std::uint64_t> refused;
  const auto come_again = [&](bool kills, std::uint64_t unique) {
    Requests requests(
        area(), [](std::uint64_t) { return true; },
        [&](const protocol::Message& message) { refused.push_back(message.header.unique & ~protocol::kUniqueResend); });
    take_over(requests);
    RequestRecord* const record = requests.acquire();
    read_into(*record, unique | protocol::kUniqueResend);
    bool handled = false;
    requests.handle(record, protocol::Message({record->message, sizeof(fuse_in_header)}),
                    [&](const protocol::Message&) {
                      handled = true;
                      if (kills) CurrentRequest::note_fatal();
                    });
    if (kills) record->unique = unique;
    return handled;
  };
  // Killed from outside, as often as may be: no request is to blame.
  for (int i = 0; i < 5; ++i) die_over(12);
  EXPECT_TRUE(come_again(false, 12));
  // Memory ran out: any that was under way may be to blame.
  die_over(14);
  area()->server_crashed = 1;
  EXPECT_TRUE(come_again(true, 14));
  area()->server_crashed = 1;
  EXPECT_FALSE(come_again(false, 14));
  EXPECT_EQ(refused, std::vector<std::uint64_t>{14});
  // One that the second server has not come to is not to blame for its death.
  die_over(16);
  area()->server_crashed = 1;
  {
    Requests dies_at_once(area(), [](std::uint64_t) { return true; });
    take_over(dies_at_once);
  }
  area()->server_crashed = 1;
  EXPECT_TRUE(come_again(false, 16));
  EXPECT_EQ(refused, std::vector<std::uint64_t>{14});
}

TEST_F(RequestsOfTheDead, WhatWasAnsweredStandsAndGivesItsRecordBack) {
  die_over(12);
  std::set<std::uint64_t> asked;
  Requests requests(area(), [&asked](std::uint64_t unique) {
    asked.insert(unique);
    return false;
  });
  take_over(requests);
  EXPECT_EQ(asked, std::set<std::uint64_t>{12});
  EXPECT_TRUE(requests.unanswered().empty());
  requests.undo_all();
  EXPECT_EQ(taken_back_, 0);
  EXPECT_EQ(free_records(requests), 1);
}

TEST_F(RequestsOfTheDead, WhoseCallerIsKilledBeforeItComesAgainIsTakenBack) {
  die_over(12);
  die_over(14);
  std::set<std::uint64_t> awaited{12, 14};
  Requests requests(area(), [&](std::uint64_t unique) { return awaited.contains(unique); });
  take_over(requests);
  awaited.erase(12);
  EXPECT_TRUE(requests.has_interrupted());
  requests.drop_abandoned();
  EXPECT_EQ(taken_back_, 1);
  EXPECT_EQ(free_records(requests), 1);
  EXPECT_TRUE(requests.has_interrupted());
  awaited.clear();
  requests.drop_abandoned();
  EXPECT_EQ(taken_back_, 2);
  EXPECT_FALSE(requests.has_interrupted());
}

// Its caller was answered EINTR, and got nothing of what the stuck thread has done.
TEST_F(RequestsOfTheDead, WhatWasGivenUpIsTakenBackThoughItIsAnswered) {
  die_over(12 | RequestRecord::kGivenUp);
  Requests requests(area(), [](std::uint64_t) { return false; });
  take_over(requests);
  EXPECT_EQ(taken_back_, 0);
  requests.drop_abandoned();
  EXPECT_EQ(taken_back_, 1);
  EXPECT_FALSE(requests.has_interrupted());
}

TEST_F(RequestsOfTheDead, WhatIsNeverSentAgainIsTakenBackWhenItIsAnswered) {
  die_over(12);
  Requests requests(area(), [](std::uint64_t) { return true; });
  take_over(requests);
  EXPECT_EQ(requests.unanswered(), std::vector<std::uint64_t>{12});
  requests.undo_all();
  EXPECT_EQ(taken_back_, 1);
  EXPECT_EQ(free_records(requests), 1);
  EXPECT_TRUE(requests.unanswered().empty());
}

// Killed on its way back from read(2), or while the request is queued for another thread.
TEST_F(RequestsOfTheDead, WhatWasReadAndNotBegunIsNeverSentAgainEither) {
  {
    Requests requests(area());
    take_over(requests);
    for (const std::uint64_t unique : {12U, 14U | 1U}) read_into(*requests.acquire(), unique);
    RequestRecord* const interrupt = requests.acquire();
    read_into(*interrupt, 16);
    const std::uint32_t opcode = FUSE_INTERRUPT;
    std::memcpy(interrupt->message + offsetof(fuse_in_header, opcode), &opcode, sizeof opcode);
  }
  Requests requests(area(), [](std::uint64_t) { return true; });
  take_over(requests);
  EXPECT_EQ(requests.unanswered(), std::vector<std::uint64_t>{12});
  EXPECT_EQ(free_records(requests), 3);
}

TEST_F(RequestsOfTheDead, WhatWaitsIsKnownHoweverManyCameAfterIt) {
  constexpr std::uint64_t kWaits = 12;
  const auto is_awaited = [](std::uint64_t unique) { return unique == kWaits; };
  {
    Requests requests(area(), is_awaited);
    take_over(requests);
    for (std::uint64_t unique = kWaits; unique < kWaits + 6 * RequestArea::kParked; unique += 2)
      requests.note_parked(unique);
  }
  Requests requests(area(), is_awaited);
  take_over(requests);
  const std::vector<std::uint64_t> unanswered = requests.unanswered();
  EXPECT_NE(std::find(unanswered.begin(), unanswered.end(), kWaits), unanswered.end());
  EXPECT_EQ(unanswered.size(), RequestArea::kParked);
}

TEST_F(RequestsOfTheDead, WhatHasNoRecordIsNeverSentAgainEither) {
  {
    Requests requests(area());
    take_over(requests);
    alignas(std::uint64_t) char message[sizeof(fuse_in_header)];
    const fuse_in_header header{.len = sizeof header, .opcode = FUSE_LOOKUP, .unique = 12, .nodeid = 1};
    std::memcpy(message, &header, sizeof header);
    requests.handle(nullptr, protocol::Message(message), [](const protocol::Message&) {});
  }
  Requests requests(area(), [](std::uint64_t) { return true; });
  take_over(requests);
  EXPECT_EQ(requests.unanswered(), std::vector<std::uint64_t>{12});
}

}  // namespace
}  // namespace berth::fuse
