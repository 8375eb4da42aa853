#pragma once

#include "manager/model/events.h"

namespace berth::daemon {

/// Writes the line of one event of a share's life cycle, or of the host's, to the log.
void log_event(const manager::Event& event);

}  // namespace berth::daemon
