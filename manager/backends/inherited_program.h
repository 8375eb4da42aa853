#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "manager/backends/output_reader.h"
#include "manager/model/backend.h"

namespace berth::manager {

/// A program that serves a mount and was started by a server that has died.
///
/// It is no child of this server: its pidfd shows its end, and its exit status is lost.
///
/// Threading: one thread at a time, but pid() from any.
class InheritedProgram final : public HelperProcess {
 public:
  /// `number`: in /proc. `pidfd`: of the program. `output`: non-blocking reading end of what it writes, or empty.
  /// `said`: as in Attempt.
  static std::unique_ptr<InheritedProgram> make(pid_t number, UniqueFd pidfd, UniqueFd output,
                                                std::function<void(std::string_view)> said);

  [[nodiscard]] pid_t pid() const noexcept override;
  [[nodiscard]] int pidfd() const noexcept override { return pidfd_.get(); }
  [[nodiscard]] int process() const noexcept override { return pidfd_.get(); }
  [[nodiscard]] int output() const noexcept override { return output_ ? output_->descriptor() : -1; }
  void end(TimePoint deadline) noexcept override;

 private:
  InheritedProgram(pid_t number, UniqueFd pidfd, std::unique_ptr<OutputReader> output) noexcept
      : number_(number), pidfd_(std::move(pidfd)), output_(std::move(output)) {}

  const pid_t number_;
  const UniqueFd pidfd_;
  const std::unique_ptr<OutputReader> output_;
};

}  // namespace berth::manager
