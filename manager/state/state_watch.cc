#include "manager/state/state_watch.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string_view>

#include "manager/state/state_directory.h"

namespace berth::manager {

Result<StateWatch> StateWatch::make(std::string directory, UniqueFd events) {
  if (!events) events = UniqueFd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!events) return fail_errno();
  return StateWatch(std::move(directory), std::move(events));
}

void StateWatch::renew() const noexcept {
  constexpr unsigned kGone = IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
  // Where there is none it is not watched: who looks next finds that out.
  ::inotify_add_watch(events_.get(), directory_.c_str(), kGone);
  ::inotify_add_watch(events_.get(), directory_.substr(0, directory_.rfind('/')).c_str(), kGone);
}

bool StateWatch::take() const noexcept {
  alignas(inotify_event) std::array<char, 4096> buffer{};
  bool any = false;
  for (ssize_t count = 0; (count = ::read(events_.get(), buffer.data(), buffer.size())) > 0;) {
    for (std::size_t at = 0; at < static_cast<std::size_t>(count);) {
      const auto* const event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      const std::string_view name = event->len > 0 ? std::string_view(event->name) : std::string_view();
      any = any || !name.ends_with(StateDirectory::kNewSuffix);
      at += sizeof(inotify_event) + event->len;
    }
  }
  return any;
}

}  // namespace berth::manager
