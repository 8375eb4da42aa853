#include "fuse/tables/place_store.h"

#include <cstring>
#include <new>

namespace berth::fuse {
namespace {

constexpr std::size_t units_of(std::size_t name) noexcept { return (PlaceRecord::kHeader + name + 1 + 15) / 16; }

/// Free places are chained by the numbers where names would have their parents.
std::uint32_t next_of(const PlaceRecord& free) noexcept { return static_cast<std::uint32_t>(free.parent); }

}  // namespace

std::uint32_t PlaceStore::add(std::uint64_t parent, std::string_view name) {
  const std::size_t units = units_of(name.size());
  if (units >= kSizes) throw std::bad_alloc();
  if (free_[units] == 0) take_page(units);
  const std::uint32_t place = free_[units];
  PlaceRecord& it = record(place);
  free_[units] = next_of(it);
  it.parent = parent;
  it.length = static_cast<std::uint16_t>(name.size());
  std::memcpy(it.name(), name.data(), name.size());
  it.name()[name.size()] = '\0';
  return place;
}

void PlaceStore::remove(std::uint32_t place) noexcept {
  if (place != 0) put_free(place, units_of(record(place).length));
}

void PlaceStore::put_free(std::uint32_t place, std::size_t units) noexcept {
  record(place).parent = free_[units];
  free_[units] = place;
}

void PlaceStore::take_page(std::size_t units) {
  const std::uint32_t page = area_.pages.fetch_add(1);
  if (page >= NodeArea::kMaxPages) {
    area_.pages.store(NodeArea::kMaxPages);
    throw std::bad_alloc();
  }
  PageHeader& taken = header(area_, page);
  taken.part = part_;
  taken.units.store(static_cast<std::uint32_t>(units), std::memory_order_release);
  const std::uint32_t first = page * kUnitsInPage;
  for (std::size_t at = 1; at + units <= kUnitsInPage; at += units) {
    put_free(first + static_cast<std::uint32_t>(at), units);
  }
}

void PlaceStore::recover(NodeArea& area, std::array<PlaceStore*, NodeArea::kParts> stores,
                         const std::vector<bool>& in_use) {
  const std::uint32_t pages = area.pages.load();
  for (std::uint32_t page = 0; page < pages; ++page) {
    const std::size_t units = header(area, page).units.load();
    // A page that a dying server was about to use is lost, which happens once a crash at most.
    if (units == 0 || units >= kSizes || header(area, page).part >= NodeArea::kParts) continue;
    for (std::size_t at = 1; at + units <= kUnitsInPage; at += units) {
      const std::uint32_t place = page * kUnitsInPage + static_cast<std::uint32_t>(at);
      if (!in_use[place]) stores[header(area, page).part]->put_free(place, units);
    }
  }
}

}  // namespace berth::fuse
