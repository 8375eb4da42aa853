#include "src/control/word.h"

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "src/base/text.h"

namespace berth::control {

namespace {

constexpr std::array<std::pair<std::string_view, Word>, 4> kWords{{
    {"mount", Word::kMount},
    {"unmount", Word::kUnmount},
    {"force-unmount", Word::kForceUnmount},
    {"retry", Word::kRetry},
}};

/// Most bytes of a refused word that are repeated in the error.
constexpr std::size_t kRepeated = 64;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string refusal(std::string_view word) {
  std::vector<std::string_view> candidates;
  candidates.reserve(kWords.size());
  for (const auto& [name, value] : kWords) candidates.push_back(name);
  std::string story = word.empty() ? "nothing to do was written" : "unknown word " + quote(word.substr(0, kRepeated));
  const std::string_view meant = nearest(word.substr(0, kRepeated), candidates);
  if (!word.empty() && !meant.empty()) return story.append("; did you mean ").append(quote(meant)).append("?");
  return story.append("; write one of: mount, unmount, force-unmount, retry");
}

}  // namespace

std::string_view to_string(Word word) noexcept {
  for (const auto& [name, value] : kWords) {
    if (value == word) return name;
  }
  return "";
}

Result<Word> parse_word(std::string_view written) {
  if (written.size() > kMaxControlWrite) {
    return fail(EMSGSIZE, "a write to a control file has at most " + std::to_string(kMaxControlWrite) + " bytes");
  }
  const std::string_view word = trim(written);
  for (const auto& [name, value] : kWords) {
    if (name == word) return value;
  }
  return fail(EINVAL, refusal(word));
}

}  // namespace berth::control
