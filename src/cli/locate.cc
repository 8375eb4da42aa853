#include "src/cli/locate.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "src/cli/parse_value.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/names.h"

namespace berth::cli {

namespace {

/// `directory`, if there is a control tree in it.
Result<std::string> checked(const std::string& directory, const char* said_by) {
  const std::string path = absolute_path(directory);
  struct stat attributes {};
  if (::stat(formats::tree_path(path).c_str(), &attributes) == 0 && S_ISDIR(attributes.st_mode)) return path;
  if (errno == EACCES) return fail(EACCES, quote(path) + " (from " + said_by + "): you may not read its control tree");
  if (errno == ENOTCONN || errno == ECONNABORTED) {
    return fail(ENXIO,
                quote(path) + " (from " + said_by +
                    "): the berth that served it has died; start it again (such as `systemctl start berth`), or " +
                    "unmount it (`umount " + quote_command({path}) + "`)");
  }
  const Error error = errno == ENOENT ? Error(ENOENT, "it has no " + quote(formats::kTree)) : Error::last();
  const std::string reason = error.story().empty() ? error.message() : std::string(error.story());
  return fail(ENXIO, quote(path) + " (from " + said_by + ") is not the namespace of a running berth: " + reason);
}

std::string list(const std::vector<std::string>& paths) {
  std::string text;
  for (const std::string& path : paths) text.append(text.empty() ? "" : ", ").append(quote(path));
  return text;
}

/// Goes to where a namespace of this user's own is seen, at `directory`, or wherever it is where that is empty. Where
/// none is, `otherwise` is the answer.
Result<std::string> enter_own(const std::string& directory, const World& world, const Error& otherwise) {
  std::vector<sys::OwnMount> own = world.own_namespaces ? world.own_namespaces() : std::vector<sys::OwnMount>();
  const std::string path = directory.empty() ? "" : absolute_path(directory);
  if (!path.empty()) std::erase_if(own, [&path](const sys::OwnMount& mount) { return mount.target != path; });
  if (own.empty()) return fail(otherwise);
  if (own.size() > 1) {
    std::vector<std::string> targets;
    targets.reserve(own.size());
    for (const sys::OwnMount& mount : own) targets.push_back(mount.target);
    return fail(ENXIO,
                "several namespaces of yours are mounted (" + list(targets) + "); name one with --namespace DIR");
  }
  TRY_VOID(world.enter(own.front()));
  return checked(own.front().target, "your own mount namespace");
}

Result<std::string> checked_or_own(const std::string& directory, const char* said_by, const World& world) {
  Result<std::string> found = checked(directory, said_by);
  return found || found.error().code() != ENXIO ? found : enter_own(directory, world, found.error());
}

}  // namespace

Result<std::string> locate_namespace(const std::string& option, const World& world, Purpose purpose) {
  if (!option.empty()) return checked_or_own(option, "--namespace", world);
  if (const auto variable = world.environment("BERTH_NAMESPACE")) {
    return checked_or_own(*variable, "BERTH_NAMESPACE", world);
  }
  // A program sees those of the host anyway.
  const bool is_program = purpose == Purpose::kProgram;
  if (is_program) {
    Result<std::string> own = enter_own("", world, Error(ENODATA));
    if (own || own.error().code() != ENODATA) return own;
  }
  std::vector<std::string> found;
  for (const sys::MountEntry& mount : TRY(world.mount_table())) {
    // A bind of something within a namespace has no control tree in it.
    if (mount.type == formats::kMountType && mount.root == "/" &&
        std::find(found.begin(), found.end(), mount.target) == found.end()) {
      found.push_back(mount.target);
    }
  }
  if (found.size() == 1 || (is_program && !found.empty())) return checked(found.front(), "the mount table");
  if (found.empty()) {
    return enter_own(
        "", world,
        Error(ENXIO,
              "no namespace is mounted; start one with `berth serve` or `systemctl start berth`, or name it with "
              "--namespace DIR"));
  }
  return fail(ENXIO, "several namespaces are mounted (" + list(found) + "); name one with --namespace DIR");
}

}  // namespace berth::cli
