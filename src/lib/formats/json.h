#pragma once

#include <string>
#include <string_view>

#include "src/lib/base/result.h"
#include "src/lib/formats/view.h"

/// The `status.json` files: rendered by the daemon, parsed back by programs. Times are RFC 3339 in UTC with
/// milliseconds, durations are seconds. Keys are only ever added. What is absent is null or left out.
///
/// JSON cannot hold names that are not UTF-8: such bytes become U+FFFD, and "name_hex" beside "name" has the true
/// bytes.
namespace berth::formats {

/// A share's `status.json`.
std::string render_json(const ShareView& share);
/// The namespace's `status.json`: "version", "arguments", "keeper_pid", "server_pid", "nodes", "max_nodes",
/// "namespace", "started", "sources", "counts" (shares by state, and "total"), "shares".
std::string render_json(const NamespaceView& berth);

/// A line of `events` as JSON: "time", "event", and its fields as they are named there. Empty: it is no such line.
std::string event_as_json(std::string_view line);

/// The inverse of render_json(ShareView). Errors: EBADMSG with a story.
Result<ShareView> parse_share_json(std::string_view text);
/// The inverse of render_json(NamespaceView). Errors: EBADMSG with a story.
Result<NamespaceView> parse_namespace_json(std::string_view text);

/// The inverse of base/text.h format_time(). Errors: EBADMSG.
Result<WallTime> parse_time(std::string_view text);

}  // namespace berth::formats
