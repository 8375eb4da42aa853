#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "manager/backends/source_watch.h"
#include "manager/engine/catalog_plan.h"
#include "manager/engine/hurry.h"
#include "manager/engine/instances.h"
#include "manager/engine/kept_catalog.h"
#include "manager/engine/life_cycle.h"
#include "manager/engine/look_up.h"
#include "manager/engine/manager.h"
#include "manager/engine/mount_operation.h"
#include "manager/engine/mount_slots.h"
#include "manager/engine/share_record.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/rate.h"
#include "src/lib/sys/poller.h"
#include "src/lib/sys/task_pool.h"

namespace berth::manager {

/// What the manager's control thread works on.
///
/// Everything but the queue of commands belongs to that one thread, which never blocks: other threads post commands,
/// pool threads do what may block and post the outcome.
///
/// Threading: post(), on_left(), directory(), find(), templates(), host(), state_report() and wants_room() from any
/// thread; the rest on the control thread.
class Manager::Core final : public LeaveListener, public std::enable_shared_from_this<Manager::Core> {
 public:
  static Result<std::shared_ptr<Core>> make(ManagerSetup setup, const Catalog& catalog, const Clock& clock);
  ~Core() override;

  void run();          ///< until quit() has been posted
  bool run_pending();  ///< runs what is due now; true if there was anything
  void post(Task command);
  void on_left(Share& share) noexcept override;
  /// Of a lost mount: those for which it is to be mounted again. A share that is removed from the configuration is not.
  [[nodiscard]] static std::uint64_t users_left_behind(const Share& share) {
    return share.is_removed() ? 0 : share.users();
  }

  [[nodiscard]] std::shared_ptr<const Directory> directory() const;
  [[nodiscard]] std::shared_ptr<Share> find(std::string_view name) const;
  [[nodiscard]] std::shared_ptr<const Catalog::Map> templates() const;
  [[nodiscard]] std::vector<FailedLookUp> failed_look_ups() const;
  [[nodiscard]] std::shared_ptr<const std::vector<std::string>> browsed(const std::string& prefix) const;
  [[nodiscard]] std::shared_ptr<const Directory> shown() const;
  [[nodiscard]] std::vector<std::shared_ptr<Share>> removed() const;
  [[nodiscard]] std::map<std::uint64_t, std::shared_ptr<Share>> incarnations() const;
  void after_names_told(Task then);
  [[nodiscard]] std::vector<std::string> untold() const { return {untold_.begin(), untold_.end()}; }
  [[nodiscard]] StateReport state_report() const;
  [[nodiscard]] HostStatus host() const;
  [[nodiscard]] WaiterId next_waiter() noexcept { return next_waiter_.fetch_add(1, std::memory_order_relaxed) + 1; }
  [[nodiscard]] bool manual() const noexcept { return setup_.manual; }
  /// True for the first caller since the last make_room().
  [[nodiscard]] bool wants_room() noexcept { return !room_wanted_.exchange(true); }

  // Commands; on the control thread.
  /// Waits until the share is mounted. `reason`: of the mount, if one begins with it. `done` is called here, on the
  /// control thread, perhaps before this returns, and only posts or submits.
  void await_mount(Share& share, WaiterId id, const char* reason, LeaseCallback done);
  /// For await_mount(): has `done` called on a thread for callbacks, as a use of this generation until that has ended.
  LeaseCallback on_callback_thread(LeaseCallback done);
  /// The same until `deadline`.
  void await_mount_until(Share& share, WaiterId id, const char* reason, TimePoint deadline, LeaseCallback done);
  void interrupt(Share& share, WaiterId id);
  /// `in_a_row`: how many shares lead here by `requires`.
  void retry(Share& share, std::size_t in_a_row = 1);
  void feed(Share& share, const life_cycle::Input& happening);
  void unmount(Share& share, bool force, DoneCallback done);
  void make_room();
  // Where `asked` is removed: of the share that has its name now.
  void attach(Share& asked, Attachment attachment, DoneCallback done);
  void detach(Share& asked, const Attachment& attachment, DoneCallback done);
  void make_instance(Share& asked, const std::string& instance, DoneCallback done);
  void remove_instance(Share& asked, const std::string& instance, DoneCallback done);
  void restore(StoredState kept);
  void take_over_native(Share& share);
  void await_native(Share& share, NativeCallback done);
  void drain(DoneCallback done);
  void resume(DoneCallback done);
  void begin_stop();
  void unmount_idle();
  void force_stop();
  /// Shares that are not idle, and changes that are on their way to the disk.
  [[nodiscard]] std::size_t active() const noexcept { return active_ + (committing_ ? 1 : 0) + recording_; }
  void quit() noexcept { quit_ = true; }

  void reload(Catalog catalog, bool dry_run, ReloadCallback done);
  void remount(Share& share, bool force, DoneCallback done);
  void look_up(const std::string& name, uid_t user, ShareCallback done);
  void browse(const std::string& prefix, uid_t user, ShareCallback done);
  /// What the kernel may not have been told of is told.
  void begin_catalog();

  void take_over_mounts();
  void end_stray_look_ups();
  [[nodiscard]] std::vector<int> kept_descriptors() const;

  /// Waits until no callback runs.
  void drain_callbacks();
  /// Gives up on threads that are stuck in the kernel.
  void abandon_threads() noexcept;
  [[nodiscard]] StopReport stop_report() const;
  [[nodiscard]] bool has_stuck_threads() const noexcept { return stuck_ > 0; }

 private:
  /// An operation of this generation, from its acceptance to the end of its callback.
  class Operation {
   public:
    explicit Operation(Core& core) : core_(core.weak_from_this()) { ++core.operations_under_way_; }
    Operation(Operation&&) noexcept = default;
    Operation& operator=(Operation&&) = delete;
    ~Operation() {
      if (const std::shared_ptr<Core> core = core_.lock()) core->post([raw = core.get()] { raw->end_operation(); });
    }

   private:
    std::weak_ptr<Core> core_;  ///< null when moved from
  };

  using Record = ShareRecord;

  /// A change of an attachment on its way to the disk.
  struct PendingChange {
    AttachmentStore::Change change;
    DoneCallback done;  ///< on the control thread
  };

  /// Mounts of one share that have not come back, beside which another one may begin.
  static constexpr std::size_t kMostStuckMounts = 4;

  /// A share after its unmount.
  struct Released {
    Record* record;
    NativeAccess::Unmounted unmounted;
    std::shared_ptr<Hurry> operation = {};
    bool is_ended = false;  ///< the unmount has been told already: this is another look
  };

  // Tags of what the control thread polls; helpers are polled under their record's address.
  static constexpr std::uint64_t kMountTableTag = 1;
  static constexpr std::uint64_t kSourceTag = 2;

  Core(ManagerSetup setup, const Clock& clock, sys::Poller poller);

  Record& record_of(Share& share);
  [[nodiscard]] Record* find_record(Share& share) const;

  Result<> begin_catalog_with(const Catalog& wanted);
  void take_over_catalog(KeptCatalog kept);
  Result<> check_kinds(const std::vector<ShareSpec>& specs) const;
  Result<CatalogPlan> plan(const Catalog& next);
  void plan_change(CatalogPlan& plan, const CatalogDifference::Changed& changed);
  void plan_new(CatalogPlan& plan, const ShareSpec& spec) const;
  [[nodiscard]] ReloadReport::Share report_of(Share& share) const;
  [[nodiscard]] bool is_mount_free(Share& share) const;
  Result<> commit(const CatalogLog::Change& change);
  [[nodiscard]] CatalogLog::Change whole_catalog() const;
  void carry_out(CatalogPlan& plan);
  void change_directory(const CatalogPlan& plan);
  void publish_shown();
  void tell_change(const CatalogPlan& plan, Task then);
  void tell_names(std::set<std::string> names, std::vector<std::shared_ptr<Share>> policies, Task then);
  void change_policy(Share& share, const ShareSpec& spec);
  void leave(Record& record);
  void look_at_leaving(Record& record);
  void replace(Record& record);
  void unmount_if_pending(Record& record);
  void hand_attachments_on(Record& from, Share& to);
  [[nodiscard]] bool is_held(const Record& record) const;
  [[nodiscard]] bool is_over(Share& share) const;
  void look_at_removed();
  void note_forgotten();
  void publish_templates();
  [[nodiscard]] const ShareSpec* template_of(std::string_view name) const;
  void answer(ShareCallback done, Result<std::shared_ptr<Share>> found);
  bool restore_instance(const StoredAttachments& one);
  void ask_sources();
  void end_look_ups();
  [[nodiscard]] SourceAnswer ask_source(const LookUp& look_up, const std::string& name);
  void on_source_asked(const std::string& name, const SourceAnswer& answer);
  void note_refused(const std::string& name, const SourceAnswer& answer, const SharePolicy& policy);
  void begin_look_up(const std::string& name, const ShareSpec& pattern, bool is_listing, Looker looker);
  void on_listed(LookUp& look_up, const std::string& name, const SourceAnswer& answer);
  void note_answered(const std::string& name);
  void note_failed(const std::string& name, const SourceAnswer& answer);
  void note_held(const std::string& name);
  void ask_again();
  void on_asked_again(const std::string& name, const SourceAnswer& answer, const ShareSpec& pattern);
  void change_instances(const std::string& name, const std::vector<ShareSpec>& specs);
  void tell_notes(const std::string& name, const std::vector<std::string>& notes);
  [[nodiscard]] const ShareSpec& wanted_spec(Share& share) const;
  void take_over_look_ups(KeptMounts& area);
  [[nodiscard]] bool is_unused(Share& share) const;
  [[nodiscard]] std::vector<std::shared_ptr<Share>> instances_of(const std::string& looked_up) const;
  [[nodiscard]] std::vector<const Instances::Instance*> unused_instances(Instances::Full full, const std::string& name,
                                                                         uid_t user) const;
  Result<> plan_room(CatalogPlan& plan, const std::string& name, uid_t user, std::size_t count) const;
  void take_over_instances(const std::map<std::string, uid_t>& instances);
  Result<> make_instances(const std::string& name, std::vector<ShareSpec> specs, uid_t user);
  [[nodiscard]] bool is_name_free(const std::string& name) const;
  void look_at_instances();
  void forget_instances();
  [[nodiscard]] bool may_be_forgotten(const std::shared_ptr<Share>& share, const Instances::Instance& instance,
                                      TimePoint now);
  void plan_instances(CatalogPlan& plan, const Catalog& next);
  void plan_templates(CatalogPlan& plan, const Catalog& next);
  [[nodiscard]] life_cycle::Step step_of(const Record& record, const life_cycle::Input& happening) const;

  MountRecord* kept_record_of(Record& record);
  void keep_state(Record& record, MountRecord::State state);
  void keep_mounted(Record& record);
  void keep_last_failure(Record& record);
  static void keep_failure(const Record& record, FailureRecord& slot);
  void take_over_failure(Record& record, const FailureRecords& kept);
  void take_over_mount(Record& record, const MountRecord& kept);
  void read_inherited_output(Record& record, UniqueFd pipe);
  void settle_unfinished(Record& record, MountRecord& kept);
  void watch_helper(Record& record);
  Result<> watch_sources();
  void watch_source(Record& record);
  void unwatch_source(Record& record);
  void check_sources(const std::vector<int>& numbers);
  void check_source(Record& record);

  void apply(Record& record, life_cycle::Step step);
  void perform(Record& record, life_cycle::Effect& effect);
  void publish(Record& record);
  void emit(Event event);
  void emit(Record& record, Event::Kind kind, std::uint32_t attempt, Duration took, std::string reason, int code = 0);

  /// Runs `work` on a pool thread; by hand, later on this one.
  void submit(sys::TaskPool* pool, Task work);
  void begin_mount(Record& record, const life_cycle::StartMount& start);
  void gather(Record& record, const std::shared_ptr<Gathering>& gathering);
  void await_required(Record& record, const std::shared_ptr<Gathering>& gathering, Share& share);
  void fail_gathering(Record& record, const Error& error);
  static void end_gathering(Record& record);
  void hold(Record& record, std::vector<Required> required);
  void hold_mounted(Record& record);
  [[nodiscard]] std::shared_ptr<Share> find_required(const std::string& name) const;
  [[nodiscard]] static Error with_requirers(const Record& record, const Error& error);
  [[nodiscard]] static std::vector<RequiredShare> required_shares(const Record& record);
  void enqueue_mount(Record& record, const life_cycle::StartMount& start);
  void start_queued_mounts();
  void release_mount_slot(Record& record);
  void hurry_operation(Record& record);
  void abandon_operation(Record& record);
  [[nodiscard]] std::string berth_of(const Record& record) const;
  void start_mount(Record& record, TimePoint deadline);
  /// Blocks on the disk.
  [[nodiscard]] std::function<void(std::string_view)> output_of(const Share& share) const;
  void on_mount_ended(Record& record, tl::expected<RealMount, AttemptFailure> outcome, Duration took);
  void undo_abandoned(Record& record, std::string berth, tl::expected<RealMount, AttemptFailure> outcome);
  void start_unmount(Record& record, const life_cycle::StartUnmount& start);
  void on_unmount_ended(Record& record, std::shared_ptr<Hurry> operation, RealMount mount, Result<> outcome);
  [[nodiscard]] static std::uint64_t device_to_look_for(const Share& share, int root) noexcept;
  void look_for_holders(Released released);
  void look_for_holders();
  void look_for_holders_again();
  void look_for_inherited_holders(Record& record, std::uint64_t released);
  static void keep_released(Record& record, std::optional<std::uint64_t> device) noexcept;
  void on_holders_found(std::vector<Released> released, std::vector<std::string> holders);
  [[nodiscard]] std::string held_shares() const;
  [[nodiscard]] bool is_to_be_native(const Share& share) const;
  [[nodiscard]] NativeDoor native_door(const Record& record) const;
  [[nodiscard]] std::string why_with_berth(const Record& record) const;
  void start_overmount(Record& record, TimePoint deadline);
  void update_native_waiters(Record& record);
  void answer_native_waiters(const Record& record, std::list<NativeWaiter> waiters);
  void start_removing_overmount(Record& record, NativeAccess::When when, TimePoint deadline);
  void note_overmount(Record& record, std::uint64_t overmount);
  void count_users();
  void on_users_counted(const std::vector<std::pair<Record*, std::uint64_t>>& counted,
                        const Result<NativeAccess::Users>& users, Duration took);
  void add_native_users(ReloadReport& report) const;
  [[nodiscard]] bool is_left_native(const Record& record) const;
  void open_gate(Record& record);
  void close_gate_if_idle(Record& record);

  void watch_health(Record& record);
  void look_at_health(Record& record);
  void start_probe(Record& record);
  void on_probed(Record& record, const std::shared_ptr<Probe>& probe, const Result<>& asked);
  void on_answer(Record& record);
  void look_for_replica(Record& record);

  void admit_waiters(Record& record);
  void fail_waiters(Record& record, const Error& error);
  void answer(DoneCallback done, Result<> result);
  void answer(NativeCallback done, bool native);
  void on_attached(Share& share, Attachment attachment, Result<Lease> lease, DoneCallback done);
  [[nodiscard]] Share& holder_of(Share& share) const;
  void add_attachment(Record& record, const Attachment& attachment, Lease lease);
  void remove_attachment(Record& record, const Attachment& attachment);
  void end_change(Record& record, const Attachment& attachment);
  void record_change(AttachmentStore::Change change, DoneCallback done);
  void start_commit();
  void on_committed(std::vector<PendingChange> changes, std::vector<Result<>> results);
  void note_disk_failure(const Result<>& result);
  void note_repaired(std::optional<DamagedFile> repaired);

  void restore_attachments(Share& share, const std::set<Attachment>& attachments);
  void give_leases(Record& record);
  void restore_later(Record& record, TimePoint at);
  void queue_restore(Record& record);
  void start_restoring();
  void on_restore_tried(Record& record);

  void begin_host(const HostState& host);
  void end_operation();
  /// The same callback, counted as a use until it has run.
  DoneCallback count_operation(DoneCallback done);
  void change_host(const HostState& next);
  void record_host(std::vector<DoneCallback> done);
  void update_shares_for_host();
  void answer_all(std::vector<DoneCallback>& waiters, const Result<>& result);
  void check_drained();
  void check_resumed();
  void publish_host();

  void schedule(Record& record);
  bool run_timers();
  bool run_commands();
  std::optional<TimePoint> next_deadline() const;
  void on_ready(const sys::Poller::Ready& ready);
  void check_lost_mounts();
  void collect_retired(Record& record);

  // Constant after make().
  ManagerSetup setup_;
  const Clock& clock_;
  const BerthDirectory berths_;

  // Used by the control thread only.
  Catalog catalog_;  ///< in force, with what is pending
  CatalogLog catalog_log_;
  std::uint64_t configuration_ = 0;
  std::uint64_t last_incarnation_ = 0;
  std::vector<std::shared_ptr<Share>> removed_;        ///< that anything may still lead to
  std::vector<std::shared_ptr<Share>> over_;           ///< pointers to them may be under way
  std::size_t earlier_specs_ = 0;                      ///< that shares keep for the same reason
  std::size_t most_forgotten_ = setup_.max_forgotten;  ///< of both, until this manager is to be replaced
  std::set<std::string> untold_;                       ///< names of which the kernel may know what they were
  std::size_t telling_ = 0;
  std::vector<Task> told_waiters_;  ///< of after_names_told()
  std::vector<MountRecord*> free_records_;
  std::optional<TimePoint> look_at_removed_at_;
  std::optional<TimePoint> count_users_at_;  ///< in overmounts of shares that are to go
  bool counting_users_ = false;
  Instances instances_;
  std::map<std::string, std::uint64_t> templates_kept_;  ///< their numbers in the log
  std::map<std::string, LookUp> look_ups_;               ///< by the name
  std::deque<std::string> to_ask_;                       ///< of these, those that wait for their turn
  std::vector<std::size_t> free_look_ups_;               ///< slots of KeptMounts::look_ups
  std::array<std::unique_ptr<AttemptPrograms>, KeptMounts::kMostLookUps> stray_look_ups_;  ///< of a dead server
  std::size_t asking_ = 0;
  std::unordered_map<uid_t, std::size_t> asking_of_user_;
  std::optional<TimePoint> look_at_instances_at_;
  Rate failures_told_{
      64, std::chrono::seconds(2)};  ///< of look-ups, as events: any user can have a program fail for many names
  std::map<std::string, TimePoint> browsed_until_;  ///< by the names of templates
  sys::Poller poller_;
  std::map<Share*, std::unique_ptr<Record>> records_;
  std::multimap<TimePoint, Record*> timers_;
  MountSlots<Record> mount_slots_;
  std::vector<PendingChange> pending_changes_;  ///< for the commit after the one that runs
  bool committing_ = false;
  std::size_t recording_ = 0;  ///< host states on their way to the disk
  std::size_t active_ = 0;     ///< shares that are not idle
  HostState host_;
  Error refusal_{ESHUTDOWN};  ///< the answer while the host is not up
  bool drained_ = false;      ///< not up, and not only while a resume waits
  bool told_drained_ = false;
  std::atomic<std::size_t> operations_under_way_{0};  ///< other threads only read it
  std::vector<DoneCallback> drain_waiters_;
  std::vector<DoneCallback> resume_waiters_;
  std::deque<Record*> restore_queue_;
  std::size_t restoring_count_ = 0;
  int steps_ = 0;  ///< steps that are being applied, one in the midst of the other
  /// In [0, 1).
  double jitter() { return std::uniform_real_distribution<double>(0, 1)(random_); }
  std::mt19937 random_;
  std::optional<SourceWatch> source_watch_;
  std::unordered_map<int, std::size_t> watched_;  ///< how many shares each of its numbers is of
  UniqueFd mount_table_;                          ///< readable (EPOLLPRI) when the kernel's mount table changed
  std::optional<TimePoint> check_table_at_;
  std::vector<Released> released_;  ///< for the look after the one that runs
  bool looking_for_holders_ = false;
  std::map<Record*, NativeAccess::Unmounted> held_;  ///< shares of which something was found
  std::optional<TimePoint> look_at_held_;            ///< when it is looked for again
  Duration held_pause_{};                            ///< before that
  UniqueFd cancel_;                                  ///< readable when every look-up must be given up
  bool stopping_ = false;
  std::size_t stuck_ = 0;  ///< operations that were abandoned and have not come back
  bool quit_ = false;
  StopReport stopped_;

  // Synchronised by themselves.
  std::atomic<WaiterId> next_waiter_{0};
  std::atomic<bool> room_wanted_{false};       ///< make_room() is on its way
  std::unique_ptr<sys::TaskPool> operations_;  ///< mounts and unmounts
  std::unique_ptr<sys::TaskPool> callbacks_;
  std::unique_ptr<sys::TaskPool> probes_;
  std::unique_ptr<sys::TaskPool> look_up_pool_;  ///< asks sources whether they are there
  std::unique_ptr<sys::TaskPool> disk_;          ///< one thread: the store's

  mutable Mutex mutex_;
  std::shared_ptr<const Directory> directory_ BERTH_GUARDED_BY(mutex_);
  std::shared_ptr<const Directory> shown_ BERTH_GUARDED_BY(mutex_);
  std::shared_ptr<const Catalog::Map> templates_ BERTH_GUARDED_BY(mutex_) = std::make_shared<const Catalog::Map>();
  std::vector<std::shared_ptr<Share>> shown_removed_ BERTH_GUARDED_BY(mutex_);
  std::vector<Task> commands_ BERTH_GUARDED_BY(mutex_);
  StateReport report_ BERTH_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<const std::vector<std::string>>> browsed_ BERTH_GUARDED_BY(mutex_);
  std::vector<FailedLookUp> failed_look_ups_ BERTH_GUARDED_BY(mutex_);
  HostStatus host_status_ BERTH_GUARDED_BY(mutex_);
  std::deque<Task> manual_work_;  ///< manual: instead of the pools
};

}  // namespace berth::manager
