#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/daemon/server/server_setup.h"
#include "src/lib/base/result.h"
#include "src/lib/sys/process.h"

/// How the keeper executes another binary in its place (`berth upgrade`), which goes on with everything that is open.
///
/// The new program is started with ServerSetup::arguments. First with kCheckVariable, to find out whether it could go on: it
/// reads the configuration, compares the version of the records, and ends. Then, when the server has ended, in the
/// keeper's place with kTakeOverVariable: the descriptor of the shared memory, where KeptDaemon::keeper_descriptors says the rest.
namespace berth::daemon {

inline constexpr const char* kCheckVariable = "BERTH_TAKE_OVER_CHECK";
inline constexpr const char* kTakeOverVariable = "BERTH_TAKE_OVER";

/// What is taken over must be laid out as the binary that takes over knows it.
std::string record_version();

/// Where this program is, to be executed again; what is there by then may be a newer one.
std::string own_program();

/// What a program says that can go on. The exit code alone would be any program's.
std::string consent();

/// Starts the check; when the program can go on its exit code is 0 and it has said consent(), else its output says why not.
Result<sys::Process> ask_for_consent(const std::string& program, std::vector<std::string> arguments);

/// Executes `program` in this process's place, with all descriptors. Returns only when that failed, with everything as it
/// was. `own`: the keeper's descriptors.
Error execute_upgrade(const std::string& program, ServerSetup& setup, const KeeperDescriptors& handed);

/// What the environment says that this program was executed for; each is asked once and removed from it.
std::optional<std::string> is_asked_for_consent();
std::optional<int> inherited_memory();

}  // namespace berth::daemon
