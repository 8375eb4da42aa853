#include "src/daemon/server/event_writer.h"

#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

namespace berth::daemon {
namespace {

using Kind = manager::Event::Kind;

class EventWriterTest : public ::testing::Test {
 protected:
  [[nodiscard]] EventWriter::Sinks sinks() {
    return {.log = [this](const manager::Event& event) { note(log_, event); },
            .events = [this](const manager::Event& event) { note(events_, event); },
            .output =
                [this](const std::string&, std::string_view lines) {
                  const std::lock_guard<std::mutex> lock(mutex_);
                  output_.emplace_back(lines);
                }};
  }
  void note(std::vector<manager::Event>& to, const manager::Event& event) {
    const std::lock_guard<std::mutex> lock(mutex_);
    to.push_back(event);
  }

  std::mutex mutex_;
  std::vector<manager::Event> log_;
  std::vector<manager::Event> events_;
  std::vector<std::string> output_;
};

TEST_F(EventWriterTest, WhatAnyUserCanCauseIsToldAtABoundedRateAndTheRestCounted) {
  constexpr std::size_t kMany = 10'000;
  {
    EventWriter writer(sinks());
    writer.begin();
    for (std::size_t i = 0; i < kMany; ++i) writer.write({.kind = Kind::kMounted, .share = "noisy"});
    writer.write({.kind = Kind::kMounted, .share = "quiet"});
    for (std::size_t i = 0; i < kMany; ++i) writer.write_output("writer", "line\n");
    // Root's own are all written.
    for (std::size_t i = 0; i < 1000; ++i) writer.write({.kind = Kind::kAttached, .share = "noisy"});
  }
  std::size_t noisy = 0;
  std::size_t quiet = 0;
  std::size_t attached = 0;
  std::size_t counted = 0;
  for (const manager::Event& event : log_) {
    if (event.kind == Kind::kAttached) ++attached;
    if (event.kind == Kind::kMounted) ++(event.share == "noisy" ? noisy : quiet);
    if (event.kind == Kind::kWarning) counted += std::stoul(event.reason);
  }
  EXPECT_EQ(attached, 1000U);
  EXPECT_EQ(quiet, 1U);
  EXPECT_GE(noisy, EventWriter::kBurst);
  EXPECT_LT(noisy, kMany / 10);
  EXPECT_LT(output_.size(), kMany / 10);
  EXPECT_EQ(noisy + output_.size() + counted, 2 * kMany) << "nothing is lost without being counted";
  EXPECT_EQ(events_.size(), log_.size());
}

TEST_F(EventWriterTest, CountsOfManySharesAreToldInOneLine) {
  constexpr std::size_t kShares = 20'000;
  {
    EventWriter writer(sinks());
    writer.begin();
    for (std::size_t i = 0; i < kShares; ++i) writer.write({.kind = Kind::kMounted, .share = "s" + std::to_string(i)});
  }
  std::size_t told = 0;
  std::size_t counts = 0;
  for (const manager::Event& event : log_) {
    told += event.kind == Kind::kWarning ? std::stoul(event.reason) : 1;
    if (event.kind == Kind::kWarning) ++counts;
  }
  EXPECT_EQ(told, kShares);
  EXPECT_EQ(counts, 1U);
}

}  // namespace
}  // namespace berth::daemon
