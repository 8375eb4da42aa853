#pragma once

#include <string_view>

namespace berth {

/// Whether `path` is `directory` or lies below it, by their names alone. `directory`: "/", or without '/' at its end;
/// nothing lies below "".
inline bool is_below(std::string_view path, std::string_view directory) noexcept {
  if (directory.empty() || !path.starts_with(directory)) return false;
  return directory == "/" || path.size() == directory.size() || path[directory.size()] == '/';
}

}  // namespace berth
