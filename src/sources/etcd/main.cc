// A catalog source: shares below a prefix in etcd v3. berth-source-etcd(8).

#include <getopt.h>
#include <sysexits.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "src/lib/base/result.h"
#include "src/lib/base/text.h"
#include "src/sources/common/source_output.h"
#include "src/sources/etcd/etcd_client.h"

namespace berth::sources {
namespace {

using Json = nlohmann::json;

/// How many keys are asked for at once.
constexpr int kPage = 1000;
/// Most values within each other.
constexpr int kDeepest = 8;
/// How long the cluster may take to say that it has a majority.
constexpr std::chrono::seconds kAskPatience{5};
constexpr const char* kUsage =
    "usage: berth-source-etcd --endpoints URL[,URL...] [--prefix PREFIX]\n"
    "                         [--user-file FILE] [--ca FILE] [--cert FILE]\n"
    "                         [--key FILE] [--check-interval SECONDS]\n";

/// A number that JSON of etcd has as a string.
std::int64_t number_in(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return 0;
  if (found->is_number_integer()) return found->get<std::int64_t>();
  return found->is_string() ? std::strtoll(found->get_ref<const std::string&>().c_str(), nullptr, 10) : 0;
}

std::string bytes_in(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? from_base64(found->get_ref<const std::string&>()) : "";
}

/// The key after all that begin with `prefix`.
std::string end_of(std::string prefix) {
  while (!prefix.empty() && prefix.back() == '\xff') prefix.pop_back();
  if (prefix.empty()) return std::string(1, '\0');
  ++prefix.back();
  return prefix;
}

/// The shares of one etcd.
class Shares {
 public:
  /// `check_interval`: how often the cluster is asked whether it still works. A member without a majority keeps a watch
  /// open, and says nothing.
  Shares(EtcdClient& etcd, std::string prefix, std::chrono::seconds check_interval)
      : etcd_(etcd), prefix_(std::move(prefix)), end_(end_of(prefix_)), check_interval_(check_interval) {}

  /// Follows the store for ever.
  [[noreturn]] void follow() {
    Patience patience;
    for (;;) {
      const Result<> ended = follow_once(patience);
      if (ended) continue;
      output_.fail(ended.error().story());
      etcd_.end_watch();
      etcd_.use_next();
      patience.wait();
    }
  }

 private:
  Result<> follow_once(Patience& patience) {
    // The library throws where a value is of another type than it is in etcd.
    try {
      return revision_ == 0 ? list() : watch(patience);
    } catch (const Json::exception& exception) {
      return fail(EHOSTUNREACH, etcd_.endpoint() + ": the answer is not that of an etcd v3: " + exception.what());
    }
  }

  Result<> list() {
    output_.begin_list();
    std::int64_t revision = 0;
    for (std::string from = prefix_; !from.empty();) {
      const Json answer = TRY(etcd_.call(
          "/v3/kv/range",
          {{"key", to_base64(from)}, {"range_end", to_base64(end_)}, {"limit", kPage}, {"revision", revision}}));
      const Json header = answer.value("header", Json::object());
      if (revision == 0) revision = number_in(header, "revision");
      cluster_ = header.value("cluster_id", "");
      from.clear();
      const Json pairs = answer.value("kvs", Json::array());
      for (const Json& pair : pairs) put(pair);
      if (answer.value("more", false) && !pairs.empty()) from = bytes_in(pairs.back(), "key") + std::string(1, '\0');
    }
    if (revision == 0) return fail(EHOSTUNREACH, etcd_.endpoint() + ": the answer has no revision");
    output_.synced();
    revision_ = revision;
    return {};
  }

  /// From the last revision that is known, until that cannot be done any more.
  Result<> watch(Patience& patience) {
    // Also for a token.
    TRY_VOID(ask());
    if (revision_ == 0) return {};
    TRY_VOID(etcd_.begin_watch(
        {{"create_request",
          {{"key", to_base64(prefix_)}, {"range_end", to_base64(end_)}, {"start_revision", revision_ + 1}}}}));
    std::string refused;
    const auto take = [&](const Json& json) { take_answer(json, refused); };
    for (;;) {
      TRY_VOID(etcd_.follow_watch(check_interval_, take));
      if (!refused.empty()) return fail(ENOEXEC, etcd_.endpoint() + ": " + refused);
      if (revision_ == 0) break;
      TRY_VOID(ask());
      if (revision_ == 0) break;
      patience.succeed();
      output_.synced();
    }
    etcd_.end_watch();
    return {};
  }

  /// Asks what needs a majority. Another cluster, or one that was set back, has to be listed anew.
  Result<> ask() {
    const Json answer = TRY(
        etcd_.call("/v3/kv/range", {{"key", to_base64(prefix_)}, {"count_only", true}, {"limit", 1}}, kAskPatience));
    const Json header = answer.value("header", Json::object());
    if (number_in(header, "revision") < revision_ || header.value("cluster_id", "") != cluster_) revision_ = 0;
    return {};
  }

  void take_answer(const Json& json, std::string& refused) {
    const Json result = json.value("result", Json::object());
    if (json.contains("error") || result.value("canceled", false)) {
      // What came between is lost: history is kept for some time alone.
      if (number_in(result, "compact_revision") > 0) {
        revision_ = 0;
      } else {
        refused = result.value("cancel_reason", json.value("error", Json::object()).dump());
      }
      return;
    }
    if (result.value("created", false)) output_.synced();
    const Json events = result.value("events", Json::array());
    for (const Json& event : events) take_event(event);
    output_.flush();
  }

  void take_event(const Json& event) {
    const Json pair = event.value("kv", Json::object());
    // Not that of the header: a watch that catches up is sent the past in pieces, with the revision of now.
    revision_ = std::max(revision_, number_in(pair, "mod_revision"));
    if (event.value("type", "PUT") == "DELETE") {
      output_.remove(name_of(pair));
    } else {
      put(pair);
    }
  }

  [[nodiscard]] std::string name_of(const Json& pair) const {
    std::string key = bytes_in(pair, "key");
    return key.starts_with(prefix_) ? key.substr(prefix_.size()) : key;
  }

  void put(const Json& pair) {
    const std::string name = name_of(pair);
    const std::string value = bytes_in(pair, "value");
    bool is_too_deep = false;
    // The library destroys and writes what is deep by recursion.
    const auto bound = [&is_too_deep](int depth, Json::parse_event_t, Json&) {
      is_too_deep = is_too_deep || depth > kDeepest;
      return depth <= kDeepest;
    };
    const Json share = Json::parse(value, bound, false);
    if (is_too_deep) return output_.put_wrong(name, "its values are too deep in each other");
    if (share.is_discarded()) return output_.put_wrong(name, "its value is not JSON");
    output_.put(name, share);
  }

  EtcdClient& etcd_;
  const std::string prefix_, end_;
  const std::chrono::seconds check_interval_;
  SourceOutput output_;
  std::int64_t revision_ = 0;  ///< all up to it was said; 0: a list is needed
  std::string cluster_;
};

struct Arguments {
  EtcdSettings settings;
  std::string prefix = "/berth/shares/";
  std::chrono::seconds check_interval{10};
};

Arguments parse(int argc, char** argv) {
  enum : int { kEndpoints = 256, kPrefix, kUserFile, kCa, kCert, kKey, kCheckInterval, kHelp };
  const option options[] = {{"endpoints", required_argument, nullptr, kEndpoints},
                            {"prefix", required_argument, nullptr, kPrefix},
                            {"user-file", required_argument, nullptr, kUserFile},
                            {"ca", required_argument, nullptr, kCa},
                            {"cert", required_argument, nullptr, kCert},
                            {"key", required_argument, nullptr, kKey},
                            {"check-interval", required_argument, nullptr, kCheckInterval},
                            {"help", no_argument, nullptr, kHelp},
                            {nullptr, 0, nullptr, 0}};
  Arguments arguments;
  EtcdSettings& settings = arguments.settings;
  for (int found = 0; (found = ::getopt_long(argc, argv, "", options, nullptr)) != -1;) {
    switch (found) {
      case kEndpoints:
        for (std::string_view url : split(optarg, ',')) {
          while (url.ends_with('/')) url.remove_suffix(1);
          if (!url.empty()) settings.endpoints.emplace_back(url);
        }
        break;
      case kPrefix:
        arguments.prefix = optarg;
        break;
      case kUserFile: {
        const std::string secret = read_secret(optarg);
        const std::size_t colon = secret.find(':');
        if (colon == std::string::npos) give_up("USER:PASSWORD is expected in the file of --user-file");
        settings.user = secret.substr(0, colon);
        settings.password = secret.substr(colon + 1);
        break;
      }
      case kCa:
        settings.ca_file = optarg;
        break;
      case kCert:
        settings.cert_file = optarg;
        break;
      case kKey:
        settings.key_file = optarg;
        break;
      case kCheckInterval:
        arguments.check_interval = std::chrono::seconds(std::strtol(optarg, nullptr, 10));
        if (arguments.check_interval.count() <= 0) give_up("--check-interval: seconds are expected");
        break;
      case kHelp:
        std::fputs(kUsage, stdout);
        std::exit(EXIT_SUCCESS);
      default:
        std::fputs(kUsage, stderr);
        std::exit(EX_USAGE);
    }
  }
  if (settings.endpoints.empty() || arguments.prefix.empty() || optind < argc) {
    std::fputs(kUsage, stderr);
    std::exit(EX_USAGE);
  }
  return arguments;
}

}  // namespace
}  // namespace berth::sources

int main(int argc, char** argv) {
  using namespace berth::sources;
  Arguments arguments = parse(argc, argv);
  EtcdClient etcd(std::move(arguments.settings));
  Shares(etcd, std::move(arguments.prefix), arguments.check_interval).follow();
}
