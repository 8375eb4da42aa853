#pragma once

#include <string>
#include <vector>

#include "manager/model/share_spec.h"

namespace berth::manager {

/// What the program of a template has answered.
struct LookUpAnswer {
  /// At least one, but for `refused`. Several: those of an entry with mounts below its key. No name is above
  /// another.
  std::vector<ShareFields> shares;
  std::string refused = {};             ///< why the user that asks can have none, and other users may; no shares then
  std::vector<std::string> notes = {};  ///< what of the answer is not carried over, or is otherwise; without secrets
};

}  // namespace berth::manager
