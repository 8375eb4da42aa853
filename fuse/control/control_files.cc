#include "fuse/control/control_files.h"

#include <utility>

#include "src/lib/base/path.h"
#include "src/lib/base/secrets.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/metrics.h"
#include "src/lib/formats/render.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/memory.h"
#include "src/lib/sys/nfs_transport.h"
#include "src/lib/sys/proc.h"

namespace berth::fuse {

namespace {

using Kind = ControlPath::Kind;

/// What `users` shows: processes, and bytes of the names of what they have open. Attachments and shares come on top.
constexpr std::size_t kMostUsers = 2048;
constexpr std::size_t kMostOfNames = std::size_t{128} << 10;

/// A path of the host below a share's root, "." for the root itself. "": not known.
std::string path_below(const std::string& root, std::string_view path) {
  if (path.empty()) return "";
  if (is_below(path, root)) path.remove_prefix(root.size());
  if (path.starts_with('/')) path.remove_prefix(1);
  return path.empty() ? "." : std::string(path);
}

const char* name_of(manager::UseOfMount::Kind kind) noexcept {
  switch (kind) {
    case manager::UseOfMount::Kind::kFile:
      return "file";
    case manager::UseOfMount::Kind::kDirectory:
      return "directory";
    case manager::UseOfMount::Kind::kMapping:
      break;
  }
  return "mapping";
}

formats::FailureView view_of(const manager::FailureReport& report) {
  const manager::AttemptFailure& failure = report.failure;
  return {.when = report.when,
          .attempt = report.attempt,
          .took = report.took,
          .code = failure.error.code(),
          .story = std::string(failure.error.story()),
          .command = failure.command,
          .exit = failure.exit,
          .output = failure.output};
}

/// Each by itself: a source is no argument after another one.
std::vector<std::string> masked_sources(const manager::ShareSpec& spec, const Secrets& secrets) {
  std::vector<std::string> masked;
  for (const std::string& source : spec.sources()) masked.push_back(secrets.mask(source));
  return masked;
}

/// Out of tables of the kernel: the share's server is not asked.
std::optional<formats::TransportView> transport_of(std::uint64_t mount_id) {
  const sys::AsDaemon as_daemon;
  const std::optional<sys::NfsTransport> found = sys::nfs_transport(mount_id);
  if (!found) return std::nullopt;
  return formats::TransportView{.address = found->address,
                                .protocol = found->protocol,
                                .version = found->version,
                                .port = found->port,
                                .connections = found->connections};
}

std::string state_of(const manager::Share& share, manager::ShareState state) {
  return share.is_removed() ? "removed" : manager::to_string(state);
}

formats::AttacherView view_of(const manager::Attacher& by) {
  formats::AttacherView view{.uid = by.uid, .pid = by.pid, .command = by.command};
  if (by.since != WallTime{}) view.since = by.since;
  return view;
}

formats::HostView view_of(const manager::HostStatus& host) {
  formats::HostView view{.generation = host.state.generation(), .operations = host.uses};
  if (host.state.since != WallTime{}) view.since = host.state.since;
  if (!host.state.up) view.state = host.is_resuming ? "resuming" : host.is_draining ? "draining" : "drained";
  return view;
}

formats::StateView view_of(manager::StateReport report) {
  formats::StateView view{.directory = std::move(report.directory), .failure = std::move(report.failure)};
  for (manager::DamagedFile& damage : report.damages) {
    view.damages.push_back(
        {.file = std::move(damage.file), .reason = std::move(damage.reason), .set_aside = std::move(damage.set_aside)});
  }
  for (const auto& [name, attachments] : report.unknown_shares) {
    view.unknown_shares.push_back({.name = name, .attachments = attachments});
  }
  return view;
}

}  // namespace

std::string command_of(pid_t pid) {
  if (pid == 0) return "";
  const sys::AsDaemon as_daemon;
  return sys::proc::command_of(pid);
}

ControlFiles::ControlFiles(const manager::Manager& manager, const Clock& clock, const ControlSetup& setup)
    : manager_(manager),
      clock_(clock),
      setup_(setup),
      started_(clock.wall_now()),
      counts_(started_),
      overmount_looks_(clock, setup.look_at_overmounts) {}

std::string ControlFiles::text_of(const ControlPath& path, const manager::Share* share, const Viewer& viewer) const {
  switch (path.kind) {
    case Kind::kVersion:
      return setup_.version + "\n";
    case Kind::kStatus:
      return formats::render_status(namespace_view());
    case Kind::kStatusJson:
      return formats::render_json(namespace_view());
    case Kind::kMetrics:
      return formats::render_metrics(metrics_view());
    case Kind::kReload:
      return setup_.last_reload ? setup_.last_reload(false) : "";
    case Kind::kReloadDryRun:
      return setup_.last_reload ? setup_.last_reload(true) : "";
    case Kind::kSources:
      return setup_.sources ? formats::render_sources(setup_.sources()) : "";
    case Kind::kShareState:
      return state_of(*share, share->state()) + "\n";
    case Kind::kShareStatus:
      return formats::render_status(share_view(*share));
    case Kind::kShareStatusJson:
      return formats::render_json(share_view(*share));
    case Kind::kShareError:
      return formats::render_error(last_error(*share));
    case Kind::kShareUsers:
      return formats::render_users(users(*share, viewer));
    case Kind::kAttached:
      return formats::render_attacher(view_of(
          share->attacher_of({.instance = path.instance, .volume = path.volume}).value_or(manager::Attacher{})));
    case Kind::kShareLog:
    case Kind::kRoot:
    case Kind::kEvents:
    case Kind::kControl:
    case Kind::kPrefix:
    case Kind::kShare:
    case Kind::kShareControl:
    case Kind::kAttachments:
    case Kind::kInstance:
    case Kind::kVolume:
      break;
  }
  return "";
}

void ControlFiles::refuse(const manager::Share& share, const Error& why) {
  formats::FailureView refusal{
      .when = clock_.wall_now(), .code = why.code(), .story = "control: " + mask_secrets(why.story())};
  MutexLock lock(mutex_);
  refused_.insert_or_assign(share.name(), std::move(refusal));
}

void ControlFiles::accept(const manager::Share& share) {
  MutexLock lock(mutex_);
  refused_.erase(share.name());
}

formats::ShareView ControlFiles::known_of(const manager::Share& share) const {
  NativeLook look;
  const manager::ShareSpec& spec = share.spec();
  manager::ShareStatus status = share.status();
  const Secrets secrets = spec.secrets();
  formats::ShareView view{.name = spec.name(),
                          .type = spec.type(),
                          .state = state_of(share, status.state),
                          .since = status.since,
                          .source = std::move(status.source),
                          .sources = masked_sources(spec, secrets),
                          .options = secrets.mask(spec.options()),
                          .origin = spec.origin(),
                          .users = share.users() + native_users_of(status, look),
                          .waiting = status.waiting,
                          .mounts = status.mounts,
                          .failures = status.failures,
                          .mount_id = status.mount_id,
                          .access = manager::to_string(spec.policy().access),
                          .native = status.native,
                          .with_berth = std::move(status.with_berth),
                          .helper = status.helper,
                          .idle_timeout = spec.policy().idle_timeout,
                          .mount_timeout = spec.policy().mount_timeout,
                          .stays = status.stays,
                          .expires_at = status.expires_at,
                          .retry_at = status.retry_at,
                          .pending = std::move(status.pending),
                          .required = spec.policy().required,
                          .required_by = std::move(status.required_by),
                          .busy = std::move(status.busy),
                          .held = std::move(status.held)};
  if (view.with_berth.empty() && !view.native)
    view.with_berth = spec.why_with_berth();  // nothing has happened to it yet
  if (status.last_failure) view.last_failure = view_of(*status.last_failure);
  for (manager::Attachment& attachment : status.attachments) {
    view.attachments.push_back({.instance = std::move(attachment.instance), .volume = std::move(attachment.volume)});
  }
  return view;
}

formats::ShareSummary ControlFiles::summary_of(const manager::Share& share, NativeLook& look) const {
  const manager::ShareStatus status = share.status();
  const std::vector<std::string>& sources = share.spec().sources();
  // Of one that is mounted it is masked already.
  std::string source = status.source;
  if (source.empty() && !sources.empty()) source = share.spec().secrets().mask(sources.front());
  return {.name = share.name(),
          .type = share.spec().type(),
          .state = state_of(share, status.state),
          .is_pending = !status.pending.empty(),
          .users = share.users() + native_users_of(status, look),
          .since = status.since,
          .source = std::move(source),
          .held = status.held};
}

formats::ShareView ControlFiles::share_view(const manager::Share& share) const {
  formats::ShareView view = known_of(share);
  if (view.mount_id != 0 && (view.type == "nfs" || view.type == "nfs4")) view.transport = transport_of(view.mount_id);
  const Unanswered found = setup_.unanswered_in ? setup_.unanswered_in(share) : Unanswered{};
  if (found.callers == 0) return view;
  const auto waited = std::chrono::duration_cast<WallTime::duration>(clock_.now() - found.since);
  view.unanswered = {.callers = found.callers, .operation = found.operation, .since = clock_.wall_now() - waited};
  return view;
}

formats::NamespaceView ControlFiles::namespace_view() const {
  formats::NamespaceView view{.version = setup_.version,
                              .directory = setup_.directory,
                              .arguments = setup_.arguments,
                              .keeper = setup_.keeper,
                              .server = setup_.server,
                              .nodes = setup_.nodes ? setup_.nodes() : 0,
                              .max_nodes = setup_.max_nodes,
                              .started = started_,
                              .host = view_of(manager_.host()),
                              .state = view_of(manager_.state_report())};
  if (setup_.sources) view.sources = setup_.sources();
  for (const manager::FailedLookUp& failed : manager_.failed_look_ups()) {
    view.failed_look_ups.push_back({.name = failed.share,
                                    .when = failed.when,
                                    .code = failed.error.code(),
                                    .story = std::string(failed.error.story())});
  }
  const auto directory = manager_.directory();
  view.shares.reserve(directory->size());
  NativeLook look;
  for (const auto& [name, share] : *directory) view.shares.push_back(summary_of(*share, look));
  for (const std::shared_ptr<manager::Share>& share : manager_.removed()) {
    view.shares.push_back(summary_of(*share, look));
  }
  return view;
}

formats::MetricsView ControlFiles::metrics_view() const {
  const manager::HostStatus host = manager_.host();
  const manager::StateReport state = manager_.state_report();
  formats::MetricsView view{.version = setup_.version,
                            .started = started_,
                            .host_up = host.state.up,
                            .generation = host.state.generation(),
                            .takeovers = setup_.servers - 1,
                            .max_nodes = setup_.max_nodes,
                            .max_descriptors = sys::file_limit(),
                            .damaged_files = state.damages.size(),
                            .state_is_recorded = state.failure.empty(),
                            .counts = counts_.view()};
  if (setup_.load) {
    const ServerLoad load = setup_.load();
    view.requests = load.requests;
    view.stuck_threads = load.stuck_threads;
    view.open_files = load.open_files;
  }
  if (setup_.nodes) view.nodes = setup_.nodes();
  if (setup_.sources) view.sources = setup_.sources();
  {
    const sys::AsDaemon as_daemon;
    view.descriptors = sys::count_descriptors();
    view.resident_bytes = sys::resident_memory();
  }
  const auto add = [&view](const manager::Share& share) {
    const manager::ShareStatus status = share.status();
    const std::string shown = state_of(share, status.state);
    ++view.shares[shown];
    if (status.native) ++view.native;
    if (!status.pending.empty()) ++view.pending;
    view.leases += share.users();
    view.attachments += share.attachment_count();
    view.parked += status.waiting;
    const bool in_trouble =
        status.state == manager::ShareState::kFailed || status.state == manager::ShareState::kStalled;
    if (in_trouble && view.troubles.size() < formats::MetricsView::kMostTroubles) {
      view.troubles.push_back({.share = share.name(), .state = manager::to_string(status.state)});
    }
  };
  const auto directory = manager_.directory();
  for (const auto& [name, share] : *directory) {
    add(*share);
    const auto bytes = setup_.helper_memory ? setup_.helper_memory(*share) : std::nullopt;
    if (bytes) view.helpers.push_back({.share = share->name(), .memory = *bytes});
  }
  for (const std::shared_ptr<manager::Share>& share : manager_.removed()) add(*share);
  formats::keep_largest(view.helpers);
  return view;
}

std::optional<formats::FailureView> ControlFiles::last_error(const manager::Share& share) const {
  std::optional<formats::FailureView> last;
  if (const manager::ShareStatus status = share.status(); status.last_failure) last = view_of(*status.last_failure);
  MutexLock lock(mutex_);
  const auto refused = refused_.find(share.name());
  if (refused != refused_.end() && (!last || refused->second.when >= last->when)) last = refused->second;
  return last;
}

ControlFiles::NativeLook ControlFiles::native_users() const {
  const sys::AsDaemon as_daemon;
  return overmount_looks_.latest([this] {
    std::vector<std::uint64_t> overmounts;
    const auto add = [&overmounts](const manager::Share& share) {
      if (const std::uint64_t overmount = share.status().overmount; overmount != 0) overmounts.push_back(overmount);
    };
    const auto directory = manager_.directory();
    for (const auto& [name, share] : *directory) add(*share);
    for (const std::shared_ptr<manager::Share>& share : manager_.removed()) add(*share);
    return overmounts;
  });
}

std::uint64_t ControlFiles::native_users_of(const manager::ShareStatus& status, NativeLook& look) const {
  if (status.overmount == 0) return 0;
  if (look == nullptr) look = native_users();
  const auto found = look->in.find(status.overmount);
  return found == look->in.end() ? 0 : found->second.processes;
}

void ControlFiles::add_native_users(formats::UsersView& view, const manager::Share& share, const Viewer& viewer) const {
  const std::uint64_t overmount = share.status().overmount;
  if (overmount == 0) return;
  const NativeLook all = native_users();
  view.unseen = all->unseen;
  const auto found = all->in.find(overmount);
  if (found == all->in.end()) return;
  view.more += found->second.left_out;
  const std::string root = setup_.directory + "/" + share.name();
  std::size_t told = 0;
  for (const manager::UseOfMount& use : found->second.uses) {
    if (view.users.size() >= kMostUsers) {
      ++view.more;
      continue;
    }
    const bool is_told = (viewer.sees_all || (use.is_users_own && viewer.uid == use.uid)) && told <= kMostOfNames;
    std::string what = is_told ? path_below(root, use.path) : "";
    told += what.size();
    view.users.push_back(
        {.pid = use.pid, .uid = use.uid, .command = use.command, .kind = name_of(use.kind), .what = std::move(what)});
  }
}

formats::UsersView ControlFiles::users(const manager::Share& share, const Viewer& viewer) const {
  const UsersWanted wanted{.most = kMostUsers,
                           .most_of_one = kMostUsers / 4,
                           .longest_name = 1024,
                           .most_of_names = kMostOfNames,
                           .names_are_told = [&viewer](uid_t uid) { return viewer.sees_all || viewer.uid == uid; }};
  formats::UsersView view;
  if (setup_.users_of) {
    HandleUsers found = setup_.users_of(share, wanted);
    view.more = found.more;
    std::map<pid_t, std::string> commands;
    for (HandleUser& user : found.users) {
      const auto [command, is_new] = commands.try_emplace(user.pid);
      if (is_new) command->second = command_of(user.pid);
      if (user.what && user.what->empty()) user.what = ".";
      view.users.push_back({.pid = user.pid,
                            .uid = user.uid,
                            .command = command->second,
                            .kind = user.directory ? "directory" : "file",
                            .what = std::move(user.what).value_or("")});
    }
  }
  add_native_users(view, share, viewer);
  const manager::ShareStatus status = share.status();
  for (const std::string& name : status.required_by) {
    if (view.users.size() >= 2 * kMostUsers) {
      ++view.more;
      continue;
    }
    view.users.push_back({.kind = "share", .what = name});
  }
  for (const manager::Attachment& attachment : status.attachments) {
    if (view.users.size() >= 2 * kMostUsers) {
      ++view.more;
      continue;
    }
    view.users.push_back({.kind = "attachment", .what = attachment.instance + "/" + attachment.volume});
  }
  return view;
}

std::string event_line(const manager::Event& event) {
  return formats::render_event({.when = event.when,
                                .kind = manager::to_string(event.kind),
                                .share = event.share,
                                .attempt = event.attempt,
                                .took = event.took,
                                .reason = event.reason});
}

}  // namespace berth::fuse
