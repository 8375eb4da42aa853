#include <cerrno>
#include <string>
#include <string_view>
#include <vector>

#include "manager/model/share_spec.h"
#include "manager/model/shown.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

constexpr std::size_t kMaxComponent = 255;  // NAME_MAX

Result<> check_component(std::string_view name, std::string_view component) {
  if (component.empty()) {
    const char* where = name.front() == '/'  ? "starts with '/'"
                        : name.back() == '/' ? "ends with '/'"
                                             : "holds an empty part (\"//\")";
    return fail(EINVAL, shown(name) + " " + where + "; a name is relative, with one '/' between its parts");
  }
  if (component == "." || component == "..") {
    return fail(EINVAL, shown(name) + " holds the part " + quote(component) + ", which names another directory");
  }
  if (component.size() > kMaxComponent) {
    return fail(ENAMETOOLONG, shown(name) + " has a part of " + std::to_string(component.size()) +
                                  " bytes; a file name has at most " + std::to_string(kMaxComponent));
  }
  return {};
}

}  // namespace

Result<> check_share_name(std::string_view name) {
  if (name.empty()) return fail(EINVAL, "a share needs a name");
  if (name.size() > kMaxShareName) {
    return fail(ENAMETOOLONG, shown(name) + " has " + std::to_string(name.size()) +
                                  " bytes; a share's name has at most " + std::to_string(kMaxShareName));
  }
  if (holds_control(name)) return fail(EINVAL, shown(name) + " holds a control character");
  if (!is_utf8(name)) return fail(EINVAL, shown(name) + " is not UTF-8");
  if (name.find('*') != std::string_view::npos) {
    return fail(EINVAL,
                shown(name) + " holds '*', which can only be the whole last part: a template such as \"home/*\"");
  }
  const std::vector<std::string_view> components = split(name, '/');
  for (const std::string_view component : components) TRY_VOID(check_component(name, component));
  if (components.front() == ".berth")
    return fail(EINVAL, shown(name) + " belongs to the control tree, and is no share");
  return {};
}

}  // namespace berth::manager
