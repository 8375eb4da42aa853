#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace berth::manager {

/// What the manager keeps of one share for the manager of the next server, in memory that outlives it: a flat record,
/// zero when nothing was ever mounted. `state` is stored last, so that a crash at any instruction leaves the old or the
/// new.
///
/// Descriptors keep their numbers: the servers share one table (clone(2), CLONE_FILES).
struct MountRecord {
  enum State : std::uint32_t {
    kNone,        ///< nothing is mounted
    kMounting,    ///< an attempt runs: something may be mounted, and its program may run
    kMounted,     ///< all of what follows holds
    kUnmounting,  ///< an unmount runs: the mount may be gone
  };
  static constexpr std::size_t kSourceKept = 200;
  static constexpr std::uint64_t kReleasedBind = ~std::uint64_t{0};  ///< in `released`: a bind, which no device tells

  std::atomic<std::uint64_t> share;  ///< Share::incarnation(); 0: the record is free
  std::atomic<std::uint32_t> state;
  std::uint32_t generation;       ///< Share::mount_generation()
  std::uint64_t id;               ///< RealMount::id
  std::int32_t root;              ///< RealMount::root, which leases hand out; -1: none
  std::int32_t helper;            ///< its number in /proc; 0: none
  std::int32_t helper_pidfd;      ///< -1: none
  std::int32_t helper_output;     ///< what it writes, or a daemon of the mount, can be read there; -1: none
  std::uint32_t holds_only_copy;  ///< RealMount::holds_only_copy
  std::int32_t source_number;     ///< SourceWatch::add(); 0: not watched
  std::uint64_t source_device;    ///< RealMount::identity
  std::uint64_t source_inode;     ///< the same
  std::atomic<std::uint64_t>
      released;  ///< the device of what was unmounted last and may be mounted elsewhere yet; 0: nothing
  std::atomic<std::uint64_t> overmount;  ///< NativeAccess::overmount(), with processes in it perhaps; 0: there is none
  std::atomic<std::int32_t> programs;    ///< AttemptPrograms::descriptor(), also of an attempt that runs; -1: none
  std::atomic<std::int32_t> unmount_programs;  ///< the same of an unmount that runs; -1: none
  std::uint32_t berth;                         ///< which of the share's mountpoints it is at
  std::array<char, kSourceKept> source;        ///< RealMount::source, cut off where it is longer; ends with a zero
};

/// That mounting a share has failed: two of them take turns, so that one is whole at any instant.
struct FailureRecord {
  static constexpr std::size_t kStoryKept = 400, kCommandKept = 320, kExitKept = 48, kOutputKept = 1024;

  std::uint32_t attempts;              ///< in a row; 0: the back-off begins again
  std::int32_t code;                   ///< what callers are answered until `retry_at`; 0: it works again
  std::int64_t retry_at;               ///< nanoseconds on the monotonic clock, which all processes share
  std::int64_t failed_at;              ///< nanoseconds since 1970
  std::int64_t took;                   ///< nanoseconds
  std::uint64_t failures;              ///< so far
  std::array<char, kStoryKept> story;  ///< of the error, cut off where it is longer; ends with a zero
  // AttemptFailure, of the program that ran.
  std::uint32_t command_length;            ///< bytes
  std::uint32_t is_output_cut;             ///< at its beginning
  std::array<char, kCommandKept> command;  ///< its arguments, each with a zero; cut off where it is longer
  std::array<char, kExitKept> exit;        ///< ends with a zero
  std::array<char, kOutputKept> output;    ///< the end of it; ends with a zero
};
struct FailureRecords {
  std::atomic<std::uint32_t> writes;  ///< the last one is in slots[writes % 2]; 0: there is none
  std::array<FailureRecord, 2> slots;
};

/// The catalog that is in force, as KeptCatalog writes it: a log of what has become of each incarnation of a share. It
/// is in one half; when that has grown large, what still counts is written to the other one.
struct CatalogArea {
  static constexpr std::size_t kHalf = std::size_t{1} << 27;
  struct Half {
    std::atomic<std::uint64_t> used;  ///< bytes; a change is made by this one store
    alignas(4096) std::byte bytes[kHalf];
  };
  std::atomic<std::uint32_t> active;  ///< stored when the other half is whole
  alignas(4096) std::array<Half, 2> halves;
};

struct KeptMounts {
  static constexpr std::size_t kMaxRecords = 1U << 17;
  std::atomic<std::uint32_t> used;         ///< records from here on are free
  std::atomic<std::int32_t> source_watch;  ///< SourceWatch::descriptor(), plus 1; 0: none
  static constexpr std::size_t kMostLookUps = 64;
  /// AttemptPrograms::descriptor() of look-ups that run; 0 and -1: none.
  std::array<std::atomic<std::int32_t>, kMostLookUps> look_ups;
  std::array<MountRecord, kMaxRecords> records;
  std::array<FailureRecords, kMaxRecords> failures;  ///< of the share with the record in the same slot; few have any
  CatalogArea catalog;
};

}  // namespace berth::manager
