#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace berth::fuse {

// What the FUSE layer keeps for the next server, in memory that outlives this one: flat records, numbers and no
// pointers.
// - Zero is "nothing" everywhere.
// - What makes a record valid is stored last, so that a crash at any instruction leaves the old record or the new one.
// - What can be computed from these records is not here. Memory that was never used takes no pages.

/// The kernel's first request: it is sent once in the life of a connection, and each further session is brought up by
/// it.
struct SessionRecord {
  static constexpr std::size_t kMaxInit = 1024;

  std::atomic<std::uint32_t> init_size;  ///< 0: not sent yet. Stored last.
  char init[kMaxInit];                   ///< as it was read
};

/// One node of NodeTable.
struct NodeRecord {
  enum State : std::uint8_t { kFree, kInUse, kReplaced };

  /// Look-ups that the kernel counts, and which request changed that last (RequestRecord::tag()).
  std::atomic<std::uint64_t> lookups;
  std::uint64_t inode;
  std::uint32_t share;
  std::uint32_t device;
  std::uint32_t generation;  ///< of the id
  std::atomic<std::uint32_t> inode_generation;
  std::atomic<std::uint32_t> dentry;  ///< a DentryRecord
  std::atomic<std::int32_t> backing;  ///< of all handles of the node, while there are any
  std::uint16_t type;
  std::atomic<std::uint8_t> state;  ///< stored last

  static constexpr unsigned kCountBits = 40;
  static constexpr std::uint64_t kCountMask = (std::uint64_t{1} << kCountBits) - 1;
  [[nodiscard]] std::uint64_t count() const noexcept { return lookups.load(std::memory_order_relaxed) & kCountMask; }
};

/// Where a node is: a name in a parent. Written once, then pointed to.
struct DentryRecord {
  std::uint64_t parent;
  std::uint16_t length;  ///< of the name, which follows at once and ends with a zero

  static constexpr std::size_t kHeader = 10;
  [[nodiscard]] char* name() noexcept { return reinterpret_cast<char*>(this) + kHeader; }
  [[nodiscard]] const char* name() const noexcept { return reinterpret_cast<const char*>(this) + kHeader; }
};

/// One open file or directory, under the number of its descriptor.
struct HandleRecord {
  enum Kind : std::uint16_t { kFile, kDirectory };

  std::atomic<std::uint64_t> node;  ///< 0: there is none. Stored last.
  std::uint64_t identity;           ///< Handle::identity
  std::uint32_t sequence;           ///< tells it from an earlier handle with the same number
  std::uint32_t share;
  std::uint32_t device;
  std::uint32_t mount_generation;
  std::int32_t flags;
  std::int32_t pid;
  std::uint32_t uid;
  std::uint16_t kind;
  std::atomic<std::uint16_t> reading;    ///< 1: of a directory: a thread reads it now
  std::atomic<std::int32_t> late_error;  ///< Handle::late_error
};

/// The owner of record locks of a file, under the number of the descriptor that holds the owner's locks (LockTable).
struct LockRecord {
  static constexpr std::size_t kMaxHandles = 5;

  std::atomic<std::uint64_t> node;  ///< 0: there is none. Stored last.
  std::uint64_t owner;
  std::uint64_t handles[kMaxHandles];  ///< by which the owner has locked; 0: none. Those beyond are not kept.
  std::int32_t pid;
};

/// What a request was about to do that must not be done twice, noted right before it is done.
struct IntentRecord {
  enum Kind : std::uint32_t {
    kNone,
    kMake,    ///< the name was free
    kRemove,  ///< the name was `inode`'s
    kMove,    ///< the old name was `inode`'s
    kAppend,  ///< the file was `size` bytes long
    kCopy,    ///< the source had `size` bytes to copy
  };
  std::atomic<std::uint32_t> kind;  ///< stored last
  std::uint32_t device;
  std::uint64_t inode;
  std::uint64_t size;
};

/// What one thread is doing for the kernel.
struct RequestRecord {
  static constexpr std::size_t kMaxCounted = 8192;
  static constexpr std::size_t kMessageSize = (std::size_t{1} << 20) + 4096;
  /// In `unique`: its caller was answered without what the thread is doing, which must be undone.
  static constexpr std::uint64_t kGivenUp = 1;

  std::atomic<std::uint64_t> unique;  ///< of the request that is not answered yet; 0: none
  std::uint32_t slot;                 ///< of this record among all
  std::atomic<std::uint32_t> deaths;  ///< servers that it has killed before this one
  enum Fault : std::uint32_t { kNotKnown, kFatal, kOfEarlier };
  /// kFatal: its thread got the signal that ended the server; kOfEarlier: an earlier one had it.
  std::atomic<std::uint32_t> fault;
  /// How many look-ups it has counted (or FORGETs it has done), and a number for each change: one store for both.
  std::atomic<std::uint64_t> change;
  std::atomic<std::uint64_t> handle;  ///< 1 + what it has put into HandleTable; 0: nothing
  IntentRecord intent;
  std::atomic<std::uint64_t> counted[kMaxCounted];  ///< the nodes of which it has counted a look-up, in order
  alignas(4096) char message[kMessageSize];         ///< as it was read; its length 0: none
};

struct NodeArea {
  static constexpr unsigned kPartBits = 5;
  static constexpr std::size_t kParts = std::size_t{1} << kPartBits;
  static constexpr std::size_t kMaxNodes = std::size_t{1} << 26;
  static constexpr std::size_t kPageSize = 4096;
  static constexpr std::size_t kMaxPages = std::size_t{1} << 21;

  std::atomic<std::uint32_t> slots[kParts];  ///< records of each part that were ever used
  std::atomic<std::uint32_t> pages;          ///< pages of names that were ever used
  alignas(kPageSize) NodeRecord nodes[kMaxNodes];
  alignas(kPageSize) std::byte names[kMaxPages * kPageSize];
};

struct HandleArea {
  static constexpr std::size_t kMaxHandles = std::size_t{1} << 20;
  std::atomic<std::uint32_t> end;  ///< no record at or beyond this number was ever used
  alignas(64) HandleRecord handles[kMaxHandles];
};

struct LockArea {
  static constexpr std::size_t kMaxLocks = HandleArea::kMaxHandles;
  std::atomic<std::uint32_t> end;  ///< no record at or beyond this number was ever used
  alignas(64) LockRecord locks[kMaxLocks];
};

struct RequestArea {
  static constexpr std::size_t kRequests = 1024;
  static constexpr std::size_t kParked = 8192;

  std::atomic<std::uint32_t> end;              ///< no record at or beyond this slot was ever used
  std::atomic<std::uint32_t> parked_count;     ///< so far
  std::atomic<std::uint64_t> parked[kParked];  ///< numbers of requests: those parked last, and those that wait
  std::atomic<std::uint32_t> largest;          ///< bytes of the largest request so far
  std::atomic<std::uint32_t> server_crashed;   ///< 1: the last server ended by a fault of its own; set by the keeper
  alignas(4096) RequestRecord requests[kRequests];
};

/// A request that writes pages back, was acknowledged and is not done.
struct UnwrittenRecord {
  enum State : std::uint32_t { kFree, kTaken, kKept };
  std::atomic<std::uint32_t> state;  ///< kKept is stored last
  std::uint32_t size;                ///< of `message`, in bytes
  std::uint64_t order;               ///< of two on one page the later one is larger
  alignas(4096) char message[RequestRecord::kMessageSize];
};

struct UnwrittenArea {
  static constexpr std::uint32_t kRecords = 1024;
  std::atomic<std::uint32_t> end;   ///< no record at or beyond this number was ever used
  std::atomic<std::uint64_t> kept;  ///< so far
  alignas(4096) UnwrittenRecord records[kRecords];
};

/// Which share each slot of KnownShares is of.
struct ShareSlots {
  static constexpr std::size_t kMost = std::size_t{1} << 20;
  static constexpr unsigned kIncarnationBits = 52;
  std::atomic<std::uint32_t> end;  ///< no slot at or beyond this number was ever used. Stored after what it counts
  /// manager::Share::incarnation(), and in the bits above it how often the slot was used before.
  std::atomic<std::uint64_t> shares[kMost];
};

/// Names in the order in which they were given their numbers: each with its length before it (16 bits).
struct NameLog {
  static constexpr std::size_t kSize = std::size_t{1} << 28;
  std::atomic<std::uint32_t> used;  ///< bytes
  char bytes[kSize];
};

/// The lines of `events`: a ring, by offsets that count every byte that was ever written.
struct EventArea {
  static constexpr std::size_t kSize = std::size_t{256} << 10;
  static constexpr std::size_t kPolls = 4096;

  std::atomic<std::uint64_t> first;  ///< offset of what is kept; a line begins there
  std::atomic<std::uint64_t> end;
  std::atomic<std::int64_t> changed;  ///< when, in nanoseconds since 1970; 0: never
  char text[kSize];
  std::atomic<std::uint64_t> polls[kPolls];  ///< waiters in poll(2), by the kernel's number; 0: none
};

/// What the programs of shares have written (ShareLogs): the end for each, in a ring.
struct LogArea {
  static constexpr std::size_t kLogs = 256;
  static constexpr std::size_t kSize = std::size_t{32} << 10;
  struct Log {
    std::atomic<std::uint64_t> share;    ///< hash of its name; 0: it is free
    std::atomic<std::uint64_t> end;      ///< bytes that were ever written
    std::atomic<std::uint64_t> written;  ///< `writes` when it was written last
    char text[kSize];
  };
  std::atomic<std::uint64_t> writes;  ///< so far, to all
  Log logs[kLogs];
};

/// A thread on its way into a share that is to be native (StaleRetries).
struct StaleRetryRecord {
  std::atomic<std::uint64_t> word;  ///< thread, share, stage and a count; 0: none. Stored last
  std::atomic<std::int64_t> since;  ///< when it came to this stage, in nanoseconds on the monotonic clock
  std::atomic<std::int64_t> last;   ///< when it asked for something last
  std::atomic<std::uint64_t> call;  ///< the system call in which it was answered ESTALE (call_of()); 0: in none
};
struct StaleRetryArea {
  static constexpr std::size_t kMost = 1024;
  StaleRetryRecord known[kMost];
};

// Another program may take over from the one that wrote this: whatever moves is another KeptDaemon::kVersion.
static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free &&
              std::atomic<std::uint8_t>::is_always_lock_free);
static_assert(sizeof(NodeRecord) == 48 && offsetof(NodeRecord, inode) == 8 && offsetof(NodeRecord, generation) == 24 &&
              offsetof(NodeRecord, dentry) == 32 && offsetof(NodeRecord, type) == 40 &&
              offsetof(NodeRecord, state) == 42);
static_assert(offsetof(DentryRecord, length) == 8 && DentryRecord::kHeader == 10);
static_assert(sizeof(HandleRecord) == 56 && offsetof(HandleRecord, identity) == 8 &&
              offsetof(HandleRecord, sequence) == 16 && offsetof(HandleRecord, flags) == 32 &&
              offsetof(HandleRecord, kind) == 44 && offsetof(HandleRecord, late_error) == 48);
static_assert(offsetof(UnwrittenRecord, size) == 4 && offsetof(UnwrittenRecord, order) == 8 &&
              offsetof(UnwrittenRecord, message) == 4096);
static_assert(sizeof(LockRecord) == 64 && offsetof(LockRecord, handles) == 16 && offsetof(LockRecord, pid) == 56);
static_assert(sizeof(IntentRecord) == 24 && offsetof(IntentRecord, inode) == 8 && offsetof(IntentRecord, size) == 16);
static_assert(offsetof(RequestRecord, slot) == 8 && offsetof(RequestRecord, deaths) == 12 &&
              offsetof(RequestRecord, fault) == 16 && offsetof(RequestRecord, change) == 24 &&
              offsetof(RequestRecord, handle) == 32 && offsetof(RequestRecord, intent) == 40 &&
              offsetof(RequestRecord, counted) == 64 && offsetof(RequestRecord, message) % 4096 == 0);

struct KeptState {
  alignas(4096) SessionRecord session;
  alignas(4096) NodeArea nodes;
  alignas(4096) HandleArea handles;
  alignas(4096) LockArea locks;
  alignas(4096) RequestArea requests;
  alignas(4096) ShareSlots shares;
  alignas(4096) EventArea events;
  alignas(4096) LogArea logs;
  alignas(4096) NameLog directories;  ///< of Namespace: plain directories above shares
  alignas(4096) StaleRetryArea stale_retries;
  alignas(4096) UnwrittenArea unwritten;
};

}  // namespace berth::fuse
