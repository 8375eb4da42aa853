#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "manager/backends/look_up_program.h"
#include "manager/backends/make_backends.h"
#include "manager/backends/root_answer.h"
#include "manager/backends/secret_files.h"
#include "src/config/answer.h"
#include "src/config/share_section.h"
#include "src/daemon/server/server_core.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/rate.h"
#include "src/lib/base/test_switch.h"
#include "src/lib/base/text.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"
#include "src/lib/sys/thread.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::daemon {
namespace {

/// Descriptors that no server uses while it serves: two of them are open at once in a take-over.
constexpr std::uint64_t kReservedDescriptors = 256;
/// Fewer where the limit is low: sys::kCopiedDescriptors are the keeper's already.
std::uint64_t reserved_descriptors() noexcept { return std::min(kReservedDescriptors, sys::file_limit() / 3); }

/// Why a user can have no share that others may have; any user can have it told for many names.
void tell_refused(const std::string& name, const std::string& why) {
  static Mutex mutex;
  static Rate told(16, std::chrono::seconds(10));
  {
    const MutexLock lock(mutex);
    if (!told.take(std::chrono::steady_clock::now())) return;
  }
  log::warning("{}: {}", quote(name), why);
}

/// What the program of a template says of a key. Errors: those of ask_program(); EHOSTDOWN with a story when it is no
/// share.
Result<manager::LookUpAnswer> ask_for_share(const manager::HostView& view, const std::string& directory,
                                            const manager::LookUpQuestion& question) {
  const std::string text = TRY(manager::ask_program(view, question));
  Result<manager::LookUpAnswer> answer = config::read_answer(text, question.key, question.fields, question.find_caller);
  if (!answer && answer.error().code() == ENOENT) return fail(ENOENT);
  const Secrets secrets = manager::known_secrets(view, question.pattern);
  std::string fault = answer ? "" : std::string(answer.error().story());
  if (answer) {
    for (const manager::ShareFields& fields : answer->shares) {
      const config::InsideNamespace inside = config::find_inside(fields, directory);
      if (!inside.key.empty()) fault = quote(inside.path) + " lies inside the namespace";
    }
    for (std::string& note : answer->notes) note = secrets.mask(note);
    answer->refused = secrets.mask(answer->refused);
    if (!answer->refused.empty()) tell_refused(question.fields.name, answer->refused);
  }
  if (fault.empty()) return answer;
  fault = question.argv.front() + " has answered what is no share: " + fault;
  return fail(EHOSTDOWN, secrets.mask(fault));
}

/// For the control tree.
fuse::OvermountUsers as_shown(UserLooks::Found looked, const std::vector<std::uint64_t>& overmounts) {
  fuse::OvermountUsers shown{.in = {}, .unseen = looked.text_of_unseen(), .cost = looked.all.cost};
  for (std::size_t i = 0; i < overmounts.size(); ++i) {
    if (looked.all.in[i].processes > 0) shown.in.insert_or_assign(overmounts[i], std::move(looked.all.in[i]));
  }
  return shown;
}

}  // namespace

void Server::reserve_descriptors() {
  if (const Result<> lowered = sys::lower_file_limit(reserved_descriptors()); !lowered)
    log::warning("{}", lowered.error().message());
}

fuse::OpenFiles::Limits Server::limits_of_open_files() {
  const std::uint64_t limit = sys::file_limit() - reserved_descriptors();
  const std::uint64_t end = limit - sys::descriptor_reserve(limit);
  return {.end = static_cast<int>(end), .per_user = end / 2};
}

Result<> Server::make_manager() {
  native_ = std::make_unique<NativeShares>(NativeShares::Setup{.agent = setup_.agent.channel(),
                                                               .directory = setup_.directory,
                                                               .namespace_mount = setup_.mount.id,
                                                               .keeper = setup_.keeper_pid});
  manager::ManagerSetup setup;
  setup.native = native_.get();
  // mount.berth is ended by umount(8), which a mount on the namespace would stand in the way of; and without root none
  // can be (Passthrough).
  using AutoAccess = manager::ManagerSetup::AutoAccess;
  setup.auto_access = sys::is_own_root()  ? AutoAccess::kNoRoot
                      : setup_.background ? AutoAccess::kEndedByUmount
                                          : AutoAccess::kNative;
  setup.kept = &kept_memory_.mounts;
  setup.configuration = setup_.configuration_number;
  setup.on_catalog_change = [this](const std::vector<std::string>& names,
                                   const std::vector<std::shared_ptr<manager::Share>>& shares) {
    names_->forget_names(names, *session_);
    for (const std::shared_ptr<manager::Share>& share : shares) shares_->on_mounted(*share);
    send_counts();
  };
  setup.drop_unused = [this](const manager::Share& share) { shares_->drop_unused(share); };
  setup.is_known = [this](const manager::Share& share, bool below) { return shares_->is_known(share, below); };
  setup.takes_over = record_.servers > 1;
  setup.max_forgotten = number_for_tests("BERTH_MAX_FORGOTTEN", setup.max_forgotten);
  if (survives()) {
    setup.replace = [this] {
      log::info("shares that are gone take memory: another server takes over, and frees it");
      setup_.servers_end.send({.kind = Message::Kind::kReplace});
    };
  }
  setup.berth_directory = setup_.berth_directory;
  if (setup_.groups.delegated) {
    groups_ = std::make_shared<manager::ProgramGroups>(setup_.groups.delegated.get());
    setup.groups = groups_;
  }
  setup.max_concurrent_mounts = setup_.configuration.settings.max_concurrent_mounts;
  setup.instances = {.in_all = setup_.configuration.settings.max_instances,
                     .of_template = setup_.configuration.settings.max_instances_per_template,
                     .of_user = setup_.configuration.settings.max_instances_per_user};
  setup.max_mounts_per_server = setup_.configuration.settings.max_mounts_per_server;
  const manager::HostView view{.mount_namespace = host_.get(),
                               .berths = setup_.berth_directory,
                               .shares = setup_.directory,
                               .shown = setup_.mount.mounter ? std::string() : setup_.directory,
                               .questions = setup_.groups.questions.get()};
  setup.backends = manager::make_backends(view);
  setup.list_keys = [view](const manager::LookUpQuestion& question) { return manager::list_keys(view, question); };
  setup.ask_program = [view, directory = setup_.directory](const manager::LookUpQuestion& question) {
    return ask_for_share(view, directory, question);
  };
  setup.on_event = [this](const manager::Event& event) { on_event(event); };
  setup.on_output = [this](const std::string& share, std::string_view lines) { on_output(share, lines); };
  setup.store = state_.open_store();
  setup.store_ends_with_berth = !setup_.state;
  setup.host = state_.begin_host(setup.store.get(), clock_.wall_now());
  setup.on_host_change = [this](const manager::HostState& host) { state_.keep_host(host); };
  setup.before_unmount = [this](manager::Share& share, int root, bool force) {
    shares_->before_unmount(share, root, force);
  };
  setup.ask_root = manager::ask_root;
  setup.waiting_in = [this](const manager::Share& share) { return waiting_in(share); };
  setup.after_mount = [this](manager::Share& share) { shares_->on_mounted(share); };
  manager_ = TRY(manager::Manager::make(std::move(setup), setup_.configuration.catalog, clock_));
  setup_.configuration.catalog = {};
  return {};
}

void Server::warn_of_absent_sources() const {
  std::vector<std::pair<std::string, std::string>> sources;
  for (const auto& [name, share] : *manager_->directory()) {
    if (share->spec().origin() == "--share") sources.emplace_back(name, share->spec().sources().front());
  }
  if (sources.empty()) return;
  // One may be on a disk or a server that does not answer.
  Result<std::thread> thread = sys::start_thread("berth-look", [sources = std::move(sources)] {
    for (const auto& [name, source] : sources) {
      struct stat found {};
      const int code = ::stat(source.c_str(), &found) != 0 ? errno : S_ISDIR(found.st_mode) ? 0 : ENOTDIR;
      if (code == 0) continue;
      log::warning("--share: the source {} of {}: {}; an access to the share fails until it is there", quote(source),
                   quote(name), errno_text(code));
    }
  });
  if (thread) thread->detach();
}

std::string Server::waiting_in(const manager::Share& share) const {
  const fuse::Unanswered found = shares_->unanswered_in(share);
  if (found.callers == 0) return "";
  const char* const wait = found.callers == 1 ? " caller waits" : " callers wait";
  return std::to_string(found.callers) + wait + ", the first in " + found.operation;
}

void Server::make_file_systems() {
  shares_ = std::make_unique<fuse::ShareFs>(fuse::ShareFs::Setup{.manager = *manager_,
                                                                 .kept = &kept_memory_.fuse,
                                                                 .requests = &requests_,
                                                                 .open_files = limits_of_open_files(),
                                                                 .passthrough = &passthrough_});
  fuse::ControlSetup control;
  control.version = BERTH_VERSION;
  control.directory = setup_.directory;
  control.arguments = setup_.arguments;
  control.keeper = setup_.keeper_pid;
  control.server = sys::proc::own_process();  // /proc is the host's
  control.servers = record_.servers;
  control.events = &kept_memory_.fuse.events;
  control.logs = &kept_memory_.fuse.logs;
  control.upgrade = [this](std::uint64_t request, manager::DoneCallback done) {
    if (record_.upgrade_done == request) {
      return manager_->after_names_told(
          [done = std::make_shared<manager::DoneCallback>(std::move(done))] { (*done)({}); });
    }
    upgrade_.ask(request, std::move(done));
  };
  control.reload = [this](bool dry_run, manager::DoneCallback done) { reloader_.ask(dry_run, std::move(done)); };
  control.last_reload = [this](bool dry_run) { return dry_run ? reloader_.last_dry_run() : reloader_.last_answer(); };
  control.sources = [this] { return sources_.views(); };
  control.group = setup_.configuration.settings.control.group;
  control.readable_by_everyone = setup_.configuration.settings.control.readable_by_everyone;
  control.owner = ::geteuid();
  control.max_nodes = setup_.configuration.settings.max_nodes;
  control.nodes = [this] { return shares_->counts().nodes; };
  control.load = [this] {
    fuse::InFlight& in_flight = session_->in_flight();
    return fuse::ServerLoad{.requests = in_flight.handled(),
                            .stuck_threads = in_flight.stuck_threads(),
                            .open_files = shares_->counts().handles};
  };
  if (groups_) control.helper_memory = [this](const manager::Share& share) { return groups_->memory(share.berth()); };
  control.users_of = [this](const manager::Share& share, const fuse::UsersWanted& wanted) {
    return shares_->users_of(share, wanted);
  };
  control.look_at_overmounts = [this](const std::vector<std::uint64_t>& overmounts) {
    return as_shown(native_->look_at_users(overmounts), overmounts);
  };
  control.unanswered_in = [this](const manager::Share& share) { return shares_->unanswered_in(share); };
  control_ = std::make_unique<fuse::ControlTree>(*manager_, clock_, std::move(control));
  tree_ = control_.get();
  names_ = std::make_unique<fuse::Namespace>(
      fuse::Namespace::Setup{.manager = *manager_,
                             .shares = *shares_,
                             .control_root = [this] { return control_->root_entry(); },
                             .control_attributes = [this] { return control_->root_attributes(); },
                             .directories = &kept_memory_.fuse.directories,
                             .servers = record_.servers,
                             .inode_bits = static_cast<unsigned>(setup_.configuration.settings.inode_bits)});
}

void Server::on_event(const manager::Event& event) {
  event_writer_.write(event);
  if (fuse::ControlTree* const tree = tree_.load()) tree->count_event(event);
  if (event.kind == manager::Event::Kind::kMounted) ++mounted_;
  if (event.kind == manager::Event::Kind::kUnmounted && mounted_ > 0) --mounted_;
  if (event.kind == manager::Event::Kind::kMounted || event.kind == manager::Event::Kind::kUnmounted) send_counts();
}

void Server::on_output(const std::string& share, std::string_view lines) {
  event_writer_.write_output(share, lines);
  // What a program has written that was taken over, before there is a tree.
  if (fuse::ControlTree* const tree = tree_.load()) tree->append_output(share, lines);
}

}  // namespace berth::daemon
