#pragma once

#include "manager/model/events.h"

namespace berth::daemon {

/// Writes the line of one event of a share's life cycle, or of the host's, to the log.
void log_event(const manager::Event& event);

/// What a program has written that serves a share: whole lines.
void log_output(const std::string& share, std::string_view lines);

}  // namespace berth::daemon
