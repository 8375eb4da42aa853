#include "src/lib/sys/identity.h"

#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>
#include <unordered_map>

#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/sys/privileges.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/user_groups.h"

namespace berth::sys {
namespace {

constexpr auto kKeep = static_cast<uid_t>(-1);
/// NGROUPS_MAX of Linux; a caller cannot have more.
constexpr std::size_t kMostGroups = 65536;
/// Callers remembered at once; when there are more, all are forgotten.
constexpr std::size_t kMostRemembered = 1024;

/// What a caller has besides its ids.
struct Rights {
  std::vector<gid_t> groups;
  std::uint64_t capabilities = 0;  ///< effective ones, of kForFiles

  friend bool operator==(const Rights&, const Rights&) = default;
};
using SharedRights = std::shared_ptr<const Rights>;

/// What file systems ask for (capabilities(7)).
constexpr CapabilitySet kForFiles =
    capabilities({CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_LINUX_IMMUTABLE,
                  CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_MKNOD, CAP_SETFCAP});

/// Of this thread alone. Effective capabilities come and go with the user id, the others stay.
bool set_effective(const Capabilities& own, CapabilitySet effective) noexcept {
  return set_capabilities({.effective = effective, .permitted = own.permitted, .inheritable = own.inheritable})
      .has_value();
}

/// What the process was started as; real and saved ids never change.
struct Daemon {
  uid_t uid = ::getuid();
  uid_t effective_uid = ::geteuid();
  gid_t gid = ::getgid();
  std::vector<gid_t> groups = own_groups();
  Capabilities rights = own_capabilities().value_or(Capabilities{});

  static std::vector<gid_t> own_groups() {
    std::vector<gid_t> groups(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
    const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
    groups.resize(static_cast<std::size_t>(std::max(count, 0)));
    return groups;
  }
};

/// Made by the first call of anything here, which must come from a thread that acts as the daemon.
const Daemon& daemon_identity() {
  static const Daemon the_daemon;
  return the_daemon;
}

/// What this thread acts as now. A thread inherits the credentials of the one that started it, so at first it is
/// unknown.
struct Current {
  enum class As { kUnknown, kDaemon, kCaller } as = As::kUnknown;
  Identity identity;
  SharedRights rights;  ///< of a caller
  TimePoint rights_until;
};
thread_local Current current;

// The C library's wrappers change all threads of a process (nptl(7)).
bool set_uid(uid_t uid) noexcept { return ::syscall(SYS_setresuid, kKeep, uid, kKeep) == 0; }
bool set_gid(gid_t gid) noexcept { return ::syscall(SYS_setresgid, kKeep, gid, kKeep) == 0; }
bool set_groups(const std::vector<gid_t>& groups) noexcept {
  return ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0;
}

/// The rights of callers, so that not every request reads /proc.
class RightsCache {
 public:
  struct Entry {
    SharedRights rights;
    TimePoint until;
  };

  std::optional<Entry> find(const Identity& caller, TimePoint now) {
    const MutexLock lock(mutex_);
    const auto found = entries_.find(caller);
    if (found == entries_.end() || found->second.until <= now) return std::nullopt;
    return found->second;
  }

  void put(const Identity& caller, const Entry& entry) {
    Entries forgotten;  // before the lock: freed after it
    const MutexLock lock(mutex_);
    if (entries_.size() >= kMostRemembered) forgotten.swap(entries_);
    entries_.insert_or_assign(caller, entry);
  }

 private:
  struct Hash {
    std::size_t operator()(const Identity& caller) const noexcept {
      const auto ids = (std::uint64_t{caller.uid} << 32U) | caller.gid;
      return std::hash<std::uint64_t>()(ids * 0x9E3779B97F4A7C15U + static_cast<std::uint64_t>(caller.pid));
    }
  };
  using Entries = std::unordered_map<Identity, Entry, Hash>;

  Mutex mutex_;
  Entries entries_ BERTH_GUARDED_BY(mutex_);
};

RightsCache& cache() {
  static auto* const the_cache = new RightsCache;
  return *the_cache;
}

/// What /proc reports of a thread (proc(5), /proc/PID/status).
struct ThreadStatus {
  std::vector<gid_t> uids;
  std::vector<gid_t> gids;
  std::vector<gid_t> groups;
  std::uint64_t capabilities = 0;  ///< effective ones, in the thread's user namespace
};

std::vector<gid_t> parse_ids(std::string_view text) {
  std::vector<gid_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    gid_t id = 0;
    const auto [rest, code] = std::from_chars(at, end, id);
    if (code == std::errc()) ids.push_back(id);
    at = code == std::errc() ? rest : at + 1;
  }
  return ids;
}

std::optional<ThreadStatus> read_status(pid_t pid) {
  const Result<std::string> text = proc::read(proc::path_of(pid, "status"));
  if (!text) return std::nullopt;
  ThreadStatus status{.uids = parse_ids(proc::field_of(*text, "Uid")),
                      .gids = parse_ids(proc::field_of(*text, "Gid")),
                      .groups = parse_ids(proc::field_of(*text, "Groups"))};
  const std::string_view capabilities = proc::field_of(*text, "CapEff");
  std::from_chars(capabilities.data(), capabilities.data() + capabilities.size(), status.capabilities, 16);
  return status;
}

/// Whether a thread is in the daemon's user namespace. In another its capabilities are good for the users and groups of
/// that namespace alone.
bool is_in_own_user_namespace(pid_t pid) {
  struct stat own {
  }, other{};
  return ::stat("/proc/self/ns/user", &own) == 0 && ::stat(proc::path_of(pid, "ns/user").c_str(), &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

/// The rights of the calling thread, if the thread of that number still is the caller: the number may be in use again,
/// or belong to a kernel thread that acts for another. access(2) asks with the real ids, so any of the four counts.
std::optional<Rights> rights_from_proc(const Identity& caller) {
  if (caller.pid <= 0) return std::nullopt;
  std::optional<ThreadStatus> status = read_status(caller.pid);
  if (!status) return std::nullopt;
  const auto has = [](const std::vector<gid_t>& ids, gid_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  };
  if (!has(status->uids, caller.uid) || !has(status->gids, caller.gid)) return std::nullopt;
  std::uint64_t capabilities = status->capabilities & kForFiles & daemon_identity().rights.permitted;
  if (capabilities != 0 && !is_in_own_user_namespace(caller.pid)) capabilities = 0;
  return Rights{.groups = std::move(status->groups), .capabilities = capabilities};
}

std::vector<gid_t> groups_from_database(const Identity& caller) {
  std::vector<char> buffer(4096);
  passwd entry{};
  passwd* found = nullptr;
  int code = 0;
  while ((code = ::getpwuid_r(caller.uid, &entry, buffer.data(), buffer.size(), &found)) == ERANGE) {
    buffer.resize(buffer.size() * 2);
  }
  if (code != 0 || found == nullptr) return {};
  std::vector<gid_t> groups(64);
  auto count = static_cast<int>(groups.size());
  while (::getgrouplist(entry.pw_name, caller.gid, groups.data(), &count) < 0) {
    if (groups.size() >= kMostGroups) return {};
    // The count that it answers is right on some C libraries only.
    groups.resize(std::max(static_cast<std::size_t>(count), groups.size() * 2));
    count = static_cast<int>(groups.size());
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

UserGroups& user_groups() {
  constexpr std::chrono::seconds kPatience{1};
  static auto* const the_groups = new std::shared_ptr<UserGroups>(UserGroups::make(
      [](uid_t user, gid_t group) { return groups_from_database({.uid = user, .gid = group}); }, kPatience));
  return **the_groups;
}

RightsCache::Entry keep_rights(const Identity& caller, Rights rights) {
  RightsCache::Entry entry{.rights = std::make_shared<const Rights>(std::move(rights)),
                           .until = std::chrono::steady_clock::now() + kRightsRemembered};
  cache().put(caller, entry);
  return entry;
}

/// Reads /proc, or has the user database asked, unless remembered; call it with the daemon's user id.
RightsCache::Entry rights_for(const Identity& caller) {
  static const auto none = std::make_shared<const Rights>();
  if (caller.uid == 0) return {.rights = none, .until = TimePoint::max()};
  if (std::optional<RightsCache::Entry> known = cache().find(caller, std::chrono::steady_clock::now())) {
    return *std::move(known);
  }
  std::optional<Rights> rights = rights_from_proc(caller);
  return keep_rights(caller, rights ? *std::move(rights) : Rights{.groups = user_groups().of(caller.uid, caller.gid)});
}

/// Whether this thread acts as `identity` already and its rights are fresh enough. Another thread of the same user with
/// the same rights may do as well: a program's threads and a user's programs take turns here.
bool is_current(const Identity& identity) {
  if (current.as != Current::As::kCaller) return false;
  if (identity.uid != current.identity.uid || identity.gid != current.identity.gid) return false;
  if (identity.uid == 0) return true;
  const TimePoint now = std::chrono::steady_clock::now();
  if (identity.pid == current.identity.pid) return now < current.rights_until;
  const std::optional<RightsCache::Entry> known = cache().find(identity, now);
  if (!known || *known->rights != *current.rights) return false;
  current.identity = identity;
  current.rights_until = known->until;
  return true;
}

/// Puts the three kinds of ids in place, and capabilities; the user id is the daemon's when it is called.
bool take_on(const Identity& identity, const Rights& rights) noexcept {
  // A user namespace may forbid setgroups (user_namespaces(7)); for the daemon's own user the groups are right as they
  // are.
  if (!set_groups(rights.groups) && (errno != EPERM || identity.uid != daemon_identity().uid)) return false;
  if (!set_gid(identity.gid) || !set_uid(identity.uid)) return false;
  return rights.capabilities == 0 || set_effective(daemon_identity().rights, rights.capabilities);
}

}  // namespace

Result<> assume(const Identity& identity) noexcept {
  if (is_current(identity)) return {};
  const Daemon& daemon = daemon_identity();
  if (daemon.effective_uid != 0) {
    if (identity.uid != daemon.effective_uid) return fail(EPERM);
    return {};
  }
  // Only the daemon may change groups. As long as this function is not done the thread is neither.
  if (current.as != Current::As::kDaemon && !set_uid(daemon.uid)) return fail_errno();
  current.as = Current::As::kUnknown;
  const RightsCache::Entry entry = rights_for(identity);
  if (!take_on(identity, *entry.rights)) {
    const int code = errno;
    assume_daemon();
    return fail(code);
  }
  current = {.as = Current::As::kCaller, .identity = identity, .rights = entry.rights, .rights_until = entry.until};
  return {};
}

bool refresh_rights(const Identity& identity) noexcept {
  const bool acts_so = current.as == Current::As::kCaller && identity.uid == current.identity.uid &&
                       identity.gid == current.identity.gid;
  if (!acts_so || identity.uid == 0) return false;
  const SharedRights before = current.rights;
  const AsDaemon as_daemon;
  std::optional<Rights> now = rights_from_proc(identity);
  if (!now || *now == *before) return false;
  keep_rights(identity, *std::move(now));
  return true;
}

void assume_daemon() noexcept {
  if (current.as == Current::As::kDaemon) return;
  const Daemon& daemon = daemon_identity();
  if (daemon.effective_uid == 0) {
    // Cannot fail but for want of memory; the thread then stays unknown and the next call tries again.
    current.as = Current::As::kUnknown;
    if (!set_uid(daemon.uid) || !set_gid(daemon.gid)) return;
    if (!set_groups(daemon.groups) && errno != EPERM) return;
  }
  current = {.as = Current::As::kDaemon, .identity = {}, .rights = nullptr, .rights_until = {}};
}

AsDaemon::AsDaemon() noexcept : before_(current.identity), switched_(current.as == Current::As::kCaller) {
  assume_daemon();
}

AsDaemon::~AsDaemon() {
  if (!switched_) return;
  // What the thread does next is meant for the caller's permissions; going on with the daemon's would be worse than not
  // to go on.
  if (!assume(before_)) std::abort();
}

namespace {

/// The capabilities that the thread has with its present identity.
std::uint64_t effective_now() noexcept {
  return acts_as_root() ? daemon_identity().rights.permitted : current.rights->capabilities;
}

}  // namespace

bool acts_as_root() noexcept { return current.as != Current::As::kCaller || current.identity.uid == 0; }

AsBackingOpener::AsBackingOpener() noexcept {
  const Daemon& daemon = daemon_identity();
  if (daemon.effective_uid != 0) return;
  if (current.as == Current::As::kUnknown) assume_daemon();
  const std::uint64_t own = daemon.rights.permitted;
  const std::uint64_t rights = effective_now() & ~capabilities({CAP_FSETID});
  // Where this cannot be, the kernel refuses what the thread wants to leave there.
  set_effective(daemon.rights, rights | (own & capabilities({CAP_SYS_ADMIN})));
}

AsBackingOpener::~AsBackingOpener() {
  const Daemon& daemon = daemon_identity();
  if (daemon.effective_uid != 0) return;
  // To continue with capabilities that are not the caller's would be worse than to end.
  if (!set_effective(daemon.rights, effective_now())) std::abort();
}

WithUmask::WithUmask(mode_t mask) noexcept : changed_(mask != 0) {
  // Threads share it with the one that started them (umask(2), C library/kernel differences), which may be in such a
  // scope.
  thread_local const bool own = [] {
    const bool unshared = ::unshare(CLONE_FS) == 0;
    ::umask(0);
    return unshared;
  }();
  if (!own) std::abort();
  if (changed_) ::umask(mask & 0777);
}

WithUmask::~WithUmask() {
  if (changed_) ::umask(0);
}

std::vector<gid_t> groups_of(const Identity& identity) {
  const AsDaemon as_daemon;
  return rights_for(identity).rights->groups;
}

}  // namespace berth::sys
