#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

namespace berth::test {

/// A process that stays in a share, by a directory, an open file or a mapping alone.
class Inside {
 public:
  enum class By { kDirectory, kFile, kMapping };

  Inside(const std::string& share, By by) {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      const bool is_in = enter(share, by);
      if (::write(ready[1], is_in ? "y" : "n", 1) == 1) ::pause();
      ::_exit(0);
    }
    ::close(ready[1]);
    char is_in = 'n';
    EXPECT_EQ(::read(ready[0], &is_in, 1), 1);
    EXPECT_EQ(is_in, 'y');
    ::close(ready[0]);
  }
  ~Inside() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  static bool enter(const std::string& share, By by) {
    if (by == By::kDirectory) return ::chdir(share.c_str()) == 0;
    const int file = ::open((share + "/name").c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0 || by == By::kFile) return file >= 0;
    const bool is_mapped = ::mmap(nullptr, 1, PROT_READ, MAP_PRIVATE, file, 0) != MAP_FAILED;
    ::close(file);
    return is_mapped;
  }

  pid_t pid_ = -1;
};

}  // namespace berth::test
