#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "fuse/kept/kept_state.h"

namespace berth::fuse {

/// The DentryRecords of one part of the node table, in the shared memory: sizes in steps of 16 bytes, each page of one
/// size and one part. What is free is known here alone, and computed again from what is in use.
///
/// Threading: one thread at a time; different parts at once.
class DentryStore {
 public:
  DentryStore(NodeArea& area, std::uint32_t part) noexcept : area_(area), part_(part) {}

  /// Errors: throws std::bad_alloc when the memory for names is used up.
  std::uint32_t add(std::uint64_t parent, std::string_view name);
  void remove(std::uint32_t dentry) noexcept;
  [[nodiscard]] const DentryRecord& at(std::uint32_t dentry) const noexcept { return record(dentry); }
  [[nodiscard]] std::string_view name(std::uint32_t dentry) const noexcept {
    return {record(dentry).name(), record(dentry).length};
  }

  /// Computes what is free in the pages of all parts. `in_use`: for each dentry whether a node points to it.
  static void take_over(NodeArea& area, std::array<DentryStore*, NodeArea::kParts> stores,
                        const std::vector<bool>& in_use);

 private:
  static constexpr std::size_t kUnit = 16;
  static constexpr std::size_t kSizes = 18;  ///< up to a name of 255 bytes
  static constexpr std::uint32_t kUnitsInPage = NodeArea::kPageSize / kUnit;

  /// The first unit of a page.
  struct PageHeader {
    std::uint32_t part;
    std::atomic<std::uint32_t> units;  ///< of each dentry in it; 0: the page is not in use. Stored last.
  };

  [[nodiscard]] DentryRecord& record(std::uint32_t dentry) const noexcept {
    return *reinterpret_cast<DentryRecord*>(&area_.names[dentry * kUnit]);
  }
  static PageHeader& header(NodeArea& area, std::uint32_t page) noexcept {
    return *reinterpret_cast<PageHeader*>(&area.names[page * NodeArea::kPageSize]);
  }
  void put_free(std::uint32_t dentry, std::size_t units) noexcept;
  void take_page(std::size_t units);

  NodeArea& area_;
  const std::uint32_t part_;
  std::array<std::uint32_t, kSizes> free_{};  ///< the first of each size, chained; 0: none (it is a page header)
};

}  // namespace berth::fuse
