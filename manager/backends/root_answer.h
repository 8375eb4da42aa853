#pragma once

#include <memory>
#include <string>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// Asks the server of the mount that `root` is the root of, past the kernel's cache. Hangs for as long as the server
/// does. Errors: statx(2)'s.
Result<> ask_root(int root);

/// Whether an errno value means that a mount is of no use any more: its helper is dead, or its root is not there on the
/// server. Any other error is an answer.
bool says_dead(int code) noexcept;

/// The first answer of the root of a mount, asked by a thread of its own, for that may hang. The thread ends when the
/// mount does.
///
/// Threading: one thread.
class RootAnswer {
 public:
  /// Asks the root of what is mounted at `berth` in the calling thread's mount namespace.
  static Result<RootAnswer> ask(const std::string& berth);

  /// Readable when it has answered.
  [[nodiscard]] int fd() const noexcept;
  [[nodiscard]] bool has_answered() const noexcept;
  /// What it has answered. Errors: of those says_dead() alone.
  [[nodiscard]] Result<> outcome() const;

 private:
  struct State;
  explicit RootAnswer(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  std::shared_ptr<State> state_;
};

}  // namespace berth::manager
