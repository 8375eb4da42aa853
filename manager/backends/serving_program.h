#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "manager/model/backend.h"
#include "src/lib/sys/process.h"

namespace berth::manager {

/// A program that serves a mount for as long as it runs.
///
/// A thread of its own reads what the program writes (or the program would block once the pipe is full) and collects it
/// when it ends. A program that ends while its mount stays usable (it exits 0 after it has become a daemon, or what it
/// mounted is no FUSE file system and needs no program) was no server: pid() is 0 from then on, and pidfd() stays
/// silent.
///
/// Threading: one thread at a time, but pid() from any.
class ServingProgram final : public HelperProcess {
 public:
  /// `process` has mounted `mount` at `berth`. `said`: as in Attempt. Errors: EAGAIN when there is no thread to be had;
  /// the program is ended.
  static Result<std::unique_ptr<ServingProgram>> make(sys::Process process, std::string berth, MountId mount,
                                                      std::uint64_t namespace_number,
                                                      const std::function<void(std::string_view)>& said = {});
  /// Kills the program if it still runs.
  ~ServingProgram() override;

  [[nodiscard]] pid_t pid() const noexcept override { return pid_.load(std::memory_order_relaxed); }
  /// An eventfd that is readable when the program has ended and its mount is lost.
  [[nodiscard]] int pidfd() const noexcept override { return lost_.get(); }
  [[nodiscard]] int process() const noexcept override { return process_descriptor_; }
  [[nodiscard]] int output() const noexcept override { return output_descriptor_; }
  void end(TimePoint deadline, int hurry_fd) noexcept override;

 private:
  ServingProgram(sys::Process process, std::string berth, MountId mount, std::uint64_t namespace_number, UniqueFd stop,
                 UniqueFd lost);
  void watch() noexcept;
  [[nodiscard]] bool outlives(sys::ExitStatus status) const;

  const std::string berth_;
  const MountId mount_;
  const std::uint64_t namespace_number_;
  const UniqueFd stop_;  ///< readable: the thread leaves the process to end()
  const UniqueFd lost_;
  const int process_descriptor_;  ///< of process_
  const int output_descriptor_;
  std::atomic<pid_t> pid_;
  std::optional<sys::Process> process_;  ///< the thread's, until it is joined; empty after the program has ended
  std::thread thread_;
};

}  // namespace berth::manager
