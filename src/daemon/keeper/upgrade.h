#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/daemon/server/server_setup.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/process.h"

/// How the keeper executes another binary in its place (`berth upgrade`), which takes over everything that is open.
///
/// - First the new program is started with ServerSetup::arguments and kCheckVariable, to see whether it could take
///   over: it reads the configuration, compares the version of the records, and ends.
/// - When the server has ended, it is executed in the keeper's place with kTakeOverVariable: the descriptor of the
///   shared memory, where KeptDaemon::keeper_descriptors has the rest; and with kSettingsVariable, for a configuration
///   that cannot be read any more by then.
namespace berth::daemon {

inline constexpr const char* kCheckVariable = "BERTH_TAKE_OVER_CHECK";
inline constexpr const char* kTakeOverVariable = "BERTH_TAKE_OVER";
inline constexpr const char* kSettingsVariable = "BERTH_TAKE_OVER_SETTINGS";

/// What is taken over must be laid out as the binary that takes over knows it.
std::string record_version();

/// Where this program is, to be executed again; what is there by then may be a newer one.
std::string own_program();

/// The output of a program that can take over. The exit code alone would be any program's.
std::string consent();

/// Starts the check. If the program can take over, its exit code is 0 and its output is consent(); else the output is
/// the reason.
Result<sys::Process> ask_for_consent(const std::string& program, std::vector<std::string> arguments);

/// Executes `program` in this process's place, with all descriptors. Returns only when that failed, with everything as
/// it was. `own`: the keeper's descriptors.
Error execute_upgrade(const std::string& program, ServerSetup& setup, const KeeperDescriptors& handed);

/// The environment's value that this program was executed with; each is read once and removed from the environment.
std::optional<std::string> is_asked_for_consent();
std::optional<int> inherited_memory();
/// Of the keeper that has executed this program: a configuration without shares.
std::optional<std::string> inherited_settings();

}  // namespace berth::daemon
