#include "src/lib/formats/render.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>

#include "src/lib/base/display_width.h"
#include "src/lib/base/error.h"
#include "src/lib/base/relevant_line.h"
#include "src/lib/base/text.h"

namespace berth::formats {

namespace {

/// A value that may have spaces, as one word.
std::string word(std::string_view text) { return quote_command({std::string(text)}); }

std::string code_text(int code) { return fmt::format("{} ({})", errno_name(code), errno_text(code)); }

/// A time, as of now where that is given: "3m ago", "in 8s".
std::string time_text(WallTime then, const std::optional<WallTime>& now) {
  if (!now) return format_time(then);
  return then > *now ? "in " + render_age(*now, then) : render_age(then, *now) + " ago";
}

/// Writes "key: value" lines with the values one below the other.
class Lines {
 public:
  explicit Lines(std::size_t width, std::optional<WallTime> now = {}) : width_(width), now_(now) {}

  void add(std::string_view key, std::string_view value) {
    fmt::format_to(std::back_inserter(text_), "{:<{}}{}\n", fmt::format("{}:", key), width_, value);
  }
  /// Only where there is a value.
  void add_unless_empty(std::string_view key, std::string_view value) {
    if (!value.empty()) add(key, value);
  }
  void add_unless_absent(std::string_view key, const std::optional<WallTime>& time) {
    if (time) add(key, time_text(*time, now_));
  }
  [[nodiscard]] const std::optional<WallTime>& now() const noexcept { return now_; }
  std::string take() && { return std::move(text_); }

 private:
  std::size_t width_;
  std::optional<WallTime> now_;
  std::string text_;
};

/// Columns as wide as their widest cell; the last one is not padded.
template <std::size_t kColumns>
class Table {
 public:
  using Row = std::array<std::string, kColumns>;
  /// Shows a padded cell; `column` and the cell itself tell which.
  using Show = std::function<std::string(std::size_t column, std::string_view cell, std::string_view padded)>;

  /// `below`: a line of its own below the row; empty: none.
  void add(Row row, std::string below = {}) {
    for (std::size_t i = 0; i < kColumns; ++i) widths_[i] = std::max(widths_[i], width_of(row[i]));
    rows_.emplace_back(std::move(row), std::move(below));
  }

  [[nodiscard]] std::string render(const Show& show = {}) const {
    std::string text;
    bool heading = true;
    for (const auto& [row, below] : rows_) {
      for (std::size_t i = 0; i < kColumns; ++i) {
        const std::size_t padding = i + 1 < kColumns ? widths_[i] + 2 - width_of(row[i]) : 0;
        const std::string padded = row[i] + std::string(padding, ' ');
        text.append(show && !heading ? show(i, row[i], padded) : padded);
      }
      text.push_back('\n');
      if (!below.empty()) text.append(below).push_back('\n');
      heading = false;
    }
    return text;
  }

 private:
  static std::size_t width_of(std::string_view cell) { return display_width(cell); }

  std::vector<std::pair<Row, std::string>> rows_;
  std::array<std::size_t, kColumns> widths_{};
};

std::string or_dash(std::string text) { return text.empty() ? "-" : std::move(text); }

std::string time_or_dash(const std::optional<WallTime>& time) { return time ? format_time(*time) : "-"; }

void add_failure(Lines& lines, const FailureView& failure) {
  std::string value = time_text(failure.when, lines.now()) + " " + code_text(failure.code);
  if (!failure.story.empty()) value.append(": ").append(prose(failure.story));
  lines.add("last error", value);
}

void add_attachments(Lines& lines, const ShareView& share) {
  for (const AttachmentView& attachment : share.attachments) {
    lines.add("attachment", word(attachment.instance) + "/" + word(attachment.volume));
  }
}

/// "NFS 4.2 over tcp, 192.0.2.7 port 2049, 2 connections"
std::string transport_text(const TransportView& transport) {
  std::string text = "NFS";
  if (!transport.version.empty()) text.append(" ").append(prose(transport.version));
  if (!transport.protocol.empty()) text.append(" over ").append(prose(transport.protocol));
  if (!transport.address.empty()) text.append(", ").append(prose(transport.address));
  if (transport.port != 0) fmt::format_to(std::back_inserter(text), " port {}", transport.port);
  if (transport.connections > 1) fmt::format_to(std::back_inserter(text), ", {} connections", transport.connections);
  return text;
}

std::string unanswered_text(const UnansweredView& unanswered, const std::optional<WallTime>& now) {
  if (unanswered.callers == 0) return "";
  std::string text = fmt::format("{} {}", unanswered.callers, unanswered.callers == 1 ? "caller" : "callers");
  text.append(", the first in ").append(prose(unanswered.operation));
  if (unanswered.since && now) return text.append(" for ").append(render_age(*unanswered.since, *now));
  if (unanswered.since) text.append(" since ").append(format_time(*unanswered.since));
  return text;
}

std::string counts_text(const NamespaceView& berth) {
  constexpr std::array<std::string_view, 8> kStates{"mounted",  "stalled", "draining", "expiring",
                                                    "mounting", "failed",  "idle",     "removed"};
  std::string text = fmt::format("{} {}", berth.shares.size(), berth.shares.size() == 1 ? "share" : "shares");
  for (const std::string_view state : kStates) {
    const auto count = std::count_if(berth.shares.begin(), berth.shares.end(),
                                     [state](const ShareSummary& share) { return share.state == state; });
    if (count != 0) fmt::format_to(std::back_inserter(text), ", {} {}", count, state);
  }
  return text;
}

/// A line where shares are not given out; none when all is well.
std::string host_text(const HostView& host, const std::optional<WallTime>& now) {
  if (host.state == "up") return "";
  std::string text = "warning: the host is " + prose(host.state);
  if (host.since && now) {
    text.append(" for ").append(render_age(*host.since, *now));
  } else if (host.since) {
    text.append(" since ").append(format_time(*host.since));
  }
  return text.append(": no share is given out until `berth resume`\n");
}

/// A line for each problem with the state on disk that an administrator should look at; none when all is well.
std::string warnings_text(const StateView& state) {
  std::string text;
  if (!state.failure.empty()) text.append("warning: ").append(prose(state.failure)).append("\n");
  for (const DamageView& damage : state.damages) {
    text.append("warning: ").append(prose(damage.file)).append(": ").append(prose(damage.reason));
    const bool is_elsewhere = !damage.set_aside.empty() && damage.set_aside != damage.file;
    if (is_elsewhere) text.append("; kept as ").append(prose(damage.set_aside));
    text.append("\n");
  }
  for (const UnknownShareView& share : state.unknown_shares) {
    fmt::format_to(std::back_inserter(text), "warning: share {} has {} {} and is not configured\n", quote(share.name),
                   share.attachments, share.attachments == 1 ? "attachment" : "attachments");
  }
  return text;
}

}  // namespace

std::string render_status(const ShareView& share, const std::optional<WallTime>& now) {
  Lines lines(14, now);
  lines.add("name", prose(share.name));
  lines.add("type", prose(share.type));
  const bool is_removed = share.state == "removed";
  lines.add("state",
            is_removed ? fmt::format("removed, {} {}", share.users, share.users == 1 ? "user" : "users") : share.state);
  for (const std::string& change : share.pending) lines.add("pending", prose(change));
  lines.add_unless_absent("since", share.since);
  lines.add_unless_empty("source", prose(share.source));
  // What the sources are is news only where it is not what is mounted.
  if (share.sources.size() != 1 || share.sources.front() != share.source) {
    for (const std::string& source : share.sources) lines.add("configured", prose(source));
  }
  lines.add_unless_empty("options", prose(share.options));
  lines.add("users", std::to_string(share.users));
  lines.add("waiting", std::to_string(share.waiting));
  lines.add_unless_empty("unanswered", unanswered_text(share.unanswered, now));
  lines.add("mounts", std::to_string(share.mounts));
  lines.add("failures", std::to_string(share.failures));
  if (share.mount_id != 0) lines.add("mount id", std::to_string(share.mount_id));
  if (share.transport) lines.add("transport", transport_text(*share.transport));
  if (!share.access.empty()) lines.add("access", share.access + (share.native ? ", native now" : ""));
  lines.add_unless_empty("with berth", prose(share.with_berth));
  if (share.helper != 0) lines.add("helper", fmt::format("pid {}", share.helper));
  lines.add("idle timeout",
            share.stays ? "none: it holds the only copy of its files" : format_duration(share.idle_timeout));
  lines.add_unless_absent("expires at", share.expires_at);
  lines.add_unless_absent("retry at", share.retry_at);
  for (const std::string& name : share.required) lines.add("requires", prose(name));
  for (const std::string& name : share.required_by) lines.add("required by", prose(name));
  lines.add_unless_empty("busy", prose(share.busy));
  lines.add_unless_empty("held", prose(share.held));
  if (share.last_failure) add_failure(lines, *share.last_failure);
  lines.add_unless_empty("origin", prose(share.origin));
  add_attachments(lines, share);
  return std::move(lines).take();
}

std::string render_error(const std::optional<FailureView>& failure) {
  if (!failure) return "";
  Lines lines(10);
  lines.add("when", format_time(failure->when));
  if (failure->attempt != 0) lines.add("attempt", std::to_string(failure->attempt));
  if (failure->took.count() != 0) lines.add("took", format_duration(failure->took));
  if (!failure->command.empty()) lines.add("ran", quote_command(failure->command));
  lines.add_unless_empty("exit", prose(failure->exit));
  lines.add("errno", code_text(failure->code));
  lines.add("error", prose(failure->story.empty() ? errno_text(failure->code) : failure->story));
  for (const std::string_view line : split(failure->output, '\n')) {
    const std::size_t last = line.find_last_not_of(" \t\r");
    if (last == std::string_view::npos) continue;
    const std::string_view said = line.substr(0, last + 1);
    // Where a system call failed, its story may be all the output there is.
    if (said != failure->story) lines.add("stderr", prose(said));
  }
  const std::string_view reason = relevant_line(failure->output);
  if (!reason.empty() && reason != failure->story) lines.add("reason", prose(reason));
  return std::move(lines).take();
}

std::string_view last_words(std::string_view error_text) {
  while (error_text.ends_with('\n')) error_text.remove_suffix(1);
  const std::size_t line_start = error_text.rfind('\n');
  std::string_view line = line_start == std::string_view::npos ? error_text : error_text.substr(line_start + 1);
  for (const std::string_view key : {"error:", "stderr:", "reason:"}) {
    if (line.starts_with(key)) line.remove_prefix(key.size());
  }
  const std::size_t begin = line.find_first_not_of(' ');
  return begin == std::string_view::npos ? std::string_view() : line.substr(begin);
}

std::string render_users(const UsersView& users) {
  if (users.users.empty() && users.more == 0 && users.unseen.empty()) return "";
  Table<5> table;
  table.add({"PID", "UID", "COMMAND", "KIND", "WHAT"});
  for (const UserView& user : users.users) {
    const bool process = user.pid != 0;
    table.add({process ? std::to_string(user.pid) : "-", process ? std::to_string(user.uid) : "-",
               or_dash(escape(user.command)), user.kind, or_dash(escape(user.what))});
  }
  std::string text = table.render();
  if (users.more > 0) fmt::format_to(std::back_inserter(text), "and {} more\n", users.more);
  if (!users.unseen.empty()) text.append(prose(users.unseen)).append("\n");
  return text;
}

std::string render_attacher(const AttacherView& attacher) {
  Lines lines(10);
  lines.add("since", time_or_dash(attacher.since));
  if (!attacher.since) return std::move(lines).take();
  lines.add("uid", std::to_string(attacher.uid));
  lines.add("pid", attacher.pid != 0 ? std::to_string(attacher.pid) : "-");
  lines.add("command", or_dash(prose(attacher.command)));
  return std::move(lines).take();
}

std::string render_held(const std::vector<ShareSummary>& shares) {
  std::string text;
  for (const ShareSummary& share : shares) {
    if (share.held.empty()) continue;
    fmt::format_to(std::back_inserter(text), "warning: share {} is unmounted, but {}\n", quote(share.name),
                   prose(share.held));
  }
  return text;
}

std::string render_age(WallTime then, WallTime now) {
  constexpr std::array<std::pair<std::int64_t, std::string_view>, 4> kUnits{
      {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}}};
  const auto seconds = std::max<std::int64_t>(0, std::chrono::duration_cast<std::chrono::seconds>(now - then).count());
  for (const auto& [length, name] : kUnits) {
    if (seconds >= length) return fmt::format("{}{}", seconds / length, name);
  }
  return "0s";
}

namespace {

/// "synced, 12 shares as of 2026-...": one line.
std::string source_text(const SourceView& source, const std::optional<WallTime>& now) {
  std::string text = fmt::format("{}, {} {}", source.state, source.shares, source.shares == 1 ? "share" : "shares");
  if (source.synced) text.append(" as of ").append(time_text(*source.synced, now));
  if (source.wrong_count > 0) fmt::format_to(std::back_inserter(text), ", {} wrong", source.wrong_count);
  if (!source.error.empty()) text.append(": ").append(prose(source.error));
  return text;
}

/// A line for each catalog source.
std::string sources_text(const NamespaceView& berth, const Look& look) {
  std::string text;
  for (const SourceView& source : berth.sources) {
    const bool is_troubled = source.state == "failing" || source.state == "down" || source.wrong_count > 0;
    if (look.only_troubled && !is_troubled) continue;
    fmt::format_to(std::back_inserter(text), "{}catalog source {}: {}\n", is_troubled ? "warning: " : "",
                   prose(source.name), source_text(source, look.now));
  }
  return text;
}

}  // namespace

std::string render_sources(const std::vector<SourceView>& sources) {
  std::string text;
  for (const SourceView& source : sources) {
    Lines lines(10);
    lines.add("source", prose(source.name));
    lines.add("state", source.state);
    lines.add("since", time_or_dash(source.since));
    lines.add("shares", std::to_string(source.shares));
    lines.add("synced", time_or_dash(source.synced));
    lines.add("program", quote_command(source.program));
    lines.add("pid", source.pid != 0 ? std::to_string(source.pid) : "-");
    lines.add("starts", std::to_string(source.starts));
    if (!source.error.empty()) lines.add("error", time_or_dash(source.error_at) + " " + prose(source.error));
    for (const WrongShareView& wrong : source.wrong) lines.add("wrong", word(wrong.share) + ": " + prose(wrong.reason));
    if (source.wrong_count > source.wrong.size())
      lines.add("wrong", fmt::format("and {} more", source.wrong_count - source.wrong.size()));
    for (const std::string_view line : split(source.output, '\n')) {
      if (!line.empty()) lines.add("stderr", prose(line));
    }
    text.append(text.empty() ? "" : "\n").append(std::move(lines).take());
  }
  return text;
}

std::vector<SourceView> parse_sources(std::string_view text) {
  std::vector<SourceView> sources;
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view key = line.substr(0, colon);
    const std::string_view value = line.substr(std::min(line.find_first_not_of(' ', colon + 1), line.size()));
    if (key == "source") sources.push_back({.name = std::string(value)});
    if (sources.empty()) continue;
    if (key == "state") sources.back().state = value;
    // After its time.
    const std::size_t blank = value.find(' ');
    if (key == "error" && blank != std::string_view::npos) sources.back().error = value.substr(blank + 1);
  }
  return sources;
}

namespace {

/// Widths that the name and the source may have, of what the other columns leave of `width`.
std::pair<std::size_t, std::size_t> widths_within(std::size_t width,
                                                  const std::vector<std::array<std::string, 6>>& rows) {
  constexpr std::size_t kGaps = 10;  // two blanks between columns
  constexpr std::size_t kLeast = 12;
  std::array<std::size_t, 6> widest{};
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widest[i] = std::max(widest[i], display_width(row[i]));
  }
  const std::size_t others = kGaps + widest[1] + widest[2] + widest[3] + widest[4];
  const std::size_t left = std::max(2 * kLeast, width > others ? width - others : 0);
  // What one does not need the other has.
  const std::size_t name = std::min(widest[0], std::max(left / 2, left - std::min(left, widest[5])));
  return {name, left - name};
}

}  // namespace

std::string render_status(const NamespaceView& berth, const Look& look) {
  std::string text = fmt::format("berth {} at {}, server pid {}, generation {}:", prose(berth.version),
                                 prose(berth.directory), berth.server, berth.host.generation);
  const std::string counts = counts_text(berth);
  const bool is_wide = look.width && display_width(text) + 1 + display_width(counts) > *look.width;
  text.append(is_wide ? "\n" : " ").append(counts).append("\n");
  text += host_text(berth.host, look.now);
  text += warnings_text(berth.state);
  text += sources_text(berth, look);
  for (const FailedLookUpView& failed : berth.failed_look_ups) {
    fmt::format_to(std::back_inserter(text), "look-up of {} failed {}{}: {}\n", quote(failed.name),
                   look.now ? "" : "at ", time_text(failed.when, look.now), prose(failed.story));
  }
  text += render_held(berth.shares);
  if (berth.shares.empty()) return text;
  std::vector<std::array<std::string, 6>> rows{{"NAME", "TYPE", "STATE", "USERS", "SINCE", "SOURCE"}};
  std::vector<std::string> reasons{""};
  for (const ShareSummary& share : berth.shares) {
    if (look.only_troubled && share.state != "failed" && share.state != "stalled") continue;
    const bool has_age = look.now && share.since;
    rows.push_back({or_dash(escape(share.name)), escape(share.type),
                    escape(share.state) + (share.is_pending ? ", pending" : ""), std::to_string(share.users),
                    has_age ? render_age(*share.since, *look.now) : time_or_dash(share.since),
                    or_dash(escape(share.source))});
    const auto reason = look.reasons.find(share.name);
    reasons.push_back(reason == look.reasons.end() ? "" : prose(reason->second));
  }
  if (rows.size() == 1) return text;
  constexpr std::size_t kNoLimit = std::size_t{1} << 20;
  const auto widths = look.width ? widths_within(*look.width, rows) : std::pair(kNoLimit, kNoLimit);
  Table<6> table;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].front() = cut_in_the_middle(rows[i].front(), widths.first);
    rows[i].back() = cut_in_the_middle(rows[i].back(), widths.second);
    // Below its row, so that it is whole however long the names are.
    const std::string below = reasons[i].empty() ? "" : "  " + reasons[i];
    table.add(std::move(rows[i]), cut_in_the_middle(below, look.width.value_or(kNoLimit)));
  }
  constexpr std::size_t kStateColumn = 2;
  return text + table.render([&look](std::size_t column, std::string_view cell, std::string_view padded) {
    return column == kStateColumn && look.paint ? look.paint(cell, padded) : std::string(padded);
  });
}

std::string render_event(const EventView& event) {
  std::string line = fmt::format("{} {}", format_time(event.when), event.kind);
  if (!event.share.empty()) line.append(" share=").append(word(event.share));
  if (event.attempt != 0) fmt::format_to(std::back_inserter(line), " attempt={}", event.attempt);
  if (event.took.count() != 0) fmt::format_to(std::back_inserter(line), " took={}", format_duration(event.took));
  if (!event.reason.empty()) fmt::format_to(std::back_inserter(line), " reason={}", word(event.reason));
  return line + "\n";
}

}  // namespace berth::formats
