#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "manager/model/backend.h"
#include "src/lib/base/clock.h"

namespace berth::test {

/// Real backends over a scratch directory. After each test it is checked that nothing is left: no mount below the
/// scratch directory, no loop device of an image in it, no process that names it, no descriptor of this process.
class BackendsTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// A path in the scratch directory.
  [[nodiscard]] std::string path(const std::string& name) const { return scratch_ + "/" + name; }
  /// Makes a directory there and returns its path.
  std::string directory(const std::string& name) const;
  /// Writes a file there and returns its path.
  std::string file(const std::string& name, const std::string& text) const;
  /// Writes a shell script there, executable, and returns its path.
  std::string script(const std::string& name, const std::string& text) const;
  /// A file of `size` bytes without contents.
  std::string image(const std::string& name, off_t size) const;
  /// Runs a program to its end; fails the test when that is no success.
  static void run(const std::vector<std::string>& argv);
  /// Skips nothing itself: says whether a program is installed.
  static bool has(std::string_view program);

  /// A share called "share", of `type`, checked.
  static manager::ShareSpec spec(const manager::ShareFields& fields);
  static manager::ShareFields fields(const std::string& type, const std::string& source = "",
                                     const std::string& options = "");
  manager::ShareFields command(std::vector<std::string> argv, std::vector<std::string> unmount = {}) const;

  /// At the berth, with 60 s for it.
  [[nodiscard]] manager::Attempt attempt() const;
  tl::expected<manager::RealMount, manager::AttemptFailure> mount(const manager::ShareSpec& spec);
  tl::expected<manager::RealMount, manager::AttemptFailure> mount(const manager::ShareSpec& spec,
                                                                  const manager::Attempt& attempt);
  Result<> unmount(const manager::ShareSpec& spec, manager::RealMount& mount, bool force = false);
  manager::Backend& backend(const manager::ShareSpec& spec) { return *backends_.at(spec.kind()); }

  /// The options of the mount at the berth, as in mountinfo; "" when nothing is mounted.
  [[nodiscard]] std::string mounted_options() const;
  /// The contents of `name` below the root of a mount; "?" and the error when it cannot be read.
  static std::string read(const manager::RealMount& mount, const std::string& name);
  /// errno of making a file below the root of a mount; 0 when it was made.
  static int create(const manager::RealMount& mount, const std::string& name);
  /// How many processes name the scratch directory in their argv.
  [[nodiscard]] std::vector<pid_t> processes() const;

  std::string berth_;  ///< an empty directory

 private:
  [[nodiscard]] std::vector<std::string> loop_devices() const;
  [[nodiscard]] std::vector<std::string> mounts() const;

  std::string scratch_;
  std::size_t descriptors_ = 0;
  std::map<manager::ShareKind, std::unique_ptr<manager::Backend>> backends_;
};

/// Whether `options`, as in mountinfo, has `word`.
bool has_option(const std::string& options, std::string_view word);

/// "" for a mount that succeeded, else everything about the failure; for messages of assertions.
std::string told(const tl::expected<manager::RealMount, manager::AttemptFailure>& result);

}  // namespace berth::test
