#pragma once

#include <curl/curl.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "src/lib/base/result.h"

namespace berth::sources {

/// Where an etcd is, and how it is spoken to.
struct EtcdSettings {
  std::vector<std::string> endpoints;  ///< "https://etcd1:2379"
  std::string ca_file, cert_file, key_file;
  std::string user, password;  ///< "": without
};

/// An etcd (v3) by its JSON gateway. One member at a time; after a failure the next one.
///
/// Threading: one thread at a time.
class EtcdClient {
 public:
  explicit EtcdClient(EtcdSettings settings);
  ~EtcdClient();
  EtcdClient(const EtcdClient&) = delete;
  EtcdClient& operator=(const EtcdClient&) = delete;

  /// Asks for one answer. Errors: EHOSTUNREACH when the member does not answer, ENOEXEC when it refuses; with a story.
  Result<nlohmann::json> call(const std::string& path, const nlohmann::json& body,
                              std::chrono::milliseconds patience = std::chrono::seconds(10));

  /// Begins to watch. One at a time. Errors: as call().
  Result<> begin_watch(const nlohmann::json& body);
  /// Calls `take` with each answer of the watch that comes until `patience` is over. True: it goes on.
  /// Errors: EHOSTUNREACH with a story when it has ended.
  Result<> follow_watch(std::chrono::milliseconds patience, const std::function<void(const nlohmann::json&)>& take);
  void end_watch() noexcept;

  /// From here on another member is asked, if there is one.
  void use_next() noexcept;
  [[nodiscard]] const std::string& endpoint() const noexcept { return settings_.endpoints[current_]; }

 private:
  struct Request;

  Result<nlohmann::json> call_once(const std::string& path, const nlohmann::json& body,
                                   std::chrono::milliseconds patience);
  Result<> authenticate();

  const EtcdSettings settings_;
  std::size_t current_ = 0;
  std::string token_;  ///< "": none yet
  CURLM* multi_ = nullptr;
  std::unique_ptr<Request> watch_;
};

/// What etcd's JSON has in the place of bytes (RFC 4648).
std::string to_base64(std::string_view bytes);
/// "" for what is no base64.
std::string from_base64(std::string_view text);

}  // namespace berth::sources
