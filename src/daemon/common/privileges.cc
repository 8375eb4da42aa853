#include "src/daemon/common/privileges.h"

#include <linux/capability.h>

#include "src/lib/log/log.h"
#include "src/lib/sys/privileges.h"

namespace berth::daemon {
namespace {

using sys::CapabilitySet;

/// Those of callers in shares; and what root does in a share that a security module labels.
constexpr CapabilitySet kForFiles =
    sys::capabilities({CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_LINUX_IMMUTABLE,
                       CAP_MAC_OVERRIDE, CAP_MKNOD, CAP_SETFCAP, CAP_SYS_RESOURCE});
constexpr CapabilitySet kServer =
    kForFiles | sys::capabilities({CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_SYS_NICE, CAP_KILL, CAP_SETUID,
                                   CAP_SETGID, CAP_SETPCAP});
constexpr CapabilitySet kKeeper =
    sys::capabilities({CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH});
constexpr CapabilitySet kAgent = sys::capabilities({CAP_SYS_ADMIN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH});
/// What programs that mount get, besides.
constexpr CapabilitySet kPrograms =
    kServer | sys::capabilities({CAP_NET_BIND_SERVICE, CAP_IPC_LOCK, CAP_IPC_OWNER, CAP_AUDIT_WRITE});

constexpr CapabilitySet kAll = ~CapabilitySet{0};

sys::Capabilities capabilities_of(Role role) {
  switch (role) {
    case Role::kBegin:
      // A set that is smaller than the kernel's was chosen: for berth.service, in a drop-in, by a container.
      return {.effective = kServer, .permitted = kServer, .bounding = sys::is_bounding_set_full() ? kPrograms : kAll};
    case Role::kKeeper:
      return {.effective = kKeeper, .permitted = kServer, .bounding = kAll};
    case Role::kServer:
      return {.effective = kServer, .permitted = kServer, .bounding = kAll};
    case Role::kAgent:
      return {.effective = kAgent, .permitted = kAgent, .bounding = 0};
    case Role::kFirstProcess:
      return {};
  }
  return {};
}

void warn(const Result<>& result) {
  if (!result) log::warning("more is open to this process than it needs: {}", result.error().message());
}

}  // namespace

void narrow_to(Role role) {
  warn(sys::keep_capabilities(capabilities_of(role)));
  if (role == Role::kFirstProcess || role == Role::kAgent) warn(sys::forbid_programs());
}

}  // namespace berth::daemon
