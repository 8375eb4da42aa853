#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "src/daemon/server/server_core.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/thread.h"

namespace berth::daemon {
namespace {

/// How long the agent may take to report what overmounts the namespace.
constexpr std::chrono::seconds kAgentPatience{2};

}  // namespace

void Server::take_over() {
  std::vector<int> kept = manager_->kept_descriptors();
  kept.push_back(record_.mount_namespace);
  kept.push_back(record_.state);
  std::sort(kept.begin(), kept.end());
  std::erase_if(inherited_, [&](int number) { return std::binary_search(kept.begin(), kept.end(), number); });
  shares_->take_over(inherited_);
  if (inherited_.empty()) return;
  // A server that does not answer may hold up the close of a file.
  Result<std::thread> closer = sys::start_thread("berth-close", [inherited = std::move(inherited_)] {
    for (const int number : inherited) ::close(number);
  });
  if (closer) closer->detach();
}

void Server::finish_take_over() {
  shares_->finish_take_over();
  for (const std::uint64_t poller : control_->inherited_polls()) session_->wake_poller(poller);
  requests_.finish_forgets([this](const fuse::protocol::Message& message) { session_->process(message); });
  const Result<> asked = resends_ ? session_->request_resend() : Result<>(fail(EOPNOTSUPP));
  if (asked) return;
  log::warning("this kernel does not send requests again (Linux 6.9 does): what was under way fails");
  for (const std::uint64_t unique : requests_.unanswered()) session_->fail_unanswered(unique);
  requests_.undo_all();
}

void Server::take_over_native() {
  const Result<std::vector<std::string>> names = native_->take_over(clock_.now() + kAgentPatience);
  if (!names) return log::warning("native access: {}", names.error().message());
  const std::vector<std::string> untold = manager_->untold();
  for (const std::string& name : *names) {
    // What lies there is of a share that had the name before.
    if (std::find(untold.begin(), untold.end(), name) != untold.end()) {
      take_off_stale(name);
      continue;
    }
    if (const std::shared_ptr<manager::Share> share = manager_->find(name)) manager_->take_over_native(*share);
  }
}

void Server::take_off_stale(const std::string& name) {
  using When = manager::NativeAccess::When;
  if (const auto taken = native_->remove_unknown_overmount(name, When::kAlways, clock_.now() + kAgentPatience);
      !taken) {
    log::warning("native access: {}: {}", quote(name), taken.error().message());
  }
}

std::uint32_t Server::count_mounted() const {
  const auto shares = manager_->directory();
  return static_cast<std::uint32_t>(
      std::count_if(shares->begin(), shares->end(), [](const auto& entry) { return !entry.second->gate().closed(); }));
}

}  // namespace berth::daemon
