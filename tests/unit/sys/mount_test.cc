#include "src/lib/sys/mount.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "src/lib/sys/file.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/namespaces.h"
#include "src/lib/sys/process.h"
#include "tests/unit/eventually.h"
#include "tests/unit/temporary_directory.h"

namespace berth::sys {
namespace {

using testing::eventually;
using ::testing::HasSubstr;
using testing::patience;

/// The whole program has a mount namespace of its own, so that nothing it does is seen outside or outlives it.
class OwnNamespace : public ::testing::Environment {
 public:
  void SetUp() override {
    if (::geteuid() != 0) return;
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0);
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr), 0);
  }
};
const ::testing::Environment* const kOwnNamespace = ::testing::AddGlobalTestEnvironment(new OwnNamespace);

class Mount : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    target_ = make_directory("target");
  }
  void TearDown() override {
    if (target_.empty()) return;
    while (::umount2(target_.c_str(), MNT_DETACH) == 0) continue;
  }

  std::string make_directory(const std::string& name) {
    EXPECT_TRUE(make_directories(directory_ / name, 0755));
    return directory_ / name;
  }
  void make_file(const std::string& path, const std::string& content) { std::ofstream(path) << content; }

  /// Mounts `type` on target_.
  Result<UniqueFd> mount(const std::string& type, const std::string& source, const std::string& options) {
    const MountOptions parsed = TRY(parse_mount_options(options));
    UniqueFd mount = TRY(make_mount(type, source, parsed));
    TRY_VOID(attach_mount(mount.get(), target_));
    return mount;
  }
  Result<UniqueFd> bind(const std::string& source, const std::string& options) {
    const MountOptions parsed = TRY(parse_mount_options(options));
    UniqueFd mount = TRY(make_bind(source, parsed));
    TRY_VOID(attach_mount(mount.get(), target_));
    return mount;
  }

  std::string make_image(const std::string& name) {
    const std::string image = directory_ / name;
    make_file(image, "");
    std::filesystem::resize_file(image, 16UL << 20U);
    const auto made = run({"mkfs.ext4", "-q", "-F", image}, patience());
    EXPECT_TRUE(made && made->status.success()) << (made ? made->output : made.error().message());
    return image;
  }
  static bool loop_is_free(const std::string& path) {
    const UniqueFd device(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    loop_info64 status{};
    return ::ioctl(device.get(), LOOP_GET_STATUS64, &status) != 0 && errno == ENXIO;
  }

  testing::TemporaryDirectory directory_;
  std::string target_;
};

TEST_F(Mount, ATmpfsGetsItsOptions) {
  const auto mounted = mount("tmpfs", "shares", "size=1M,nr_inodes=77,mode=0711,nosuid,nodev,noatime");
  ASSERT_TRUE(mounted) << mounted.error().message();
  struct statvfs found {};
  ASSERT_EQ(::statvfs(target_.c_str(), &found), 0);
  EXPECT_EQ(found.f_blocks * found.f_frsize, 1048576U);
  EXPECT_EQ(found.f_files, 77U);
  EXPECT_EQ(found.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC | ST_RDONLY), std::uint64_t{ST_NOSUID | ST_NODEV});
  EXPECT_TRUE((found.f_flag & ST_NOATIME) != 0);
  EXPECT_EQ(stat_at(AT_FDCWD, target_.c_str(), STATX_MODE)->stx_mode & 07777U, 0711U);
  EXPECT_EQ(find_mount(target_).value()->source, "shares");
}

TEST_F(Mount, TheDescriptorNamesTheMountedRoot) {
  const auto mounted = mount("tmpfs", "shares", "");
  ASSERT_TRUE(mounted);
  make_file(target_ + "/file", "x");
  EXPECT_TRUE(stat_at(mounted->get(), "file", STATX_TYPE));
  EXPECT_EQ(mount_id(mounted->get()).value(), find_mount(target_).value()->id);
}

TEST_F(Mount, WithoutAttachmentItGoesWithItsDescriptor) {
  const auto before = read_mount_table().value().size();
  { ASSERT_TRUE(make_mount("tmpfs", "shares", {})); }
  EXPECT_EQ(read_mount_table().value().size(), before);
  EXPECT_FALSE(is_mountpoint(target_).value());
}

TEST_F(Mount, TheKernelsWordsAreInTheStory) {
  const auto unknown_option = mount("tmpfs", "shares", "no_such_option=1");
  ASSERT_FALSE(unknown_option);
  EXPECT_EQ(unknown_option.error().code(), EINVAL);
  EXPECT_THAT(unknown_option.error().message(), HasSubstr(R"("no_such_option=1": tmpfs: Unknown parameter)"));
  const auto unknown_type = mount("no_such_fs", "x", "");
  ASSERT_FALSE(unknown_type);
  EXPECT_EQ(unknown_type.error().code(), ENODEV);
  EXPECT_THAT(unknown_type.error().message(), HasSubstr("no_such_fs"));
  const auto not_a_device = mount("ext4", directory_ / "none", "");
  ASSERT_FALSE(not_a_device);
  EXPECT_EQ(not_a_device.error().code(), ENOENT);
  EXPECT_THAT(not_a_device.error().message(), HasSubstr(directory_ / "none"));
}

TEST_F(Mount, AValueTooLongForTheKernelIsSaidSo) {
  const auto result = mount("tmpfs", "shares", "mpol=" + std::string(300, 'x'));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), E2BIG);
}

TEST_F(Mount, ATargetThatIsNotThereIsNamed) {
  const auto mounted = make_mount("tmpfs", "shares", {});
  ASSERT_TRUE(mounted);
  const auto result = attach_mount(mounted->get(), directory_ / "none");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ENOENT);
  EXPECT_THAT(result.error().message(), HasSubstr(directory_ / "none"));
}

TEST_F(Mount, AnImageIsMountedOnALoopDeviceThatFreesItself) {
  auto loop = attach_loop(make_image("image"), false, 0, 0);
  ASSERT_TRUE(loop) << loop.error().message();
  ASSERT_TRUE(mount("ext4", loop->path, "nosuid"));
  loop->device.reset();
  make_file(target_ + "/file", "kept");
  ASSERT_TRUE(unmount(target_, 0));
  EXPECT_TRUE(eventually([&] { return loop_is_free(loop->path); }));

  loop = attach_loop(directory_ / "image", true, 0, 0);
  ASSERT_TRUE(loop);
  ASSERT_TRUE(mount("ext4", loop->path, "ro"));
  loop->device.reset();
  EXPECT_EQ(read_file(target_ + "/file", 10).value(), "kept");
  EXPECT_EQ(open_at(AT_FDCWD, (target_ + "/new").c_str(), O_CREAT | O_WRONLY, 0600).error().code(), EROFS);
}

TEST_F(Mount, AnImageMayBeginLater) {
  const std::string image = make_image("image");
  const std::string whole = read_file(image, 32UL << 20U).value();
  make_file(directory_ / "disk", std::string(1048576, 'p') + whole);
  const auto options = parse_mount_options("loop,offset=1M,sizelimit=16M").value();
  const auto loop = attach_loop(directory_ / "disk", false, options.loop_offset, options.loop_size_limit);
  ASSERT_TRUE(loop);
  EXPECT_TRUE(mount("ext4", loop->path, ""));
}

TEST_F(Mount, ImageThatIsOnALoopDeviceIsNotPutOnASecondOne) {
  const auto loop = attach_loop(make_image("image"), false, 0, 0);
  ASSERT_TRUE(loop) << loop.error().message();
  const auto again = attach_loop(directory_ / "image", false, 0, 0);
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_EQ(again->path, loop->path);
  const auto said_otherwise =
      attach_loop(directory_ / "image", false, 0, std::filesystem::file_size(directory_ / "image"));
  ASSERT_TRUE(said_otherwise) << said_otherwise.error().message();
  EXPECT_EQ(said_otherwise->path, loop->path);
}

TEST_F(Mount, PartsOfAnImageThatOverlapAreNotOnTwoDevicesOfWhichOneWrites) {
  constexpr std::uint64_t kMega = 1 << 20;
  make_image("image");
  const auto attach = [&](bool read_only, std::uint64_t offset, std::uint64_t limit) {
    return attach_loop(directory_ / "image", read_only, offset, limit);
  };
  const auto first = attach(false, 0, kMega);
  ASSERT_TRUE(first) << first.error().message();
  const auto beside = attach(false, kMega, kMega);
  ASSERT_TRUE(beside) << beside.error().message();
  EXPECT_NE(beside->path, first->path);
  for (const bool read_only : {false, true}) {
    const auto whole = attach(read_only, 0, 0);
    ASSERT_FALSE(whole);
    EXPECT_EQ(whole.error().code(), EBUSY);
    EXPECT_THAT(whole.error().message(), HasSubstr("sizelimit"));
    EXPECT_FALSE(attach(read_only, kMega / 2, kMega));
  }
  const auto read = attach(true, 2 * kMega, kMega);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_TRUE(attach(true, 2 * kMega, kMega / 2)) << "neither writes";
  EXPECT_FALSE(attach(false, 2 * kMega, kMega / 2));
}

TEST_F(Mount, ImageOnAReadOnlyLoopDeviceIsNotWrittenTo) {
  const auto loop = attach_loop(make_image("image"), true, 0, 0);
  ASSERT_TRUE(loop) << loop.error().message();
  const auto writable = attach_loop(directory_ / "image", false, 0, 0);
  ASSERT_FALSE(writable);
  EXPECT_EQ(writable.error().code(), EBUSY);
}

TEST_F(Mount, ALoopDeviceThatNobodyUsesIsFreed) {
  auto loop = attach_loop(make_image("image"), false, 0, 0);
  ASSERT_TRUE(loop);
  EXPECT_FALSE(loop_is_free(loop->path));
  loop->device.reset();
  EXPECT_TRUE(eventually([&] { return loop_is_free(loop->path); }));
}

TEST_F(Mount, ManyLoopDevicesAtOnce) {
  std::vector<std::thread> threads;
  std::array<Result<LoopDevice>, 8> loops;
  for (Result<LoopDevice>& loop : loops) {
    threads.emplace_back([&loop, image = make_image("image" + std::to_string(threads.size()))] {
      loop = attach_loop(image, true, 0, 0);
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<std::string> paths;
  for (const Result<LoopDevice>& loop : loops) {
    ASSERT_TRUE(loop) << loop.error().message();
    paths.push_back(loop->path);
  }
  std::sort(paths.begin(), paths.end());
  EXPECT_EQ(std::adjacent_find(paths.begin(), paths.end()), paths.end());
}

TEST_F(Mount, OneImageAtOnceIsOneLoopDevice) {
  const std::string image = make_image("image");
  std::vector<std::thread> threads;
  std::array<Result<LoopDevice>, 8> loops;
  for (Result<LoopDevice>& loop : loops) threads.emplace_back([&] { loop = attach_loop(image, false, 0, 0); });
  for (std::thread& thread : threads) thread.join();
  for (const Result<LoopDevice>& loop : loops) {
    ASSERT_TRUE(loop) << loop.error().message();
    EXPECT_EQ(loop->path, loops.front()->path);
  }
}

TEST_F(Mount, AMissingImageIsNamed) {
  const auto loop = attach_loop(directory_ / "none", false, 0, 0);
  ASSERT_FALSE(loop);
  EXPECT_THAT(loop.error().message(), HasSubstr(directory_ / "none"));
}

TEST_F(Mount, ABindShowsTheDirectoryWithItsOwnAttributes) {
  const std::string source = make_directory("source");
  make_file(source + "/file", "x");
  ASSERT_TRUE(bind(source, "ro,nosuid"));
  EXPECT_EQ(read_file(target_ + "/file", 10).value(), "x");
  EXPECT_EQ(open_at(AT_FDCWD, (target_ + "/file").c_str(), O_WRONLY).error().code(), EROFS);
  EXPECT_TRUE(open_at(AT_FDCWD, (source + "/file").c_str(), O_WRONLY)) << "the source stays writable";
  EXPECT_EQ(bind(directory_ / "none", "").error().code(), ENOENT);
}

TEST_F(Mount, ABindTakesMountsBelowOnlyWhenAsked) {
  const std::string source = make_directory("source");
  const std::string below = make_directory("source/below");
  ASSERT_EQ(::mount("tmpfs", below.c_str(), "tmpfs", 0, nullptr), 0);
  make_file(below + "/file", "x");
  ASSERT_TRUE(bind(source, "bind"));
  EXPECT_FALSE(std::filesystem::exists(target_ + "/below/file"));
  ASSERT_TRUE(bind(source, "rbind,ro"));
  EXPECT_TRUE(std::filesystem::exists(target_ + "/below/file"));
  EXPECT_EQ(open_at(AT_FDCWD, (target_ + "/below/file").c_str(), O_WRONLY).error().code(), EROFS);
  ASSERT_EQ(::umount2(below.c_str(), 0), 0);
}

TEST_F(Mount, WhatIsMountedBelowTheSourceLaterDoesNotArrive) {
  const std::string source = make_directory("source");
  ASSERT_EQ(::mount("tmpfs", source.c_str(), "tmpfs", 0, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, source.c_str(), nullptr, MS_SHARED, nullptr), 0);
  const std::string below = make_directory("source/below");
  ASSERT_TRUE(bind(source, ""));
  ASSERT_EQ(::mount("tmpfs", below.c_str(), "tmpfs", 0, nullptr), 0);
  EXPECT_FALSE(is_mountpoint(target_ + "/below").value());
  EXPECT_TRUE(unmount(target_, 0)) << "nothing keeps it busy";
  ASSERT_EQ(::umount2(source.c_str(), MNT_DETACH), 0);
}

TEST_F(Mount, OverlayTakesMoreLayersThanOneValueHolds) {
  std::string layers;
  for (int i = 0; i < 6; ++i) {
    const std::string layer = make_directory("layer" + std::to_string(i) + std::string(60, 'x'));
    make_file(layer + "/file" + std::to_string(i), "x");
    layers += (i == 0 ? "" : ":") + layer;
  }
  ASSERT_GT(layers.size(), 255U);
  const auto mounted = mount("overlay", "overlay", "lowerdir=" + layers);
  if (!mounted && mounted.error().code() == EINVAL) GTEST_SKIP() << "lowerdir+ needs Linux 6.5";
  ASSERT_TRUE(mounted) << mounted.error().message();
  EXPECT_TRUE(std::filesystem::exists(target_ + "/file0"));
  EXPECT_TRUE(std::filesystem::exists(target_ + "/file5"));
}

TEST_F(Mount, WhatIsInUseStaysMounted) {
  ASSERT_TRUE(mount("tmpfs", "shares", ""));
  make_file(target_ + "/file", "x");
  {
    const auto user = open_at(AT_FDCWD, (target_ + "/file").c_str(), O_RDONLY);
    ASSERT_TRUE(user);
    EXPECT_EQ(unmount(target_, 0).error().code(), EBUSY);
    EXPECT_TRUE(is_mountpoint(target_).value());
  }
  EXPECT_TRUE(unmount(target_, 0));
  EXPECT_EQ(unmount(target_, 0).error().code(), EINVAL) << "nothing is mounted there";
}

TEST_F(Mount, UnmountFollowsNoLink) {
  ASSERT_TRUE(mount("tmpfs", "shares", ""));
  ASSERT_EQ(::symlink(target_.c_str(), (directory_ / "link").c_str()), 0);
  EXPECT_FALSE(unmount(directory_ / "link", 0));
  EXPECT_TRUE(is_mountpoint(target_).value());
}

class MountTable : public Mount {};

TEST_F(MountTable, NamesComeUnescaped) {
  target_ = make_directory("a\nb c\\d\te#\"f\xFF");
  const auto mounted = mount("tmpfs", "source with\nline end", "");
  ASSERT_TRUE(mounted) << mounted.error().message();
  const auto found = find_mount(target_);
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->target, target_);
  EXPECT_EQ((*found)->source, "source with\nline end");
  EXPECT_EQ((*found)->type, "tmpfs");
  EXPECT_EQ((*found)->root, "/");
  EXPECT_THAT((*found)->options, HasSubstr("rw"));
  EXPECT_EQ((*found)->id, mount_id(mounted->get()).value());
}

TEST_F(MountTable, TheTopmostMountCounts) {
  ASSERT_TRUE(mount("tmpfs", "below", ""));
  ASSERT_TRUE(mount("tmpfs", "middle", ""));
  auto top = mount("tmpfs", "top", "");
  ASSERT_TRUE(top);
  EXPECT_EQ(find_mount(target_).value()->source, "top");
  EXPECT_EQ(find_mount(target_).value()->id, mount_id(top->get()).value());
  top->reset();  // a descriptor keeps it busy
  ASSERT_TRUE(unmount(target_, 0));
  EXPECT_EQ(find_mount(target_).value()->source, "middle");
}

TEST_F(MountTable, WhatIsNotMountedIsNotFound) {
  EXPECT_FALSE(find_mount(target_).value());
  ASSERT_TRUE(mount("tmpfs", "shares", ""));
  EXPECT_FALSE(find_mount(target_ + "/below").value());
  EXPECT_FALSE(find_mount(target_.substr(0, target_.size() - 1)).value());
  EXPECT_TRUE(find_mount("/").value());
}

TEST_F(MountTable, AMountpointIsKnownWithoutTheTable) {
  EXPECT_FALSE(is_mountpoint(target_).value());
  EXPECT_FALSE(is_mountpoint(directory_ / "none").value());
  EXPECT_FALSE(is_mountpoint(directory_ / "none/below").value());
  ASSERT_TRUE(mount("tmpfs", "shares", ""));
  EXPECT_TRUE(is_mountpoint(target_).value());
  EXPECT_TRUE(is_mountpoint(target_ + "/").value());
  EXPECT_TRUE(is_mountpoint("/").value());
  EXPECT_TRUE(is_mountpoint("/proc").value());
  make_file(target_ + "/file", "");
  EXPECT_FALSE(is_mountpoint(target_ + "/file").value());
  EXPECT_EQ(is_mountpoint(target_ + "/file/below").error().code(), ENOTDIR);
}

TEST_F(MountTable, TheKernelTellsItsFileSystems) {
  EXPECT_TRUE(kernel_knows_filesystem("tmpfs"));
  EXPECT_TRUE(kernel_knows_filesystem("proc"));
  EXPECT_FALSE(kernel_knows_filesystem("tmp"));
  EXPECT_FALSE(kernel_knows_filesystem("mpfs"));
  EXPECT_FALSE(kernel_knows_filesystem("nodev"));
  EXPECT_FALSE(kernel_knows_filesystem(""));
}

class Namespaces : public Mount {};

TEST_F(Namespaces, MountsGoInButNotOut) {
  ASSERT_TRUE(mount("tmpfs", "outer", ""));
  ASSERT_EQ(::mount(nullptr, target_.c_str(), nullptr, MS_SHARED, nullptr), 0);
  const std::string inner = make_directory("target/inner");
  const std::string later = make_directory("target/later");
  UniqueFd other;
  // On a thread: unshare(2) then concerns that thread alone.
  std::thread thread([&] {
    ASSERT_TRUE(unshare_mount_namespace());
    other = std::move(*current_mount_namespace());
    ASSERT_TRUE(mount_private_tmpfs(inner, 10, "64k"));
    EXPECT_TRUE(find_mount(inner).value()) << "the table is the thread's own";
  });
  thread.join();
  EXPECT_FALSE(is_mountpoint(inner).value());
  EXPECT_FALSE(find_mount(inner).value());
  ASSERT_EQ(::mount("tmpfs", later.c_str(), "tmpfs", 0, nullptr), 0);

  const auto seen = in_mount_namespace(other.get(), [&]() -> Result<> {
    if (!TRY(is_mountpoint(inner))) return fail(ENOENT, "own mount");
    if (!TRY(is_mountpoint(later))) return fail(ENOENT, "the later mount of the outer namespace");
    return {};
  });
  EXPECT_TRUE(seen) << seen.error().message();
  EXPECT_FALSE(is_mountpoint(inner).value()) << "this thread stayed where it was";
}

TEST_F(Namespaces, TheErrorOfTheWorkComesBack) {
  const UniqueFd here = *current_mount_namespace();
  EXPECT_EQ(in_mount_namespace(here.get(), []() -> Result<> { return fail(EXDEV); }).error().code(), EXDEV);
  EXPECT_EQ(in_mount_namespace(-1, []() -> Result<> { return {}; }).error().code(), EBADF);
}

TEST_F(Namespaces, ThePrivateTmpfsIsForUsAlone) {
  ASSERT_TRUE(mount("tmpfs", "outer", ""));
  ASSERT_EQ(::mount(nullptr, target_.c_str(), nullptr, MS_SHARED, nullptr), 0);
  const std::string inner = make_directory("target/inner");
  ASSERT_TRUE(mount_private_tmpfs(inner, 3, "64k"));
  EXPECT_EQ(stat_at(AT_FDCWD, inner.c_str(), STATX_MODE)->stx_mode & 07777U, 0700U);
  EXPECT_THAT(read_file("/proc/thread-self/mountinfo", 1U << 20U).value(),
              ::testing::ContainsRegex(inner + " rw,nosuid,nodev,noexec,relatime - tmpfs berth "))
      << "no \"shared:\" before the dash";
  EXPECT_TRUE(make_directories(inner + "/a/b", 0700));
  EXPECT_EQ(make_directories(inner + "/c", 0700).error().code(), ENOSPC);
}

}  // namespace
}  // namespace berth::sys
