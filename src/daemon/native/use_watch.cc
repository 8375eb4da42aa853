#include "src/daemon/native/use_watch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "src/daemon/common/namespace_mount.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/thread.h"

namespace berth::daemon {
namespace {

constexpr std::uint64_t kUses = FAN_OPEN | FAN_ONDIR;

/// The kernel opens the file for each event that is read: without waiting for the other end of a FIFO.
UniqueFd make_group() noexcept {
  return UniqueFd(::fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_MARKS,
                                  O_RDONLY | O_CLOEXEC | O_NONBLOCK));
}

}  // namespace

UseWatch::UseWatch() : group_(make_group()) {
  if (!group_) return;
  Result<std::thread> reader = sys::start_thread("berth-uses", [this] { read_events(); });
  if (!reader) return;
  reader->detach();
  is_supported_ = true;
}

void UseWatch::arm(const std::string& share, std::uint64_t mount, int root) {
  {
    MutexLock lock(mutex_);
    watched_[share] = {.mount = mount};
  }
  // By a name: a descriptor that was opened with O_PATH is refused.
  if (::fanotify_mark(group_.get(), FAN_MARK_ADD | FAN_MARK_MOUNT, kUses, root, ".") == 0) return;
  is_supported_ = false;
  forget(share);
}

bool UseWatch::is_unused(const std::string& share, std::uint64_t mount) const {
  // In the order in which an event goes: in the queue, with the reader, noted.
  pollfd events{group_.get(), POLLIN, 0};
  if (::poll(&events, 1, 0) != 0 || reads_) return false;
  MutexLock lock(mutex_);
  const auto found = watched_.find(share);
  return found != watched_.end() && found->second.mount == mount && !found->second.is_used;
}

void UseWatch::forget(const std::string& share) {
  MutexLock lock(mutex_);
  watched_.erase(share);
}

void UseWatch::read_events() noexcept {
  for (;;) {
    pollfd events{group_.get(), POLLIN, 0};
    if (::poll(&events, 1, -1) != 1) continue;
    reads_ = true;
    read_one();
    reads_ = false;
  }
}

void UseWatch::read_one() noexcept {
  // One at a time: where the file of a second one cannot be opened, that event would be gone without a word.
  fanotify_event_metadata event{};
  const ssize_t size = ::read(group_.get(), &event, sizeof event);
  if (size < 0 && errno == EINTR) return;
  if (size != sizeof event || event.vers != FANOTIFY_METADATA_VERSION) return note_use_of_all();
  const UniqueFd file(event.fd);
  if (!file) return note_use_of_all();  // the queue was full
  const Result<std::uint64_t> mount = mount_id_at(file.get(), "");
  if (!mount) return note_use_of_all();
  ::fanotify_mark(group_.get(), FAN_MARK_REMOVE | FAN_MARK_MOUNT, kUses, file.get(), nullptr);
  note_use(*mount);
}

void UseWatch::note_use(std::uint64_t mount) noexcept {
  MutexLock lock(mutex_);
  for (auto& [share, watched] : watched_) {
    if (watched.mount == mount) watched.is_used = true;
  }
}

void UseWatch::note_use_of_all() noexcept {
  ::fanotify_mark(group_.get(), FAN_MARK_FLUSH | FAN_MARK_MOUNT, 0, AT_FDCWD, nullptr);
  MutexLock lock(mutex_);
  for (auto& [share, watched] : watched_) watched.is_used = true;
}

}  // namespace berth::daemon
