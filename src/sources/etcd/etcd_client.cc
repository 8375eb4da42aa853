#include "src/sources/etcd/etcd_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "src/lib/sys/time_left.h"

namespace berth::sources {
namespace {

using Json = nlohmann::json;

constexpr long kConnectMilliseconds = 3000;
constexpr std::chrono::seconds kLogIn{10};
/// More than a page of the largest values, which etcd bounds at 1.5 MiB a request.
constexpr std::size_t kLongestAnswer = std::size_t{256} << 20;
/// Error codes of gRPC that the gateway passes on.
constexpr int kUnauthenticated = 16;

}  // namespace

/// One HTTP request, and what has come of its answer.
struct EtcdClient::Request {
  Request(const EtcdSettings& settings, const std::string& url, const std::string& token, std::string text)
      : body(std::move(text)), easy(::curl_easy_init()) {
    headers = ::curl_slist_append(headers, "Content-Type: application/json");
    if (!token.empty()) headers = ::curl_slist_append(headers, ("Authorization: " + token).c_str());
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_POSTFIELDS, body.c_str());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(CURLOPT_HTTPHEADER, headers);
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_PROXY, "");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_CONNECTTIMEOUT_MS, kConnectMilliseconds);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_ERRORBUFFER, error.data());
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_WRITEFUNCTION, &Request::on_bytes);
    if (!settings.ca_file.empty()) set(CURLOPT_CAINFO, settings.ca_file.c_str());
    if (!settings.cert_file.empty()) set(CURLOPT_SSLCERT, settings.cert_file.c_str());
    if (!settings.key_file.empty()) set(CURLOPT_SSLKEY, settings.key_file.c_str());
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request() {
    ::curl_easy_cleanup(easy);
    ::curl_slist_free_all(headers);
  }

  template <typename Value>
  void set(CURLoption option, Value value) {
    ::curl_easy_setopt(easy, option, value);
  }

  /// Why it has failed.
  [[nodiscard]] std::string reason(CURLcode code) const {
    return error[0] != '\0' ? error.data() : ::curl_easy_strerror(code);
  }

  static std::size_t on_bytes(const char* bytes, std::size_t size, std::size_t count, void* request) {
    auto& self = *static_cast<Request*>(request);
    if (self.answer.size() + size * count > kLongestAnswer) return 0;
    self.answer.append(bytes, size * count);
    return size * count;
  }

  const std::string body;
  CURL* const easy;
  curl_slist* headers = nullptr;
  std::array<char, CURL_ERROR_SIZE> error{};
  std::string answer;
};

EtcdClient::EtcdClient(EtcdSettings settings) : settings_(std::move(settings)) {
  ::curl_global_init(CURL_GLOBAL_DEFAULT);
  multi_ = ::curl_multi_init();
}

EtcdClient::~EtcdClient() {
  end_watch();
  ::curl_multi_cleanup(multi_);
}

Result<Json> EtcdClient::call_once(const std::string& path, const Json& body, std::chrono::milliseconds patience) {
  Request request(settings_, endpoint() + path, token_, body.dump());
  request.set(CURLOPT_TIMEOUT_MS, static_cast<long>(patience.count()));
  const CURLcode code = ::curl_easy_perform(request.easy);
  if (code != CURLE_OK) return fail(EHOSTUNREACH, endpoint() + ": " + request.reason(code));
  Json answer = Json::parse(request.answer, nullptr, false);
  if (!answer.is_object()) return fail(EHOSTUNREACH, endpoint() + ": the answer is not that of an etcd v3");
  if (!answer.contains("error")) return answer;
  const int refused = answer.value("code", 0);
  const std::string why = answer["error"].is_string() ? answer["error"].get<std::string>() : "it refuses";
  return fail(refused == kUnauthenticated ? EACCES : ENOEXEC, endpoint() + ": " + why);
}

Result<> EtcdClient::authenticate() {
  token_.clear();
  const Json answer =
      TRY(call_once("/v3/auth/authenticate", {{"name", settings_.user}, {"password", settings_.password}}, kLogIn));
  const auto token = answer.find("token");
  if (token == answer.end() || !token->is_string()) return fail(EACCES, endpoint() + ": no token for the user");
  token_ = token->get<std::string>();
  return {};
}

Result<Json> EtcdClient::call(const std::string& path, const Json& body, std::chrono::milliseconds patience) {
  if (settings_.user.empty()) return call_once(path, body, patience);
  if (token_.empty()) TRY_VOID(authenticate());
  Result<Json> answer = call_once(path, body, patience);
  if (answer || answer.error().code() != EACCES) return answer;
  // Tokens end after some minutes.
  TRY_VOID(authenticate());
  return call_once(path, body, patience);
}

Result<> EtcdClient::begin_watch(const Json& body) {
  end_watch();
  watch_ = std::make_unique<Request>(settings_, endpoint() + "/v3/watch", token_, body.dump());
  if (::curl_multi_add_handle(multi_, watch_->easy) != CURLM_OK) return fail(ENOMEM, "no memory to watch");
  return {};
}

Result<> EtcdClient::follow_watch(std::chrono::milliseconds patience, const std::function<void(const Json&)>& take) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (;;) {
    int running = 0;
    ::curl_multi_perform(multi_, &running);
    std::string& answer = watch_->answer;
    for (std::size_t end = 0; (end = answer.find('\n')) != std::string::npos; answer.erase(0, end + 1)) {
      const Json json = Json::parse(answer.begin(), answer.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      if (json.is_object()) take(json);
    }
    if (running == 0) {
      int left = 0;
      const CURLMsg* const message = ::curl_multi_info_read(multi_, &left);
      const std::string why = message != nullptr && message->data.result != CURLE_OK
                                  ? watch_->reason(message->data.result)
                                  : "it has ended the watch";
      return fail(EHOSTUNREACH, endpoint() + ": " + why);
    }
    const int left = sys::poll_timeout(deadline);
    if (left == 0) return {};
    ::curl_multi_poll(multi_, nullptr, 0, left, nullptr);
  }
}

void EtcdClient::end_watch() noexcept {
  if (!watch_) return;
  ::curl_multi_remove_handle(multi_, watch_->easy);
  watch_.reset();
}

void EtcdClient::use_next() noexcept {
  current_ = (current_ + 1) % settings_.endpoints.size();
  // Another member may not know it yet.
  token_.clear();
}

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

std::string to_base64(std::string_view bytes) {
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::string_view group = bytes.substr(at, 3);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 3; ++i)
      bits = bits << 8U | (i < group.size() ? static_cast<unsigned char>(group[i]) : 0U);
    for (std::size_t i = 0; i < 4; ++i) text += i <= group.size() ? kAlphabet[bits >> (18 - 6 * i) & 63U] : '=';
  }
  return text;
}

std::string from_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  std::uint32_t bits = 0;
  unsigned count = 0;
  for (const char c : text) {
    const std::size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return "";
    bits = bits << 6U | static_cast<std::uint32_t>(value);
    if ((count += 6) < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255U);
  }
  return bytes;
}

}  // namespace berth::sources
