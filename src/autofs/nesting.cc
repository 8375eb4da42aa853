#include "src/autofs/nesting.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <string_view>
#include <utility>

#include "src/autofs/characters.h"
#include "src/lib/base/path.h"
#include "src/lib/base/text.h"

namespace berth::autofs {
namespace {

using Exports = std::vector<Export>;

bool is_within(std::string_view inner, std::string_view outer) noexcept {
  return is_below(inner, outer) && inner.size() > outer.size();
}

/// What lies within a path comes right behind it.
bool comes_before(const Export& a, const Export& b) noexcept {
  const auto rank = [](char c) { return c == '/' ? -1 : static_cast<int>(static_cast<unsigned char>(c)); };
  const std::string& x = a.mount.offset;
  const std::string& y = b.mount.offset;
  return std::lexicographical_compare(x.begin(), x.end(), y.begin(), y.end(),
                                      [rank](char c, char d) { return rank(c) < rank(d); });
}

/// The end of those within `outer`, which come behind it.
Exports::const_iterator end_of_inner(const Exports& all, Exports::const_iterator outer) noexcept {
  return std::find_if(std::next(outer), all.end(),
                      [outer](const Export& one) { return !is_within(one.mount.offset, outer->mount.offset); });
}

/// The version of NFS that is asked for; "": any.
std::string_view version_of(const Mount& mount) noexcept {
  std::string_view version = mount.type == "nfs4" ? "4" : "";
  for (const std::string_view option : mount.options) {
    if (option.starts_with("vers=") || option.starts_with("nfsvers=")) {
      version = option.substr(option.find('=') + 1);
    } else if (option.size() > 1 && option.front() == 'v' && is_digit(option[1])) {
      version = option.substr(1);
    }
  }
  return version;
}

/// Whether NFS 4 can be used for it.
bool may_be_version_4(const Mount& mount) noexcept {
  const std::string_view version = version_of(mount);
  return (mount.type == "nfs" || mount.type == "nfs4") && (version.empty() || version.starts_with('4'));
}

/// Whether `inner` is a directory that NFS 4 shows within `outer`.
bool shows(const Mount& outer, const Mount& inner) {
  if (!may_be_version_4(outer) || inner.type != outer.type || inner.options != outer.options) return false;
  const std::string below = outer.offset == "/" ? inner.offset : inner.offset.substr(outer.offset.size());
  return std::equal(outer.locations.begin(), outer.locations.end(), inner.locations.begin(), inner.locations.end(),
                    [&below](const Location& o, const Location& i) {
                      const std::string path = o.path == "/" ? below : o.path + below;
                      return !o.host.empty() && o.host == i.host && o.weight == i.weight && path == i.path;
                    });
}

/// Whether all clients that may mount `inner` may mount `outer`, as far as the words tell.
bool is_for_all_of(const Export& outer, const Export& inner) {
  const std::vector<std::string_view> clients = split(outer.clients, ',');
  const auto has = [&clients](std::string_view one) {
    return std::find(clients.begin(), clients.end(), one) != clients.end();
  };
  if (has("*") || has("(everyone)")) return true;
  const std::vector<std::string_view> inside = split(inner.clients, ',');
  return std::all_of(inside.begin(), inside.end(), has);
}

/// `outer` alone, for what is within it too.
Settled settle_outer(Mount outer) {
  Settled settled{std::move(outer)};
  const bool is_any = version_of(settled.mount).empty();
  if (is_any) settled.mount.options.emplace_back("vers=4");
  settled.notes.push_back("what the server exports within " + quote(settled.mount.locations.front().path) +
                          " is seen through it" + (is_any ? ", and so NFS 4 alone is asked for" : ""));
  return settled;
}

}  // namespace

Result<std::vector<Settled>> settle(std::vector<Mount> mounts) {
  Exports all;
  for (Mount& mount : mounts) all.push_back({std::move(mount), ""});
  std::stable_sort(all.begin(), all.end(), comes_before);
  std::vector<Settled> settled;
  for (auto outer = all.cbegin(); outer != all.cend();) {
    const auto end = end_of_inner(all, outer);
    const auto hidden =
        std::find_if(std::next(outer), end, [outer](const Export& inner) { return !shows(outer->mount, inner.mount); });
    if (hidden != end) {
      return fail(EINVAL, "the mount at " + quote(hidden->mount.offset) + " lies within the one at " +
                              quote(outer->mount.offset) +
                              ", and a share has no other one within it; a key of its own, elsewhere, can have it");
    }
    settled.push_back(end == std::next(outer) ? Settled{outer->mount} : settle_outer(outer->mount));
    outer = end;
  }
  return settled;
}

std::vector<Settled> settle(std::vector<Export> exports) {
  std::stable_sort(exports.begin(), exports.end(), comes_before);
  const auto is_same = [](const Export& a, const Export& b) { return a.mount.offset == b.mount.offset; };
  exports.erase(std::unique(exports.begin(), exports.end(), is_same), exports.end());
  std::vector<Settled> settled;
  std::vector<std::string> notes;  // of what is left out, for the next one
  for (auto outer = exports.cbegin(); outer != exports.cend();) {
    const auto end = end_of_inner(exports, outer);
    const bool has_inner = end != std::next(outer);
    const bool is_shown = std::all_of(std::next(outer), end, [outer](const Export& inner) {
      return shows(outer->mount, inner.mount) && is_for_all_of(*outer, inner);
    });
    if (!is_shown) {
      notes.push_back("the export " + quote(outer->mount.offset) + " itself is not there, but those within it are: " +
                      (may_be_version_4(outer->mount) ? "not all that may mount them may mount it"
                                                      : "it does not show them by NFS before version 4"));
      ++outer;
      continue;
    }
    settled.push_back(has_inner ? settle_outer(outer->mount) : Settled{outer->mount});
    std::vector<std::string>& of_this = settled.back().notes;
    of_this.insert(of_this.begin(), notes.begin(), notes.end());
    notes.clear();
    outer = end;
  }
  return settled;
}

}  // namespace berth::autofs
