#include "src/lib/sys/mount.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>

#include "src/lib/base/mutex.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::sys {
namespace {

// fsconfig(2) copies at most 256 bytes of a string value, with its end.
constexpr std::size_t kLongestValue = 255;
// Between LOOP_CTL_GET_FREE and LOOP_CONFIGURE another process may take the device; with many at once several times.
constexpr int kLoopTries = 64;

/// What the kernel wrote into the log of a file system context: lines "e reason", "w ...", "i ...".
std::string read_context_log(int context) {
  std::string story;
  std::array<char, 1024> line{};
  for (;;) {
    const ssize_t count = ::read(context, line.data(), line.size());
    if (count <= 0) return story;
    std::string_view text(line.data(), static_cast<std::size_t>(count));
    while (text.ends_with('\n')) text.remove_suffix(1);
    if (text.size() > 2 && text[1] == ' ') text.remove_prefix(2);
    if (!story.empty()) story += "; ";
    story += text;
  }
}

/// The error of the system call that just failed on `context`: `doing`, and the kernel's own words.
tl::unexpected<Error> fail_with_log(int context, std::string doing) {
  const int code = errno;
  const std::string log = read_context_log(context);
  if (!log.empty()) doing += ": " + log;
  return fail(code, std::move(doing));
}

Result<> configure(int context, const char* key, const std::optional<std::string>& value) {
  if (value && value->size() > kLongestValue) {
    return fail(E2BIG, "option " + quote(key) + " has a value longer than the 255 bytes that the kernel takes here");
  }
  const int rc = value ? ::fsconfig(context, FSCONFIG_SET_STRING, key, value->c_str(), 0)
                       : ::fsconfig(context, FSCONFIG_SET_FLAG, key, nullptr, 0);
  if (rc != 0) return fail_with_log(context, "option " + quote(value ? std::string(key) + "=" + *value : key));
  return {};
}

/// overlay(5): a list of lower layers too long for one value is given layer by layer ("lowerdir+", Linux 6.5), where
/// nothing is escaped.
Result<> configure_layers(int context, const std::string& layers) {
  std::string layer;
  for (std::size_t i = 0; i <= layers.size(); ++i) {
    if (i < layers.size() && layers[i] == '\\' && i + 1 < layers.size()) {
      layer += layers[++i];
    } else if (i < layers.size() && layers[i] != ':') {
      layer += layers[i];
    } else {
      TRY_VOID(configure(context, "lowerdir+", layer));
      layer.clear();
    }
  }
  return {};
}

Result<> configure_all(int context, const std::string& type, const std::string& source, const MountOptions& options) {
  if (!source.empty()) TRY_VOID(configure(context, "source", source));
  if (options.read_only) TRY_VOID(configure(context, "ro", std::nullopt));
  for (const auto& [key, value] : options.parameters) {
    if (type == "overlay" && key == "lowerdir" && value && value->size() > kLongestValue) {
      TRY_VOID(configure_layers(context, *value));
    } else {
      TRY_VOID(configure(context, key.c_str(), value));
    }
  }
  return {};
}

Result<LoopDevice> configure_loop(std::string path, const loop_config& config) {
  Result<UniqueFd> device = open_at(AT_FDCWD, path.c_str(), O_RDWR);
  if (!device) return fail(device.error().within("cannot open " + path));
  if (::ioctl(device->get(), LOOP_CONFIGURE, &config) != 0) return fail(errno, "cannot set up " + path);
  return LoopDevice{.device = *std::move(device), .path = std::move(path)};
}

/// A part of an image, up to the byte at `end`.
struct Part {
  std::uint64_t begin, end;
  friend bool operator==(const Part&, const Part&) = default;
};

Part part_of(const struct statx& image, std::uint64_t offset, std::uint64_t size_limit) noexcept {
  const std::uint64_t begin = std::min<std::uint64_t>(offset, image.stx_size);
  const std::uint64_t most = image.stx_size - begin;
  return {begin, begin + (size_limit == 0 ? most : std::min(size_limit, most))};
}

struct FoundLoop {
  LoopDevice device;
  bool is_read_only = false;
  bool is_same = false;  ///< it shows this part, and nothing else
};

/// The device that shows this part of the image already; else one that shows some of it, and then one that writes
/// before others.
std::optional<FoundLoop> find_loop(const struct statx& image, const Part& wanted) {
  std::optional<FoundLoop> found;
  const std::unique_ptr<DIR, int (*)(DIR*)> devices(::opendir("/sys/block"), &::closedir);
  if (!devices) return std::nullopt;
  while (const dirent* const entry = ::readdir(devices.get())) {
    const std::string name = entry->d_name;
    // Only one that shows something has this.
    if (!name.starts_with("loop") || ::access(("/sys/block/" + name + "/loop/backing_file").c_str(), F_OK) != 0)
      continue;
    Result<UniqueFd> device = open_at(AT_FDCWD, ("/dev/" + name).c_str(), O_RDONLY);
    loop_info64 info{};
    if (!device || ::ioctl(device->get(), LOOP_GET_STATUS64, &info) != 0) continue;
    if (info.lo_inode != image.stx_ino || info.lo_device != makedev(image.stx_dev_major, image.stx_dev_minor)) continue;
    const Part part = part_of(image, info.lo_offset, info.lo_sizelimit);
    const bool is_same = part == wanted;
    if (!is_same && (part.end <= wanted.begin || wanted.end <= part.begin)) continue;
    const bool is_read_only = (info.lo_flags & LO_FLAGS_READ_ONLY) != 0;
    if (!is_same && found && is_read_only) continue;
    found = {{.device = *std::move(device), .path = "/dev/" + name}, is_read_only, is_same};
    if (is_same) break;
  }
  return found;
}

}  // namespace

Result<UniqueFd> make_mount(const std::string& type, const std::string& source, const MountOptions& options,
                            const std::string& image) {
  const std::string what = type + " on " + quote(image.empty() ? source : image);
  const UniqueFd context(::fsopen(type.c_str(), FSOPEN_CLOEXEC));
  if (!context) {
    if (errno == ENODEV) return fail(ENODEV, "the kernel knows no file system " + quote(type));
    return fail(errno, "file system " + quote(type));
  }
  TRY_VOID(configure_all(context.get(), type, source, options));
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) {
    return fail_with_log(context.get(), what);
  }
  UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, static_cast<unsigned>(options.attributes)));
  if (!mount) return fail_with_log(context.get(), what);
  return mount;
}

Result<UniqueFd> make_bind(const std::string& source, const MountOptions& options) {
  const unsigned recursive = options.recursive_bind ? AT_RECURSIVE : 0;
  UniqueFd tree(::open_tree(AT_FDCWD, source.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive));
  if (!tree) return fail(errno, "directory " + quote(source));
  struct mount_attr attributes {};
  attributes.attr_set = options.attributes;
  attributes.attr_clr = options.attributes_clear;
  // What is mounted below the source later must not arrive here: it would keep this mount busy.
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | recursive, &attributes, sizeof attributes) != 0) {
    return fail(errno, "options of the bind of " + quote(source));
  }
  return tree;
}

Result<UniqueFd> clone_mount(int root) noexcept {
  UniqueFd tree(::open_tree(root, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH));
  if (!tree) return fail_errno();
  struct mount_attr attributes {};
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0) return fail_errno();
  return tree;
}

Result<UniqueFd> clone_tree(const std::string& path) {
  UniqueFd tree(::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (!tree) return fail(errno, "mount at " + quote(path));
  struct mount_attr attributes {};
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0) {
    return fail_errno();
  }
  return tree;
}

Result<> attach_mount_at(int mount, int directory) noexcept {
  if (::move_mount(mount, "", directory, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) != 0) {
    return fail_errno();
  }
  return {};
}

Result<> attach_mount(int mount, const std::string& target) {
  if (::move_mount(mount, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    return fail(errno, "mountpoint " + quote(target));
  }
  return {};
}

Result<> attach_mount_beneath(int mount, const std::string& target) {
  constexpr unsigned kBeneath = 0x200;  // MOVE_MOUNT_BENEATH, newer than Debian 12's headers
  if (::move_mount(mount, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH | kBeneath) != 0) {
    return fail(errno, "mountpoint " + quote(target));
  }
  return {};
}

Result<> unmount(const std::string& target, int flags) {
  if (::umount2(target.c_str(), flags | UMOUNT_NOFOLLOW) != 0) return fail_errno();
  return {};
}

Result<LoopDevice> attach_loop(const std::string& image, bool read_only, std::uint64_t offset,
                               std::uint64_t size_limit) {
  Result<UniqueFd> file = open_at(AT_FDCWD, image.c_str(), read_only ? O_RDONLY : O_RDWR);
  if (!file) return fail(file.error().within("image " + quote(image)));
  const struct statx attributes = TRY(stat_at(file->get(), "", STATX_INO | STATX_SIZE));
  // A thread that comes at the same time with the same image must find the device.
  static Mutex one_at_a_time;
  MutexLock lock(one_at_a_time);
  if (std::optional<FoundLoop> there = find_loop(attributes, part_of(attributes, offset, size_limit))) {
    const std::string on = "image " + quote(image) + " is on " + there->device.path + " already, ";
    const bool one_writes = !there->is_read_only || !read_only;
    if (!there->is_same && one_writes) {
      return fail(EBUSY, on + "with another offset or sizelimit, and two devices would write into one image");
    }
    if (there->is_same && there->is_read_only && !read_only) return fail(EBUSY, on + "read-only");
    if (there->is_same) return std::move(there->device);
  }
  const Result<UniqueFd> control = open_at(AT_FDCWD, "/dev/loop-control", O_RDWR);
  if (!control) return fail(control.error().within("cannot open /dev/loop-control"));

  struct loop_config config {};
  config.fd = static_cast<unsigned>(file->get());
  config.info.lo_flags =
      static_cast<unsigned>(read_only ? LO_FLAGS_AUTOCLEAR | LO_FLAGS_READ_ONLY : LO_FLAGS_AUTOCLEAR);
  config.info.lo_offset = offset;
  config.info.lo_sizelimit = size_limit;
  // For losetup(8) only; a longer path is cut.
  image.copy(reinterpret_cast<char*>(config.info.lo_file_name), LO_NAME_SIZE - 1);

  for (int tries = 1;; ++tries) {
    const int number = ::ioctl(control->get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail(errno, "no loop device is free");
    Result<LoopDevice> device = configure_loop("/dev/loop" + std::to_string(number), config);
    if (device || device.error().code() != EBUSY || tries >= kLoopTries) return device;
  }
}

Result<std::uint64_t> mount_id(int fd) noexcept {
  const struct statx x = TRY(stat_at(fd, "", STATX_MNT_ID, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT));
  if ((x.stx_mask & STATX_MNT_ID) == 0) return fail(ENOSYS);
  return x.stx_mnt_id;
}

}  // namespace berth::sys
