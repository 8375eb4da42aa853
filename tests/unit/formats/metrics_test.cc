#include "src/lib/formats/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace berth::formats {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// 2026-11-21T00:51:13.123Z
constexpr WallTime kMoment{milliseconds(1795222273123)};

MetricsView some() {
  MetricsView view{.version = "1.2.3", .started = kMoment, .takeovers = 2, .shares = {{"mounted", 3}, {"failed", 1}}};
  view.counts.since = kMoment;
  view.counts.events = {{"mounted", 4}, {"mount-failed", 1}};
  view.counts.mount_failures = {{"EACCES", 1}};
  view.counts.mounted.add(milliseconds(3));
  view.counts.mounted.add(seconds(2));
  view.counts.mounted.add(seconds(100));
  view.troubles = {{.share = "home/a\"b\\c\nd", .state = "failed"}};
  return view;
}

TEST(Metrics, EndAsTheFormatDemands) { EXPECT_THAT(render_metrics({}), EndsWith("\n# EOF\n")); }

TEST(Metrics, CountersSaySinceWhenTheyCount) {
  const std::string text = render_metrics(some());
  EXPECT_THAT(text, HasSubstr("# TYPE berth_events counter\n"));
  EXPECT_THAT(text, HasSubstr("berth_events_total{event=\"mounted\"} 4\n"
                              "berth_events_created{event=\"mounted\"} 1795222273.123\n"));
  // Takeovers are counted by the keeper, over all servers.
  EXPECT_THAT(text, HasSubstr("berth_takeovers_total 2\n"));
  EXPECT_THAT(text, Not(HasSubstr("berth_takeovers_created")));
}

TEST(Metrics, DurationsAreAHistogramOfSecondsWithBucketsThatAddUp) {
  const std::string text = render_metrics(some());
  EXPECT_THAT(text, HasSubstr("# UNIT berth_mount_duration_seconds seconds\n"));
  EXPECT_THAT(text, HasSubstr("berth_mount_duration_seconds_bucket{result=\"success\",le=\"0.001\"} 0\n"
                              "berth_mount_duration_seconds_bucket{result=\"success\",le=\"0.005\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("berth_mount_duration_seconds_bucket{result=\"success\",le=\"1.0\"} 1\n"
                              "berth_mount_duration_seconds_bucket{result=\"success\",le=\"2.5\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("berth_mount_duration_seconds_bucket{result=\"success\",le=\"60.0\"} 2\n"
                              "berth_mount_duration_seconds_bucket{result=\"success\",le=\"+Inf\"} 3\n"
                              "berth_mount_duration_seconds_count{result=\"success\"} 3\n"
                              "berth_mount_duration_seconds_sum{result=\"success\"} 102.003\n"));
}

TEST(Metrics, HelpersAreThoseThatUseMostMemory) {
  MetricsView view;
  EXPECT_THAT(render_metrics(view), Not(HasSubstr("berth_helper_memory_bytes")));
  constexpr std::size_t kMost = MetricsView::kMostHelpers;
  for (std::size_t i = 0; i < kMost + 10; ++i)
    view.helpers.push_back({.share = std::string(1, static_cast<char>('0' + i)), .memory = 1000 + i});
  keep_largest(view.helpers);
  ASSERT_EQ(view.helpers.size(), kMost);
  EXPECT_EQ(view.helpers.front().share, std::string(1, '0' + 10)) << "the ten smallest are left out";
  EXPECT_EQ(view.helpers.back().memory, 1000 + kMost + 9);
  view.helpers = {{.share = "home/a", .memory = 4096}};
  EXPECT_THAT(render_metrics(view), HasSubstr("# UNIT berth_helper_memory_bytes bytes\n"));
  EXPECT_THAT(render_metrics(view), HasSubstr("\nberth_helper_memory_bytes{share=\"home/a\"} 4096\n"));
}

TEST(Metrics, EachStateIsThereAlsoWhereNoShareIsInIt) {
  const std::string text = render_metrics({});
  for (const char* state : {"idle", "mounting", "mounted", "stalled", "draining", "expiring", "failed", "removed"})
    EXPECT_THAT(text, HasSubstr("berth_shares{state=\"" + std::string(state) + "\"} 0\n"));
}

TEST(Metrics, NamesCannotForgeALineOrALabel) {
  EXPECT_THAT(render_metrics(some()),
              HasSubstr("berth_share_in_trouble{share=\"home/a\\\\\\\"b\\\\\\\\c\\\\nd\",state=\"failed\"} 1\n"));
}

TEST(Metrics, OlderFormatNamesCountersWithTheirTotalAndHasNoTimesOfCreation) {
  const std::string text = to_text_format(render_metrics(some()));
  EXPECT_THAT(text, HasSubstr("# TYPE berth_events_total counter\n# HELP berth_events_total Events by kind"));
  EXPECT_THAT(text, HasSubstr("berth_events_total{event=\"mounted\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE berth_mount_duration_seconds histogram\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE berth_host_up gauge\n"));
  for (const char* absent : {"# UNIT", "# EOF", "_created"}) EXPECT_THAT(text, Not(HasSubstr(absent)));
}

}  // namespace
}  // namespace berth::formats
