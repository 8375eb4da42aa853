#include "src/sys/mount_table.h"

#include <gtest/gtest.h>
#include <libmount/libmount.h>

#include <cstdio>
#include <memory>

#include "src/sys/file.h"

namespace berth::sys {
namespace {

std::string text_of(const char* text) { return text != nullptr ? text : ""; }

/// What libmount makes of the same text: the reference.
std::vector<MountEntry> parse_with_libmount(std::string mountinfo) {
  const std::unique_ptr<libmnt_table, decltype(&mnt_unref_table)> table(mnt_new_table(), mnt_unref_table);
  const std::unique_ptr<libmnt_iter, decltype(&mnt_free_iter)> iterator(mnt_new_iter(MNT_ITER_FORWARD), mnt_free_iter);
  std::FILE* const stream = ::fmemopen(mountinfo.data(), mountinfo.size(), "r");
  EXPECT_EQ(mnt_table_parse_stream(table.get(), stream, "mountinfo"), 0);
  std::fclose(stream);
  std::vector<MountEntry> entries;
  libmnt_fs* fs = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &fs) == 0) {
    entries.push_back({.id = static_cast<std::uint64_t>(mnt_fs_get_id(fs)),
                       .parent = static_cast<std::uint64_t>(mnt_fs_get_parent_id(fs)),
                       .root = text_of(mnt_fs_get_root(fs)),
                       .target = text_of(mnt_fs_get_target(fs)),
                       .type = text_of(mnt_fs_get_fstype(fs)),
                       .source = text_of(mnt_fs_get_source(fs)),
                       .options = text_of(mnt_fs_get_vfs_options(fs))});
  }
  return entries;
}

void expect_as_libmount(const std::string& mountinfo) {
  const std::vector<MountEntry> ours = parse_mount_table(mountinfo);
  const std::vector<MountEntry> reference = parse_with_libmount(mountinfo);
  ASSERT_EQ(ours.size(), reference.size());
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i].id, reference[i].id);
    EXPECT_EQ(ours[i].parent, reference[i].parent);
    EXPECT_EQ(ours[i].root, reference[i].root);
    EXPECT_EQ(ours[i].target, reference[i].target);
    EXPECT_EQ(ours[i].type, reference[i].type);
    EXPECT_EQ(ours[i].source, reference[i].source);
    EXPECT_EQ(ours[i].options, reference[i].options);
  }
}

TEST(ParseMountTable, AgreesWithLibmount) {
  expect_as_libmount(
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "36 22 98:0 /mnt1 /mnt2 rw,noatime master:1 propagate_from:2 - ext3 /dev/loop0 rw,errors=continue\n"
      "37 22 0:40 / /with\\040space\\012line\\011tab\\134backslash\\043hash rw - fuse.sshfs host:/a\\040b "
      "rw,user_id=0\n"
      "38 22 0:41 /a\\040b /x ro,nosuid,nodev unbindable - tmpfs tmpfs ro,size=4k\n");
}

TEST(ParseMountTable, AgreesWithLibmountOnThisMachine) {
  expect_as_libmount(read_file("/proc/self/mountinfo", 1U << 20U).value());
}

TEST(ParseMountTable, AnEmptySourceIsEmpty) {
  const auto entries = parse_mount_table("36 22 0:40 / /x rw - tmpfs  rw\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].type, "tmpfs");
  EXPECT_EQ(entries[0].source, "");
}

TEST(ParseMountTable, WhatIsNoEscapeStays) {
  const auto entries = parse_mount_table("36 22 0:40 / /a\\04 rw - tmpfs \\400\\08x\\ rw");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].target, "/a\\04");
  EXPECT_EQ(entries[0].source, "\\400\\08x\\");
}

TEST(ParseMountTable, LinesThatAreNoneAreLeftOut) {
  EXPECT_TRUE(parse_mount_table("").empty());
  EXPECT_TRUE(
      parse_mount_table("\n\n \n36 22\n36 22 0:40 / /x rw\n36 22 0:40 / /x rw shared:1 tmpfs none rw\n").empty());
}

}  // namespace
}  // namespace berth::sys
