#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <utility>

#include "src/lib/base/result.h"

namespace berth::config {

/// Users and groups by name or number. Each name is looked up once.
///
/// Threading: one thread at a time. May block on the user database (nsswitch.conf(5)).
class Accounts {
 public:
  /// Names and the numbers that they have.
  struct Names {
    std::map<std::string, uid_t> users;
    std::map<std::string, gid_t> groups;

    void merge(Names other);
  };

  /// Errors: ENOENT with a story that names the unknown account.
  Result<uid_t> user(const std::string& name);
  Result<gid_t> group(const std::string& name);

  /// Whether they have the same numbers now.
  [[nodiscard]] bool are_still(const Names& names);
  /// Those that were asked for since the last call of this, and that there are.
  [[nodiscard]] Names take_asked() { return std::exchange(asked_, {}); }

 private:
  Names known_;
  Names asked_;
};

}  // namespace berth::config
