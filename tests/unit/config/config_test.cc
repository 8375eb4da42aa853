#include "src/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "src/config/config_file.h"
#include "src/lib/sys/user_directories.h"

namespace berth::config {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "berth-config-XXXXXX").native();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }

  void write(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    std::ofstream(path(name), std::ios::binary) << text;
    std::filesystem::permissions(path(name), std::filesystem::perms(0644));
  }

  [[nodiscard]] Result<Configuration> load_main(const CommandLine& command_line = {}) const {
    return load(path("berth.toml"), command_line);
  }

  /// The mistakes in `text` as the main file, without the directory's name.
  [[nodiscard]] std::string mistakes_in(const std::string& text, const CommandLine& command_line = {}) const {
    write("berth.toml", text);
    return mistakes(command_line);
  }
  [[nodiscard]] std::string mistakes(const CommandLine& command_line = {}) const {
    const Result<Configuration> loaded = load_main(command_line);
    if (loaded) return "no mistakes";
    std::string story(loaded.error().story());
    const std::string prefix = directory_ + "/";
    for (std::size_t at = story.find(prefix); at != std::string::npos; at = story.find(prefix))
      story.erase(at, prefix.size());
    return story;
  }

  std::string directory_;
};

constexpr const char* kDocumented = R"([berth]
namespace = "/volumes"
state_dir = "/var/lib/berth"         # what must survive a restart
takeover_timeout = "10s"
max_concurrent_mounts = 16
idle_timeout = "5m"                  # from here: defaults for shares, each can say otherwise
mount_timeout = "30s"
stall_timeout = "10s"
attr_timeout = "1s"

[share.media]
type = "nfs"                         # any type mount(8) knows; or bind, dir, command
source = ["nfs1:/media", "nfs2:/media"]   # replicas, tried in order of the last known answer time
options = "vers=4.2,ro"

[share."home/*"]
type = "nfs"
source = "filer:/home/&"

[share.photos]
type = "command"                     # a helper that serves until it is told to stop
mount = ["rclone", "mount", "remote:photos", "{mountpoint}"]

[share.scratch]
type = "bind"
source = "/srv/scratch"
access = "native"                    # proxy (default) or native
)";

TEST_F(ConfigTest, TakesTheDocumentedExample) {
  write("berth.toml", kDocumented);
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_EQ(loaded->settings.namespace_directory, "/volumes");
  EXPECT_EQ(loaded->settings.state_dir, "/var/lib/berth");
  EXPECT_EQ(loaded->settings.takeover_timeout, milliseconds(10'000));
  EXPECT_EQ(loaded->settings.max_concurrent_mounts, 16U);
  EXPECT_THAT(loaded->files, ElementsAre(path("berth.toml")));
  EXPECT_EQ(loaded->catalog.shares().size(), 3U);

  const manager::ShareSpec* media = loaded->catalog.find("media");
  ASSERT_NE(media, nullptr);
  EXPECT_EQ(media->type(), "nfs");
  EXPECT_THAT(media->sources(), ElementsAre("nfs1:/media", "nfs2:/media"));
  EXPECT_EQ(media->options(), "vers=4.2,ro");
  EXPECT_EQ(media->policy().idle_timeout, milliseconds(300'000));
  EXPECT_EQ(media->origin(), path("berth.toml") + ":11");
  EXPECT_THAT(loaded->catalog.find("photos")->mount_command(),
              ElementsAre("rclone", "mount", "remote:photos", "{mountpoint}"));
  EXPECT_EQ(loaded->catalog.find("scratch")->policy().access, manager::Access::kNative);

  ASSERT_EQ(loaded->catalog.templates().size(), 1U);
  const Result<manager::ShareSpec> alice = instantiate(loaded->catalog.templates().begin()->second, "alice");
  EXPECT_THAT(alice->sources(), ElementsAre("filer:/home/alice"));
}

TEST_F(ConfigTest, ReadsEveryKey) {
  write("berth.toml", R"([berth]
namespace = "/volumes//all/"
state_dir = "/tmp/state"
takeover_timeout = "1500ms"
stop_timeout = "1m"
max_concurrent_mounts = 3
max_mounts_per_server = 2
max_instances = 30
max_instances_per_template = 20
max_instances_per_user = 10
lookup_timeout = "6s"
positive_timeout = "7s"
negative_timeout = "0"
idle_timeout = "1s"
mount_timeout = "2s"
unmount_timeout = "3s"
stall_timeout = "4s"
attr_timeout = "0"
[control]
group = "daemon"
readers = "group"
[share.defaults]
type = "tmpfs"
[share."a b/c"]
type = "dir"
source = "/srv/x"
idle_timeout = "1d"
mount_timeout = "11s"
unmount_timeout = "12s"
stall_timeout = "13s"
request_timeout = "15s"
on_stale = "error"
reopen = "always"
attr_timeout = "14s"
access = "proxy"
read_only = true
allow_users = ["root", 1000, "1001"]
allow_groups = ["daemon"]
owner = "daemon"
group = 42
mode = "0750"
)");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  const Settings& settings = loaded->settings;
  EXPECT_EQ(settings.namespace_directory, "/volumes/all");
  EXPECT_EQ(settings.state_dir, "/tmp/state");
  EXPECT_EQ(settings.takeover_timeout, milliseconds(1500));
  EXPECT_EQ(settings.stop_timeout, milliseconds(60'000));
  EXPECT_EQ(settings.max_concurrent_mounts, 3U);
  EXPECT_EQ(settings.max_mounts_per_server, 2U);
  EXPECT_EQ(settings.max_instances, 30U);
  EXPECT_EQ(settings.max_instances_per_template, 20U);
  EXPECT_EQ(settings.max_instances_per_user, 10U);
  EXPECT_EQ(settings.control, (ControlSettings{.group = 1, .readable_by_everyone = false}));
  const manager::SharePolicy defaults{.idle_timeout = milliseconds(1000),
                                      .mount_timeout = milliseconds(2000),
                                      .unmount_timeout = milliseconds(3000),
                                      .stall_timeout = milliseconds(4000),
                                      .attr_timeout = milliseconds(0),
                                      .lookup_timeout = milliseconds(6000),
                                      .positive_timeout = milliseconds(7000),
                                      .negative_timeout = milliseconds(0)};
  EXPECT_EQ(loaded->catalog.find("defaults")->policy(), defaults);
  const manager::SharePolicy all{.idle_timeout = std::chrono::hours(24),
                                 .idle_timeout_is_own = true,
                                 .mount_timeout = milliseconds(11'000),
                                 .unmount_timeout = milliseconds(12'000),
                                 .stall_timeout = milliseconds(13'000),
                                 .request_timeout = milliseconds(15'000),
                                 .on_stale = manager::OnStale::kError,
                                 .reopen = manager::Reopen::kAlways,
                                 .attr_timeout = milliseconds(14'000),
                                 .lookup_timeout = milliseconds(6000),
                                 .positive_timeout = milliseconds(7000),
                                 .negative_timeout = milliseconds(0),
                                 .access = manager::Access::kProxy,
                                 .read_only = true,
                                 .allow_users = {0, 1000, 1001},
                                 .allow_groups = {1},
                                 .owner = 1,
                                 .group = 42,
                                 .mode = 0750};
  EXPECT_EQ(loaded->catalog.find("a b/c")->policy(), all);
}

TEST_F(ConfigTest, SetIdBitsAndDevicesNeedNativeAccess) {
  const std::string bind = "[share.a]\ntype = \"bind\"\nsource = \"/srv/a\"\n";
  for (const std::string key : {"allow_suid", "allow_devices"}) {
    const std::string allowed = key + " = true\n";
    for (const std::string& good : {bind + allowed, bind + "access = \"native\"\n" + allowed}) {
      write("berth.toml", good);
      const Result<Configuration> loaded = load_main();
      ASSERT_TRUE(loaded) << loaded.error().story();
      EXPECT_EQ(loaded->catalog.find("a")->policy().allow_suid, key == "allow_suid");
      EXPECT_EQ(loaded->catalog.find("a")->policy().allow_devices, key == "allow_devices");
    }
    for (const std::string& bad : {bind + "access = \"proxy\"\n" + allowed, bind + "idle_timeout = \"0\"\n" + allowed,
                                   bind + "allow_users = [1000]\n" + allowed, bind + "options = \"rbind\"\n" + allowed,
                                   "[share.a]\ntype = \"dir\"\nsource = \"/srv/a\"\n" + allowed,
                                   "[share.a]\ntype = \"nfs\"\nsource = \"h:/a\"\n" + allowed}) {
      write("berth.toml", bad);
      const Result<Configuration> loaded = load_main();
      ASSERT_FALSE(loaded) << bad;
      EXPECT_THAT(loaded.error().story(), testing::HasSubstr(key)) << bad;
    }
  }
}

TEST_F(ConfigTest, InodeNumbersHave32Or64Bits) {
  EXPECT_EQ(default_configuration()->settings.inode_bits, 64U);
  write("berth.toml", "[berth]\ninode_bits = 32\n");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_EQ(loaded->settings.inode_bits, 32U);
  for (const std::string bits : {"33", "16", "\"32\""}) {
    write("berth.toml", "[berth]\ninode_bits = " + bits + "\n");
    EXPECT_FALSE(load_main()) << bits;
  }
}

TEST_F(ConfigTest, HasDefaults) {
  write("berth.toml", "");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_EQ(loaded->settings, (Settings{.state_dir = sys::default_state_directory()}));
  EXPECT_THAT(loaded->catalog.shares(), IsEmpty());
  EXPECT_EQ(default_configuration()->settings, Settings{});
}

TEST_F(ConfigTest, TellsAllMistakesInTheOrderOfTheirLines) {
  EXPECT_EQ(mistakes_in(R"([share.z]
type = "bind"
source = "/srv/z"
idle_timout = "5m"

[share.a]
type = "bind"
source = "srv/a"
[berth]
max_concurrent_mounts = 0
)"),
            "berth.toml:4: unknown key \"idle_timout\" in [share.z]; did you mean \"idle_timeout\"?\n"
            "berth.toml:8: \"source\" in [share.a]: \"srv/a\" is not absolute; the path of a local directory, such as "
            "\"/srv/media\"\n"
            "berth.toml:10: \"max_concurrent_mounts\" in [berth]: 0 is not between 1 and 1024");
}

struct Wrong {
  std::string text;
  std::string told;
};
void PrintTo(const Wrong& wrong, std::ostream* stream) { *stream << wrong.text; }
class WrongConfig : public ConfigTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongConfig, IsToldWithItsLine) { EXPECT_EQ(mistakes_in(GetParam().text), GetParam().told); }

INSTANTIATE_TEST_SUITE_P(
    Sections, WrongConfig,
    ::testing::Values(
        Wrong{"[shares.a]\n", "berth.toml:1: unknown section [shares]; did you mean \"share\"?"},
        Wrong{"\nnamespace = \"/v\"\n",
              "berth.toml:2: unknown key \"namespace\" outside of a section; it belongs in [berth]"},
        Wrong{"x = 1\n", "berth.toml:1: unknown key \"x\" outside of a section"},
        Wrong{"share = 1\n", "berth.toml:1: \"share\" is not a value: a section [share.NAME] is expected"},
        Wrong{"[[share]]\n", "berth.toml:1: \"share\" is not a value: a section [share.NAME] is expected"},
        Wrong{"berth = 1\n", "berth.toml:1: \"berth\" is not a value: a section [berth] is expected"},
        Wrong{"[share]\nmedia = \"/x\"\n",
              "berth.toml:2: \"media\" in [share] is not a section: a share is written as [share.media] with its keys "
              "below"},
        Wrong{"[share.a.b]\ntype = \"tmpfs\"\n",
              "berth.toml:1: below [share.a] there are only sections; quote the name: [share.\"a/b\"]"},
        Wrong{"[share.media.films.new]\ntype = \"tmpfs\"\n",
              "berth.toml:1: below [share.media] there are only sections; quote the name: [share.\"media/films/new\"]"},
        Wrong{"[share.a]\ntype = \"tmpfs\"\n[share.a.b]\ntype = \"tmpfs\"\n",
              "berth.toml:3: unknown key \"b\" in [share.a]; quote a name that holds '.' or '/': [share.\"a/b\"]"},
        Wrong{"[berth]\nread_only = true\n",
              "berth.toml:2: unknown key \"read_only\" in [berth]; it belongs in [share.NAME]"},
        Wrong{"[share.a]\ntype = \"tmpfs\"\nstate_dir = \"/x\"\n",
              "berth.toml:3: unknown key \"state_dir\" in [share.a]; it belongs in [berth]"},
        Wrong{"[control]\ngrup = \"root\"\n",
              "berth.toml:2: unknown key \"grup\" in [control]; did you mean \"group\"?"},
        Wrong{"[berth]\nshare.a = {type = \"tmpfs\"}\n",
              "berth.toml:2: unknown key \"share\" in [berth]; it is a section of its own, whose name is in [...] on a "
              "line"},
        Wrong{"[berth]\nxyzzyplugh = 1\n", "berth.toml:2: unknown key \"xyzzyplugh\" in [berth]"}));

INSTANTIATE_TEST_SUITE_P(
    Values, WrongConfig,
    ::testing::Values(
        Wrong{"[berth]\nnamespace = \"volumes\"\n",
              "berth.toml:2: \"namespace\" in [berth]: \"volumes\" is not an absolute path"},
        Wrong{"[berth]\nnamespace = \"\"\n",
              "berth.toml:2: \"namespace\" in [berth]: an absolute path is expected, such as \"/volumes\""},
        Wrong{"[berth]\nnamespace = \"//\"\n", "berth.toml:2: \"namespace\" in [berth]: \"/\" cannot be covered"},
        Wrong{"[berth]\nnamespace = \"/a\\nb\"\n",
              "berth.toml:2: \"namespace\" in [berth]: \"/a\\nb\" holds a control character"},
        Wrong{"[berth]\nnamespace = [1]\n",
              "berth.toml:2: \"namespace\" in [berth]: expected a string such as \"...\", found an array"},
        Wrong{"[berth]\nnamespace = \"/v\"\nstate_dir = \"/v/state\"\n",
              "berth.toml:3: \"state_dir\" in [berth]: \"/v/state\" lies inside the namespace \"/v\""},
        Wrong{"[berth]\nidle_timeout = 30\n",
              "berth.toml:2: \"idle_timeout\" in [berth]: 30 lacks a unit; write \"30s\" if seconds are meant"},
        Wrong{"[berth]\nidle_timeout = \"30\"\n",
              "berth.toml:2: \"idle_timeout\" in [berth]: \"30\" lacks a unit: ms, s, m, h or d, as in \"10s\""},
        Wrong{"[berth]\nidle_timeout = 1.5\n",
              "berth.toml:2: \"idle_timeout\" in [berth]: expected a duration such as \"10s\" or \"1h30m\", found a "
              "fraction"},
        Wrong{"[berth]\nmount_timeout = \"0\"\n", "berth.toml:2: \"mount_timeout\" in [berth]: must be longer than 0"},
        Wrong{"[berth]\ntakeover_timeout = \"0s\"\n",
              "berth.toml:2: \"takeover_timeout\" in [berth]: must be longer than 0"},
        Wrong{"[berth]\nmax_concurrent_mounts = \"16\"\n",
              "berth.toml:2: \"max_concurrent_mounts\" in [berth]: expected an integer such as 16, found a string"},
        Wrong{"[berth]\nmax_concurrent_mounts = -1\n",
              "berth.toml:2: \"max_concurrent_mounts\" in [berth]: -1 is not between 1 and 1024"},
        Wrong{"[control]\ngroup = \"no-such-group\"\n",
              "berth.toml:2: \"group\" in [control]: there is no group \"no-such-group\""},
        Wrong{"[control]\nreaders = \"evryone\"\n",
              "berth.toml:2: \"readers\" in [control]: expected \"everyone\" or \"group\", found \"evryone\"; did you "
              "mean "
              "\"everyone\"?"}));

/// A share that would be right without `line`, which becomes line 4.
Wrong wrong_share(const std::string& line, const std::string& told) {
  return {"[share.a]\ntype = \"bind\"\nsource = \"/srv/a\"\n" + line + "\n", "berth.toml:4: " + told};
}
INSTANTIATE_TEST_SUITE_P(
    Shares, WrongConfig,
    ::testing::Values(
        Wrong{"\n[share.a]\n",
              "berth.toml:2: \"type\" in [share.a]: is missing; \"bind\", \"dir\", \"command\" or a type of mount(8) "
              "such as "
              "\"nfs\""},
        wrong_share("read_only = \"yes\"",
                    "\"read_only\" in [share.a]: expected true or false (without quotes), found a string"),
        wrong_share("access = \"natve\"",
                    "\"access\" in [share.a]: expected \"auto\" or \"proxy\" or \"native\", found "
                    "\"natve\"; did you mean \"native\"?"),
        wrong_share("access = true",
                    "\"access\" in [share.a]: expected \"auto\" or \"proxy\" or \"native\", found true or false"),
        wrong_share("mode = 755",
                    "\"mode\" in [share.a]: expected a mode in octal and in quotes such as \"0755\", found an integer"),
        wrong_share("mode = \"rwxr-xr-x\"",
                    "\"mode\" in [share.a]: \"rwxr-xr-x\" is not a mode in octal such as \"0755\""),
        wrong_share("allow_users = [\"root\", \"no-such-user\"]",
                    "\"allow_users\" in [share.a]: there is no user \"no-such-user\""),
        wrong_share("allow_users = [-1]", "\"allow_users\" in [share.a]: there is no user \"-1\""),
        wrong_share("allow_users = [4294967295]", "\"allow_users\" in [share.a]: there is no user \"4294967295\""),
        wrong_share("allow_users = \"root\"",
                    "\"allow_users\" in [share.a]: expected an array of users such as [\"alice\", "
                    "1001], found a string"),
        wrong_share("allow_groups = []", "\"allow_groups\" in [share.a]: is empty; leave it out to let all users in"),
        wrong_share("owner = true",
                    "\"owner\" in [share.a]: expected a user such as \"alice\" or 1001, found true or false"),
        wrong_share("mount = \"sshfs\"",
                    "\"mount\" in [share.a]: expected an array of strings such as [\"program\", "
                    "\"argument\"], found a string"),
        wrong_share("mount = [\"sshfs\"]", "\"mount\" in [share.a]: only a share of type \"command\" has one"),
        wrong_share("mount = []", "\"mount\" in [share.a]: is empty; the program and its arguments"),
        wrong_share("options = [\"ro\"]",
                    "\"options\" in [share.a]: expected a string such as \"...\", found an array"),
        wrong_share("options = \"X-mount.idmap=b:0:1:1\"",
                    "\"options\" in [share.a]: option \"X-mount.idmap\": idmapped mounts are not made here"),
        wrong_share("options = \"ro\\nsuid\"", "\"options\" in [share.a]: \"ro\\nsuid\" holds a control character"),
        Wrong{"[share.a]\ntype = \"nfs\"\nsource = [\"a:/\", 1]\n",
              "berth.toml:3: \"source\" in [share.a]: expected a string or an array of strings such as [\"a\", \"b\"], "
              "found "
              "an integer in the array"},
        Wrong{"[share.\"a/../b\"]\ntype = \"tmpfs\"\n",
              "berth.toml:1: \"a/../b\" holds the part \"..\", which names another directory"},
        Wrong{"[share.\"a\\nb\"]\ntype = \"tmpfs\"\n", "berth.toml:1: \"a\\nb\" holds a control character"},
        Wrong{"[share.\"\"]\ntype = \"tmpfs\"\n", "berth.toml:1: a share needs a name"},
        Wrong{"[share.\".berth\"]\ntype = \"tmpfs\"\n",
              "berth.toml:1: \".berth\" belongs to the control tree, and is no share"},
        Wrong{"[share.a]\ntype = \"tmpfs\"\n[share.\"a/b\"]\ntype = \"tmpfs\"\n",
              "berth.toml:3: share \"a/b\" (berth.toml:3) lies inside of share \"a\" (berth.toml:1), which would have "
              "to be "
              "a directory above it"}));

TEST_F(ConfigTest, TellsSyntaxErrorsAndDuplicatesWithTheirLine) {
  EXPECT_THAT(mistakes_in("[share.a]\ntype = \n"), StartsWith("berth.toml:2: "));
  EXPECT_THAT(mistakes_in("[share.a]\ntype = \"tmpfs\"\n[share.a]\n"), StartsWith("berth.toml:3: "));
  EXPECT_THAT(mistakes_in("[share.a]\ntype = \"tmpfs\"\ntype = \"tmpfs\"\n"), StartsWith("berth.toml:3: "));
  for (const char* header : {"[+a]", "[=]", "[.a]", "[a.]", "[a.+]", "[a.", "[", "[]", "[[+a]]", "+a = 1", "a.+ = 1",
                             "{+ = 1}", "ä = 1", "[ä]", "a = ä", "a = 1ä", "a = [ä]", "\u04cf"}) {
    EXPECT_THAT(mistakes_in(header), StartsWith("berth.toml:1: ")) << header;
  }
  EXPECT_THAT(mistakes_in("[berth]\nx = fals\n"), AllOf(StartsWith("berth.toml:2: "), HasSubstr("fals\\n")));
  EXPECT_EQ(mistakes_in("\n\xff\xfe"), "berth.toml:2: not UTF-8");
}

TEST_F(ConfigTest, RefusesBinaryAndHugeFiles) {
  EXPECT_EQ(mistakes_in(std::string("[berth]\n\x7f"
                                    "ELF\0\0",
                                    14)),
            "berth.toml:2: not a text file: it holds a NUL byte");
  write("berth.toml", std::string(kMaxFileSize, '\n'));
  EXPECT_TRUE(load_main());
  EXPECT_EQ(mistakes_in(std::string(kMaxFileSize + 1, '\n')), "berth.toml: is larger than 16 MiB");
  EXPECT_EQ(load_main().error().code(), EFBIG);
}

TEST_F(ConfigTest, RefusesTablesTooDeepToDestroy) {
  std::string deep = "[a";
  for (int i = 0; i < 100'000; ++i) deep += i % 2 == 0 ? " . a" : ".\"b.c\"";
  EXPECT_EQ(mistakes_in("\n" + deep + "]\n"), "berth.toml:2: more than 256 dots in one line");
  EXPECT_EQ(mistakes_in("# " + std::string(1000, '.') + "\n"), "no mistakes");
}

TEST_F(ConfigTest, RefusesWhatIsNotAFile) {
  EXPECT_EQ(mistakes(), "berth.toml: cannot be read: No such file or directory");
  EXPECT_EQ(load_main().error().code(), ENOENT);
  std::filesystem::create_directory(path("berth.toml"));
  EXPECT_EQ(mistakes(), "berth.toml: is a directory, where a file is expected");
  std::filesystem::remove(path("berth.toml"));
  ASSERT_EQ(::mkfifo(path("berth.toml").c_str(), 0600), 0);
  EXPECT_EQ(mistakes(), "berth.toml: is not a regular file");
}

TEST_F(ConfigTest, RefusesAShareThatWouldWaitForItself) {
  const std::string berth = "[berth]\nnamespace = \"/volumes\"\n[share.a]\n";
  EXPECT_EQ(
      mistakes_in(berth + "type = \"bind\"\nsource = \"/volumes/b\"\n"),
      "berth.toml:5: \"source\" in [share.a]: \"/volumes/b\" lies inside the namespace \"/volumes\": the share would "
      "wait for itself");
  for (const char* source : {"/volumes", "/volumes/", "//volumes/b", "/srv/../volumes/b", "/./volumes//b"}) {
    EXPECT_THAT(mistakes_in(berth + "type = \"dir\"\nsource = \"" + source + "\"\n"), HasSubstr("wait for itself"))
        << source;
  }
  EXPECT_THAT(mistakes_in(berth + "type = \"overlay\"\noptions = \"lowerdir=/srv/a:/volumes/b\"\n"),
              StartsWith("berth.toml:5: \"options\" in [share.a]: \"/volumes/b\""));
  EXPECT_THAT(mistakes_in(berth + "type = \"overlay\"\noptions = 'lowerdir=/srv/a\\,b:/vol\\umes/b'\n"),
              StartsWith("berth.toml:5: \"options\" in [share.a]: \"/volumes/b\""));
  EXPECT_EQ(mistakes_in(berth + "type = \"bind\"\nsource = \"/volumes2/b\"\n"), "no mistakes");
  EXPECT_EQ(mistakes_in(berth + "type = \"bind\"\nsource = \"/\"\n"), "no mistakes");
  EXPECT_THAT(mistakes_in(berth + "type = \"bind\"\nsource = \"/new/b\"\n", {.namespace_directory = "/new"}),
              HasSubstr("wait for itself"));
}

TEST_F(ConfigTest, ReadsDropInsInTheOrderOfTheirNames) {
  write("berth.toml", "[berth]\nidle_timeout = \"7s\"\n[share.main]\ntype = \"tmpfs\"\n");
  write("shares.d/20-b.toml", "[share.b]\ntype = \"tmpfs\"\n");
  write("shares.d/10-c.toml", "[share.c]\ntype = \"tmpfs\"\nidle_timeout = \"8s\"\n");
  write("shares.d/.hidden.toml", "=");
  write("shares.d/old.toml.dpkg-old", "=");
  write("shares.d/sub/x.toml", "=");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_THAT(loaded->files, ElementsAre(path("berth.toml"), path("shares.d/10-c.toml"), path("shares.d/20-b.toml")));
  EXPECT_EQ(loaded->catalog.shares().size(), 3U);
  EXPECT_EQ(loaded->catalog.find("b")->policy().idle_timeout, milliseconds(7000));
  EXPECT_EQ(loaded->catalog.find("b")->origin(), path("shares.d/20-b.toml") + ":1");
  EXPECT_EQ(loaded->catalog.find("c")->policy().idle_timeout, milliseconds(8000));
}

TEST_F(ConfigTest, TellsTheMistakesOfAllFiles) {
  write("berth.toml", "[share.a]\ntype = 1\n");
  write("shares.d/1.toml", "[berth]\nnamespace = \"/x\"\n[control]\n");
  write("shares.d/2.toml", "x");
  std::filesystem::create_directory(path("shares.d/3.toml"));
  std::filesystem::create_symlink("nowhere", path("shares.d/4.toml"));
  const std::string told = mistakes();
  EXPECT_THAT(told,
              StartsWith("berth.toml:2: \"type\" in [share.a]: expected a string such as \"...\", found an integer\n"
                         "shares.d/1.toml:1: [berth] belongs in the main file, berth.toml\n"
                         "shares.d/1.toml:3: [control] belongs in the main file, berth.toml\n"
                         "shares.d/2.toml:1: "));
  EXPECT_THAT(told, HasSubstr("\nshares.d/3.toml: is a directory, where a file is expected\n"
                              "shares.d/4.toml: cannot be read: No such file or directory"));
}

TEST_F(ConfigTest, NamesBothPlacesOfADuplicateInTwoFiles) {
  write("berth.toml", "\n[share.a]\ntype = \"tmpfs\"\n");
  write("shares.d/a.toml", "[share.a]\ntype = \"tmpfs\"\n");
  EXPECT_EQ(mistakes(), "shares.d/a.toml:1: share \"a\" (shares.d/a.toml:1) is there already, in berth.toml:2");
}

TEST_F(ConfigTest, LimitsTheNumberOfDropIns) {
  write("berth.toml", "");
  for (std::size_t i = 0; i < kMaxDropIns; ++i) write("shares.d/" + std::to_string(i) + ".toml", "");
  EXPECT_TRUE(load_main());
  write("shares.d/one-more.toml", "");
  EXPECT_EQ(mistakes(), "shares.d: holds more than 1024 drop-ins");
}

TEST_F(ConfigTest, RefusesADropInDirectoryThatIsAFile) {
  write("berth.toml", "");
  write("shares.d", "");
  EXPECT_EQ(mistakes(), "shares.d: cannot be read: Not a directory");
}

TEST_F(ConfigTest, CountsTheMistakesThatItDoesNotTell) {
  std::string text;
  for (int i = 0; i < 150; ++i) text += "k" + std::to_string(i) + " = 1\n";
  const std::string told = mistakes_in(text);
  EXPECT_THAT(told, AllOf(StartsWith("berth.toml:1: unknown key \"k0\""), HasSubstr("\nberth.toml:100: ")));
  EXPECT_TRUE(told.ends_with("\nand 50 more")) << told;
}

TEST_F(ConfigTest, CutsLongNamesInMessages) {
  const std::string told = mistakes_in("[berth]\n" + std::string(1'000'000, 'k') + " = 1\n");
  EXPECT_LT(told.size(), 300U);
}

TEST_F(ConfigTest, TakesQuickShares) {
  const CommandLine command_line{.namespace_directory = directory_ + "/ns/",
                                 .quick_shares = {"a=/srv/a/", "b/c=./x=y"}};
  const Result<Configuration> loaded = default_configuration(command_line);
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_EQ(loaded->settings.namespace_directory, directory_ + "/ns");
  EXPECT_EQ(loaded->catalog.find("a")->type(), "bind");
  EXPECT_THAT(loaded->catalog.find("a")->sources(), ElementsAre("/srv/a"));
  EXPECT_EQ(loaded->catalog.find("a")->origin(), "--share");
  EXPECT_THAT(loaded->catalog.find("b/c")->sources(), ElementsAre((std::filesystem::current_path() / "x=y").native()));
}

TEST_F(ConfigTest, TellsTheMistakesOfQuickShares) {
  const CommandLine command_line{.namespace_directory = "/ns",
                                 .quick_shares = {"a", "=x", "b=", "../c=/c", "d=/ns/d", "e\n=/"}};
  const Result<Configuration> loaded = default_configuration(command_line);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code(), EINVAL);
  EXPECT_EQ(loaded.error().story(),
            "--share a: NAME=DIR is expected\n"
            "--share =x: a share needs a name\n"
            "--share b=: NAME=DIR is expected\n"
            "--share ../c=/c: \"../c\" holds the part \"..\", which names another directory\n"
            "--share d=/ns/d: \"/ns/d\" lies inside the namespace \"/ns\": the share would wait for itself\n"
            "--share \"e\\n=/\": \"e\\n\" holds a control character");
}

TEST_F(ConfigTest, AddsQuickSharesToThoseOfTheFile) {
  write("berth.toml", "[berth]\nnamespace = \"/file\"\nidle_timeout = \"9s\"\n[share.a]\ntype = \"tmpfs\"\n");
  const Result<Configuration> loaded = load_main({.namespace_directory = "/line", .quick_shares = {"b=/srv/b"}});
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_EQ(loaded->settings.namespace_directory, "/line");
  EXPECT_EQ(loaded->catalog.shares().size(), 2U);
  EXPECT_EQ(loaded->catalog.find("b")->policy().idle_timeout, milliseconds(9000));
  EXPECT_THAT(mistakes({.namespace_directory = "", .quick_shares = {"a=/srv/a"}}),
              HasSubstr("is there already, in berth.toml:4"));
}

TEST(OwnershipWarning, IsGivenWhereOthersThanRootCanChangeTheFile) {
  struct stat attributes {};
  attributes.st_mode = S_IFREG | 0644;
  EXPECT_EQ(ownership_warning("f", attributes), "");
  attributes.st_mode = S_IFREG | 0664;
  EXPECT_EQ(ownership_warning("f", attributes), "");
  attributes.st_gid = 7;
  EXPECT_EQ(ownership_warning("f", attributes), "f: is writable by group 7, which can so make root run any command");
  attributes.st_mode = S_IFREG | 0646;
  EXPECT_THAT(ownership_warning("f", attributes), HasSubstr("writable by every user"));
  attributes.st_mode = S_IFREG | 0600;
  attributes.st_uid = 1000;
  EXPECT_THAT(ownership_warning("f", attributes), HasSubstr("belongs to user 1000"));
}

TEST_F(ConfigTest, WarnsRootOfFilesThatOthersCanChange) {
  if (::geteuid() != 0) GTEST_SKIP() << "root is warned, others are not";
  write("berth.toml", "");
  write("shares.d/a.toml", "");
  EXPECT_THAT(load_main()->warnings, IsEmpty());
  ASSERT_EQ(::chmod(path("berth.toml").c_str(), 0666), 0);
  ASSERT_EQ(::chmod(path("shares.d").c_str(), 0777), 0);
  EXPECT_THAT(load_main()->warnings, ElementsAre(StartsWith(path("berth.toml") + ": is writable"),
                                                 StartsWith(path("shares.d") + ": is writable")));
}

TEST_F(ConfigTest, WarnsOfAFileWithASecretThatEveryUserMayRead) {
  write("berth.toml", "[berth]\nnamespace = \"/volumes\"\n[share.a]\ntype = \"bind\"\nsource = \"/srv/a\"\n");
  write("shares.d/b.toml",
        "[share.b]\ntype = \"davfs\"\nsource = \"https://host/\"\nenvironment = { DAV_PASSWORD = \"hunter2\" }\n");
  write("shares.d/c.toml", "[share.c]\ntype = \"davfs\"\nsource = \"https://host/\"\nenvironment = { LANG = \"C\" }\n");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_THAT(loaded->warnings,
              ElementsAre(AllOf(HasSubstr("b.toml: every user may read it, and [share.b] has a secret in it"),
                                Not(HasSubstr("hunter2")))));
  std::filesystem::permissions(path("shares.d/b.toml"), std::filesystem::perms(0640));
  EXPECT_THAT(load_main()->warnings, ElementsAre());
}

TEST_F(ConfigTest, WarnsOfSecretsThatProgramsAreToldInTheirArguments) {
  write("berth.toml", R"([berth]
namespace = "/volumes"
[share.a]
type = "cifs"
source = "//filer/a"
options = "username=bob,password=hunter2"
[share.b]
type = "davfs"
source = "https://bob:hunter2@host/"
[share.c]
type = "command"
mount = ["helper", "--token", "hunter2", "{mountpoint}"]
[share.d]
type = "cifs"
source = "//filer/d"
options = "credentials=/etc/berth/d.cred"
environment = { PASSWD = "hunter2" }
environment_file = "/etc/berth/d.env"
)");
  std::filesystem::permissions(path("berth.toml"), std::filesystem::perms(0600));
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_THAT(loaded->warnings, ElementsAre(AllOf(HasSubstr("berth.toml:3: [share.a] has a secret in \"options\""),
                                                  HasSubstr("the option \"credentials\"")),
                                            HasSubstr("[share.b] has a secret in \"source\""),
                                            HasSubstr("[share.c] has a secret in \"mount\"")));
  for (const std::string& warning : loaded->warnings) EXPECT_THAT(warning, Not(HasSubstr("hunter2")));
  EXPECT_THAT(loaded->catalog.find("d")->environment(), ElementsAre("PASSWD=hunter2"));
  EXPECT_EQ(loaded->catalog.find("d")->environment_file(), "/etc/berth/d.env");
}

TEST_F(ConfigTest, ReplicasMayHaveWeights) {
  const std::string begin = "[share.a]\ntype = \"nfs\"\nsource = ";
  write("berth.toml", begin + "[\"a:/x\", { source = \"b:/x\", weight = 2 }, { source = \"c:/x\" }]\n");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_THAT(loaded->catalog.find("a")->sources(), ElementsAre("a:/x", "b:/x", "c:/x"));
  EXPECT_THAT(loaded->catalog.find("a")->policy().weights, ElementsAre(0U, 2U, 0U));
  for (const char* wrong :
       {"[{ weight = 2 }]", "[{ source = \"a:/x\", weight = \"2\" }]", "[{ source = \"a:/x\", wait = 2 }]",
        "[{ source = \"a:/x\", weight = -1 }]", "[{ source = \"a:/x\", weight = 1000001 }]", "[1, {}]"}) {
    EXPECT_THAT(mistakes_in(begin + wrong + "\n"), HasSubstr("berth.toml:3: \"source\" in [share.a]: ")) << wrong;
  }
}

TEST_F(ConfigTest, RequiredSharesMayStandAnywhere) {
  write("berth.toml",
        "[share.crypt]\ntype = \"bind\"\nsource = \"/srv/c\"\nrequires = [\"keys\", \"home/bob\"]\n"
        "[share.\"home/*\"]\ntype = \"bind\"\nsource = \"/home/&\"\nrequires = \"keys\"\n");
  write("shares.d/keys.toml", "[share.keys]\ntype = \"bind\"\nsource = \"/srv/k\"\n");
  const Result<Configuration> loaded = load_main();
  ASSERT_TRUE(loaded) << loaded.error().story();
  EXPECT_THAT(loaded->catalog.find("crypt")->policy().required, ElementsAre("keys", "home/bob"));
}

TEST_F(ConfigTest, RequiredSharesThatAreNotThereAndCirclesAreMistakes) {
  write("shares.d/b.toml", "[share.b]\ntype = \"bind\"\nsource = \"/srv/b\"\nrequires = [\"a\"]\n");
  EXPECT_EQ(mistakes_in("[share.a]\ntype = \"bind\"\nsource = \"/srv/a\"\n\nrequires = [\"b\"]\n"
                        "[share.c]\ntype = \"bind\"\nrequires = [\"nas\"]\nsource = \"/srv/c\"\n"),
            "berth.toml:5: \"requires\" in [share.a]: it requires itself: a -> b -> a\n"
            "berth.toml:8: \"requires\" in [share.c]: \"nas\" is no share, and no template makes it");
  std::filesystem::remove(path("shares.d/b.toml"));
  EXPECT_THAT(mistakes_in("[share.a]\ntype = \"bind\"\nsource = \"/srv/a\"\nrequires = [\"a/../b\", \"x\", \"x\"]\n"),
              AllOf(HasSubstr("berth.toml:4: \"requires\" in [share.a]"), HasSubstr("\"x\" is there twice")));
}

TEST_F(ConfigTest, SourceInTheNamespaceIsOfARequiredShareAlone) {
  const std::string whole = "[berth]\nnamespace = \"/volumes\"\n[share.nfs]\ntype = \"nfs\"\nsource = \"a:/x\"\n";
  const std::string part = "[share.part]\ntype = \"bind\"\nsource = \"/volumes/nfs/sub\"\n";
  EXPECT_THAT(mistakes_in(whole + part), HasSubstr("the share would wait for itself"));
  EXPECT_EQ(mistakes_in(whole + part + "requires = [\"nfs\"]\n"), "no mistakes");
  EXPECT_THAT(
      mistakes_in(whole + "[share.part]\ntype = \"bind\"\nsource = \"/volumes/nfs/../part\"\nrequires = [\"nfs\"]\n"),
      HasSubstr("the share would wait for itself"));
  EXPECT_THAT(
      mistakes_in(whole + "[share.part]\ntype = \"ext4\"\nsource = \"/volumes/nfs/image\"\nrequires = [\"nfs\"]\n"),
      HasSubstr("the share would wait for itself"));
}

TEST_F(ConfigTest, MistakesTellNoSecret) {
  const std::string longest(100, 'x');
  write("berth.toml", "[share.a]\ntype = \"cifs\"\nsource = \"-https://bob:hunter2" + longest +
                          "@host/\"\noptions = \"password=hunter2,\\u0001\"\naccess = \"password=hunter2\"\n"
                          "[share.b]\ntype = \"bind\"\nsource = \"bob:hunter2" +
                          longest +
                          "@host:/x\"\nenvironment = { A = 1 }\n[share.c]\ntype = \"cifs\"\nsource = \"//x\"\n"
                          "environment = { \"1B\" = \"hunter2\" }\nenvironment_file = \"token=hunter2\"\n");
  const std::string told = mistakes();
  EXPECT_THAT(told, HasSubstr("environment"));
  EXPECT_THAT(told, Not(HasSubstr("hunter2")));
}

TEST_F(ConfigTest, KeepsThousandsOfSharesSmall) {
  std::string text = "[berth]\nnamespace = \"/volumes\"\n";
  for (int i = 0; i < 5000; ++i) {
    const std::string name = "share-" + std::to_string(i);
    text += "[share." + name + "]\ntype = \"bind\"\nsource = \"/srv/data/" + name + "\"\n";
  }
  write("berth.toml", text);
  ASSERT_TRUE(load_main());  // what is allocated once and for all
  const auto before = static_cast<std::ptrdiff_t>(::mallinfo2().uordblks);
  const Result<Configuration> loaded = load_main();
  const auto after = static_cast<std::ptrdiff_t>(::mallinfo2().uordblks);
  ASSERT_TRUE(loaded);
  EXPECT_EQ(loaded->catalog.shares().size(), 5000U);
  // Nothing of the files stays, and of each share only what differs. A sanitizer's allocator answers 0 here.
  EXPECT_LT(after - before, 5000 * 400);
}

TEST_F(ConfigTest, SettingsAreTheSameReadFromTheirText) {
  Settings settings{.namespace_directory = "/vol\"umes\\\u200b\u00ad\x7f",
                    .state_dir = "/var/state \u202e",
                    .takeover_timeout = milliseconds(1234),
                    .crash_limit = 0,
                    .crash_window = milliseconds(2345),
                    .stop_timeout = milliseconds(0),
                    .max_concurrent_mounts = 3,
                    .max_mounts_per_server = 4,
                    .max_instances = 500,
                    .max_instances_per_template = 60,
                    .max_instances_per_user = 7,
                    .max_nodes = 800,
                    .inode_bits = 32,
                    .control = {.group = 9, .readable_by_everyone = false}};
  write("berth.toml", text_of(settings));
  const auto loaded = load_main();
  ASSERT_TRUE(loaded) << mistakes();
  EXPECT_EQ(loaded->settings, settings) << text_of(loaded->settings);
  EXPECT_TRUE(loaded->catalog.shares().empty());
}

/// The command line can name a directory that a file cannot, and goes before the file.
TEST_F(ConfigTest, TextOfSettingsLeavesOutDirectoriesThatNoFileCanName) {
  for (const char* const end : {"\xff", "\x01"}) {
    const Settings settings{.namespace_directory = std::string("/v") + end, .state_dir = std::string("/s") + end};
    write("berth.toml", text_of(settings));
    const CommandLine said{.namespace_directory = settings.namespace_directory, .state_dir = settings.state_dir};
    const auto loaded = load_main(said);
    ASSERT_TRUE(loaded) << mistakes(said);
    EXPECT_EQ(loaded->settings, settings);
  }
}

}  // namespace
}  // namespace berth::config
