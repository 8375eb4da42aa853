#include "fuse/kept/name_log.h"

#include <algorithm>
#include <cstring>

namespace berth::fuse {

bool append(NameLog& log, std::string_view name) noexcept {
  const std::uint32_t at = log.used;
  const auto length = static_cast<std::uint16_t>(name.size());
  if (name.size() > UINT16_MAX || at + sizeof length + name.size() > NameLog::kSize) return false;
  std::memcpy(log.bytes + at, &length, sizeof length);
  std::memcpy(log.bytes + at + sizeof length, name.data(), name.size());
  log.used.store(static_cast<std::uint32_t>(at + sizeof length + name.size()), std::memory_order_release);
  return true;
}

std::vector<std::string> read_all(const NameLog& log) {
  std::vector<std::string> names;
  const std::size_t end = std::min<std::size_t>(log.used, NameLog::kSize);
  for (std::size_t at = 0; at + sizeof(std::uint16_t) <= end;) {
    std::uint16_t length = 0;
    std::memcpy(&length, log.bytes + at, sizeof length);
    at += sizeof length;
    names.emplace_back(log.bytes + at, std::min<std::size_t>(length, end - at));
    at += length;
  }
  return names;
}

}  // namespace berth::fuse
