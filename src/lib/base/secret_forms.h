#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// A text without its percent-encoding (RFC 3986), and where each byte of it was.
struct Decoded {
  std::string text;
  std::vector<std::size_t> origins;  ///< one more than bytes
  bool changed = false;
};

Decoded decode_percent(std::string_view text);

/// The forms in which programs, and berth itself, print a secret: without the escapes of an option list or of a URL,
/// encoded for a URL or a form, in base64, quoted for a shell or a message, and each line of several.
std::vector<std::string> forms_of_secret(std::string_view secret);

}  // namespace berth
