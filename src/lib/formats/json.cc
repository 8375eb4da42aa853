#include "src/lib/formats/json.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "src/lib/base/text.h"

namespace berth::formats {

namespace {

// Ordered: the files are read by people too, and what matters stands first.
using Json = nlohmann::ordered_json;

/// What a terminal would act on stands in strings alone, where JSON has an escape for it (RFC 8259, section 7).
std::string dump(const Json& json) {
  const std::string text = json.dump(2, ' ', false, nlohmann::detail::error_handler_t::replace) + "\n";
  return escape_hostile(text, [](std::string& to, std::string_view character, char32_t code) {
    if (character == "\n") {
      to += character;
    } else if (code < 0x10000) {
      fmt::format_to(std::back_inserter(to), "\\u{:04x}", static_cast<std::uint32_t>(code));
    } else {
      const std::uint32_t above = code - 0x10000;
      fmt::format_to(std::back_inserter(to), "\\u{:04x}\\u{:04x}", 0xD800 + (above >> 10), 0xDC00 + (above & 0x3FF));
    }
  });
}

/// How many shares are in each state.
Json counts_json(const std::vector<ShareSummary>& shares) {
  Json json = {{"total", shares.size()}, {"idle", 0},     {"mounting", 0}, {"mounted", 0}, {"stalled", 0},
               {"draining", 0},          {"expiring", 0}, {"failed", 0},   {"removed", 0}};
  for (const ShareSummary& share : shares) {
    Json& count = json[share.state];
    count = count.is_number() ? count.get<std::uint64_t>() + 1 : 1;
  }
  return json;
}

template <typename T, typename View>
concept Like = std::is_same_v<std::remove_const_t<T>, View>;

// The fields of each object, once for writing (Writer) and for reading (Reader), in the order in which people read
// them.

void fields_of(Like<FailureView> auto& failure, auto& field) {
  field("when", failure.when);
  field("attempt", failure.attempt);
  field("took_seconds", failure.took);
  field("errno", failure.code);
  field.derived("error", [&] { return errno_name(failure.code); });
  field("story", failure.story);
  field("command", failure.command);
  field("exit", failure.exit);
  field("output", failure.output);
}

void fields_of(Like<AttachmentView> auto& attachment, auto& field) {
  field("instance", attachment.instance);
  field("volume", attachment.volume);
}

void fields_of(Like<ShareSummary> auto& share, auto& field) {
  field("name", share.name);
  field("type", share.type);
  field("state", share.state);
  field("pending", share.is_pending);
  field("users", share.users);
  field("since", share.since);
  field("source", share.source);
  field("held", share.held);
}

void fields_of(Like<UnansweredView> auto& unanswered, auto& field) {
  field("callers", unanswered.callers);
  field("operation", unanswered.operation);
  field("since", unanswered.since);
}

void fields_of(Like<TransportView> auto& transport, auto& field) {
  field("address", transport.address);
  field("protocol", transport.protocol);
  field("version", transport.version);
  field("port", transport.port);
  field("connections", transport.connections);
}

void fields_of(Like<HostView> auto& host, auto& field) {
  field("state", host.state);
  field("generation", host.generation);
  field("since", host.since);
  field("operations", host.operations);
}

void fields_of(Like<DamageView> auto& damage, auto& field) {
  field("file", damage.file);
  field("reason", damage.reason);
  field("set_aside", damage.set_aside);
}

void fields_of(Like<UnknownShareView> auto& share, auto& field) {
  field("name", share.name);
  field("attachments", share.attachments);
}

void fields_of(Like<FailedLookUpView> auto& failed, auto& field) {
  field("name", failed.name);
  field("when", failed.when);
  field("errno", failed.code);
  field.derived("error", [&] { return errno_name(failed.code); });
  field("story", failed.story);
}

void fields_of(Like<StateView> auto& state, auto& field) {
  field("directory", state.directory);
  field("failure", state.failure);
  field("damages", state.damages);
  field("unknown_shares", state.unknown_shares);
}

void fields_of(Like<WrongShareView> auto& wrong, auto& field) {
  field("share", wrong.share);
  field("reason", wrong.reason);
}

/// Without its output, which may name what is not for every reader.
void fields_of(Like<SourceView> auto& source, auto& field) {
  field("name", source.name);
  field("state", source.state);
  field("since", source.since);
  field("shares", source.shares);
  field("synced", source.synced);
  field("pid", source.pid);
  field("starts", source.starts);
  field("error", source.error);
  field("error_at", source.error_at);
  field("wrong_count", source.wrong_count);
  field("wrong", source.wrong);
}

void fields_of(Like<ShareView> auto& share, auto& field) {
  field("name", share.name);
  field("type", share.type);
  field("state", share.state);
  field("since", share.since);
  field("source", share.source);
  field("sources", share.sources);
  field("options", share.options);
  field("origin", share.origin);
  field("users", share.users);
  field("waiting", share.waiting);
  field("unanswered", share.unanswered);
  field("mounts", share.mounts);
  field("failures", share.failures);
  field("mount_id", share.mount_id);
  field("transport", share.transport);
  field("access", share.access);
  field("native", share.native);
  field("with_berth", share.with_berth);
  field("helper_pid", share.helper);
  field("idle_timeout_seconds", share.idle_timeout);
  field("mount_timeout_seconds", share.mount_timeout);
  field("stays", share.stays);
  field("expires_at", share.expires_at);
  field("retry_at", share.retry_at);
  field("pending", share.pending);
  field("requires", share.required);
  field("required_by", share.required_by);
  field("busy", share.busy);
  field("held", share.held);
  field("last_failure", share.last_failure);
  field("attachments", share.attachments);
}

void fields_of(Like<NamespaceView> auto& berth, auto& field) {
  field("version", berth.version);
  field("namespace", berth.directory);
  field("arguments", berth.arguments);
  field("keeper_pid", berth.keeper);
  field("server_pid", berth.server);
  field("nodes", berth.nodes);
  field("max_nodes", berth.max_nodes);
  field("started", berth.started);
  field("host", berth.host);
  field("state", berth.state);
  field("sources", berth.sources);
  field("failed_look_ups", berth.failed_look_ups);
  field.derived("counts", [&] { return counts_json(berth.shares); });
  field("shares", berth.shares);
}

/// Puts fields into an object.
class Writer {
 public:
  explicit Writer(Json& json) : json_(json) { json_ = Json::object(); }

  template <typename T>
  void operator()(const char* key, const T& value) {
    json_[key] = to_json(value);
  }
  /// "key", and "key_hex" where JSON cannot hold the bytes.
  void operator()(const char* key, const std::string& bytes) {
    json_[key] = bytes;
    if (is_utf8(bytes)) return;
    std::string hex;
    for (const char c : bytes) fmt::format_to(std::back_inserter(hex), "{:02x}", static_cast<unsigned char>(c));
    json_[std::string(key) + "_hex"] = hex;
  }
  /// What follows from the other fields: written for programs that do not have berth's tables, and not read back.
  template <typename Value>
  void derived(const char* key, const Value& value) {
    json_[key] = value();
  }

 private:
  template <typename T>
  static Json to_json(const T& value) {
    if constexpr (std::is_class_v<T>) {
      Json json;
      Writer writer(json);
      fields_of(value, writer);
      return json;
    } else {
      return value;
    }
  }
  static Json to_json(const std::string& text) { return text; }
  static Json to_json(const WallTime& time) { return format_time(time); }
  template <typename Rep, typename Period>
  static Json to_json(const std::chrono::duration<Rep, Period>& duration) {
    return std::chrono::duration<double>(duration).count();
  }
  template <typename T>
  static Json to_json(const std::optional<T>& value) {
    return value ? to_json(*value) : Json(nullptr);
  }
  template <typename T>
  static Json to_json(const std::vector<T>& list) {
    Json json = Json::array();
    for (const T& one : list) json.push_back(to_json(one));
    return json;
  }

  Json& json_;
};

/// Reads fields out of an object. Keeps in `refused` the first one that is missing or has the wrong type, so that the
/// caller looks once, at the end.
class Reader {
 public:
  Reader(const Json& json, std::string where, std::string& refused)
      : json_(json), where_(std::move(where)), refused_(refused) {
    if (!json_.is_object()) refuse("");
  }

  template <typename T>
  void operator()(const char* key, T& value) {
    if (const Json* const found = find(key)) read(*found, key, value);
  }
  void operator()(const char* key, std::string& bytes) {
    if (const Json* const found = find(key)) read(*found, key, bytes);
    const std::string hex_key = std::string(key) + "_hex";
    if (!json_.is_object() || !json_.contains(hex_key)) return;
    std::string hex;
    read(json_[hex_key], hex_key, hex);
    if (!from_hex(hex, bytes)) refuse(hex_key);
  }
  template <typename Value>
  void derived(const char* /*key*/, const Value& /*value*/) {}

 private:
  template <typename T>
  void read(const Json& json, const std::string& key, T& value) {
    if constexpr (std::is_class_v<T> && !std::is_same_v<T, std::string>) {
      Reader reader(json, where_ + "." + key, refused_);
      fields_of(value, reader);
    } else {
      // The library throws where the type does not fit.
      try {
        value = json.get<T>();
      } catch (const nlohmann::json::exception&) {
        refuse(key);
      }
    }
  }
  void read(const Json& json, const std::string& key, WallTime& value) {
    std::string text;
    read(json, key, text);
    if (const Result<WallTime> time = parse_time(text)) {
      value = *time;
    } else {
      refuse(key);
    }
  }
  template <typename Rep, typename Period>
  void read(const Json& json, const std::string& key, std::chrono::duration<Rep, Period>& value) {
    double number = 0;
    read(json, key, number);
    // Beyond a century it is no duration of berth's, and would not fit.
    if (!(std::abs(number) < 3.2e9)) return refuse(key);
    value = std::chrono::duration_cast<std::chrono::duration<Rep, Period>>(
        std::chrono::nanoseconds(std::llround(number * 1e9)));
  }
  template <typename T>
  void read(const Json& json, const std::string& key, std::optional<T>& value) {
    if (!json.is_null()) read(json, key, value.emplace());
  }
  template <typename T>
  void read(const Json& json, const std::string& key, std::vector<T>& list) {
    if (!json.is_array()) return refuse(key);
    for (const Json& one : json) read(one, key, list.emplace_back());
  }

  [[nodiscard]] const Json* find(const char* key) {
    if (!json_.is_object()) return nullptr;
    const auto found = json_.find(key);
    if (found != json_.end()) return &*found;
    refuse(key);
    return nullptr;
  }
  static bool from_hex(std::string_view hex, std::string& bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string result;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
      const std::size_t high = kDigits.find(hex[i]);
      const std::size_t low = kDigits.find(hex[i + 1]);
      if (high == std::string_view::npos || low == std::string_view::npos) return false;
      result.push_back(static_cast<char>(high * 16 + low));
    }
    bytes = std::move(result);
    return hex.size() % 2 == 0;
  }
  void refuse(std::string_view key) {
    if (refused_.empty()) refused_ = key.empty() ? where_ : where_ + "." + std::string(key);
  }

  const Json& json_;
  const std::string where_;
  std::string& refused_;
};

template <typename View>
std::string render(const View& view) {
  Json json;
  Writer writer(json);
  fields_of(view, writer);
  return dump(json);
}

template <typename View>
Result<View> parse(std::string_view text, const char* what) {
  const Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (json.is_discarded()) return fail(EBADMSG, "not JSON");
  View view;
  std::string refused;
  Reader reader(json, what, refused);
  fields_of(view, reader);
  if (refused.empty()) return view;
  return fail(EBADMSG, "not the status of a berth: " + refused + " is missing or not what it should be");
}

/// The number that `text` is made of; -1 where it is not one.
int digits(std::string_view text) {
  int value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace

std::string render_json(const ShareView& share) { return render(share); }

std::string render_json(const NamespaceView& berth) { return render(berth); }

Result<ShareView> parse_share_json(std::string_view text) { return parse<ShareView>(text, "share"); }

Result<NamespaceView> parse_namespace_json(std::string_view text) { return parse<NamespaceView>(text, "namespace"); }

namespace {

/// A word that quote_command() has written, at the start of `text`, which is left at what follows.
std::string take_word(std::string_view& text) {
  std::string word;
  if (!text.starts_with('"')) {
    const std::size_t end = std::min(text.find(' '), text.size());
    word = text.substr(0, end);
    text.remove_prefix(end);
    return word;
  }
  std::size_t at = 1;
  while (at < text.size() && text[at] != '"') {
    if (text[at] != '\\' || at + 1 >= text.size()) {
      word.push_back(text[at++]);
      continue;
    }
    const char escaped = text[at + 1];
    constexpr std::string_view kLetters = "abfnrtv";
    constexpr std::string_view kMeant = "\a\b\f\n\r\t\v";
    const bool is_octal = escaped >= '0' && escaped <= '7' && at + 3 < text.size();
    if (is_octal) {
      word.push_back(static_cast<char>(std::stoi(std::string(text.substr(at + 1, 3)), nullptr, 8)));
    } else {
      const std::size_t letter = kLetters.find(escaped);
      word.push_back(letter == std::string_view::npos ? escaped : kMeant[letter]);
    }
    at += is_octal ? 4 : 2;
  }
  text.remove_prefix(std::min(at + 1, text.size()));
  return word;
}

}  // namespace

std::string event_as_json(std::string_view line) {
  while (line.ends_with('\n')) line.remove_suffix(1);
  const std::string time = take_word(line);
  if (!parse_time(time) || line.empty()) return "";
  line.remove_prefix(1);
  Json event{{"time", time}, {"event", take_word(line)}};
  while (line.size() > 1) {
    line.remove_prefix(1);
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) return "";
    const std::string key(line.substr(0, equals));
    line.remove_prefix(equals + 1);
    const std::string value = take_word(line);
    if (key == "attempt") {
      event[key] = std::strtoul(value.c_str(), nullptr, 10);
    } else {
      event[key] = value;
    }
  }
  return event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<WallTime> parse_time(std::string_view text) {
  constexpr std::string_view kForm = "0000-00-00T00:00:00.000Z";
  const auto bad = [text] { return fail(EBADMSG, "not a time: " + quote(text)); };
  if (text.size() != kForm.size()) return bad();
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    if (kForm[i] != '0' && text[i] != kForm[i]) return bad();
  }
  const std::array<int, 7> parts{digits(text.substr(0, 4)),  digits(text.substr(5, 2)),  digits(text.substr(8, 2)),
                                 digits(text.substr(11, 2)), digits(text.substr(14, 2)), digits(text.substr(17, 2)),
                                 digits(text.substr(20, 3))};
  for (const int part : parts) {
    if (part < 0) return bad();
  }
  const std::chrono::year_month_day day{std::chrono::year(parts[0]),
                                        std::chrono::month(static_cast<unsigned>(parts[1])),
                                        std::chrono::day(static_cast<unsigned>(parts[2]))};
  // Nanoseconds in 64 bits end in 2262.
  if (parts[0] > 2261 || parts[0] < 1970) return bad();
  if (!day.ok() || parts[3] > 23 || parts[4] > 59 || parts[5] > 60) return bad();
  return WallTime(std::chrono::sys_days(day)) + std::chrono::hours(parts[3]) + std::chrono::minutes(parts[4]) +
         std::chrono::seconds(parts[5]) + std::chrono::milliseconds(parts[6]);
}

}  // namespace berth::formats
