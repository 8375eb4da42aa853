#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace berth {

/// An errno value, with the story of the attempt where a person will read it.
///
/// On the data path an Error is made from the code alone and costs no allocation. Elsewhere it carries a story in plain
/// words: what was tried, on what, and what to do about it. Copies share the story.
class [[nodiscard]] Error {
 public:
  /// `code` is an errno value (> 0, errno(3)).
  explicit Error(int code) noexcept : code_(code) {}
  Error(int code, std::string story);

  /// The error of the system call that just failed on this thread.
  static Error last() noexcept;

  [[nodiscard]] int code() const noexcept { return code_; }
  /// Empty when there is none.
  [[nodiscard]] std::string_view story() const noexcept;
  /// For people: "story: No such file or directory", or just one of the two where the other is empty.
  [[nodiscard]] std::string message() const;

  /// The same error with `context` first: "context: story".
  [[nodiscard]] Error within(std::string_view context) const;

 private:
  int code_;
  std::shared_ptr<const std::string> story_;
};

/// The symbolic name of an errno value, "ENOENT"; "errno 4711" when it has none.
std::string errno_name(int code);
/// The C library's words for an errno value (strerror_r(3)), independent of the locale of other threads.
std::string errno_text(int code);

}  // namespace berth
