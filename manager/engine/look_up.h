#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "manager/engine/manager.h"

namespace berth::manager {

/// A caller that waits for what a template makes.
struct Looker {
  uid_t user;
  ShareCallback done;
};
/// A name of which a source is asked whether it is there.
struct LookUp {
  LookUp(ShareSpec of, uid_t asked_by) : pattern(std::move(of)), user(asked_by) {}
  ShareSpec pattern;
  uid_t user;
  TimePoint deadline{};
  bool is_listing = false;          ///< of the keys; the name is that of the template
  bool is_again = false;            ///< of a share that is there
  std::optional<std::size_t> slot;  ///< KeptMounts::look_ups; nothing: it waits for its turn
  std::vector<Looker> waiters;
};
/// What a source has answered.
struct SourceAnswer {
  Result<std::vector<ShareSpec>> specs;
  bool has_failed = false;  ///< a program, for every user
  std::vector<std::string> keys = {};
  std::vector<std::string> notes = {};
};

}  // namespace berth::manager
