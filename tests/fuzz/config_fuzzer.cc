// The configuration: whatever is in the file, it is loaded, or refused with messages that a terminal can show. What was
// loaded holds the promises of ShareSpec, also for whatever key a template is asked for.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "src/config/config.h"
#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"

namespace {

using berth::Result;
using berth::manager::ShareSpec;

/// Ends the run, and so makes libFuzzer report the input.
void require(bool truth) {
  if (!truth) std::abort();
}

bool is_printable(std::string_view text) {
  return berth::is_utf8(text) && std::none_of(text.begin(), text.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return (byte < 0x20 && c != '\n') || byte == 0x7f;
         });
}

void check_refusal(const berth::Error& error, const std::string& file) {
  require(error.code() > 0);
  require(is_printable(error.story()));
  for (const std::string_view line : berth::split(error.story(), '\n')) {
    require(line.starts_with(file + ":") || line.starts_with("and "));
  }
}

void check_share(const ShareSpec& share) {
  require(bool(berth::manager::check_share_name(share.name())));
  for (const std::string& source : share.sources()) require(!source.empty() && source.front() != '-');
  require(share.options().find_first_of(std::string_view("\0\n", 2)) == std::string::npos);
  const bool is_command = share.kind() == berth::manager::ShareKind::kCommand;
  require(is_command != share.mount_command().empty());
  require(share.policy().mount_timeout.count() > 0);
}

/// What a key makes of a template: one more part of the name, the same program, no new option.
void check_template(const ShareSpec& pattern, std::string_view key) {
  const Result<ShareSpec> share = instantiate(pattern, key);
  if (!share) return require(is_printable(share.error().story()));
  check_share(*share);
  require(share->name().size() == pattern.name().size() - 1 + key.size());
  const auto& options_before = pattern.mount_options().parameters;
  const auto& options_after = share->mount_options().parameters;
  require(share->mount_options().attributes == pattern.mount_options().attributes);
  require(options_before.size() == options_after.size());
  for (std::size_t i = 0; i < options_after.size(); ++i) require(options_after[i].first == options_before[i].first);
  const std::vector<std::string>& before = pattern.mount_command();
  const std::vector<std::string>& after = share->mount_command();
  require(before.size() == after.size());
  for (std::size_t i = 0; i < after.size(); ++i) {
    require(after[i].starts_with('-') == before[i].starts_with('-'));
    if (i == 0) require(after[i].find(key) == std::string::npos || before[i].find(key) != std::string::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const berth::UniqueFd memory(::memfd_create("config", MFD_CLOEXEC));
  static const std::string file = "/proc/self/fd/" + std::to_string(memory.get());
  require(::ftruncate(memory.get(), 0) == 0);
  require(::pwrite(memory.get(), data, size, 0) == static_cast<ssize_t>(size));

  const Result<berth::config::Configuration> loaded = berth::config::load(file);
  if (!loaded) {
    check_refusal(loaded.error(), file);
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& [name, share] : loaded->catalog.shares()) {
    require(name == share.name());
    check_share(share);
  }
  for (const auto& [name, pattern] : loaded->catalog.templates()) {
    require(pattern.is_template());
    for (const std::string_view key : berth::split(text.substr(0, 2048), '\n')) check_template(pattern, key);
  }
  return 0;
}
