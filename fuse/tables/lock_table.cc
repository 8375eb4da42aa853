#include "fuse/tables/lock_table.h"

#include <algorithm>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/identity.h"

namespace berth::fuse {
namespace {

/// Of /proc/PID/fdinfo/FD, which has a line for each lock.
constexpr std::size_t kLongestInfo = std::size_t{1} << 20;

/// MAX_DEADLK_ITERATIONS of fs/locks.c.
constexpr int kLongestCircle = 10;

/// As OFD locks want it (fcntl(2)).
struct flock without_pid(struct flock range) noexcept {
  range.l_pid = 0;
  return range;
}

/// An open file description of its own, for reading and writing where that can be: which of the two an owner will lock
/// for is not known yet, and his rights were looked at when he opened the file.
Result<SharedFd> open_another(const Handle& handle) {
  const auto open = [&](int flags) { return sys::reopen(handle.fd(), flags | O_NONBLOCK | O_NOCTTY); };
  Result<UniqueFd> file = [&] {
    const sys::AsDaemon as_daemon;
    Result<UniqueFd> first = open(O_RDWR);
    return first ? std::move(first) : open(O_RDONLY);
  }();
  if (!file) file = open(handle.flags & O_ACCMODE);
  if (!file) return fail(file.error().code() == EMFILE || file.error().code() == ENFILE ? ENOLCK : file.error().code());
  return std::make_shared<const UniqueFd>(*std::move(file));
}

/// Whether a lock of just this range belongs to `file`: that it is in nobody's way says nothing of locks that are shared.
bool holds(const UniqueFd& file, const struct flock& range) {
  const Result<std::string> info = [&] {
    const sys::AsDaemon as_daemon;
    return sys::read_file("/proc/self/fdinfo/" + std::to_string(file.get()), kLongestInfo);
  }();
  if (!info) return false;
  const std::string end = range.l_len == 0 ? "EOF" : std::to_string(range.l_start + range.l_len - 1);
  const std::string extent = " " + std::to_string(range.l_start) + " " + end;
  for (const std::string_view line : split(*info, '\n')) {
    if (line.starts_with("lock:") && line.ends_with(extent)) return true;
  }
  return false;
}

}  // namespace

SharedFd LockTable::file_of(NodeId node, LockOwner owner) const {
  MutexLock lock(mutex_);
  const auto found = holders_.find(node);
  if (found == holders_.end()) return nullptr;
  for (const Holder& holder : found->second) {
    if (holder.owner == owner) return holder.file;
  }
  return nullptr;
}

/// That of the owner, made when there is none. From here on the handle's end is the end of the owner's locks.
Result<SharedFd> LockTable::file_for(const Request& request) {
  SharedFd file = file_of(request.handle.node, request.owner);
  if (file == nullptr) file = TRY(open_another(request.handle));
  MutexLock lock(mutex_);
  Holders& holders = holders_[request.handle.node];
  count_.store(holders_.size(), std::memory_order_release);
  auto holder = std::find_if(holders.begin(), holders.end(), [&](const Holder& h) { return h.owner == request.owner; });
  if (holder == holders.end()) {
    holders.push_back({request.owner, request.range.l_pid, file, {}});
    holder = std::prev(holders.end());
  }
  auto& handles = holder->handles;
  if (std::find(handles.begin(), handles.end(), request.number) == handles.end()) {
    handles.push_back(request.number);
    note(request.handle.node, *holder);
  }
  return holder->file;  // of another of the owner's threads, where that was faster
}

/// Before anything is locked with it.
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

void LockTable::take_over(std::vector<int>& left) {
  const std::uint32_t end = area_ != nullptr ? area_->end.load() : 0;
  for (std::uint32_t descriptor = 0; descriptor < end; ++descriptor) {
    LockRecord& record = area_->locks[descriptor];
    if (record.node == 0) continue;
    const auto found = std::lower_bound(left.begin(), left.end(), static_cast<int>(descriptor));
    if (found == left.end() || *found != static_cast<int>(descriptor)) {
      record.node = 0;  // closed already by who died before it could say so
      continue;
    }
    left.erase(found);
    Holder holder{
        record.owner, record.pid, std::make_shared<const UniqueFd>(UniqueFd(static_cast<int>(descriptor))), {}};
    for (const std::uint64_t handle : record.handles) {
      if (handle != 0) holder.handles.push_back(handle);
    }
    MutexLock lock(mutex_);
    holders_[record.node].push_back(std::move(holder));
    count_.store(holders_.size(), std::memory_order_release);
  }
}

Result<> LockTable::set(const Request& request) {
  if (request.range.l_type == F_UNLCK) {
    const SharedFd file = file_of(request.handle.node, request.owner);
    if (file == nullptr) return {};
    const struct flock range = without_pid(request.range);
    if (::fcntl(file->get(), F_OFD_SETLK, &range) != 0) return fail_errno();
    return {};
  }
  const SharedFd file = TRY(file_for(request));
  const struct flock range = without_pid(request.range);
  if (::fcntl(file->get(), F_OFD_SETLK, &range) == 0) return {};
  return errno == EACCES ? fail(EAGAIN) : fail_errno();
}

Result<struct flock> LockTable::find(const Request& request) const {
  const SharedFd own = file_of(request.handle.node, request.owner);
  struct flock found = without_pid(request.range);
  if (::fcntl(own != nullptr ? own->get() : request.handle.fd(), F_OFD_GETLK, &found) != 0) return fail_errno();
  if (found.l_type == F_UNLCK || found.l_pid != -1) return found;
  // An OFD lock; maybe of one of ours.
  if (const auto holder = holder_of(request.handle.node, request.owner, found)) found.l_pid = holder->pid;
  return found;
}

/// Whose the lock is that was found to be in the way of `asker`.
std::optional<LockTable::Holder> LockTable::holder_of(NodeId node, LockOwner asker, const struct flock& found) const {
  Holders others;
  {
    MutexLock lock(mutex_);
    if (const auto at = holders_.find(node); at != holders_.end()) others = at->second;
  }
  for (Holder& other : others) {
    if (other.owner != asker && holds(*other.file, found)) return std::move(other);
  }
  return std::nullopt;
}

LockTable::Wait::Wait(LockTable& table, const Request& request)
    : table_(table), node_(request.handle.node), owner_(request.owner), range_(request.range) {
  MutexLock lock(table_.mutex_);
  table_.waits_.push_back(this);
}

LockTable::Wait::~Wait() {
  MutexLock lock(table_.mutex_);
  std::erase(table_.waits_, this);
}

/// 0: nobody's whom we know.
LockOwner LockTable::blocker_of(NodeId node, LockOwner asker, struct flock range) const {
  const SharedFd file = file_of(node, asker);
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
  std::vector<SharedFd> dropped;  // closed after the lock is let go
  MutexLock lock(mutex_);
  const auto found = holders_.find(node);
  if (found == holders_.end()) return false;
  Holders& holders = found->second;
  for (std::size_t i = holders.size(); i-- > 0;) {
    if (!match(holders[i])) continue;
    const auto descriptor = static_cast<std::uint32_t>(holders[i].file->get());
    // Before it is closed: from then on its number may be another's.
    if (area_ != nullptr && descriptor < LockArea::kMaxLocks) area_->locks[descriptor].node = 0;
    dropped.push_back(std::move(holders[i].file));
    holders.erase(holders.begin() + static_cast<std::ptrdiff_t>(i));
  }
  if (holders.empty()) holders_.erase(found);
  count_.store(holders_.size(), std::memory_order_release);
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
