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
  listed_bytes_ = 0;
  waiting_.clear();
  waiting_bytes_ = 0;
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

std::string SourceListing::no_room_for(const std::string& name, std::string_view line) const {
  const auto found = lines_.find(name);
  const std::size_t before = found == lines_.end() ? 0 : found->second.size();
  if (found == lines_.end() && lines_.size() >= max_shares_)
    return "there are more than " + std::to_string(max_shares_) + " shares (max_shares)";
  return bytes_ - before + line.size() > kMostOfSource ? "the shares of the source are too large" : "";
}

bool SourceListing::may_wait(const std::string& name, std::string_view line) const {
  if (!is_listing_) return false;
  const auto found = lines_.find(name);
  const bool is_listed = found != lines_.end() && listed_.contains(name);
  const std::size_t before = is_listed ? found->second.size() : 0;
  return listed_.size() + waiting_.size() < max_shares_ + (is_listed ? 1 : 0) &&
         listed_bytes_ - before + waiting_bytes_ + line.size() <= kMostOfSource;
}

void SourceListing::note_listed(const std::string& name, std::size_t size_before, std::size_t size) {
  if (!is_listing_ && refusal_.empty()) return;
  if (!listed_.insert(name).second) listed_bytes_ -= size_before;
  listed_bytes_ += size;
}

void SourceListing::forget_waiting(const std::string& name) {
  const auto found = waiting_.find(name);
  if (found == waiting_.end()) return;
  waiting_bytes_ -= found->second.size();
  waiting_.erase(found);
}

/// When those have gone that were in the way.
void SourceListing::put_waiting() {
  waiting_bytes_ = 0;
  for (auto& [name, line] : std::exchange(waiting_, {})) put(name, line);
}

void SourceListing::put(std::string name, std::string_view line) {
  forget_waiting(name);
  if (std::string why = no_room_for(name, line); !why.empty()) {
    if (!may_wait(name, line)) return reject(std::move(name), std::move(why));
    wrong_.erase(name);
    // As it was, until there is room for what it is now.
    if (const auto found = lines_.find(name); found != lines_.end())
      note_listed(name, found->second.size(), found->second.size());
    waiting_bytes_ += line.size();
    waiting_.insert_or_assign(std::move(name), std::string(line));
    return;
  }
  const auto found = lines_.find(name);
  const std::size_t before = found == lines_.end() ? 0 : found->second.size();
  wrong_.erase(name);
  note_listed(name, before, line.size());
  if (found != lines_.end() && found->second == line) return;
  bytes_ = bytes_ - before + line.size();
  lines_.insert_or_assign(std::move(name), std::string(line));
  is_changed_ = true;
}

/// The share stays as it was, as a wrong configuration changes nothing.
void SourceListing::reject(std::string name, std::string why) {
  forget_waiting(name);
  if (const auto found = lines_.find(name); is_listing_ && found != lines_.end())
    note_listed(name, found->second.size(), found->second.size());
  if (wrong_.size() < kMostWrong || wrong_.contains(name)) {
    wrong_.insert_or_assign(std::move(name), std::move(why));
  } else {
    ++more_wrong_;
  }
}

void SourceListing::remove(const std::string& name) {
  wrong_.erase(name);
  forget_waiting(name);
  const auto found = lines_.find(name);
  if (found == lines_.end()) return;
  if (listed_.erase(name) > 0) listed_bytes_ -= found->second.size();
  bytes_ -= found->second.size();
  lines_.erase(found);
  is_changed_ = true;
}

void SourceListing::end_list(bool is_empty, WallTime now) {
  const bool is_list = std::exchange(is_listing_, false);
  if (is_list && is_faulty_) refusal_ = "the list has a line that cannot be used, so it removes nothing; " + error_;
  const bool may_remove = !lines_.empty() || !is_whole_;
  if (is_list && !is_faulty_ && listed_.empty() && waiting_.empty() && !is_empty && may_remove)
    refusal_ = "the list names no share, so it removes nothing";
  // Shares that it has not named may be old, until all have been put or deleted since.
  const bool is_open = is_list || listed_.size() < lines_.size() || !is_whole_;
  if (!refusal_.empty() && is_open) {
    put_waiting();
    return fail_with(refusal_, now);
  }
  refusal_.clear();
  if (is_list) {
    const std::size_t removed = std::erase_if(lines_, [this](const auto& share) {
      if (listed_.contains(share.first)) return false;
      bytes_ -= share.second.size();
      return true;
    });
    const bool was_whole = std::exchange(is_whole_, true);
    is_changed_ = is_changed_ || removed > 0 || !was_whole;
  }
  put_waiting();
  listed_ = {};
  listed_bytes_ = 0;
  synced_at_ = now;
  error_.clear();
}

}  // namespace berth::config
