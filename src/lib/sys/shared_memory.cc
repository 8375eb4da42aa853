#include "src/lib/sys/shared_memory.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace berth::sys {

Result<SharedMemory> SharedMemory::make(const char* name, std::size_t size) noexcept {
  UniqueFd file(::memfd_create(name, MFD_CLOEXEC));
  if (!file) return fail_errno();
  if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return fail_errno();
  return map(std::move(file), size);
}

Result<SharedMemory> SharedMemory::map(UniqueFd file, std::size_t size) noexcept {
  struct stat attributes {};
  if (::fstat(file.get(), &attributes) != 0) return fail_errno();
  // Beyond the end of the file each touch would be SIGBUS.
  if (static_cast<std::size_t>(attributes.st_size) < size) return fail(EINVAL);
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (data == MAP_FAILED) return fail_errno();
  // Of no use in a core dump, and far too large for one.
  ::madvise(data, size, MADV_DONTDUMP);
  return SharedMemory(std::move(file), static_cast<std::byte*>(data), size);
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : file_(std::move(other.file_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

bool take_shared_pages(std::byte* start, std::size_t length) noexcept {
  return ::madvise(start, length, MADV_POPULATE_WRITE) == 0 || errno == EINVAL;
}

void release_shared_pages(std::byte* start, std::size_t length) noexcept { ::madvise(start, length, MADV_REMOVE); }

}  // namespace berth::sys
