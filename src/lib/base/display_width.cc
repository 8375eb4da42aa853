#include "src/lib/base/display_width.h"

#include <locale.h>
#include <wchar.h>

#include <algorithm>
#include <vector>

#include "src/lib/base/ascii.h"

namespace berth {
namespace {

/// The calling thread counts characters as UTF-8 has them, for a scope. Debian's C library has this locale built in.
class InUtf8 {
 public:
  InUtf8() {
    static const locale_t utf8 = ::newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    if (utf8 != nullptr) before_ = ::uselocale(utf8);
  }
  ~InUtf8() {
    if (before_ != nullptr) ::uselocale(before_);
  }
  InUtf8(const InUtf8&) = delete;
  InUtf8& operator=(const InUtf8&) = delete;

 private:
  locale_t before_ = nullptr;
};

struct Character {
  std::string_view bytes;
  std::size_t columns = 1;
};

std::vector<Character> characters_of(std::string_view text) {
  const InUtf8 utf8;
  std::vector<Character> characters;
  while (!text.empty()) {
    wchar_t wide = 0;
    mbstate_t state{};
    const std::size_t length = ::mbrtowc(&wide, text.data(), text.size(), &state);
    const bool is_character = length != 0 && length <= text.size();
    Character character{.bytes = text.substr(0, is_character ? length : 1)};
    if (is_character) character.columns = static_cast<std::size_t>(std::max(0, ::wcwidth(wide)));
    text.remove_prefix(character.bytes.size());
    characters.push_back(character);
  }
  return characters;
}

}  // namespace

std::size_t display_width(std::string_view text) {
  if (printable_ascii_prefix(text) == text.size()) return text.size();
  std::size_t columns = 0;
  for (const Character& character : characters_of(text)) columns += character.columns;
  return columns;
}

std::string cut_in_the_middle(std::string_view text, std::size_t columns) {
  constexpr std::string_view kCut = "...";
  if (display_width(text) <= columns) return std::string(text);
  if (columns <= kCut.size()) return std::string(kCut.substr(0, columns));
  const std::vector<Character> characters = characters_of(text);
  const std::size_t kept = columns - kCut.size();
  std::string front;
  std::size_t used = 0;
  std::size_t first = 0;
  for (; first < characters.size() && used + characters[first].columns <= (kept + 1) / 2; ++first) {
    used += characters[first].columns;
    front += characters[first].bytes;
  }
  std::size_t last = characters.size();
  while (last > first && used + characters[last - 1].columns <= kept) used += characters[--last].columns;
  std::string cut = front.append(kCut);
  for (; last < characters.size(); ++last) cut += characters[last].bytes;
  return cut;
}

}  // namespace berth
