#include "src/lib/sys/file_handle.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace berth::sys {
namespace {

/// Room for the longest handle, laid out as the kernel requires it.
struct HandleRoom {
  HandleRoom() noexcept { get()->handle_bytes = MAX_HANDLE_SZ; }
  file_handle* get() noexcept { return reinterpret_cast<file_handle*>(room.data()); }

  alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> room{};
};

}  // namespace

Result<FileHandle> handle_of(int directory, const char* name) {
  HandleRoom room;
  int mount = 0;
  if (::name_to_handle_at(directory, name, room.get(), &mount, 0) != 0) return fail_errno();
  const char* const bytes = room.room.data() + sizeof(file_handle);
  return FileHandle{room.get()->handle_type, std::string(bytes, room.get()->handle_bytes)};
}

Result<UniqueFd> open_by_handle(int directory, const FileHandle& handle, int flags) {
  HandleRoom room;
  const std::size_t size = std::min<std::size_t>(handle.bytes.size(), MAX_HANDLE_SZ);
  room.get()->handle_bytes = static_cast<unsigned>(size);
  room.get()->handle_type = handle.type;
  std::memcpy(room.room.data() + sizeof(file_handle), handle.bytes.data(), size);
  UniqueFd file(::open_by_handle_at(directory, room.get(), flags | O_CLOEXEC));
  if (!file) return fail_errno();
  return file;
}

}  // namespace berth::sys
