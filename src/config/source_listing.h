#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "src/config/catalog_source.h"
#include "src/lib/base/clock.h"

namespace berth::config {

/// The shares of one catalog source: those that were kept, and what its program has written since. It removes a share
/// only when it knows that the store has none of that name: the program says so, or it has named all others in a list
/// without a fault.
///
/// Threading: one thread at a time.
class SourceListing {
 public:
  /// `kept`: the shares from before. `namespace_directory`: as read_source_line(). `is_whole`: there were no others.
  SourceListing(SourceLines kept, std::size_t max_shares, std::string namespace_directory, bool is_whole = true);

  /// A program has been started, which lists all shares first.
  void begin_list();
  /// Takes a line that it has written, without its end. May block as read_source_line().
  void take(std::string_view line, WallTime now);
  /// Something has gone wrong: a line is not one of the protocol, or the program has ended. What is there stays.
  void fail_with(std::string why, WallTime now);

  [[nodiscard]] const SourceLines& lines() const noexcept { return lines_; }
  /// False: there were more before, which have been lost, and no list has been complete since.
  [[nodiscard]] bool is_whole() const noexcept { return is_whole_; }
  /// Whether these are others than at the last call of this.
  [[nodiscard]] bool take_change() noexcept { return std::exchange(is_changed_, false); }
  /// Whether the program has begun a list and not ended it.
  [[nodiscard]] bool is_listing() const noexcept { return is_listing_; }
  /// Whether something has gone wrong since the list began.
  [[nodiscard]] bool has_failed() const noexcept { return has_failed_; }
  /// Why the shares may be old; "": nothing has gone wrong since the last list.
  [[nodiscard]] const std::string& error() const noexcept { return error_; }
  [[nodiscard]] WallTime error_at() const noexcept { return error_at_; }
  /// When the program last said that these are all shares.
  [[nodiscard]] const std::optional<WallTime>& synced_at() const noexcept { return synced_at_; }
  /// Shares that it named and that are wrong, by name: why. Of many some.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& wrong() const noexcept { return wrong_; }
  [[nodiscard]] std::size_t wrong_count() const noexcept { return wrong_.size() + more_wrong_; }

 private:
  /// More than these are counted.
  static constexpr std::size_t kMostWrong = 1000;

  void put(std::string name, std::string_view line);
  /// "": there is room for a share beside the others, those of before included.
  [[nodiscard]] std::string no_room_for(const std::string& name, std::string_view line) const;
  /// Whether the list as it is so far has room for it; what it does not name will go.
  [[nodiscard]] bool may_wait(const std::string& name, std::string_view line) const;
  void note_listed(const std::string& name, std::size_t size_before, std::size_t size);
  void forget_waiting(const std::string& name);
  void put_waiting();
  void reject(std::string name, std::string why);
  void remove(const std::string& name);
  void end_list(bool is_empty, WallTime now);

  const std::size_t max_shares_;
  const std::string namespace_directory_;
  SourceLines lines_;
  bool is_whole_;
  std::size_t bytes_ = 0;                   ///< of the lines
  std::unordered_set<std::string> listed_;  ///< of `lines_`, those that the list has named
  std::size_t listed_bytes_ = 0;            ///< of the lines of these
  SourceLines waiting_;                     ///< what the list has named, and for which old shares leave no room yet
  std::size_t waiting_bytes_ = 0;
  bool is_changed_ = false;
  bool is_listing_ = false;
  bool is_faulty_ = false;  ///< the list has a line that cannot be read, and so may lack a share
  bool has_failed_ = false;
  std::string refusal_;  ///< why the last list has removed nothing; "": it has been taken
  std::string error_;
  WallTime error_at_{};
  std::optional<WallTime> synced_at_;
  std::map<std::string, std::string, std::less<>> wrong_;
  std::size_t more_wrong_ = 0;
};

}  // namespace berth::config
