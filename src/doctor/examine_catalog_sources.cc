#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "src/doctor/examine.h"
#include "src/lib/base/mutex.h"
#include "src/lib/formats/names.h"
#include "src/lib/formats/render.h"
#include "src/lib/sys/thread.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;

/// A file of the control tree; nothing where none serves, or does not answer in time.
std::optional<std::string> read_in_time(const Host& host, const std::string& path) {
  struct Answer {
    Mutex mutex;
    ConditionVariable changed;
    std::optional<Result<std::string>> text BERTH_GUARDED_BY(mutex);
  };
  const auto answer = std::make_shared<Answer>();
  Result<std::thread> thread = sys::start_thread("berth-doctor", [answer, path, read = host.read] {
    Result<std::string> text = read(path);
    MutexLock lock(answer->mutex);
    answer->text = std::move(text);
    answer->changed.notify_all();
  });
  if (!thread) return std::nullopt;
  thread->detach();
  const TimePoint deadline = std::chrono::steady_clock::now() + host.patience;
  MutexLock lock(answer->mutex);
  while (!answer->text && answer->changed.wait_until(answer->mutex, deadline)) {
  }
  if (!answer->text || !*answer->text) return std::nullopt;
  return **answer->text;
}

}  // namespace

std::vector<FindingView> examine_catalog_sources(const Host& host, const config::Configuration& configuration) {
  std::vector<FindingView> findings;
  if (configuration.sources.empty()) return findings;
  for (const config::CatalogSource& source : configuration.sources) {
    if (const Result<> found = host.program(source.program.front()); !found) {
      findings.push_back({.severity = Severity::kError,
                          .id = "missing-program",
                          .subject = "catalog source " + source.name,
                          .what = std::string(found.error().story()),
                          .cost = "its shares stay as they were last, or are not there",
                          .remedy = "install it, or correct \"program\""});
    }
  }
  const std::string path =
      formats::tree_path(configuration.settings.namespace_directory) + "/" + std::string(formats::kSources);
  const std::optional<std::string> text = read_in_time(host, path);
  for (const formats::SourceView& source : formats::parse_sources(text.value_or(""))) {
    if (source.state != "down" && source.state != "failing") continue;
    findings.push_back({.id = "catalog-source",
                        .subject = "catalog source " + source.name,
                        .what = "it is " + source.state + ": " + source.error,
                        .cost = "its shares stay as they were last",
                        .remedy = "look at " + path});
  }
  return findings;
}

}  // namespace berth::doctor
