#include "src/autofs/master.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace berth::autofs {
namespace {

using std::chrono::seconds;

Result<MasterEntry> entry_of(const std::string& text) {
  const Lines lines = read_lines(text, "master");
  if (lines.lines.size() != 1) return fail(EINVAL, "not one line");
  return parse_master_entry(lines.lines.front());
}

std::string error_of(const std::string& text) {
  const Result<MasterEntry> entry = entry_of(text);
  return entry ? "none" : std::string(entry.error().story());
}

TEST(AutofsMasterTest, MountPointAndMap) {
  EXPECT_EQ(entry_of("/home /etc/auto.home").value(), (MasterEntry{"/home", {{"", "", "/etc/auto.home"}}, {}}));
  EXPECT_EQ(entry_of("/home/ file:/etc/auto.home").value(),
            (MasterEntry{"/home", {{"file", "", "/etc/auto.home"}}, {}}));
  EXPECT_EQ(entry_of("/a//b file,sun /m").value(), (MasterEntry{"/a/b", {{"file", "sun", "/m"}}, {}}));
  EXPECT_EQ(entry_of("/a\\ b exec:/m\\ n").value(), (MasterEntry{"/a b", {{"program", "", "/m n"}}, {}}));
  EXPECT_EQ(entry_of("/- auto.direct").value(), (MasterEntry{"/-", {{"", "", "auto.direct"}}, {}}));
  EXPECT_EQ(entry_of("/net -hosts").value(), (MasterEntry{"/net", {{"hosts", "", ""}}, {}}));
  EXPECT_EQ(entry_of("/net -null").value(), (MasterEntry{"/net", {{"null", "", ""}}, {}}));
  EXPECT_EQ(entry_of("/x yp:auto.x").value(), (MasterEntry{"/x", {{"yp", "", "auto.x"}}, {}}));
  EXPECT_EQ(entry_of("/x ldap:ou=x,dc=y").value(), (MasterEntry{"/x", {{"ldap", "", "ou=x,dc=y"}}, {}}));
  EXPECT_EQ(entry_of("/x multi file:/m -ro -- /n").value(),
            (MasterEntry{"/x", {{"file", "", "/m"}, {"", "", "/n"}}, {{"ro"}}}));
}

TEST(AutofsMasterTest, ValuesHaveTheCharactersThatAutomountTakes) {
  EXPECT_EQ(entry_of("/a /m ro,sec=sys:krb5 -sec=krb5i:krb5p context=u:r:t:s0").value().options.mount_options,
            (std::vector<std::string>{"ro", "sec=sys:krb5", "sec=krb5i:krb5p", "context=u:r:t:s0"}));
  EXPECT_EQ(entry_of("/a /m -DX.y-z=1.a-b -DQ=\"a:b\"").value().options.variables,
            (Variables{{"Q", "a:b"}, {"X.y-z", "1.a-b"}}));
  EXPECT_EQ(error_of("/a /m a:b"), "\"a:b\" is no option that automount takes in a master map");
  EXPECT_EQ(error_of("/a /m -DX=a:b"), "\"a:b\" is no value of a variable in a master map");
  EXPECT_EQ(error_of("/a /m -DX="), "\"\" is no value of a variable in a master map");
  EXPECT_EQ(error_of("/a dir:/x"), "\"dir:\" is for an include, \"+dir:/x\"");
}

TEST(AutofsMasterTest, OptionsOfMountAndOfAutomount) {
  const MapOptions options =
      entry_of(
          "/a /m --timeout=60 -ro,fstype=nfs,vers=4.2 soft sec=\"krb5:sys\" nobrowse --mode 0755 -n 5 "
          "-DX=y -D Z=1.2 --no-slashify-colons symlink -strict -v")
          .value()
          .options;
  EXPECT_EQ(options.mount_options, (std::vector<std::string>{"ro", "fstype=nfs", "vers=4.2", "soft", "sec=krb5:sys"}));
  EXPECT_EQ(options.timeout, seconds(60));
  EXPECT_EQ(options.negative_timeout, seconds(5));
  EXPECT_EQ(options.browse, false);
  EXPECT_EQ(options.variables, (Variables{{"X", "y"}, {"Z", "1.2"}}));
  EXPECT_FALSE(options.slashify_colons);
  EXPECT_EQ(options.own, (std::vector<std::string>{"--mode 0755", "symlink", "-strict", "-v"}));
  for (const char* text : {"/a /m -t 60", "/a /m -t60", "/a /m -t=60", "/a /m --timeout 60"}) {
    EXPECT_EQ(entry_of(text).value().options.timeout, seconds(60)) << text;
  }
  EXPECT_EQ(entry_of("/a /m --ghost").value().options.browse, true);
  EXPECT_EQ(entry_of("/a /m -timeo=600").value().options.mount_options, (std::vector<std::string>{"timeo=600"}));
  EXPECT_EQ(entry_of("/a /m -nosuid").value().options.mount_options, (std::vector<std::string>{"nosuid"}));
}

TEST(AutofsMasterTest, WhatAutomountDoesNotTakeIsAnError) {
  EXPECT_EQ(error_of("a /m"), "\"a\" is not an absolute path");
  EXPECT_EQ(error_of("/ /m"), "a map cannot be mounted at \"/\"");
  EXPECT_EQ(error_of("/a/../b /m"), "the mount point \"/a/../b\" holds \"..\"");
  EXPECT_EQ(error_of("/a -xfn"), "\"-xfn\" is no built-in map");
  EXPECT_EQ(error_of("/a :/m"), "\":/m\" is no name of a map");
  EXPECT_EQ(error_of("/a file:"), "no map is named");
  EXPECT_EQ(error_of("/a \"/m\""), "quotes stand in the name of a map; a backslash before a blank keeps it");
  for (const char* option : {"credentials=/etc/x", "gid=$GID", "z=a+b", "#", "--bogus", "1x", "-"}) {
    EXPECT_EQ(error_of("/a /m " + std::string(option)),
              "\"" + std::string(option) + "\" is no option that automount takes in a master map");
  }
  EXPECT_EQ(error_of("/a /m ro,"), "nothing follows a comma");
  EXPECT_EQ(error_of("/a /m ro,,rw"), "\"\" is no option that automount takes in a master map");
  EXPECT_EQ(error_of("/a /m -t x"), "\"-t\" wants a number of seconds, and not \"x\"");
  EXPECT_EQ(error_of("/a /m --timeout"), "\"--timeout\" wants a value");
  EXPECT_EQ(error_of("/a /m -- /n"), "\"--\" separates maps only after \"multi\"");
  EXPECT_EQ(error_of("/a /m -DX"), "\"X\" is not VARIABLE=VALUE");
}

TEST(AutofsMasterTest, Includes) {
  const auto include = [](const std::string& text) { return parse_include(read_lines(text, "m").lines.at(0)); };
  EXPECT_EQ(include("+auto.master").value(), (MapSource{"", "", "auto.master"}));
  EXPECT_EQ(include("+dir:/etc/auto.master.d").value(), (MapSource{"dir", "", "/etc/auto.master.d"}));
  EXPECT_EQ(include("+yp,sun:auto.home").value(), (MapSource{"yp", "sun", "auto.home"}));
  EXPECT_FALSE(include("+dir:x").has_value());
  EXPECT_FALSE(include("+file:").has_value());
}

TEST(AutofsMasterTest, SourcesThatAreNotReadHaveAReason) {
  for (const char* type : {"yp", "nis", "nisplus", "ldap", "ldaps", "sss", "hesiod", "userhome"}) {
    EXPECT_NE(unsupported_reason({type, "", "x"}), "") << type;
  }
  EXPECT_NE(unsupported_reason({"file", "amd", "x"}), "");
  for (const char* type : {"", "file", "program", "hosts", "null", "dir"})
    EXPECT_EQ(unsupported_reason({type, "", "x"}), "") << type;
}

}  // namespace
}  // namespace berth::autofs
