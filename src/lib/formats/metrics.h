#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/formats/view.h"

/// The file `metrics`, in OpenMetrics 1.0. The number of series does not grow with the number of shares.
namespace berth::formats {

/// How long operations took, as a histogram of OpenMetrics.
struct DurationsView {
  /// Upper bounds. A mount of this host takes a millisecond, one of a server up to `mount_timeout` (30 s).
  static constexpr std::array<std::chrono::milliseconds, 11> kBounds{
      std::chrono::milliseconds(1),     std::chrono::milliseconds(5),    std::chrono::milliseconds(25),
      std::chrono::milliseconds(100),   std::chrono::milliseconds(500),  std::chrono::milliseconds(1000),
      std::chrono::milliseconds(2500),  std::chrono::milliseconds(5000), std::chrono::milliseconds(10000),
      std::chrono::milliseconds(30000), std::chrono::milliseconds(60000)};

  std::array<std::uint64_t, kBounds.size() + 1> counts{};  ///< of each bucket alone; the last one has no bound
  std::chrono::nanoseconds sum{};

  void add(std::chrono::nanoseconds duration) noexcept;
};

/// What has happened since `since`.
struct CountsView {
  WallTime since{};
  std::map<std::string, std::uint64_t> events;            ///< by EventView::kind
  std::map<std::string, std::uint64_t> mount_failures;    ///< by the name of the errno
  std::map<std::string, std::uint64_t> unmount_failures;  ///< likewise
  DurationsView mounted, mount_failed, unmounted;
};

/// A share that needs attention.
struct TroubleView {
  std::string share;
  std::string state;  ///< "failed", "stalled"
};

/// The programs that mount and serve a share.
struct HelperView {
  std::string share;
  std::uint64_t memory = 0;  ///< bytes
};

/// What `metrics` shows.
struct MetricsView {
  /// Most shares in `troubles`; the first ones by name.
  static constexpr std::size_t kMostTroubles = 64;

  std::string version;
  WallTime started{};
  bool host_up = true;
  std::uint64_t generation = 0;
  std::uint64_t takeovers = 0;  ///< by a server that followed a dead or upgraded one, since berth's start
  std::map<std::string, std::uint64_t> shares;  ///< by ShareSummary::state; a state that is missing has none
  std::uint64_t native = 0;                     ///< shares
  std::uint64_t pending = 0;                    ///< shares
  std::uint64_t leases = 0;
  std::uint64_t attachments = 0;
  std::uint64_t parked = 0;         ///< requests that wait for a mount
  std::uint64_t requests = 0;       ///< of the kernel, that this server has handled
  std::uint64_t stuck_threads = 0;  ///< in shares that do not answer
  std::uint64_t nodes = 0, max_nodes = 0;
  std::uint64_t open_files = 0;  ///< files and directories that programs have open through berth
  std::uint64_t descriptors = 0, max_descriptors = 0;
  std::uint64_t resident_bytes = 0;  ///< memory of the server
  std::uint64_t damaged_files = 0;   ///< of the state directory
  bool state_is_recorded = true;     ///< the last change of it could be written
  CountsView counts;
  std::vector<TroubleView> troubles;
  std::vector<SourceView> sources;
  std::vector<HelperView> helpers;  ///< those that use most memory, by the name of their share

  static constexpr std::size_t kMostHelpers = 64;
};

/// Of more than kMostHelpers, keeps those that use most memory; sorts them by the name of their share.
void keep_largest(std::vector<HelperView>& helpers);

/// OpenMetrics 1.0, up to and with "# EOF".
std::string render_metrics(const MetricsView& metrics);

/// What a watcher writes down where no server answers: berth_up is 0.
std::string metrics_of_none();

/// The same in the older text format of Prometheus, which node exporter's textfile collector reads: a counter is named
/// with its "_total"; units and times of creation are left out. `openmetrics`: of render_metrics().
std::string to_text_format(std::string_view openmetrics);

}  // namespace berth::formats
