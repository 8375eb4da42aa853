#include "src/config/read_files.h"

#include <algorithm>
#include <functional>
#include <iterator>

#include "src/lib/base/hash.h"

namespace berth::config {

Fingerprint Fingerprint::of(std::string_view text) noexcept {
  return {fnv1a(text), std::hash<std::string_view>()(text)};
}

void ReadSource::begin(Accounts& accounts) {
  added_.clear();
  if (!accounts.are_still(accounts_)) {
    shares_.clear();
    accounts_ = {};
  }
  for (Share& share : shares_) share.is_used = false;
}

const ReadSource::Share* ReadSource::use(const Fingerprint& line) {
  const auto found =
      std::lower_bound(shares_.begin(), shares_.end(), line,
                       [](const Share& share, const Fingerprint& wanted) { return share.line < wanted; });
  if (found == shares_.end() || found->line != line) return nullptr;
  found->is_used = true;
  return &*found;
}

void ReadSource::add(const Fingerprint& line, const manager::ShareSpec& spec, bool has_secret) {
  added_.push_back({.line = line, .spec = spec, .has_secret = has_secret, .is_used = true});
}

void ReadSource::end(Accounts::Names asked) {
  accounts_.merge(std::move(asked));
  std::erase_if(shares_, [](const Share& share) { return !share.is_used; });
  const auto by_line = [](const Share& a, const Share& b) { return a.line < b.line; };
  std::sort(added_.begin(), added_.end(), by_line);
  const auto middle = static_cast<std::ptrdiff_t>(shares_.size());
  shares_.insert(shares_.end(), std::make_move_iterator(added_.begin()), std::make_move_iterator(added_.end()));
  std::inplace_merge(shares_.begin(), shares_.begin() + middle, shares_.end(), by_line);
  added_ = {};
}

const ReadFile* ReadFiles::use_file(const std::string& path, const Fingerprint& text, bool is_main,
                                    Accounts& accounts) {
  const auto found = files_.find(path);
  if (found == files_.end()) return nullptr;
  ReadFile& file = found->second;
  if (file.text != text || file.main.has_value() != is_main || !accounts.are_still(file.accounts)) return nullptr;
  file.is_used = true;
  return &file;
}

void ReadFiles::put_file(const std::string& path, ReadFile file) { files_.insert_or_assign(path, std::move(file)); }

void ReadFiles::begin() {
  for (auto& [path, file] : files_) file.is_used = false;
}

void ReadFiles::end(const std::vector<CatalogSource>& sources) {
  std::erase_if(files_, [](const auto& file) { return !file.second.is_used; });
  std::erase_if(sources_, [&sources](const auto& source) {
    return std::none_of(sources.begin(), sources.end(),
                        [&source](const CatalogSource& one) { return one.name == source.first; });
  });
}

void ReadFiles::set_context(const manager::SharePolicy& defaults, const std::string& namespace_directory) {
  if (defaults == defaults_ && namespace_directory == namespace_directory_) return;
  std::erase_if(files_, [](const auto& file) { return !file.second.main; });
  sources_.clear();
  defaults_ = defaults;
  namespace_directory_ = namespace_directory;
}

}  // namespace berth::config
