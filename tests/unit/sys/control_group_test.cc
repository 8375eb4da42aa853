#include "src/lib/sys/control_group.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace berth::sys {
namespace {

TEST(GroupName, IsWhatSystemdEscapeMakes) {
  EXPECT_EQ(group_name("share-", "media"), "share-media");
  EXPECT_EQ(group_name("share-", "home/alice.b_2"), "share-home-alice.b_2");
  EXPECT_EQ(group_name("share-", "a-b c\\"), "share-a\\x2db\\x20c\\x5c");
  EXPECT_EQ(group_name("share-", "ü"), "share-\\xc3\\xbc");
}

/// A file of the kernel, a group of systemd or of berth, a way out, a line of /proc/PID/cgroup.
TEST(GroupName, CannotBeTakenForAnythingElse) {
  for (const std::string text :
       {"", ".", "..", "../daemon", "/", "cgroup.procs", "daemon", "x.service", "\n0::/", "*"}) {
    const std::string name = group_name("share-", text);
    EXPECT_TRUE(name.starts_with("share-")) << name;
    EXPECT_EQ(name.find_first_of("/\n"), std::string::npos) << name;
  }
}

TEST(GroupName, TellsNamesApart) {
  std::set<std::string> names;
  const std::string longest(4095, 'x');
  const std::string hostile(1000, '\\');
  const std::set<std::string> texts{"a/b",   "a-b",         "a\\x2db", "a b",         "a",
                                    longest, longest + "y", hostile,   hostile + "\\"};
  for (const std::string& text : texts) names.insert(group_name("share-", text));
  EXPECT_EQ(names.size(), texts.size());
  for (const std::string& name : names) EXPECT_LE(name.size(), 255U);
}

}  // namespace
}  // namespace berth::sys
