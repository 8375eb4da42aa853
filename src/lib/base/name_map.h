#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace berth {

/// What is found by a name that it holds itself, in the order of the names (bytewise): a sorted vector of names and
/// values, so that thousands take a third of the memory of a std::map. Quick to fill in that order, quadratic against
/// it.
template <typename Value>
class NameMap {
 public:
  using value_type = std::pair<std::string_view, Value>;
  using const_iterator = typename std::vector<value_type>::const_iterator;

  [[nodiscard]] const_iterator begin() const noexcept { return entries_.begin(); }
  [[nodiscard]] const_iterator end() const noexcept { return entries_.end(); }
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }

  /// The first whose name is not before `name`.
  [[nodiscard]] const_iterator lower_bound(std::string_view name) const noexcept {
    return std::lower_bound(begin(), end(), name, [](const value_type& a, std::string_view b) { return a.first < b; });
  }
  [[nodiscard]] const_iterator find(std::string_view name) const noexcept {
    const const_iterator at = lower_bound(name);
    return at != end() && at->first == name ? at : end();
  }
  /// The first that lies below `name`, as "a/b" lies below "a"; end() when none does.
  [[nodiscard]] const_iterator find_below(std::string_view name) const {
    const std::string prefix = std::string(name) + "/";
    const const_iterator at = lower_bound(prefix);
    return at != end() && at->first.starts_with(prefix) ? at : end();
  }
  /// The nearest that `name` lies below and whose name has at least `least` bytes; end() when there is none.
  [[nodiscard]] const_iterator find_above(std::string_view name, std::size_t least = 1) const noexcept {
    for (std::size_t end_of_above = name.rfind('/'); end_of_above != std::string_view::npos && end_of_above >= least;
         end_of_above = name.rfind('/')) {
      name = name.substr(0, end_of_above);
      if (const const_iterator at = find(name); at != end()) return at;
    }
    return end();
  }
  [[nodiscard]] bool contains(std::string_view name) const noexcept { return find(name) != end(); }

  /// `name` lives as long as `value` does, in whatever copy or place. Nothing, when there is one of that name.
  void add(std::string_view name, Value value) {
    const const_iterator at = empty() || entries_.back().first < name ? end() : lower_bound(name);
    if (at == end() || at->first != name) entries_.insert(at, value_type(name, std::move(value)));
  }

 private:
  std::vector<value_type> entries_;
};

}  // namespace berth
