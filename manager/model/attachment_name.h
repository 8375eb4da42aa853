#pragma once

#include <cstddef>
#include <string_view>

namespace berth::manager {

/// Longest name of an instance or a volume: NAME_MAX, for an attachment is shown as a directory.
inline constexpr std::size_t kMaxAttachmentName = 255;

/// Whether `name` can be an instance or a volume: what a directory can be called.
constexpr bool is_attachment_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kMaxAttachmentName && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

}  // namespace berth::manager
