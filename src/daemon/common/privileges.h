#pragma once

namespace berth::daemon {

/// The processes of berth, by what they may do. README.md of src/daemon has the table, with the reasons.
enum class Role {
  kBegin,         ///< before there are several: what none of them needs, nor a program that mounts
  kKeeper,        ///< the rest it can leave to processes that it starts
  kServer,        //
  kFirstProcess,  ///< never executes a program
  kAgent,         ///< never executes a program
};

/// The calling process, which has one thread, gives up what its role does not need. What cannot be given up is a
/// warning in the log.
void narrow_to(Role role);

}  // namespace berth::daemon
