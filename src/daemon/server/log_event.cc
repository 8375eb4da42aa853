#include "src/daemon/server/log_event.h"

#include <array>
#include <string>
#include <vector>

#include "src/lib/base/quantity.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"

namespace berth::daemon {
namespace {

log::Level level_of(manager::Event::Kind kind) noexcept {
  switch (kind) {
    case manager::Event::Kind::kMountFailed:
    case manager::Event::Kind::kPassedOver:
    case manager::Event::Kind::kUnmountFailed:
    case manager::Event::Kind::kLost:
    case manager::Event::Kind::kStalled:
    case manager::Event::Kind::kStateDamaged:
    case manager::Event::Kind::kWarning:
      return log::Level::kWarning;
    case manager::Event::Kind::kMounting:
    case manager::Event::Kind::kUnmounting:
      return log::Level::kDebug;
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
      return log::Level::kInfo;
  }
  return log::Level::kInfo;
}

}  // namespace

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
  const std::string attempt = std::to_string(event.attempt);
  const std::string code = std::to_string(event.code);
  std::vector<log::Field> fields{{"BERTH_EVENT", to_string(event.kind)}};
  if (!event.share.empty()) fields.push_back({"BERTH_SHARE", event.share});
  if (event.attempt > 0) fields.push_back({"BERTH_ATTEMPT", attempt});
  if (event.code > 0) fields.push_back({"ERRNO", code});
  log::write(level_of(event.kind), line, fields);
}

void log_output(const std::string& share, std::string_view lines) {
  const std::array<log::Field, 1> fields{{{"BERTH_SHARE", share}}};
  for (const std::string_view line : split(lines, '\n')) {
    if (!line.empty()) {
      log::write(log::Level::kInfo, "share " + quote(share) + ": its program says: " + std::string(line), fields);
    }
  }
}

}  // namespace berth::daemon
