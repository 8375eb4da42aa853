#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/formats/view.h"

/// The text files of the control tree, for people. Every file ends with a newline or is empty. Names, paths and output
/// of programs are escaped, so that none can forge a line or speak to a terminal.
namespace berth::formats {

/// Wraps a share's state, already padded, in what shows it in colour.
using Paint = std::function<std::string(std::string_view state, std::string_view padded)>;

/// How the table of all shares is shown on a terminal.
struct Look {
  Paint paint;
  std::optional<std::size_t> width;  ///< columns there are: names and sources are cut to fit; absent: as they are
  std::optional<WallTime> now;       ///< times are told as of now, "3m"; absent: RFC 3339
  std::map<std::string, std::string, std::less<>> reasons;  ///< why a share does not work, by its name: a
                                                            ///< line below its row
  bool only_troubled = false;                               ///< only rows of shares that have failed or do not answer
};

/// "3m": how long ago `then` was, in the largest unit of which there is one. A time to come is "0s".
std::string render_age(WallTime then, WallTime now);

/// A share's `status`: aligned "key: value" lines. `now`: times are told as of it, as in Look.
std::string render_status(const ShareView& share, const std::optional<WallTime>& now = {});

/// A share's `error`: when, what ran, how it ended, what it wrote. Empty when there was no failure. The last line is
/// the best reason: last_words() finds it again.
std::string render_error(const std::optional<FailureView>& failure);

/// The reason in a text of render_error(): the last line, without its key; empty when there is none.
std::string_view last_words(std::string_view error_text);

/// A share's `users`: a table, and a line that counts those that are not in it; empty when nothing holds the share.
std::string render_users(const UsersView& users);

/// `attached` of an attachment: aligned "key: value" lines.
std::string render_attacher(const AttacherView& attacher);

/// The namespace's `status`: a line about the daemon and a table of all shares.
std::string render_status(const NamespaceView& berth, const Look& look = {});

/// A line of `events`: RFC 3339 time, kind, key=value fields (quoted where they are not plain).
std::string render_event(const EventView& event);

/// `sources`: of each catalog source aligned "key: value" lines, and an empty line between two.
std::string render_sources(const std::vector<SourceView>& sources);

/// Of a text of render_sources() what is in its lines "source", "state" and "error".
std::vector<SourceView> parse_sources(std::string_view text);

/// A line for each share that is unmounted, but still mounted elsewhere: "warning: share "media": process 12 ...".
std::string render_held(const std::vector<ShareSummary>& shares);

}  // namespace berth::formats
