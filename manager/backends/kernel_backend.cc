#include "manager/backends/kernel_backend.h"

#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>

#include "manager/backends/mount_policy.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/mount.h"

namespace berth::manager {
namespace {

/// Types whose source is a mere name, even where a file of that name exists.
constexpr std::array<std::string_view, 14> kSourceless = {"9p",        "cgroup", "cgroup2", "debugfs", "devpts",
                                                          "hugetlbfs", "mqueue", "overlay", "proc",    "ramfs",
                                                          "sysfs",     "tmpfs",  "tracefs", "virtiofs"};

/// Types that are never written: neither the image nor its loop device need be writable, but then the kernel wants to
/// hear "ro" as well (EACCES else).
constexpr std::array<std::string_view, 5> kReadOnlyTypes = {"cramfs", "erofs", "iso9660", "romfs", "squashfs"};

template <typename Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_image(const std::string& type, const std::string& source) {
  struct stat status {};
  return !contains(kSourceless, type) && ::stat(source.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

Result<RealMount> mount_by_kernel(const ShareSpec& spec, const std::string& source, const std::string& berth) {
  sys::MountOptions options = TRY(policed_options(spec));
  if (contains(kReadOnlyTypes, spec.type())) options.read_only = true;
  std::optional<sys::LoopDevice> loop;
  if (is_image(spec.type(), source)) {
    loop = TRY(sys::attach_loop(source, options.read_only, options.loop_offset, options.loop_size_limit));
  } else if (options.loop) {
    if (::access(source.c_str(), F_OK) != 0) return fail(Error::last().within("image " + quote(source)));
    return fail(EINVAL, "the option \"loop\" wants an image, but " + quote(source) + " is not a regular file");
  }
  UniqueFd mount = TRY(sys::make_mount(spec.type(), loop ? loop->path : source, options));
  RealMount made = TRY(attach_at_berth(std::move(mount), source, berth));
  made.holds_only_copy = is_memory_type(spec.type());
  return made;
}

}  // namespace

MountResult KernelBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  Result<RealMount> made = mount_by_kernel(spec, source, attempt.berth);
  if (!made) return tl::unexpected(failed_step(made.error()));
  return std::move(*made);
}

}  // namespace berth::manager
