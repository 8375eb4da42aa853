#include "src/lib/formats/word.h"

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "src/lib/base/text.h"

namespace berth::control {

namespace {

template <typename W>
struct Named {
  std::string_view name;
  W word;
};

constexpr std::array<Named<Word>, 4> kWords{{
    {"mount", Word::kMount},
    {"unmount", Word::kUnmount},
    {"force-unmount", Word::kForceUnmount},
    {"retry", Word::kRetry},
}};
constexpr std::array<Named<HostWord>, 3> kHostWords{{
    {"drain", HostWord::kDrain},
    {"resume", HostWord::kResume},
    {"upgrade", HostWord::kUpgrade},
}};

/// Most bytes of a refused word that are repeated in the error.
constexpr std::size_t kRepeated = 64;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string refusal(std::string_view word, const std::vector<std::string_view>& candidates) {
  std::string story = word.empty() ? "nothing to do was written" : "unknown word " + quote(word.substr(0, kRepeated));
  const std::string_view meant = nearest(word.substr(0, kRepeated), candidates);
  if (!word.empty() && !meant.empty()) return story.append("; did you mean ").append(quote(meant)).append("?");
  story += "; write one of: ";
  for (const std::string_view candidate : candidates) {
    if (candidate != candidates.front()) story += ", ";
    story += candidate;
  }
  return story;
}

template <typename Words, typename W>
std::string_view name_of(const Words& words, W word) noexcept {
  for (const auto& named : words) {
    if (named.word == word) return named.name;
  }
  return "";
}

template <typename W, std::size_t kSize>
Result<W> parse(const std::array<Named<W>, kSize>& words, std::string_view written) {
  if (written.size() > kMaxControlWrite) {
    return fail(EMSGSIZE, "a write to a control file has at most " + std::to_string(kMaxControlWrite) + " bytes");
  }
  const std::string_view word = trim(written);
  std::vector<std::string_view> candidates;
  for (const auto& named : words) {
    if (named.name == word) return named.word;
    candidates.push_back(named.name);
  }
  return fail(EINVAL, refusal(word, candidates));
}

}  // namespace

std::string_view to_string(Word word) noexcept { return name_of(kWords, word); }
std::string_view to_string(HostWord word) noexcept { return name_of(kHostWords, word); }

Result<Word> parse_word(std::string_view written) { return parse(kWords, written); }
Result<HostWord> parse_host_word(std::string_view written) { return parse(kHostWords, written); }

}  // namespace berth::control
