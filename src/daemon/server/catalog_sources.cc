#include "src/daemon/server/catalog_sources.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "manager/state/state_format.h"
#include "src/daemon/server/source_runner.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/namespaces.h"
#include "src/lib/sys/thread.h"

namespace berth::daemon {
namespace {

namespace state_format = manager::state_format;

/// How long programs are waited for that have been told to end: longer than they are given for it.
constexpr std::chrono::seconds kPatience{4};

void stop_all(const std::vector<std::shared_ptr<SourceRunner>>& runners) noexcept {
  for (const auto& runner : runners) runner->stop();
  const TimePoint deadline = std::chrono::steady_clock::now() + kPatience;
  for (const auto& runner : runners) {
    if (!runner->wait_for_end(deadline))
      log::warning("catalog source {}: its program or the disk does not let go", runner->source().name);
  }
}

/// Removes what `directory`, of the host, has of sources that are not among `names`.
Result<> forget_files(const std::string& directory, const std::set<std::string>& names, int host) {
  return sys::in_mount_namespace(host, [&]() -> Result<> {
    std::error_code error;
    const std::filesystem::directory_iterator end;
    for (std::filesystem::directory_iterator at(directory, error); !error && at != end; at.increment(error)) {
      const std::string file = at->path().filename().native();
      if (!state_format::is_of_source(file)) continue;
      std::string name = file.substr(state_format::kSourcePrefix.size());
      if (name.ends_with(state_format::kUnfinished)) name.resize(name.size() - state_format::kUnfinished.size());
      if (names.contains(name)) continue;
      if (::unlink(at->path().c_str()) != 0) return fail(Error::last().within(at->path().native()));
      log::info("catalog source {}: it is not configured any more, and what was kept of it is removed", name);
    }
    if (error && error.value() != ENOENT) return fail(error.value(), directory);
    return {};
  });
}

}  // namespace

void CatalogSources::run(const std::vector<config::CatalogSource>& wanted, int host) {
  const auto is_wanted = [&](const std::shared_ptr<SourceRunner>& runner) {
    return !runner->has_ended() && std::find(wanted.begin(), wanted.end(), runner->source()) != wanted.end();
  };
  std::vector<std::shared_ptr<SourceRunner>> ending;
  {
    MutexLock lock(mutex_);
    if (stopped_) return;
    const auto stay = std::stable_partition(runners_.begin(), runners_.end(), is_wanted);
    ending.assign(stay, runners_.end());
    runners_.erase(stay, runners_.end());
  }
  stop_all(ending);
  forget_others(wanted, host);
  for (const config::CatalogSource& source : wanted) {
    const std::vector<std::shared_ptr<SourceRunner>> running = runners();
    const auto is_same = [&](const auto& runner) { return runner->source() == source; };
    if (std::any_of(running.begin(), running.end(), is_same)) continue;
    if (const Result<> started = start(source, host); !started)
      log::error("catalog source {}: {}", source.name, started.error().message());
  }
}

void CatalogSources::forget_others(const std::vector<config::CatalogSource>& wanted, int host) {
  std::set<std::string> names;
  for (const config::CatalogSource& source : wanted) names.insert(source.name);
  if (setup_.directory.empty() || kept_ == names) return;
  const auto forget = [directory = setup_.directory, names, host] {
    const Result<> done = forget_files(directory, names, host);
    if (!done)
      log::warning("what was kept of catalog sources that are not configured any more stays: {}",
                   done.error().message());
    return done.has_value();
  };
  if (kept_) {
    // What stays is tried again at the next call.
    if (forget()) kept_ = std::move(names);
    return;
  }
  // Nothing waits for it: a disk that does not answer must not hold up a take-over.
  if (Result<std::thread> thread = sys::start_thread("berth-forget", [forget] { forget(); })) thread->detach();
  kept_ = std::move(names);
}

Result<> CatalogSources::start(const config::CatalogSource& source, int host) {
  if (setup_.directory.empty()) return fail(EINVAL, "there is no state directory to keep its shares in");
  std::shared_ptr<SourceRunner> runner = TRY(
      SourceRunner::make({.source = source,
                          .file = config::source_file(setup_.directory, source.name),
                          .namespace_directory = setup_.namespace_directory,
                          .changed = setup_.changed,
                          .host = host,
                          .group = setup_.group,
                          .has_shares = setup_.has_shares && setup_.has_shares(config::source_origin(source.name))}));
  {
    MutexLock lock(mutex_);
    if (stopped_) return {};
    runners_.push_back(runner);
  }
  // Detached: a disk that does not answer must not keep the server from its end.
  Result<std::thread> thread = sys::start_thread("berth-source", [runner] { runner->run(); });
  if (thread) {
    thread->detach();
  } else {
    runner->give_up(thread.error());
  }
  return {};
}

void CatalogSources::note(std::vector<config::SourceShares> in_force) {
  MutexLock lock(mutex_);
  in_force_ = std::move(in_force);
}

void CatalogSources::stop() noexcept {
  std::vector<std::shared_ptr<SourceRunner>> ending;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    ending.swap(runners_);
  }
  stop_all(ending);
}

std::vector<std::shared_ptr<SourceRunner>> CatalogSources::runners() const {
  MutexLock lock(mutex_);
  return runners_;
}

std::vector<formats::SourceView> CatalogSources::views() const {
  std::vector<formats::SourceView> views;
  for (const std::shared_ptr<SourceRunner>& runner : runners()) views.push_back(runner->view());
  MutexLock lock(mutex_);
  for (formats::SourceView& view : views) {
    const auto found = std::find_if(in_force_.begin(), in_force_.end(),
                                    [&](const config::SourceShares& shares) { return shares.source == view.name; });
    if (found == in_force_.end()) continue;
    if (view.error.empty()) view.error = found->unread;
    // What its file has and the catalog has not: another share has the name.
    view.wrong_count += found->refused_count;
    for (const auto& [name, reason] : found->refused) {
      if (view.wrong.size() < formats::SourceView::kMostWrong) view.wrong.push_back({.share = name, .reason = reason});
    }
  }
  return views;
}

}  // namespace berth::daemon
