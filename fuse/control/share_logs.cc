#include "fuse/control/share_logs.h"

#include <algorithm>

#include "src/lib/base/hash.h"

namespace berth::fuse {
ShareLogs::ShareLogs(LogArea* area)
    : own_(area == nullptr ? std::make_unique<LogArea>() : nullptr), area_(area == nullptr ? *own_ : *area) {}

ShareLogs::~ShareLogs() = default;

LogArea::Log* ShareLogs::find(std::string_view share) const noexcept {
  const std::uint64_t hash = fnv1a(share);
  for (LogArea::Log& log : area_.logs) {
    if (log.share == hash) return &log;
  }
  return nullptr;
}

/// The one of the share, or a free one, or that of the share that has been silent for longest.
LogArea::Log& ShareLogs::find_or_take(std::string_view share) {
  if (LogArea::Log* const log = find(share)) return *log;
  LogArea::Log& taken =
      *std::min_element(std::begin(area_.logs), std::end(area_.logs),
                        [](const LogArea::Log& a, const LogArea::Log& b) { return a.written < b.written; });
  taken.share = 0;
  taken.end = 0;
  taken.share = fnv1a(share);
  return taken;
}

void ShareLogs::append(std::string_view share, std::string_view lines) {
  MutexLock lock(mutex_);
  LogArea::Log& log = find_or_take(share);
  lines = lines.substr(lines.size() - std::min(lines.size(), LogArea::kSize));
  const std::uint64_t end = log.end;
  for (std::size_t i = 0; i < lines.size(); ++i) log.text[(end + i) % LogArea::kSize] = lines[i];
  log.end = end + lines.size();
  log.written = ++area_.writes;
}

std::string ShareLogs::text_of(std::string_view share) const {
  std::string text;
  MutexLock lock(mutex_);
  const LogArea::Log* const log = find(share);
  if (log == nullptr) return text;
  const std::uint64_t end = log->end;
  std::uint64_t at = end - std::min<std::uint64_t>(end, LogArea::kSize);
  const bool is_cut = at > 0;
  text.reserve(end - at);
  for (; at < end; ++at) text.push_back(log->text[at % LogArea::kSize]);
  // The first line has lost its beginning.
  if (is_cut) text.erase(0, std::min(text.find('\n'), text.size() - 1) + 1);
  return text;
}

}  // namespace berth::fuse
