#pragma once

#include <string>
#include <utility>

#include <tl/expected.hpp>

#include "src/lib/base/error.h"

namespace berth {

/// What a function that can fail returns: the value, or the Error.
template <typename T = void>
using Result = tl::expected<T, Error>;

/// The failure side of a Result, from an errno value alone.
inline tl::unexpected<Error> fail(int code) noexcept { return tl::unexpected<Error>(Error(code)); }
/// The failure side of a Result, with its story.
inline tl::unexpected<Error> fail(int code, std::string story) {
  return tl::unexpected<Error>(Error(code, std::move(story)));
}
/// The failure side of a Result, from an Error that came from below.
inline tl::unexpected<Error> fail(Error error) noexcept { return tl::unexpected<Error>(std::move(error)); }
/// The failure side of a Result, from errno.
inline tl::unexpected<Error> fail_errno() noexcept { return tl::unexpected<Error>(Error::last()); }

}  // namespace berth

/// The value of a Result, or return its error from the enclosing function.
///
///   UniqueFd dir = TRY(sys::open_directory(path));
#define TRY(expression)                                                               \
  __extension__({                                                                     \
    auto berth_try_result = (expression);                                             \
    if (!berth_try_result) return ::berth::fail(std::move(berth_try_result).error()); \
    *std::move(berth_try_result);                                                     \
  })

/// Return the error of a Result<void> from the enclosing function, if it has one.
#define TRY_VOID(expression)                                                          \
  do {                                                                                \
    auto berth_try_result = (expression);                                             \
    if (!berth_try_result) return ::berth::fail(std::move(berth_try_result).error()); \
  } while (false)
