#include "src/config/mistakes.h"

#include <algorithm>
#include <cerrno>

#include "src/config/config.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

// More than are listed, so that the first ones are listed although sections are not read in the order of their lines.
constexpr std::size_t kMaxKept = 100 * kMaxMistakesTold;

}  // namespace

void Mistakes::begin(std::string file) { files_.push_back(std::move(file)); }

void Mistakes::add(std::uint32_t line, std::string message) {
  if (++count_ <= kMaxKept) mistakes_.push_back({files_.size() - 1, line, mask_secrets(message)});
}

bool Mistakes::full() const noexcept { return count_ >= kMaxKept; }

Error Mistakes::error() const {
  std::vector<const Mistake*> sorted;
  for (const Mistake& mistake : mistakes_) sorted.push_back(&mistake);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Mistake* a, const Mistake* b) {
    return a->file != b->file ? a->file < b->file : a->line < b->line;
  });
  const std::size_t told = std::min(sorted.size(), kMaxMistakesTold);
  std::string story;
  for (std::size_t i = 0; i < told; ++i) {
    const Mistake& mistake = *sorted[i];
    if (i > 0) story += '\n';
    story += files_[mistake.file];
    if (mistake.line > 0) story += ":" + std::to_string(mistake.line);
    story += ": " + mistake.message;
  }
  if (count_ > told) story += "\nand " + std::to_string(count_ - told) + " more";
  return Error(EINVAL, std::move(story));
}

std::string shown(std::string_view text) {
  constexpr std::size_t kShown = 80;
  const std::string masked = mask_secrets(text);  // before it is cut: half a URL is none
  if (masked.size() <= kShown) return quote(masked);
  return quote(std::string_view(masked).substr(0, kShown)) + "...";
}

}  // namespace berth::config
