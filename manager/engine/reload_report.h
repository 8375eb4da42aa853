#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace berth::manager {

/// What has become, or would become, of the shares when another catalog takes the place of the one in force.
struct ReloadReport {
  struct Share {
    std::string name;
    std::uint64_t users = 0;               ///< callers that are inside
    std::uint64_t overmount = 0;           ///< of a native one: whose processes are counted before it is told
    std::vector<std::string> attachments;  ///< "instance/volume": they hold it
    bool is_pending = false;               ///< changed, and in use: the change waits until it is not
  };
  std::vector<std::string> added;
  std::vector<Share> changed;
  std::vector<Share> removed;

  [[nodiscard]] bool is_empty() const noexcept { return added.empty() && changed.empty() && removed.empty(); }
};

/// One line: "+2 added, 1 changed (media: pending, 3 users), 1 removed (old: 2 users)"; "nothing has changed".
std::string to_string(const ReloadReport& report);

}  // namespace berth::manager
