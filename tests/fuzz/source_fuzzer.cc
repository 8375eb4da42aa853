// What a catalog source writes: each line is taken, or told in words that a terminal can show. What is in the catalog
// is what the configuration would take, and what is kept of it is one line that says the same again.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "src/config/catalog_source.h"
#include "src/config/source_listing.h"
#include "src/lib/base/text.h"

namespace {

/// Ends the run, and so makes libFuzzer report the input.
void require(bool truth) {
  if (!truth) std::abort();
}

bool is_printable(std::string_view text) {
  return berth::is_utf8(text) && std::none_of(text.begin(), text.end(), [](char c) {
           const auto byte = static_cast<unsigned char>(c);
           return byte < 0x20 || byte == 0x7f;
         });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using Kind = berth::config::SourceMessage::Kind;
  constexpr std::size_t kMost = 5;
  constexpr const char* kOld = R"({"put":"old","share":{"type":"tmpfs"}})";
  berth::config::SourceListing listing({{"old", kOld}}, kMost, "/volumes");
  listing.begin_list();
  for (const std::string_view line : berth::split({reinterpret_cast<const char*>(data), size}, '\n')) {
    const bool had_old = listing.lines().contains("old");
    const bool was_listing = listing.is_listing();
    listing.take(line, {});
    require(listing.lines().size() <= kMost);
    require(is_printable(listing.error()));
    if (!had_old || listing.lines().contains("old")) continue;
    // It goes only when that was said.
    const auto message = berth::config::read_source_line(line, "/volumes");
    require(message && (message->kind == Kind::kDelete || (message->kind == Kind::kSynced && was_listing)));
  }
  for (const auto& [name, reason] : listing.wrong()) require(is_printable(reason) && !reason.empty());
  for (const auto& [name, line] : listing.lines()) {
    require(line.find('\n') == std::string_view::npos);
    const auto message = berth::config::read_source_line(line, "/volumes");
    require(message && message->kind == Kind::kPut && message->name == name && message->wrong.empty());
  }
  return 0;
}
