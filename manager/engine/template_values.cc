#include "manager/engine/template_values.h"

#include <grp.h>
#include <pwd.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <vector>

namespace berth::manager {
namespace {

constexpr std::size_t kLargestEntry = std::size_t{1} << 20;

struct User {
  uid_t number = 0;
  gid_t group = 0;
  std::string name, home;
};

/// An entry of a database, by one of getpwnam_r(3) and its like. Nothing: there is none, or none can be had.
template <typename Entry, typename Get, typename Take>
auto look_up(Get get, Take take) -> std::optional<decltype(take(Entry{}))> {
  std::vector<char> space(4096);
  for (;;) {
    Entry entry{};
    Entry* found = nullptr;
    const int code = get(&entry, space.data(), space.size(), &found);
    if (code == EINTR) continue;
    if (code != ERANGE || space.size() >= kLargestEntry) {
      if (found == nullptr) return std::nullopt;
      return take(*found);
    }
    space.resize(2 * space.size());
  }
}

User user_of(const passwd& entry) { return {entry.pw_uid, entry.pw_gid, entry.pw_name, entry.pw_dir}; }

std::optional<User> find_user(const std::string& name) {
  return look_up<passwd>([&](auto... to) { return ::getpwnam_r(name.c_str(), to...); }, user_of);
}
std::optional<User> find_user(uid_t number) {
  return look_up<passwd>([&](auto... to) { return ::getpwuid_r(number, to...); }, user_of);
}
std::optional<std::string> name_of_group(gid_t number) {
  return look_up<group>([&](auto... to) { return ::getgrgid_r(number, to...); },
                        [](const group& entry) { return std::string(entry.gr_name); });
}

Result<> add_caller(TemplateValues& values, uid_t user) {
  const std::optional<User> caller = find_user(user);
  if (!caller) return fail(ENOENT);
  values.variables["uid"] = std::to_string(user);
  values.variables["gid"] = std::to_string(caller->group);
  values.variables["user"] = caller->name;
  values.variables["home"] = caller->home;
  if (const std::optional<std::string> name = name_of_group(caller->group)) values.variables["group"] = *name;
  values.only_user = user;
  return {};
}

}  // namespace

TemplateValues caller_values(uid_t user) {
  TemplateValues values{.key = {}, .variables = {{"uid", std::to_string(user)}}, .key_user = {}, .only_user = user};
  (void)add_caller(values, user);  // it may not be there
  return values;
}

void add_host_values(TemplateValues& values) {
  utsname host{};
  if (::uname(&host) != 0) return;
  const std::string name = host.nodename;
  values.variables["host"] = name;
  values.variables["shost"] = name.substr(0, name.find('.'));
  values.variables["arch"] = host.machine;
}

Result<TemplateValues> values_for(const ShareSpec& pattern, std::string_view key, uid_t user) {
  TemplateValues values{.key = std::string(key), .variables = {}, .key_user = {}, .only_user = {}};
  add_host_values(values);
  const std::vector<uid_t>& allowed = pattern.policy().allow_users;
  if (std::find(allowed.begin(), allowed.end(), kKeyUser) != allowed.end()) {
    const std::optional<User> owner = find_user(values.key);
    if (!owner) return fail(ENOENT);
    const bool is_allowed = user != kKeyUser && std::find(allowed.begin(), allowed.end(), user) != allowed.end();
    if (user != 0 && user != owner->number && !is_allowed) return fail(EACCES);
    values.key_user = owner->number;
  }
  if (is_for_caller(pattern)) TRY_VOID(add_caller(values, user));
  return values;
}

std::vector<std::string> map_environment(uid_t user) {
  std::vector<std::string> variables{"AUTOFS_UID=" + std::to_string(user)};
  utsname host{};
  if (::uname(&host) == 0) {
    const std::string name = host.nodename;
    variables.push_back("AUTOFS_SHOST=" + name.substr(0, name.find('.')));
    variables.push_back("HOST=" + name);
    variables.push_back("ARCH=" + std::string(host.machine));
    variables.push_back("OSNAME=" + std::string(host.sysname));
    variables.push_back("OSREL=" + std::string(host.release));
    variables.push_back("OSVERS=" + std::string(host.version));
  }
  const std::optional<User> caller = find_user(user);
  if (!caller) return variables;
  variables.push_back("AUTOFS_USER=" + caller->name);
  variables.push_back("AUTOFS_HOME=" + caller->home);
  variables.push_back("AUTOFS_GID=" + std::to_string(caller->group));
  if (const std::optional<std::string> name = name_of_group(caller->group))
    variables.push_back("AUTOFS_GROUP=" + *name);
  return variables;
}

Result<ShareSpec> instantiate_for(const ShareSpec& pattern, std::string_view key, uid_t user) {
  const TemplateValues values = TRY(values_for(pattern, key, user));
  Result<ShareSpec> made = instantiate(pattern, values);
  if (!made) return fail(ENOENT, made.error().message());
  return made;
}

}  // namespace berth::manager
