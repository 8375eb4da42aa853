#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "manager/backends/look_up_program.h"
#include "manager/backends/program_groups.h"
#include "manager/engine/instances.h"
#include "manager/engine/mount_record.h"
#include "manager/engine/reload_report.h"
#include "manager/model/backend.h"
#include "manager/model/catalog.h"
#include "manager/model/events.h"
#include "manager/model/look_up_answer.h"
#include "manager/model/native_access.h"
#include "manager/model/share.h"
#include "manager/state/attachment_store.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/name_map.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_function.h"

namespace berth::manager {

/// Names one wait for a mount, so that it can be interrupted. 0 names none.
using WaiterId = std::uint64_t;

using LeaseCallback = UniqueFunction<void(Result<Lease>)>;
using DoneCallback = UniqueFunction<void(Result<>)>;
using ShareCallback = UniqueFunction<void(Result<std::shared_ptr<Share>>)>;
using ReloadCallback = UniqueFunction<void(Result<ReloadReport>)>;
using NativeCallback = UniqueFunction<void(bool native)>;

/// What a manager knows of its state on disk, for people to look at.
struct StateReport {
  std::string directory;  ///< "": attachments live in memory alone
  std::vector<DamagedFile> damages;
  /// Attachments of shares that are not in the catalog: how many, by the share's name.
  std::map<std::string, std::size_t> unknown_shares;
  std::string failure;  ///< why the last change could not be recorded; "" when it could
};

/// A key for which the program of a template has failed.
struct FailedLookUp {
  std::string share;  ///< the name that was looked up
  WallTime when{};
  Error error{0};  ///< what callers are answered, with the story
};

/// What the outside gives to a manager.
struct ManagerSetup {
  std::string berth_directory;  ///< where berths are made: absolute, existing, private to this manager
  /// Control groups for the programs of shares; null: they are started in this process's own.
  std::shared_ptr<ProgramGroups> groups;
  std::size_t max_concurrent_mounts = 16;
  std::size_t max_mounts_per_server = 8;
  Instances::Limits instances;  ///< of shares that templates make
  std::size_t max_waiters_per_share = 4096;
  std::size_t max_attachments_per_share = 16384;
  /// One for each kind; owned by the manager.
  std::map<ShareKind, std::unique_ptr<Backend>> backends;
  /// Where attachments are recorded before a caller is answered. Null: they live in memory alone.
  std::unique_ptr<AttachmentStore> store;
  bool store_ends_with_berth = false;  ///< so its path is not shown
  /// For shares that are to be native; null: none is. Must outlive the manager.
  NativeAccess* native = nullptr;
  /// Where the host stands at the start: next_generation_of(), or what the server before this one had. Recorded by the
  /// caller.
  HostState host{.up = true, .next_generation = 1, .since = {}};
  /// Called with every change of it, on the control thread, before any other notification; must not block.
  std::function<void(const HostState&)> on_host_change;
  /// Whether shares with Access::kAuto are native, where they may be. Else only shares that ask for it are, for this
  /// reason.
  enum class AutoAccess : std::uint8_t { kEndedByUmount, kNative, kNoRoot };
  AutoAccess auto_access = AutoAccess::kNative;
  /// Called with every event, on the control thread; must not block.
  std::function<void(const Event&)> on_event;
  /// Called with the output of programs that have mounted a share, while they run: whole lines, without secrets. On any
  /// thread; must not block.
  std::function<void(const std::string& share, std::string_view lines)> on_output;
  /// Called before a share's real mount is taken away, on a pool thread: closes every descriptor in it that is not
  /// covered by a lease. `root`: a descriptor of its root; -1 where the unmount is forced and a request is inside.
  /// `force`: callers that are stuck in the share are to be answered.
  std::function<void(Share&, int root, bool force)> before_unmount;
  /// Called on a pool thread when a share has been mounted, before any caller is let in; may block.
  std::function<void(Share&)> after_mount;
  /// Asks the root of a mount whether its server answers, on a thread that may hang (ask_root()). Empty: no share is
  /// asked.
  std::function<Result<>(int root)> ask_root;
  /// Answers which callers wait for an answer of a share, in words; "": none. On the control thread; must not block.
  std::function<std::string(const Share&)> waiting_in;
  /// Told on a pool thread when a catalog has changed: `names` lead to another share, to none, or to one for the first
  /// time, and `shares` have another policy. May block. Until it has returned the kernel may have been told of nothing.
  std::function<void(const std::vector<std::string>& names, const std::vector<std::shared_ptr<Share>>& shares)>
      on_catalog_change;
  /// Whether anything of a removed share is known outside, so that a caller may come back that holds no lease (a
  /// working directory). `below`: only what lies below its root counts. Any thread; must not block.
  std::function<bool(const Share&, bool below)> is_known;
  /// Has what is not in use outside of a removed share dropped, so that is_known() tells. On a pool thread.
  std::function<void(const Share&)> drop_unused;
  /// Asks the program of a template for a share: `question.fields` with what it answers. On a thread that may block
  /// until the question's deadline. Errors: ENOENT when there is no such key; else those of the program, with a story
  /// without secrets.
  std::function<Result<LookUpAnswer>(const LookUpQuestion& question)> ask_program;
  /// Lists the keys of a template, likewise. Errors: those of the source, with a story without secrets.
  std::function<Result<std::vector<std::string>>(const LookUpQuestion& question)> list_keys;
  /// Has another manager succeed this one, with a process of its own. On the control thread; must not block. Empty: the
  /// memory of what is forgotten stays.
  std::function<void()> replace;
  /// Shares that are gone, and earlier specifications of others, which any thread may still use: beyond so many the
  /// manager is to be replaced. Each takes about a kilobyte.
  std::size_t max_forgotten = 65536;
  /// Numbers what the catalog was read from: a manager that succeeds one with the same number goes on with the catalog
  /// that is kept, which may have been changed since. 0: it is always the one given.
  std::uint64_t configuration = 0;
  /// What outlives this manager; the next one that gets it takes over what is mounted. Null: there will be no
  /// successor.
  KeptMounts* kept = nullptr;
  /// An earlier manager has reported what begin() takes up.
  bool takes_over = false;
  /// Tests turn the manager by hand: no thread of its own, operations and callbacks run inside run_pending().
  bool manual = false;
};

/// The mount manager: one life cycle a share, run by one control thread that never blocks; mounts and unmounts run on
/// pool threads, each under a deadline.
///
/// The conversation with users is one call, lease(): the share is mounted when it answers, and stays so while the lease
/// is held.
///
/// Threading: any thread may call anything. Each callback comes exactly once, on a pool thread, and may run before the
/// call returns.
class Manager {
 public:
  /// Shares by name, sorted bytewise.
  using Directory = NameMap<std::shared_ptr<Share>>;

  /// What an earlier manager had mounted is there and can be used; nothing happens to it, nor by itself, before
  /// begin(). Errors: EINVAL when a kind of share in the catalog has no backend.
  static Result<std::unique_ptr<Manager>> make(ManagerSetup setup, const Catalog& catalog, const Clock& clock);
  /// As stop() with no patience.
  ~Manager();

  /// The descriptors that mounts are held by (MountRecord); before anything else is asked.
  [[nodiscard]] std::vector<int> kept_descriptors() const;

  /// The shares there are; an immutable snapshot.
  [[nodiscard]] std::shared_ptr<const Directory> directory() const;
  [[nodiscard]] std::shared_ptr<Share> find(std::string_view name) const;
  /// The templates there are, by their names ("home/*"); an immutable snapshot.
  [[nodiscard]] std::shared_ptr<const Catalog::Map> templates() const;
  /// The share of that name, which a template makes where there is none yet: for a caller that may, which is the user
  /// `user`. Its source may be asked whether it is there, so the answer can take the template's `mount_timeout`; a
  /// program, its `lookup_timeout`.
  /// Errors: ENOENT; EAGAIN when too many were made or are asked for; ETIMEDOUT, ESHUTDOWN; those of the program.
  void look_up(std::string name, uid_t user, ShareCallback done);
  /// The keys that the template of names in `prefix` ("home/", "") lists, sorted; null: it lists none, or has not yet
  /// been asked.
  [[nodiscard]] std::shared_ptr<const std::vector<std::string>> browsed(const std::string& prefix) const;
  /// Has them listed anew, where they are older than the template's `negative_timeout`; answers (with no share) when
  /// that is done or has failed. Errors: EAGAIN when too many are asked for; ETIMEDOUT, ESHUTDOWN.
  void browse(std::string prefix, uid_t user, ShareCallback done);
  /// The keys for which a program has failed last, and has said neither a share nor that there is none since: the
  /// oldest first, bounded.
  [[nodiscard]] std::vector<FailedLookUp> failed_look_ups() const;
  /// The same with removed shares that are in use, where no other share has their name.
  [[nodiscard]] std::shared_ptr<const Directory> shown() const;
  /// All removed shares that are in use.
  [[nodiscard]] std::vector<std::shared_ptr<Share>> removed() const;
  /// Every share that anything may still lead to, by its incarnation.
  [[nodiscard]] std::map<std::uint64_t, std::shared_ptr<Share>> incarnations() const;
  /// Names of which the kernel may know what they were: for a server that takes over, before begin(), which has it
  /// told.
  [[nodiscard]] std::vector<std::string> untold() const;

  /// Puts `catalog` in the place of the one in force, by their difference. Nothing happens to what is the same. An
  /// added share is there when this answers. Of a changed one the policy is in force; another mount is, where the old
  /// one is not in use, and else as soon as it is not. A removed one is gone for look-ups; callers inside go on, and it
  /// is unmounted when the last one has left and the last attachment is given back. `dry_run`: answers what would be,
  /// and does nothing.
  /// Errors: EINVAL when a kind of share has no backend, ENOSPC when there is no room to keep it, ESHUTDOWN; nothing
  /// has changed then.
  void reload(Catalog catalog, bool dry_run, ReloadCallback done);
  /// Mounts a share anew, by what is pending for it. Errors: EBUSY when it is in use and `force` is not set; as
  /// mount().
  void remount(Share& share, bool force, DoneCallback done);

  /// A lease on `share`: at once when it is mounted, else after the mount that this starts or joins.
  /// Errors (to `done`): the attempt's own (EHOSTDOWN, EACCES, ENODEV, ...), ETIMEDOUT when `mount_timeout` passed,
  /// EINTR after interrupt(), EAGAIN when too many wait already, ESHUTDOWN while stopping or drained.
  WaiterId lease(Share& share, LeaseCallback done);
  /// Ends the wait of `waiter` with EINTR, if it still waits.
  void interrupt(Share& share, WaiterId waiter);

  /// Mounts now, and forgets a remembered error first. Errors: as lease().
  void mount(Share& share, DoneCallback done);
  /// Unmounts now if the share is not in use. Errors: EBUSY with the number of users; with `force` those are given up.
  void unmount(Share& share, bool force, DoneCallback done);
  /// For a share that an earlier manager has overmounted: mounts it, or finds it
  /// mounted, and takes it for native.
  void take_over_native(Share& share);
  /// Mounts a share and overmounts its directory. Answers when that is done, or false: it is not, nor to be
  /// waited for any longer (for a mount that has failed, lease() has the error).
  void await_native(Share& share, NativeCallback done);
  /// Forgets a remembered error, so that the next access tries again at once. Answers at once.
  void retry(Share& share);
  /// A program that used the mount found it dead (ENOTCONN): it is taken away when its users have left.
  void report_lost(Share& share, std::uint32_t generation);

  /// Calls `answer` on the control thread as soon as that is free, which shows that it runs. `answer` must not block,
  /// nor throw.
  void call_back(std::function<void()> answer);
  /// Calls `then` on a callback thread as soon as the kernel has been told of each name that the catalog has changed
  /// (ManagerSetup::on_catalog_change).
  void after_names_told(std::function<void()> then);

  /// From here on shares expire, what was asked for is done, and the callbacks of ManagerSetup are called.
  ///
  /// - Takes up the attachments that were on disk at the start: they are shown when it returns, and so are the problems
  ///   in state_report(). Mounts the shares that have any: at once those that are mounted already, the rest one after
  ///   the other, with jitter, and again and again while that fails.
  /// - What is of no share in the catalog stays on disk. Events report it, unless a predecessor's have.
  ///
  /// To be called once, before a caller can attach or detach, and when users that were inside at a take-over are inside
  /// again.
  void begin(StoredState kept = {});
  /// What is not as it should be with what is on disk.
  [[nodiscard]] StateReport state_report() const;

  /// Adds an attachment and mounts; answers when it is mounted, and the attachment on disk. The same pair twice is one
  /// attachment. An attachment whose mount fails, or that cannot be recorded, is not kept.
  /// Errors: as lease(); EINVAL for a bad name, EMLINK at max_attachments_per_share; the disk's own (ENOSPC, EROFS,
  /// ...).
  void attach(Share& share, Attachment attachment, DoneCallback done);
  /// Gives an attachment back; answers when that is on disk. Errors: ENOENT when there is no such attachment; the
  /// disk's own. Nothing is unmounted then.
  void detach(Share& share, Attachment attachment, DoneCallback done);

  /// Makes the directory of an instance that has no attachment yet; it is on disk when this answers, as attachments
  /// are, and stays until it is removed. Errors: EEXIST, EINVAL for a bad name, EMLINK at max_attachments_per_share;
  /// the disk's own.
  void make_instance(Share& share, std::string instance, DoneCallback done);
  /// Errors: ENOENT, ENOTEMPTY while it has attachments; the disk's own.
  void remove_instance(Share& share, std::string instance, DoneCallback done);

  /// Gives out nothing any more: lease(), mount() and attach() fail with ESHUTDOWN from here on, with a story. What has
  /// begun continues, users that are inside stay, and what is not used any more is unmounted; detach() and unmount()
  /// still work. Answers when nothing is mounted and no caller waits, however long that takes. Drained already: a
  /// warning, and the same wait. On disk when it answers: the host is still drained after a restart.
  ///
  /// Calls off a resume() that waits. Errors: ECANCELED when a resume() ended it; EAGAIN when too many wait already.
  void drain(DoneCallback done);
  /// Gives out shares again, in a new generation, as soon as every operation that was begun before has ended: the
  /// lease(), mount() and attach() calls that are not answered yet. Leases that are held go on. Not drained: a warning,
  /// and a new generation all the same; nothing new begins while it waits. Several that wait are answered by one
  /// generation. Errors: ECANCELED when a drain() called it off; EAGAIN when too many wait already.
  void resume(DoneCallback done);
  [[nodiscard]] HostStatus host() const;

  /// Descriptors are running out: a few of the shares that are mounted and not in use are unmounted, the ones that were
  /// not used for longest first.
  void make_room();

  struct StopReport {
    std::size_t unmounted = 0;
    std::size_t given_up = 0;  ///< were in use or did not answer, and were detached
  };
  /// Refuses new leases with ESHUTDOWN, then unmounts everything; what is still in use at `deadline` is given up.
  /// Once it has returned no callback runs, unless something was given up: its callback may be stuck in the kernel.
  /// Blocks; not to be called from a callback.
  StopReport stop(TimePoint deadline);
  /// A stop() that waits on another thread, or comes later, has no patience any more.
  void hurry() noexcept { hurry_.store(true, std::memory_order_relaxed); }

  /// With ManagerSetup::manual: does what is pending and due now, until nothing is. True if it did anything.
  bool run_pending();

 private:
  class Core;
  explicit Manager(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
  std::thread control_;
  std::atomic<bool> hurry_{false};
};

}  // namespace berth::manager
