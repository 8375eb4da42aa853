#include "src/lib/formats/render.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/display_width.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/json.h"

namespace berth::formats {
namespace {

using std::chrono::milliseconds;

// 2026-11-21T00:51:13.123Z
constexpr WallTime kMoment{milliseconds(1795222273123)};

FailureView failure() {
  return {.when = kMoment,
          .attempt = 2,
          .took = milliseconds(1500),
          .code = EHOSTDOWN,
          .story = "mount ended with exit status 32",
          .command = {"mount", "-o", "a b", "src"},
          .exit = "exit status 32",
          .output = "first\r\n\nlast line\n"};
}

TEST(RenderError, SaysWhatRanAndHowItEnded) {
  EXPECT_EQ(render_error(failure()),
            "when:     2026-11-21T00:51:13.123Z\n"
            "attempt:  2\n"
            "took:     1.5s\n"
            "ran:      mount -o \"a b\" src\n"
            "exit:     exit status 32\n"
            "errno:    EHOSTDOWN (Host is down)\n"
            "error:    mount ended with exit status 32\n"
            "stderr:   first\n"
            "stderr:   last line\n"
            "reason:   last line\n");
}

TEST(RenderError, IsEmptyWithoutAFailure) { EXPECT_EQ(render_error(std::nullopt), ""); }

TEST(RenderError, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(render_error(FailureView{.when = kMoment, .code = EINVAL}),
            "when:     2026-11-21T00:51:13.123Z\n"
            "errno:    EINVAL (Invalid argument)\n"
            "error:    Invalid argument\n");
}

TEST(RenderError, SaysTheSameOnlyOnce) {
  EXPECT_EQ(render_error(
                FailureView{.when = kMoment, .code = EINVAL, .story = "no such device", .output = "no such device\n"}),
            "when:     2026-11-21T00:51:13.123Z\n"
            "errno:    EINVAL (Invalid argument)\n"
            "error:    no such device\n");
}

TEST(LastWords, AreTheProgramsOwnWhereItSaidSome) { EXPECT_EQ(last_words(render_error(failure())), "last line"); }

TEST(LastWords, AreTheStoryWhereNoProgramRan) {
  FailureView view = failure();
  view.output.clear();
  EXPECT_EQ(last_words(render_error(view)), "mount ended with exit status 32");
}

TEST(LastWords, AreEmptyWithoutAFailure) {
  EXPECT_EQ(last_words(""), "");
  EXPECT_EQ(last_words("\n\n"), "");
}

TEST(LastWords, AreTheWholeLineOfATextThatIsNotOurs) { EXPECT_EQ(last_words("one\ntwo\n"), "two"); }

TEST(RenderError, OutputCannotForgeALineOrSpeakToATerminal) {
  FailureView view = failure();
  view.story = "a\nwhen: never\033[2J";
  view.output = "\x9b\xff\xc2\x9b";
  const std::string text = render_error(view);
  EXPECT_NE(text.find("error:    a\\nwhen: never\\033[2J\n"), std::string::npos) << text;
  EXPECT_EQ(text.find('\033'), std::string::npos);
  EXPECT_EQ(text.find('\x9b'), std::string::npos);
  EXPECT_EQ(text.find("\nwhen: never"), std::string::npos);
}

TEST(RenderEvent, IsOneLineOfFields) {
  EXPECT_EQ(render_event({.when = kMoment,
                          .kind = "mounted",
                          .share = "media",
                          .attempt = 1,
                          .took = milliseconds(12),
                          .reason = "first access"}),
            "2026-11-21T00:51:13.123Z mounted share=media attempt=1 took=12ms reason=\"first access\"\n");
  EXPECT_EQ(render_event({.when = kMoment, .kind = "lost", .share = "a"}), "2026-11-21T00:51:13.123Z lost share=a\n");
}

TEST(RenderEvent, ANameCannotForgeAnEvent) {
  const std::string line = render_event({.when = kMoment, .kind = "lost", .share = "a b\n2026 mounted share=c"});
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  EXPECT_EQ(line, "2026-11-21T00:51:13.123Z lost share=\"a b\\n2026 mounted share=c\"\n");
}

TEST(RenderUsers, IsEmptyWhenNobodyHoldsTheShare) { EXPECT_EQ(render_users({}), ""); }

TEST(RenderUsers, IsATable) {
  EXPECT_EQ(render_users({.users = {{.pid = 7, .uid = 1000, .command = "cat", .kind = "file", .what = "a/b c"},
                                    {.kind = "attachment", .what = "vm-17/disk-0"}},
                          .more = 3}),
            "PID  UID   COMMAND  KIND        WHAT\n"
            "7    1000  cat      file        a/b\\040c\n"
            "-    -     -        attachment  vm-17/disk-0\n"
            "and 3 more\n");
}

TEST(RenderAttacher, TellsWhoAndSinceWhen) {
  EXPECT_EQ(render_attacher({.uid = 7, .pid = 12, .command = "a\nb", .since = WallTime(std::chrono::seconds(1))}),
            "since:    1970-01-01T00:00:01.000Z\nuid:      7\npid:      12\ncommand:  a\\nb\n");
  EXPECT_EQ(render_attacher({}), "since:    -\n");
}

TEST(RenderAnything, NothingThatTurnsOrHidesTextReachesATerminal) {
  // Turned, of no width, a control character, not UTF-8.
  for (const std::string hostile :
       {"\u202e", "\u200b", "\u2066", "\ufeff", "\u00ad", "\u0085", "\x1b[31m", "\xff", "\U000e0041"}) {
    const FailureView failure{
        .code = 5, .story = "s" + hostile, .command = {"c" + hostile}, .exit = "e" + hostile, .output = "o" + hostile};
    ShareView share{.name = "n" + hostile, .type = "t", .state = "failed", .source = hostile, .options = hostile};
    share.busy = hostile;
    share.held = hostile;
    share.last_failure = failure;
    share.attachments = {{.instance = hostile, .volume = hostile}};
    NamespaceView berth{.version = hostile, .directory = hostile};
    berth.shares = {{.name = hostile, .type = "t", .state = "idle", .source = hostile, .held = hostile}};
    berth.state.failure = hostile;
    for (const std::string& text :
         {render_error(failure), render_status(share), render_status(berth), render_json(share), render_json(berth),
          render_users({.users = {{.pid = 1, .command = hostile, .kind = "file", .what = hostile}}}),
          render_event({.kind = "lost", .share = hostile, .reason = hostile})}) {
      EXPECT_EQ(text.find(hostile), std::string::npos) << text;
      for (const std::string_view line : split(text, '\n')) EXPECT_TRUE(is_harmless(line)) << line;
    }
    if (is_utf8(hostile)) {
      EXPECT_EQ(parse_share_json(render_json(share)).value().busy, hostile);
    }
  }
}

TEST(RenderStatus, ShowsOnlyWhatThereIs) {
  EXPECT_EQ(render_status(ShareView{.name = "a", .type = "dir", .state = "idle", .sources = {"/srv"}}),
            "name:         a\n"
            "type:         dir\n"
            "state:        idle\n"
            "configured:   /srv\n"
            "users:        0\n"
            "waiting:      0\n"
            "mounts:       0\n"
            "failures:     0\n"
            "idle timeout: 0s\n");
}

TEST(RenderStatus, SaysWhichCallersWaitForAnAnswer) {
  ShareView share{.name = "a", .type = "nfs", .state = "stalled"};
  share.unanswered = {.callers = 1, .operation = "READ", .since = WallTime(milliseconds(1795222273123))};
  EXPECT_NE(render_status(share).find("unanswered:   1 caller, the first in READ since 2026-11-21T00:51:13.123Z\n"),
            std::string::npos)
      << render_status(share);
}

TEST(RenderStatus, AlignsTheTableByWhatIsSeen) {
  NamespaceView berth{.version = "1", .directory = "/v", .server = 9};
  berth.shares = {{.name = "\xc3\xa4", .type = "bind", .state = "idle", .source = "/x"},
                  {.name = "bc", .type = "bind", .state = "mounted", .users = 12, .source = "/y"}};
  EXPECT_EQ(render_status(berth),
            "berth 1 at /v, server pid 9, generation 0: 2 shares, 1 mounted, 1 idle\n"
            "NAME  TYPE  STATE    USERS  SINCE  SOURCE\n"
            "\xc3\xa4     bind  idle     0      -      /x\n"
            "bc    bind  mounted  12     -      /y\n");
}

TEST(RenderStatus, PaintsStatesAndNothingElse) {
  NamespaceView berth{.version = "1", .directory = "/v", .server = 9};
  berth.shares = {{.name = "idle", .type = "bind", .state = "idle", .source = "/x"}};
  const std::string text = render_status(berth, {.paint = [](std::string_view state, std::string_view padded) {
                                           return "<" + std::string(state) + "|" + std::string(padded) + ">";
                                         }});
  EXPECT_NE(text.find("idle  bind  <idle|idle   >0"), std::string::npos) << text;
}

TEST(RenderNamespaceStatus, FitsATerminalAndTellsAgesAndReasons) {
  const NamespaceView berth{.version = "1",
                            .directory = "/volumes",
                            .shares = {{.name = "projects/a-very-long-name-of-a-share/of/a/department",
                                        .type = "nfs",
                                        .state = "failed",
                                        .since = kMoment,
                                        .source = "server.example.org:/export/projects/of/the/department"},
                                       {.name = "\u6d77\u6e2f", .type = "bind", .state = "idle", .source = "/srv"}}};
  const Look look{.width = 80,
                  .now = kMoment + std::chrono::minutes(3),
                  .reasons = {{"projects/a-very-long-name-of-a-share/of/a/department", "no route to host"}}};
  const std::string text = render_status(berth, look);
  std::vector<std::string_view> lines = split(text, '\n');
  ASSERT_GE(lines.size(), 4U);
  for (std::size_t i = 1; i < lines.size(); ++i) EXPECT_LE(display_width(lines[i]), 80U) << lines[i];
  EXPECT_NE(lines[2].find("  3m  "), std::string::npos) << text;
  EXPECT_NE(lines[2].find("..."), std::string::npos) << text;
  EXPECT_EQ(lines[3], "  no route to host");
  // The columns are aligned, though two characters of the name take four columns.
  EXPECT_EQ(display_width(lines[4].substr(0, lines[4].find("bind"))),
            display_width(lines[1].substr(0, lines[1].find("TYPE"))));
}

/// However long the names of other shares are, and whether there is a source.
TEST(RenderNamespaceStatus, HasTheWholeReasonBelowTheRow) {
  const std::string reason = "the server \"nfs1\" has no address (Name or service not known); correct the name";
  const NamespaceView berth{
      .version = "1",
      .directory = "/volumes",
      .shares = {{.name = "failed", .type = "command", .state = "failed"},
                 {.name = std::string(70, 'x'), .type = "bind", .state = "idle", .source = std::string(70, 'y')}}};
  const std::string text = render_status(berth, {.width = 80, .reasons = {{"failed", reason}}});
  EXPECT_NE(text.find("  -\n  " + reason + "\n"), std::string::npos) << text;
  EXPECT_NE(render_status(berth, {.reasons = {{"failed", reason}}}).find("  -\n  " + reason + "\n"), std::string::npos);
}

TEST(RenderStatus, TellsTimesAsOfNowOnATerminal) {
  using namespace std::chrono_literals;
  ShareView share{.name = "a", .type = "nfs", .state = "failed", .since = kMoment, .retry_at = kMoment + 3min + 8s};
  share.last_failure = FailureView{.when = kMoment + 2min, .code = EIO};
  share.unanswered = {.callers = 1, .operation = "READ", .since = kMoment};
  const std::string text = render_status(share, kMoment + 3min);
  for (const char* line : {"since:        3m ago\n", "retry at:     in 8s\n", "last error:   1m ago EIO ",
                           "unanswered:   1 caller, the first in READ for 3m\n"})
    EXPECT_NE(text.find(line), std::string::npos) << text;
  const NamespaceView berth{.host = {.state = "drained", .since = kMoment},
                            .failed_look_ups = {{.name = "x", .when = kMoment, .story = "no"}}};
  const std::string table = render_status(berth, {.now = kMoment + 3min});
  EXPECT_NE(table.find("the host is drained for 3m: "), std::string::npos) << table;
  EXPECT_NE(table.find("look-up of \"x\" failed 3m ago: no"), std::string::npos) << table;
}

TEST(RenderAge, IsInTheLargestUnit) {
  using namespace std::chrono_literals;
  EXPECT_EQ(render_age(kMoment, kMoment + 59s), "59s");
  EXPECT_EQ(render_age(kMoment, kMoment + 180s), "3m");
  EXPECT_EQ(render_age(kMoment, kMoment + 7h + 59min), "7h");
  EXPECT_EQ(render_age(kMoment, kMoment + 49h), "2d");
  EXPECT_EQ(render_age(kMoment + 5s, kMoment), "0s");
}

TEST(EventAsJson, HasEachFieldAsItWas) {
  const EventView event{.when = kMoment,
                        .kind = "mount-failed",
                        .share = "a \"b\"\n\\c",
                        .attempt = 2,
                        .took = milliseconds(1500),
                        .reason = "no = way\t\033"};
  EXPECT_EQ(
      event_as_json(render_event(event)),
      R"({"time":"2026-11-21T00:51:13.123Z","event":"mount-failed","share":"a \"b\"\n\\c","attempt":2,"took":"1.5s",)"
      R"("reason":"no = way\t\u001b"})"
      "\n");
  EXPECT_EQ(event_as_json(render_event({.when = kMoment, .kind = "drained"})),
            "{\"time\":\"2026-11-21T00:51:13.123Z\",\"event\":\"drained\"}\n");
  EXPECT_EQ(event_as_json("nonsense"), "");
  EXPECT_EQ(event_as_json(""), "");
}

}  // namespace
}  // namespace berth::formats
