#include "src/daemon/keeper/service_manager.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <system_error>

namespace berth::daemon {
namespace {

/// How long to wait before the next try, while the manager does not read.
constexpr std::chrono::milliseconds kTryAgain{100};

std::optional<std::uint64_t> number_in(const char* variable) {
  const char* const value = std::getenv(variable);
  const std::string_view text = value != nullptr ? value : "";
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// sd_watchdog_enabled(3): WATCHDOG_PID, where it is set, names the process that it is for.
std::optional<std::chrono::microseconds> watchdog_time() {
  constexpr std::uint64_t kMost = 100ULL * 365 * 24 * 3600 * 1000000;  // a hundred years
  const std::optional<std::uint64_t> time = number_in("WATCHDOG_USEC");
  const std::optional<std::uint64_t> pid = number_in("WATCHDOG_PID");
  if (!time || *time == 0 || *time > kMost) return std::nullopt;
  if (pid && *pid != static_cast<std::uint64_t>(::getpid())) return std::nullopt;
  return std::chrono::microseconds(*time);
}

}  // namespace

ServiceManager::ServiceManager() : watchdog_(watchdog_time()) {
  const char* const variable = std::getenv("NOTIFY_SOCKET");
  const std::string_view name = variable != nullptr ? variable : "";
  if (name.size() < 2 || name.size() >= sizeof address_.sun_path || (name[0] != '/' && name[0] != '@')) return;
  address_.sun_family = AF_UNIX;
  name.copy(address_.sun_path, name.size());
  if (name[0] == '@') address_.sun_path[0] = '\0';
  length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
}

void ServiceManager::status(const std::string& status) {
  status_.clear();
  say("STATUS=" + status, status_);
}

void ServiceManager::alive() {
  alive_.clear();
  say("WATCHDOG=1", alive_);
}

void ServiceManager::say(const std::string& assignment, std::string& to) {
  if (length_ == 0) return;
  to += assignment + "\n";
  tell();
}

void ServiceManager::tell() {
  due_.reset();
  const std::string text = pending_ + status_ + alive_;
  if (text.empty()) return;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // bind(2) and its like take every kind of address through this one type.
  const auto* const address = reinterpret_cast<const sockaddr*>(&address_);
  const bool sent = socket && ::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, address, length_) >= 0;
  if (!sent && (errno == EAGAIN || errno == ENOBUFS || errno == EMFILE || errno == ENFILE)) {
    due_ = std::chrono::steady_clock::now() + kTryAgain;
    return;
  }
  // Sent, or the manager is gone.
  pending_.clear();
  status_.clear();
  alive_.clear();
}

}  // namespace berth::daemon
