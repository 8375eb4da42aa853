#include "manager/model/share_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "manager/model/server_of.h"
#include "manager/model/share_template.h"

namespace berth::manager {
namespace {

TEST(ServerOf, IsWhatTheSourceSays) {
  const std::pair<const char*, const char*> cases[] = {
      {"filer:/media", "filer"},
      {"user@filer:/media", "filer"},
      {"[fe80::1]:/x", "fe80::1"},
      {"//filer/share", "filer"},
      {"//u@filer:445/share", "filer"},
      {"https://filer:8080/dav", "filer"},
      {"sftp://u@[::1]:22/x", "::1"},
      {"/dev/sda1", ""},
      {"tmpfs", ""},
      {"/srv/a:b", ""},
      {"", ""},
      {"[broken:/x", ""},
  };
  for (const auto& [source, server] : cases) EXPECT_EQ(server_of(source), server) << source;
}

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

ShareFields bind_fields() {
  ShareFields fields;
  fields.name = "media";
  fields.type = "bind";
  fields.sources = {"/srv/media"};
  fields.origin_file = "/etc/berth/berth.toml";
  fields.origin_line = 12;
  return fields;
}

ShareFields command_fields() {
  ShareFields fields;
  fields.name = "photos";
  fields.type = "command";
  fields.mount_command = {"rclone", "mount", "remote:photos", "{mountpoint}"};
  return fields;
}

/// "key: reason" of each fault.
std::vector<std::string> faults_of(const ShareFields& fields) {
  std::vector<std::string> told;
  for (const FieldFault& fault : ShareSpec::faults_in(fields))
    told.push_back(std::string(fault.key) + ": " + fault.reason);
  return told;
}

struct BadName {
  std::string name;
  int code;
  std::string told;
};

class BadShareName : public ::testing::TestWithParam<BadName> {};

TEST_P(BadShareName, IsRefusedWithTheReason) {
  const Result<> checked = check_share_name(GetParam().name);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code(), GetParam().code);
  EXPECT_THAT(std::string(checked.error().story()), HasSubstr(GetParam().told));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadShareName,
    ::testing::Values(BadName{"", EINVAL, "needs a name"}, BadName{"/", EINVAL, "starts with '/'"},
                      BadName{"/a", EINVAL, "starts with '/'"}, BadName{"a/", EINVAL, "ends with '/'"},
                      BadName{"a//b", EINVAL, "empty part"}, BadName{".", EINVAL, "names another directory"},
                      BadName{"..", EINVAL, "names another directory"}, BadName{"a/../b", EINVAL, "\"..\""},
                      BadName{"a/.", EINVAL, "\".\""}, BadName{"a\nb", EINVAL, "control character"},
                      BadName{std::string("a\0b", 3), EINVAL, "control character"},
                      BadName{"a\x7f", EINVAL, "control character"}, BadName{"a\xff", EINVAL, "not UTF-8"},
                      BadName{".berth", EINVAL, "control tree"}, BadName{".berth/a", EINVAL, "control tree"},
                      BadName{"a*b", EINVAL, "template"}, BadName{"*", EINVAL, "template"},
                      BadName{std::string(256, 'a'), ENAMETOOLONG, "256 bytes"},
                      BadName{"a/" + std::string(256, 'b') + "/c", ENAMETOOLONG, "256 bytes"},
                      BadName{std::string(1024, '/'), ENAMETOOLONG, "1024 bytes"}));

TEST(ShareName, TakesWhatFileSystemsTake) {
  for (const std::string& name :
       {std::string("a"), std::string("home/alice"), std::string("a/b/c"), std::string("Grüße"), std::string("..."),
        std::string("a/.berth"), std::string("-"), std::string("a b"), std::string(255, 'a'),
        std::string(255, 'a') + "/" + std::string(255, 'b') + "/" + std::string(255, 'c') + "/" +
            std::string(255, 'd')}) {
    EXPECT_TRUE(check_share_name(name)) << name;
  }
}

TEST(ShareSpec, HoldsWhatItWasMadeOf) {
  ShareFields fields = bind_fields();
  fields.policy.read_only = true;
  fields.options = "noatime";
  const Result<ShareSpec> spec = ShareSpec::make(fields);
  ASSERT_TRUE(spec) << spec.error().story();
  EXPECT_EQ(spec->name(), "media");
  EXPECT_EQ(spec->type(), "bind");
  EXPECT_EQ(spec->kind(), ShareKind::kBind);
  EXPECT_THAT(spec->sources(), ElementsAre("/srv/media"));
  EXPECT_EQ(spec->options(), "noatime");
  EXPECT_TRUE(spec->policy().read_only);
  EXPECT_EQ(spec->origin(), "/etc/berth/berth.toml:12");
  EXPECT_FALSE(spec->is_template());
}

TEST(ShareSpec, KnowsTheKindByTheType) {
  ShareFields fields = bind_fields();
  fields.type = "dir";
  EXPECT_EQ(ShareSpec::make(fields)->kind(), ShareKind::kDir);
  fields.type = "fuse.sshfs";
  EXPECT_EQ(ShareSpec::make(fields)->kind(), ShareKind::kFilesystem);
  EXPECT_EQ(ShareSpec::make(command_fields())->kind(), ShareKind::kCommand);
}

TEST(ShareSpec, IsEqualWhereverItWasRead) {
  ShareFields moved = bind_fields();
  moved.origin_line = 99;
  moved.origin_file = "/etc/berth/shares.d/media.toml";
  EXPECT_EQ(*ShareSpec::make(bind_fields()), *ShareSpec::make(moved));
  ShareFields other = bind_fields();
  other.policy.allow_suid = true;
  EXPECT_NE(*ShareSpec::make(bind_fields()), *ShareSpec::make(other));
  other = bind_fields();
  other.sources = {"/srv/other"};
  EXPECT_NE(*ShareSpec::make(bind_fields()), *ShareSpec::make(other));
  other = bind_fields();
  other.name = "other";
  EXPECT_NE(*ShareSpec::make(bind_fields()), *ShareSpec::make(other));
}

TEST(ShareSpec, KeepsWhatIsAlikeInOneCopy) {
  const ShareSpec first = *ShareSpec::make(bind_fields());
  ShareFields fields = bind_fields();
  fields.name = "second";
  fields.origin_line = 17;
  const ShareSpec second = *ShareSpec::make(fields, &first);
  EXPECT_EQ(&second.policy(), &first.policy());
  EXPECT_EQ(second.origin(), "/etc/berth/berth.toml:17");
  fields.policy.read_only = true;
  const ShareSpec third = *ShareSpec::make(fields, &first);
  EXPECT_NE(&third.policy(), &first.policy());
  EXPECT_TRUE(third.policy().read_only);
  EXPECT_FALSE(first.policy().read_only);
}

TEST(ShareSpec, TellsEveryFaultWithTheName) {
  ShareFields fields = bind_fields();
  fields.type = "BIND";
  fields.policy.mount_timeout = std::chrono::milliseconds(0);
  const Result<ShareSpec> spec = ShareSpec::make(fields);
  ASSERT_FALSE(spec);
  EXPECT_EQ(spec.error().code(), EINVAL);
  const std::string story(spec.error().story());
  EXPECT_THAT(story, HasSubstr("share \"media\""));
  EXPECT_THAT(story, HasSubstr("type: \"BIND\" is not a type"));
  EXPECT_THAT(story, HasSubstr("mount_timeout: must be longer than 0"));
}

TEST(ShareSpec, RefusesTypesThatCouldBeOptions) {
  for (const char* type : {"-t", "a b", "ext4,xfs", "EXT4", "../x", "a/b", "a\nb"}) {
    ShareFields fields = bind_fields();
    fields.type = type;
    EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("type: "))) << type;
  }
}

TEST(ShareSpec, WantsOneAbsolutePathForLocalDirectories) {
  for (const char* type : {"bind", "dir"}) {
    ShareFields fields = bind_fields();
    fields.type = type;
    fields.sources = {};
    EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("source: is missing")));
    fields.sources = {"srv"};
    EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("source: \"srv\" is not absolute")));
    fields.sources = {"/a", "/b"};
    EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("no replicas")));
  }
}

TEST(ShareSpec, RefusesSourcesThatCouldBeOptions) {
  ShareFields fields = bind_fields();
  fields.type = "nfs";
  fields.sources = {"nfs1:/media", "-o"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("read as an option")));
  fields.sources = {""};
  EXPECT_THAT(faults_of(fields), ElementsAre("source: is empty"));
  fields.sources = {"a\nb"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("control character")));
  fields.sources = {std::string("a\0b", 3)};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("control character")));
  fields.sources = {std::string(4096, 'a')};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("longer than 4095")));
  fields.sources = std::vector<std::string>(65, "nfs1:/media");
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("64 replicas")));
}

TEST(ShareSpec, KnowsWhichTypesNeedASource) {
  ShareFields fields = bind_fields();
  fields.sources = {};
  fields.type = "nfs";
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("source: is missing")));
  for (const char* type : {"tmpfs", "overlay", "fuse.something"}) {
    fields.type = type;
    EXPECT_THAT(faults_of(fields), IsEmpty()) << type;
  }
}

TEST(ShareSpec, RefusesOptionsThatBreakALine) {
  ShareFields fields = bind_fields();
  fields.options = "ro\nsuid";
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("options: ")));
  fields.options = std::string("ro\0suid", 7);
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("options: ")));
  fields.type = "dir";
  fields.options = "ro";
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("nothing is mounted")));
}

TEST(ShareSpec, RefusesOptionsThatNoMountWouldTake) {
  struct Case {
    std::string type, options, told;
  };
  const std::vector<Case> cases{
      {"ext4", "X-mount.owner=1000", "X-mount.owner"},
      {"ext4", "X-mount.group=1000", "X-mount.group"},
      {"ext4", "X-mount.mode=0700", "X-mount.mode"},
      {"ext4", "X-mount.idmap=b:0:100000:65536", "X-mount.idmap"},
      {"ext4", "X-mount.subdir", "wants a directory"},
      {"ext4", "X-mount.new", "not known here"},
      {"nfs", "X-mount.subdir=a", "a type that a program mounts"},
      {"fuse.sshfs", "X-mount.subdir=a", "a type that a program mounts"},
      {"ext4", "x-systemd.requires-mounts-for=/a", "systemd alone orders"},
      {"ext4", "x-systemd.after=a.service", "systemd alone orders"},
      {"ext4", "x-systemd.idle-timeout=1", "idle_timeout"},
      {"ext4", "x-systemd.growfs", "changes no file system"},
      {"ext4", "remount,ro", "changes a mount that exists"},
      {"ext4", "rshared", "private"},
      {"ext4", "ro=recursive", "takes no value"},
      {"ext4", "nosuid=recursive", "takes no value"},
      {"ext4", "loop=/dev/loop3", "a free one is found"},
      {"ext4", "-o ro", "write \"ro\", without \"-o\""},
      {"ext4", "-oro", "write \"ro\", without \"-o\""},
      {"ext4", "-o uid=5", "write \"uid=...\", without \"-o\""},
      {"ext4", "-o ro noatime", "write what follows \"-o\""},
      {"ext4", "-r", "write what follows \"-o\""},
      {"ext4", "ro, noatime", "holds a blank"},
      {"ext4", "ro noatime", "holds a blank"},
      {"ext4", "=x", "has no name"},
      {"ext4", "context=\"a,b", "a quote that does not end"},
      {"overlay", "lowerdir=/a\\", "end with a backslash"},
      {"ext4", "bind", "a share of type \"bind\""},
      {"nfs", "rbind", "a share of type \"bind\""},
      {"bind", "size=1M", "a bind has none of its own"},
      {"bind", "X-mount.subdir=a", "name the directory itself"},
      {"bind", "loop", "for images"},
      {"bind", "offset=1M", "for images"},
      {"command", "vers=3", "belongs into the argv"},
      {"command", "X-mount.subdir=a", "that the kernel mounts"},
      {"command", "loop", "for images"},
  };
  for (const Case& wrong : cases) {
    ShareFields fields = wrong.type == "command" ? command_fields() : bind_fields();
    fields.type = wrong.type;
    fields.options = wrong.options;
    EXPECT_THAT(faults_of(fields), ElementsAre(::testing::AllOf(HasSubstr("options: "), HasSubstr(wrong.told))))
        << wrong.type << " " << wrong.options;
  }
}

TEST(ShareSpec, TakesTheOptionsOfFstab) {
  struct Case {
    std::string type, options;
  };
  const std::vector<Case> cases{
      {"ext4", "defaults,noatime,errors=remount-ro,nofail,x-systemd.automount,X-mount.mkdir=0755,X-fstrim.notrim"},
      {"ext4", "loop,offset=1M,X-mount.subdir=a,users,exec"},
      {"overlay", R"(lowerdir=/ov\,a/l:/b\:c,upperdir=/u,workdir=/w)"},
      {"cifs", "credentials=/etc/my creds,user=alice,group=staff,uid=1000,_netdev"},
      {"nfs", "vers=4.2,ro,hard,x-gvfs-show,comment=the old one"},
      {"fuse.sshfs", "reconnect,IdentityFile=/root/.ssh/id,ssh_command=ssh -F /etc/ssh/berth"},
      {"tmpfs", R"(context="system_u:object_r:tmp_t:s0:c1,c2",size=10M,lazytime,async)"},
      {"bind", "bind,noatime"},
      {"bind", "rbind,ro,nodev"},
      {"command", "ro,noexec"},
  };
  for (const Case& right : cases) {
    ShareFields fields = right.type == "command" ? command_fields() : bind_fields();
    fields.type = right.type;
    fields.options = right.options;
    EXPECT_THAT(faults_of(fields), IsEmpty()) << right.type << " " << right.options;
  }
}

TEST(ShareSpec, HasCommandsOnlyWhereTheyRun) {
  ShareFields fields = bind_fields();
  fields.mount_command = {"sshfs"};
  fields.unmount_command = {"fusermount3"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("mount: only a share of type"), HasSubstr("unmount: only")));
}

TEST(ShareSpec, WantsACommandThatCanWork) {
  EXPECT_THAT(faults_of(command_fields()), IsEmpty());
  ShareFields fields = command_fields();
  fields.mount_command = {};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("mount: is missing")));
  fields.mount_command = {"rclone", "mount"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("{mountpoint}")));
  fields.mount_command = {"", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("not a program")));
  fields.mount_command = {"-x", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("not a program")));
  fields.mount_command = {"./helper", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("relative path")));
  fields.mount_command = {"helper", "{source}", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("there is no source")));
  fields.mount_command = {"helper", std::string("a\0b", 3), "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("NUL")));
  fields.mount_command = {"helper", "--at={mountpoint}"};
  EXPECT_THAT(faults_of(fields), IsEmpty());
}

TEST(ShareSpec, RefusesNegativeTimesAndWideModes) {
  ShareFields fields = bind_fields();
  fields.policy.idle_timeout = std::chrono::milliseconds(-1);
  fields.policy.mode = 0100755;
  EXPECT_THAT(faults_of(fields), ElementsAre("idle_timeout: must not be negative", HasSubstr("mode: ")));
}

ShareFields template_fields() {
  ShareFields fields = bind_fields();
  fields.name = "home/*";
  fields.type = "nfs";
  fields.sources = {"filer:/home/&", "backup:/h\\&m/&/&"};
  return fields;
}

TEST(ShareTemplate, BecomesAShareForAKey) {
  const ShareSpec pattern = *ShareSpec::make(template_fields());
  EXPECT_TRUE(pattern.is_template());
  const Result<ShareSpec> share = instantiate(pattern, "alice");
  ASSERT_TRUE(share) << share.error().story();
  EXPECT_FALSE(share->is_template());
  EXPECT_EQ(share->name(), "home/alice");
  EXPECT_THAT(share->sources(), ElementsAre("filer:/home/alice", "backup:/h&m/alice/alice"));
  EXPECT_EQ(share->origin(), pattern.origin());
  EXPECT_EQ(&share->policy(), &pattern.policy());
}

TEST(ShareTemplate, MayHoldTheWholeNamespace) {
  ShareFields fields = template_fields();
  fields.name = "*";
  EXPECT_EQ(instantiate(*ShareSpec::make(fields), "alice")->name(), "alice");
}

TEST(ShareTemplate, PutsTheKeyIntoCommands) {
  ShareFields fields = command_fields();
  fields.name = "remote/*";
  fields.mount_command = {"rclone", "mount", "--name=&", "remote:&", "a\\&b", "{mountpoint}"};
  fields.unmount_command = {"helper", "stop", "&"};
  const Result<ShareSpec> share = instantiate(*ShareSpec::make(fields), "alice");
  ASSERT_TRUE(share) << share.error().story();
  EXPECT_THAT(share->mount_command(),
              ElementsAre("rclone", "mount", "--name=alice", "remote:alice", "a&b", "{mountpoint}"));
  EXPECT_THAT(share->unmount_command(), ElementsAre("helper", "stop", "alice"));
}

TEST(ShareTemplate, LeavesAmpersandsOfOtherSharesAlone) {
  ShareFields fields = bind_fields();
  fields.type = "ext4";
  fields.sources = {"/srv/r&b"};
  fields.options = "x=&";
  const Result<ShareSpec> share = ShareSpec::make(fields);
  ASSERT_TRUE(share) << share.error().message();
  EXPECT_THAT(share->sources(), ElementsAre("/srv/r&b"));
  EXPECT_FALSE(instantiate(*share, "alice"));
}

TEST(ShareTemplate, RefusesKeysThatAreMoreThanNames) {
  const ShareSpec pattern = *ShareSpec::make(template_fields());
  for (const std::string& key :
       {std::string(""), std::string("."), std::string(".."), std::string("-o"), std::string("a/b"), std::string("/"),
        std::string("../x"), std::string("a,suid"), std::string("a\nb"), std::string("a\0b", 3), std::string("\x1b[m"),
        std::string("*"), std::string("a*"), std::string("{mountpoint}"), std::string("\xff"), std::string(256, 'a'),
        std::string(100'000, 'a'), std::string(".berth")}) {
    const Result<ShareSpec> share = instantiate(pattern, key);
    ASSERT_FALSE(share) << key;
    EXPECT_TRUE(share.error().code() == EINVAL || share.error().code() == ENAMETOOLONG) << key;
    EXPECT_FALSE(share.error().story().empty()) << key;
  }
  for (const std::string& key : {std::string("alice"), std::string("a-b"), std::string("a b"), std::string("Jürgen"),
                                 std::string("...x"), std::string(255, 'a')}) {
    EXPECT_TRUE(instantiate(pattern, key)) << key;
  }
}

TEST(ShareTemplate, RefusesKeysThatAShellActsOnInCommands) {
  ShareFields fields = command_fields();
  fields.name = "remote/*";
  fields.mount_command = {"ssh", "host", "mount &", "{mountpoint}"};
  const ShareSpec pattern = *ShareSpec::make(fields);
  EXPECT_TRUE(instantiate(pattern, "alice"));
  for (const char* key : {"a b", "a;b", "$(id)", "`id`", "a|b", "a&b", "a>b", "a'b", "a\"b", "a\\b", "~", "a#"}) {
    EXPECT_FALSE(instantiate(pattern, key)) << key;
  }
}

TEST(ShareTemplate, RefusesPlacesWhereAKeyWouldBeMoreThanAnArgument) {
  ShareFields fields = command_fields();
  fields.name = "remote/*";
  fields.mount_command = {"/opt/&", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("choose the program")));
  fields.mount_command = {"helper", "-&", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("choose an option")));
  fields.mount_command = {"helper", "--&=x", "{mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("choose an option")));
  fields.mount_command = {"sh", "-c", "& {mountpoint}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("part of a script")));
  fields.mount_command = {"sh", "-c", "mount \"$1\" {mountpoint}", "sh", "&"};
  EXPECT_THAT(faults_of(fields), IsEmpty());
  fields = template_fields();
  for (const char* options : {"&", "ro,&=x", "a&=x", "x=1,&", "${user}", "ro,${home}=x"}) {
    fields.options = options;
    EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("choose an option"))) << options;
  }
  fields.options = "user=&,context=${user}";
  EXPECT_THAT(faults_of(fields), IsEmpty());
  fields.sources = {"filer:/${usr}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("is no variable")));
}

TEST(ShareTemplate, PutsTheKeyIntoValuesOfOptions) {
  ShareFields fields = template_fields();
  fields.type = "cifs";
  fields.options = "ro,credentials=/etc/berth/creds/&";
  const ShareSpec pattern = *ShareSpec::make(fields);
  EXPECT_EQ(instantiate(pattern, "alice")->options(), "ro,credentials=/etc/berth/creds/alice");
  for (const char* key : {"a,suid", "a\"b", "a b", "..", "a:b", "a=b", "a\\b", "a/b", "a'b"}) {
    EXPECT_FALSE(instantiate(pattern, key)) << key;
  }
}

TEST(ShareTemplate, PutsVariablesWhereTheyAreNothingElse) {
  ShareFields fields = bind_fields();
  fields.name = "mine/*";
  fields.sources = {"${home}/\\${x}/&/${user}.${uid}"};
  const ShareSpec pattern = *ShareSpec::make(fields);
  EXPECT_TRUE(needs_values(pattern));
  EXPECT_TRUE(is_for_caller(pattern));
  EXPECT_FALSE(instantiate(pattern, "a")) << "without a caller there is none";
  TemplateValues values{
      .key = "a", .variables = {{"home", "/home/al"}, {"user", "al"}, {"uid", "7"}}, .key_user = {}, .only_user = 7};
  const Result<ShareSpec> share = instantiate(pattern, values);
  ASSERT_TRUE(share) << share.error().message();
  EXPECT_THAT(share->sources(), ElementsAre("/home/al/${x}/a/al.7"));
  EXPECT_THAT(share->policy().allow_users, ElementsAre(7));
  for (const char* home : {"", "home", "/home/../etc", "/home//a", "/a,b", "/a\nb", "/-o/x", "/"}) {
    values.variables["home"] = home;
    EXPECT_FALSE(instantiate(pattern, values)) << home;
  }
  values.variables["home"] = "/home/al";
  for (const char* user : {"", "..", "a/b", "-o", "a,b", "a\nb"}) {
    values.variables["user"] = user;
    EXPECT_FALSE(instantiate(pattern, values)) << user;
  }
}

TEST(ShareTemplate, UserThatTheKeyNamesIsNoUserUntilItIsKnown) {
  ShareFields fields = bind_fields();
  fields.policy.allow_users = {kKeyUser, 5};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("this is no template")));
  fields.name = "home/*";
  const ShareSpec pattern = *ShareSpec::make(fields);
  EXPECT_TRUE(needs_values(pattern));
  EXPECT_FALSE(instantiate(pattern, "alice"));
  const TemplateValues values{.key = "alice", .variables = {}, .key_user = 1001, .only_user = {}};
  EXPECT_THAT(instantiate(pattern, values)->policy().allow_users, ElementsAre(1001, 5));
}

TEST(ShareTemplate, IsCheckedLikeAShare) {
  ShareFields fields = bind_fields();
  fields.name = "home/*";
  fields.sources = {"&"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("not absolute")));
  for (const char* name : {"/*", "../*", "a*", "*/a", "a/**", ".berth/*"}) {
    fields.sources = {"/srv/&"};
    fields.name = name;
    EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("name: "))) << name;
  }
}

TEST(ShareTemplate, RefusesInstancesWhoseNameIsTooLong) {
  ShareFields fields = template_fields();
  fields.name = std::string(255, 'a') + "/" + std::string(255, 'b') + "/" + std::string(255, 'c') + "/d/*";
  const ShareSpec pattern = *ShareSpec::make(fields);
  EXPECT_TRUE(instantiate(pattern, std::string(253, 'k')));
  EXPECT_FALSE(instantiate(pattern, std::string(254, 'k')));
}

TEST(ShareSpec, AutoIsNativeForFileSystemsOfThisHostAlone) {
  const auto wants_native = [](const ShareFields& fields) {
    const Result<ShareSpec> spec = ShareSpec::make(fields);
    EXPECT_TRUE(spec) << spec.error().message();
    return spec && spec->wants_native();
  };
  ShareFields fields = bind_fields();
  EXPECT_TRUE(wants_native(fields));
  for (const char* local : {"ext4", "xfs", "btrfs", "squashfs", "tmpfs", "overlay", "vfat"}) {
    fields.type = local;
    EXPECT_TRUE(wants_native(fields)) << local;
  }
  for (const char* other : {"dir", "nfs", "cifs", "fuse.sshfs", "ceph", "9p", "auto"}) {
    fields.type = other;
    EXPECT_FALSE(wants_native(fields)) << other;
  }
  EXPECT_FALSE(wants_native(command_fields()));
  fields.policy.access = Access::kNative;
  fields.type = "nfs";
  EXPECT_TRUE(wants_native(fields)) << "a share that asks for it gets it";
  fields = bind_fields();
  fields.policy.access = Access::kProxy;
  EXPECT_FALSE(wants_native(fields));
}

TEST(ShareSpec, AutoStaysWithBerthWhereBerthHasSomethingToDo) {
  const auto with = [](auto change) {
    ShareFields fields = bind_fields();
    change(fields);
    return ShareSpec::make(fields)->wants_native();
  };
  EXPECT_FALSE(with([](ShareFields& fields) { fields.policy.allow_users = {1000}; }));
  EXPECT_FALSE(with([](ShareFields& fields) { fields.policy.allow_groups = {100}; }));
  EXPECT_FALSE(with([](ShareFields& fields) { fields.policy.idle_timeout = std::chrono::milliseconds(0); }));
  EXPECT_FALSE(with([](ShareFields& fields) { fields.options = "noatime,rbind"; }));
  EXPECT_TRUE(with([](ShareFields& fields) { fields.policy.read_only = true; })) << "the kernel sees to that";
}

TEST(ShareSpec, RefusesNativeWhereItCannotBe) {
  ShareFields fields = bind_fields();
  fields.policy.access = Access::kNative;
  EXPECT_THAT(faults_of(fields), IsEmpty());
  fields.policy.allow_users = {1000};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("access: \"native\" leads past berth")));
  fields.policy.allow_users = {};
  fields.options = "rbind";
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("access: \"native\" cannot be with the option \"rbind\"")));
  fields.options = "";
  fields.type = "dir";
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("access: nothing is mounted for a share of type \"dir\"")));
}

TEST(ShareSpec, ProgramOfATemplateIsToldTheKeyAsAnArgumentAlone) {
  ShareFields fields;
  fields.name = "home/*";
  const auto with = [&fields](std::vector<std::string> program) {
    fields.program = std::move(program);
    return faults_of(fields);
  };
  EXPECT_THAT(with({"/find", "{key}"}), IsEmpty());
  EXPECT_THAT(with({"sh", "/find", "--", "{key}", "${user}"}), IsEmpty());
  EXPECT_THAT(with({"/find"}), ElementsAre(HasSubstr("no argument is \"{key}\"")));
  EXPECT_THAT(with({"{key}"}), ElementsAre(HasSubstr("choose the program")));
  EXPECT_THAT(with({"/find", "--key={key}"}), ElementsAre(HasSubstr("an argument of its own")));
  EXPECT_THAT(with({"/find", "&", "{key}"}), ElementsAre(HasSubstr("'&'")));
  EXPECT_THAT(with({"sh", "-c", "{key}"}), ElementsAre(HasSubstr("would become a script")));
  EXPECT_THAT(with({"find/x", "{key}"}), ElementsAre(HasSubstr("relative path")));
  EXPECT_THAT(with({"/find", "{key}", "${nonsense}"}), ElementsAre(HasSubstr("no variable")));
  fields.name = "home";
  fields.type = "tmpfs";
  EXPECT_THAT(with({"/find", "{key}"}), ElementsAre(HasSubstr("only a template")));
  fields.name = "home/*";
  fields.policy.lookup_timeout = {};
  EXPECT_THAT(with({"/find", "{key}"}), ElementsAre(HasSubstr("lookup_timeout: must be longer than 0")));
}

TEST(ShareSpec, OnlyATemplateThatCanListIsBrowsed) {
  ShareFields fields = bind_fields();
  fields.policy.browse = true;
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("browse: only a template")));
  fields.name = "home/*";
  fields.sources = {"/srv/&"};
  EXPECT_THAT(faults_of(fields), IsEmpty());
  fields.sources = {"/srv/&/data"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("browse: nothing can be listed")));
  fields.program = {"/find", "{key}"};
  EXPECT_THAT(faults_of(fields), IsEmpty());
  fields.program = {"/find", "{key}", "${user}"};
  EXPECT_THAT(faults_of(fields), ElementsAre(HasSubstr("browse: the list is one for all")));
}

TEST(ShareSpec, WhatChangesIsToldWithoutSecrets) {
  const auto spec_with = [](const std::string& secret, const std::string& variable) {
    return ShareSpec::make(
               {.name = "a",
                .type = "command",
                .mount_command = {"m", "--password", secret, "-H", "Authorization: Token " + secret, "{mountpoint}"},
                .environment = {"LOGIN=" + variable}})
        .value();
  };
  const std::vector<std::string> told =
      mount_changes(spec_with("it's 'old1", "old2'\nold3"), spec_with("it's 'new1", "12345"));
  EXPECT_EQ(told, (std::vector<std::string>{"mount: m --password \"***\" -H \"Authorization:***\" \"{mountpoint}\" -> "
                                            "m --password \"***\" -H \"Authorization:***\" \"{mountpoint}\"",
                                            "environment: \"LOGIN=***\" -> \"LOGIN=***\""}));
}

}  // namespace
}  // namespace berth::manager
