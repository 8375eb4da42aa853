#include "manager/backends/source_watch.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "src/lib/sys/file.h"

namespace berth::manager {

Result<SourceWatch> SourceWatch::make(UniqueFd left) {
  if (left) return SourceWatch(std::move(left));
  UniqueFd events(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!events) return fail_errno();
  return SourceWatch(std::move(events));
}

namespace {

/// Of directories alone: files come and go more often.
constexpr std::uint32_t kEntries = IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO;
/// Of a link or a file one name of which is gone the kernel tells IN_ATTRIB at once, and IN_DELETE_SELF after its last
/// user.
constexpr std::uint32_t kItself = IN_MOVE_SELF | IN_DELETE_SELF;

Result<int> add_to(int events, int file, std::uint32_t mask) noexcept {
  const int number = ::inotify_add_watch(events, sys::proc_path(file).c_str(), mask | IN_MASK_ADD);
  if (number < 0) return fail_errno();
  return number;
}

bool counts(const inotify_event& event) noexcept {
  return (event.mask & (kItself | IN_ATTRIB)) != 0 || ((event.mask & kEntries) != 0 && (event.mask & IN_ISDIR) != 0);
}

}  // namespace

Result<int> SourceWatch::add(int directory) noexcept { return add_to(events_.get(), directory, kEntries); }

Result<int> SourceWatch::add_way(int entry) noexcept {
  const Result<struct statx> found = sys::stat_at(entry, "", STATX_TYPE, AT_STATX_DONT_SYNC);
  const bool is_directory = found && S_ISDIR(found->stx_mode);
  return add_to(events_.get(), entry, is_directory ? kItself : kItself | IN_ATTRIB);
}

void SourceWatch::remove(int number) noexcept { ::inotify_rm_watch(events_.get(), number); }

std::vector<int> SourceWatch::take() {
  std::vector<int> numbers;
  alignas(inotify_event) std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t count = ::read(events_.get(), buffer.data(), buffer.size());
    if (count <= 0) return numbers;
    for (std::size_t at = 0; at < static_cast<std::size_t>(count);) {
      inotify_event event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      at += sizeof event + event.len;
      if ((event.mask & IN_Q_OVERFLOW) != 0) numbers.push_back(kAll);
      if (counts(event) && (numbers.empty() || numbers.back() != event.wd)) numbers.push_back(event.wd);
    }
  }
}

}  // namespace berth::manager
