#include "manager/model/requirements.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "manager/model/share_template.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

std::string_view key_of(std::string_view name) {
  const std::size_t slash = name.rfind('/');
  return slash == std::string_view::npos ? name : name.substr(slash + 1);
}

/// Follows `requires` from share to share. What a template makes is followed by its name; "&" is any key.
class Walk {
 public:
  explicit Walk(const Catalog& catalog) : catalog_(catalog) {}

  std::vector<RequirementFault> all() {
    for (const auto& [name, share] : catalog_.shares()) from(name, share);
    for (const auto& [name, pattern] : catalog_.templates()) {
      from(std::string(name.substr(0, name.size() - 1)) + "&", pattern);
    }
    return std::move(faults_);
  }

 private:
  void from(std::string_view name, const ShareSpec& spec) {
    if (!spec.policy().required.empty()) row_from(std::string(name), spec);
  }

  /// How many shares are in the longest row that begins with `name`.
  std::size_t row_from(const std::string& name, const ShareSpec& spec) {
    if (const auto known = rows_.find(name); known != rows_.end()) return known->second;
    if (way_.size() >= kMostInARow) {
      if (!std::exchange(is_too_long_, true)) {
        fault(*catalog_share(way_.front()),
              "more than " + std::to_string(kMostInARow) + " shares in a row: " + join(way_) + " -> " + name);
      }
      return 1;
    }
    way_.push_back(name);
    std::size_t longest = 0;
    for (const std::string& text : spec.policy().required) {
      const Result<std::string> required =
          spec.is_template() ? with_key(text, key_of(name)) : Result<std::string>(text);
      if (required) longest = std::max(longest, follow(*required, spec));
    }
    way_.pop_back();
    rows_.emplace(name, longest + 1);
    return longest + 1;
  }

  std::size_t follow(const std::string& required, const ShareSpec& by) {
    if (const auto begin = std::find(way_.begin(), way_.end(), required); begin != way_.end()) {
      const ShareSpec* const first = catalog_share(required);
      fault(first != nullptr ? *first : by,
            "it requires itself: " + join(std::vector<std::string>(begin, way_.end())) + " -> " + required);
      return 0;
    }
    if (const ShareSpec* const next = catalog_share(required)) return row_from(required, *next);
    fault(by, quote(required) + " is no share, and no template makes it");
    return 0;
  }

  [[nodiscard]] const ShareSpec* catalog_share(std::string_view name) const { return find_maker(catalog_, name); }

  /// Once, for a template as well, which is followed by several names.
  void fault(const ShareSpec& share, std::string reason) {
    if (told_.emplace(share.name(), reason).second) faults_.push_back({share, std::move(reason)});
  }

  static std::string join(const std::vector<std::string>& names) {
    std::string text;
    for (const std::string& name : names) text.append(text.empty() ? "" : " -> ").append(name);
    return text;
  }

  const Catalog& catalog_;
  std::vector<std::string> way_;
  std::map<std::string, std::size_t> rows_;
  std::vector<RequirementFault> faults_;
  std::set<std::pair<std::string, std::string>> told_;
  bool is_too_long_ = false;
};

}  // namespace

const ShareSpec* find_maker(const Catalog& catalog, std::string_view name) {
  if (const ShareSpec* const share = catalog.find(name)) return share;
  const std::string_view key = key_of(name);
  const auto found = catalog.templates().find(std::string(name.substr(0, name.size() - key.size())) + "*");
  if (found == catalog.templates().end()) return nullptr;
  return key == "&" || check_key_of(found->second, key) ? &found->second : nullptr;
}

Catalog with_kept(Catalog next, const Catalog& before) {
  std::vector<const ShareSpec*> waiting;
  if (next.kept_files().empty()) return next;
  const std::set<std::string> files(next.kept_files().begin(), next.kept_files().end());
  for (const Catalog::Map* const map : {&before.shares(), &before.templates()}) {
    for (const auto& [name, spec] : *map) {
      if (spec.comes_from(files)) waiting.push_back(&spec);
    }
  }
  for (std::size_t left = 0; left != waiting.size();) {
    left = waiting.size();
    std::erase_if(waiting, [&next](const ShareSpec* spec) {
      const std::vector<std::string>& required = spec->policy().required;
      const auto is_there = [&next](const std::string& name) { return find_maker(next, name) != nullptr; };
      if (!std::all_of(required.begin(), required.end(), is_there)) return false;
      (void)next.add(*spec);
      return true;
    });
  }
  return next;
}

std::vector<RequirementFault> faults_of_requirements(const Catalog& catalog) { return Walk(catalog).all(); }

}  // namespace berth::manager
