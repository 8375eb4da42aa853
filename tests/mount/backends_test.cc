#include <fcntl.h>
#include <sys/mount.h>

#include <cerrno>

#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"
#include "tests/mount/backends_fixture.h"

// Backends that need no program: dir, bind, and the file systems that the kernel mounts by itself.

namespace berth::test {
namespace {

using manager::ShareFields;

TEST_F(BackendsTest, DirShowsTheDirectoryAndMountsNothing) {
  directory("source");
  file("source/hello", "hi");
  const auto share = spec(fields("dir", path("source")));
  EXPECT_FALSE(backend(share).needs_berth());
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->id, 0U);
  EXPECT_EQ(mounted->source, path("source"));
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_EQ(create(*mounted, "new"), 0);
  EXPECT_EQ(mounted_options(), "");
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_FALSE(mounted->root);
}

TEST_F(BackendsTest, ReadOnlyDirRefusesWritesByItself) {
  directory("source");
  file("source/hello", "hi");
  ShareFields described = fields("dir", path("source"));
  described.policy.read_only = true;
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_EQ(create(*mounted, "new"), EROFS);
  EXPECT_EQ(mounted_options(), "");
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, MissingLocalSourceIsHostDownAndSaysWhy) {
  for (const char* type : {"dir", "bind"}) {
    const auto mounted = mount(spec(fields(type, path("missing"))));
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
    EXPECT_NE(mounted.error().output.find("No such file or directory"), std::string::npos) << told(mounted);
    EXPECT_NE(mounted.error().output.find(path("missing")), std::string::npos) << told(mounted);
  }
}

TEST_F(BackendsTest, FileAsSourceOfADirectoryIsRefused) {
  file("plain", "text");
  for (const char* type : {"dir", "bind"}) {
    const auto mounted = mount(spec(fields(type, path("plain"))));
    ASSERT_FALSE(mounted);
    EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
    EXPECT_NE(mounted.error().output.find("is not a directory"), std::string::npos) << told(mounted);
  }
}

TEST_F(BackendsTest, BindIsMountedUnderThePolicyAndUnmounted) {
  directory("source");
  file("source/hello", "hi");
  const auto share = spec(fields("bind", path("source")));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_EQ(create(*mounted, "new"), 0);
  EXPECT_TRUE(has_option(mounted_options(), "nosuid"));
  EXPECT_TRUE(has_option(mounted_options(), "nodev"));
  EXPECT_TRUE(has_option(mounted_options(), "rw"));
  const auto id = sys::mount_id(mounted->root.get());
  ASSERT_TRUE(id);
  EXPECT_EQ(mounted->id, *id);
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_FALSE(mounted->root);
  EXPECT_EQ(mounted->id, 0U);
}

TEST_F(BackendsTest, BindIsReadOnlyByPolicyWhateverTheOptionsSay) {
  directory("source");
  ShareFields described = fields("bind", path("source"), "rw,suid,dev,noexec");
  described.policy.read_only = true;
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(create(*mounted, "new"), EROFS);
  for (const char* word : {"ro", "nosuid", "nodev", "noexec"}) {
    EXPECT_TRUE(has_option(mounted_options(), word)) << word << " in " << mounted_options();
  }
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, SuidAndDevicesArePossibleWhereThePolicyAllowsThem) {
  ShareFields described = fields("tmpfs");
  described.policy.allow_suid = true;
  described.policy.allow_devices = true;
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_FALSE(has_option(mounted_options(), "nosuid"));
  EXPECT_FALSE(has_option(mounted_options(), "nodev"));
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, NamesOfAnyBytesAreOnlyNames) {
  berth_ = directory("a berth\nwith \"quotes\", commas\\ and $(touch x)");
  directory("-o source; `with` $spaces");
  file("-o source; `with` $spaces/hello", "hi");
  const auto share = spec(fields("bind", path("-o source; `with` $spaces")));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  {
    const auto found = backend(share).find(share, attempt());
    ASSERT_TRUE(found && *found);
    EXPECT_EQ((*found)->id, mounted->id);
  }
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, FindTellsWhatTheMountTableSays) {
  const auto share = spec(fields("tmpfs", "scratch", "size=1m"));
  auto before = backend(share).find(share, attempt());
  ASSERT_TRUE(before);
  EXPECT_FALSE(before->has_value());
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  auto found = backend(share).find(share, attempt());
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->id, mounted->id);
  EXPECT_EQ((*found)->source, "scratch");
  (*found)->root.reset();
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, BusyMountStaysAsItIs) {
  const auto share = spec(fields("tmpfs"));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  const int number = mounted->root.get();
  const auto id = mounted->id;
  Result<UniqueFd> user = sys::open_at(number, "held", O_CREAT | O_RDWR, 0600);
  ASSERT_TRUE(user);
  const Result<> refused = unmount(share, *mounted);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), EBUSY);
  EXPECT_EQ(mounted->root.get(), number);
  EXPECT_EQ(mounted->id, id);
  const auto now = sys::mount_id(number);
  ASSERT_TRUE(now);
  EXPECT_EQ(*now, id);
  EXPECT_EQ(create(*mounted, "still there"), 0);
  user->reset();
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, ForcedUnmountGivesUpWhatIsInUse) {
  const auto share = spec(fields("tmpfs"));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  Result<UniqueFd> user = sys::open_at(mounted->root.get(), "held", O_CREAT | O_RDWR, 0600);
  ASSERT_TRUE(user);
  EXPECT_TRUE(unmount(share, *mounted, true));
  EXPECT_EQ(mounted_options(), "");
  EXPECT_FALSE(mounted->root);
  EXPECT_EQ(::write(user->get(), "x", 1), 1);
}

TEST_F(BackendsTest, MountThatIsGoneAlreadyCountsAsUnmounted) {
  const auto share = spec(fields("tmpfs"));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  ASSERT_EQ(::umount2(berth_.c_str(), MNT_DETACH), 0);
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_FALSE(mounted->root);
}

TEST_F(BackendsTest, TmpfsTakesItsOptionsAsParameters) {
  const auto share = spec(fields("tmpfs", "", "size=1m,mode=0750,noexec"));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  const auto status = sys::stat_at(mounted->root.get(), "", STATX_MODE);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->stx_mode & 07777U, 0750U);
  EXPECT_TRUE(has_option(mounted_options(), "noexec"));
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, OptionThatTheFileSystemDoesNotKnowFailsInTheKernelsWords) {
  const auto mounted = mount(spec(fields("tmpfs", "", "size=1m,no_such_option=1")));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_NE(mounted.error().output.find("no_such_option"), std::string::npos) << told(mounted);
  EXPECT_TRUE(mounted.error().command.empty());
}

TEST_F(BackendsTest, TypeThatTheKernelDoesNotKnowIsNoDevice) {
  const auto mounted = mount(spec(fields("nosuchfs", "source")));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), ENODEV) << told(mounted);
  EXPECT_NE(mounted.error().output.find("nosuchfs"), std::string::npos) << told(mounted);
}

TEST_F(BackendsTest, OverlayShowsItsLayers) {
  directory("lower");
  directory("upper");
  file("lower/hello", "hi");
  // An overlay wants an upper layer that is no overlay itself.
  ASSERT_EQ(::mount("tmpfs", path("upper").c_str(), "tmpfs", 0, nullptr), 0);
  directory("upper/u");
  directory("upper/w");
  const auto share = spec(fields(
      "overlay", "", "lowerdir=" + path("lower") + ",upperdir=" + path("upper/u") + ",workdir=" + path("upper/w")));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_EQ(create(*mounted, "new"), 0);
  EXPECT_EQ(::access(path("upper/u/new").c_str(), F_OK), 0);
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_EQ(::umount2(path("upper").c_str(), 0), 0);
}

/// Images, each made by its mkfs: file system type, size, command (the image is appended).
struct ImageCase {
  const char* type;
  off_t size;
  std::vector<std::string> make;
};

class ImageTest : public BackendsTest, public testing::WithParamInterface<ImageCase> {};

TEST_P(ImageTest, IsMountedThroughALoopDeviceThatGoesWithIt) {
  if (!has(GetParam().make.front())) GTEST_SKIP() << "needs " << GetParam().make.front();
  if (!sys::kernel_knows_filesystem(GetParam().type)) GTEST_SKIP() << "the kernel has no " << GetParam().type;
  std::vector<std::string> make = GetParam().make;
  make.push_back(image("image", GetParam().size));
  ASSERT_NO_FATAL_FAILURE(run(make));
  const auto share = spec(fields(GetParam().type, path("image")));
  for (int round = 0; round < 2; ++round) {
    auto mounted = mount(share);
    ASSERT_TRUE(mounted) << told(mounted);
    EXPECT_EQ(mounted->source, path("image"));
    EXPECT_EQ(create(*mounted, "new" + std::to_string(round)), 0);
    EXPECT_TRUE(has_option(mounted_options(), "nosuid"));
    EXPECT_TRUE(has_option(mounted_options(), "nodev"));
    EXPECT_TRUE(unmount(share, *mounted));
  }
}

TEST_P(ImageTest, IsNotWrittenWhenTheShareIsReadOnly) {
  if (!has(GetParam().make.front())) GTEST_SKIP() << "needs " << GetParam().make.front();
  if (!sys::kernel_knows_filesystem(GetParam().type)) GTEST_SKIP() << "the kernel has no " << GetParam().type;
  std::vector<std::string> make = GetParam().make;
  make.push_back(image("image", GetParam().size));
  ASSERT_NO_FATAL_FAILURE(run(make));
  ShareFields described = fields(GetParam().type, path("image"), "loop");
  described.policy.read_only = true;
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(create(*mounted, "new"), EROFS);
  EXPECT_TRUE(has_option(mounted_options(), "ro"));
  EXPECT_TRUE(unmount(share, *mounted));
}

INSTANTIATE_TEST_SUITE_P(Types, ImageTest,
                         testing::Values(ImageCase{"ext4", 8 << 20, {"mkfs.ext4", "-q", "-F"}},
                                         ImageCase{"ext2", 4 << 20, {"mkfs.ext2", "-q", "-F"}},
                                         ImageCase{"xfs", 300 << 20, {"mkfs.xfs", "-q"}},
                                         ImageCase{"btrfs", 128 << 20, {"mkfs.btrfs", "-q"}}),
                         [](const auto& chosen) { return std::string(chosen.param.type); });

TEST_F(BackendsTest, SquashfsImageNeedsNoWritableFile) {
  if (!has("mksquashfs")) GTEST_SKIP() << "needs mksquashfs";
  directory("source");
  file("source/hello", "hi");
  ASSERT_NO_FATAL_FAILURE(run({"mksquashfs", path("source"), path("image"), "-quiet", "-no-progress"}));
  // On a read-only file system the image cannot even be opened for writing.
  ASSERT_EQ(::mount(path("source").c_str(), path("source").c_str(), nullptr, MS_BIND, nullptr), 0);
  run({"cp", path("image"), path("source/image")});
  ASSERT_EQ(::mount(nullptr, path("source").c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const auto share = spec(fields("squashfs", path("source/image")));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(read(*mounted, "hello"), "hi");
  EXPECT_TRUE(unmount(share, *mounted));
  EXPECT_EQ(::umount2(path("source").c_str(), 0), 0);
}

TEST_F(BackendsTest, ImageAtAnOffsetInAFile) {
  const std::string inner = image("inner", 4 << 20);
  ASSERT_NO_FATAL_FAILURE(run({"mkfs.ext4", "-q", "-F", inner}));
  const std::string outer = image("outer", 1 << 20);
  ASSERT_NO_FATAL_FAILURE(run({"dd", "if=" + inner, "of=" + outer, "bs=1M", "seek=1", "status=none"}));
  const auto share = spec(fields("ext4", outer, "loop,offset=1M,sizelimit=4M"));
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(create(*mounted, "new"), 0);
  EXPECT_TRUE(unmount(share, *mounted));
  const auto without = mount(spec(fields("ext4", outer)));
  EXPECT_FALSE(without);
}

TEST_F(BackendsTest, ImageWithoutAFileSystemLeavesNoLoopDevice) {
  const auto mounted = mount(spec(fields("ext4", image("image", 1 << 20))));
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), EHOSTDOWN);
  EXPECT_NE(mounted.error().output.find("ext4 on \"" + path("image") + "\""), std::string::npos) << told(mounted);
}

TEST_F(BackendsTest, LoopOnWhatIsNoFileIsExplained) {
  const auto on_directory = mount(spec(fields("ext4", directory("images"), "loop")));
  ASSERT_FALSE(on_directory);
  EXPECT_EQ(on_directory.error().error.code(), EHOSTDOWN);
  EXPECT_NE(on_directory.error().output.find("is not a regular file"), std::string::npos) << told(on_directory);
  const auto on_nothing = mount(spec(fields("ext4", path("missing"), "loop")));
  ASSERT_FALSE(on_nothing);
  EXPECT_EQ(on_nothing.error().error.code(), EHOSTDOWN);
  EXPECT_NE(on_nothing.error().output.find("No such file"), std::string::npos) << told(on_nothing);
}

TEST_F(BackendsTest, ReplicasAreTriedInOrderAndEachIsNamedInTheFailure) {
  const std::string good = image("good", 4 << 20);
  ASSERT_NO_FATAL_FAILURE(run({"mkfs.ext4", "-q", "-F", good}));
  ShareFields described = fields("ext4");
  described.sources = {path("missing one"), image("empty", 1 << 20)};
  const auto failed = mount(spec(described));
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().error.story().find("missing one"), std::string::npos) << told(failed);
  EXPECT_NE(failed.error().error.story().find("empty"), std::string::npos) << told(failed);

  described.sources.push_back(good);
  const auto share = spec(described);
  auto mounted = mount(share);
  ASSERT_TRUE(mounted) << told(mounted);
  EXPECT_EQ(mounted->source, good);
  EXPECT_TRUE(unmount(share, *mounted));
}

TEST_F(BackendsTest, NothingIsTriedWhenTheTimeIsOver) {
  manager::Attempt late = attempt();
  late.deadline = std::chrono::steady_clock::now();
  const auto mounted = mount(spec(fields("tmpfs")), late);
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().error.code(), ETIMEDOUT);
}

}  // namespace
}  // namespace berth::test
