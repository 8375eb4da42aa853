#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "src/lib/base/result.h"
#include "src/lib/formats/control_command.h"
#include "src/lib/formats/view.h"

namespace berth::cli {

/// The control tree of one namespace, through plain system calls: nothing here that a shell script could not do.
///
/// Errors: the kernel's errno values, as the control tree answered them; a story only where there is more to say.
class Tree {
 public:
  /// `namespace_directory` has a control tree.
  explicit Tree(std::string namespace_directory) : directory_(std::move(namespace_directory)) {}

  [[nodiscard]] const std::string& namespace_directory() const noexcept { return directory_; }

  /// A file in the root of the tree.
  [[nodiscard]] Result<std::string> read(std::string_view file) const;
  /// A file of a share. Errors: ENOENT with a story when there is no such share.
  [[nodiscard]] Result<std::string> read(std::string_view share, std::string_view file) const;

  /// Writes `word` to the share's control file and waits until it is done. Errors: also as read().
  [[nodiscard]] Result<> write(std::string_view share, formats::ControlCommand word) const;

  /// Writes `word` to the control file of the namespace and waits until it is done, or for `timeout`.
  /// Errors: ETIMEDOUT after that, EINTR where a signal is handled; the word may be in force all the same.
  [[nodiscard]] Result<> write(formats::HostCommand word, std::optional<std::chrono::milliseconds> timeout) const;

  /// Makes the attachment and waits until the share is mounted; one that is there is left as it is.
  /// Errors: also as read().
  [[nodiscard]] Result<> attach(std::string_view share, const std::string& instance, const std::string& volume) const;
  /// Errors: also as read(); ENOENT with a story when there is no such attachment.
  [[nodiscard]] Result<> detach(std::string_view share, const std::string& instance, const std::string& volume) const;

  /// Hands what is in `events` to `take`, and with `follow` what comes, until `take` returns false.
  [[nodiscard]] Result<> events(bool follow, const std::function<bool(std::string_view)>& take) const;

  /// Whether the caller may change the share, as far as the modes of the tree show.
  [[nodiscard]] bool may_change(std::string_view share) const;
  /// The users that may, in words: "root", "root and the group disk".
  [[nodiscard]] std::string who_may_change(std::string_view share) const;

 private:
  [[nodiscard]] std::string path(std::string_view share, std::string_view file) const;
  [[nodiscard]] Result<> check_exists(std::string_view share) const;
  /// Looks the share up in the namespace, where a template may make it.
  void look_up(std::string_view share) const;

  std::string directory_;
};

}  // namespace berth::cli
