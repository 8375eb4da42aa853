#include "src/daemon/common/control_groups.h"

#include <utility>

#include "src/lib/base/result.h"
#include "src/lib/sys/control_group.h"

namespace berth::daemon {
namespace {

constexpr const char* kDaemon = "daemon";
constexpr const char* kQuestions = "questions";

Result<ControlGroups> enter(UniqueFd delegated) {
  const UniqueFd daemon = TRY(sys::make_group(delegated.get(), kDaemon));
  UniqueFd questions = TRY(sys::make_group(delegated.get(), kQuestions));
  TRY_VOID(sys::enter_group(daemon.get()));
  sys::account_below(delegated.get());
  return ControlGroups{.delegated = std::move(delegated), .questions = std::move(questions)};
}

}  // namespace

ControlGroups enter_control_groups() {
  UniqueFd delegated = sys::find_delegated_group(kDaemon);
  if (!delegated) return {};
  Result<ControlGroups> groups = enter(std::move(delegated));
  return groups ? *std::move(groups) : ControlGroups{};
}

}  // namespace berth::daemon
