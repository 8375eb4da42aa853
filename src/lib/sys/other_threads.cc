#include "src/lib/sys/other_threads.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <string>
#include <string_view>

#include "src/lib/sys/proc.h"

namespace berth::sys {
namespace {

// Of the ninth field of /proc/PID/stat (linux/sched.h).
constexpr unsigned long kIoWorker = 0x00000010;      // PF_IO_WORKER
constexpr unsigned long kKernelThread = 0x00200000;  // PF_KTHREAD

constexpr std::uint64_t bit_of(int signal) noexcept { return std::uint64_t{1} << (signal - 1); }
constexpr std::uint64_t kStops = bit_of(SIGSTOP) | bit_of(SIGTSTP) | bit_of(SIGTTIN) | bit_of(SIGTTOU);
/// Signals that do nothing unless there is a handler for them (signal(7)).
constexpr std::uint64_t kDoNothing = bit_of(SIGCHLD) | bit_of(SIGCONT) | bit_of(SIGURG) | bit_of(SIGWINCH);
/// Signals that a program handles to be told of something, and not to have its call end: these, and a profiler's and of
/// I/O.
constexpr std::uint64_t kOnlyTell = kDoNothing | bit_of(SIGPROF) | bit_of(SIGVTALRM) | bit_of(SIGIO);

template <typename Number>
bool parse(std::string_view text, Number& number) {
  return std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc();
}

bool means_gone(const Error& error) noexcept { return error.code() == ENOENT || error.code() == ESRCH; }

/// The fields of /proc/TID/stat from the third on: behind a name that may hold anything but its last ')'.
std::string fields_of(pid_t thread) {
  const Result<std::string> line = proc::read(proc::path_of(thread, "stat"));
  const std::size_t name_end = line ? line->rfind(") ") : std::string::npos;
  return name_end == std::string::npos ? std::string() : line->substr(name_end + 2);
}

/// The field at `index`, counted from 0, of fields with a space between them.
template <typename Number>
bool parse_field(std::string_view rest, int index, Number& number) {
  for (int i = 0; i < index; ++i) {
    const std::size_t space = rest.find(' ');
    if (space == std::string_view::npos) return false;
    rest.remove_prefix(space + 1);
  }
  if (!rest.starts_with("0x")) return parse(rest, number);
  rest.remove_prefix(2);
  return std::from_chars(rest.data(), rest.data() + rest.size(), number, 16).ec == std::errc();
}

/// A set of signals in /proc/TID/status.
std::uint64_t signals_in(const std::string& status, std::string_view key) {
  const std::string_view field = proc::field_of(status, key);
  std::uint64_t mask = 0;
  std::from_chars(field.data(), field.data() + field.size(), mask, 16);
  return mask;
}

/// 0: it is gone.
unsigned long flags_of(pid_t thread) {
  constexpr int kFlags = 6;
  unsigned long flags = 0;
  return parse_field(fields_of(thread), kFlags, flags) ? flags : 0;
}

/// What every process may read.
ThreadActivity activity_by_state(pid_t thread) {
  const std::string fields = fields_of(thread);
  if (fields.empty()) return {ThreadActivity::Kind::kGone};
  return {fields.front() == 'R' ? ThreadActivity::Kind::kRunning : ThreadActivity::Kind::kWaiting};
}

}  // namespace

std::vector<pid_t> other_threads() {
  const pid_t own = proc::own_process();
  std::vector<pid_t> threads;
  for (const pid_t process : proc::numbers_in("/proc")) {
    if (process == own) continue;
    const std::vector<pid_t> its = proc::numbers_in(proc::path_of(process, "task"));
    threads.insert(threads.end(), its.begin(), its.end());
  }
  return threads;
}

pid_t own_id_in_proc() {
  const std::string path = proc::link_target("/proc/thread-self");  // "PROCESS/task/THREAD"
  return proc::number_at(std::string_view(path).substr(path.rfind('/') + 1));
}

ThreadActivity activity_of(pid_t thread) {
  using Kind = ThreadActivity::Kind;
  const Result<std::string> line = proc::read(proc::path_of(thread, "syscall"));
  if (!line && means_gone(line.error())) return {Kind::kGone};
  if (!line && line.error().code() != EAGAIN) return activity_by_state(thread);
  if (!line || line->starts_with("running")) return {Kind::kRunning};
  ThreadActivity activity{Kind::kWaiting};
  // A worker of io_uring has no stack and no program counter in user space, and a call number without meaning.
  if (!line->ends_with(" 0x0 0x0\n")) parse(*line, activity.call);
  for (int i = 0; i < static_cast<int>(activity.arguments.size()); ++i) {
    parse_field(*line, i + 1, activity.arguments[static_cast<std::size_t>(i)]);
  }
  constexpr int kStackPointer = 7;
  activity.is_32_bit = parse_field(*line, kStackPointer, activity.stack_pointer) && activity.stack_pointer >> 32 == 0;
  return activity;
}

Result<std::string> kernel_stack_of(pid_t thread) { return proc::read(proc::path_of(thread, "stack")); }

Result<std::chrono::nanoseconds> cpu_time_of(pid_t thread) {
  const std::string line = TRY(proc::read(proc::path_of(thread, "schedstat")));
  std::int64_t time = 0;
  if (!parse(line, time)) return fail(EBADMSG);
  return std::chrono::nanoseconds(time);
}

Result<unsigned> processor_of(pid_t thread) {
  constexpr int kProcessor = 36;
  unsigned processor = 0;
  if (!parse_field(fields_of(thread), kProcessor, processor)) return fail(ESRCH);
  return processor;
}

std::optional<int> status_of_zombie(pid_t process) {
  constexpr int kExitCode = 49;
  std::string fields = fields_of(process);
  while (!fields.empty() && fields.back() == '\n') fields.pop_back();
  int status = 0;
  if (!fields.starts_with('Z') || !parse_field(fields, kExitCode, status)) return std::nullopt;
  return status;
}

bool has_running_thread(pid_t process) {
  const std::vector<pid_t> threads = proc::numbers_in(proc::path_of(process, "task"));
  return std::any_of(threads.begin(), threads.end(), [](pid_t thread) { return fields_of(thread).starts_with('R'); });
}

bool has_no_memory(pid_t process) {
  const Result<std::string> sizes = process > 0 ? proc::read(proc::path_of(process, "statm")) : fail(ESRCH);
  return sizes && sizes->starts_with("0 ");
}

bool is_killed(pid_t thread) {
  if (thread <= 0) return false;
  const Result<std::string> status = proc::read(proc::path_of(thread, "status"));
  if (!status) return means_gone(status.error());
  const std::uint64_t pending = signals_in(*status, "SigPnd") | signals_in(*status, "ShdPnd");
  const std::string_view state = proc::field_of(*status, "State");
  return (pending & bit_of(SIGKILL)) != 0 || state.starts_with('Z') || state.starts_with('X');
}

bool is_kernel_thread(pid_t thread) { return (flags_of(thread) & kKernelThread) != 0; }

bool has_signal_to_handle(pid_t thread) {
  const Result<std::string> status = thread > 0 ? proc::read(proc::path_of(thread, "status")) : fail(ESRCH);
  if (!status) return true;
  const auto signals = [&](std::string_view key) { return signals_in(*status, key); };
  const std::uint64_t caught = signals("SigCgt");
  const std::uint64_t pending = (signals("SigPnd") | signals("ShdPnd")) & ~signals("SigBlk") & ~signals("SigIgn");
  const std::uint64_t handled = pending & caught & ~kOnlyTell;
  const std::uint64_t by_default = pending & ~caught & ~(kStops | kDoNothing);
  if ((handled | by_default) != 0) return true;
  return (flags_of(thread) & kIoWorker) != 0;
}

}  // namespace berth::sys
