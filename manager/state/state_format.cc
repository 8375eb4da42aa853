#include "manager/state/state_format.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>
#include <vector>

#include "manager/model/attachment_name.h"
#include "src/lib/base/ascii.h"
#include "src/lib/base/hash.h"
#include "src/lib/base/text.h"

namespace berth::manager::state_format {
namespace {

constexpr std::string_view kHexDigits = "0123456789ABCDEF";
constexpr std::size_t kChecksumSize = 8;

/// CRC-32C (RFC 3720, appendix B.4), reflected.
constexpr std::array<std::uint32_t, 256> kCrcTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1) != 0 ? (value >> 1) ^ 0x82f63b78U : value >> 1;
    table[i] = value;
  }
  return table;
}();

std::uint32_t checksum(std::string_view text) noexcept {
  std::uint32_t crc = ~0U;
  for (const char c : text) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xff] ^ (crc >> 8);
  return ~crc;
}

bool is_plain(char c) noexcept {
  constexpr std::string_view kPlain = "-_.:@+,~=";
  return is_alphanumeric(c) || kPlain.find(c) != kPlain.npos;
}

std::string encode(std::string_view raw) {
  std::string text;
  text.reserve(raw.size());
  for (const char c : raw) {
    if (is_plain(c)) {
      text.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      text.append({'%', kHexDigits[byte >> 4], kHexDigits[byte & 15]});
    }
  }
  return text;
}

/// Nothing for what encode() would not have written.
std::optional<std::string> decode(std::string_view text) {
  std::string raw;
  raw.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_plain(text[i])) {
      raw.push_back(text[i]);
      continue;
    }
    if (text[i] != '%' || i + 2 >= text.size()) return std::nullopt;
    const std::size_t high = kHexDigits.find(text[i + 1]);
    const std::size_t low = kHexDigits.find(text[i + 2]);
    if (high == kHexDigits.npos || low == kHexDigits.npos) return std::nullopt;
    raw.push_back(static_cast<char>(high * 16 + low));
    if (is_plain(raw.back())) return std::nullopt;
    i += 2;
  }
  return raw;
}

/// A line with its checksum and its end.
std::string seal(std::string text) {
  std::array<char, kChecksumSize + 1> hex{};
  std::snprintf(hex.data(), hex.size(), "%08x", checksum(text));
  return text.append(" ").append(hex.data()).append("\n");
}

/// What seal() was given; nothing when `line` (without its end) is not what it made of it.
std::optional<std::string_view> open_seal(std::string_view line) {
  if (line.size() <= kChecksumSize) return std::nullopt;
  const std::string_view text = line.substr(0, line.size() - kChecksumSize - 1);
  const std::string sealed = seal(std::string(text));
  if (std::string_view(sealed).substr(0, sealed.size() - 1) != line) return std::nullopt;
  return text;
}

bool read_header(std::string_view line, Journal& journal) {
  const std::optional<std::string_view> text = open_seal(line);
  if (!text) return false;
  const std::vector<std::string_view> words = split(*text, ' ');
  if (words.size() != 5 || words[0] != "berth" || words[1] != "attachments") return false;
  if (words[2] != std::to_string(kVersion)) {
    journal.fault =
        "it is of version " + quote(words[2]) + ", and this berth knows version " + std::to_string(kVersion);
    return false;
  }
  const std::optional<std::string> directory = decode(words[3]);
  const std::optional<std::string> share = decode(words[4]);
  if (!directory || !share || share->empty()) return false;
  journal.directory = *directory;
  journal.share = *share;
  return true;
}

template <typename T>
bool read_number(std::string_view word, std::string_view key, T& value) {
  if (!word.starts_with(key)) return false;
  word.remove_prefix(key.size());
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size();
}

WallTime to_time(std::int64_t nanoseconds) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::nanoseconds(nanoseconds)));
}

std::int64_t to_nanoseconds(WallTime time) { return std::chrono::nanoseconds(time.time_since_epoch()).count(); }

/// "uid=0 pid=4711 since=... by=libvirtd", as words.
bool read_attacher(std::span<const std::string_view> words, Attacher& by) {
  constexpr std::string_view kBy = "by=";
  std::int64_t since = 0;
  const bool good = read_number(words[0], "uid=", by.uid) && read_number(words[1], "pid=", by.pid) &&
                    read_number(words[2], "since=", since) && words[3].starts_with(kBy);
  if (!good) return false;
  std::optional<std::string> command = decode(words[3].substr(kBy.size()));
  if (!command) return false;
  by.command = *std::move(command);
  by.since = to_time(since);
  return true;
}

bool read_change(std::string_view line, Journal& journal) {
  const std::optional<std::string_view> text = open_seal(line);
  if (!text) return false;
  const std::vector<std::string_view> words = split(*text, ' ');
  const bool has_size = words.size() == 2 || words.size() == 3 || words.size() == 7;
  if (!has_size || (words[0] != "+" && words[0] != "-")) return false;
  std::optional<std::string> instance = decode(words[1]);
  std::optional<std::string> volume = words.size() > 2 ? decode(words[2]) : std::string();
  if (!instance || !volume || !is_attachment_name(*instance)) return false;
  if (words.size() > 2 && !is_attachment_name(*volume)) return false;
  Attachment attachment{.instance = std::move(*instance), .volume = std::move(*volume)};
  if (words.size() == 7 && !read_attacher({words.data() + 3, 4}, attachment.by)) return false;
  if (words[0] == "+") {
    journal.attachments.insert(std::move(attachment));
  } else {
    journal.attachments.erase(attachment);
  }
  ++journal.lines;
  return true;
}

}  // namespace

std::string header(std::string_view directory, std::string_view share) {
  return seal("berth attachments " + std::to_string(kVersion) + " " + encode(directory) + " " + encode(share));
}

std::string line(bool attached, const Attachment& attachment) {
  std::string text = (attached ? "+ " : "- ") + encode(attachment.instance);
  if (attachment.volume.empty()) return seal(std::move(text));
  text.append(" ").append(encode(attachment.volume));
  const Attacher& by = attachment.by;
  if (attached && by.since != WallTime{}) {
    text += " uid=" + std::to_string(by.uid) + " pid=" + std::to_string(by.pid) +
            " since=" + std::to_string(to_nanoseconds(by.since)) + " by=" + encode(by.command);
  }
  return seal(std::move(text));
}

Journal parse(std::string_view text) {
  Journal journal;
  std::vector<std::string_view> lines = split(text, '\n');
  const bool is_cut_off = !lines.back().empty();
  if (!is_cut_off) lines.pop_back();
  const bool has_header = lines.size() > 1 || !is_cut_off;
  if (!has_header || lines.empty() || !read_header(lines.front(), journal)) {
    if (journal.fault.empty()) journal.fault = text.empty() ? "it is empty" : "its first line cannot be read";
    return journal;
  }
  std::size_t bad = 0;
  std::size_t first_bad = 0;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const bool is_whole = i + 1 < lines.size() || !is_cut_off;
    if (is_whole && read_change(lines[i], journal)) continue;
    if (bad++ == 0) first_bad = i + 1;
  }
  if (bad > 0) {
    journal.fault = std::to_string(bad) + (bad == 1 ? " line" : " lines") + " of " + std::to_string(lines.size()) +
                    " cannot be read, from line " + std::to_string(first_bad) + " on; the others are in use";
  }
  return journal;
}

std::string render(std::string_view directory, const HostState& host) {
  return seal("berth host " + std::to_string(kVersion) + " " + encode(directory) + (host.up ? " up" : " down") +
              " next=" + std::to_string(host.next_generation) + " since=" + std::to_string(to_nanoseconds(host.since)));
}

Result<HostState> parse_host(std::string_view directory, std::string_view text) {
  HostState host;
  const bool has_end = text.ends_with('\n');
  if (has_end) text.remove_suffix(1);
  const std::optional<std::string_view> opened = open_seal(text);
  const std::vector<std::string_view> words = split(opened.value_or(""), ' ');
  std::int64_t since = 0;
  const bool good = has_end && opened && words.size() == 7 && words[0] == "berth" && words[1] == "host" &&
                    words[2] == std::to_string(kVersion) && decode(words[3]) == std::optional<std::string>(directory) &&
                    (words[4] == "up" || words[4] == "down") && read_number(words[5], "next=", host.next_generation) &&
                    read_number(words[6], "since=", since);
  if (!good) return fail(EBADMSG, "it cannot be read");
  host.up = words[4] == "up";
  host.since = to_time(since);
  return host;
}

bool is_of_source(std::string_view file) noexcept {
  // The name of a source has no '.', and that of a journal has its end.
  if (file.ends_with(kUnfinished)) file.remove_suffix(kUnfinished.size());
  return file.starts_with(kSourcePrefix) && file.find('.') == std::string_view::npos;
}

std::string file_name(std::string_view name) {
  constexpr std::size_t kReadable = 40;
  const std::uint64_t hash = fnv1a(name);
  std::string readable(name.substr(name.size() - std::min(name.size(), kReadable)));
  for (char& c : readable) {
    const bool kept = is_plain(c) && c != '+' && c != '~' && c != '=';
    if (!kept) c = '_';
  }
  while (!readable.empty() && (readable.front() == '_' || readable.front() == '.' || readable.front() == '-')) {
    readable.erase(0, 1);
  }
  std::array<char, 17> hex{};
  std::snprintf(hex.data(), hex.size(), "%016llx", static_cast<unsigned long long>(hash));
  return readable + (readable.empty() ? "" : "-") + hex.data();
}

}  // namespace berth::manager::state_format
