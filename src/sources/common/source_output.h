#pragma once

#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

namespace berth::sources {

/// What a catalog source says to berth, on standard output (berth-source(7)). Lines are collected until flush().
/// Without a reader this process ends.
///
/// Threading: one thread at a time.
class SourceOutput {
 public:
  SourceOutput();
  /// All shares follow. For the first list it says nothing: that begins by itself.
  void begin_list();
  /// `share`: the keys of the share. One that is too large is a wrong one.
  void put(std::string_view name, const nlohmann::json& share);
  /// There is a share of that name which cannot be said, for that reason. What was there before stays, and berth shows
  /// the reason.
  void put_wrong(std::string_view name, std::string_view why);
  void remove(std::string_view name);
  /// The list is complete, or the store can still be read. A list without a share is never said to be meant: a store
  /// that was wiped, a wrong prefix and an identity that may read nothing look alike.
  void synced();
  /// The store cannot be read. The same reason again is not said again.
  void fail(std::string_view why);
  void flush();

 private:
  void say(const nlohmann::json& message);

  std::string lines_;
  bool has_listed_ = false;
  std::string failure_;  ///< the last one; "": none since the last synced()
};

/// The first line of a file that holds a secret, without its end. Ends the process with a message where that cannot be
/// read.
std::string read_secret(const std::string& path);

/// Ends the process with a message on standard error.
[[noreturn]] void give_up(const std::string& message);

/// Waits, with some jitter: so long at first, doubled with each failure, and ten seconds at most.
class Patience {
 public:
  void wait();
  void succeed() noexcept { failures_ = 0; }

 private:
  unsigned failures_ = 0;
};

}  // namespace berth::sources
