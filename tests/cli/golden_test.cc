#include <fmt/format.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "src/lib/base/display_width.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/render.h"
#include "tests/cli/faults.h"
#include "tests/cli/stage.h"

namespace berth::test {
namespace {

bool update = false;

/// One command line, and all that it says.
struct Case {
  std::string name;  ///< of the file below golden/
  std::vector<std::string> arguments;
  std::function<void(Stage&)> prepare = [](Stage& stage) { stage.add_usual_shares(); };
  int fault = 0;          ///< what the control tree answers to a change; 0: it does it
  bool stranger = false;  ///< the caller may change nothing
};

void no_shares(Stage& stage) { stage.publish(); }

void on_terminal(Stage& stage) {
  stage.add_usual_shares();
  stage.world.out_is_terminal = true;
  stage.world.width = 80;
  stage.world.now = [] { return kMoment + std::chrono::minutes(3); };
}

void without_colours(Stage& stage) {
  on_terminal(stage);
  stage.environment["NO_COLOR"] = "1";
}

void not_mounted(Stage& stage) { stage.mounts.clear(); }

void two_namespaces(Stage& stage) {
  stage.mounts.push_back(
      {.id = 31, .parent = 1, .root = "/", .target = "/srv/more", .type = "fuse.berth", .device = 41});
}

/// What answers as the mount of a berth that was killed.
void dead(Stage& stage) {
  stage.mounts.clear();
  stage.mounts.push_back({.id = 31, .parent = 1, .root = "/", .target = "/dead", .type = "fuse.berth"});
}

/// Such a mount of an ordinary user, for that user.
void dead_of_user(Stage& stage) {
  dead(stage);
  stage.mounts.back().user = stage.world.user = 1000;
}

void not_mounted_for_user(Stage& stage) {
  stage.mounts.clear();
  stage.world.user = 1000;
}

/// A process of the user's own is seen with it, and cannot be joined.
void dead_and_closed(Stage& stage) {
  dead(stage);
  stage.world.own_namespaces = [] { return std::vector<sys::OwnMount>{{.process = 17, .target = "/dead"}}; };
  stage.world.enter = [](const sys::OwnMount&) -> Result<> { return fail(EACCES); };
}

void wrong_variable(Stage& stage) { stage.environment["BERTH_NAMESPACE"] = "/srv/nothing"; }

void hostile_names(Stage& stage) {
  stage.add_share({.name = "a b\033[2J\nforged", .type = "bind", .state = "idle", .sources = {"/srv/\xff\n"}});
  stage.add_share({.name = "\xc3\xa4\xc3\xb6", .type = "bind", .state = "idle", .sources = {"/srv/umlaut"}});
  stage.publish();
}

void drained(Stage& stage) {
  stage.berth().host = {.state = "drained", .generation = 4, .since = kMoment};
  stage.add_usual_shares();
}

void with_mounting(Stage& stage) {
  stage.add_share({.name = "slow", .type = "nfs", .state = "mounting", .sources = {"nfs1:/slow"}});
  stage.publish();
}

void held(Stage& stage) {
  stage.add_share(
      {.name = "disk", .type = "ext4", .state = "idle", .held = "process 12 (\"sh\") still has it mounted"});
  stage.publish();
}

void draining(Stage& stage) {
  stage.berth().host = {.state = "draining", .generation = 4, .since = kMoment};
  for (std::uint64_t i = 1; i <= 7; ++i) {
    stage.add_share({.name = "vm " + std::to_string(i), .type = "nfs", .state = "draining", .users = i});
  }
  stage.publish();
}

void damaged(Stage& stage) {
  stage.berth().state = {
      .directory = "/var/lib/berth/volumes-1b1911fc64695589",
      .failure = "cannot record attachments in /var/lib/berth/volumes-1b1911fc64695589: No space left on device",
      .damages = {{"/var/lib/berth/a\n", "it is empty", "/var/lib/berth/a.damaged"}, {"/b", "set aside earlier", "/b"}},
      .unknown_shares = {{"gone\033", 3}, {"old", 1}}};
  stage.publish();
}

void old_failure(Stage& stage) {
  stage.add_share({.name = "media",
                   .type = "bind",
                   .state = "idle",
                   .last_failure = formats::FailureView{.when = kMoment, .code = EHOSTDOWN, .story = "long ago"}});
  stage.publish();
}

void unrecorded(Stage& stage) {
  stage.berth().state = {.directory = "/var/lib/berth/volumes",
                         .failure = "cannot record attachments in /var/lib/berth/volumes: Read-only file system"};
  stage.add_usual_shares();
}

void warned(Stage& stage) {
  stage.add_usual_shares();
  stage.write_file(stage.world.default_config, "");
  stage.write_file(stage.namespace_directory() + "/.berth/reload", "+1 added\n");
  stage.warnings = {
      "warning: /etc/berth/shares.d/a.toml:2: [share.a]: neither this kernel nor a mount helper knows the type "
      "\"ntfs5\""};
}

void read_by_another(Stage& stage) {
  stage.add_usual_shares();
  stage.write_file(stage.world.default_config, "");
  stage.write_file(stage.namespace_directory() + "/.berth/reload", "nothing has changed\nwarning: of another share\n");
}

void being_mounted(Stage& stage) {
  stage.add_share({.name = "media", .type = "nfs", .state = "mounting"});
  stage.publish();
}

std::function<void(Stage&)> refusing(const Error& error) {
  return [error](Stage& stage) {
    stage.write_file(stage.world.default_config, "");
    stage.change = fail(error);
  };
}

void users_own(Stage& stage) { stage.world.host_config = "/etc/berth/berth.toml"; }

void hostile_failure(Stage& stage) {
  stage.add_share({.name = "media",
                   .type = "bind",
                   .state = "failed",
                   .last_failure = formats::FailureView{
                       .when = kMoment, .code = EHOSTDOWN, .story = "no", .output = "mount: \033[2Jowned\xff\n\n"}});
  stage.publish();
}

void broken_status(Stage& stage) {
  stage.write_file(stage.namespace_directory() + "/.berth/status.json", "{\"version\": 1");
}

void some_events(Stage& stage) {
  stage.write_file(stage.namespace_directory() + "/.berth/events",
                   formats::render_event({.when = kMoment, .kind = "mounting", .share = "media", .attempt = 1}));
}

/// The helps: one of every command.
std::vector<Case> help_cases() {
  std::vector<Case> cases{{"help-berth", {"berth", "--help"}}, {"help-mount.berth", {"mount.berth", "--help"}}};
  for (const char* command :
       {"serve",  "check",  "status", "attach", "detach",  "mount",  "unmount", "remount", "retry", "add",    "remove",
        "import", "reload", "drain",  "resume", "upgrade", "events", "metrics", "exec",    "shell", "doctor", "top"}) {
    cases.push_back({std::string("help-") + command, {"berth", command, "--help"}});
  }
  return cases;
}

std::vector<Case> usage_cases() {
  return {
      {"usage-no-command", {"berth"}},
      {"usage-unknown-command", {"berth", "stauts"}},
      {"usage-command-umount", {"berth", "umount", "media"}},
      {"usage-command-stop", {"berth", "stop"}},
      {"usage-command-restart", {"berth", "restart"}},
      {"usage-command-list", {"berth", "ls"}},
      {"usage-command-log", {"berth", "log"}},
      {"usage-command-version", {"berth", "version"}},
      {"usage-options-after-the-last", {"berth", "add", "--", "-y", "--type", "bind"}},
      {"usage-strange-command", {"berth", "\033[2Jfrobnicate"}},
      {"usage-unknown-option", {"berth", "--version-please"}},
      {"usage-misspelt-option", {"berth", "status", "--jsno"}},
      {"usage-misspelt-option-without-share", {"berth", "unmount", "--fore"}},
      {"usage-misspelt-option-with-value", {"berth", "serve", "--confg=/etc/x"}},
      {"usage-missing-share", {"berth", "mount"}},
      {"usage-missing-volume", {"berth", "attach", "media", "vm-17"}},
      {"usage-too-many", {"berth", "retry", "media", "more"}},
      {"usage-missing-value", {"berth", "serve", "--config"}},
      {"usage-flag-with-value", {"berth", "status", "--json=maybe"}},
      {"usage-log-level", {"berth", "serve", "--log-level", "warn"}},
      {"usage-log-level-unlike-any", {"berth", "serve", "--log-level", "42"}},
      {"usage-quick-share-without-directory", {"berth", "serve", "--share", "media"}},
      {"usage-quick-share-without-name", {"berth", "serve", "--share", "=/srv"}},
      {"usage-quick-share-empty-directory", {"berth", "serve", "--share", "media="}},
      {"usage-quick-share-bad-name", {"berth", "serve", "--share", "../up=/srv"}},
      {"usage-quick-share-twice", {"berth", "serve", "--share", "a=/srv/a", "--share", "a=/srv/b"}},
      {"usage-share-leads-up", {"berth", "status", "../../etc"}},
      {"usage-share-empty", {"berth", "mount", ""}},
      {"usage-share-absolute", {"berth", "mount", "/volumes/media"}},
      {"usage-instance-with-slash", {"berth", "attach", "media", "vm/17", "disk"}},
      {"usage-volume-dots", {"berth", "detach", "media", "vm-17", ".."}},
      {"usage-timeout", {"berth", "drain", "--timeout", "5"}},
      {"usage-status-of-one-sorted", {"berth", "status", "media", "--failed"}},
      {"usage-sort", {"berth", "status", "--sort", "user"}},
      {"usage-textfile", {"berth", "metrics", "--textfile", "/tmp/berth.txt"}},
      {"usage-timeout-of-nothing", {"berth", "drain", "--timeout", "0"}},
      {"usage-drain-of-a-share", {"berth", "drain", "media"}},
      {"usage-add-without-type", {"berth", "add", "media", "--source", "/srv"}},
      {"add-warned", {"berth", "add", "a", "--type", "ntfs5"}, warned},
      {"add-read-by-another-reload", {"berth", "add", "a", "--type", "tmpfs"}, read_by_another},
      {"usage-empty-value", {"berth", "status", "--namespace", ""}},
      {"usage-empty-value-before", {"berth", "-n", "", "status"}},
      {"usage-empty-source", {"berth", "add", "a", "--type=bind", "--source="}},
      {"add-mistake",
       {"berth", "add", "a", "--type", "bind"},
       refusing({EINVAL,
                 "/etc/berth/shares.d/a.toml:2: \"source\" in [share.a]: is missing\n/etc/berth/berth.toml:7: more"})},
      {"add-taken",
       {"berth", "add", "a", "--type", "bind"},
       refusing({EEXIST, "it is there already, in /etc/berth/berth.toml:4"})},
      {"add-forbidden",
       {"berth", "add", "a", "--type", "bind"},
       refusing({EACCES, "/etc/berth/shares.d/b.toml: cannot be read: Permission denied"})},
      {"add-disk-full", {"berth", "add", "a", "--type", "bind"}, refusing({ENOSPC, "/etc/berth/shares.d/a.toml"})},
      {"remove-unknown",
       {"berth", "remove", "a"},
       refusing({ENXIO, "no such share in /etc/berth/berth.toml and its drop-ins; did you mean \"b\"?"})},
      {"check-no-configuration", {"berth", "check"}, [](Stage&) {}},
      {"add-no-configuration", {"berth", "add", "a", "--type", "bind"}, users_own},
      {"usage-add-setting", {"berth", "add", "media", "--type", "bind", "--set", "read_only"}},
      {"usage-volume-too-long", {"berth", "attach", "media", "vm-17", std::string(256, 'v')}},
  };
}

std::vector<Case> namespace_cases() {
  return {
      {"namespace-none", {"berth", "status"}, not_mounted},
      {"namespace-several", {"berth", "status"}, two_namespaces},
      {"namespace-not-one", {"berth", "status", "--namespace", "/proc"}},
      {"namespace-missing", {"berth", "status", "-n", "/srv/nothing"}},
      {"namespace-wrong-variable", {"berth", "status"}, wrong_variable},
      {"namespace-none-for-user", {"berth", "status"}, not_mounted_for_user},
      {"namespace-dead", {"berth", "status"}, dead},
      {"namespace-dead-of-user", {"berth", "status"}, dead_of_user},
      {"namespace-dead-and-closed", {"berth", "status", "-n", "/dead"}, dead_and_closed},
      {"namespace-broken-status", {"berth", "status"}, broken_status},
      {"namespace-gone", {"berth", "mount", "media"}, [](Stage& s) { s.add_usual_shares(); }, ENOTCONN},
  };
}

std::vector<Case> share_cases() {
  const auto usual = [](Stage& stage) { stage.add_usual_shares(); };
  return {
      {"version", {"berth", "--version"}},
      {"version-short", {"berth", "-V"}},
      {"top-without-a-terminal", {"berth", "top"}},
      {"help-of-a-command", {"berth", "help", "retry"}},
      {"help-of-two", {"berth", "help", "add", "remove"}},
      {"help-of-all", {"berth", "help"}},
      {"help-of-help", {"berth", "help", "help"}},
      {"help-of-no-command", {"berth", "help", "retyr"}},
      {"status", {"berth", "status"}},
      {"status-no-shares", {"berth", "status"}, no_shares},
      {"status-colours", {"berth", "status"}, on_terminal},
      {"status-no-color", {"berth", "status"}, without_colours},
      {"status-hostile-names", {"berth", "status"}, hostile_names},
      {"status-json", {"berth", "status", "--json"}},
      {"status-share", {"berth", "status", "media"}},
      {"status-share-failed", {"berth", "status", "broken"}},
      {"status-share-json", {"berth", "status", "broken", "--json"}},
      {"events", {"berth", "events"}, some_events},
      {"events-json", {"berth", "events", "--json"}, some_events},
      {"status-failed", {"berth", "status", "--failed"}},
      {"status-sorted", {"berth", "status", "--sort", "users"}},
      {"mount-interrupted", {"berth", "mount", "media"}, usual, EINTR},
      {"attach-interrupted", {"berth", "attach", "media", "vm-17", "disk-0"}, usual, EINTR},
      {"share-unknown", {"berth", "status", "meida"}},
      {"share-unlike-any", {"berth", "mount", "xyzzy"}},
      {"share-is-a-directory-of-shares", {"berth", "attach", "home", "vm-17", "disk"}},
      {"attach-fails", {"berth", "attach", "broken", "vm-17", "disk-0"}, usual, EHOSTDOWN},
      {"attach-fails-hostile-output", {"berth", "attach", "media", "vm-17", "disk-0"}, hostile_failure, EHOSTDOWN},
      {"attach-too-many", {"berth", "attach", "media", "vm-17", "disk-0"}, old_failure, EMLINK},
      {"attach-disk-full", {"berth", "attach", "media", "vm-17", "disk-0"}, old_failure, ENOSPC},
      {"attach-state-read-only", {"berth", "attach", "media", "vm-17", "disk-0"}, unrecorded, EROFS},
      {"attach-forbidden", {"berth", "attach", "media", "vm-17", "disk-0"}, usual, EACCES, true},
      {"attach-server-forbids", {"berth", "attach", "media", "vm-17", "disk-0"}, usual, EACCES},
      {"detach-unknown", {"berth", "detach", "media", "vm-17", "disk-9"}},
      {"mount-fails", {"berth", "mount", "broken"}, usual, EHOSTDOWN},
      {"mount-times-out", {"berth", "mount", "media"}, usual, ETIMEDOUT},
      {"attach-times-out", {"berth", "attach", "media", "vm-17", "disk-0"}, usual, ETIMEDOUT},
      {"unmount-times-out", {"berth", "unmount", "media"}, usual, ETIMEDOUT},
      {"mount-stopping", {"berth", "mount", "media"}, usual, ESHUTDOWN},
      {"status-drained", {"berth", "status"}, drained},
      {"status-held", {"berth", "status"}, held},
      {"drain-held", {"berth", "drain"}, held},
      {"mount-drained", {"berth", "mount", "media"}, drained, ESHUTDOWN},
      {"drain-already", {"berth", "drain"}, drained},
      {"drain-called-off", {"berth", "drain"}, usual, ECANCELED},
      {"drain-times-out", {"berth", "drain", "--timeout", "30s"}, draining, ETIMEDOUT},
      {"drain-interrupted", {"berth", "drain", "--timeout", "30s"}, draining, EINTR},
      {"resume-interrupted", {"berth", "resume"}, drained, EINTR},
      {"upgrade-interrupted", {"berth", "upgrade"}, usual, EINTR},
      {"reload-interrupted", {"berth", "reload"}, usual, EINTR},
      {"reload-dry-run-interrupted", {"berth", "reload", "--dry-run"}, usual, EINTR},
      {"drain-forbidden", {"berth", "drain"}, usual, EACCES, true},
      {"resume-already", {"berth", "resume"}, usual},
      {"status-damaged", {"berth", "status"}, damaged},
      {"unmount-busy-native", {"berth", "unmount", "home/alice"}, usual, EBUSY},
      {"unmount-while-mounting", {"berth", "unmount", "slow"}, with_mounting, EBUSY},
      {"unmount-busy", {"berth", "unmount", "media"}, usual, EBUSY},
      {"remount-mounting", {"berth", "remount", "media"}, being_mounted, EBUSY},
      {"unmount-forbidden", {"berth", "unmount", "media"}, usual, EACCES, true},
  };
}

std::vector<Case> serve_cases() {
  const auto bare = [](Stage&) {};
  return {
      {"serve-no-configuration", {"berth", "serve"}, bare},
      {"serve-no-namespace", {"berth", "serve", "--share", "a=/srv"}, bare},
      {"mount-helper-no-arguments", {"/sbin/mount.berth"}, bare},
      {"mount-helper-no-configuration", {"/sbin/mount.berth", "berth", "/volumes"}, bare},
      {"mount-helper-unknown-flag", {"mount.berth", "berth", "/volumes", "-x"}, bare},
      {"mount-helper-missing-options", {"mount.berth", "berth", "/volumes", "-o"}, bare},
      {"mount-helper-unknown-option", {"mount.berth", "berth", "/volumes", "-o", "confg=/etc/x"}, bare},
      {"mount-helper-unlike-any-option", {"mount.berth", "berth", "/volumes", "-o", "subvol=x"}, bare},
      {"mount-helper-option-without-value", {"mount.berth", "berth", "/volumes", "-o", "config"}, bare},
      {"mount-helper-read-only", {"mount.berth", "berth", "/volumes", "-o", "ro,share=a=/srv"}, bare},
      {"mount-helper-noexec", {"mount.berth", "berth", "/volumes", "-o", "noexec"}, bare},
      {"mount-helper-remount-read-only", {"mount.berth", "berth", "/volumes", "-o", "remount,ro"}, bare},
      {"mount-helper-remount-nothing", {"mount.berth", "berth", "/srv/other", "-o", "rw,remount"}, bare},
      {"mount-helper-log-level", {"mount.berth", "berth", "/volumes", "-o", "log-level=inof"}, bare},
      {"mount-helper-share", {"mount.berth", "berth", "/volumes", "-o", "share=a"}, bare},
      {"mount-helper-share-twice", {"mount.berth", "berth", "/volumes", "-o", "share=a=/x,share=a=/y"}, bare},
  };
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const auto& group : {help_cases(), usage_cases(), namespace_cases(), share_cases(), serve_cases()}) {
    cases.insert(cases.end(), group.begin(), group.end());
  }
  return cases;
}

std::string golden_path(const std::string& name) { return std::string(BERTH_GOLDEN) + "/" + name + ".txt"; }

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// What a person would see, with what differs from run to run replaced; escape characters are shown as such.
std::string transcript(const Case& c, Stage& stage) {
  const Outcome outcome = stage.run(c.arguments);
  const std::string command = quote_command(c.arguments);
  std::string text = fmt::format("$ {}\nexit status {}\n--- standard output\n{}--- standard error\n{}",
                                 command.size() > 200 ? command.substr(0, 200) + "..." : command, outcome.exit_code,
                                 outcome.out, outcome.err);
  replace_all(text, stage.namespace_directory(), "/volumes");
  replace_all(text, stage.root(), "/root");
  replace_all(text, "\033", "<ESC>");
  const passwd* const user = ::getpwuid(::geteuid());
  if (user != nullptr) replace_all(text, std::string("only ") + user->pw_name + " ", "only root ");
  return text;
}

class Golden : public testing::TestWithParam<Case> {};

TEST_P(Golden, SaysWhatItSaid) {
  const Case& c = GetParam();
  Stage stage;
  c.prepare(stage);
  std::string said;
  {
    std::optional<Stranger> stranger;
    if (c.stranger) stranger.emplace();
    const Fault fault(c.fault);
    said = transcript(c, stage);
  }
  if (update) {
    std::ofstream(golden_path(c.name), std::ios::binary) << said;
    return;
  }
  std::ostringstream golden;
  golden << std::ifstream(golden_path(c.name), std::ios::binary).rdbuf();
  EXPECT_EQ(golden.str(), said) << "differs from " << golden_path(c.name) << "; tests/cli/README.md says what to do";
}

std::string test_name(const testing::TestParamInfo<Case>& info) {
  std::string name = info.param.name;
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  }
  return name;
}

INSTANTIATE_TEST_SUITE_P(Cli, Golden, testing::ValuesIn(all_cases()), test_name);

TEST(GoldenFiles, EachBelongsToACase) {
  std::set<std::string> expected;
  for (const Case& c : all_cases()) EXPECT_TRUE(expected.insert(c.name).second) << c.name << " is there twice";
  std::set<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator(BERTH_GOLDEN))
    found.insert(entry.path().stem().string());
  EXPECT_EQ(expected, found);
}

/// Of options, commands and examples as well.
TEST(GoldenFiles, EachLineOfAHelpFitsATerminal) {
  std::size_t lines = 0;
  for (const Case& c : help_cases()) {
    Stage stage;
    const auto run = stage.run(c.arguments);
    for (const std::string_view line : split(run.out, '\n')) {
      EXPECT_LE(display_width(line), 80U) << c.name << ": " << line;
      ++lines;
    }
  }
  EXPECT_GT(lines, help_cases().size() * 5);
}

TEST(GoldenFiles, NothingSaidReachesATerminalRaw) {
  for (const Case& c : all_cases()) {
    if (c.name == "status-colours") continue;
    std::ostringstream golden;
    golden << std::ifstream(golden_path(c.name), std::ios::binary).rdbuf();
    EXPECT_EQ(golden.str().find("<ESC>"), std::string::npos) << c.name;
    EXPECT_TRUE(is_utf8(golden.str())) << c.name;
  }
}

}  // namespace
}  // namespace berth::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--update") berth::test::update = true;
  }
  return RUN_ALL_TESTS();
}
