#pragma once

#include <map>
#include <memory>

#include "manager/backends/host_view.h"
#include "manager/model/backend.h"

namespace berth::manager {

/// A backend for each kind of share, for ManagerSetup::backends. Their sources are the host's.
std::map<ShareKind, std::unique_ptr<Backend>> make_backends(const HostView& host = {});

}  // namespace berth::manager
