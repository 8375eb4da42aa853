// Entries of autofs maps as shares of a running berth.
#include <gtest/gtest.h>

#include <string>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

TEST(AutofsMaps, EntriesAndWildcardsAreSharesAndAreReadAgainAtAReload) {
  BerthServer server;
  for (const std::string user : {"alice", "bob"}) {
    server.make_directory("homes/" + user);
    ASSERT_TRUE(ok(server.write_file("homes/" + user + "/name", user)));
  }
  const auto write_map = [&server](const std::string& entries) {
    ASSERT_TRUE(ok(server.write_file("auto.home", entries)));
  };
  ASSERT_TRUE(ok(server.write_file("auto.master", "/home auto.home\n/net -hosts\n")));
  write_map("fixed -fstype=bind,ro :" + server.path("homes/alice") + "\n* :" + server.path("homes") + "/&\n");
  ASSERT_TRUE(ok(server.start("[[map]]\nautofs = \"" + server.path("auto.master") + "\"\n")));
  const auto name_in = [&server](const std::string& share) {
    return server.read_file("namespace/home/" + share + "/name").value_or("none");
  };
  EXPECT_EQ(name_in("fixed"), "alice");
  EXPECT_EQ(name_in("bob"), "bob");
  EXPECT_EQ(name_in("carol"), "none");

  write_map("more :" + server.path("homes/bob") + "\nbad\n");
  ASSERT_TRUE(ok(server.write_control("control", "reload")));
  EXPECT_EQ(name_in("more"), "bob");
  EXPECT_EQ(name_in("fixed"), "none");
  EXPECT_EQ(name_in("alice"), "none");
}

}  // namespace
}  // namespace berth::test
