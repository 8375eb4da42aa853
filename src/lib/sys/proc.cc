#include "src/lib/sys/proc.h"

#include <dirent.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/process.h"
#include "src/lib/sys/thread.h"

namespace berth::sys::proc {
namespace {

/// A status with as many groups as a process can have (NGROUPS_MAX) is shorter.
constexpr std::size_t kMostRead = std::size_t{1} << 20;

/// `process`: its number, or "self".
std::vector<pid_t> pids_of(const std::string& process) {
  const Result<std::string> status = read("/proc/" + process + "/status");
  return status ? numbers_of(field_of(*status, "NSpid")) : std::vector<pid_t>();
}

/// The number that the next thread has got. 0: it is not known. (The last field of /proc/loadavg is a number in the pid
/// namespace of the process that reads it.)
pid_t next_number() {
  pid_t number = 0;
  Result<std::thread> thread = start_thread("berth-number", [&number] {
    const std::string self = link_target("/proc/thread-self");
    number = number_at(std::string_view(self).substr(self.rfind('/') + 1));
  });
  if (thread) thread->join();
  return number;
}

/// `depth`: how many pid namespaces the calling process is in, from that of /proc inwards. Most processes of a host are
/// in fewer: for these `is_it` is not called.
std::optional<HeldProcess> hold_at(pid_t number, std::size_t depth, const std::function<bool(pid_t number)>& is_it) {
  const std::vector<pid_t> pids = pids_of(std::to_string(number));
  if (depth == 0 || pids.size() < depth || !is_it(number)) return std::nullopt;
  Result<UniqueFd> pidfd = open_process(pids[depth - 1]);
  // In a pid namespace beside ours that is the number of another process of ours.
  if (!pidfd || process_of(pidfd->get()) != number || !is_it(number)) return std::nullopt;
  return HeldProcess{.number = number, .pid = pids[depth - 1], .pidfd = *std::move(pidfd)};
}

/// The first `most` of `numbers` that can be held, but for the calling process.
std::vector<HeldProcess> hold_of(const std::vector<pid_t>& numbers, const std::function<bool(pid_t number)>& is_it,
                                 std::size_t most) {
  std::vector<HeldProcess> held;
  const pid_t self = own_process();
  const std::size_t depth = pids_of("self").size();
  for (const pid_t number : numbers) {
    if (held.size() == most) break;
    if (number == self) continue;
    if (std::optional<HeldProcess> process = hold_at(number, depth, is_it)) held.push_back(*std::move(process));
  }
  return held;
}

}  // namespace

std::string path_of(pid_t thread, std::string_view name) {
  return "/proc/" + std::to_string(thread) + "/" + std::string(name);
}

Result<std::string> read(const std::string& path) { return read_file(path, kMostRead); }

std::string link_target(const std::string& path) {
  std::array<char, 256> target{};
  const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
  return length < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(length));
}

std::string command_of(pid_t process) {
  std::string name = read(path_of(process, "comm")).value_or("");
  if (name.ends_with('\n')) name.pop_back();
  return name;
}

std::vector<pid_t> numbers_in(const std::string& directory) {
  std::vector<pid_t> numbers;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(directory.c_str()), &::closedir);
  if (!listing) return numbers;
  while (const dirent* const entry = ::readdir(listing.get())) {
    if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') numbers.push_back(number_at(entry->d_name));
  }
  return numbers;
}

std::string_view field_of(std::string_view text, std::string_view key) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    std::string_view line = text.substr(at, text.find('\n', at) - at);
    at += line.size() + 1;
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
    line.remove_prefix(key.size() + 1);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    return line;
  }
  return {};
}

pid_t number_at(std::string_view text) noexcept {
  pid_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::vector<pid_t> numbers_of(std::string_view field) {
  std::vector<pid_t> numbers;
  for (const std::string_view word : split(field, '\t')) {
    if (!word.empty()) numbers.push_back(number_at(word));
  }
  return numbers;
}

pid_t own_process() { return number_at(link_target("/proc/self")); }

pid_t process_of(int pidfd) {
  const Result<std::string> text = read("/proc/self/fdinfo/" + std::to_string(pidfd));
  return text ? number_at(field_of(*text, "Pid")) : 0;
}

void HeldProcess::signal(int number_of_signal) const noexcept {
  ::syscall(SYS_pidfd_send_signal, pidfd.get(), number_of_signal, nullptr, 0);
}

std::optional<HeldProcess> hold(pid_t number, const std::function<bool(pid_t number)>& is_it) {
  return hold_at(number, pids_of("self").size(), is_it);
}

std::vector<HeldProcess> hold_all(const std::function<bool(pid_t number)>& is_it) {
  return hold_of(numbers_in("/proc"), is_it, std::numeric_limits<std::size_t>::max());
}

std::optional<HeldProcess> hold_newest(const std::function<bool(pid_t number)>& is_it) {
  std::vector<pid_t> numbers = numbers_in("/proc");
  std::sort(numbers.begin(), numbers.end(), std::greater<>());
  // Numbers begin again behind the greatest one: those beyond the next are the oldest.
  const auto is_newer = [next = next_number()](pid_t one) { return one < next; };
  std::rotate(numbers.begin(), std::find_if(numbers.begin(), numbers.end(), is_newer), numbers.end());
  std::vector<HeldProcess> held = hold_of(numbers, is_it, 1);
  return held.empty() ? std::nullopt : std::optional(std::move(held.front()));
}

pid_t parent_of(pid_t number) {
  const Result<std::string> status = read(path_of(number, "status"));
  return status ? number_at(field_of(*status, "PPid")) : 0;
}

}  // namespace berth::sys::proc
