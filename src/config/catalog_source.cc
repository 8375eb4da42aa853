#include "src/config/catalog_source.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <utility>
#include <variant>

#include <nlohmann/json.hpp>

#include "manager/model/catalog.h"
#include "manager/state/state_format.h"
#include "src/config/catalog_source_section.h"
#include "src/config/document.h"
#include "src/config/share_section.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::config {
namespace {

using Json = nlohmann::json;

/// Most values within each other. A share has an array in an object in the line.
constexpr int kDeepest = 8;
/// Longest reason that is kept.
constexpr std::size_t kLongestReason = 1024;

std::string cut(std::string text) {
  if (text.size() > kLongestReason) text.resize(kLongestReason);
  return text;
}

std::string reason_for(std::string_view text) { return cut(prose(mask_secrets(text))); }

/// The object in a line, and why it can be no share; "": it may be one. Then some of its values are missing.
struct Parsed {
  Json json;
  std::string wrong;
};

/// Errors: EBADMSG with a story.
Result<Parsed> parse_object(std::string_view line) {
  if (line.size() > kEndlessSourceLine) return fail(EBADMSG, "the line is too long");
  bool is_too_deep = false;
  // The library destroys and writes what is deep by recursion.
  const auto bound = [&is_too_deep](int depth, Json::parse_event_t, Json&) {
    is_too_deep = is_too_deep || depth > kDeepest;
    return depth <= kDeepest;
  };
  Json json = Json::parse(line.begin(), line.end(), bound, false);
  if (json.is_discarded()) return fail(EBADMSG, "it is not JSON");
  if (!json.is_object()) return fail(EBADMSG, "it is not a JSON object");
  if (is_too_deep) return Parsed{std::move(json), "its values are too deep in each other"};
  if (line.size() <= kLongestSourceLine) return Parsed{std::move(json), ""};
  return Parsed{std::move(json), "it has more than " + std::to_string(kLongestSourceLine / 1024) + " KiB"};
}

/// What was kept of it has no such fault. Errors: EBADMSG with a story.
Result<Json> parse_kept(std::string_view line) {
  Parsed parsed = TRY(parse_object(line));
  if (!parsed.wrong.empty()) return fail(EBADMSG, std::move(parsed.wrong));
  return std::move(parsed.json);
}

/// The text of a key. Errors: EBADMSG.
Result<std::string> text_of(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string()) return fail(EBADMSG, quote(key) + " is not a string");
  return found->get<std::string>();
}

/// A value as TOML has it, so that a share of a source is read as one of a file.
using Value = std::variant<std::string, bool, std::int64_t, double, toml::table, toml::array>;

Result<toml::table> to_table(const Json& object);
Result<toml::array> to_array(const Json& list);

Result<Value> to_value(const Json& value) {
  switch (value.type()) {
    case Json::value_t::string:
      return value.get<std::string>();
    case Json::value_t::boolean:
      return value.get<bool>();
    case Json::value_t::number_unsigned:
      if (value.get<std::uint64_t>() > INT64_MAX) return fail(EINVAL, "the number is too large");
      [[fallthrough]];
    case Json::value_t::number_integer:
      return value.get<std::int64_t>();
    case Json::value_t::number_float:
      return value.get<double>();
    case Json::value_t::object:
      return TRY(to_table(value));
    case Json::value_t::array:
      return TRY(to_array(value));
    case Json::value_t::null:
    case Json::value_t::binary:
    case Json::value_t::discarded:
      break;
  }
  return fail(EINVAL, "null is no value");
}

Result<toml::table> to_table(const Json& object) {
  toml::table table;
  for (auto entry = object.begin(); entry != object.end(); ++entry) {
    Result<Value> value = to_value(entry.value());
    if (!value) return fail(EINVAL, shown(entry.key()) + ": " + std::string(value.error().story()));
    std::visit([&](auto& node) { table.insert_or_assign(entry.key(), std::move(node)); }, *value);
  }
  return table;
}

Result<toml::array> to_array(const Json& list) {
  toml::array array;
  for (const Json& one : list) {
    Value value = TRY(to_value(one));
    std::visit([&](auto& node) { array.push_back(std::move(node)); }, value);
  }
  return array;
}

/// Which one of the keys that make a message is there. Errors: EBADMSG.
Result<std::string_view> kind_of(const Json& json) {
  std::string_view found;
  for (const char* const key : {"put", "delete", "list", "synced", "error"}) {
    if (!json.contains(key)) continue;
    if (!found.empty()) return fail(EBADMSG, "it has both " + quote(found) + " and " + quote(key));
    found = key;
  }
  if (found.empty()) return fail(EBADMSG, R"(it has none of "put", "delete", "list", "synced" and "error")");
  return found;
}

Result<> read_share_of(const Json& json, manager::ShareFields& fields, Accounts& accounts) {
  fields.name = TRY(text_of(json, "put"));
  const auto share = json.find("share");
  if (share == json.end() || !share->is_object()) return fail(EINVAL, "\"share\" is not an object");
  const toml::table table = TRY(to_table(*share));
  Mistakes mistakes;
  Section section(table, "\"share\"", 0, mistakes);
  read_share_section(section, fields, accounts);
  if (mistakes.empty()) return {};
  std::string story(mistakes.error().story());
  // They are listed one a line, each after the name of its file, which is "" here.
  std::string reason;
  for (std::string_view line : split(story, '\n')) {
    if (line.starts_with(": ")) line.remove_prefix(2);
    reason.append(reason.empty() ? "" : "; ").append(line);
  }
  return fail(EINVAL, std::move(reason));
}

/// What is wrong with a share; "": nothing.
std::string fault_in(const Json& json, std::string_view namespace_directory) {
  if (const auto said = json.find("wrong"); said != json.end())
    return reason_for(said->is_string() ? said->get_ref<const std::string&>() : "the source says so");
  manager::ShareFields fields;
  Accounts accounts;
  if (const Result<> read = read_share_of(json, fields, accounts); !read) return reason_for(read.error().story());
  const std::vector<manager::FieldFault> faults = manager::ShareSpec::faults_in(fields);
  if (!faults.empty()) return reason_for(quote(faults.front().key) + ": " + faults.front().reason);
  const InsideNamespace inside = find_inside(fields, namespace_directory);
  if (inside.key.empty()) return "";
  return reason_for(quote(inside.key) + ": " + quote(inside.path) + " lies inside the namespace");
}

}  // namespace

Result<SourceMessage> read_source_line(std::string_view line, std::string_view namespace_directory) {
  Parsed parsed = TRY(parse_object(line));
  const Json& json = parsed.json;
  const std::string_view kind = TRY(kind_of(json));
  if (!parsed.wrong.empty() && kind != "put") return fail(EBADMSG, std::move(parsed.wrong));
  SourceMessage message;
  if (kind == "put") {
    message.kind = SourceMessage::Kind::kPut;
    message.name = TRY(text_of(json, "put"));
    message.wrong = parsed.wrong.empty() ? fault_in(json, namespace_directory) : std::move(parsed.wrong);
    // It is kept to be shown, and so cut; no share has the name that it becomes.
    if (message.name.size() > manager::kMaxShareName) message.name = "/" + shown(message.name);
  } else if (kind == "delete") {
    message.kind = SourceMessage::Kind::kDelete;
    message.name = TRY(text_of(json, "delete"));
  } else if (kind == "error") {
    message.kind = SourceMessage::Kind::kError;
    message.error = reason_for(TRY(text_of(json, "error")));
  } else {
    message.kind = kind == "list" ? SourceMessage::Kind::kList : SourceMessage::Kind::kSynced;
    if (json.at(std::string(kind)) != Json(true)) return fail(EBADMSG, quote(kind) + " is not true");
    message.is_empty = json.value("empty", Json(false)) == Json(true);
  }
  return message;
}

Result<> read_put(std::string_view line, manager::ShareFields& fields, Accounts& accounts) {
  return read_share_of(TRY(parse_kept(line)), fields, accounts);
}

Result<std::string> name_in_put(std::string_view line) { return text_of(TRY(parse_kept(line)), "put"); }

std::string source_origin(const std::string& source) { return "catalog source " + source; }

std::string source_directory(std::string_view state_dir, std::string_view namespace_directory) {
  if (state_dir.empty() || namespace_directory.empty()) return "";
  return std::string(state_dir) + "/" + manager::state_format::file_name(namespace_directory);
}

std::string source_file(const std::string& directory, const std::string& source) {
  return directory + "/" + std::string(manager::state_format::kSourcePrefix) + source;
}

namespace {

/// The last line of a file: it has all shares of the source, or not.
constexpr std::string_view kWhole = "{\"synced\":true}";
constexpr std::string_view kPart = "{\"incomplete\":true}";

}  // namespace

Result<std::string> read_source_text(const std::string& path) {
  return sys::read_regular_file(path, kMostOfSource + (std::size_t{1} << 20));
}

Result<KeptLines> split_source_text(std::string_view text) {
  KeptLines kept;
  for (std::string_view rest = text; !rest.empty();) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    kept.is_whole = line == kWhole;
    if (rest.empty() && (kept.is_whole || line == kPart)) return kept;
    kept.lines.push_back(line);
  }
  return fail(EBADMSG, "its end is missing");
}

Result<KeptShares> read_source_file(const std::string& path) {
  const std::string text = TRY(read_source_text(path));
  const KeptLines split = TRY(split_source_text(text));
  KeptShares kept{.lines = {}, .is_whole = split.is_whole};
  for (const std::string_view line : split.lines)
    kept.lines.emplace_hint(kept.lines.end(), TRY(name_in_put(line)), line);
  return kept;
}

Result<> write_source_file(const std::string& path, const SourceLines& lines, bool is_whole) {
  const std::string directory = path.substr(0, path.rfind('/'));
  TRY_VOID(sys::make_directories(directory, 0700));
  const UniqueFd above = TRY(sys::open_at(AT_FDCWD, directory.c_str(), O_RDONLY | O_DIRECTORY));
  // Hidden from attachments, which are found by the ends of names, until it is whole.
  const std::string unfinished = path + std::string(manager::state_format::kUnfinished);
  UniqueFd file = TRY(sys::open_at(AT_FDCWD, unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  std::string piece;
  constexpr std::size_t kPiece = std::size_t{256} << 10;
  for (const auto& [name, line] : lines) {
    piece.append(line).append("\n");
    if (piece.size() < kPiece) continue;
    TRY_VOID(sys::write_all(file.get(), piece));
    piece.clear();
  }
  TRY_VOID(sys::write_all(file.get(), piece.append(is_whole ? kWhole : kPart).append("\n")));
  if (::fsync(file.get()) != 0) return fail_errno();
  crash_point("source-written");
  if (::rename(unfinished.c_str(), path.c_str()) != 0) return fail_errno();
  crash_point("source-renamed");
  // EINVAL: a file system that has nothing to synchronise.
  if (::fsync(above.get()) != 0 && errno != EINVAL) return fail_errno();
  return {};
}

void read_catalog_source(Section& section, std::vector<CatalogSource>& sources) {
  const std::size_t before = section.mistakes().count();
  CatalogSource source{.max_shares = manager::kMaxShares};
  section.text("name", source.name);
  section.command("program", source.program);
  section.count("max_shares", source.max_shares, 1, manager::kMaxShares);
  section.duration("list_timeout", source.list_timeout);
  section.reject_unknown();
  if (section.mistakes().count() != before) return;
  constexpr std::size_t kLongestName = 64;
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  const bool is_plain = source.name.find_first_not_of(kPlain) == std::string::npos;
  if (source.name.empty() || source.name.size() > kLongestName || !is_plain)
    return section.reject("name", "a name of 1 to 64 letters, digits, '_' and '-' is expected");
  const auto has_name = [&](const CatalogSource& other) { return other.name == source.name; };
  if (std::any_of(sources.begin(), sources.end(), has_name))
    return section.reject("name", shown(source.name) + " is the name of another catalog source");
  if (source.program.empty() || source.program.front().empty())
    return section.reject("program",
                          "is missing; the program and its arguments, such as [\"/usr/local/bin/list-shares\"]");
  const std::string& program = source.program.front();
  if (program.find('/') != std::string::npos && program.front() != '/')
    return section.reject("program", shown(program) + " is not an absolute path");
  if (source.list_timeout.count() == 0) return section.reject("list_timeout", "must be longer than 0");
  if (sources.size() >= kMaxCatalogSources)
    return section.reject("name", "there are more than " + std::to_string(kMaxCatalogSources) + " catalog sources");
  sources.push_back(std::move(source));
}

}  // namespace berth::config
