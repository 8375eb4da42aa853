#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/config/accounts.h"
#include "src/config/mistakes.h"
#include "src/config/toml.h"

namespace berth::config {

/// One section of a file, "[share.media]", read key by key. Each function leaves its target alone when the key is not
/// there, and records a mistake when its value is not what it should be. A key that no function has read is unknown.
class Section {
 public:
  /// `label`: as it stands in the file, for messages. All references outlive the section.
  Section(const toml::table& table, std::string label, std::uint32_t line, Mistakes& mistakes)
      : table_(table), label_(std::move(label)), line_(line), mistakes_(mistakes) {}

  /// True when the target was set.
  bool text(std::string_view key, std::string& target);
  /// A string, or an array of strings.
  void texts(std::string_view key, std::vector<std::string>& target);
  /// As texts(), where a table { source = "...", weight = 2 } stands for a string as well. `weights`: empty where none
  /// has one.
  void sources(std::string_view key, std::vector<std::string>& target, std::vector<std::uint32_t>& weights);
  /// An array of strings.
  void command(std::string_view key, std::vector<std::string>& target);
  /// A table of strings, as "NAME=value".
  void variables(std::string_view key, std::vector<std::string>& target);
  void flag(std::string_view key, bool& target);
  void count(std::string_view key, std::size_t& target, std::size_t least, std::size_t most);
  /// Whether it is there.
  bool duration(std::string_view key, std::chrono::milliseconds& target);
  void mode(std::string_view key, mode_t& target);
  void user(std::string_view key, uid_t& target, Accounts& accounts);
  void group(std::string_view key, gid_t& target, Accounts& accounts);
  void users(std::string_view key, std::vector<uid_t>& target, Accounts& accounts);
  void groups(std::string_view key, std::vector<gid_t>& target, Accounts& accounts);
  /// One of `words`: its position.
  void word(std::string_view key, std::size_t& target, const std::vector<std::string_view>& words);

  /// A mistake in the value of `key`: `"key" in [section]: reason`, in its line, or in the section's where it has none.
  void reject(std::string_view key, std::string_view reason);
  /// Every key that was not asked for is a mistake. `advice` may know better than a suggestion what was meant: it is
  /// given the key and its value and answers the end of the message, or "".
  void reject_unknown(const std::function<std::string(std::string_view, const toml::node&)>& advice = {});

  [[nodiscard]] const std::string& label() const noexcept { return label_; }
  [[nodiscard]] std::uint32_t line() const noexcept { return line_; }
  [[nodiscard]] Mistakes& mistakes() const noexcept { return mistakes_; }

 private:
  const toml::node* find(std::string_view key);
  void reject_type(std::string_view key, const toml::node& value, std::string_view expected);
  /// The strings of an array; nothing and a mistake when another thing is among them.
  std::optional<std::vector<std::string>> strings_of(std::string_view key, const toml::node& value,
                                                     std::string_view expected);
  /// A name or a number.
  std::optional<std::string> account_of(std::string_view key, const toml::node& value, std::string_view expected);
  template <typename Id, typename LookUp>
  void accounts(std::string_view key, std::vector<Id>& target, std::string_view expected, LookUp look_up);

  const toml::table& table_;
  const std::string label_;
  const std::uint32_t line_;
  Mistakes& mistakes_;
  std::vector<std::string_view> known_;
};

/// "[share.media]", "[share.\"home/*\"]": a header as it must be written.
std::string section_label(std::string_view section, std::string_view name = {});

/// "; did you mean \"idle_timeout\"?", or "" when nothing is near.
std::string suggestion(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace berth::config
