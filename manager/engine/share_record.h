#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "manager/engine/hurry.h"
#include "manager/engine/life_cycle.h"
#include "manager/engine/manager.h"
#include "manager/engine/mount_operation.h"

namespace berth::manager {

struct Waiter {
  WaiterId id;
  TimePoint deadline;
  LeaseCallback done;
};

struct NativeWaiter {
  TimePoint deadline;
  NativeCallback done;
};

struct ShareRecord;
/// A share that another one requires, and what keeps it mounted.
struct Required {
  ShareRecord* of;
  Lease lease;
};
/// The shares that are being mounted for an attempt that requires them.
struct Gathering {
  life_cycle::StartMount start;
  TimePoint began;
  std::vector<std::string> names;
  std::vector<Required> held;  ///< of the first ones
};

/// A thread that asks the root of a share, and may hang.
struct Probe {
  std::atomic<bool> has_begun{false};
};
/// Whether a mounted share answers.
struct Health {
  std::optional<TimePoint> look_at;  ///< when to look next; nothing: it is not watched
  TimePoint answered{};              ///< when it last answered, as far as is known
  std::shared_ptr<Probe> probe;      ///< a probe that has not come back; null: none
};

/// The root of a mount that was given up with users inside.
struct RetiredRoot {
  UniqueFd root;
  LeasedMount* mount;
};

/// What the control thread knows of a share that has been wanted at least once.
struct ShareRecord {
  explicit ShareRecord(Share& of) : share(of) {}
  Share& share;
  life_cycle::State state;
  WallTime since{};
  RealMount mount;
  std::unique_ptr<AttemptPrograms> stray_programs;  ///< of a mount that an earlier server made and had not noted yet
  std::unique_ptr<AttemptPrograms> stray_unmount;   ///< of an unmount that an earlier server had begun
  std::vector<RetiredRoot> retired_roots;           ///< of forced unmounts, until their users have left
  std::list<Waiter> waiters;                        ///< in the order of their deadlines
  std::vector<DoneCallback> unmount_waiters;
  std::shared_ptr<Hurry> operation;         ///< the mount or unmount that runs; what others bring is dropped
  std::size_t stuck_mounts = 0;             ///< others that have not come back
  std::uint32_t berth = 0;                  ///< where it is mounted, or about to be: berth_of()
  std::list<NativeWaiter> native_waiters;   ///< in the order of their deadlines
  std::map<Attachment, Lease> attachments;  ///< an empty lease: it was restored, and the share not mounted since
  /// Attachments that are being recorded, and the callers that wait to do something with one of them next.
  std::map<Attachment, std::deque<Task>> pending_attachments;
  std::size_t attaching = 0;               ///< of these, those that are being made
  std::size_t without_lease = 0;           ///< attachments with an empty lease
  std::optional<TimePoint> restore_at;     ///< when to mount it for those
  std::uint32_t restore_attempts = 0;      ///< attempts at that, so far
  std::vector<Required> required;          ///< from before its mount until nothing is mounted
  std::multiset<std::string> required_by;  ///< the shares that hold this one so
  std::shared_ptr<Gathering> gathering;    ///< of the attempt that runs; null: nothing is waited for
  std::optional<TimePoint> timer;          ///< of the life cycle
  std::optional<TimePoint> scheduled;      ///< its slot in timers_
  std::uint64_t overmount = 0;             ///< NativeAccess::overmount(): over its directory, or with processes in it
  std::string unseen;                      ///< why it is not known whether there are more; "": it is
  bool was_native = false;                 ///< an earlier manager has overmounted it already: so for its next mount
  MountRecord* kept = nullptr;             ///< the record that outlives this manager
  bool failure_is_kept = false;            ///< `kept` holds a failure as well
  int source_number = 0;                   ///< of the directory that its source is in; 0: not watched
  std::vector<int> way_numbers;            ///< of what the walk to its source goes through
  bool checking_source = false;            ///< whether it is still what is mounted
  bool check_source_again = false;         ///< something has happened meanwhile
  std::string source;                      ///< that was mounted last
  std::string avoided;                     ///< a source that has stopped answering, until another one is mounted
  bool looking_for_replica = false;
  std::optional<ShareSpec> pending;  ///< of the share that takes its place when it is not in use
  std::uint64_t mounts = 0;
  std::uint64_t failures = 0;
  std::optional<FailureReport> last_failure;
  bool is_failing = false;  ///< the last attempt has failed with that failure
  std::string busy;
  Health health;
  std::string held;  ///< what still has its file system mounted after the unmount; "": nothing
};

}  // namespace berth::manager
