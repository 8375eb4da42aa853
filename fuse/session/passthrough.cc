#include "fuse/session/passthrough.h"

#include <sys/ioctl.h>

#include <cerrno>

#include "fuse/wire/protocol.h"
#include "src/lib/sys/identity.h"
#include "src/lib/sys/user_namespace.h"

namespace berth::fuse {
namespace {

/// Errors after which no file can ever be registered: no privilege in the initial user namespace, no such call.
bool is_final(int code) noexcept { return code == EPERM || code == ENOTTY || code == EOPNOTSUPP; }

}  // namespace

void Passthrough::enable(int device) noexcept {
  device_ = device;
  enabled_.store(sys::is_in_initial_user_namespace(), std::memory_order_release);
}

BackingId Passthrough::register_backing(int fd) noexcept {
  if (!enabled()) return kNoBacking;
  const sys::AsBackingOpener as_lender;
  const protocol::BackingMap map{.fd = fd, .flags = 0, .padding = 0};
  const int id = ::ioctl(device_, protocol::kBackingOpen, &map);
  if (id > 0) return id;
  if (is_final(errno)) enabled_.store(false, std::memory_order_relaxed);
  return kNoBacking;
}

void Passthrough::unregister_backing(BackingId id) noexcept {
  if (id == kNoBacking) return;
  const auto number = static_cast<std::uint32_t>(id);
  const auto close = [&] { return ::ioctl(device_, protocol::kBackingClose, &number) == 0; };
  // It takes no more than root has; and once more only where that is not so, for the number may be another file's by
  // now.
  if (sys::acts_as_root() && (close() || errno != EPERM)) return;
  const sys::AsBackingOpener as_lender;
  close();
}

}  // namespace berth::fuse
