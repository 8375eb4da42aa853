#include "src/daemon/server/log_event.h"

#include <string>

#include "src/lib/base/quantity.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"

namespace berth::daemon {

void log_event(const manager::Event& event) {
  std::string line = event.share.empty() ? "" : "share " + quote(event.share) + ": ";
  line += to_string(event.kind);
  if (event.attempt > 0) line += ", attempt " + std::to_string(event.attempt);
  if (event.took.count() > 0) line += ", took " + format_duration(event.took);
  if (!event.reason.empty()) line += ", " + quote(event.reason);
  // Of several lines one was chosen as the reason; here are all.
  if (const std::size_t end = event.detail.find('\n'); end != std::string::npos && end + 1 < event.detail.size()) {
    line += "\n" + event.detail;
  }
  switch (event.kind) {
    case manager::Event::Kind::kMountFailed:
    case manager::Event::Kind::kPassedOver:
    case manager::Event::Kind::kUnmountFailed:
    case manager::Event::Kind::kLost:
    case manager::Event::Kind::kStalled:
    case manager::Event::Kind::kStateDamaged:
    case manager::Event::Kind::kWarning:
      return log::write(log::Level::kWarning, line);
    case manager::Event::Kind::kMounting:
    case manager::Event::Kind::kUnmounting:
      return log::write(log::Level::kDebug, line);
    case manager::Event::Kind::kMounted:
    case manager::Event::Kind::kUnmounted:
    case manager::Event::Kind::kAnswers:
    case manager::Event::Kind::kNative:
    case manager::Event::Kind::kProxied:
    case manager::Event::Kind::kAttached:
    case manager::Event::Kind::kDetached:
    case manager::Event::Kind::kRestored:
    case manager::Event::Kind::kDraining:
    case manager::Event::Kind::kDrained:
    case manager::Event::Kind::kResumed:
      return log::write(log::Level::kInfo, line);
  }
}

void log_output(const std::string& share, std::string_view lines) {
  for (const std::string_view line : split(lines, '\n')) {
    if (!line.empty()) log::info("share {}: its program says: {}", quote(share), line);
  }
}

}  // namespace berth::daemon
