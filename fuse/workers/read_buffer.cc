#include "fuse/workers/read_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <new>

namespace berth::fuse {

std::unique_ptr<ReadBuffer> ReadBuffer::make(Requests& requests, std::size_t size) noexcept {
  RequestRecord* const record = requests.acquire();
  std::span<char> bytes;
  if (record != nullptr) {
    bytes = {record->message, std::min(size, sizeof record->message)};
  } else {
    void* const memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    bytes = {static_cast<char*>(memory), size};
  }
  std::unique_ptr<ReadBuffer> made(new (std::nothrow) ReadBuffer(requests, record, bytes));
  if (made == nullptr) record != nullptr ? requests.release(record) : static_cast<void>(::munmap(bytes.data(), size));
  return made;
}

ReadBuffer::~ReadBuffer() {
  if (record_ != nullptr) {
    requests_.release(record_);
  } else {
    ::munmap(bytes_.data(), bytes_.size());
  }
}

}  // namespace berth::fuse
