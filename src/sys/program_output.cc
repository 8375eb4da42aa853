#include "src/sys/program_output.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "src/sys/poller.h"
#include "src/sys/thread.h"

namespace berth::sys {
namespace {

// As much as a pipe holds by default: one reading empties it, and a program that writes all the time cannot keep the
// reader from its deadline.
constexpr std::size_t kMostAtOnce = 64UL << 10U;

}  // namespace

int ProgramOutput::pipe() const noexcept {
  const MutexLock lock(mutex_);
  return ended_ ? -1 : pipe_.get();
}

bool ProgramOutput::read_available() {
  std::array<char, 4096> buffer{};
  for (std::size_t total = 0; total < kMostAtOnce;) {
    const ssize_t count = ::read(pipe_.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return true;
    if (count <= 0) {
      const MutexLock lock(mutex_);
      ended_ = true;
      return false;
    }
    append(buffer.data(), static_cast<std::size_t>(count));
    total += static_cast<std::size_t>(count);
  }
  return true;
}

void ProgramOutput::append(const char* bytes, std::size_t count) {
  const MutexLock lock(mutex_);
  tail_.append(bytes, count);
  if (tail_.size() <= kept_) return;
  tail_.erase(0, tail_.size() - kept_);
  dropped_ = true;
}

std::string ProgramOutput::text() const {
  const MutexLock lock(mutex_);
  if (!dropped_) return tail_;
  // A line whose beginning is gone may say something else than it did; one endless line is better than nothing.
  const std::size_t line_end = tail_.find('\n');
  const bool only_line = line_end == std::string::npos || line_end + 1 == tail_.size();
  return only_line ? tail_ : tail_.substr(line_end + 1);
}

namespace {

/// The one thread that keeps the pipes of long-lived programs empty. Started with the first, it stays.
class BackgroundReader {
 public:
  static Result<BackgroundReader*> instance() {
    static Mutex mutex;
    // Never destroyed: its thread runs to the end of the process.
    static BackgroundReader* the_reader = nullptr;
    {
      const MutexLock lock(mutex);
      if (the_reader != nullptr) return the_reader;
    }
    Poller poller = TRY(Poller::make());
    const MutexLock lock(mutex);
    if (the_reader == nullptr) the_reader = new BackgroundReader(std::move(poller));
    return the_reader;
  }

  Result<> add(const std::shared_ptr<ProgramOutput>& output) {
    const int pipe = output->pipe();
    if (pipe < 0) return {};
    TRY_VOID(ensure_thread());
    std::uint64_t tag = 0;
    {
      const MutexLock lock(mutex_);
      tag = next_tag_++;
      sources_.emplace(tag, Source{.pipe = pipe, .output = output});
    }
    Result<> added = poller_.add(pipe, EPOLLIN, tag);
    if (!added) remove(tag);
    return added;
  }

 private:
  struct Source {
    int pipe = -1;
    std::shared_ptr<ProgramOutput> output;
  };

  explicit BackgroundReader(Poller poller) : poller_(std::move(poller)) {}

  Result<> ensure_thread() {
    {
      const MutexLock lock(mutex_);
      if (std::exchange(running_, true)) return {};
    }
    Result<std::thread> thread = start_thread("berth-output", [this] { read_forever(); });
    if (thread) {
      thread->detach();
      return {};
    }
    const MutexLock lock(mutex_);
    running_ = false;
    return fail(thread.error());
  }

  void read_forever() {
    for (;;) {
      const auto ready = poller_.wait(std::nullopt);
      if (!ready) return;
      for (const Poller::Ready& one : *ready) read_one(one.tag);
    }
  }

  void read_one(std::uint64_t tag) {
    const Source source = find(tag);
    if (!source.output || source.output->read_available()) return;
    poller_.remove(source.pipe);
    remove(tag);
  }

  Source find(std::uint64_t tag) {
    const MutexLock lock(mutex_);
    const auto found = sources_.find(tag);
    return found == sources_.end() ? Source{} : found->second;
  }

  void remove(std::uint64_t tag) {
    Source removed;  // before the lock, so that its descriptor is closed after it
    const MutexLock lock(mutex_);
    const auto found = sources_.find(tag);
    if (found == sources_.end()) return;
    removed = std::move(found->second);
    sources_.erase(found);
  }

  Poller poller_;
  Mutex mutex_;
  bool running_ BERTH_GUARDED_BY(mutex_) = false;
  std::uint64_t next_tag_ BERTH_GUARDED_BY(mutex_) = 0;
  std::map<std::uint64_t, Source> sources_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace

Result<> read_in_background(const std::shared_ptr<ProgramOutput>& output) {
  BackgroundReader* const reader = TRY(BackgroundReader::instance());
  return reader->add(output);
}

}  // namespace berth::sys
