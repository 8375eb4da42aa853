#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "fuse/kept/requests.h"
#include "fuse/session/reply.h"
#include "src/lib/base/mutex.h"

namespace berth::fuse {

/// A request that waits for something. The code that will answer it shares it with the interrupt that may end the wait:
/// the one that takes it first answers.
///
/// Threading: any thread may take().
class ParkedReply {
 public:
  /// `on_interrupt(Reply)`: called with the request if the caller gives up while it is parked; possibly before this
  /// returns. Must not wait.
  template <typename OnInterrupt>
  static std::shared_ptr<ParkedReply> park(Reply reply, OnInterrupt on_interrupt) {
    CurrentRequest::note_parked();
    auto parked = std::make_shared<ParkedReply>(std::move(reply));
    Reply& held = parked->held();
    // Weak: the owner of the request decides how long it lives, and a request that is dropped is answered.
    held.on_interrupt([weak = std::weak_ptr(parked), on_interrupt = std::move(on_interrupt)]() mutable {
      const std::shared_ptr<ParkedReply> self = weak.lock();
      if (self == nullptr) return;
      if (std::optional<Reply> taken = self->take()) on_interrupt(std::move(*taken));
    });
    return parked;
  }

  explicit ParkedReply(Reply reply) noexcept : reply_(std::move(reply)) {}

  /// Whether it has been taken.
  [[nodiscard]] bool taken() noexcept {
    MutexLock lock(mutex_);
    return !reply_;
  }
  /// The request, for answering it; nothing when it was taken before.
  [[nodiscard]] std::optional<Reply> take() noexcept {
    MutexLock lock(mutex_);
    std::optional<Reply> taken = std::move(reply_);
    reply_.reset();
    return taken;
  }

 private:
  Reply& held() noexcept {
    MutexLock lock(mutex_);
    return *reply_;
  }

  Mutex mutex_;
  std::optional<Reply> reply_ BERTH_GUARDED_BY(mutex_);
};

}  // namespace berth::fuse
