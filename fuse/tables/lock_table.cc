#include "fuse/tables/lock_table.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "fuse/tables/lock_range.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/identity.h"

namespace berth::fuse {
namespace {

/// Of /proc/PID/fdinfo/FD, which has a line for each lock.
constexpr std::size_t kLongestInfo = std::size_t{1} << 20;

/// Whose lock it is shows in /proc. For each owner that is looked at there the kernel goes through all locks of the
/// file, of which one user may have thousands.
constexpr std::size_t kMostLooks = 64;

/// MAX_DEADLK_ITERATIONS of fs/locks.c.
constexpr int kLongestCircle = 10;

/// As OFD locks require it (fcntl(2)).
struct flock without_pid(struct flock range) noexcept {
  range.l_pid = 0;
  return range;
}

/// An open file description of its own: the owner's rights were checked when it opened the file. It is open for writing
/// where the handle is, and must be if `writes`.
Result<UniqueFd> open_another(const Handle& handle, bool writes) {
  const int append = handle.flags & O_APPEND;  // a file of chattr +a cannot be opened for writing without O_APPEND
  const auto open = [&](int mode) { return sys::reopen(handle.fd(), mode | O_NONBLOCK | O_NOCTTY); };
  const auto open_as_daemon = [&](int mode) {
    const sys::AsDaemon as_daemon;
    return open(mode);
  };
  Result<UniqueFd> file = open_as_daemon(writes || may_write(handle.flags) ? O_RDWR | append : O_RDONLY);
  // As the caller, where the daemon has no rights on the server.
  if (!file) file = open((handle.flags & O_ACCMODE) | append);
  if (!file && !writes) file = open_as_daemon(O_RDONLY);
  if (!file) return fail(file.error().code() == EMFILE || file.error().code() == ENFILE ? ENOLCK : file.error().code());
  return file;
}

bool is_open_for_writing(int descriptor) noexcept { return may_write(::fcntl(descriptor, F_GETFL)); }

/// The lines of /proc about the locks of `file`, one for each.
Result<std::string> locks_of(const UniqueFd& file) {
  const sys::AsDaemon as_daemon;
  return sys::read_file("/proc/self/fdinfo/" + std::to_string(file.get()), kLongestInfo);
}

bool parse(std::string_view text, off_t& number) {
  return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc();
}

/// The range at the end of a line of locks_of(): "... START END", or "... START EOF".
std::optional<struct flock> range_in(std::string_view line) {
  const std::size_t end = line.rfind(' ');
  const std::size_t start = end == std::string_view::npos ? end : line.rfind(' ', end - 1);
  if (start == std::string_view::npos) return std::nullopt;
  struct flock range {};
  off_t last = 0;
  if (!parse(line.substr(start + 1, end - start - 1), range.l_start)) return std::nullopt;
  if (line.substr(end + 1) == "EOF") return range;
  if (!parse(line.substr(end + 1), last)) return std::nullopt;
  range.l_len = last - range.l_start + 1;
  return range;
}

/// The locks of `file`, in order.
Result<std::vector<struct flock>> ranges_of(const UniqueFd& file) {
  const std::string locks = TRY(locks_of(file));
  const std::vector<std::string_view> lines = split(locks, '\n');
  std::vector<struct flock> ranges;
  ranges.reserve(lines.size());
  for (const std::string_view line : lines) {
    if (!line.starts_with("lock:") || line.find(" OFDLCK ") == std::string_view::npos) continue;
    std::optional<struct flock> range = range_in(line);
    if (!range) continue;
    range->l_type = line.find(" READ ") != std::string_view::npos ? F_RDLCK : F_WRLCK;
    ranges.push_back(*range);
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& one, const auto& other) { return one.l_start < other.l_start; });
  return ranges;
}

/// Locks for reading what `from` has locked for reading, on another file description of the same file, so that it is
/// locked all the time.
Result<> carry_over(const UniqueFd& from, const UniqueFd& to) {
  for (struct flock range : TRY(ranges_of(from))) {
    range.l_type = F_RDLCK;
    if (::fcntl(to.get(), F_OFD_SETLK, &range) != 0) return fail(ENOLCK);
  }
  return {};
}

/// The last byte of a range.
off_t last_of(const struct flock& range) noexcept { return range.l_len == 0 ? kEnd : range.l_start + range.l_len - 1; }

/// From `start` until before `end`.
struct flock range_between(short type, off_t start, off_t end) noexcept {
  struct flock range {};
  range.l_type = type;
  range.l_start = start;
  range.l_len = end == kEnd ? 0 : end - start;
  return range;
}

/// Whether a lock of just this range belongs to `file`. That a range conflicts with none proves nothing about shared
/// locks.
bool holds(const UniqueFd& file, const struct flock& range) {
  const Result<std::string> info = locks_of(file);
  if (!info) return false;
  const std::string end = range.l_len == 0 ? "EOF" : std::to_string(range.l_start + range.l_len - 1);
  const std::string extent = " " + std::to_string(range.l_start) + " " + end;
  for (const std::string_view line : split(*info, '\n')) {
    if (line.starts_with("lock:") && line.ends_with(extent)) return true;
  }
  return false;
}

}  // namespace

LockTable::File LockTable::file_of(NodeId node, LockOwner owner) const {
  MutexLock lock(mutex_);
  const auto found = holders_.find(node);
  if (found == holders_.end()) return {};
  for (const Holder& holder : found->second) {
    if (holder.owner == owner) return {holder.file, holder.writes, holder.number};
  }
  return {};
}

/// The owner's file, made when there is none, or none that can be locked for writing. From here on the owner's locks
/// end with the handle.
Result<SharedFd> LockTable::file_for(const Request& request) {
  const bool writes = request.range.l_type == F_WRLCK;
  const File own = file_of(request.handle.node, request.owner);
  File file = own;
  const bool is_admitted =
      own.file != nullptr || handles_ == nullptr || handles_->open_files().admit(request.handle.uid);
  if (!is_admitted) return fail(ENOLCK);
  if (own.file == nullptr || (writes && !own.writes)) {
    file.file = std::make_shared<const UniqueFd>(TRY(open_another(request.handle, writes)));
    file.writes = is_open_for_writing(file.file->get());
    if (own.file != nullptr) TRY_VOID(carry_over(*own.file, *file.file));
  }
  SharedFd chosen = enter(request, file);
  // What another thread of the owner has locked meanwhile.
  if (own.file != nullptr && chosen != own.file) TRY_VOID(carry_over(*own.file, *chosen));
  return chosen;
}

/// Makes `file` the owner's, unless another of its threads was faster with one that does as much; answers the owner's.
SharedFd LockTable::enter(const Request& request, File file) {
  SharedFd replaced;  // closed after the lock is let go
  SharedFd chosen;
  bool is_counted = false;
  {
    MutexLock lock(mutex_);
    Holders& holders = holders_[request.handle.node];
    count_.store(holders_.size(), std::memory_order_release);
    auto holder =
        std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.owner == request.owner; });
    if (holder == holders.end()) {
      holders.push_back({request.owner,
                         request.range.l_pid,
                         request.handle.uid,
                         file.file,
                         file.writes,
                         {},
                         request.range.l_start,
                         last_of(request.range),
                         ++holders_made_});
      holder = std::prev(holders.end());
      is_counted = true;
    }
    holder->first = std::min(holder->first, request.range.l_start);
    holder->last = std::max(holder->last, last_of(request.range));
    const bool replaces = file.writes && !holder->writes;
    if (replaces) {
      replaced = std::exchange(holder->file, file.file);
      holder->writes = true;
    }
    auto& handles = holder->handles;
    const bool is_new = std::find(handles.begin(), handles.end(), request.number) == handles.end();
    if (is_new) handles.push_back(request.number);
    if (is_new || replaces) note(request.handle.node, *holder);
    if (replaces) forget(replaced);
    chosen = holder->file;
  }
  if (is_counted && handles_ != nullptr) handles_->open_files().add(request.handle.uid, chosen->get());
  return chosen;
}

/// Called before it is closed: from then on its number may be another's.
void LockTable::forget(const SharedFd& file) noexcept {
  const auto descriptor = static_cast<std::uint32_t>(file->get());
  if (area_ != nullptr && descriptor < LockArea::kMaxLocks) area_->locks[descriptor].node = 0;
}

/// Called before anything is locked with it.
void LockTable::note(NodeId node, const Holder& holder) const noexcept {
  const auto descriptor = static_cast<std::uint32_t>(holder.file->get());
  if (area_ == nullptr || descriptor >= LockArea::kMaxLocks) return;
  LockRecord& record = area_->locks[descriptor];
  record.owner = holder.owner;
  record.pid = holder.pid;
  for (std::size_t i = 0; i < LockRecord::kMaxHandles; ++i) {
    record.handles[i] = i < holder.handles.size() ? holder.handles[i] : 0;
  }
  std::uint32_t end = area_->end;
  while (end <= descriptor && !area_->end.compare_exchange_weak(end, descriptor + 1)) {
  }
  record.node.store(node, std::memory_order_release);
}

void LockTable::take_over(std::vector<int>& inherited) {
  const std::uint32_t end = area_ != nullptr ? area_->end.load() : 0;
  for (std::uint32_t descriptor = 0; descriptor < end; ++descriptor) {
    LockRecord& record = area_->locks[descriptor];
    if (record.node == 0) continue;
    const auto found = std::lower_bound(inherited.begin(), inherited.end(), static_cast<int>(descriptor));
    if (found == inherited.end() || *found != static_cast<int>(descriptor)) {
      record.node = 0;  // closed already by a server that died before it could store this
      continue;
    }
    inherited.erase(found);
    Holder holder{record.owner, record.pid, 0, std::make_shared<const UniqueFd>(UniqueFd(static_cast<int>(descriptor))),
                  false,        {}};
    holder.writes = is_open_for_writing(static_cast<int>(descriptor));
    for (const std::uint64_t handle : record.handles) {
      if (handle != 0) holder.handles.push_back(handle);
    }
    if (handles_ != nullptr && !holder.handles.empty()) {
      const std::shared_ptr<Handle> first = handles_->find(holder.handles.front(), record.node);
      if (first != nullptr) holder.uid = first->uid;
    }
    take_over(record.node, std::move(holder));
  }
}

/// A server that died while it changed the owner's file for one that can be locked for writing has left both.
void LockTable::take_over(NodeId node, Holder holder) {
  const File own = file_of(node, holder.owner);
  if (own.file != nullptr) {
    const SharedFd& kept = own.writes ? own.file : holder.file;
    const SharedFd& other = own.writes ? holder.file : own.file;
    static_cast<void>(carry_over(*other, *kept));
  }
  const uid_t user = holder.uid;
  const int descriptor = holder.file->get();
  SharedFd dropped;  // closed after the lock is let go
  {
    MutexLock lock(mutex_);
    Holders& holders = holders_[node];
    count_.store(holders_.size(), std::memory_order_release);
    const auto before =
        std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.owner == holder.owner; });
    if (before != holders.end()) {
      if (!before->writes) {
        std::swap(before->file, holder.file);
        std::swap(before->writes, holder.writes);
      }
      forget(holder.file);
      dropped = std::move(holder.file);
    } else {
      holder.number = ++holders_made_;
      holders.push_back(std::move(holder));
    }
  }
  if (dropped == nullptr && handles_ != nullptr) handles_->open_files().add(user, descriptor);
}

Result<> LockTable::set(const Request& request) {
  const NodeId node = request.handle.node;
  const struct flock range = without_pid(request.range);
  for (;;) {
    SharedFd file = file_of(node, request.owner).file;
    if (request.range.l_type == F_UNLCK && file == nullptr) return {};
    if (request.range.l_type != F_UNLCK) file = TRY(file_for(request));
    if (::fcntl(file->get(), F_OFD_SETLK, &range) != 0) return errno == EACCES ? fail(EAGAIN) : fail_errno();
    changes_.fetch_add(1, std::memory_order_acq_rel);
    // Another thread of the owner may have changed it, and have carried over what was locked before.
    const SharedFd now = file_of(node, request.owner).file;
    if (now == nullptr || now == file) return {};
  }
}

LockTable::Held LockTable::held(const Request& request) const {
  const File own = file_of(request.handle.node, request.owner);
  Held held{own.holder};
  if (own.file == nullptr) return held;
  const Result<std::vector<struct flock>> all = ranges_of(*own.file);
  if (!all) return held;
  held.ranges.reserve(all->size());
  for (const struct flock& one : *all) {
    const off_t start = std::max(one.l_start, request.range.l_start);
    const off_t end = std::min(end_of(one), end_of(request.range));
    if (start < end) held.ranges.push_back(range_between(one.l_type, start, end));
  }
  return held;
}

void LockTable::put_back(const Request& request, const Held& before) noexcept {
  const File own = file_of(request.handle.node, request.owner);
  if (own.file == nullptr) return;
  // A lock to write becomes one to read by one call, so that no other owner comes between.
  const auto set = [&](short type, off_t start, off_t end) {
    const struct flock range = range_between(type, start, end);
    if (start < end) ::fcntl(own.file->get(), F_OFD_SETLK, &range);
  };
  off_t done = request.range.l_start;
  if (own.holder == before.holder) {
    for (const struct flock& one : before.ranges) {
      set(F_UNLCK, done, one.l_start);
      set(one.l_type, one.l_start, end_of(one));
      done = end_of(one);
    }
  }
  set(F_UNLCK, done, end_of(request.range));
  changes_.fetch_add(1, std::memory_order_acq_rel);
}

Result<struct flock> LockTable::find(const Request& request) const {
  const SharedFd own = file_of(request.handle.node, request.owner).file;
  struct flock found = without_pid(request.range);
  if (::fcntl(own != nullptr ? own->get() : request.handle.fd(), F_OFD_GETLK, &found) != 0) return fail_errno();
  if (found.l_type == F_UNLCK || found.l_pid != -1) return found;
  // An OFD lock; maybe one of this table's.
  if (const auto holder = holder_of(request.handle.node, request.owner, found)) found.l_pid = holder->pid;
  return found;
}

/// The owner of the lock that was found to conflict with the request of `asker`. Nothing: it is none of this table's,
/// or too many owners come into question.
std::optional<LockTable::Holder> LockTable::holder_of(NodeId node, LockOwner asker, const struct flock& found) const {
  Holders others;
  {
    MutexLock lock(mutex_);
    const auto at = holders_.find(node);
    if (at == holders_.end()) return std::nullopt;
    for (const Holder& other : at->second) {
      const bool may_be = other.owner != asker && other.first <= found.l_start && other.last >= last_of(found);
      if (may_be && others.size() < kMostLooks) others.push_back(other);
    }
  }
  const sys::AsDaemon as_daemon;  // once for all
  const auto holder =
      std::find_if(others.begin(), others.end(), [&](const Holder& other) { return holds(*other.file, found); });
  return holder != others.end() ? std::optional(std::move(*holder)) : std::nullopt;
}

LockTable::Wait::Wait(LockTable& table, const Request& request)
    : table_(table), node_(request.handle.node), owner_(request.owner), range_(request.range) {
  {
    MutexLock lock(table_.mutex_);
    table_.waits_.push_back(this);
  }
  table_.changes_.fetch_add(1, std::memory_order_acq_rel);
}

LockTable::Wait::~Wait() {
  MutexLock lock(table_.mutex_);
  std::erase(table_.waits_, this);
}

/// 0: no owner in this table.
LockOwner LockTable::blocker_of(NodeId node, LockOwner asker, struct flock range) const {
  const SharedFd file = file_of(node, asker).file;
  range.l_pid = 0;
  if (file == nullptr || ::fcntl(file->get(), F_OFD_GETLK, &range) != 0 || range.l_type == F_UNLCK) return 0;
  const std::optional<Holder> holder = range.l_pid == -1 ? holder_of(node, asker, range) : std::nullopt;
  return holder ? holder->owner : 0;
}

std::optional<LockTable::Wanted> LockTable::wanted_by(LockOwner owner) const {
  MutexLock lock(mutex_);
  for (const Wait* const wait : waits_) {
    if (wait->owner_ == owner) return Wanted{wait->node_, wait->range_};
  }
  return std::nullopt;
}

bool LockTable::is_in_circle(const Wait& wait) const {
  std::optional<Wanted> wanted = Wanted{wait.node_, wait.range_};
  LockOwner owner = wait.owner_;
  for (int i = 0; i < kLongestCircle && wanted; ++i) {
    owner = blocker_of(wanted->node, owner, wanted->range);
    if (owner == wait.owner_) return true;
    wanted = owner != 0 ? wanted_by(owner) : std::nullopt;
  }
  return false;
}

template <typename Match>
bool LockTable::drop(NodeId node, const Match& match) noexcept {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  std::vector<Holder> dropped;  // closed after the lock is let go
  {
    MutexLock lock(mutex_);
    const auto found = holders_.find(node);
    if (found == holders_.end()) return false;
    Holders& holders = found->second;
    for (std::size_t i = holders.size(); i-- > 0;) {
      if (!match(holders[i])) continue;
      forget(holders[i].file);
      dropped.push_back(std::move(holders[i]));
      holders.erase(holders.begin() + static_cast<std::ptrdiff_t>(i));
    }
    if (holders.empty()) holders_.erase(found);
    count_.store(holders_.size(), std::memory_order_release);
    if (!dropped.empty()) changes_.fetch_add(1, std::memory_order_acq_rel);
  }
  for (const Holder& holder : dropped) {
    if (handles_ != nullptr) handles_->open_files().remove(holder.uid);
  }
  return !dropped.empty();
}

bool LockTable::drop_owner(NodeId node, LockOwner owner) noexcept {
  return drop(node, [owner](const Holder& holder) { return holder.owner == owner; });
}

bool LockTable::drop_handle(NodeId node, std::uint64_t number) noexcept {
  return drop(node, [number](const Holder& holder) {
    return std::find(holder.handles.begin(), holder.handles.end(), number) != holder.handles.end();
  });
}

bool LockTable::is_used(NodeId node) const {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  MutexLock lock(mutex_);
  return holders_.contains(node);
}

}  // namespace berth::fuse
