#pragma once

#include <utility>

#include "manager/model/backend.h"
#include "src/lib/base/unique_fd.h"

namespace berth::manager {

/// A program that serves a mount and was started by a server that has died.
///
/// It is no child of this server: its pidfd shows its end, and its exit status is lost.
///
/// Threading: one thread at a time, but pid() from any.
class InheritedProgram final : public HelperProcess {
 public:
  /// `number`: in /proc. `pidfd`: of the program. What it writes is RealMount::output.
  InheritedProgram(pid_t number, UniqueFd pidfd) noexcept : number_(number), pidfd_(std::move(pidfd)) {}

  [[nodiscard]] pid_t pid() const noexcept override;
  [[nodiscard]] int pidfd() const noexcept override { return pidfd_.get(); }
  [[nodiscard]] int process() const noexcept override { return pidfd_.get(); }
  void end(TimePoint deadline, int hurry_fd) noexcept override;

 private:
  const pid_t number_;
  const UniqueFd pidfd_;
};

}  // namespace berth::manager
