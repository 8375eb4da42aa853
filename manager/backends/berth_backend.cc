#include "manager/backends/berth_backend.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>
#include <vector>

#include "manager/backends/fuse_server.h"
#include "manager/backends/mount_helpers.h"
#include "manager/backends/replica_probe.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/time_left.h"

namespace berth::manager {
namespace {

/// How many mounts on one another clear_berth() takes off one berth: a bound for its loop, more than any program makes.
constexpr int kMaxStacked = 16;
/// The least time between SIGTERM and SIGKILL for a helper whose mount is gone, should the deadline be near.
constexpr std::chrono::seconds kTermGrace{1};

Result<UniqueFd> open_root(const std::string& berth) {
  return sys::open_at(AT_FDCWD, berth.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

/// Closes a mount's root and keeps its descriptor number taken, by something that no path leads through: code that
/// still has the number uses the right one if the unmount fails.
Result<> let_go(const UniqueFd& root) {
  if (!root) return {};
  const UniqueFd nothing(::eventfd(0, EFD_CLOEXEC));
  if (!nothing || ::dup3(nothing.get(), root.get(), O_CLOEXEC) < 0) return fail_errno();
  return {};
}

void take_again(UniqueFd& root, const std::string& berth) {
  Result<UniqueFd> reopened = open_root(berth);
  if (!reopened) {
    root.reset();
  } else if (!root || ::dup3(reopened->get(), root.get(), O_CLOEXEC) < 0) {
    root = std::move(*reopened);
  }
}

/// MNT_FORCE is the file system's to refuse; MNT_DETACH always works.
Result<> detach(const std::string& berth) {
  if (sys::unmount(berth, MNT_FORCE | MNT_DETACH)) return {};
  return sys::unmount(berth, MNT_DETACH);
}

/// Whether the helper of the mount at `berth` sees by itself that the mount is gone, as FUSE servers do.
bool ends_by_itself(const RealMount& mount, const std::string& berth) {
  if (!mount.helper || mount.helper->pid() == 0) return false;
  const auto entry = sys::find_mount(berth);
  return entry && *entry && is_served_type((*entry)->type);
}

/// Ends the helper of a mount that is gone. One that ends by itself may have data to write first, so it has half of the
/// time for that before it is asked to.
void end_helper(HelperProcess& helper, bool ends_by_itself, TimePoint deadline, int hurry_fd) {
  const TimePoint start = now();
  if (ends_by_itself) wait_readable(helper.pidfd(), start + (deadline - start) / 2, hurry_fd);
  helper.end(std::max(deadline, now() + kTermGrace), hurry_fd);
}

bool has_mounts_below(const std::string& berth) {
  const auto table = sys::read_mount_table();
  return table && std::any_of(table->begin(), table->end(), [prefix = berth + "/"](const sys::MountEntry& entry) {
           return entry.target.starts_with(prefix);
         });
}

std::string source_of(const ShareSpec& spec, const std::string& mounted) {
  const std::vector<std::string>& sources = spec.sources();
  // A single source is it, by whatever name the mount table knows it (a loop device).
  return sources.size() == 1 ? sources.front() : mounted;
}

}  // namespace

TimePoint now() noexcept { return SystemClock().now(); }

MountResult try_sources(const ShareSpec& spec, const Attempt& attempt, const TrySource& try_source) {
  std::vector<std::string> sources = spec.sources();
  if (sources.empty()) sources.push_back(spec.kind() == ShareKind::kFilesystem ? spec.type() : std::string());
  std::vector<SourceFailure> failures;
  // The lack of a mount program is the more useful error.
  const bool is_mountable = check_mount_helper(spec.type(), sources.front()).has_value();
  ReplicaOrder order = is_mountable ? order_replicas(spec, sources, attempt) : ReplicaOrder{.sources = sources};
  if (std::erase(order.sources, attempt.avoided) > 0) {
    std::erase_if(order.silent, [&attempt](const PassedOver& one) { return one.source == attempt.avoided; });
    order.sources.push_back(attempt.avoided);
    order.silent.push_back({attempt.avoided, Error(ETIMEDOUT, "it has stopped answering")});
  }
  for (const PassedOver& unknown : order.unknown) failures.push_back({unknown.source, failed_step(unknown.error)});
  sources = order.sources;
  if (sources.empty()) return tl::unexpected(join_failures(std::move(failures)));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    const TimePoint start = now();
    const auto left = static_cast<Duration::rep>(sources.size() - i);
    Attempt one = attempt;
    one.deadline = start + (attempt.deadline - start) / left;
    MountResult result = start < attempt.deadline
                             ? try_source(sources[i], one)
                             : tl::unexpected(failed_step(Error(ETIMEDOUT, "no time was left to try it")));
    if (result) {
      for (SourceFailure& failed : failures) {
        result->passed_over.push_back({std::move(failed.source), std::move(failed.failure.error)});
      }
      const std::size_t answering = sources.size() - order.silent.size();
      for (std::size_t k = i + 1; k < sources.size(); ++k) {
        if (k >= answering) result->passed_over.push_back(order.silent[k - answering]);
      }
      return result;
    }
    const bool cancelled = result.error().error.code() == ECANCELED;
    failures.push_back({sources[i], std::move(result).error()});
    if (cancelled) return tl::unexpected(std::move(failures.back().failure));
  }
  return tl::unexpected(join_failures(std::move(failures)));
}

bool is_memory_type(std::string_view type) noexcept {
  constexpr std::array<std::string_view, 4> kTypes{"bpf", "hugetlbfs", "ramfs", "tmpfs"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

bool is_mounted(const std::string& berth) {
  const auto entry = sys::find_mount(berth);
  return !entry || entry->has_value();
}

UniqueFd group_of(const Attempt& attempt) { return attempt.make_group ? attempt.make_group() : UniqueFd(); }

void clear_berth(const std::string& berth) noexcept {
  for (int i = 0; i < kMaxStacked; ++i) {
    const auto entry = sys::find_mount(berth);
    if (!entry || !*entry || !detach(berth)) return;
  }
}

bool wait_readable(int fd, TimePoint deadline, int hurry_fd) noexcept {
  for (;;) {
    std::array<pollfd, 2> watched{{{fd, POLLIN, 0}, {hurry_fd, POLLIN, 0}}};  // poll(2) ignores -1
    const int ready = ::poll(watched.data(), watched.size(), sys::poll_timeout(deadline));
    if (ready > 0) return watched[0].revents != 0;
    if (ready < 0 && errno != EINTR) return false;
    if (now() >= deadline) return false;
  }
}

bool is_readable(int fd) noexcept { return wait_readable(fd, now()); }

Result<RealMount> attach_at_berth(UniqueFd mount, const std::string& source, const std::string& berth) {
  RealMount made;
  made.id = TRY(sys::mount_id(mount.get()));
  TRY_VOID(sys::attach_mount(mount.get(), berth));
  made.root = std::move(mount);
  made.source = source;
  return made;
}

Result<std::optional<MountAtBerth>> find_at_berth(const ShareSpec& spec, const std::string& berth) {
  const std::optional<sys::MountEntry> entry = TRY(sys::find_mount(berth));
  if (!entry) return std::nullopt;
  RealMount mount;
  mount.root = TRY(open_root(berth));
  mount.id = TRY(sys::mount_id(mount.root.get()));
  mount.source = source_of(spec, entry->source);
  // A bind shows what another program keeps mounted.
  mount.holds_only_copy = spec.kind() != ShareKind::kBind && is_memory_type(entry->type);
  return MountAtBerth{.mount = std::move(mount), .is_served = is_served_type(entry->type)};
}

MountResult BerthBackend::mount(const ShareSpec& spec, const Attempt& attempt) {
  return try_sources(spec, attempt,
                     [&](const std::string& source, const Attempt& one) { return mount_source(spec, source, one); });
}

Result<std::optional<RealMount>> BerthBackend::find(const ShareSpec& spec, const Attempt& attempt) {
  std::optional<MountAtBerth> found = TRY(find_at_berth(spec, attempt.berth));
  if (!found) return std::nullopt;
  return std::move(found->mount);
}

Result<bool> BerthBackend::is_there(const Attempt& attempt) { return sys::is_mountpoint(attempt.berth); }

Result<> BerthBackend::unmount(const ShareSpec& spec, RealMount& mount, const Attempt& attempt, bool force) {
  const bool patient = !force && ends_by_itself(mount, attempt.berth);
  // A mount is busy while a descriptor is in it, an O_PATH one too.
  TRY_VOID(let_go(mount.root));
  Result<> gone = force ? detach(attempt.berth) : take_off(spec, mount, attempt);
  if (!gone && !is_there(attempt).value_or(true)) gone = {};
  if (!gone) {
    // Of a server that does not answer, the root would not be found; and it is about to be detached.
    if (!is_readable(attempt.cancel_fd)) take_again(mount.root, attempt.berth);
    return gone;
  }
  if (mount.programs) mount.programs->let_go();
  if (mount.helper && force) mount.helper->end(now(), -1);
  if (mount.helper && !force) end_helper(*mount.helper, patient, attempt.deadline, attempt.cancel_fd);
  const TimePoint until = force ? now() : std::max(attempt.deadline, now() + kTermGrace);
  if (mount.programs) mount.programs->end(until, attempt.cancel_fd);
  mount = RealMount{};
  return {};
}

Result<> BerthBackend::take_off(const ShareSpec&, const RealMount&, const Attempt& attempt) {
  Result<> gone = sys::unmount(attempt.berth, 0);
  if (gone || gone.error().code() != EBUSY || !has_mounts_below(attempt.berth)) return gone;
  // What is mounted in it is part of it, as with "rbind". The share's gate is closed, so nothing is in use there but by
  // itself; and taking one after another off would leave a part where the last one is refused.
  return sys::unmount(attempt.berth, MNT_DETACH);
}

}  // namespace berth::manager
