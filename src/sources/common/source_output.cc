#include "src/sources/common/source_output.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "src/lib/base/result.h"
#include "src/lib/sys/file.h"

namespace berth::sources {
namespace {

using Json = nlohmann::json;

/// berth takes no longer line.
constexpr std::size_t kLongestLine = std::size_t{64} << 10;
constexpr std::size_t kAtOnce = std::size_t{256} << 10;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

SourceOutput::SourceOutput() {
  // libldap and libcurl write to a server that has gone, too.
  std::signal(SIGPIPE, SIG_IGN);
}

void SourceOutput::say(const Json& message) {
  lines_.append(dump(message)).append("\n");
  if (lines_.size() >= kAtOnce) flush();
}

void SourceOutput::begin_list() {
  if (std::exchange(has_listed_, true)) say({{"list", true}});
}

void SourceOutput::put(std::string_view name, const Json& share) {
  const std::string line = dump({{"put", name}, {"share", share}});
  if (line.size() > kLongestLine)
    return put_wrong(name, "it has more than " + std::to_string(kLongestLine / 1024) + " KiB");
  lines_.append(line).append("\n");
  if (lines_.size() >= kAtOnce) flush();
}

void SourceOutput::put_wrong(std::string_view name, std::string_view why) { say({{"put", name}, {"wrong", why}}); }

void SourceOutput::remove(std::string_view name) { say({{"delete", name}}); }

void SourceOutput::synced() {
  say({{"synced", true}});
  failure_.clear();
  flush();
}

void SourceOutput::fail(std::string_view why) {
  if (failure_ == why) return;
  failure_ = why;
  say({{"error", why}});
  flush();
}

void SourceOutput::flush() {
  if (lines_.empty()) return;
  if (const Result<> written = sys::write_all(STDOUT_FILENO, lines_); !written)
    give_up("cannot write: " + written.error().message());
  lines_.clear();
}

std::string read_secret(const std::string& path) {
  constexpr std::size_t kMost = 4096;
  const Result<std::string> text = sys::read_regular_file(path, kMost);
  if (!text) give_up(path + ": " + text.error().message());
  return text->substr(0, text->find_first_of("\r\n"));
}

void give_up(const std::string& message) {
  std::fprintf(stderr, "%s\n", message.c_str());
  std::exit(EXIT_FAILURE);
}

void Patience::wait() {
  constexpr std::chrono::milliseconds kFirst{100};
  constexpr std::chrono::milliseconds kLongest{10'000};
  static std::minstd_rand random{std::random_device{}()};
  // Hosts of a fleet must not come back in step.
  std::uniform_real_distribution<double> share(0.5, 1.0);
  const auto longest = std::min(kFirst * (1 << std::min(failures_, 10U)), kLongest);
  ++failures_;
  std::this_thread::sleep_for(longest * share(random));
}

}  // namespace berth::sources
