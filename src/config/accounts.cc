#include "src/config/accounts.h"

#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <vector>

#include "src/config/mistakes.h"

namespace berth::config {
namespace {

constexpr std::size_t kMaxEntry = std::size_t{1} << 20;

std::optional<uid_t> as_number(const std::string& name) {
  uid_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error != std::errc() || end != name.data() + name.size() || id == static_cast<uid_t>(-1)) return std::nullopt;
  return id;
}

/// The entry of the user database that `look_up` (getpwnam_r(3) or its kin) finds.
template <typename Entry, typename LookUp>
Result<std::optional<Entry>> find_entry(const std::string& name, LookUp look_up, std::vector<char>& buffer) {
  for (buffer.resize(4096);; buffer.resize(2 * buffer.size())) {
    Entry entry{};
    Entry* found = nullptr;
    const int error = look_up(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
    if (error == ERANGE && buffer.size() < kMaxEntry) continue;
    if (found != nullptr) return std::optional<Entry>(entry);
    // What getpwnam(3) lists under "not found" beside 0; a name is refused as unknown all the same.
    if (error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM) return std::nullopt;
    return fail(error);
  }
}

template <typename Entry, typename Id, typename LookUp>
Result<Id> find_id(const std::string& name, const char* what, Id Entry::*member, LookUp look_up,
                   std::map<std::string, Id>& known, std::map<std::string, Id>& asked) {
  if (const std::optional<uid_t> number = as_number(name)) return *number;
  if (const auto found = known.find(name); found != known.end()) return asked.insert(*found).first->second;
  if (name.empty() || name.find('\0') != std::string::npos) return fail(ENOENT, shown(name) + " is not a name");
  std::vector<char> buffer;
  Result<std::optional<Entry>> entry = find_entry<Entry>(name, look_up, buffer);
  if (!entry)
    return fail(std::move(entry).error().within("cannot look up the " + std::string(what) + " " + shown(name)));
  if (!*entry) return fail(ENOENT, "there is no " + std::string(what) + " " + shown(name));
  const Id id = (**entry).*member;
  return asked.insert(*known.emplace(name, id).first).first->second;
}

}  // namespace

Result<uid_t> Accounts::user(const std::string& name) {
  return find_id(name, "user", &passwd::pw_uid, getpwnam_r, known_.users, asked_.users);
}

Result<gid_t> Accounts::group(const std::string& name) {
  return find_id(name, "group", &::group::gr_gid, getgrnam_r, known_.groups, asked_.groups);
}

void Accounts::Names::merge(Names other) {
  users.merge(other.users);
  groups.merge(other.groups);
}

bool Accounts::are_still(const Names& names) {
  const auto is_user = [this](const auto& one) { return user(one.first) == one.second; };
  const auto is_group = [this](const auto& one) { return group(one.first) == one.second; };
  return std::all_of(names.users.begin(), names.users.end(), is_user) &&
         std::all_of(names.groups.begin(), names.groups.end(), is_group);
}

}  // namespace berth::config
