#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace berth {

/// Columns that `text` takes on a terminal: two for an East Asian wide character, none for a combining one (wcwidth(3),
/// in UTF-8 whatever the locale). A byte that is not UTF-8 takes one.
std::size_t display_width(std::string_view text);

/// `text` in at most `columns`: cut in the middle, where "..." stands then, so that both ends are seen.
std::string cut_in_the_middle(std::string_view text, std::size_t columns);

}  // namespace berth
