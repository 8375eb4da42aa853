#include "src/lib/base/mount_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cerrno>

namespace berth {
namespace {

using Parameters = std::vector<std::pair<std::string, std::optional<std::string>>>;

MountOptions parse(const std::string& options) {
  const auto result = parse_mount_options(options);
  EXPECT_TRUE(result) << result.error().message();
  return result.value_or(MountOptions());
}

TEST(MountOptions, AttributesAndParametersAreToldApart) {
  const MountOptions options = parse("nosuid,size=10M,nodev,sync,noexec");
  EXPECT_EQ(options.attributes, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC});
  EXPECT_EQ(options.attributes_clear, 0U);
  EXPECT_EQ(options.parameters, (Parameters{{"size", "10M"}, {"sync", std::nullopt}}));
}

TEST(MountOptions, NothingIsNothing) {
  EXPECT_EQ(parse("").parameters, Parameters());
  EXPECT_EQ(parse(",,").parameters, Parameters());
}

TEST(MountOptions, TheLastWordWins) {
  const MountOptions options = parse("nosuid,suid,dev,nodev,ro,rw");
  EXPECT_EQ(options.attributes, std::uint64_t{MOUNT_ATTR_NODEV});
  EXPECT_EQ(options.attributes_clear, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY});
  EXPECT_FALSE(options.read_only);
  EXPECT_TRUE(parse("rw,ro").read_only);
}

TEST(MountOptions, AccessTimesAreOneField) {
  const MountOptions options = parse("noatime,strictatime,nodiratime");
  EXPECT_EQ(options.attributes, std::uint64_t{MOUNT_ATTR_STRICTATIME | MOUNT_ATTR_NODIRATIME});
  EXPECT_EQ(options.attributes_clear, std::uint64_t{MOUNT_ATTR__ATIME}) << "mount_setattr(2) wants all of it";
}

TEST(MountOptions, ReadOnlyIsOfBoth) {
  const MountOptions options = parse("ro");
  EXPECT_TRUE(options.read_only);
  EXPECT_EQ(options.attributes, std::uint64_t{MOUNT_ATTR_RDONLY});
}

TEST(MountOptions, WordsForUserSpaceAreDropped) {
  const MountOptions options =
      parse("defaults,x-systemd.automount,X-mount.mkdir=0755,_netdev,nofail,noauto,x-gvfs-show,comment=hi,silent");
  EXPECT_EQ(options.parameters, Parameters());
  EXPECT_EQ(options.attributes, 0U);
}

TEST(MountOptions, WhatUsersMayMountIsSafeUnlessALaterWordSaysOtherwise) {
  EXPECT_EQ(parse("user").attributes, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC});
  EXPECT_EQ(parse("users,exec").attributes, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV});
  EXPECT_EQ(parse("group").attributes, std::uint64_t{MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV});
}

TEST(MountOptions, CommaAfterABackslashDoesNotSeparate) {
  EXPECT_EQ(parse(R"(lowerdir=/ov\,a/l:/b,upperdir=/u\\,ro)").parameters,
            (Parameters{{"lowerdir", R"(/ov\,a/l:/b)"}, {"upperdir", R"(/u\\)"}}));
}

TEST(MountOptions, PathsOfLayersAreWithoutWhatKeepsThemTogether) {
  EXPECT_THAT(paths_in_option(R"(/ov\,a/l:/b\:c:/d\\)"), ::testing::ElementsAre("/ov,a/l", "/b:c", R"(/d\)"));
  EXPECT_THAT(paths_in_option("/a"), ::testing::ElementsAre("/a"));
}

TEST(MountOptions, SubdirectoryIsRelativeToTheRoot) {
  EXPECT_EQ(parse("X-mount.subdir=/a/b").subdirectory, "a/b");
  EXPECT_EQ(parse("ro").subdirectory, "");
}

TEST(MountOptions, WhatIsAskedForAndNotDoneHereIsRefused) {
  for (const std::string options :
       {"X-mount.owner=1", "X-mount.group=1", "X-mount.mode=0700", "X-mount.idmap=b:0:1:1", "X-mount.new",
        "X-mount.subdir", "x-systemd.requires-mounts-for=/a", "x-systemd.requires=a.service",
        "x-systemd.idle-timeout=1", "context=\"a,ro", "a\\"}) {
    const auto result = parse_mount_options(options);
    ASSERT_FALSE(result) << options;
    EXPECT_EQ(result.error().code(), EINVAL) << options;
  }
}

TEST(MountOptions, LoopAndItsSizes) {
  const MountOptions options = parse("loop,offset=1M,sizelimit=512,ro");
  EXPECT_TRUE(options.loop);
  EXPECT_EQ(options.loop_offset, 1048576U);
  EXPECT_EQ(options.loop_size_limit, 512U);
  EXPECT_EQ(parse("offset=2GiB").loop_offset, std::uint64_t{2} << 30U);
  EXPECT_EQ(options.parameters, Parameters());
}

TEST(MountOptions, RecursiveBind) {
  EXPECT_FALSE(parse("bind").recursive_bind);
  EXPECT_TRUE(parse("rbind").recursive_bind);
}

TEST(MountOptions, QuotesProtectCommas) {
  EXPECT_EQ(parse(R"(context="system_u:object_r:tmp_t:s0:c1,c2",mode=0700)").parameters,
            (Parameters{{"context", "system_u:object_r:tmp_t:s0:c1,c2"}, {"mode", "0700"}}));
}

TEST(MountOptions, AValueMayHoldAnEqualsSignOrBeEmpty) {
  EXPECT_EQ(parse("a=b=c,d=").parameters, (Parameters{{"a", "b=c"}, {"d", ""}}));
}

TEST(MountOptions, WhatCannotBeMeantIsRefused) {
  using namespace std::string_literals;
  for (const std::string& options : {"loop=/dev/loop3"s, "offset=many"s, "offset=1X"s, "sizelimit=-1"s, "offset="s,
                                     "sizelimit=99999999999999999G"s, "remount"s, "move"s, "=x"s, "a\0b"s}) {
    const auto result = parse_mount_options(options);
    ASSERT_FALSE(result) << options;
    EXPECT_EQ(result.error().code(), EINVAL) << options;
    EXPECT_NE(result.error().story(), "") << options;
  }
}

}  // namespace
}  // namespace berth
