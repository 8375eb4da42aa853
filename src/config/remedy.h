#pragma once

#include <string>
#include <string_view>

namespace berth::config {

/// What to do about a line that is not TOML, in words; empty where that is not known. Tells keys and names of sections,
/// and no value, because that may be a secret.
std::string remedy_of(std::string_view line, std::string_view description);

}  // namespace berth::config
