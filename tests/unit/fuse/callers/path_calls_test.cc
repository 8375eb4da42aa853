// What the kernel's stack of a caller tells of its walk along a path.
#include "fuse/callers/path_calls.h"

#include <gtest/gtest.h>

#include <string>

namespace berth::fuse {
namespace {

// Of Linux 6.18, in openat(2).
const std::string kOutside =
    "[<0>] do_sys_openat2+0x90/0x100\n"
    "[<0>] __x64_sys_openat+0x54/0xa0\n"
    "[<0>] do_syscall_64+0x71/0x280\n"
    "[<0>] entry_SYSCALL_64_after_hwframe+0x76/0x7e\n";

std::string open_from(const std::string& caller) {
  return "[<0>] walk_component+0x6c/0x160\n[<0>] link_path_walk+0x2f1/0x3e0\n[<0>] "
         "path_openat.isra.0+0x8d/0x1110\n[<0>] " +
         caller + "\n" + kOutside;
}

const std::string kLooksUp = "[<0>] fuse_lookup_name+0x93/0x1c0 [fuse]\n[<0>] __lookup_slow+0x86/0x130\n";
const std::string kAsksAgain = "[<0>] fuse_dentry_revalidate+0x1a3/0x3a0 [fuse]\n[<0>] lookup_fast+0xd1/0x100\n";

TEST(PathWalkInAStack, IsKnownByThePlaceThatItIsBegunAt) {
  const auto walk = path_walk_in(kLooksUp + open_from("do_filp_open+0xb4/0x160"));
  const auto same =
      path_walk_in(kAsksAgain + "[<0>] open_last_lookups+0x12/0x400\n" + open_from("do_filp_open+0xb4/0x160"));
  const auto again = path_walk_in(kLooksUp + open_from("do_filp_open+0xe0/0x160"));
  ASSERT_TRUE(walk && same && again);
  EXPECT_EQ(walk->begun_at, same->begun_at);
  EXPECT_NE(walk->begun_at, again->begun_at);
}

TEST(PathWalkInAStack, TellsWhetherTheKernelHasTheName) {
  const auto looks_up = path_walk_in(kLooksUp + open_from("do_filp_open+0xb4/0x160"));
  const auto asks_again = path_walk_in(kAsksAgain + open_from("do_filp_open+0xb4/0x160"));
  ASSERT_TRUE(looks_up && asks_again);
  EXPECT_FALSE(looks_up->asks_again);
  EXPECT_TRUE(asks_again->asks_again);
}

// mount(2): path_mount() walks nowhere itself.
TEST(PathWalkInAStack, IsBegunWithinTheCallThatHasItsNameFromAPath) {
  const std::string call = "[<0>] path_mount+0x400/0xa00\n[<0>] __x64_sys_mount+0x11b/0x150\n";
  const std::string walk = "[<0>] link_path_walk+0x2f1/0x3e0\n[<0>] path_lookupat+0x3d/0x1a0\n";
  const auto first = path_walk_in(kLooksUp + walk + "[<0>] filename_lookup+0xc6/0x1d0\n" + call);
  const auto again = path_walk_in(kLooksUp + walk + "[<0>] filename_lookup+0x11e/0x1d0\n" + call);
  ASSERT_TRUE(first && again);
  EXPECT_NE(first->begun_at, again->begun_at);
}

TEST(PathWalkInAStack, IsNotThereWhereNoFunctionWalks) {
  EXPECT_FALSE(path_walk_in(""));
  EXPECT_FALSE(path_walk_in("[<0>] hrtimer_nanosleep+0x74/0xf0\n[<0>] path_mount+0x400/0xa00\n"));
  EXPECT_FALSE(path_walk_in("[<0>] 0\nnothing\n\n"));
  EXPECT_FALSE(path_walk_in("[<0>] path_openat+0x8d/0x1110")) << "and nothing outside of it";
}

}  // namespace
}  // namespace berth::fuse
