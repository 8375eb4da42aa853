#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "manager/engine/kept_catalog.h"
#include "manager/engine/manager.h"

namespace berth::manager {

/// What a change of the catalog does, worked out before anything is done.
struct CatalogPlan {
  struct NewSpec {
    std::shared_ptr<Share> share;
    ShareSpec spec;
  };
  CatalogLog::Change change;
  std::uint64_t last_incarnation = 0;
  std::vector<std::shared_ptr<Share>> added;    ///< in the order of their names
  std::vector<std::shared_ptr<Share>> removed;  ///< likewise; of some the name is that of an added one
  std::vector<NewSpec> policies;
  std::vector<NewSpec> pending;
  std::vector<std::shared_ptr<Share>> settled;                    ///< nothing is pending any more
  std::set<std::string> configured;                               ///< instances of templates that are none any more
  std::optional<std::map<std::string, std::uint64_t>> templates;  ///< their numbers in the log; nothing: as before
  std::set<std::string> names;  ///< that lead elsewhere, besides those of `added` and `removed`
  ReloadReport report;

  /// All that lead elsewhere.
  [[nodiscard]] std::set<std::string> changed_names() const;
};

}  // namespace berth::manager
