#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace berth::daemon {

/// What a keeper hands to the binary that is executed in its place: numbers of descriptors, -1 where there is none.
struct KeeperDescriptors {
  int device = -1;
  int keepers_end = -1;
  int servers_end = -1;
  int keeper = -1;
  int signals = -1;
  int run_directory = -1;
  int state = -1;
  int native_servers_end = -1;
  int native_agents_end = -1;
  int user_mounter = -1;  ///< NamespaceMount::mounter
  pid_t agent = 0;
  pid_t first_process = 0;
  bool background = false;  ///< ServerSetup::background
};

/// What keeper, first process and servers exchange in shared memory, apart from what the servers keep for their
/// successors. Flat, without pointers; each value is one store.
struct KeptDaemon {
  /// Of everything in the shared memory. Another layout is another number: a binary that does not know it refuses.
  static constexpr std::uint32_t kVersion = 30;
  static constexpr std::size_t kMaxDirectory = 4096;  ///< PATH_MAX

  std::uint32_t version = kVersion;
  std::atomic<std::uint32_t> servers{0};  ///< started so far
  std::atomic<pid_t> server{0};           ///< the one that runs, as its own pid namespace numbers it
  std::atomic<int> life{-1};              ///< descriptor that is readable once the server that runs has begun to end
  std::atomic<int> mount_namespace{-1};   ///< descriptor of the servers' own, complete
  std::atomic<int> state{-1};             ///< descriptor of the state directory in memory, where there is no other
  std::atomic<pid_t> life_thread{0};      ///< thread of `server` that ends first when it is killed; 0: not known yet
  std::atomic<std::uint64_t> namespace_mount{0};     ///< NamespaceMount::id of the namespace on the host
  std::atomic<std::uint64_t> namespace_table_id{0};  ///< and table_id
  std::atomic<std::uint64_t> host{0};                ///< next generation, and the lowest bit: up. 0: not set yet
  std::atomic<std::int64_t> host_since{0};           ///< nanoseconds since the epoch
  std::atomic<std::uint64_t> upgrade_request{0};     ///< number of the request that asked for the last upgrade
  std::atomic<std::uint64_t> upgrade_done{0};        ///< the last of these for which another binary was executed
  std::atomic<std::uint64_t> upgrade_refused{0};     ///< the last of these that the keeper has refused
  std::atomic<std::uint64_t> configuration{0};       ///< ServerSetup::configuration_number of the keeper that runs
  std::atomic<std::uint64_t> reload_wanted{0};       ///< how often the keeper was told to reload (SIGHUP)
  std::atomic<std::uint64_t> reload_done{0};         ///< and what of that has been done, or refused
  std::atomic<bool> sources_changed{false};          ///< a reload found other catalog sources than the keeper knows
  std::atomic<std::int64_t> drop_ins_changed{
      0};  ///< when their directory was changed before they were read last, in nanoseconds; -1: there is none
  /// What the last reload came to, cut off where it is longer; each ends with a zero. They take turns, so that one is
  /// whole at any instant: the last one is in answers[reload_answers % 2]; 0: there is none.
  static constexpr std::size_t kReloadAnswer = 4096;
  std::atomic<std::uint64_t> reload_answers{0};
  char answers[2][kReloadAnswer]{};
  KeeperDescriptors keeper_descriptors{};  ///< while another binary is being executed
  char directory[kMaxDirectory]{};         ///< where the namespace is
};

}  // namespace berth::daemon
