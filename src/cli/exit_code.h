#pragma once

namespace berth::cli {

/// How berth ends; sysexits(3) where it has a word for it, and what util-linux does elsewhere.
enum ExitCode : int {
  kOk = 0,
  kFailed = 1,           ///< what was asked for did not succeed
  kUsage = 64,           ///< the command line was not understood
  kUnavailable = 69,     ///< there is no namespace to talk to
  kNoPermission = 77,    ///< the caller may not do this
  kCannotExecute = 126,  ///< exec: the program cannot be executed, as env(1)
  kNoProgram = 127,      ///< exec: there is no such program, as env(1)
  kConfiguration = 78,   ///< the configuration is wrong or missing
};

/// How mount.berth ends: mount(8), "EXIT STATUS".
enum MountExitCode : int {
  kMountOk = 0,
  kMountUsage = 1,
  kMountFailed = 32,
};

}  // namespace berth::cli
