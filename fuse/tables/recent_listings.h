#pragma once

#include <array>
#include <cstddef>

#include "fuse/session/operations.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// The directories that the kernel began to list within the attributes' time to live. It may list them again from its
/// cache, no longer than it may cache attributes, because these came with the names.
///
/// A directory may be forgotten at any time, when another takes its slot: then it is listed afresh.
///
/// Threading: any thread may call anything.
class RecentListings {
 public:
  /// Whether `directory` was begun less than `valid` before `now`. If not, it is begun now.
  bool knows(NodeId directory, TimePoint now, Duration valid) noexcept {
    Part& part = parts_[hash(directory) % kParts];
    MutexLock lock(part.mutex);
    Listing& listing = part.listings[hash(directory) / kParts % kListings];
    if (listing.directory == directory && now - listing.begun < valid) return true;
    listing = {directory, now};
    return false;
  }

 private:
  struct Listing {
    NodeId directory = 0;
    TimePoint begun;
  };
  static constexpr std::size_t kParts = 16;
  static constexpr std::size_t kListings = 512;
  struct Part {
    Mutex mutex;
    std::array<Listing, kListings> listings BERTH_GUARDED_BY(mutex);
  };

  static constexpr std::size_t hash(NodeId directory) noexcept { return directory * 0x9e3779b97f4a7c15 >> 40U; }

  std::array<Part, kParts> parts_;
};

}  // namespace berth::fuse
