#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "src/lib/base/result.h"

namespace berth::config {

/// Users and groups by name or number. Each name is looked up once.
///
/// Threading: one thread at a time. May block on the user database (nsswitch.conf(5)).
class Accounts {
 public:
  /// Errors: ENOENT with a story that names the unknown account.
  Result<uid_t> user(const std::string& name);
  Result<gid_t> group(const std::string& name);

 private:
  std::map<std::string, uid_t> users_;
  std::map<std::string, gid_t> groups_;
};

}  // namespace berth::config
