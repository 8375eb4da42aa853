#pragma once

#include <map>

#include "manager/model/events.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/formats/metrics.h"

namespace berth::fuse {

/// Counts events for `metrics`. The counts are this server's own: the next server begins at 0, and the time of creation
/// says since when.
///
/// Threading: any thread may call anything.
class EventCounts {
 public:
  /// `since`: from when on events are counted.
  explicit EventCounts(WallTime since) { counts_.since = since; }

  void count(const manager::Event& event);
  [[nodiscard]] formats::CountsView view() const;

 private:
  mutable Mutex mutex_;
  formats::CountsView counts_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
