#include "fuse/kept/unwritten_pages.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "src/lib/base/crash_point.h"
#include "src/lib/sys/shared_memory.h"

namespace berth::fuse {

std::optional<std::uint32_t> UnwrittenPages::keep(std::span<const char> message) noexcept {
  if (area_ == nullptr) return 0;
  if (message.size() > RequestRecord::kMessageSize) return std::nullopt;
  const std::uint32_t first = next_.load(std::memory_order_relaxed);
  for (std::uint32_t i = 0; i < UnwrittenArea::kRecords; ++i) {
    const std::uint32_t slot = (first + i) % UnwrittenArea::kRecords;
    UnwrittenRecord& record = area_->records[slot];
    std::uint32_t expected = UnwrittenRecord::kFree;
    if (!record.state.compare_exchange_strong(expected, UnwrittenRecord::kTaken)) continue;
    next_.store(slot + 1, std::memory_order_relaxed);
    if (!sys::take_shared_pages(reinterpret_cast<std::byte*>(record.message), message.size())) {
      record.state.store(UnwrittenRecord::kFree);
      return std::nullopt;
    }
    std::memcpy(record.message, message.data(), message.size());
    record.size = static_cast<std::uint32_t>(message.size());
    record.order = area_->kept.fetch_add(1);
    std::uint32_t end = area_->end.load();
    while (end <= slot && !area_->end.compare_exchange_weak(end, slot + 1)) {
    }
    record.state.store(UnwrittenRecord::kKept, std::memory_order_release);
    crash_point("pages-kept");
    return slot;
  }
  return std::nullopt;
}

void UnwrittenPages::drop(std::uint32_t slot) noexcept {
  if (area_ == nullptr) return;
  UnwrittenRecord& record = area_->records[slot];
  record.state.store(UnwrittenRecord::kTaken);
  sys::release_shared_pages(reinterpret_cast<std::byte*>(record.message), sizeof record.message);
  record.state.store(UnwrittenRecord::kFree, std::memory_order_release);
}

std::vector<UnwrittenPages::Inherited> UnwrittenPages::inherited() {
  std::vector<Inherited> inherited;
  if (area_ == nullptr) return inherited;
  const std::uint32_t end = area_->end.load();
  for (std::uint32_t slot = 0; slot < end; ++slot) {
    UnwrittenRecord& record = area_->records[slot];
    if (record.state == UnwrittenRecord::kKept) {
      inherited.push_back({slot, record.order, {record.message, record.message + record.size}});
    } else if (record.state == UnwrittenRecord::kTaken) {
      drop(slot);  // by a server that died over it
    }
  }
  std::sort(inherited.begin(), inherited.end(),
            [](const Inherited& a, const Inherited& b) { return a.order < b.order; });
  return inherited;
}

}  // namespace berth::fuse
