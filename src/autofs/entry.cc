#include "src/autofs/entry.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <utility>

#include "src/autofs/words.h"
#include "src/lib/base/text.h"

namespace berth::autofs {
namespace {

bool is_nfs(std::string_view type) noexcept { return type == "nfs" || type == "nfs4"; }

/// Where the name of a server ends: the first colon that is not within an IPv6 address; npos: there is no server.
std::size_t find_colon(std::string_view text) noexcept {
  std::size_t depth = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '[') ++depth;
    if (text[at] == ']' && depth > 0) --depth;
    if (depth == 0 && text[at] == ':') return at;
  }
  return std::string_view::npos;
}

/// "host(5)"
Result<Location> read_server(std::string_view text) {
  Location server;
  const std::size_t open = text.find('(');
  if (open != std::string_view::npos) {
    const std::string_view weight = text.substr(open + 1);
    const auto [end, error] = std::from_chars(weight.data(), weight.data() + weight.size(), server.weight);
    if (error != std::errc() ||
        std::string_view(end, static_cast<std::size_t>(weight.data() + weight.size() - end)) != ")") {
      return fail(EINVAL, quote(text) + " has a weight that is no number in parentheses");
    }
  }
  server.host = text.substr(0, open);
  if (server.host.empty()) return fail(EINVAL, "a server has no name");
  return server;
}

/// "host1,host2(5):/path" of NFS, appended to `locations`.
Result<> read_servers(std::string_view text, std::size_t colon, std::vector<Location>& locations) {
  const std::string_view path = text.substr(colon + 1);
  const std::size_t before = locations.size();
  for (const std::string_view name : split(text.substr(0, colon), ',')) {
    if (name.empty()) continue;
    locations.push_back(TRY(read_server(name)));
    locations.back().path = path;
  }
  if (locations.size() == before) return fail(EINVAL, quote(text) + " names no server");
  return {};
}

Result<> read_location(std::string_view text, std::string_view type, std::vector<Location>& locations) {
  const std::size_t colon = find_colon(text);
  if (colon != std::string_view::npos) {
    const std::string_view host = text.substr(0, colon);
    if (host.find_first_of(" \t/") != std::string_view::npos) {
      return fail(EINVAL, quote(text) + " starts with what is not the name of a server; a ':' before it would say so");
    }
    if (colon + 1 == text.size()) return fail(EINVAL, quote(text) + " has no path");
    if (colon > 0 && is_nfs(type)) return read_servers(text, colon, locations);
  } else if (text.empty()) {
    return fail(EINVAL, "a location is empty");
  } else if (is_nfs(type)) {
    return fail(EINVAL, quote(text) + " names no server; it is HOST:PATH, or :PATH for this host");
  }
  // What is behind the ':' is this host's, or for the file system type to understand.
  locations.push_back({"", 0, std::string(colon == 0 ? text.substr(1) : text)});
  return {};
}

/// Appends the options of "-fstype=ext4,ro", and takes the type out.
Result<> add_options(const std::string& text, Mount& mount) {
  for (const std::string_view option : split(text, ',')) {
    if (option.empty()) continue;
    if (!option.starts_with("fstype=")) {
      mount.options.emplace_back(option);
      continue;
    }
    mount.type = option.substr(std::string_view("fstype=").size());
    if (mount.type.empty()) return fail(EINVAL, "\"fstype=\" names no type");
  }
  return {};
}

/// "/usr//share/" without what says nothing.
Result<std::string> read_offset(std::string_view text) {
  std::string path;
  for (const std::string_view part : split(text, '/')) {
    if (part.empty()) continue;
    if (part == "." || part == "..") return fail(EINVAL, "the offset " + quote(text) + " holds " + quote(part));
    path.append("/").append(part);
  }
  return path.empty() ? "/" : path;
}

/// Reads the words of an entry: [options] [[offset] [options] location...]...
class EntryReader {
 public:
  EntryReader(std::vector<Word> words, const EntryContext& context) : words_(std::move(words)), context_(context) {}

  Result<std::vector<Mount>> all();

 private:
  Result<Mount> next();
  [[nodiscard]] bool is_at(Word::Kind kind) const noexcept { return at_ < words_.size() && words_[at_].kind == kind; }

  std::vector<Word> words_;
  std::size_t at_ = 0;
  const EntryContext& context_;
  Mount common_;
};

Result<Mount> EntryReader::next() {
  Mount mount = common_;
  mount.offset = is_at(Word::Kind::kOffset) ? TRY(read_offset(words_[at_++].text)) : "/";
  while (is_at(Word::Kind::kOptions)) TRY_VOID(add_options(words_[at_++].text, mount));
  while (is_at(Word::Kind::kLocation)) {
    TRY_VOID(read_location(words_[at_++].text, mount.type, mount.locations));
  }
  if (mount.locations.empty()) return fail(EINVAL, "there is no location to mount at " + quote(mount.offset));
  if (is_at(Word::Kind::kOptions)) {
    return fail(EINVAL, "the options " + quote("-" + words_[at_].text) + " stand behind a location, not before it");
  }
  return mount;
}

Result<std::vector<Mount>> EntryReader::all() {
  if (context_.append_options || !is_at(Word::Kind::kOptions)) {
    for (const std::string& option : context_.options) TRY_VOID(add_options(option, common_));
  }
  while (is_at(Word::Kind::kOptions)) TRY_VOID(add_options(words_[at_++].text, common_));
  std::vector<Mount> mounts;
  do {
    Mount mount = TRY(next());
    const bool is_known = std::any_of(mounts.begin(), mounts.end(),
                                      [&mount](const Mount& other) { return other.offset == mount.offset; });
    if (is_known) return fail(EINVAL, "the offset " + quote(mount.offset) + " is there twice");
    mounts.push_back(std::move(mount));
  } while (at_ < words_.size());
  return mounts;
}

}  // namespace

Result<std::vector<Mount>> parse_entry(std::string_view value, const EntryContext& context) {
  return EntryReader(TRY(read_words(value, context)), context).all();
}

}  // namespace berth::autofs
