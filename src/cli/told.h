#pragma once

#include <string>

#include "src/lib/base/error.h"

namespace berth::cli {

/// What a person is told of an error: its story, which says all there is; without one the C library's words. Never
/// empty.
inline std::string told(const Error& error) {
  return error.story().empty() ? error.message() : std::string(error.story());
}

}  // namespace berth::cli
