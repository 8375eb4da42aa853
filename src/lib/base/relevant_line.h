#pragma once

#include <string_view>

namespace berth {

/// The line of a program's output that says best why it failed: the last one that names a cause, for programs say what they do first.
/// Not what only follows from it ("read: Connection reset by peer"), nor where more can be read, nor how the program is used. Where
/// none names a cause it is the last line that is none of these, or the last one at all; empty where there is no line.
std::string_view relevant_line(std::string_view output) noexcept;

}  // namespace berth
