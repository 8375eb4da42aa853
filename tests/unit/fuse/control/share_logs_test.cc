#include "fuse/control/share_logs.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace berth::fuse {
namespace {

TEST(ShareLogs, KeepTheLastWholeLinesOfEachShare) {
  ShareLogs logs(nullptr);
  EXPECT_EQ(logs.text_of("a"), "");
  logs.append("a", "one\n");
  logs.append("b", "other\n");
  logs.append("a", "two\n");
  EXPECT_EQ(logs.text_of("a"), "one\ntwo\n");
  EXPECT_EQ(logs.text_of("b"), "other\n");
  for (int i = 0; i < 10'000; ++i) logs.append("a", "line " + std::to_string(i) + "\n");
  const std::string text = logs.text_of("a");
  EXPECT_LE(text.size(), LogArea::kSize);
  EXPECT_GT(text.size(), LogArea::kSize - 16);
  EXPECT_TRUE(text.starts_with("line "));
  EXPECT_TRUE(text.ends_with("line 9999\n"));
  EXPECT_EQ(logs.text_of("b"), "other\n");
}

TEST(ShareLogs, OutliveTheServer) {
  const auto area = std::make_unique<LogArea>();
  ShareLogs(area.get()).append("a", "said\n");
  EXPECT_EQ(ShareLogs(area.get()).text_of("a"), "said\n");
}

TEST(ShareLogs, OfMoreSharesThanThereIsRoomForTheLastStay) {
  ShareLogs logs(nullptr);
  for (std::size_t i = 0; i < LogArea::kLogs + 3; ++i) logs.append(std::to_string(i), "x\n");
  EXPECT_EQ(logs.text_of("0"), "");
  EXPECT_EQ(logs.text_of("2"), "");
  EXPECT_EQ(logs.text_of("3"), "x\n");
}

}  // namespace
}  // namespace berth::fuse
