#include "src/lib/formats/json.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>

#include "src/lib/base/text.h"

namespace berth::formats {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr WallTime kMoment{milliseconds(1795222273123)};

ShareView full_share() {
  return {
      .name = "home/\xc3\xa4",
      .type = "nfs",
      .state = "mounted",
      .since = kMoment,
      .source = "nfs2:/media",
      .sources = {"nfs1:/media", "nfs2:/media"},
      .options = "vers=4.2,ro",
      .origin = "/etc/berth/berth.toml:12",
      .users = 1ULL << 60,
      .waiting = 2,
      .unanswered = {.callers = 5, .operation = "GETATTR", .since = kMoment},
      .mounts = 3,
      .failures = 4,
      .mount_id = (1ULL << 63) + 5,
      .transport =
          TransportView{.address = "192.0.2.7", .protocol = "tcp", .version = "4.2", .port = 2049, .connections = 2},
      .access = "auto",
      .native = true,
      .with_berth = "something is\nmounted in it",
      .helper = 6,
      .idle_timeout = milliseconds(1500),
      .mount_timeout = milliseconds(2500),
      .expires_at = kMoment + milliseconds(1),
      .retry_at = kMoment + milliseconds(2),
      .required = {"keys", "net"},
      .required_by = {"a\nb"},
      .busy = "used\nby 3",
      .last_failure = FailureView{.when = kMoment,
                                  .attempt = 7,
                                  .took = nanoseconds(30'123'456'789),
                                  .code = EHOSTDOWN,
                                  .story = "no",
                                  .command = {"mount", "a b"},
                                  .exit = "exit status 32",
                                  .output = "not UTF-8: \xff\n"},
      .attachments = {{"vm-17", "disk-0"}, {"vm\xfe", "\""}}};
}

NamespaceView full_namespace() {
  return {.version = "0.1.0",
          .directory = "/volumes",
          .arguments = {"serve", "--share", "a=/srv/ä"},
          .keeper = 1,
          .server = 2,
          .nodes = 5,
          .max_nodes = 6,
          .started = kMoment,
          .host = {.state = "draining", .generation = 3, .since = kMoment, .operations = 2},
          .state = {.directory = "/var/lib/berth/x",
                    .failure = "disk full",
                    .damages = {{"a\xff", "it is empty", "b"}},
                    .unknown_shares = {{"gone", 3}}},
          .sources = {{.name = "fleet",
                       .state = "failing",
                       .since = kMoment,
                       .shares = 4,
                       .synced = kMoment,
                       .pid = 7,
                       .starts = 2,
                       .error = "away",
                       .error_at = kMoment,
                       .wrong_count = 1,
                       .wrong = {{"x\xff", "no source"}}}},
          .shares = {{.name = "a", .type = "dir", .state = "idle", .users = 0, .since = std::nullopt, .source = "/a"},
                     {.name = "b\xff",
                      .type = "nfs",
                      .state = "failed",
                      .users = 2,
                      .since = kMoment,
                      .source = "\xc0",
                      .held = "process 12"},
                     {.name = "c", .type = "nfs", .state = "failed", .users = 0, .since = kMoment, .source = ""}}};
}

template <typename T>
T value_of(const Result<T>& result) {
  EXPECT_TRUE(result) << (result ? "" : result.error().message());
  return result.value_or(T{});
}

TEST(ShareJson, ComesBackAsItWas) {
  EXPECT_EQ(value_of(parse_share_json(render_json(full_share()))), full_share());
  EXPECT_EQ(value_of(parse_share_json(render_json(ShareView{}))), ShareView{});
}

TEST(NamespaceJson, ComesBackAsItWas) {
  EXPECT_EQ(value_of(parse_namespace_json(render_json(full_namespace()))), full_namespace());
  EXPECT_EQ(value_of(parse_namespace_json(render_json(NamespaceView{}))), NamespaceView{});
}

TEST(NamespaceJson, CountsSharesByState) {
  const std::string text = render_json(full_namespace());
  for (const char* part :
       {"\"total\": 3", "\"idle\": 1", "\"failed\": 2", "\"mounted\": 0", "\"keeper_pid\": 1", "\"server_pid\": 2"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << " in " << text;
  }
}

TEST(Json, IsUtf8WhateverTheNamesAre) {
  EXPECT_TRUE(is_utf8(render_json(full_share())));
  EXPECT_TRUE(is_utf8(render_json(full_namespace())));
  ShareView share = full_share();
  // These have no true bytes next to them, but must not do harm either.
  share.sources = {"\xff"};
  share.options = "\xff";
  share.last_failure->command = {"\xff"};
  EXPECT_TRUE(is_utf8(render_json(share)));
}

TEST(Json, RefusesWhatIsNotIt) {
  for (const char* text : {"", "{", "[]", "null", "42", "{}", "{\"name\": 1}", "\xff"}) {
    const auto share = parse_share_json(text);
    ASSERT_FALSE(share) << text;
    EXPECT_EQ(share.error().code(), EBADMSG);
    EXPECT_FALSE(share.error().story().empty());
    EXPECT_FALSE(parse_namespace_json(text)) << text;
  }
}

/// Each change of one value in a good text, and the key that the refusal names.
TEST(Json, NamesTheKeyThatIsWrong) {
  const std::string good = render_json(full_share());
  const auto refused = [&good](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    if (at != std::string::npos) text.replace(at, from.size(), to);
    const auto share = parse_share_json(text);
    return share ? "nothing" : std::string(share.error().story());
  };
  EXPECT_NE(refused("\"users\": 1152921504606846976", "\"users\": \"many\"").find("share.users"), std::string::npos);
  EXPECT_NE(refused("\"attempt\": 7", "\"attempt\": []").find("last_failure.attempt"), std::string::npos);
  EXPECT_NE(refused("\"took_seconds\": 30.1", "\"took_seconds\": 1e300, \"x\": 30.1").find("took_seconds"),
            std::string::npos);
  EXPECT_NE(refused("2026-11-21T00:51:13.123Z", "yesterday").find("since"), std::string::npos);
  EXPECT_NE(refused("\"instance_hex\": \"766dfe\"", "\"instance_hex\": \"766dfx\"").find("instance_hex"),
            std::string::npos);
  EXPECT_NE(refused("\"instance_hex\": \"766dfe\"", "\"instance_hex\": \"766df\"").find("instance_hex"),
            std::string::npos);
  EXPECT_EQ(refused("\"helper_pid\"", "\"new_in_a_later_version\": 1, \"helper_pid\""), "nothing");
}

TEST(Time, ComesBackAsItWas) {
  for (const WallTime time : {kMoment, WallTime{}, WallTime(milliseconds(9214646399999))}) {
    EXPECT_EQ(value_of(parse_time(format_time(time))), time) << format_time(time);
  }
}

TEST(Time, RefusesWhatIsNone) {
  for (const char* text :
       {"", "2026-11-21", "2262-01-01T00:00:00.000Z", "1969-12-31T23:59:59.999Z", "2026-13-21T00:51:13.123Z",
        "2026-02-30T00:51:13.123Z", "2026-11-21T24:51:13.123Z", "2026-11-21T00:60:13.123Z", "2026-11-21T00:51:61.123Z",
        "2026-11-21T00:51:13.123+", "2026-11-21 00:51:13.123Z", "2026-11-21T00:51:13.12-Z", "+026-11-21T00:51:13.123Z",
        "2026-11-21T00:51:13.123Z "}) {
    EXPECT_FALSE(parse_time(text)) << text;
  }
}

}  // namespace
}  // namespace berth::formats
