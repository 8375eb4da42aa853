#include "src/cli/actions.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <utility>

#include "src/cli/exit_code.h"
#include "src/cli/progress.h"
#include "src/cli/table.h"
#include "src/cli/top.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/metrics.h"
#include "src/lib/formats/names.h"
#include "src/lib/formats/render.h"
#include "src/lib/sys/file.h"

namespace berth::cli {

namespace {

/// Whether `code` means that no berth serves the namespace, rather than anything about a share.
bool says_gone(int code) { return code == ENOTCONN || code == ECONNABORTED; }

/// The meaning of an errno of the control tree, where strerror(3) misleads or means little; empty for others.
std::string_view meaning_of(int code) {
  constexpr std::array<std::pair<int, std::string_view>, 7> kMeanings{{
      {ESHUTDOWN, ": berth is stopping"},
      {ECANCELED, ": called off by another drain or resume"},
      {ENOEXEC, ": refused, and going on as before; the log of berth says why"},
      {ETIMEDOUT, ": it did not end in time"},
      {EAGAIN, ": too many wait for this share already"},
      {EMLINK, ": the share has as many attachments as it may have"},
      {ENOSPC, ": the disk of the state directory is full, and an attachment that cannot be recorded is not made"},
  }};
  for (const auto& [known, meaning] : kMeanings) {
    if (known == code) return meaning;
  }
  return "";
}

bool unmounts_by(formats::ControlCommand word) {
  return word == formats::ControlCommand::kUnmount || word == formats::ControlCommand::kForceUnmount;
}

/// A state in its colour (SGR, console_codes(4)).
std::string paint_state(std::string_view state, std::string_view padded) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kColours{{
      {"mounted", "32"},   // green
      {"mounting", "33"},  // yellow
      {"draining", "33"},
      {"expiring", "33"},
      {"stalled", "31"},  // red
      {"failed", "31"},
      {"idle", "2"},  // faint
  }};
  for (const auto& [name, colour] : kColours) {
    if (name == state.substr(0, state.find(','))) return fmt::format("\033[{}m{}\033[0m", colour, padded);
  }
  return std::string(padded);
}

/// While it lives, Ctrl-C ends the system call that waits (EINTR), and not this program. Where SIGINT is ignored it
/// stays so.
class CtrlC {
 public:
  CtrlC() {
    ::sigaction(SIGINT, nullptr, &before_);
    if (before_.sa_handler == SIG_IGN) return;
    struct sigaction action {};
    action.sa_handler = [](int) {};  // without SA_RESTART
    ::sigaction(SIGINT, &action, nullptr);
  }
  ~CtrlC() { ::sigaction(SIGINT, &before_, nullptr); }
  CtrlC(const CtrlC&) = delete;
  CtrlC& operator=(const CtrlC&) = delete;

 private:
  struct sigaction before_ {};
};

class Action {
 public:
  Action(const Command& command, const Tree& tree, const World& world)
      : command_(command), tree_(tree), world_(world) {}

  int operator()(const StatusCommand& status) const;
  int operator()(const TopCommand& top) const;
  int operator()(const AttachCommand& attach) const;
  int operator()(const DetachCommand& detach) const;
  int operator()(const ControlCommand& control) const;
  int operator()(const HostCommand& host) const;
  int operator()(const EventsCommand& events) const;
  int operator()(const MetricsCommand& metrics) const;
  // They are not done through the control tree.
  int operator()(const ServeOptions&) const { return kUsage; }
  int operator()(const CheckOptions&) const { return kUsage; }
  int operator()(const ExecCommand&) const { return kUsage; }
  int operator()(const DoctorOptions&) const { return kUsage; }
  int operator()(const AddOptions&) const { return kUsage; }
  int operator()(const RemoveOptions&) const { return kUsage; }
  int operator()(const ImportOptions&) const { return kUsage; }

 private:
  [[nodiscard]] int print(const Result<std::string>& text, const std::string& share = {}) const;
  [[nodiscard]] int finish(const Result<>& result, const std::string& share) const;
  [[nodiscard]] int explain(const Error& error, const std::string& share) const;
  /// Whether the command only reads: what refuses it is then the control tree, and no share's server.
  [[nodiscard]] bool reads() const {
    return std::holds_alternative<StatusCommand>(command_.action) ||
           std::holds_alternative<TopCommand>(command_.action) ||
           std::holds_alternative<EventsCommand>(command_.action) ||
           std::holds_alternative<MetricsCommand>(command_.action);
  }
  [[nodiscard]] int reload(const HostCommand& host) const;
  [[nodiscard]] Span span_of(const std::string& share) const;
  [[nodiscard]] formats::NamespaceView look() const;
  [[nodiscard]] Result<std::string> table_of(const StatusCommand& status) const;
  void warn(const HostCommand& host, const formats::HostView& now) const;
  [[nodiscard]] std::string in_use(const formats::NamespaceView& berth) const;
  [[nodiscard]] std::string hint(int code, const std::string& share) const;
  [[nodiscard]] std::string of_interrupted(const std::string& share) const;
  [[nodiscard]] std::string of_interrupted(const HostCommand& host) const;

  const Command& command_;
  const Tree& tree_;
  const World& world_;
};

int Action::print(const Result<std::string>& text, const std::string& share) const {
  if (!text) return explain(text.error(), share);
  world_.out(*text);
  return kOk;
}

int Action::finish(const Result<>& result, const std::string& share) const {
  return result ? kOk : explain(result.error(), share);
}

std::string see_status(const std::string& share) { return "; see `berth status " + quote_command({share}) + "`"; }

/// What is known beyond the errno, to be added to it: the share's last failure, the users that may do this, or the
/// users that hold the share.
std::string Action::hint(int code, const std::string& share) const {
  const bool refused = code == EACCES || code == EPERM;
  if (refused && std::holds_alternative<HostCommand>(command_.action))
    return ": only root and the group of [control] may do this";
  if (refused && reads()) return ": only root and the group of [control] may read this";
  if (share.empty()) return std::string(meaning_of(code));
  if (refused && !tree_.may_change(share)) {
    return ": only " + tree_.who_may_change(share) + " may change this share";
  }
  const formats::NamespaceView berth = look();
  if (code == ESHUTDOWN && berth.host.state != "up") {
    return fmt::format(": the host is {}; `berth resume` gives shares out again", berth.host.state);
  }
  const auto view = tree_.read(share, formats::kStatusJson).and_then(formats::parse_share_json);
  if (!view) return "";
  const auto* const control = std::get_if<ControlCommand>(&command_.action);
  if (code == EBUSY && control != nullptr &&
      (control->word == formats::ControlCommand::kUnmount || control->word == formats::ControlCommand::kRemount)) {
    if (view->state == "mounting") return ": it is being mounted; wait, or end the attempt with --force";
    if (view->users == 0) {
      return fmt::format(": no process is seen in it; see what is mounted in it (`{}`), or use --force",
                         quote_command({"findmnt", "-R", tree_.namespace_directory() + "/" + share}));
    }
    return fmt::format(": in use by {} {}; see {}, or use --force", view->users, view->users == 1 ? "user" : "users",
                       quote_command({formats::share_path(tree_.namespace_directory(), share) + "/users"}));
  }
  if (!view->last_failure || view->last_failure->code != code) {
    // The attempt goes on, so there is no failure of it yet.
    const bool unmounts = control != nullptr && unmounts_by(control->word);
    if (code == ETIMEDOUT && !unmounts) {
      return fmt::format(": it did not mount in time (mount_timeout is {}); does its server answer?",
                         format_duration(view->mount_timeout));
    }
    const std::string& unrecorded = berth.state.failure;
    if (std::holds_alternative<AttachCommand>(command_.action) && !unrecorded.empty())
      return ": what cannot be recorded is not attached: " + prose(unrecorded);
    return std::string(meaning_of(code)) + see_status(share);
  }
  const std::string text = formats::render_error(view->last_failure);
  return fmt::format(": {}{}", formats::last_words(text), see_status(share));
}

/// What a command that was interrupted leaves under way, where that is for the whole host.
std::string Action::of_interrupted(const HostCommand& host) const {
  switch (host.word) {
    case formats::HostCommand::kDrain: {
      const formats::NamespaceView berth = look();
      const std::string users = in_use(berth);
      return fmt::format("interrupted; the host stays {}: no share is given out until `berth resume`{}{}",
                         berth.host.state == "drained" ? "drained" : "draining",
                         users.empty() ? "" : "; in use: ", users);
    }
    case formats::HostCommand::kResume:
      return "interrupted; the resume goes on; see `berth status`";
    case formats::HostCommand::kUpgrade:
      return "interrupted; the upgrade goes on; the log of berth says how it ends";
    case formats::HostCommand::kReload:
      return "interrupted; the reload goes on; what came of it will be in " +
             quote_command({formats::tree_path(tree_.namespace_directory()) + "/" + std::string(formats::kReload)});
    case formats::HostCommand::kReloadDryRun:
      return "interrupted; nothing is changed";
  }
  return "interrupted";
}

/// For a caller that has interrupted the command, and knows what has ended it: what goes on all the same.
std::string Action::of_interrupted(const std::string& share) const {
  const auto* const control = std::get_if<ControlCommand>(&command_.action);
  const bool unmounts = control != nullptr && unmounts_by(control->word);
  const bool attaches = std::holds_alternative<AttachCommand>(command_.action);
  return fmt::format("interrupted; the {} goes on{}{}", unmounts ? "unmount" : "mount",
                     attaches ? ", and nothing is attached" : "", see_status(share));
}

int Action::explain(const Error& error, const std::string& share) const {
  std::string text = "berth: " + command_.name + ": ";
  if (!share.empty()) text.append(quote_command({share})).append(": ");
  const int code = error.code();
  if (says_gone(code)) {
    text.append(fmt::format("no berth serves the namespace {} any more ({}); start berth again, or unmount it\n",
                            quote(tree_.namespace_directory()), errno_name(code)));
    world_.err(text);
    return kUnavailable;
  }
  if (!error.story().empty()) {
    text.append(error.story());
  } else if (code == EINTR && !share.empty()) {
    text.append(of_interrupted(share));
  } else if (const auto* const host = std::get_if<HostCommand>(&command_.action); code == EINTR && host != nullptr) {
    text.append(of_interrupted(*host));
  } else {
    text.append(fmt::format("{} ({})", errno_text(code), errno_name(code))).append(hint(code, share));
  }
  world_.err(text + "\n");
  const bool refused = code == EACCES || code == EPERM;
  const bool of_host = std::holds_alternative<HostCommand>(command_.action);
  return refused && (reads() || of_host || !tree_.may_change(share)) ? kNoPermission : kFailed;
}

int Action::operator()(const StatusCommand& status) const {
  if (status.json && status.share) return print(tree_.read(*status.share, formats::kStatusJson), *status.share);
  if (status.json) return print(tree_.read(formats::kStatusJson));
  // A program reads what the file has; a person wants to know how long ago.
  if (status.share && world_.out_is_terminal)
    return print(read_share(tree_, *status.share, world_.now()), *status.share);
  if (status.share) return print(tree_.read(*status.share, formats::kStatus), *status.share);
  const Result<std::string> table = table_of(status);
  if (!table) return explain(table.error(), "");
  if (!status.watch) return print(table);
  // Erases the screen and goes to its first line (console_codes(4)).
  const std::string clear = world_.out_is_terminal ? "\033[H\033[2J" : "";
  Result<std::string> next = table;
  for (; next; next = table_of(status)) {
    if (!world_.out(clear + *next)) return kOk;
    static_cast<void>(::poll(nullptr, 0, static_cast<int>(world_.watch_interval.count())));
  }
  return explain(next.error(), "");
}

/// The table of all shares.
Result<std::string> Action::table_of(const StatusCommand& status) const {
  SharesTable table = TRY(read_table(tree_, status.sort));
  formats::Look look{.reasons = std::move(table.reasons), .only_troubled = status.failed};
  if (world_.out_is_terminal) {
    if (!world_.environment("NO_COLOR")) look.paint = paint_state;
    look.width = world_.width;
    look.now = world_.now();
  }
  return formats::render_status(table.berth, look);
}

int Action::operator()(const TopCommand& top) const {
  const Result<> shown = show_top(tree_, world_, top.sort);
  return finish(shown, "");
}

/// From where a share is mounted and how long that may take, as far as a terminal is to be told.
Span Action::span_of(const std::string& share) const {
  if (!world_.err_is_terminal) return {};
  const auto view = tree_.read(share, formats::kStatusJson).and_then(formats::parse_share_json);
  if (!view) return {};
  return {.from = view->sources.empty() ? "" : prose(view->sources.front()), .limit = view->mount_timeout};
}

int Action::operator()(const AttachCommand& attach) const {
  Result<> result;
  {
    const CtrlC ctrl_c;
    const Progress progress(world_, "mounting " + quote_command({attach.share}), span_of(attach.share));
    result = tree_.attach(attach.share, attach.instance, attach.volume);
  }
  return finish(result, attach.share);
}

int Action::operator()(const DetachCommand& detach) const {
  return finish(tree_.detach(detach.share, detach.instance, detach.volume), detach.share);
}

int Action::operator()(const ControlCommand& control) const {
  const bool unmounts = unmounts_by(control.word);
  const char* const verb = unmounts ? "unmounting " : "mounting ";
  Result<> result;
  {
    const CtrlC ctrl_c;
    const Progress progress(world_, verb + quote_command({control.share}), unmounts ? Span{} : span_of(control.share));
    result = tree_.write(control.share, control.word);
  }
  return finish(result, control.share);
}

/// What is known of the namespace; nothing where it cannot be read, because it only adds to a message.
formats::NamespaceView Action::look() const {
  return tree_.read(formats::kStatusJson).and_then(formats::parse_namespace_json).value_or(formats::NamespaceView{});
}

void Action::warn(const HostCommand& host, const formats::HostView& now) const {
  const bool drains = host.word == formats::HostCommand::kDrain;
  if (drains == (now.state == "up")) return;
  const std::string since = !now.since               ? ""
                            : world_.err_is_terminal ? " for " + formats::render_age(*now.since, world_.now())
                                                     : " since " + format_time(*now.since);
  world_.err(fmt::format("berth: {}: warning: the host is {} already{} (generation {})\n", command_.name, now.state,
                         since, now.generation));
}

/// The shares that are still in use: "media (3 users), home/alice (1 user) and 4 more"; empty: none that shows.
std::string Action::in_use(const formats::NamespaceView& berth) const {
  constexpr std::size_t kMostNamed = 5;
  std::string text;
  std::size_t count = 0;
  for (const formats::ShareSummary& share : berth.shares) {
    if (share.state == "idle" || share.state == "failed" || count++ >= kMostNamed) continue;
    text.append(text.empty() ? "" : ", ").append(quote_command({share.name}));
    if (share.users > 0) {
      fmt::format_to(std::back_inserter(text), " ({} {})", share.users, share.users == 1 ? "user" : "users");
    }
  }
  if (count > kMostNamed) fmt::format_to(std::back_inserter(text), " and {} more", count - kMostNamed);
  return text;
}

int Action::operator()(const HostCommand& host) const {
  const bool drains = host.word == formats::HostCommand::kDrain;
  if (host.word == formats::HostCommand::kReload || host.word == formats::HostCommand::kReloadDryRun)
    return reload(host);
  if (host.word == formats::HostCommand::kUpgrade) {
    Result<> result;
    {
      const CtrlC ctrl_c;
      const Progress progress(world_, "upgrading");
      result = tree_.write(host.word, host.timeout);
    }
    return finish(result, "");
  }
  warn(host, look().host);
  Result<> result;
  {
    const auto told = [this] {
      const std::string users = in_use(look());
      return users.empty() ? "" : "in use: " + users;
    };
    const CtrlC ctrl_c;
    const Progress progress(world_, drains ? "draining" : "resuming", drains ? Span{.news = told} : Span{});
    result = tree_.write(host.word, host.timeout);
  }
  if (result && drains) world_.err(formats::render_held(look().shares));
  if (result || result.error().code() != ETIMEDOUT) return finish(result, "");
  const formats::NamespaceView berth = look();
  const std::string users = in_use(berth);
  world_.err(fmt::format("berth: drain: after {}, still in use: {}; the host stays {}\n",
                         format_duration(*host.timeout), users.empty() ? "nothing that shows" : users,
                         berth.host.state));
  return kFailed;
}

/// What there is to say is in a file, on success and where a mistake has it refused.
int Action::reload(const HostCommand& host) const {
  Result<> result;
  {
    const CtrlC ctrl_c;
    const Progress progress(world_, "reloading");
    result = tree_.write(host.word, host.timeout);
  }
  const bool is_told = result || result.error().code() == EINVAL || result.error().code() == ENOSPC;
  const std::string_view file =
      host.word == formats::HostCommand::kReloadDryRun ? formats::kReloadDryRun : formats::kReload;
  const std::string told = is_told ? tree_.read(file).value_or("") : "";
  if (result) {
    world_.out(told);
    return kOk;
  }
  if (told.empty()) return finish(result, "");
  world_.err("berth: " + command_.name + ": refused, and going on as before:\n" + told);
  return kFailed;
}

int Action::operator()(const EventsCommand& events) const {
  if (!events.json) return finish(tree_.events(events.follow, world_.out), "");
  std::string begun;  // a line that is not read to its end
  const auto take = [this, &begun](std::string_view text) {
    begun.append(text);
    std::string json;
    std::size_t start = 0;
    for (std::size_t end = begun.find('\n'); end != std::string::npos; end = begun.find('\n', start)) {
      json += formats::event_as_json(std::string_view(begun).substr(start, end - start));
      start = end + 1;
    }
    begun.erase(0, start);
    return world_.out(json);
  };
  return finish(tree_.events(events.follow, take), "");
}

/// Writes `openmetrics` to a file for node exporter, which sees the old text or the new one. False: it says why not.
bool write_textfile(const std::string& path, std::string_view openmetrics, const World& world) {
  const Result<> written = sys::replace_file(path, formats::to_text_format(openmetrics), 0644);
  if (!written) {
    const bool is_absent = written.error().code() == ENOENT;
    world.err(fmt::format("berth: metrics: {}: {}\n", quote(path),
                          is_absent ? "there is no such directory; the package prometheus-node-exporter makes its own, "
                                      "/var/lib/prometheus/node-exporter"
                                    : errno_text(written.error().code())));
  }
  return written.has_value();
}

int Action::operator()(const MetricsCommand& metrics) const {
  const Result<std::string> text = tree_.read(formats::kMetrics);
  if (metrics.textfile.empty()) return print(text);
  if (text) return write_textfile(metrics.textfile, *text, world_) ? kOk : kFailed;
  if (says_gone(text.error().code())) note_absence(command_, world_);
  return explain(text.error(), "");
}

}  // namespace

void note_absence(const Command& command, const World& world) {
  const auto* const metrics = std::get_if<MetricsCommand>(&command.action);
  if (metrics == nullptr || metrics->textfile.empty()) return;
  write_textfile(metrics->textfile, formats::metrics_of_none(), world);
}

int act(const Command& command, const Tree& tree, const World& world) {
  return std::visit(Action(command, tree, world), command.action);
}

}  // namespace berth::cli
