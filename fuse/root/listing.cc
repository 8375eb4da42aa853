#include "fuse/root/listing.h"

#include <string_view>
#include <utility>

namespace berth::fuse {
namespace {

/// In Listing::names_: a directory that only a template needs, by the template's number.
constexpr std::uint32_t kOfTemplate = 1U << 31U;
/// A key that a template lists, by its number among the keys.
constexpr std::uint32_t kKey = 1U << 30U;

/// The part of `path` that is a name in `prefix`.
std::string part_of(std::string_view path, const std::string& prefix) {
  return std::string(path.substr(prefix.size(), path.find('/', prefix.size()) - prefix.size()));
}

}  // namespace

Listing::Listing(std::shared_ptr<const Shares> shares, std::shared_ptr<const Templates> templates,
                 std::shared_ptr<const Keys> keys, std::string prefix)
    : shares_(std::move(shares)), templates_(std::move(templates)), keys_(std::move(keys)), prefix_(std::move(prefix)) {
  add_shares();
  add_template_directories();
  if (keys_ != nullptr) add_keys();
}

/// The shares are sorted, so all that lies below one name is in one place, and is skipped in one step.
void Listing::add_shares() {
  auto at = prefix_.empty() ? shares_->begin() : shares_->lower_bound(prefix_);
  while (at != shares_->end() && at->first.starts_with(prefix_)) {
    const std::size_t end = at->first.find('/', prefix_.size());
    const bool may_hide = end == std::string::npos && at->second->spec().policy().hidden;
    hides_ = hides_ || may_hide;
    if (!may_hide || at->second->state() != manager::ShareState::kIdle) {
      names_.push_back(static_cast<std::uint32_t>(at - shares_->begin()));
    }
    if (end == std::string::npos) {
      ++at;
    } else {
      at = shares_->lower_bound(std::string(at->first.substr(0, end)) + static_cast<char>('/' + 1));
    }
  }
  names_.shrink_to_fit();
}

/// Adds the directories that templates need, where no share lies below them.
void Listing::add_template_directories() {
  const Templates none;
  std::string last;
  for (auto at = templates_->lower_bound(prefix_); at != templates_->end() && at->first.starts_with(prefix_); ++at) {
    if (at->first.find('/', prefix_.size()) == std::string_view::npos) continue;
    std::string name = part_of(at->first, prefix_);
    if (name == last) continue;
    if (!is_directory(*shares_, none, prefix_ + name)) {
      names_.push_back(kOfTemplate | static_cast<std::uint32_t>(at - templates_->begin()));
    }
    last = std::move(name);
  }
}

/// Adds the keys that are neither a share nor a directory.
void Listing::add_keys() {
  for (std::size_t i = 0; i < keys_->size(); ++i) {
    const std::string path = prefix_ + (*keys_)[i];
    if (shares_->contains(path) || is_directory(*shares_, *templates_, path)) continue;
    names_.push_back(kKey | static_cast<std::uint32_t>(i));
  }
}

Listing::Name Listing::operator[](std::size_t index) const {
  const std::uint32_t number = names_[index];
  if ((number & kKey) != 0) return {(*keys_)[number & ~kKey], nullptr, true};
  if ((number & kOfTemplate) != 0) {
    return {part_of(templates_->begin()[number & ~kOfTemplate].first, prefix_), nullptr};
  }
  const Shares::value_type& share = shares_->begin()[number];
  const bool is_above = share.first.find('/', prefix_.size()) != std::string::npos;
  return {part_of(share.first, prefix_), is_above ? nullptr : &share.second};
}

bool is_directory(const Listing::Shares& shares, const Listing::Templates& templates, const std::string& path) {
  const auto is_below = [prefix = path + "/"](const auto& map) {
    const auto below = map.lower_bound(prefix);
    return below != map.end() && below->first.starts_with(prefix);
  };
  return is_below(shares) || is_below(templates);
}

}  // namespace berth::fuse
