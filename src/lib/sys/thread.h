#pragma once

#include <csignal>
#include <string>
#include <thread>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_function.h"

namespace berth::sys {

/// All signals but those of a fault of the thread itself (SIGSEGV and the like). If one of these is blocked, the kernel
/// ends the process and calls no handler (signal(7)).
sigset_t all_but_faults() noexcept;

/// Starts a thread as all of berth's should be: named (at most 15 bytes, pthread_setname_np(3)), with all_but_faults()
/// blocked, as the daemon whatever identity the calling thread has (identity.h), and scheduled as usual (scheduling.h).
/// Errors: EAGAIN. A constructor, which cannot return it, takes value(): that throws, as std::thread's own does.
Result<std::thread> start_thread(std::string name, Task body);

}  // namespace berth::sys
