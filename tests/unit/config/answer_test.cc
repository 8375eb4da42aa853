// What look-up programs print.
#include "src/config/answer.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "manager/model/share_template.h"

namespace berth::config {
namespace {

manager::ShareFields template_fields() {
  manager::ShareFields fields;
  fields.name = "home/alice";
  fields.origin_file = "berth.toml";
  fields.origin_line = 3;
  return fields;
}

Result<manager::LookUpAnswer> read_all(std::string_view text, manager::ShareFields fields = template_fields()) {
  return read_answer(text, "alice", std::move(fields));
}

Result<manager::ShareFields> read(std::string_view text, manager::ShareFields fields = template_fields()) {
  Result<manager::LookUpAnswer> answer = read_all(text, std::move(fields));
  if (!answer) return fail(answer.error());
  EXPECT_EQ(answer->shares.size(), 1U);
  return answer->shares.front();
}

/// "NAME = TYPE SOURCES" of each, and the notes.
std::vector<std::string> told(std::string_view text, manager::ShareFields fields = template_fields()) {
  const Result<manager::LookUpAnswer> answer = read_all(text, std::move(fields));
  if (!answer) return {std::string(answer.error().story())};
  std::vector<std::string> lines;
  for (const manager::ShareFields& share : answer->shares) {
    std::string line = share.name + " = " + share.type;
    for (const std::string& source : share.sources) line += " " + source;
    lines.push_back(line + (share.options.empty() ? "" : " -o " + share.options));
  }
  lines.insert(lines.end(), answer->notes.begin(), answer->notes.end());
  return lines;
}

std::string fault_of(std::string_view text, manager::ShareFields fields = template_fields()) {
  const Result<manager::ShareFields> read_fields = read(text, std::move(fields));
  return read_fields ? "none" : std::string(read_fields.error().story());
}

TEST(Answer, TomlStandsAboveTheTemplate) {
  manager::ShareFields fields = template_fields();
  fields.type = "nfs";
  fields.options = "vers=4.2";
  const auto share = read("\n# of alice\nsource = \"filer:/home/alice\"\nread_only = true\n", fields);
  ASSERT_TRUE(share) << share.error().message();
  EXPECT_EQ(share->type, "nfs");
  EXPECT_EQ(share->sources, (std::vector<std::string>{"filer:/home/alice"}));
  EXPECT_EQ(share->options, "vers=4.2");
  EXPECT_TRUE(share->policy.read_only);
  EXPECT_EQ(share->origin_line, 3U);
}

TEST(Answer, EntryOfAMapIsReadAsOne) {
  const auto share = read("-fstype=nfs,ro,soft filer1,filer2:/home/&\n");
  ASSERT_TRUE(share) << share.error().message();
  EXPECT_EQ(share->name, "home/alice");
  EXPECT_EQ(share->type, "nfs");
  EXPECT_EQ(share->sources, (std::vector<std::string>{"filer1:/home/alice", "filer2:/home/alice"}));
  EXPECT_EQ(share->options, "soft");
  EXPECT_TRUE(share->policy.read_only);
  // Without a server it is this host's.
  const auto local = read(":/srv/homes/alice");
  ASSERT_TRUE(local) << local.error().message();
  EXPECT_EQ(local->type, "bind");
  EXPECT_EQ(local->sources, (std::vector<std::string>{"/srv/homes/alice"}));
  // The template's options and type come first.
  manager::ShareFields fields = template_fields();
  fields.type = "cifs";
  fields.options = "vers=3.1.1";
  const auto smb = read("-sec=krb5 ://nas/alice", fields);
  ASSERT_TRUE(smb) << smb.error().message();
  EXPECT_EQ(smb->type, "cifs");
  EXPECT_EQ(smb->options, "vers=3.1.1,sec=krb5");
  EXPECT_EQ(smb->sources, (std::vector<std::string>{"//nas/alice"}));
}

/// A user that asks. `values`: by the names in "${NAME}".
manager::FindCaller caller(uid_t number, std::map<std::string, std::string, std::less<>> values) {
  return [number, values = std::move(values)] {
    return manager::TemplateValues{.key = {}, .variables = values, .key_user = {}, .only_user = number};
  };
}

TEST(Answer, EntryWithVariablesOfTheUserThatAsksIsForThatUserAlone) {
  manager::ShareFields fields = template_fields();
  fields.policy.allow_users = {2, 3};
  fields.policy.allow_groups = {7};
  const manager::FindCaller bin = caller(2, {{"uid", "2"}, {"gid", "5"}, {"user", "bin"}, {"home", "/home/bin"}});
  // As /etc/auto.smb of Debian prints it.
  const auto smb = read_answer(
      "-fstype=cifs,uid=$UID,gid=${GID} \\\n\t \"/c$\" \"://nas/c$\" \\\n\t \"/d\" \"://nas/d\"\n", "nas", fields, bin);
  ASSERT_TRUE(smb) << smb.error().message();
  ASSERT_EQ(smb->shares.size(), 2U);
  for (const manager::ShareFields& share : smb->shares) {
    EXPECT_EQ(share.options, "uid=2,gid=5");
    EXPECT_EQ(share.policy.allow_users, (std::vector<uid_t>{2}));
    EXPECT_TRUE(share.policy.allow_groups.empty());
  }
  EXPECT_EQ(smb->shares.front().sources.front(), "//nas/c$");
  const auto homes = read_answer("filer:/srv$HOME/$USER", "nas", fields, bin);
  ASSERT_TRUE(homes && homes->shares.size() == 1);
  EXPECT_EQ(homes->shares.front().sources.front(), "filer:/srv/home/bin/bin");
  // Without them it is for all.
  const auto plain = read_answer("filer:/x", "nas", fields, [] {
    ADD_FAILURE() << "the user database is asked";
    return manager::TemplateValues{};
  });
  ASSERT_TRUE(plain && plain->shares.size() == 1);
  EXPECT_EQ(plain->shares.front().policy.allow_users, (std::vector<uid_t>{2, 3}));
}

TEST(Answer, ValueOfAUserThatMeansMoreThanANameIsRefusedToThatUser) {
  for (const std::string value : {"a,suid", "../x", "a/b", "-x", "a b", "$(id)", "a:b", "a=b", "", ".", "a\nb"}) {
    for (const std::string entry : {"-fstype=tmpfs,x=$USER :x", "filer:/homes/$USER", "filer:/homes/${HOME}"}) {
      const auto answer =
          read_answer(entry, "k", template_fields(), caller(2, {{"user", value}, {"home", "/home/" + value + "/y"}}));
      ASSERT_TRUE(answer) << answer.error().message();
      if (value == "a/b" && entry.ends_with("{HOME}")) continue;  // a path, as it is of a home
      EXPECT_TRUE(answer->shares.empty()) << value << " in " << entry;
      EXPECT_NE(answer->refused, "") << value << " in " << entry;
    }
  }
  const auto unknown = read_answer("-x=$GID :/x", "k", template_fields(), caller(4711, {{"uid", "4711"}}));
  ASSERT_TRUE(unknown) << unknown.error().message();
  EXPECT_EQ(unknown->refused, "the user that asks has no \"${gid}\"");
}

using Lines = std::vector<std::string>;

TEST(Answer, EntryWithOffsetsIsAShareForEach) {
  EXPECT_EQ(told("-soft /usr -ro filer:/usr /src/linux filer2:/src\n"),
            (Lines{"home/alice/src/linux = nfs filer2:/src -o soft", "home/alice/usr = nfs filer:/usr -o soft"}));
  // As /etc/auto.net of Debian prints it.
  EXPECT_EQ(told("-fstype=nfs,hard,nodev \\\n\t\"/srv/a b\" \"filer:/srv/a b\" \\\n\t\"/srv/c\" \"filer:/srv/c\"\n"),
            (Lines{"home/alice/srv/a b = nfs filer:/srv/a b -o hard", "home/alice/srv/c = nfs filer:/srv/c -o hard"}));
}

TEST(Answer, OfMountsWithinOneAnotherTheOuterOneIsThereWhereItShowsTheOthers) {
  EXPECT_EQ(told("/ filer:/root /usr filer:/usr"),
            (Lines{"the mount at \"/usr\" lies within the one at \"/\", and a share has no other one within it; a key "
                   "of its own, elsewhere, can have it"}));
  EXPECT_EQ(told("/a filer:/a /a/b filer:/a/b /a-b filer:/c"),
            (Lines{"home/alice/a = nfs filer:/a -o vers=4", "home/alice/a-b = nfs filer:/c",
                   "\"home/alice/a\": what the server exports within \"/a\" is seen through it, and so NFS 4 alone is "
                   "asked for"}));
}

TEST(Answer, ReplicasOfAnEntryHaveTheirWeightsAndPaths) {
  const auto share = read("a(5),b(1):/x c:/y");
  ASSERT_TRUE(share) << share.error().message();
  EXPECT_EQ(share->sources, (Lines{"c:/y", "b:/x", "a:/x"}));
  EXPECT_EQ(share->policy.weights, (std::vector<std::uint32_t>{0, 1, 5}));
}

TEST(Answer, OptionThatIsNotCarriedOverIsToldWithoutItsSecret) {
  EXPECT_EQ(
      told("-soft,use-weight-only,bg filer:/x"),
      (Lines{"home/alice = nfs filer:/x -o soft",
             "\"home/alice\": the option \"use-weight-only\": the time of an answer counts as well, once more for each "
             "weight"}));
  for (const std::string& line : told("-fstype=bind,password=geheim,X-y=1 :/srv/x")) {
    EXPECT_EQ(line.find("geheim"), std::string::npos) << line;
  }
}

TEST(Answer, ExportsOfAHostAreSharesBelowItsName) {
  manager::ShareFields hosts = template_fields();
  hosts.type = manager::kHostsType;
  hosts.options = "soft";
  EXPECT_EQ(told("/srv/data       10.0.0.0/24,client1\n/srv/with blank (everyone)\n", hosts),
            (Lines{"home/alice/srv/data = nfs alice:/srv/data -o soft",
                   "home/alice/srv/with blank = nfs alice:/srv/with blank -o soft"}));
  EXPECT_EQ(told("/ *\n", hosts), (Lines{"home/alice = nfs alice:/ -o soft"}));
  for (const char* none : {"", "\n", "Export list for alice:\n", "relative *\n"}) {
    const auto answer = read_all(none, hosts);
    ASSERT_FALSE(answer) << none;
    EXPECT_EQ(answer.error().code(), ENOENT) << none;
  }
}

TEST(Answer, ExportWithinAnotherIsSeenThroughThatByNfs4AndOtherwiseThereItself) {
  manager::ShareFields hosts = template_fields();
  hosts.name = "net/h";
  hosts.type = manager::kHostsType;
  const std::string text = "/tank/home/a 10.0.0.0/8\n/tank-2 *\n/tank *\n/tank/home 10.0.0.0/8\n/tank *\n";
  const Lines outer{
      "net/h/tank = nfs alice:/tank -o vers=4", "net/h/tank-2 = nfs alice:/tank-2",
      "\"net/h/tank\": what the server exports within \"/tank\" is seen through it, and so NFS 4 alone is "
      "asked for"};
  EXPECT_EQ(told(text, hosts), outer);
  hosts.options = "nfsvers=4.1";
  EXPECT_EQ(told(text, hosts),
            (Lines{"net/h/tank = nfs alice:/tank -o nfsvers=4.1", "net/h/tank-2 = nfs alice:/tank-2 -o nfsvers=4.1",
                   "\"net/h/tank\": what the server exports within \"/tank\" is seen through it"}));
  // NFS 3 shows an empty directory there.
  for (const std::string version : {"vers=3", "nfsvers=3", "v3", "vers=4,vers=3"}) {
    hosts.options = version;
    EXPECT_EQ(
        told(text, hosts),
        (Lines{"net/h/tank/home/a = nfs alice:/tank/home/a -o " + version,
               "net/h/tank-2 = nfs alice:/tank-2 -o " + version,
               "\"net/h/tank/home/a\": the export \"/tank\" itself is not there, but those within it are: it does "
               "not show them by NFS before version 4",
               "\"net/h/tank/home/a\": the export \"/tank/home\" itself is not there, but those within it are: it "
               "does not show them by NFS before version 4"}));
  }
  // A client that may not mount the outer one reaches the inner one.
  hosts.options = "";
  EXPECT_EQ(
      told("/srv 10.0.0.0/8\n/srv/pub *\n/ @admins\n", hosts),
      (Lines{"net/h/srv/pub = nfs alice:/srv/pub",
             "\"net/h/srv/pub\": the export \"/\" itself is not there, but those within it are: not all that may "
             "mount them may mount it",
             "\"net/h/srv/pub\": the export \"/srv\" itself is not there, but those within it are: not all that may "
             "mount them may mount it"}));
  EXPECT_EQ(told("/srv a,b\n/srv/pub b\n", hosts).front(), "net/h/srv = nfs alice:/srv -o vers=4");
  EXPECT_EQ(told("/ *\n/srv b\n", hosts).front(), "net/h = nfs alice:/ -o vers=4");
}

TEST(Answer, VariablesOfTheLookUpAreNotThoseOfTheMount) {
  manager::ShareFields fields = template_fields();
  fields.environment = {"LDAPURI=ldap://x"};
  fields.environment_file = "/etc/berth/ldap";
  const auto bound = read("type = \"bind\"\nsource = \"/srv/alice\"", fields);
  ASSERT_TRUE(bound) << bound.error().message();
  EXPECT_TRUE(manager::ShareSpec::make(*bound));
}

TEST(Answer, WhatIsNoShareIsAFault) {
  EXPECT_EQ(fault_of("source = 5"),
            "answer:1: \"source\" in the answer: expected a string or an array of strings such as [\"a\", \"b\"], "
            "found an integer");
  EXPECT_NE(fault_of("sourc = \"x\""), "none");
  EXPECT_NE(fault_of("source = \"x"), "none");
  EXPECT_NE(fault_of("[share.x]\nsource = \"x\""), "none");
  EXPECT_NE(fault_of("program = [\"x\", \"{key}\"]"), "none");
  EXPECT_NE(fault_of("filer:/home filer:/usr -ro"), "none");
  EXPECT_EQ(fault_of("/usr filer:/usr /alice -fstype=autofs auto.alice"),
            "the entry is a map, and a look-up makes shares");
  EXPECT_NE(fault_of("-fstype=autofs auto.alice"), "none");
  EXPECT_NE(fault_of(std::string("source = \"\0\"", 13)), "none");
}

}  // namespace
}  // namespace berth::config
