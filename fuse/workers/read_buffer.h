#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "fuse/kept/requests.h"

namespace berth::fuse {

/// A buffer that a request is read into. It is a part of the kept memory, so that a successor sees what was read.
/// Or it is the process's own memory, which has no pages before a large request needs them, and which ends with it.
///
/// Threading: one thread at a time.
class ReadBuffer {
 public:
  /// `requests` outlives it. `size` is in bytes. Null: there is no memory.
  static std::unique_ptr<ReadBuffer> make(Requests& requests, std::size_t size) noexcept;
  ~ReadBuffer();
  ReadBuffer(const ReadBuffer&) = delete;
  ReadBuffer& operator=(const ReadBuffer&) = delete;

  /// Null: the buffer is the process's own memory, and no successor will see it.
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
