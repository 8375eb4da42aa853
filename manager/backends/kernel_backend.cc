#include "manager/backends/kernel_backend.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "manager/backends/bind_backend.h"
#include "manager/backends/host_walk.h"
#include "manager/backends/mount_policy.h"
#include "src/lib/base/hash.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"

namespace berth::manager {
namespace {

/// Types whose source is a mere name, even where a file of that name exists.
constexpr std::array<std::string_view, 14> kSourceless = {"9p",        "cgroup", "cgroup2", "debugfs", "devpts",
                                                          "hugetlbfs", "mqueue", "overlay", "proc",    "ramfs",
                                                          "sysfs",     "tmpfs",  "tracefs", "virtiofs"};

/// Types that are never written: neither the image nor its loop device need be writable, but then the kernel requires
/// "ro" as well (EACCES else).
constexpr std::array<std::string_view, 5> kReadOnlyTypes = {"cramfs", "erofs", "iso9660", "romfs", "squashfs"};

template <typename Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_image(const std::string& type, const std::string& source) {
  struct stat status {};
  return !contains(kSourceless, type) && ::stat(source.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

/// A mount that is attached nowhere; in the mount namespace that the source, and layers in the options, are to be found
/// in.
Result<UniqueFd> make_by_kernel(const ShareSpec& spec, const std::string& source) {
  MountOptions options = policed_options(spec);
  if (contains(kReadOnlyTypes, spec.type())) options.read_only = true;
  std::optional<sys::LoopDevice> loop;
  if (is_image(spec.type(), source)) {
    loop = TRY(sys::attach_loop(source, options.read_only, options.loop_offset, options.loop_size_limit));
  } else if (options.wants_loop()) {
    if (::access(source.c_str(), F_OK) != 0) return fail(Error::last().within("image " + quote(source)));
    return fail(EINVAL, "the options \"loop\", \"offset\" and \"sizelimit\" want an image, but " + quote(source) +
                            " is not a regular file");
  }
  return loop ? sys::make_mount(spec.type(), loop->path, options, source)
              : sys::make_mount(spec.type(), source, options);
}

/// The directories that an overlay shows.
std::vector<std::string> layers_of(const ShareSpec& spec) {
  std::vector<std::string> layers;
  if (spec.type() != "overlay") return layers;
  for (const auto& [key, value] : spec.mount_options().parameters) {
    if (key == "lowerdir" && value) layers = paths_in_option(*value);
  }
  for (const auto& [key, value] : spec.mount_options().parameters) {
    if ((key == "upperdir" || key == "lowerdir+" || key == "datadir+") && value) layers.push_back(*value);
  }
  std::erase(layers, "");
  return layers;
}

/// Where the layers are, by which ways, and which directories they are. An overlay whose layer was removed shows an
/// empty directory there. In the host's mount namespace. Errors: of a layer that cannot be opened.
Result<RealMount> note_layers(const HostView& host, const std::vector<std::string>& layers) {
  RealMount noted;
  std::vector<std::uint64_t> numbers;
  for (const std::string& layer : layers) {
    TRY(open_source_directory(host, layer, false, noted));
    numbers.insert(numbers.end(), {noted.identity.device, noted.identity.inode});
  }
  const auto* const bytes = reinterpret_cast<const char*>(numbers.data());
  noted.identity = {.device = fnv1a({bytes, numbers.size() * sizeof(std::uint64_t)}), .inode = numbers.size()};
  return noted;
}

/// The same of the file of an image: what is written to the mount of a removed one is lost. Nothing: it is another kind
/// of source.
Result<RealMount> note_image(const HostView& host, const std::string& source) {
  RealMount noted;
  WalkedPath found = TRY(walk_on_host(host, source, WalkTo::kFile));
  const struct statx kind = TRY(sys::stat_at(found.end.get(), "", STATX_TYPE, AT_STATX_DONT_SYNC));
  if (!S_ISREG(kind.stx_mode)) return noted;
  noted.identity = TRY(identity_of(found.end.get()));
  noted.way = std::move(found.way);
  noted.way.push_back(std::move(found.end));
  return noted;
}

/// Of what the share is mounted from, where that can be removed or replaced; in the host's mount namespace.
Result<RealMount> note_sources(const HostView& host, const ShareSpec& spec, const std::string& source) {
  const std::vector<std::string> layers = layers_of(spec);
  if (!layers.empty()) return note_layers(host, layers);
  if (contains(kSourceless, spec.type()) || !source.starts_with("/")) return RealMount{};
  return note_image(host, source);
}

/// A mount that is attached nowhere, of a directory in the mount of `root`, which is attached.
Result<UniqueFd> clone_part(int root, const std::string& directory) {
  const UniqueFd part = TRY(sys::open_beneath(root, directory.c_str(), O_PATH | O_DIRECTORY));
  return sys::clone_mount(part.get());
}

Result<RealMount> mount_by_kernel(const HostView& host, const ShareSpec& spec, const std::string& source,
                                  const std::string& berth) {
  RealMount noted;
  UniqueFd mount = TRY(in_host(host, [&]() -> Result<UniqueFd> {
    // First: what becomes of a layer meanwhile is seen afterwards.
    if (Result<RealMount> found = note_sources(host, spec, source)) noted = *std::move(found);
    return make_by_kernel(spec, source);
  }));
  RealMount made = TRY(attach_at_berth(std::move(mount), source, berth));
  const std::string& subdirectory = spec.mount_options().subdirectory;
  if (!subdirectory.empty()) {
    Result<UniqueFd> part = clone_part(made.root.get(), subdirectory);
    made = RealMount{};
    clear_berth(berth);
    if (!part) return fail(part.error().within("X-mount.subdir=" + subdirectory));
    made = TRY(attach_at_berth(*std::move(part), source, berth));
  }
  made.holds_only_copy = is_memory_type(spec.type());
  made.parents = std::move(noted.parents);
  made.way = std::move(noted.way);
  made.identity = noted.identity;
  return made;
}

}  // namespace

bool KernelBackend::is_current(const ShareSpec& spec, const std::string& source, const SourceIdentity& mounted) {
  const Result<RealMount> found = in_host(host_, [&] { return note_sources(host_, spec, source); });
  return found && found->identity == mounted;
}

MountResult KernelBackend::mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) {
  Result<RealMount> made = mount_by_kernel(host_, spec, source, attempt.berth);
  if (!made) return tl::unexpected(failed_step(made.error()));
  return std::move(*made);
}

}  // namespace berth::manager
