#include "src/cli/locate.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <vector>

#include "src/cli/parse_value.h"
#include "src/lib/base/text.h"
#include "src/lib/base/told.h"
#include "src/lib/formats/names.h"

namespace berth::cli {

namespace {

constexpr uid_t kRoot = 0;

/// Whether root has mounted what is at `path`, and not this user.
bool is_of_root(const std::string& path, const World& world) {
  if (world.user == kRoot) return true;
  const std::vector<sys::MountEntry> table = world.mount_table().value_or(std::vector<sys::MountEntry>());
  const auto top = std::find_if(table.rbegin(), table.rend(), [&](const auto& mount) { return mount.target == path; });
  return top != table.rend() && top->user == kRoot;
}

/// What to do about a namespace whose berth has died.
std::string advice_for_dead(const std::string& path, const World& world) {
  const bool is_roots = is_of_root(path, world);
  return "start it again (such as `" + formats::start_command(is_roots) + "`), or unmount it (`" +
         formats::unmount_command(path, is_roots) + "`)";
}

/// `directory`, if there is a control tree in it.
Result<std::string> checked(const std::string& directory, const char* said_by, const World& world) {
  const std::string path = absolute_path(directory);
  struct stat attributes {};
  if (::stat(formats::tree_path(path).c_str(), &attributes) == 0 && S_ISDIR(attributes.st_mode)) return path;
  if (errno == EACCES) return fail(EACCES, quote(path) + " (from " + said_by + "): you may not read its control tree");
  if (errno == ENOTCONN || errno == ECONNABORTED) {
    return fail(ENXIO, quote(path) + " (from " + said_by + "): the berth that served it has died; " +
                           advice_for_dead(path, world));
  }
  const Error error = errno == ENOENT ? Error(ENOENT, "it has no " + quote(formats::kTree)) : Error::last();
  return fail(ENXIO, quote(path) + " (from " + said_by + ") is not the namespace of a running berth: " + told(error));
}

/// Several namespaces, of which the caller has to name one. It is no word about any of them.
tl::unexpected<Error> several(const char* which, const std::vector<std::string>& paths) {
  std::string text;
  for (const std::string& path : paths) text.append(text.empty() ? "" : ", ").append(quote(path));
  return fail(ENOTUNIQ, std::string("several namespaces ") + which + " (" + text + "); name one with --namespace DIR");
}

/// Goes to where a namespace of this user's own is seen, at `directory`, or wherever it is where that is empty. Where
/// none is, or the one that there was has gone, `otherwise` is the answer.
Result<std::string> enter_own(const std::string& directory, const World& world, const Error& otherwise) {
  std::vector<sys::OwnMount> own = world.own_namespaces ? world.own_namespaces() : std::vector<sys::OwnMount>();
  const std::string path = directory.empty() ? "" : absolute_path(directory);
  if (!path.empty()) std::erase_if(own, [&path](const sys::OwnMount& mount) { return mount.target != path; });
  if (own.empty()) return fail(otherwise);
  if (own.size() > 1) {
    std::vector<std::string> targets;
    targets.reserve(own.size());
    for (const sys::OwnMount& mount : own) targets.push_back(mount.target);
    return several("of yours are mounted", targets);
  }
  if (!world.enter(own.front())) return fail(otherwise);
  return checked(own.front().target, "your own mount namespace", world);
}

Result<std::string> checked_or_own(const std::string& directory, const char* said_by, const World& world) {
  Result<std::string> found = checked(directory, said_by, world);
  return found || found.error().code() != ENXIO ? found : enter_own(directory, world, found.error());
}

/// The namespaces of the mount table that `user` has mounted, each once, at the first place where it is seen.
std::vector<std::string> mounted_by(uid_t user, const std::vector<sys::MountEntry>& table) {
  std::vector<std::string> found;
  std::vector<std::uint64_t> devices;
  for (const sys::MountEntry& mount : table) {
    // A bind of something within a namespace has no control tree in it.
    if (mount.type != formats::kMountType || mount.root != "/" || mount.user != user) continue;
    const bool is_seen = std::find(devices.begin(), devices.end(), mount.device) != devices.end() ||
                         std::find(found.begin(), found.end(), mount.target) != found.end();
    if (is_seen) continue;
    devices.push_back(mount.device);
    found.push_back(mount.target);
  }
  return found;
}

}  // namespace

Result<std::string> locate_namespace(const std::string& option, const World& world, Purpose purpose) {
  if (!option.empty()) return checked_or_own(option, "--namespace", world);
  if (const auto variable = world.environment("BERTH_NAMESPACE")) {
    return checked_or_own(*variable, "BERTH_NAMESPACE", world);
  }
  // A program sees those of the host anyway.
  const bool is_program = purpose == Purpose::kProgram;
  const Error none(ENODATA);
  if (is_program) {
    Result<std::string> own = enter_own("", world, none);
    if (own || own.error().code() != none.code()) return own;
  }
  // Any user may mount a file system of this type (fusermount3(1)): only the caller's own and those of root count.
  const std::vector<sys::MountEntry> table = TRY(world.mount_table());
  std::vector<std::string> found = mounted_by(world.user, table);
  if (found.empty() && !is_program) {
    Result<std::string> own = enter_own("", world, none);
    if (own || own.error().code() != none.code()) return own;
  }
  if (found.empty() && world.user != kRoot) found = mounted_by(kRoot, table);
  if (found.empty()) {
    return fail(ENXIO, "no namespace is mounted; start one with `berth serve` or `" +
                           formats::start_command(world.user == kRoot) + "`, or name it with --namespace DIR");
  }
  if (found.size() == 1 || is_program) return checked(found.front(), "the mount table", world);
  return several("are mounted", found);
}

}  // namespace berth::cli
