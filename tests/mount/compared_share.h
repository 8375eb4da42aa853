#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <string>

#include "tests/mount/berth_fixture.h"

namespace berth::test {

constexpr gid_t kTeam = 20001;
constexpr uid_t kNobody = 65534;

/// What a program sees of a directory, line by line, so that two directories can be compared. Nothing that may differ
/// is in it: inode and device numbers, times that are not set, sizes of directories.
class Transcript {
 public:
  explicit Transcript(std::string base) : base_(std::move(base)) {}

  [[nodiscard]] std::string path(const std::string& name) const { return base_ + "/" + name; }
  /// A number that a system call returned; errno where it is below 0.
  void note(const std::string& what, long result);
  void note(const std::string& what, const std::string& result);
  /// lstat(2).
  void show(const std::string& name);
  void write(const std::string& name, const std::string& bytes, int flags = O_CREAT | O_TRUNC, mode_t mode = 0644);
  void read(const std::string& name);
  void read_fd(const std::string& what, int fd);
  void list(const std::string& name);

  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  std::string base_;
  std::string text_;
};

/// Runs `work` in a process of its own and returns what it answers.
std::string in_process(const std::function<std::string()>& work);

/// For children: a user without privilege, in a supplementary group (kTeam).
bool become_nobody();

/// One share "a" of a directory, and a directory "native" of the same file system beside it to compare with.
class ComparedShare : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override { EXPECT_EQ(server_.stop(), Ending{}); }

  /// Does the same on the share and beside it, and compares.
  void compare(const std::function<void(Transcript&)>& act);
  /// The same as a user without privilege (become_nobody()).
  void compare_as_nobody(const std::function<void(Transcript&)>& act);

  BerthServer server_;
  std::string source_, native_, share_;
};

}  // namespace berth::test
