#include "src/daemon/server/server_state.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <utility>

#include "manager/model/catalog.h"
#include "src/daemon/server/server.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/ask_on_thread.h"
#include "src/lib/sys/namespaces.h"

namespace berth::daemon {
namespace {

/// Room for some ten thousand attachments in each of a hundred shares.
constexpr const char* kStateInMemory = "64m";
/// A file for each share, and while it is written anew another one.
constexpr std::uint64_t kMaxStateInodes = 4 * manager::kMaxShares;
/// How much of takeover_timeout the state directory gets: the rest is for all else that a take-over does.
constexpr int kPartOfTakeover = 4;

/// Reads as a load does, and changes nothing.
Result<> read_all(manager::StateDirectory& state) {
  if (state.is_removed()) return {};
  for (const std::string& file : TRY(state.list())) (void)state.read(file);
  return {};
}

}  // namespace

std::unique_ptr<manager::AttachmentStore> ServerState::open_store() {
  if (setup_.state) return load(setup_.state->duplicate());
  if (record_.servers == 1) log::info("attachments are kept in memory alone: there is no state directory");
  Result<manager::StateDirectory> in_memory = state_in_memory();
  if (in_memory) return load(*std::move(in_memory));
  log::error("attachments will end with this server: {}", in_memory.error().message());
  return nullptr;
}

/// In the servers' mount namespace, so that it outlives servers and ends with berth.
Result<manager::StateDirectory> ServerState::state_in_memory() {
  const std::string place = setup_.berth_directory + "/.berth";  // the name of no share
  if (record_.state < 0) {
    if (::mkdir(place.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno();
    TRY_VOID(sys::mount_private_tmpfs(place, kMaxStateInodes, kStateInMemory));
    manager::StateDirectory made(place, setup_.directory);
    TRY(made.open());
    record_.state = ::fcntl(made.fd(), F_DUPFD_CLOEXEC, 0);
  }
  UniqueFd opened(::fcntl(record_.state, F_DUPFD_CLOEXEC, 0));
  if (!opened) return fail_errno();
  return manager::StateDirectory(place, setup_.directory, std::move(opened));
}

std::unique_ptr<manager::AttachmentStore> ServerState::load(manager::StateDirectory state) {
  const Result<> answer = record_.servers > 1 ? ask(state) : Result<>();
  auto store = std::make_unique<manager::AttachmentStore>(std::move(state));
  Result<manager::StoredState> kept = answer ? store->load() : fail(answer.error());
  if (kept) {
    kept_ = *std::move(kept);
    return store;
  }
  // It is loaded with the first change, so that nothing of it is lost on disk.
  log::error("cannot read what was attached, and can record nothing: {}: {}", store->path(), kept.error().message());
  kept_.damages.push_back({.file = store->path(),
                           .reason = "what was attached could not be read (" + kept.error().message() +
                                     "): this server keeps no share mounted for it; it stays on disk for the next",
                           .set_aside = "",
                           .is_new = true});
  return store;
}

Result<> ServerState::ask(const manager::StateDirectory& state) const {
  const TimePoint until =
      std::chrono::steady_clock::now() + setup_.configuration.settings.takeover_timeout / kPartOfTakeover;
  const Result<Result<>> read = sys::ask_on_thread<Result<>>(
      "berth-state-ask", [copy = state.duplicate()]() mutable { return read_all(copy); }, until);
  if (read) return *read;
  return read.error().code() == ETIMEDOUT ? fail(ETIMEDOUT, "it does not answer") : fail(read.error());
}

manager::HostState ServerState::begin_host(manager::AttachmentStore* store, WallTime now) {
  if (const std::uint64_t word = record_.host; word != 0) {
    return {.up = (word & 1) != 0,
            .next_generation = word >> 1,
            .since = WallTime(std::chrono::nanoseconds(record_.host_since))};
  }
  const manager::HostState host = next_generation_of(kept_.host.value_or(manager::HostState{}), now);
  keep_host(host);
  if (!host.up) log::warning("the host is drained: no share is given out until `berth resume`");
  if (store == nullptr || !host.up) return host;
  if (const Result<> kept = store->commit(host); !kept) log::warning("{}", kept.error().message());
  return host;
}

void ServerState::keep_host(const manager::HostState& host) noexcept {
  record_.host_since = std::chrono::nanoseconds(host.since.time_since_epoch()).count();
  record_.host = host.next_generation << 1 | (host.up ? 1 : 0);
}

}  // namespace berth::daemon
