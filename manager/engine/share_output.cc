#include "manager/engine/share_output.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// How much of `text` is whole lines. A private key is told as a whole: its lines alone do not look like a secret.
std::size_t end_of_lines(std::string_view text) {
  const std::size_t last = text.find_last_of("\r\n");
  if (last == std::string_view::npos) return 0;
  const std::size_t key = text.rfind("-----BEGIN ");
  const bool is_cut =
      key != std::string_view::npos && text.substr(0, last + 1).find("-----END ", key) == std::string_view::npos;
  return is_cut && text.size() < ShareOutput::kLongestLine ? key : last + 1;
}

}  // namespace

void ShareOutput::operator()(std::string_view bytes) {
  line_.append(bytes);
  const std::size_t end = end_of_lines(line_);
  // All at once: a secret may have several lines.
  std::string said = line_.substr(0, end);
  line_.erase(0, end);
  if (line_.size() > kLongestLine) {
    // A part of a line may be a part of a secret, which is not known as one.
    left_out_ += line_.size();
    line_.clear();
  }
  if (left_out_ > 0 && !said.empty()) {
    // The end of the long line comes first.
    const std::size_t rest = said.find_first_of("\r\n") + 1;
    said.replace(0, rest, "(a line of " + std::to_string(std::exchange(left_out_, 0) + rest) + " bytes is left out)\n");
  }
  std::replace(said.begin(), said.end(), '\r', '\n');
  std::string lines;
  const std::string masked = secrets_.mask(said);
  for (const std::string_view line : split(masked, '\n')) {
    if (!line.empty()) lines.append(prose(line)).append("\n");
  }
  if (!lines.empty()) tell_(share_, lines);
}

}  // namespace berth::manager
