#include "fuse/session/thread_buffer.h"

#include <memory>
#include <new>

namespace berth::fuse {
namespace {

constexpr std::align_val_t kAlignment{4096};

struct Delete {
  void operator()(char* buffer) const noexcept { ::operator delete[](buffer, kAlignment); }
};

struct Buffer {
  std::unique_ptr<char[], Delete> bytes;
  std::size_t size = 0;
};
thread_local Buffer buffer;

}  // namespace

std::span<char> thread_buffer(std::size_t size) {
  if (buffer.size < size) {
    buffer = {};
    buffer.bytes.reset(static_cast<char*>(::operator new[](size, kAlignment)));
    buffer.size = size;
  }
  return {buffer.bytes.get(), size};
}

}  // namespace berth::fuse
