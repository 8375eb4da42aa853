#include "manager/engine/share_output.h"

#include <utility>

#include "src/lib/base/text.h"

namespace berth::manager {

void ShareOutput::operator()(std::string_view bytes) {
  line_.append(bytes);
  std::size_t end = line_.rfind('\n');
  if (end == std::string::npos && line_.size() < kLongestLine) return;
  end = end == std::string::npos ? line_.size() : end + 1;
  // All at once: a key may have several lines.
  const std::string masked = secrets_.mask(std::string_view(line_).substr(0, end));
  line_.erase(0, end);
  std::string lines;
  for (std::string_view line : split(masked, '\n')) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) lines.append(prose(line)).append("\n");
  }
  if (!lines.empty()) tell_(share_, lines);
}

}  // namespace berth::manager
