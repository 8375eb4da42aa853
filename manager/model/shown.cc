#include "manager/model/shown.h"

#include <algorithm>

#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

bool is_control(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  return byte < 0x20 || byte == 0x7f;
}

}  // namespace

bool holds_control(std::string_view text) noexcept { return std::any_of(text.begin(), text.end(), is_control); }

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 80;
  // Before it is cut: half a URL does not look like one.
  const std::string masked = mask_secrets(text);
  if (masked.size() <= kShown) return quote(masked);
  return quote(std::string_view(masked).substr(0, kShown)) + "...";
}

}  // namespace berth::manager
