#pragma once

#include <string_view>

namespace berth {

/// The line of a program's output that best explains its failure: the last one that names a cause, because programs
/// first print what they do. Not a mere consequence ("read: Connection reset by peer"), nor a hint where more can be
/// read, nor a usage line. If none names a cause it is the last line that is none of these, or the last one at all;
/// empty where there is no line.
std::string_view relevant_line(std::string_view output) noexcept;

}  // namespace berth
