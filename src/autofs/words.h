#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/autofs/entry.h"
#include "src/lib/base/result.h"

namespace berth::autofs {

/// A word of an entry, without quotes and escapes, the key and variables put in.
struct Word {
  enum class Kind : std::uint8_t {
    kOptions,   ///< "-ro,soft", without the '-'
    kOffset,    ///< "/usr"
    kLocation,  ///< "host:/path", ":/dev/sda1"
  };
  Kind kind = Kind::kLocation;
  std::string text;
};

/// Splits an entry. What is put in is text: it separates no words, and is not read again.
/// Errors: EINVAL with a story: an unknown variable, an open quote.
Result<std::vector<Word>> read_words(std::string_view value, const EntryContext& context);

}  // namespace berth::autofs
