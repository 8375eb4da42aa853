#pragma once

#include <string>
#include <thread>

#include "src/lib/base/result.h"
#include "src/lib/base/unique_function.h"

namespace berth::sys {

/// Starts a thread as all of berth's should be: named (at most 15 bytes, pthread_setname_np(3)), with all signals
/// blocked, as the daemon whatever identity the calling thread has (identity.h), and scheduled as usual (scheduling.h).
/// Errors: EAGAIN. A constructor, which cannot return it, takes value(): that throws, as std::thread's own does.
Result<std::thread> start_thread(std::string name, Task body);

}  // namespace berth::sys
