#include "src/lib/sys/program_output.h"

#include <unistd.h>

#include <array>
#include <cerrno>

namespace berth::sys {
namespace {

// As much as a pipe holds by default: one reading empties it, and a program that writes all the time cannot keep the
// reader from its deadline.
constexpr std::size_t kMostAtOnce = 64UL << 10U;

}  // namespace

int ProgramOutput::pipe() const noexcept { return ended_ ? -1 : pipe_.get(); }

void ProgramOutput::read_available() {
  std::array<char, 4096> buffer{};
  for (std::size_t total = 0; total < kMostAtOnce;) {
    const ssize_t count = ::read(pipe_.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      ended_ = true;
      return;
    }
    append(buffer.data(), static_cast<std::size_t>(count));
    total += static_cast<std::size_t>(count);
  }
}

void ProgramOutput::append(const char* bytes, std::size_t count) {
  tail_.append(bytes, count);
  if (tail_.size() <= kept_) return;
  tail_.erase(0, tail_.size() - kept_);
  dropped_ = true;
}

std::string ProgramOutput::text() const {
  if (!dropped_) return tail_;
  // A line whose beginning is gone may say something else than it did; one endless line is better than nothing.
  const std::size_t line_end = tail_.find('\n');
  const bool only_line = line_end == std::string::npos || line_end + 1 == tail_.size();
  return only_line ? tail_ : tail_.substr(line_end + 1);
}

}  // namespace berth::sys
