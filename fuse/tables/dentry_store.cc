#include "fuse/tables/dentry_store.h"

#include <cstring>
#include <new>

namespace berth::fuse {
namespace {

constexpr std::size_t units_of(std::size_t name) noexcept { return (DentryRecord::kHeader + name + 1 + 15) / 16; }

/// Free dentries are chained by the numbers where names would have their parents.
std::uint32_t next_of(const DentryRecord& free) noexcept { return static_cast<std::uint32_t>(free.parent); }

}  // namespace

std::uint32_t DentryStore::add(std::uint64_t parent, std::string_view name) {
  const std::size_t units = units_of(name.size());
  if (units >= kSizes) throw std::bad_alloc();
  if (free_[units] == 0) take_page(units);
  const std::uint32_t dentry = free_[units];
  DentryRecord& it = record(dentry);
  free_[units] = next_of(it);
  it.parent = parent;
  it.length = static_cast<std::uint16_t>(name.size());
  std::memcpy(it.name(), name.data(), name.size());
  it.name()[name.size()] = '\0';
  return dentry;
}

void DentryStore::remove(std::uint32_t dentry) noexcept {
  if (dentry != 0) put_free(dentry, units_of(record(dentry).length));
}

void DentryStore::put_free(std::uint32_t dentry, std::size_t units) noexcept {
  record(dentry).parent = free_[units];
  free_[units] = dentry;
}

void DentryStore::take_page(std::size_t units) {
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

void DentryStore::take_over(NodeArea& area, std::array<DentryStore*, NodeArea::kParts> stores,
                            const std::vector<bool>& in_use) {
  const std::uint32_t pages = area.pages.load();
  for (std::uint32_t page = 0; page < pages; ++page) {
    const std::size_t units = header(area, page).units.load();
    // A page that a dying server was about to use is lost, which happens once a crash at most.
    if (units == 0 || units >= kSizes || header(area, page).part >= NodeArea::kParts) continue;
    for (std::size_t at = 1; at + units <= kUnitsInPage; at += units) {
      const std::uint32_t dentry = page * kUnitsInPage + static_cast<std::uint32_t>(at);
      if (!in_use[dentry]) stores[header(area, page).part]->put_free(dentry, units);
    }
  }
}

}  // namespace berth::fuse
