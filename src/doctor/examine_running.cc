#include <cerrno>
#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/doctor/examine.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/names.h"
#include "src/lib/formats/render.h"
#include "src/lib/sys/ask_on_thread.h"

namespace berth::doctor {
namespace {

using formats::FindingView;
using formats::Severity;

/// A file of the control tree. Errors: read(2)'s; ETIMEDOUT where there is no answer in time.
Result<std::string> read_in_time(const Host& host, const std::string& path) {
  return TRY(sys::ask_on_thread<Result<std::string>>(
      "berth-doctor", [path, read = host.read] { return read(path); },
      std::chrono::steady_clock::now() + host.patience));
}

/// What it says of itself.
std::vector<FindingView> findings_of(const std::string& subject, const std::string& status) {
  const Result<formats::NamespaceView> berth = formats::parse_namespace_json(status);
  if (!berth || berth->state.failure.empty()) return {};
  return {{.id = "state-directory",
           .subject = subject,
           .what = berth->state.failure,
           .cost = "nothing can be attached, and a drain does not outlive a restart",
           .remedy = "make room there, or correct \"state_dir\""}};
}

/// Why it does not say anything of itself.
std::vector<FindingView> findings_of_silence(const Host& host, const std::string& directory, const std::string& subject,
                                             int code) {
  const bool is_roots = host.user == 0;
  if (code == ENOTCONN || code == ECONNABORTED) {
    return {{.severity = Severity::kError,
             .id = "dead-namespace",
             .subject = subject,
             .what = "a berth that has died is still mounted there",
             .cost = "every access to it fails",
             .remedy = "start berth again (" + formats::start_command(is_roots) + "), or unmount it (" +
                       formats::unmount_command(directory, is_roots) + ")"}};
  }
  if (code != ETIMEDOUT) return {};  // none serves, or it does not tell this user
  return {{.severity = Severity::kError,
           .id = "silent-namespace",
           .subject = subject,
           .what = "the berth that serves it does not answer",
           .cost = "every access to it waits",
           .remedy = std::string("look at its log (journalctl ") + (is_roots ? "" : "--user ") + "--unit=berth)"}};
}

/// The file systems of berth that the user has mounted, by their mountpoints. A file system of another user is not
/// asked: it may be any program.
std::vector<std::string> mounted_by(uid_t user, const std::vector<sys::MountEntry>& table) {
  constexpr std::size_t kMost = 16;
  std::vector<std::string> directories;
  for (const sys::MountEntry& mount : table) {
    if (mount.type == formats::kMountType && mount.user == user && directories.size() < kMost) {
      directories.push_back(mount.target);
    }
  }
  return directories;
}

std::string subject_of(const std::string& directory) { return "the namespace " + directory; }

/// What it says of its catalog sources.
std::vector<FindingView> findings_of_sources(const Host& host, const std::string& directory) {
  std::vector<FindingView> findings;
  const std::string path = formats::tree_path(directory) + "/" + std::string(formats::kSources);
  const Result<std::string> text = read_in_time(host, path);
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

}  // namespace

std::vector<FindingView> examine_catalog_sources(const Host& host, const config::Configuration& configuration) {
  std::vector<FindingView> findings;
  for (const config::CatalogSource& source : configuration.sources) {
    if (const Result<> found = host.program(source.program.front()); !found) {
      findings.push_back({.severity = Severity::kError,
                          .id = "missing-program",
                          .subject = "catalog source " + source.name,
                          .what = std::string(found.error().story()),
                          .cost = "its shares stay as they were last, or are not there"});
    }
  }
  return findings;
}

std::vector<FindingView> examine_running(const Host& host, const config::Configuration& configuration) {
  const std::string& directory = configuration.settings.namespace_directory;
  if (directory.empty()) return {};
  const std::string subject = subject_of(directory);
  const Result<std::string> status =
      read_in_time(host, formats::tree_path(directory) + "/" + std::string(formats::kStatusJson));
  std::vector<FindingView> findings =
      status ? findings_of(subject, *status) : findings_of_silence(host, directory, subject, status.error().code());
  const bool is_silent = !status && status.error().code() == ETIMEDOUT;
  if (is_silent || configuration.sources.empty()) return findings;
  for (FindingView& finding : findings_of_sources(host, directory)) findings.push_back(std::move(finding));
  return findings;
}

std::vector<FindingView> examine_mounted(const Host& host, const std::string& directory) {
  std::vector<FindingView> findings;
  for (const std::string& other : mounted_by(host.user, mounts_of(host))) {
    if (other == directory) continue;
    const Result<std::string> status =
        read_in_time(host, formats::tree_path(other) + "/" + std::string(formats::kStatusJson));
    const std::string subject = subject_of(other);
    for (FindingView& finding :
         status ? findings_of(subject, *status) : findings_of_silence(host, other, subject, status.error().code()))
      findings.push_back(std::move(finding));
  }
  return findings;
}

}  // namespace berth::doctor
