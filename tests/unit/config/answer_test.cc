// What look-up programs print.
#include "src/config/answer.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace berth::config {
namespace {

manager::ShareFields template_fields() {
  manager::ShareFields fields;
  fields.name = "home/alice";
  fields.origin_file = "berth.toml";
  fields.origin_line = 3;
  return fields;
}

Result<manager::ShareFields> read(std::string_view text, manager::ShareFields fields = template_fields()) {
  return read_answer(text, "alice", std::move(fields));
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
  EXPECT_EQ(fault_of("/ filer:/home /usr filer:/usr"),
            "the entry has mounts below its key, and a look-up makes one share");
  EXPECT_NE(fault_of("-fstype=autofs auto.alice"), "none");
  EXPECT_NE(fault_of(std::string("source = \"\0\"", 13)), "none");
}

}  // namespace
}  // namespace berth::config
