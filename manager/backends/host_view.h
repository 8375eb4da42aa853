#pragma once

#include <string>
#include <utility>

#include "src/lib/sys/namespaces.h"

namespace berth::manager {

/// The host's mount namespace, in which sources are looked up at each attempt. The server's own is a copy that may be
/// old: what is mounted on the host since, or is behind an automount point there, is not in it.
struct HostView {
  int mount_namespace = -1;  ///< -1: the caller's own is the host's
  std::string berths;        ///< directory of berth's mountpoints: an empty one on the host
  std::string shares;        ///< where programs of the host find the shares
  std::string shown;         ///< where the host shows the shares; no copy of it is to be kept. "": out of sight
  int questions = -1;        ///< the control group of programs that answer questions; -1: the server's own
};

/// Runs `work`, which returns some Result, in the host's mount namespace on the calling thread. What it opens or makes
/// there keeps its place when it is used elsewhere. Errors: those of `work`, setns(2)'s.
template <typename Work>
auto in_host(const HostView& host, Work work) -> decltype(work()) {
  if (host.mount_namespace < 0) return work();
  Result<sys::MountNamespaceVisit> visit = sys::MountNamespaceVisit::enter(host.mount_namespace);
  if (!visit) return fail(visit.error());
  return work();
}

}  // namespace berth::manager
