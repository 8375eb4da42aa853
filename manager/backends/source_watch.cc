#include "manager/backends/source_watch.h"

#include <sys/inotify.h>
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

Result<int> SourceWatch::add(int directory) noexcept {
  const int number = ::inotify_add_watch(events_.get(), sys::proc_path(directory).c_str(),
                                         IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ONLYDIR);
  if (number < 0) return fail_errno();
  return number;
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
      const bool counts = (event.mask & IN_ISDIR) != 0 && (numbers.empty() || numbers.back() != event.wd);
      if (counts) numbers.push_back(event.wd);
    }
  }
}

}  // namespace berth::manager
