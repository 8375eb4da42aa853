#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth {

/// What stands in a text in the place of a secret.
inline constexpr std::string_view kMasked = "***";

/// Whether the value of a key of that name is probably a secret: "password", "RCLONE_CONFIG_X_PASS", "--api-key".
bool is_secret_key(std::string_view key) noexcept;

/// `text` without what looks like a secret: values of secret keys (`password=x`, `"token": "x"`, `--secret x`),
/// the password in `user:password@host`, private keys, words that begin as well-known tokens do. Percent-encoded text
/// is looked through as well. Rather too much is masked than too little.
std::string mask_secrets(std::string_view text);

/// The same for an argv, where a secret may be the argument after its key.
std::vector<std::string> mask_secrets(const std::vector<std::string>& argv);

/// The secrets of one share. mask() finds them also where no shape shows them: a program may print a password in a text
/// of its own.
///
/// Threading: as a value.
class Secrets {
 public:
  /// A list as in mount(8) -o.
  void add_options(std::string_view options);
  /// What is mounted: a URL, `user:password@host:path`, or anything else.
  void add_source(std::string_view source);
  void add_command(const std::vector<std::string>& argv);
  /// A variable of a program's environment: a secret whatever its name is, unless it is a path or a common word.
  void add_variable(std::string_view name, std::string_view value);
  /// The content of a credentials file: `key=value` lines, `user:password`, or one secret alone.
  void add_file(std::string_view content);

  [[nodiscard]] bool empty() const noexcept { return values_.empty(); }

  /// `text` without these, in whatever case or encoding, and without what mask_secrets() finds.
  [[nodiscard]] std::string mask(std::string_view text) const;
  [[nodiscard]] std::vector<std::string> mask(const std::vector<std::string>& argv) const;

 private:
  void add(std::string_view value);
  void add_one(std::string value);

  std::vector<std::string> values_;  ///< in lower case
};

/// Paths of files that hold secrets and are named in an option list or an argv: `credentials=/etc/x`, `--password-file
/// /etc/x`.
std::vector<std::string> secret_files_in(std::string_view options);
std::vector<std::string> secret_files_in(const std::vector<std::string>& argv);

}  // namespace berth
