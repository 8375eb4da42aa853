#include "src/lib/formats/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "src/lib/base/text.h"

namespace berth::formats {
namespace {

using Seconds = std::chrono::duration<double>;

/// To the millisecond.
std::string seconds_since_1970(WallTime time) {
  const auto count = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
  return fmt::format("{}.{:03}", count / 1000, count % 1000);
}

/// {name="value"}. A value has neither a line break nor a byte that is not UTF-8 after escape(); quotes and backslashes
/// are escaped once more, because that is what the format asks for.
std::string label(std::string_view name, std::string_view value) {
  std::string text = fmt::format("{}=\"", name);
  for (const char c : prose(value)) {
    if (c == '"' || c == '\\') text.push_back('\\');
    text.push_back(c);
  }
  return text.append("\"");
}

/// Writes families of samples, one after the other.
class Families {
 public:
  void gauge(std::string_view name, std::string_view help, double value) {
    begin("gauge", name, help);
    sample(name, "", value);
  }
  void gauge_of_each(std::string_view name, std::string_view help, std::string_view by,
                     const std::map<std::string, std::uint64_t>& values) {
    begin("gauge", name, help);
    for (const auto& [key, value] : values) sample(name, label(by, key), value);
  }
  void counter(std::string_view name, std::string_view help, std::uint64_t value, const WallTime* since) {
    begin("counter", name, help);
    counted(name, "", value, since);
  }
  void counter_of_each(std::string_view name, std::string_view help, std::string_view by,
                       const std::map<std::string, std::uint64_t>& values, WallTime since) {
    begin("counter", name, help);
    for (const auto& [key, value] : values) counted(name, label(by, key), value, &since);
  }
  void begin(std::string_view type, std::string_view name, std::string_view help) {
    fmt::format_to(std::back_inserter(text_), "# TYPE {} {}\n", name, type);
    for (const std::string_view unit : {"seconds", "bytes"}) {
      if (name.ends_with(unit)) fmt::format_to(std::back_inserter(text_), "# UNIT {} {}\n", name, unit);
    }
    fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n", name, help);
  }
  template <typename Number>
  void sample(std::string_view name, std::string_view labels, Number value) {
    text_.append(name);
    if (!labels.empty()) fmt::format_to(std::back_inserter(text_), "{{{}}}", labels);
    fmt::format_to(std::back_inserter(text_), " {}\n", value);
  }
  void durations(std::string_view name, std::string_view labels, const DurationsView& durations, WallTime since) {
    const std::string bucket = fmt::format("{}_bucket", name);
    const std::string before = labels.empty() ? "" : fmt::format("{},", labels);
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < durations.counts.size(); ++i) {
      count += durations.counts[i];
      const std::string bound =
          i < DurationsView::kBounds.size() ? fmt::format("{}", Seconds(DurationsView::kBounds[i]).count()) : "+Inf";
      // A float with its point: the canonical form of "le".
      const bool is_whole = bound.find_first_of(".I") == std::string::npos;
      sample(bucket, fmt::format("{}le=\"{}{}\"", before, bound, is_whole ? ".0" : ""), count);
    }
    sample(fmt::format("{}_count", name), labels, count);
    sample(fmt::format("{}_sum", name), labels, Seconds(durations.sum).count());
    sample(fmt::format("{}_created", name), labels, seconds_since_1970(since));
  }
  std::string take() && { return std::move(text_) + "# EOF\n"; }

 private:
  void counted(std::string_view name, std::string_view labels, std::uint64_t value, const WallTime* since) {
    sample(fmt::format("{}_total", name), labels, value);
    if (since != nullptr) sample(fmt::format("{}_created", name), labels, seconds_since_1970(*since));
  }

  std::string text_;
};

void add_shares(Families& to, const MetricsView& metrics) {
  std::map<std::string, std::uint64_t> shares = metrics.shares;
  // A series that comes and goes is harder to watch than one that is 0.
  for (const char* state : {"idle", "mounting", "mounted", "stalled", "draining", "expiring", "failed", "removed"})
    shares.try_emplace(state, 0);
  to.gauge_of_each("berth_shares", "Shares by state.", "state", shares);
  to.gauge("berth_shares_native", "Shares that programs use without berth in between now.",
           static_cast<double>(metrics.native));
  to.gauge("berth_shares_pending", "Shares with another mount in force as soon as they are not in use.",
           static_cast<double>(metrics.pending));
  to.begin("gauge", "berth_share_in_trouble", "A share that has failed or does not answer; the first 64 by name.");
  for (const TroubleView& trouble : metrics.troubles)
    to.sample("berth_share_in_trouble", label("share", trouble.share) + "," + label("state", trouble.state), 1);
}

void add_helpers(Families& to, const MetricsView& metrics) {
  if (metrics.helpers.empty()) return;
  to.begin("gauge", "berth_helper_memory_bytes",
           "Memory of the programs that mount and serve a share; the 64 that use most.");
  for (const HelperView& helper : metrics.helpers)
    to.sample("berth_helper_memory_bytes", label("share", helper.share), static_cast<double>(helper.memory));
}

void add_sources(Families& to, const MetricsView& metrics) {
  if (metrics.sources.empty()) return;
  to.begin("gauge", "berth_catalog_source_up", "1: what the catalog source names is up to date, as far as it knows.");
  for (const SourceView& source : metrics.sources)
    to.sample("berth_catalog_source_up", label("source", source.name), source.state == "synced" ? 1 : 0);
  to.begin("gauge", "berth_catalog_source_shares", "Shares that a catalog source names.");
  for (const SourceView& source : metrics.sources)
    to.sample("berth_catalog_source_shares", label("source", source.name), static_cast<double>(source.shares));
  to.begin("gauge", "berth_catalog_source_wrong_shares", "Shares of a catalog source that are not shown as it says.");
  for (const SourceView& source : metrics.sources)
    to.sample("berth_catalog_source_wrong_shares", label("source", source.name),
              static_cast<double>(source.wrong_count));
  to.begin("gauge", "berth_catalog_source_synced_time_seconds",
           "When a catalog source last named all shares, since 1970.");
  for (const SourceView& source : metrics.sources) {
    if (source.synced)
      to.sample("berth_catalog_source_synced_time_seconds", label("source", source.name),
                seconds_since_1970(*source.synced));
  }
}

void add_use(Families& to, const MetricsView& metrics) {
  to.gauge("berth_leases", "Requests, open files and attachments that keep shares mounted.",
           static_cast<double>(metrics.leases));
  to.gauge("berth_attachments", "Attachments.", static_cast<double>(metrics.attachments));
  to.gauge("berth_parked_requests", "Requests that wait for a mount.", static_cast<double>(metrics.parked));
  to.gauge("berth_stuck_threads", "Threads that are stuck in shares that do not answer.",
           static_cast<double>(metrics.stuck_threads));
  to.counter("berth_requests",
             "Requests of the kernel that were handled. Native and passed-through reads and writes are none.",
             metrics.requests, &metrics.started);
  to.gauge("berth_open_files", "Files and directories that programs have open through berth.",
           static_cast<double>(metrics.open_files));
  to.gauge("berth_nodes", "Files and directories that are remembered for the kernel.",
           static_cast<double>(metrics.nodes));
  to.gauge("berth_nodes_limit", "Nodes beyond these are let go of; 0: none is.",
           static_cast<double>(metrics.max_nodes));
  to.gauge("berth_file_descriptors", "Descriptors that the server has open.", static_cast<double>(metrics.descriptors));
  to.gauge("berth_file_descriptors_limit", "Descriptors that the server may have open.",
           static_cast<double>(metrics.max_descriptors));
  to.gauge("berth_resident_memory_bytes", "Memory of the server.", static_cast<double>(metrics.resident_bytes));
}

void add_counts(Families& to, const CountsView& counts) {
  to.counter_of_each("berth_events", "Events by kind, also those that the log leaves out.", "event", counts.events,
                     counts.since);
  to.counter_of_each("berth_mount_failures", "Failed attempts to mount, by reason.", "errno", counts.mount_failures,
                     counts.since);
  to.counter_of_each("berth_unmount_failures", "Failed attempts to unmount, by reason.", "errno",
                     counts.unmount_failures, counts.since);
  to.begin("histogram", "berth_mount_duration_seconds", "How long attempts to mount took.");
  to.durations("berth_mount_duration_seconds", label("result", "success"), counts.mounted, counts.since);
  to.durations("berth_mount_duration_seconds", label("result", "failure"), counts.mount_failed, counts.since);
  to.begin("histogram", "berth_unmount_duration_seconds", "How long unmounts took that succeeded.");
  to.durations("berth_unmount_duration_seconds", "", counts.unmounted, counts.since);
}

/// The word after `key` in a line; empty where the line begins with another one.
std::string_view word_after(std::string_view line, std::string_view key) {
  if (!line.starts_with(key)) return {};
  line.remove_prefix(key.size());
  return line.substr(0, line.find(' '));
}

}  // namespace

void DurationsView::add(std::chrono::nanoseconds duration) noexcept {
  std::size_t bucket = 0;
  while (bucket < kBounds.size() && duration > kBounds[bucket]) ++bucket;
  ++counts[bucket];
  sum += duration;
}

void keep_largest(std::vector<HelperView>& helpers) {
  if (helpers.size() > MetricsView::kMostHelpers) {
    const auto end = helpers.begin() + MetricsView::kMostHelpers;
    std::nth_element(helpers.begin(), end, helpers.end(),
                     [](const HelperView& a, const HelperView& b) { return a.memory > b.memory; });
    helpers.erase(end, helpers.end());
  }
  std::sort(helpers.begin(), helpers.end(), [](const HelperView& a, const HelperView& b) { return a.share < b.share; });
}

std::string render_metrics(const MetricsView& metrics) {
  Families to;
  to.begin("gauge", "berth_build_info", "The version that serves; always 1.");
  to.sample("berth_build_info", label("version", metrics.version), 1);
  to.gauge("berth_up", "1: a server answers.", 1);
  to.begin("gauge", "berth_start_time_seconds", "When the server that runs was started, since 1970.");
  to.sample("berth_start_time_seconds", "", seconds_since_1970(metrics.started));
  to.gauge("berth_host_up", "1 while shares are given out, 0 while the host is draining or drained.",
           metrics.host_up ? 1 : 0);
  to.gauge("berth_host_generation", "Counts resumes and restarts of everything.",
           static_cast<double>(metrics.generation));
  to.counter("berth_takeovers", "Servers that went on for a dead or upgraded one, since berth was started.",
             metrics.takeovers, nullptr);
  to.gauge("berth_state_damaged_files", "Files of the state directory that could not be read.",
           static_cast<double>(metrics.damaged_files));
  to.gauge("berth_state_recorded", "1 if the last change of the state directory could be written, else 0.",
           metrics.state_is_recorded ? 1 : 0);
  add_shares(to, metrics);
  add_helpers(to, metrics);
  add_sources(to, metrics);
  add_use(to, metrics);
  add_counts(to, metrics.counts);
  return std::move(to).take();
}

std::string metrics_of_none() {
  Families to;
  to.gauge("berth_up", "1: a server answers.", 0);
  return std::move(to).take();
}

std::string to_text_format(std::string_view openmetrics) {
  std::string text;
  std::string_view counter;
  std::string_view family;
  for (const std::string_view line : split(openmetrics, '\n')) {
    if (line.empty() || line == "# EOF" || line.starts_with("# UNIT ")) continue;
    if (const std::string_view name = word_after(line, "# TYPE "); !name.empty()) {
      family = name;
      counter = line.ends_with(" counter") ? name : std::string_view();
    }
    const std::string_view sample = line.substr(0, line.find_first_of("{ "));
    if (sample.ends_with("_created") && sample.starts_with(family)) continue;
    const std::string_view metadata = line.substr(0, std::string_view("# TYPE ").size());
    const bool names_counter = !counter.empty() && (metadata == "# TYPE " || metadata == "# HELP ");
    if (names_counter) {
      text.append(metadata).append(counter).append("_total");
      text.append(line.substr(metadata.size() + counter.size()));
    } else {
      text.append(line);
    }
    text.push_back('\n');
  }
  return text;
}

}  // namespace berth::formats
