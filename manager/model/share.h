#pragma once

#include <atomic>
#include <cstdint>
#include <forward_list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "manager/model/gate.h"
#include "manager/model/share_spec.h"
#include "manager/model/share_status.h"
#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/thread_annotations.h"

namespace berth::manager {

class Share;

/// Whether a share's directory is overmounted with its real mount, so that the kernel leads past berth.
enum class NativeDoor : std::uint8_t {
  kNone,  ///< it is not, and must not be while the share is mounted as it is
  kShut,  ///< it is not, and must be when the next caller comes in
  kOpen,  ///< it is; a request that comes all the same is from a caller that does not see the overmount
};

/// Is notified when a share may have become free to unmount: the manager. Called on any thread, by the user that left
/// last.
class LeaveListener {
 public:
  virtual ~LeaveListener() = default;
  virtual void on_left(Share& share) noexcept = 0;
};

/// A mount of a share, for its users: the gate to it, and its root. A mount that gives up its users leaves it to them,
/// and the next one has another.
struct LeasedMount {
  Gate gate;
  std::atomic<int> root{-1};    ///< stored before the gate opens
  bool is_retired = false;      ///< of the control thread: it is left to its users
  LeasedMount* next = nullptr;  ///< an older one of the same share
};

/// A claim on a mounted share: while one is held, the share is not unmounted because it is idle. Given back by the
/// destructor.
///
/// Ownership: a Lease does not keep the Share object alive; the manager and the namespace do.
class Lease {
 public:
  Lease() noexcept = default;
  Lease(Lease&& other) noexcept
      : share_(std::exchange(other.share_, nullptr)),
        mount_(other.mount_),
        writes_(std::exchange(other.writes_, false)),
        only_looks_(other.only_looks_) {}
  Lease& operator=(Lease&& other) noexcept {
    if (this != &other) {
      give_back();
      share_ = std::exchange(other.share_, nullptr);
      mount_ = other.mount_;
      writes_ = std::exchange(other.writes_, false);
      only_looks_ = other.only_looks_;
    }
    return *this;
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() { give_back(); }

  [[nodiscard]] explicit operator bool() const noexcept { return share_ != nullptr; }
  [[nodiscard]] Share& share() const noexcept { return *share_; }
  /// O_PATH descriptor of the real mount's root directory, valid while this lease is held.
  [[nodiscard]] int root() const noexcept {
    return mount_ == nullptr ? -1 : mount_->root.load(std::memory_order_relaxed);
  }
  /// A second claim, for something that outlives the request (an open file).
  [[nodiscard]] Lease duplicate() const noexcept;

  /// Whether this is for a file that is open for writing: while it is held, the share is not overmounted.
  void count_as_writer(bool writes) noexcept;
  /// This is for a caller that looks at the share from outside: the time for which the share has been idle goes on.
  void only_look() noexcept { only_looks_ = true; }

 private:
  friend class Share;
  Lease(Share* share, LeasedMount* mount) noexcept : share_(share), mount_(mount) {}
  void give_back() noexcept;

  Share* share_ = nullptr;
  LeasedMount* mount_ = nullptr;
  bool writes_ = false;
  bool only_looks_ = false;
};

/// Whether a share is in the catalog.
enum class Standing : std::uint8_t {
  kCurrent,
  kPending,  ///< another one of its name, with another mount, takes its place as soon as it is not in use
  kRemoved,  ///< no name leads to it any more; callers that are inside go on
};

/// One managed share: its specification, its gate, and what others may read of it.
///
/// It is one incarnation of its name: a share that is removed and added again is another object, with another number.
///
/// The life cycle itself belongs to the manager's control thread; this is the part that every thread may touch.
///
/// Threading: any thread may call anything, but the functions under "For the control thread".
class Share {
 public:
  /// `listener` outlives every lease. `incarnation`: no other share of this namespace has or had it.
  /// `is_second`: an older one of its name is still there.
  Share(ShareSpec spec, LeaveListener& listener, std::uint64_t incarnation = 0, bool is_second = false)
      : listener_(listener), incarnation_(incarnation), first_spec_(std::move(spec)), is_second_(is_second) {}
  ~Share();
  Share(const Share&) = delete;
  Share& operator=(const Share&) = delete;

  /// As it is now; the reference stays good for as long as the share is there.
  [[nodiscard]] const ShareSpec& spec() const noexcept { return *spec_.load(std::memory_order_acquire); }
  [[nodiscard]] const std::string& name() const noexcept { return spec().name(); }
  [[nodiscard]] std::uint64_t incarnation() const noexcept { return incarnation_; }
  [[nodiscard]] bool is_second() const noexcept { return is_second_; }
  /// Names its berth: as the share, or as no share can be called where an older one of its name may have that berth.
  [[nodiscard]] std::string berth() const { return is_second_ ? ".berth." + std::to_string(incarnation_) : name(); }
  [[nodiscard]] Standing standing() const noexcept { return standing_.load(std::memory_order_acquire); }
  [[nodiscard]] bool is_removed() const noexcept { return standing() == Standing::kRemoved; }

  /// A lease, if the share is mounted now. Takes no lock and never waits.
  [[nodiscard]] std::optional<Lease> try_lease() noexcept {
    LeasedMount* const mount = mount_.load(std::memory_order_acquire);
    if (!mount->gate.try_enter()) return std::nullopt;
    return Lease(this, mount);
  }
  /// A lease for a user that was inside when an earlier server ran, mounted or not: its mount may be gone.
  [[nodiscard]] Lease lease_again() noexcept {
    LeasedMount* const mount = mount_.load(std::memory_order_acquire);
    mount->gate.enter_again();
    return {this, mount};
  }

  /// Notes that its file system has answered a request. Costs a load where that is known already.
  void note_answer() noexcept {
    if (!answered_.load(std::memory_order_relaxed)) answered_.store(true, std::memory_order_relaxed);
  }
  /// Whether its file system has answered since the last call.
  [[nodiscard]] bool take_answered() noexcept { return answered_.exchange(false, std::memory_order_relaxed); }

  /// Users now inside, of this mount or of one before it: leases of requests, handles and attachments.
  [[nodiscard]] std::uint64_t users() const noexcept;
  /// How many of these are files that are open for writing (Lease::count_as_writer()).
  [[nodiscard]] std::uint32_t writers() const noexcept { return writers_.load(std::memory_order_seq_cst); }

  /// How many times the share has been mounted; changes whenever what root() names may be another file system.
  [[nodiscard]] std::uint32_t mount_generation() const noexcept {
    return mount_generation_.load(std::memory_order_acquire);
  }

  [[nodiscard]] NativeDoor native_door() const noexcept { return native_door_.load(std::memory_order_acquire); }
  /// Whether the same files are in use past berth, or may be at any moment: then nothing that the kernel caches of them
  /// for berth stays valid.
  [[nodiscard]] bool may_be_native() const noexcept { return native_door() != NativeDoor::kNone; }
  /// When the share was last overmounted; stored before the door is published as open.
  [[nodiscard]] TimePoint overmounted_at() const noexcept {
    return TimePoint(Duration(overmounted_at_.load(std::memory_order_relaxed)));
  }
  void set_overmounted(TimePoint now) noexcept {
    overmounted_at_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
  }

  /// The state as the control thread last published it, with the attachments of now.
  [[nodiscard]] ShareStatus status() const;
  /// Only the state.
  [[nodiscard]] ShareState state() const;
  /// Whether there is this attachment, and whether an instance has any: as status() would show, without its copy.
  [[nodiscard]] bool has_attachment(const Attachment& attachment) const;
  [[nodiscard]] bool has_attachments_of(const std::string& instance) const;
  /// Nothing: there is no such attachment.
  [[nodiscard]] std::optional<Attacher> attacher_of(const Attachment& attachment) const;
  /// Whether `instance` has a directory: it was made, or it has attachments.
  [[nodiscard]] bool has_instance(const std::string& instance) const;
  /// All instances with a directory, sorted.
  [[nodiscard]] std::vector<std::string> instances() const;
  /// The instances whose directory was made.
  [[nodiscard]] std::size_t made_instance_count() const;

  // For the control thread.
  Gate& gate() noexcept { return mount_.load(std::memory_order_acquire)->gate; }
  /// Closes the gate only if no user is inside, of this mount or of one before it; true, too, where it is closed and
  /// none is.
  [[nodiscard]] bool close_if_idle() noexcept;
  /// With the same name and another policy. What it was before is kept, because requests may be reading it. True: that
  /// takes more memory.
  bool set_spec(ShareSpec spec);
  /// From here on each last user that leaves is reported to the listener, unless it is kCurrent.
  void set_standing(Standing standing) noexcept { standing_.store(standing, std::memory_order_release); }
  /// Before the gate opens: what leases will hand out, and a new mount generation.
  void set_root(int root);
  /// Leaves the mount, whose gate is closed, to its users: their root has to stay until none of them is inside.
  LeasedMount& retire_mount() noexcept;
  void set_native_door(NativeDoor door) noexcept { native_door_.store(door, std::memory_order_release); }
  /// After a dead server: generations continue where its own ended.
  void continue_generations(std::uint32_t generation) noexcept { mount_generation_.store(generation); }
  /// As set_root(), for the mount that the generation is of already.
  void take_over_root(int root) noexcept { mount_.load()->root.store(root, std::memory_order_relaxed); }
  void publish(ShareStatus status);
  /// Records an attachment; false when it was there already.
  bool add_attachment(const Attachment& attachment);
  /// False when there was none.
  bool remove_attachment(const Attachment& attachment);
  [[nodiscard]] std::size_t attachment_count() const;
  /// Records the directory of an instance; as with attachments.
  bool add_instance(const std::string& instance);
  bool remove_instance(const std::string& instance);
  /// When a user last left.
  [[nodiscard]] TimePoint last_left() const noexcept {
    return TimePoint(Duration(last_left_.load(std::memory_order_relaxed)));
  }
  void touch(TimePoint now) noexcept { last_left_.store(now.time_since_epoch().count(), std::memory_order_relaxed); }

 private:
  friend class Lease;
  /// What there is to tell of a share that was ever used: thousands never are.
  struct Told {
    Mutex mutex;
    std::unique_ptr<const ShareStatus> status BERTH_GUARDED_BY(mutex);  ///< null: idle since the start
    std::set<Attachment> attachments BERTH_GUARDED_BY(mutex);
    std::set<std::string> instances BERTH_GUARDED_BY(mutex);  ///< that were made
  };
  void leave(LeasedMount& mount, bool was_use) noexcept;
  [[nodiscard]] std::uint64_t users_before(const LeasedMount* mount) const noexcept;
  /// Null: there is nothing yet. Once there, it stays.
  [[nodiscard]] Told* told() const noexcept { return told_.load(std::memory_order_acquire); }
  /// For the control thread, which alone makes it.
  [[nodiscard]] Told& make_told();

  // In an order without gaps: there are thousands.
  LeaveListener& listener_;
  const std::uint64_t incarnation_;
  const ShareSpec first_spec_;
  std::forward_list<ShareSpec> later_specs_;  ///< of the control thread: all that it had since
  std::atomic<const ShareSpec*> spec_{&first_spec_};
  std::atomic<Told*> told_{nullptr};
  LeasedMount first_mount_;
  std::atomic<LeasedMount*> mount_{&first_mount_};   ///< of now
  std::atomic<LeasedMount*> mounts_{&first_mount_};  ///< all, used again when they have no user
  std::atomic<Duration::rep> last_left_{0};
  std::atomic<Duration::rep> overmounted_at_{0};
  std::atomic<std::uint32_t> mount_generation_{0};
  std::atomic<std::uint32_t> writers_{0};
  const bool is_second_;
  std::atomic<Standing> standing_{Standing::kCurrent};
  std::atomic<NativeDoor> native_door_{NativeDoor::kNone};
  std::atomic<bool> answered_{false};
};

}  // namespace berth::manager
