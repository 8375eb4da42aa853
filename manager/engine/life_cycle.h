#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "manager/model/backend.h"
#include "manager/model/events.h"
#include "manager/model/native_access.h"
#include "manager/model/share_status.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/error.h"

/// The life of a share as a pure function: step() answers the next state and what is to be done, and does nothing.
///
///              LeaseWanted               MountEnded ok
///     Idle ──────────────▶ Mounting ─────────────▶ Mounted ◀──────────┐
///      ▲                      │ MountEnded error      │ GateClosed      │ UnmountEnded error
///      │                      ▼                       ▼                 │ (busy)
///      │         LeaseWanted ◀── Failed                 Expiring ────────────┘
///      │                                              │ UnmountEnded ok
///      └──────────────────────────────────────────────┘  (straight to Mounting when wanted again)
///
/// While the host is drained, what is Mounted is draining: its gate is closed, users that are inside stay, and it
/// expires as soon as no user is inside. HostStateChanged begins and ends that.
///
/// Failed it stays, back-off or not, until an attempt succeeds: a share that does not work must not look like one that
/// nothing is known of.
///
/// A mount that is overdue stays Mounting (its thread is still in the kernel) but is shown and answered as failed; if
/// it succeeds after all it is undone. So does one that an unmount by force gives up, which is told to end. One that
/// does not end within kForcePatience is stuck. The next LeaseWanted begins another one beside it, and a RetryWanted or
/// an unmount by force leaves it to itself.
///
/// An unmount by force that finds another unmount has that end, and follows it. One that does not end within
/// kForcePatience is left to itself: the next one takes its place.
///
/// Mounted, it may be stalled: its file system has not answered for stall_timeout. That changes what is shown, and
/// nothing else; it ends with the next answer.
///
/// While Mounted, the directory of a native share is overmounted, and the overmount is removed before the share is
/// unmounted:
///
///           NativeWanted       OvermountDone ok          Timer             OvermountRemoved off
///     kOff ────────────▶ kOvermounting ───────────────▶ kOn ──────────▶ kRemoving ─────────────────▶ kOff, and
///      ▲                  │ not now                ▲                 │ touched, in use        Expiring if
///      └──────────────────┘                        └─────────────────┘                        unused
///
/// NativeWanted mounts as LeaseWanted does, where nothing is mounted; a caller that wants it native sends it again when
/// that has ended.
namespace berth::manager::life_cycle {

/// Nothing is mounted, and the last attempt, if there was one, has succeeded.
struct Idle {};
/// A mount operation runs or waits for its turn.
struct Mounting {
  std::uint32_t attempt = 1;
  TimePoint started;
  bool overdue = false;
  TimePoint retry_at;   ///< overdue: the remembered failure is answered until then
  bool forced = false;  ///< overdue, because an unmount by force has given it up
  TimePoint stuck_at;   ///< overdue: from then on it counts as stuck
};
/// Whether the share's directory is overmounted with its real mount.
enum class Native : std::uint8_t {
  kNever,         ///< it is not to, or has turned out not to work for this mount
  kOff,           ///< it is to when a caller comes in
  kOvermounting,  ///< an operation runs
  kOn,            ///< it does; looked at again at Mounted::check_native_at
  kRemoving,      ///< an operation runs
};
/// Mounted; the gate is open unless the host is drained.
struct Mounted {
  TimePoint since;
  std::optional<TimePoint> unmount_until = {};  ///< a caller waits for an unmount, which is tried until then
  bool draining = false;                        ///< the gate is closed, and no overmount is made any more
  bool stays = false;    ///< it holds the only copy of its files: it is unmounted only when it is asked for by name
  bool resting = false;  ///< draining, and no request is inside: it would be unmounted if it did not stay
  Native native = Native::kNever;
  TimePoint check_native_at = {};  ///< kOn
  bool marked_expired = false;     ///< kOn: no program has been in it since the last look; the next one takes it off
  std::string with_berth = {};     ///< kNever, kOff: why the last attempt to overmount it failed
  std::optional<TimePoint> stalled = {};  ///< since when it has not answered
  std::string forced = {};  ///< while an operation runs: why everything is taken away when it ends; "": it is not
  bool dead = false;        ///< MountLost::is_dead; it is to be taken away
  bool moves = false;       ///< MountLost::moves
  bool wanted = false;      ///< the same: it is in use, and to be mounted again
};
/// Whether an unmount gives up what is in use.
enum class Force : std::uint8_t {
  kNo,      ///< the operation that runs does not
  kWanted,  ///< the same, and it was told to end; if it fails, one that does follows
  kUsed,    ///< the operation that runs does
  kBeside,  ///< the same; an earlier one is stuck, and what it brings is dropped
};
/// An unmount operation runs, the gate is closed.
struct Expiring {
  TimePoint started;
  Force force = Force::kNo;
  bool wanted_again = false;  ///< too late to call the unmount back: mounted again as soon as it is gone
  bool undo = false;          ///< of a mount that came too late: it counts as failed
  bool stale = false;         ///< of a dead mount that is not to be mounted again by itself: the same
  bool native = false;        ///< if it stays mounted after all: whether it is to become native
  bool stays = false;         ///< the same: Mounted::stays
  std::uint32_t failed_attempts = 0;
  double jitter = 0;  ///< MountEnded::jitter of an undone mount
};
/// The last attempt failed; nothing is mounted.
struct Failed {
  std::uint32_t attempts = 1;  ///< in a row, which the back-off grows with; 0: it begins again
  TimePoint retry_at;          ///< before then callers are answered `error`; a later one causes the next attempt
  Error error{0};
};
using State = std::variant<Idle, Mounting, Mounted, Expiring, Failed>;

ShareState name_of(const State& state) noexcept;
/// Whether something is mounted that is to go before the host is drained, or an operation runs.
bool is_active(const State& state) noexcept;
/// Whether NativeWanted overmounts the share now.
bool is_ready_to_overmount(const State& state) noexcept;
/// Whether something is under way after which it may be.
bool may_get_ready_to_overmount(const State& state) noexcept;

// What happens to a share.
struct LeaseWanted {                    ///< a request waits for the mount
  const char* reason = "first access";  ///< of a mount that begins with it
};
struct MountEnded {
  bool success = false;
  Error error{0};          ///< the failure, as callers are answered
  double jitter = 0;       ///< in [0, 1), spreads the next attempt
  bool native = false;     ///< whether it is to become native
  bool lies_over = false;  ///< it is already, since before this manager
  bool stays = false;      ///< Mounted::stays
};
struct UnmountEnded {
  bool success = false;
  Error error{0};
};
struct Timer {  ///< the time set by SetTimer has come
  std::uint64_t users = 0;
  TimePoint last_left;
  double jitter = 0;  ///< as MountEnded::jitter
};
struct BecameIdle {};  ///< the last user left a share that must be unmounted at once
struct GateClosed {};  ///< answer to CloseGateIfIdle: no user was inside
struct GateInUse {
  std::uint64_t users = 0;
};  ///< answer to CloseGateIfIdle
struct UnmountWanted {
  bool force = false;
};
struct RetryWanted {};
struct HostStateChanged {};  ///< drained, or no longer
/// The real mount is dead or gone.
struct MountLost {
  std::string reason;
  std::uint64_t users = 0;  ///< inside, for which it is to be mounted again
  bool is_dead = true;      ///< its file system answers all requests by itself, with errors
  bool moves = false;       ///< another replica is to be mounted, whatever the policy says of dead mounts
};
/// It has not answered for stall_timeout.
struct Silent {
  std::string reason;
};
struct Answered {};      ///< it has answered
struct NativeWanted {};  ///< a caller waits for it to be native
struct OvermountDone {   ///< answer to Overmount
  Error error{0};        ///< code 0: it is overmounted; EAGAIN, EBUSY: not now
};
struct OvermountRemoved {  ///< answer to RemoveOvermount
  NativeAccess::Outcome outcome{};
  Error error{0};       ///< not code 0: it is not known, so the mount may still be there
  bool wanted = false;  ///< a caller waits for it to be native again
};
using Input = std::variant<LeaseWanted, MountEnded, UnmountEnded, Timer, BecameIdle, GateClosed, GateInUse,
                           UnmountWanted, RetryWanted, HostStateChanged, MountLost, Silent, Answered, NativeWanted,
                           OvermountDone, OvermountRemoved>;

// What is to be done about it, in this order.
struct StartMount {
  std::uint32_t attempt;
  TimePoint deadline;
};
struct StartUnmount {
  bool force;
  TimePoint deadline;
  bool native = false;  ///< the overmount must be removed first, whichever processes are in it
  bool dead = false;    ///< MountLost::is_dead
};
struct HurryOperation {};    ///< the mount or unmount that runs, or waits for its turn, is to end at once
struct AbandonOperation {};  ///< what the mount or unmount that runs brings is dropped
struct Overmount {
  TimePoint deadline;
};
struct RemoveOvermount {
  NativeAccess::When when;
  TimePoint deadline;
};
struct OpenGate {};
struct ReopenGate {};  ///< of a mount that has been there all the time
struct CloseGate {};
struct CloseGateIfIdle {};  ///< and report the result: GateClosed or GateInUse
struct AdmitWaiters {};
struct FailWaiters {
  Error error;
};
struct AnswerUnmount {
  Error error;
};  ///< code 0: success
struct SetTimer {
  TimePoint at;
};
struct ClearTimer {};
struct Emit {
  Event::Kind kind;
  std::uint32_t attempt = 0;
  Duration took{};
  std::string reason;
  int code = 0;  ///< errno of what failed
};
using Effect = std::variant<StartMount, StartUnmount, OpenGate, ReopenGate, CloseGate, CloseGateIfIdle, AdmitWaiters,
                            FailWaiters, AnswerUnmount, SetTimer, ClearTimer, Emit, HurryOperation, AbandonOperation,
                            Overmount, RemoveOvermount>;

struct Step {
  State state;
  std::vector<Effect> effects;
};

/// The next state of a share and what is to be done. Pure: the same arguments give the same answer. `drained`: the host
/// is. `may_abandon`: the mount that runs has begun, and not too many of the share are stuck already.
Step step(const State& state, const Input& happening, const SharePolicy& policy, TimePoint now, bool drained = false,
          bool may_abandon = true);

/// The longest wait after a first failed attempt; doubled for each further one up to kLongestBackoff. Half of it is for
/// `jitter`, in [0, 1), to choose: hosts that fail at once do not come back at once (README.md, FleetTest).
inline constexpr std::chrono::milliseconds kFirstBackoff{1000};
inline constexpr std::chrono::milliseconds kLongestBackoff{std::chrono::minutes(2)};
/// How long a share stays failed whose mount was found dead, with `on_stale = "error"`: until retry is asked for.
inline constexpr std::chrono::hours kUntilRetry{24 * 3650};
Duration backoff(std::uint32_t attempts, double jitter);

/// A share with `idle_timeout = 0` stays this long after its last user, so that the look-up and the open of one program
/// do not mount twice.
inline constexpr std::chrono::milliseconds kLinger{10};
/// How long an unmount on request waits for the last user: the kernel reports a close(2) after the caller has returned
/// from it, so that a share may still be in use for a moment when the program that used it has ended.
inline constexpr std::chrono::milliseconds kReleasePatience{200};
inline constexpr std::chrono::milliseconds kReleaseRetry{5};
/// How long an operation that was told to end, or that gives up what is in use, has for that. One that takes longer is
/// stuck in the kernel.
inline constexpr std::chrono::milliseconds kForcePatience{std::chrono::seconds(3)};
/// How long an operation of NativeAccess may take.
inline constexpr std::chrono::milliseconds kNativePatience{std::chrono::seconds(10)};
/// How often a native share in use is looked at: a quarter of its idle timeout, within these.
inline constexpr std::chrono::milliseconds kShortestLook{20};
inline constexpr std::chrono::milliseconds kLongestLook{std::chrono::seconds(30)};
/// The same while the host is drained, where the overmount is removed as soon as no process is in it.
inline constexpr std::chrono::milliseconds kDrainLook{250};
/// How soon an unmount that met EBUSY is tried again, at least.
inline constexpr std::chrono::milliseconds kBusyRetry{std::chrono::seconds(5)};

}  // namespace berth::manager::life_cycle
