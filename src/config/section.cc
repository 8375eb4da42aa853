#include "src/config/section.h"

#include <algorithm>

#include "manager/model/share_spec.h"
#include "manager/model/share_template.h"
#include "src/config/toml_text.h"
#include "src/config/units.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

std::string_view kind_of(const toml::node& value) {
  switch (value.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "an array";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a fraction";
    case toml::node_type::boolean:
      return "true or false";
    case toml::node_type::date:
      return "a date";
    case toml::node_type::time:
      return "a time";
    case toml::node_type::date_time:
      return "a date and time";
    case toml::node_type::none:
      break;
  }
  return "nothing";
}

}  // namespace

std::string section_label(std::string_view section, std::string_view name) {
  const auto part = [](std::string_view text) { return is_bare_key(text) ? std::string(text) : shown(text); };
  return "[" + part(section) + (name.data() == nullptr ? "" : "." + part(name)) + "]";
}

std::string suggestion(std::string_view word, const std::vector<std::string_view>& candidates) {
  constexpr std::size_t kLongestWord = 64;
  const std::string_view meant = word.size() <= kLongestWord ? nearest(word, candidates) : std::string_view();
  return meant.empty() ? "" : "; did you mean " + quote(meant) + "?";
}

const toml::node* Section::find(std::string_view key) {
  known_.push_back(key);
  return table_.get(key);
}

void Section::reject(std::string_view key, std::string_view reason) {
  const auto found = table_.find(key);
  const std::uint32_t line = found == table_.cend() ? line_ : found->first.source().begin.line;
  mistakes_.add(line, quote(key) + " in " + label_ + ": " + std::string(reason));
}

void Section::reject_type(std::string_view key, const toml::node& value, std::string_view expected) {
  reject(key, "expected " + std::string(expected) + ", found " + std::string(kind_of(value)));
}

bool Section::text(std::string_view key, std::string& target) {
  const toml::node* value = find(key);
  if (value == nullptr) return false;
  const toml::value<std::string>* text = value->as_string();
  if (text == nullptr) {
    reject_type(key, *value, "a string such as \"...\"");
    return false;
  }
  target = text->get();
  return true;
}

std::optional<std::vector<std::string>> Section::strings_of(std::string_view key, const toml::node& value,
                                                            std::string_view expected) {
  std::vector<std::string> strings;
  const toml::array* array = value.as_array();
  if (array == nullptr) {
    reject_type(key, value, expected);
    return std::nullopt;
  }
  strings.reserve(array->size());
  for (const toml::node& element : *array) {
    const toml::value<std::string>* text = element.as_string();
    if (text == nullptr) {
      reject(key, "expected " + std::string(expected) + ", found " + std::string(kind_of(element)) + " in the array");
      return std::nullopt;
    }
    strings.push_back(text->get());
  }
  return strings;
}

void Section::texts(std::string_view key, std::vector<std::string>& target) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  if (const toml::value<std::string>* text = value->as_string()) {
    target = {text->get()};
  } else if (auto strings = strings_of(key, *value, "a string or an array of strings such as [\"a\", \"b\"]")) {
    target = std::move(*strings);
  }
}

void Section::sources(std::string_view key, std::vector<std::string>& target, std::vector<std::uint32_t>& weights) {
  const auto found = table_.find(key);
  const toml::array* const array = found == table_.cend() ? nullptr : found->second.as_array();
  const auto is_table = [](const toml::node& element) { return element.is_table(); };
  if (array == nullptr || std::none_of(array->begin(), array->end(), is_table)) return texts(key, target);
  find(key);
  std::vector<std::string> sources;
  std::vector<std::uint32_t> found_weights;
  for (const toml::node& element : *array) {
    const toml::table* const table = element.as_table();
    const toml::node* const source = table != nullptr ? table->get("source") : &element;
    const toml::node* const weight = table != nullptr ? table->get("weight") : nullptr;
    const toml::value<std::string>* const text = source != nullptr ? source->as_string() : nullptr;
    const toml::value<std::int64_t>* const number = weight != nullptr ? weight->as_integer() : nullptr;
    const std::size_t keys = (source != nullptr ? 1U : 0U) + (weight != nullptr ? 1U : 0U);
    const bool is_known =
        text != nullptr && (table == nullptr || table->size() == keys) && (weight == nullptr || number != nullptr);
    if (!is_known) return reject(key, "expected a string or { source = \"...\", weight = 2 } as each source");
    if (number != nullptr && (number->get() < 0 || number->get() > std::int64_t{manager::kMostWeight})) {
      return reject(key, "a weight is a number from 0 to " + std::to_string(manager::kMostWeight));
    }
    sources.push_back(text->get());
    found_weights.push_back(number != nullptr ? static_cast<std::uint32_t>(number->get()) : 0);
  }
  target = std::move(sources);
  weights = std::move(found_weights);
}

void Section::command(std::string_view key, std::vector<std::string>& target) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  auto strings = strings_of(key, *value, "an array of strings such as [\"program\", \"argument\"]");
  if (!strings) return;
  if (strings->empty()) return reject(key, "is empty; the program and its arguments");
  target = std::move(*strings);
}

void Section::variables(std::string_view key, std::vector<std::string>& target) {
  constexpr std::string_view kExpected = "a table of strings such as { NAME = \"value\" }";
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const toml::table* table = value->as_table();
  if (table == nullptr) return reject_type(key, *value, kExpected);
  std::vector<std::string> variables;
  for (const auto& [name, node] : *table) {
    const toml::value<std::string>* text = node.as_string();
    if (text == nullptr) {
      return reject(key, "expected " + std::string(kExpected) + ", found " + std::string(kind_of(node)) + " for " +
                             shown(name.str()));
    }
    variables.push_back(std::string(name.str()) + "=" + text->get());
  }
  target = std::move(variables);
}

void Section::flag(std::string_view key, bool& target) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  if (const toml::value<bool>* flag = value->as_boolean()) {
    target = flag->get();
  } else {
    reject_type(key, *value, "true or false (without quotes)");
  }
}

void Section::count(std::string_view key, std::size_t& target, std::size_t least, std::size_t most) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const toml::value<std::int64_t>* number = value->as_integer();
  if (number == nullptr) return reject_type(key, *value, "an integer such as " + std::to_string(target));
  if (number->get() < static_cast<std::int64_t>(least) || number->get() > static_cast<std::int64_t>(most)) {
    return reject(key, std::to_string(number->get()) + " is not between " + std::to_string(least) + " and " +
                           std::to_string(most));
  }
  target = static_cast<std::size_t>(number->get());
}

bool Section::duration(std::string_view key, std::chrono::milliseconds& target) {
  const toml::node* value = find(key);
  if (value == nullptr) return false;
  const toml::value<std::int64_t>* number = value->as_integer();
  const toml::value<std::string>* text = value->as_string();
  if (number != nullptr) {
    const std::string digits = std::to_string(number->get());
    reject(key, digits + " lacks a unit; write " + quote(digits + "s") + " if seconds are meant");
  } else if (text == nullptr) {
    reject_type(key, *value, "a duration such as \"10s\" or \"1h30m\"");
  } else if (Result<std::chrono::milliseconds> parsed = parse_duration(text->get())) {
    target = *parsed;
  } else {
    reject(key, parsed.error().story());
  }
  return true;
}

void Section::mode(std::string_view key, mode_t& target) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const toml::value<std::string>* text = value->as_string();
  if (text == nullptr) return reject_type(key, *value, "a mode in octal and in quotes such as \"0755\"");
  if (Result<mode_t> parsed = parse_mode(text->get())) {
    target = *parsed;
  } else {
    reject(key, parsed.error().story());
  }
}

std::optional<std::string> Section::account_of(std::string_view key, const toml::node& value,
                                               std::string_view expected) {
  if (const toml::value<std::string>* text = value.as_string()) return text->get();
  if (const toml::value<std::int64_t>* number = value.as_integer()) return std::to_string(number->get());
  reject_type(key, value, expected);
  return std::nullopt;
}

template <typename Id, typename LookUp>
void Section::accounts(std::string_view key, std::vector<Id>& target, std::string_view expected, LookUp look_up) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const toml::array* array = value->as_array();
  if (array == nullptr) return reject_type(key, *value, expected);
  // To the share an empty list lets all users in, but its author means that it lets none in.
  if (array->empty()) return reject(key, "is empty; leave it out to let all users in");
  std::vector<Id> ids;
  for (const toml::node& element : *array) {
    const std::optional<std::string> name = account_of(key, element, expected);
    if (!name) continue;
    if (Result<Id> id = look_up(*name)) {
      ids.push_back(*id);
    } else {
      reject(key, id.error().story());
    }
  }
  target = std::move(ids);
}

void Section::users(std::string_view key, std::vector<uid_t>& target, Accounts& accounts) {
  this->accounts(key, target, "an array of users such as [\"alice\", 1001]", [&](const std::string& name) {
    return name == "&" ? Result<uid_t>(manager::kKeyUser) : accounts.user(name);
  });
}

void Section::groups(std::string_view key, std::vector<gid_t>& target, Accounts& accounts) {
  this->accounts(key, target, "an array of groups such as [\"staff\", 50]",
                 [&](const std::string& name) { return accounts.group(name); });
}

void Section::user(std::string_view key, uid_t& target, Accounts& accounts) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const std::optional<std::string> name = account_of(key, *value, "a user such as \"alice\" or 1001");
  if (!name) return;
  if (Result<uid_t> id = accounts.user(*name)) {
    target = *id;
  } else {
    reject(key, id.error().story());
  }
}

void Section::group(std::string_view key, gid_t& target, Accounts& accounts) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const std::optional<std::string> name = account_of(key, *value, "a group such as \"staff\" or 50");
  if (!name) return;
  if (Result<gid_t> id = accounts.group(*name)) {
    target = *id;
  } else {
    reject(key, id.error().story());
  }
}

void Section::word(std::string_view key, std::size_t& target, const std::vector<std::string_view>& words) {
  const toml::node* value = find(key);
  if (value == nullptr) return;
  const toml::value<std::string>* text = value->as_string();
  std::string expected;
  for (const std::string_view word : words) expected += (expected.empty() ? "" : " or ") + quote(word);
  if (text == nullptr) return reject_type(key, *value, expected);
  const auto found = std::find(words.begin(), words.end(), text->get());
  if (found == words.end()) {
    return reject(key, "expected " + expected + ", found " + shown(text->get()) + suggestion(text->get(), words));
  }
  target = static_cast<std::size_t>(found - words.begin());
}

void Section::reject_unknown(const std::function<std::string(std::string_view, const toml::node&)>& advice) {
  for (const auto& [key, value] : table_) {
    if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
    if (mistakes_.full()) {
      mistakes_.add(0, "");
      continue;
    }
    std::string end = advice ? advice(key.str(), value) : "";
    if (end.empty()) end = suggestion(key.str(), known_);
    mistakes_.add(key.source().begin.line, "unknown key " + shown(key.str()) + " in " + label_ + end);
  }
}

}  // namespace berth::config
