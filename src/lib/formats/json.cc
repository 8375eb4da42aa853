#include "src/lib/formats/json.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
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

Json time_json(const std::optional<WallTime>& time) { return time ? Json(format_time(*time)) : Json(nullptr); }

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

/// "key", and "key_hex" where JSON cannot hold the bytes.
void put_bytes(Json& json, const char* key, const std::string& bytes) {
  json[key] = bytes;
  if (is_utf8(bytes)) return;
  std::string hex;
  for (const char c : bytes) fmt::format_to(std::back_inserter(hex), "{:02x}", static_cast<unsigned char>(c));
  json[std::string(key) + "_hex"] = hex;
}

Json failure_json(const FailureView& failure) {
  Json json;
  json["when"] = format_time(failure.when);
  json["attempt"] = failure.attempt;
  json["took_seconds"] = seconds(failure.took);
  json["errno"] = failure.code;
  json["error"] = errno_name(failure.code);
  put_bytes(json, "story", failure.story);
  json["command"] = failure.command;
  json["exit"] = failure.exit;
  put_bytes(json, "output", failure.output);
  return json;
}

Json attachments_json(const std::vector<AttachmentView>& attachments) {
  Json list = Json::array();
  for (const AttachmentView& attachment : attachments) {
    Json json;
    put_bytes(json, "instance", attachment.instance);
    put_bytes(json, "volume", attachment.volume);
    list.push_back(std::move(json));
  }
  return list;
}

Json summary_json(const ShareSummary& share) {
  Json json;
  put_bytes(json, "name", share.name);
  json["type"] = share.type;
  json["state"] = share.state;
  json["users"] = share.users;
  json["since"] = time_json(share.since);
  put_bytes(json, "source", share.source);
  return json;
}

Json unanswered_json(const UnansweredView& unanswered) {
  Json json;
  json["callers"] = unanswered.callers;
  json["operation"] = unanswered.operation;
  json["since"] = time_json(unanswered.since);
  return json;
}

Json host_json(const HostView& host) {
  Json json;
  json["state"] = host.state;
  json["generation"] = host.generation;
  json["since"] = time_json(host.since);
  json["operations"] = host.operations;
  return json;
}

Json state_json(const StateView& state) {
  Json json;
  put_bytes(json, "directory", state.directory);
  put_bytes(json, "failure", state.failure);
  Json damages = Json::array();
  for (const DamageView& damage : state.damages) {
    Json one;
    put_bytes(one, "file", damage.file);
    put_bytes(one, "reason", damage.reason);
    put_bytes(one, "set_aside", damage.set_aside);
    damages.push_back(std::move(one));
  }
  json["damages"] = std::move(damages);
  Json shares = Json::array();
  for (const UnknownShareView& share : state.unknown_shares) {
    Json one;
    put_bytes(one, "name", share.name);
    one["attachments"] = share.attachments;
    shares.push_back(std::move(one));
  }
  json["unknown_shares"] = std::move(shares);
  return json;
}

Json counts_json(const std::vector<ShareSummary>& shares) {
  Json json = {{"total", shares.size()}, {"idle", 0},     {"mounting", 0}, {"mounted", 0},
               {"stalled", 0},           {"draining", 0}, {"expiring", 0}, {"failed", 0}};
  for (const ShareSummary& share : shares) {
    Json& count = json[share.state];
    count = count.is_number() ? count.get<std::uint64_t>() + 1 : 1;
  }
  return json;
}

/// Reads values out of an object; remembers the first one that is missing or is of the wrong type, so that the caller
/// looks once, at the end.
class Fields {
 public:
  Fields(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json_.is_object()) refuse("");
  }

  template <typename T>
  void get(const char* key, T& value) {
    const Json* found = find(key);
    if (found == nullptr) return;
    // The library throws where the type does not fit.
    try {
      value = found->get<T>();
    } catch (const nlohmann::json::exception&) {
      refuse(key);
    }
  }
  void get_bytes(const char* key, std::string& value) {
    get(key, value);
    const std::string hex_key = std::string(key) + "_hex";
    if (!json_.is_object() || !json_.contains(hex_key)) return;
    std::string hex;
    get(hex_key.c_str(), hex);
    if (!from_hex(hex, value)) refuse(hex_key);
  }
  void get_time(const char* key, std::optional<WallTime>& value) {
    const Json* found = find(key);
    if (found == nullptr || found->is_null()) return;
    WallTime time{};
    get_time(key, time);
    value = time;
  }
  void get_time(const char* key, WallTime& value) {
    std::string text;
    get(key, text);
    const Result<WallTime> time = parse_time(text);
    if (time) {
      value = *time;
    } else {
      refuse(key);
    }
  }
  template <typename D>
  void get_duration(const char* key, D& value) {
    double number = 0;
    get(key, number);
    // Beyond a century it is no duration of ours, and would not fit.
    if (!(std::abs(number) < 3.2e9)) return refuse(key);
    value = std::chrono::duration_cast<D>(std::chrono::nanoseconds(std::llround(number * 1e9)));
  }
  /// The elements of a list; none where it is missing.
  [[nodiscard]] const Json& list(const char* key) {
    static const Json kNone = Json::array();
    const Json* found = find(key);
    if (found == nullptr) return kNone;
    if (found->is_array()) return *found;
    refuse(key);
    return kNone;
  }
  [[nodiscard]] const Json* find(const char* key) {
    if (!json_.is_object()) return nullptr;
    const auto found = json_.find(key);
    if (found != json_.end()) return &*found;
    refuse(key);
    return nullptr;
  }
  void take_refusal(const Fields& other) {
    if (refused_.empty()) refused_ = other.refused_;
  }
  [[nodiscard]] Result<> finish() const {
    if (refused_.empty()) return {};
    return fail(EBADMSG, "not the status of a berth: " + refused_ + " is missing or not what it should be");
  }

 private:
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
  std::string where_;
  std::string refused_;
};

Result<Json> parse(std::string_view text) {
  Json json = Json::parse(text.begin(), text.end(), nullptr, false);
  if (json.is_discarded()) return fail(EBADMSG, "not JSON");
  return json;
}

FailureView read_failure(const Json& json, Fields& outer) {
  FailureView failure;
  Fields fields(json, "last_failure");
  fields.get_time("when", failure.when);
  fields.get("attempt", failure.attempt);
  fields.get_duration("took_seconds", failure.took);
  fields.get("errno", failure.code);
  fields.get_bytes("story", failure.story);
  fields.get("command", failure.command);
  fields.get("exit", failure.exit);
  fields.get_bytes("output", failure.output);
  outer.take_refusal(fields);
  return failure;
}

AttachmentView read_attachment(const Json& json, Fields& outer) {
  AttachmentView attachment;
  Fields fields(json, "attachments");
  fields.get_bytes("instance", attachment.instance);
  fields.get_bytes("volume", attachment.volume);
  outer.take_refusal(fields);
  return attachment;
}

ShareSummary read_summary(const Json& json, Fields& outer) {
  ShareSummary share;
  Fields fields(json, "shares");
  fields.get_bytes("name", share.name);
  fields.get("type", share.type);
  fields.get("state", share.state);
  fields.get("users", share.users);
  fields.get_time("since", share.since);
  fields.get_bytes("source", share.source);
  outer.take_refusal(fields);
  return share;
}

UnansweredView read_unanswered(const Json& json, Fields& outer) {
  UnansweredView unanswered;
  Fields fields(json, "unanswered");
  fields.get("callers", unanswered.callers);
  fields.get("operation", unanswered.operation);
  fields.get_time("since", unanswered.since);
  outer.take_refusal(fields);
  return unanswered;
}

HostView read_host(const Json& json, Fields& outer) {
  HostView host;
  Fields fields(json, "host");
  fields.get("state", host.state);
  fields.get("generation", host.generation);
  fields.get_time("since", host.since);
  fields.get("operations", host.operations);
  outer.take_refusal(fields);
  return host;
}

StateView read_state(const Json& json, Fields& outer) {
  StateView state;
  Fields fields(json, "state");
  fields.get_bytes("directory", state.directory);
  fields.get_bytes("failure", state.failure);
  for (const Json& one : fields.list("damages")) {
    Fields damage(one, "state.damages");
    DamageView& view = state.damages.emplace_back();
    damage.get_bytes("file", view.file);
    damage.get_bytes("reason", view.reason);
    damage.get_bytes("set_aside", view.set_aside);
    fields.take_refusal(damage);
  }
  for (const Json& one : fields.list("unknown_shares")) {
    Fields share(one, "state.unknown_shares");
    UnknownShareView& view = state.unknown_shares.emplace_back();
    share.get_bytes("name", view.name);
    share.get("attachments", view.attachments);
    fields.take_refusal(share);
  }
  outer.take_refusal(fields);
  return state;
}

void read_share(Fields& fields, ShareView& share) {
  fields.get_bytes("name", share.name);
  fields.get("type", share.type);
  fields.get("state", share.state);
  fields.get_time("since", share.since);
  fields.get_bytes("source", share.source);
  fields.get("sources", share.sources);
  fields.get("options", share.options);
  fields.get("origin", share.origin);
  fields.get("users", share.users);
  fields.get("waiting", share.waiting);
  if (const Json* unanswered = fields.find("unanswered"); unanswered != nullptr) {
    share.unanswered = read_unanswered(*unanswered, fields);
  }
  fields.get("mounts", share.mounts);
  fields.get("failures", share.failures);
  fields.get("mount_id", share.mount_id);
  fields.get("access", share.access);
  fields.get("native", share.native);
  fields.get("with_berth", share.with_berth);
  fields.get("helper_pid", share.helper);
  fields.get_duration("idle_timeout_seconds", share.idle_timeout);
  fields.get("stays", share.stays);
  fields.get_time("expires_at", share.expires_at);
  fields.get_time("retry_at", share.retry_at);
  fields.get("busy", share.busy);
  const Json* failure = fields.find("last_failure");
  if (failure != nullptr && !failure->is_null()) share.last_failure = read_failure(*failure, fields);
  for (const Json& json : fields.list("attachments")) share.attachments.push_back(read_attachment(json, fields));
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

std::string render_json(const ShareView& share) {
  Json json;
  put_bytes(json, "name", share.name);
  json["type"] = share.type;
  json["state"] = share.state;
  json["since"] = time_json(share.since);
  put_bytes(json, "source", share.source);
  json["sources"] = share.sources;
  json["options"] = share.options;
  json["origin"] = share.origin;
  json["users"] = share.users;
  json["waiting"] = share.waiting;
  json["unanswered"] = unanswered_json(share.unanswered);
  json["mounts"] = share.mounts;
  json["failures"] = share.failures;
  json["mount_id"] = share.mount_id;
  json["access"] = share.access;
  json["native"] = share.native;
  json["with_berth"] = share.with_berth;
  json["helper_pid"] = share.helper;
  json["idle_timeout_seconds"] = seconds(share.idle_timeout);
  json["stays"] = share.stays;
  json["expires_at"] = time_json(share.expires_at);
  json["retry_at"] = time_json(share.retry_at);
  json["busy"] = share.busy;
  json["last_failure"] = share.last_failure ? failure_json(*share.last_failure) : Json(nullptr);
  json["attachments"] = attachments_json(share.attachments);
  return dump(json);
}

std::string render_json(const NamespaceView& berth) {
  Json json;
  json["version"] = berth.version;
  json["namespace"] = berth.directory;
  json["arguments"] = berth.arguments;
  json["keeper_pid"] = berth.keeper;
  json["server_pid"] = berth.server;
  json["nodes"] = berth.nodes;
  json["max_nodes"] = berth.max_nodes;
  json["started"] = time_json(berth.started);
  json["host"] = host_json(berth.host);
  json["state"] = state_json(berth.state);
  json["counts"] = counts_json(berth.shares);
  Json shares = Json::array();
  for (const ShareSummary& share : berth.shares) shares.push_back(summary_json(share));
  json["shares"] = std::move(shares);
  return dump(json);
}

Result<ShareView> parse_share_json(std::string_view text) {
  const Json json = TRY(parse(text));
  ShareView share;
  Fields fields(json, "share");
  read_share(fields, share);
  TRY_VOID(fields.finish());
  return share;
}

Result<NamespaceView> parse_namespace_json(std::string_view text) {
  const Json json = TRY(parse(text));
  NamespaceView berth;
  Fields fields(json, "namespace");
  fields.get("version", berth.version);
  fields.get("namespace", berth.directory);
  fields.get("arguments", berth.arguments);
  fields.get("keeper_pid", berth.keeper);
  fields.get("server_pid", berth.server);
  fields.get("nodes", berth.nodes);
  fields.get("max_nodes", berth.max_nodes);
  fields.get_time("started", berth.started);
  if (const Json* host = fields.find("host"); host != nullptr) berth.host = read_host(*host, fields);
  if (const Json* state = fields.find("state"); state != nullptr) berth.state = read_state(*state, fields);
  for (const Json& share : fields.list("shares")) berth.shares.push_back(read_summary(share, fields));
  TRY_VOID(fields.finish());
  return berth;
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
