#include "manager/engine/mount_operation.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "manager/backends/berth_backend.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// How often making "a/b" starts again because "a" was removed in between by a neighbour that went away.
constexpr int kMakeAttempts = 16;

Error describe(const AttemptFailure& failure) {
  return failure.exit.empty() ? failure.error : failure.error.within(failure.exit);
}

}  // namespace

std::string BerthDirectory::path_of(std::string_view share) const {
  std::string path = path_;
  path.append("/").append(share);
  return path;
}

Result<BerthDirectory::Made> BerthDirectory::make(std::string_view share) const {
  Made made{path_of(share)};
  for (int attempt = 0;; ++attempt) {
    for (std::size_t end = path_.size() + 1; (end = made.path.find('/', end)) != std::string::npos; ++end) {
      const std::string parent = made.path.substr(0, end);
      if (::mkdir(parent.c_str(), 0700) != 0 && errno != EEXIST) {
        return fail(Error::last().within("cannot make " + quote(parent)));
      }
    }
    if (::mkdir(made.path.c_str(), 0700) == 0) return made;
    if (errno == EEXIST) {
      made.existed = true;
      return made;
    }
    if (errno != ENOENT || attempt >= kMakeAttempts)
      return fail(Error::last().within("cannot make " + quote(made.path)));
  }
}

void BerthDirectory::remove(std::string_view share) const {
  std::string path = path_of(share);
  while (path.size() > path_.size() && ::rmdir(path.c_str()) == 0) path.resize(path.rfind('/'));
  if (groups_) groups_->remove(share);
}

std::function<UniqueFd()> BerthDirectory::group_maker(std::string_view share) const {
  if (!groups_) return {};
  return [groups = groups_, name = std::string(share)] { return groups->make(name); };
}

void BerthDirectory::remove_empty_group(std::string_view share) const {
  if (groups_) groups_->remove_if_empty(share);
}

namespace {

Error masked(const Secrets& secrets, const Error& error) { return Error(error.code(), secrets.mask(error.story())); }

tl::expected<RealMount, AttemptFailure> mount_unmasked(Backend& backend, const ShareSpec& spec, std::string_view berth,
                                                       const BerthDirectory& berths, TimePoint deadline, int cancel_fd,
                                                       std::atomic<std::int32_t>* programs,
                                                       std::function<void(std::string_view)> said,
                                                       const std::string& avoided,
                                                       const std::vector<RequiredShare>& required) {
  Attempt attempt{berths.path_of(berth), deadline, cancel_fd, programs, std::move(said), avoided, required};
  attempt.make_group = berths.group_maker(berth);
  if (!backend.needs_berth()) return backend.mount(spec, attempt);

  Result<BerthDirectory::Made> made = berths.make(berth);
  if (!made) return tl::unexpected(AttemptFailure{.error = made.error()});
  if (made->existed) {
    Result<std::optional<RealMount>> found = backend.find(spec, attempt);
    if (found && *found) return std::move(**found);
  }

  tl::expected<RealMount, AttemptFailure> mounted = backend.mount(spec, attempt);
  berths.remove_empty_group(berth);
  if (mounted && mounted->root) return mounted;

  // What the program reports may differ from the kernel's state: look at what is there.
  Result<std::optional<RealMount>> found = backend.find(spec, attempt);
  if (found && *found) {
    RealMount mount = std::move(**found);
    if (mounted) {
      mount.helper = std::move(mounted->helper);
      mount.programs = std::move(mounted->programs);
      mount.output = std::move(mounted->output);
      mount.passed_over = std::move(mounted->passed_over);
    } else {
      mount.warning = describe(mounted.error()).message();
    }
    return mount;
  }
  berths.remove(berth);
  if (!mounted) return mounted;
  return tl::unexpected(AttemptFailure{
      .error = Error(EHOSTDOWN, "the attempt succeeded, but nothing is mounted at " + quote(attempt.berth))});
}

Result<> unmount_unmasked(Backend& backend, const ShareSpec& spec, std::string_view berth, RealMount& mount,
                          const BerthDirectory& berths, TimePoint deadline, int hurry_fd, bool force,
                          std::atomic<std::int32_t>* programs) {
  Attempt attempt{berths.path_of(berth), deadline, hurry_fd, programs};
  attempt.make_group = berths.group_maker(berth);
  if (!force && is_readable(hurry_fd)) return fail(ECANCELED);
  if (force && backend.needs_berth()) {
    const Result<bool> there = backend.is_there(attempt);
    if (there && !*there) {  // it went away by itself, or another process unmounted it
      if (mount.programs) mount.programs->let_go();
      if (mount.helper) mount.helper->end(deadline, hurry_fd);
      if (mount.programs) mount.programs->end(deadline, hurry_fd);
      mount = RealMount{};
      berths.remove(berth);
      return {};
    }
  }
  Result<> unmounted = backend.unmount(spec, mount, attempt, force);
  if (!unmounted && backend.needs_berth()) {
    const Result<bool> there = backend.is_there(attempt);
    if (there && !*there) unmounted = {};
  }
  if (unmounted && backend.needs_berth()) berths.remove(berth);
  if (!unmounted) berths.remove_empty_group(berth);  // of the command that was to unmount
  return unmounted;
}

}  // namespace

tl::expected<RealMount, AttemptFailure> perform_mount(Backend& backend, const ShareSpec& spec, std::string_view berth,
                                                      const BerthDirectory& berths, TimePoint deadline, int cancel_fd,
                                                      std::atomic<std::int32_t>* programs,
                                                      std::function<void(std::string_view)> said,
                                                      const std::string& avoided,
                                                      const std::vector<RequiredShare>& required) {
  tl::expected<RealMount, AttemptFailure> mounted =
      mount_unmasked(backend, spec, berth, berths, deadline, cancel_fd, programs, std::move(said), avoided, required);
  if (mounted && mounted->warning.empty() && mounted->passed_over.empty()) return mounted;
  const Secrets secrets = backend.secrets_of(spec);
  if (mounted) {
    mounted->warning = secrets.mask(mounted->warning);
    for (PassedOver& source : mounted->passed_over) {
      source = {.source = secrets.mask(source.source), .error = masked(secrets, source.error)};
    }
    return mounted;
  }
  AttemptFailure& failure = mounted.error();
  failure.error = masked(secrets, failure.error);
  failure.command = secrets.mask(failure.command);
  failure.exit = secrets.mask(failure.exit);
  failure.output = secrets.mask(failure.output);
  return mounted;
}

Result<> perform_unmount(Backend& backend, const ShareSpec& spec, std::string_view berth, RealMount& mount,
                         const BerthDirectory& berths, TimePoint deadline, int hurry_fd, bool force,
                         std::atomic<std::int32_t>* programs) {
  Result<> unmounted = unmount_unmasked(backend, spec, berth, mount, berths, deadline, hurry_fd, force, programs);
  if (!unmounted) return fail(masked(backend.secrets_of(spec), unmounted.error()));
  return unmounted;
}

}  // namespace berth::manager
