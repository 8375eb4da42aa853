#include "src/lib/sys/program_output.h"

#include <unistd.h>

#include <algorithm>
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
  std::string_view rest(bytes, count);
  if (sink_) return sink_(rest);
  const std::size_t most_of_head = kept_ / 4;
  const std::size_t first = std::min(rest.size(), most_of_head - std::min(most_of_head, head_.size()));
  head_.append(rest.substr(0, first));
  rest.remove_prefix(first);
  tail_.append(rest);
  const std::size_t most_of_tail = kept_ - most_of_head;
  if (tail_.size() <= most_of_tail) return;
  dropped_ += tail_.size() - most_of_tail;
  tail_.erase(0, tail_.size() - most_of_tail);
}

std::string ProgramOutput::text() const {
  if (dropped_ == 0) return head_ + tail_;
  // Whole lines alone: a part of one may mean something else than the line did, and may be a part of a secret that is
  // not known as one any more. Progress that a program writes over and over again ends with '\r'.
  constexpr const char* kEnds = "\r\n";
  const std::size_t first_end = head_.find_last_of(kEnds);
  const std::string_view begin = std::string_view(head_).substr(0, first_end == std::string::npos ? 0 : first_end);
  const std::size_t line_end = tail_.find_first_of(kEnds);
  const std::string_view end =
      std::string_view(tail_).substr(line_end == std::string::npos ? tail_.size() : line_end + 1);
  const std::size_t left_out = dropped_ + (head_.size() - begin.size()) + (tail_.size() - end.size());
  return std::string(begin)
      .append("\n(")
      .append(std::to_string(left_out))
      .append(" bytes are left out here)\n")
      .append(end);
}

}  // namespace berth::sys
