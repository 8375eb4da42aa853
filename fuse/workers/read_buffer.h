#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "fuse/kept/requests.h"

namespace berth::fuse {

/// Where a request is read into: where it outlives us, so that a successor sees what was read; or in memory of our own, of which
/// none is taken before a large request comes, and all given back at the end.
///
/// Threading: one thread at a time.
class ReadBuffer {
 public:
  /// `requests` outlives it. Null: there is no memory.
  static std::unique_ptr<ReadBuffer> make(Requests& requests, std::size_t size) noexcept;
  ~ReadBuffer();
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  /// Null where nobody will succeed us.
  [[nodiscard]] RequestRecord* record() const noexcept { return record_; }
  [[nodiscard]] std::span<char> bytes() const noexcept { return bytes_; }
  /// To be called before each read.
  void make_ready() noexcept { requests_.make_ready(record_, ready_); }

 private:
  ReadBuffer(Requests& requests, RequestRecord* record, std::span<char> bytes) noexcept
      : requests_(requests), record_(record), bytes_(bytes) {}

  Requests& requests_;
  RequestRecord* const record_;
  const std::span<char> bytes_;
  std::size_t ready_ = 0;
};

}  // namespace berth::fuse
