#include "src/lib/base/relevant_line.h"

#include <gtest/gtest.h>

namespace berth {
namespace {

TEST(TellingLine, IsTheOneThatNamesACause) {
  const auto expect = [](std::string_view output, std::string_view line) {
    EXPECT_EQ(relevant_line(output), line) << output;
  };
  expect("ssh: connect to host nas port 22: Connection refused\nread: Connection reset by peer\n",
         "ssh: connect to host nas port 22: Connection refused");
  expect("bob@nas: Permission denied (publickey,password).\r\nread: Connection reset by peer\n",
         "bob@nas: Permission denied (publickey,password).");
  expect(
      "mount error(13): Permission denied\nRefer to the mount.cifs(8) manual page (e.g. man mount.cifs) and kernel log "
      "messages (dmesg)\n",
      "mount error(13): Permission denied");
  expect(
      "mount: /mnt: wrong fs type, bad option, bad superblock on /dev/sda1, missing codepage or helper program, or "
      "other error.\n"
      "       dmesg(1) may have more information after failed mount system call.\n",
      "mount: /mnt: wrong fs type, bad option, bad superblock on /dev/sda1, missing codepage or helper program, or "
      "other error.");
  expect("mount.nfs: access denied by server while mounting nas:/x\nmount.nfs: mount failed\n",
         "mount.nfs: access denied by server while mounting nas:/x");
  expect(
      "Error: unknown flag: --allow-oter\nUsage:\n  rclone mount remote:path /path [flags]\n  --low-level-error "
      "int\n\n",
      "Error: unknown flag: --allow-oter");
  expect("Warning: Permanently added 'nas' to the list of known hosts.\nHost key verification failed.\nexiting\n",
         "Host key verification failed.");
  expect("starting\nfusermount3: mount failed: Permission denied\n", "fusermount3: mount failed: Permission denied");
  expect("first cannot\nthen cannot\n", "then cannot");
}

TEST(TellingLine, IsTheLastThatSaysAnythingWhereNoneNamesACause) {
  EXPECT_EQ(relevant_line("one\ntwo\n"), "two");
  EXPECT_EQ(relevant_line("one\nread: Connection reset by peer\n"), "one");
  EXPECT_EQ(relevant_line("read: Connection reset by peer\n"), "read: Connection reset by peer");
  EXPECT_EQ(relevant_line("one\n---\n\n"), "one");
  EXPECT_EQ(relevant_line(""), "");
  EXPECT_EQ(relevant_line("\n \n"), "");
}

}  // namespace
}  // namespace berth
