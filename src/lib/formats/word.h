#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "src/lib/base/result.h"

namespace berth::control {

/// What can be written to a share's `control`.
enum class Word : std::uint8_t { kMount, kUnmount, kForceUnmount, kRetry };

/// What can be written to the `control` of the whole namespace.
enum class HostWord : std::uint8_t { kDrain, kResume, kUpgrade };

/// Most bytes that a write to a control file may have.
inline constexpr std::size_t kMaxControlWrite = 256;

/// "mount", "unmount", "force-unmount", "retry".
std::string_view to_string(Word word) noexcept;

/// The word that was written; white space around it is ignored.
/// Errors: EINVAL with a story that quotes what was written and says what may be, EMSGSIZE beyond kMaxControlWrite.
Result<Word> parse_word(std::string_view written);

/// "drain", "resume", "upgrade".
std::string_view to_string(HostWord word) noexcept;

/// As parse_word().
Result<HostWord> parse_host_word(std::string_view written);

}  // namespace berth::control
