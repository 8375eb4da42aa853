#pragma once

#include <string>
#include <string_view>

namespace berth::manager {

/// The server that a source is on, as far as its text says: "filer" of "filer:/media", "user@filer:/media",
/// "[fe80::1]:/x", "//filer/share" and "https://filer:8080/dav". "": it does not, as of a path or a mere name.
[[nodiscard]] std::string server_of(std::string_view source);

}  // namespace berth::manager
