#include "src/config/source_listing.h"

#include <utility>

namespace berth::config {

SourceListing::SourceListing(SourceLines kept, std::size_t max_shares, std::string namespace_directory, bool is_whole)
    : max_shares_(max_shares),
      namespace_directory_(std::move(namespace_directory)),
      lines_(std::move(kept)),
      is_whole_(is_whole) {
  for (const auto& [name, line] : lines_) bytes_ += line.size();
}

void SourceListing::begin_list() {
  listed_.clear();
  wrong_.clear();
  more_wrong_ = 0;
  is_listing_ = true;
  is_faulty_ = false;
  has_failed_ = false;
  refusal_.clear();
}

void SourceListing::fail_with(std::string why, WallTime now) {
  has_failed_ = true;
  error_ = std::move(why);
  error_at_ = now;
}

void SourceListing::take(std::string_view line, WallTime now) {
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

void SourceListing::put(std::string name, std::string_view line) {
  const auto found = lines_.find(name);
  const std::size_t before = found == lines_.end() ? 0 : found->second.size();
  if (found == lines_.end() && lines_.size() >= max_shares_)
    return reject(std::move(name), "there are more than " + std::to_string(max_shares_) + " shares (max_shares)");
  if (bytes_ - before + line.size() > kMostOfSource)
    return reject(std::move(name), "the shares of the source are too large");
  wrong_.erase(name);
  if (is_listing_ || !refusal_.empty()) listed_.insert(name);
  if (found != lines_.end() && found->second == line) return;
  bytes_ = bytes_ - before + line.size();
  lines_.insert_or_assign(std::move(name), std::string(line));
  is_changed_ = true;
}

/// The share stays as it was, as a wrong configuration changes nothing.
void SourceListing::reject(std::string name, std::string why) {
  if (is_listing_ && lines_.contains(name)) listed_.insert(name);
  if (wrong_.size() < kMostWrong || wrong_.contains(name)) {
    wrong_.insert_or_assign(std::move(name), std::move(why));
  } else {
    ++more_wrong_;
  }
}

void SourceListing::remove(const std::string& name) {
  wrong_.erase(name);
  listed_.erase(name);
  const auto found = lines_.find(name);
  if (found == lines_.end()) return;
  bytes_ -= found->second.size();
  lines_.erase(found);
  is_changed_ = true;
}

void SourceListing::end_list(bool is_empty, WallTime now) {
  const bool is_list = std::exchange(is_listing_, false);
  if (is_list && is_faulty_) refusal_ = "the list has a line that cannot be used, so it removes nothing; " + error_;
  const bool may_remove = !lines_.empty() || !is_whole_;
  if (is_list && !is_faulty_ && listed_.empty() && !is_empty && may_remove)
    refusal_ = "the list names no share, so it removes nothing";
  // Shares that it has not named may be old, until all have been put or deleted since.
  const bool is_open = is_list || listed_.size() < lines_.size() || !is_whole_;
  if (!refusal_.empty() && is_open) return fail_with(refusal_, now);
  refusal_.clear();
  if (is_list) {
    const std::size_t removed = std::erase_if(lines_, [this](const auto& share) {
      if (listed_.contains(share.first)) return false;
      bytes_ -= share.second.size();
      return true;
    });
    is_changed_ = is_changed_ || removed > 0 || !std::exchange(is_whole_, true);
  }
  listed_ = {};
  synced_at_ = now;
  error_.clear();
}

}  // namespace berth::config
