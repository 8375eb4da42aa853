#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <vector>

namespace berth::test {

/// A process that does what it is told step by step, elsewhere (another working directory, another mount namespace).
class Companion {
 public:
  using Step = std::function<int()>;
  /// `prepare` runs first, in the new process; not 0: it could not.
  explicit Companion(const Step& prepare, const std::vector<Step>& steps) {
    EXPECT_EQ(::pipe2(to_.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(from_.data(), O_CLOEXEC), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::close(to_[1]);
      answer(prepare());
      char number = 0;
      while (::read(to_[0], &number, 1) == 1) answer(steps[static_cast<std::size_t>(number)]());
      ::_exit(0);
    }
    ::close(to_[0]);
    EXPECT_EQ(await(), 0) << "it could not be prepared";
  }
  ~Companion() { end(); }
  Companion(const Companion&) = delete;
  Companion& operator=(const Companion&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  int run(std::size_t step) {
    const char number = static_cast<char>(step);
    EXPECT_EQ(::write(to_[1], &number, 1), 1);
    return await();
  }
  void end() {
    if (pid_ <= 0) return;
    ::close(to_[1]);
    ::waitpid(pid_, nullptr, 0);
    ::close(from_[0]);
    ::close(from_[1]);
    pid_ = -1;
  }

 private:
  void answer(int value) const {
    if (::write(from_[1], &value, sizeof value) != sizeof value) ::_exit(1);
  }
  int await() const {
    int value = -1;
    EXPECT_EQ(::read(from_[0], &value, sizeof value), static_cast<ssize_t>(sizeof value));
    return value;
  }

  std::array<int, 2> to_{};
  std::array<int, 2> from_{};
  pid_t pid_ = -1;
};

}  // namespace berth::test
