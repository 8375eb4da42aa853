#pragma once

#include <map>
#include <memory>

#include "manager/model/backend.h"

namespace berth::manager {

/// A backend for each kind of share, for ManagerSetup::backends.
std::map<ShareKind, std::unique_ptr<Backend>> make_backends();

}  // namespace berth::manager
