#pragma once

#include <string>
#include <string_view>

namespace berth::manager {

/// `text` quoted for a message, without secrets, and cut after 80 bytes.
std::string shown(std::string_view text);

/// Whether `text` has a byte below 0x20 or the byte 0x7f.
bool holds_control(std::string_view text) noexcept;

}  // namespace berth::manager
