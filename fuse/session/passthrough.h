#pragma once

#include <atomic>
#include <cstdint>

namespace berth::fuse {

/// The kernel's name for a backing file: the kernel reads and writes it by itself, without asking the server, for every
/// caller that has it open (FUSE passthrough, Linux 6.9). Above 0; it lives as long as the connection unless it is
/// unregistered.
using BackingId = std::int32_t;
/// The kernel sends reads and writes of the file to the server.
inline constexpr BackingId kNoBacking = 0;

/// Registers real files with the kernel of the connection as backing files.
///
/// All handles of a node must use one id, and while one of them is open none may be opened without: NodeTable ensures
/// it.
///
/// Threading: any thread may call anything.
class Passthrough {
 public:
  /// The kernel agreed to it. `device`: the FUSE device, which stays open. In another user namespace than the initial
  /// one it stays off: it takes CAP_SYS_ADMIN there (fuse_backing_open()).
  void enable(int device) noexcept;
  [[nodiscard]] bool enabled() const noexcept { return enabled_.load(std::memory_order_acquire); }

  /// Registers a regular file. The kernel uses it with the credentials that the calling thread has now, but never with
  /// CAP_FSETID: it may serve other callers, whose writes must clear set-id bits.
  ///
  /// kNoBacking: this file cannot be registered (it is on a stacked file system), or none can.
  [[nodiscard]] BackingId register_backing(int fd) noexcept;
  /// The last handle with that id was closed.
  void unregister_backing(BackingId id) noexcept;

 private:
  int device_ = -1;  ///< stored before enabled_, once
  std::atomic<bool> enabled_{false};
};

}  // namespace berth::fuse
