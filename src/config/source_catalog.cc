#include "src/config/source_catalog.h"

#include <utility>

namespace berth::config {

SourceCatalog::SourceCatalog(SourceLines kept, std::size_t max_shares, std::string namespace_directory)
    : max_shares_(max_shares), namespace_directory_(std::move(namespace_directory)), lines_(std::move(kept)) {
  for (const auto& [name, line] : lines_) bytes_ += line.size();
}

void SourceCatalog::begin_list() {
  listed_.clear();
  wrong_.clear();
  more_wrong_ = 0;
  is_listing_ = true;
  is_faulty_ = false;
}

void SourceCatalog::fail_with(std::string why, WallTime now) {
  error_ = std::move(why);
  error_at_ = now;
}

void SourceCatalog::take(std::string_view line, WallTime now) {
  Result<SourceMessage> message = read_source_line(line, namespace_directory_);
  if (!message) {
    is_faulty_ = true;
    return fail_with("a line that cannot be used: " + std::string(message.error().story()), now);
  }
  switch (message->kind) {
    case SourceMessage::Kind::kList:
      return begin_list();
    case SourceMessage::Kind::kPut:
      if (message->wrong.empty()) return put(std::move(message->name), line);
      return reject(std::move(message->name), std::move(message->wrong));
    case SourceMessage::Kind::kDelete:
      return remove(message->name);
    case SourceMessage::Kind::kSynced:
      return end_list(message->is_empty, now);
    case SourceMessage::Kind::kError:
      return fail_with(std::move(message->error), now);
  }
}

void SourceCatalog::put(std::string name, std::string_view line) {
  const auto found = lines_.find(name);
  const std::size_t before = found == lines_.end() ? 0 : found->second.size();
  if (found == lines_.end() && lines_.size() >= max_shares_)
    return reject(std::move(name), "there are more than " + std::to_string(max_shares_) + " shares (max_shares)");
  if (bytes_ - before + line.size() > kMostOfSource)
    return reject(std::move(name), "the shares of the source are too large");
  wrong_.erase(name);
  if (is_listing_) listed_.insert(name);
  if (found != lines_.end() && found->second == line) return;
  bytes_ = bytes_ - before + line.size();
  lines_.insert_or_assign(std::move(name), std::string(line));
  is_changed_ = true;
}

/// The share stays as it was, as a wrong configuration changes nothing.
void SourceCatalog::reject(std::string name, std::string why) {
  if (is_listing_ && lines_.contains(name)) listed_.insert(name);
  if (wrong_.size() < kMostWrong || wrong_.contains(name)) {
    wrong_.insert_or_assign(std::move(name), std::move(why));
  } else {
    ++more_wrong_;
  }
}

void SourceCatalog::remove(const std::string& name) {
  wrong_.erase(name);
  listed_.erase(name);
  const auto found = lines_.find(name);
  if (found == lines_.end()) return;
  bytes_ -= found->second.size();
  lines_.erase(found);
  is_changed_ = true;
}

void SourceCatalog::end_list(bool is_empty, WallTime now) {
  if (std::exchange(is_listing_, false)) {
    if (is_faulty_) return fail_with("the list has a line that cannot be used, so it removes nothing; " + error_, now);
    if (listed_.empty() && !lines_.empty() && !is_empty)
      return fail_with("the list names no share, so it removes nothing", now);
    const std::size_t removed = std::erase_if(lines_, [this](const auto& share) {
      if (listed_.contains(share.first)) return false;
      bytes_ -= share.second.size();
      return true;
    });
    is_changed_ = is_changed_ || removed > 0;
    listed_ = {};
  }
  synced_at_ = now;
  error_.clear();
}

}  // namespace berth::config
