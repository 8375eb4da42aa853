#pragma once

#include <string>

#include "src/lib/base/error.h"

namespace berth {

/// What a person is told of an error where its story says all that there is: the story, or else the C library's words.
/// Never empty.
inline std::string told(const Error& error) {
  return error.story().empty() ? error.message() : std::string(error.story());
}

}  // namespace berth
