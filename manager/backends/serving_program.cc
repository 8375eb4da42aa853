#include "manager/backends/serving_program.h"

#include <sys/eventfd.h>

#include <cerrno>
#include <chrono>
#include <utility>

#include "manager/backends/attempt_namespace.h"
#include "manager/backends/berth_backend.h"
#include "manager/backends/fuse_server.h"
#include "src/lib/sys/mount_table.h"
#include "src/lib/sys/thread.h"

namespace berth::manager {
namespace {

void signal(const UniqueFd& event) noexcept { ::eventfd_write(event.get(), 1); }

}  // namespace

Result<std::unique_ptr<ServingProgram>> ServingProgram::make(sys::Process process, std::string berth, MountId mount,
                                                             std::uint64_t namespace_number,
                                                             const std::function<void(std::string_view)>& said) {
  const std::string before = process.output();
  if (said && !before.empty()) said(before);
  process.give_output_to(said ? said : [](std::string_view) {});
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  UniqueFd lost(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop || !lost) return fail_errno();
  std::unique_ptr<ServingProgram> program(new ServingProgram(std::move(process), std::move(berth), mount,
                                                             namespace_number, std::move(stop), std::move(lost)));
  program->thread_ = TRY(sys::start_thread("berth-helper", [raw = program.get()] { raw->watch(); }));
  return program;
}

ServingProgram::ServingProgram(sys::Process process, std::string berth, MountId mount, std::uint64_t namespace_number,
                               UniqueFd stop, UniqueFd lost)
    : berth_(std::move(berth)),
      mount_(mount),
      namespace_number_(namespace_number),
      stop_(std::move(stop)),
      lost_(std::move(lost)),
      process_descriptor_(process.pidfd()),
      output_descriptor_(process.output_pipe()),
      pid_(process.proc_number()),
      process_(std::move(process)) {}

ServingProgram::~ServingProgram() { end(now(), -1); }

void ServingProgram::end(TimePoint deadline, int hurry_fd) noexcept {
  if (thread_.joinable()) {
    signal(stop_);
    thread_.join();
  }
  if (!process_) return;
  process_->end(deadline, hurry_fd);
  process_.reset();
  pid_.store(0, std::memory_order_relaxed);
  signal(lost_);
}

void ServingProgram::watch() noexcept {
  for (;;) {
    // Short of "never", which not every wait can count to.
    const Result<sys::ExitStatus> ended = process_->wait(now() + std::chrono::hours(1), stop_.get());
    if (!ended && ended.error().code() == ETIMEDOUT) continue;
    if (!ended) return;
    process_.reset();
    pid_.store(0, std::memory_order_relaxed);
    if (!outlives(*ended)) signal(lost_);
    return;
  }
}

/// Whether the mount is usable without the program.
bool ServingProgram::outlives(sys::ExitStatus status) const {
  const auto entry = sys::find_mount(berth_);
  if (!entry || !*entry || (*entry)->id != mount_) return false;
  if (!is_served_type((*entry)->type)) return true;
  return status.success() && has_programs(namespace_number_);  // it has become a daemon
}

}  // namespace berth::manager
