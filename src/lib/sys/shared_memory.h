#pragma once

#include <cstddef>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::sys {

/// Memory that outlives the process that writes it: a file in memory (memfd_create(2)) that several processes map.
///
/// Sparse: a page is taken when it is first written to. Children inherit the mapping at the same address.
///
/// Ownership: unmaps and closes.
/// Threading: as memory.
class SharedMemory {
 public:
  /// `size` zero bytes; `name` is what /proc shows.
  static Result<SharedMemory> make(const char* name, std::size_t size) noexcept;
  /// Maps memory that another process has made. Errors: EINVAL when it is smaller than `size`.
  static Result<SharedMemory> map(UniqueFd file, std::size_t size) noexcept;

  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] int fd() const noexcept { return file_.get(); }

 private:
  SharedMemory(UniqueFd file, std::byte* data, std::size_t size) noexcept
      : file_(std::move(file)), data_(data), size_(size) {}
  UniqueFd file_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Takes the pages of a part of a shared mapping now, so that no touch of it has to wait for one (MADV_POPULATE_WRITE,
/// Linux 5.14; where that is not known they are taken as ever). False: there is no memory for them.
bool take_shared_pages(std::byte* start, std::size_t length) noexcept;
/// Gives whole pages of a shared mapping back: they read as zeros again (MADV_REMOVE, madvise(2)).
void release_shared_pages(std::byte* start, std::size_t length) noexcept;

}  // namespace berth::sys
