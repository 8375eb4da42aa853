#include "manager/backends/output_reader.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "src/lib/sys/thread.h"

namespace berth::manager {

std::unique_ptr<OutputReader> OutputReader::hold(UniqueFd pipe) {
  if (!pipe) return nullptr;
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return nullptr;
  return std::unique_ptr<OutputReader>(new OutputReader(std::move(pipe), std::move(stop)));
}

std::unique_ptr<OutputReader> OutputReader::make(UniqueFd pipe, std::function<void(std::string_view)> said) {
  std::unique_ptr<OutputReader> reader = hold(std::move(pipe));
  if (reader && !reader->begin(std::move(said))) return nullptr;
  return reader;
}

bool OutputReader::begin(std::function<void(std::string_view)> said) {
  said_ = std::move(said);
  Result<std::thread> thread = sys::start_thread("berth-output", [this] { read(); });
  if (thread) thread_ = std::move(*thread);
  return thread.has_value();
}

OutputReader::~OutputReader() {
  ::eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

void OutputReader::read() noexcept {
  std::array<char, 4096> bytes{};
  for (;;) {
    std::array<pollfd, 2> ready{{{pipe_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}}};
    if (::poll(ready.data(), ready.size(), -1) < 0) continue;
    // What is there is told before the end: a program's last words.
    const ssize_t count = ready[0].revents != 0 ? ::read(pipe_.get(), bytes.data(), bytes.size()) : -1;
    if (count == 0) return;
    if (count > 0 && said_) said_({bytes.data(), static_cast<std::size_t>(count)});
    if (count < 0 && ready[1].revents != 0) return;
  }
}

}  // namespace berth::manager
