#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "src/lib/base/quantity.h"
#include "src/lib/base/result.h"

/// Numbers with units, as people write them.
namespace berth::config {

using berth::kMaxDuration;
using berth::parse_duration;

/// Bytes: "4096", "64KiB", "10M" (K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB of 1000).
/// Errors: EINVAL, ERANGE beyond 64 bits, with a story.
Result<std::uint64_t> parse_size(std::string_view text);

/// Permission bits, octal: "0755". Errors: EINVAL with a story.
Result<mode_t> parse_mode(std::string_view text);

}  // namespace berth::config
