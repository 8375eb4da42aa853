#include "manager/backends/root_answer.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <future>
#include <utility>

#include "src/lib/sys/file.h"
#include "src/lib/sys/thread.h"

namespace berth::manager {

Result<> ask_root(int root) {
  // A helper may answer for its server from its cache of the root, and not of the free space; another one makes that
  // up.
  struct statfs room {};
  const bool has_room = ::fstatfs(root, &room) == 0;
  if (!has_room && says_dead(errno)) return fail_errno();
  TRY(sys::stat_at(root, "", STATX_BASIC_STATS, AT_STATX_FORCE_SYNC));
  return {};
}

bool says_dead(int code) noexcept { return code == ENOTCONN || code == ECONNABORTED || code == ESTALE; }

struct RootAnswer::State {
  UniqueFd answered;
  std::atomic<int> code{0};
};

Result<RootAnswer> RootAnswer::ask(const std::string& berth) {
  auto state = std::make_shared<State>();
  state->answered = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!state->answered) return fail_errno();
  UniqueFd root = TRY(sys::open_at(AT_FDCWD, berth.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  std::promise<void> begun;
  std::future<void> has_begun = begun.get_future();
  auto work = [state, root = std::move(root), begun = std::move(begun)]() mutable {
    begun.set_value();
    const Result<struct statx> answer = sys::stat_at(root.get(), "", STATX_BASIC_STATS, AT_STATX_FORCE_SYNC);
    root.reset();  // which would keep the mount busy
    state->code.store(answer ? 0 : answer.error().code());
    const std::uint64_t one = 1;
    if (::write(state->answered.get(), &one, sizeof one) < 0) {
    }  // it is the only write
  };
  TRY(sys::start_thread("berth-root", std::move(work))).detach();
  // Until then it shares its working directory and root with the calling thread, which so cannot enter a mount
  // namespace (setns(2)).
  has_begun.wait();
  return RootAnswer(std::move(state));
}

int RootAnswer::fd() const noexcept { return state_->answered.get(); }

bool RootAnswer::has_answered() const noexcept {
  pollfd answered{fd(), POLLIN, 0};
  return ::poll(&answered, 1, 0) > 0;
}

Result<> RootAnswer::outcome() const {
  const int code = state_->code.load();
  if (!says_dead(code)) return {};
  return fail(Error(code));
}

}  // namespace berth::manager
