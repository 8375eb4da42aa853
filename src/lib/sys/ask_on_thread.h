#pragma once

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "src/lib/base/clock.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/result.h"
#include "src/lib/base/unique_function.h"
#include "src/lib/sys/thread.h"

namespace berth::sys {

/// What `question` answers, on a thread of its own: for what may hang in the kernel. A thread that has not answered by
/// `until` is left behind, so `question` owns all that it uses. `name`: as for start_thread().
/// Errors: ETIMEDOUT when there is no answer by then; those of start_thread().
template <typename Answer>
Result<Answer> ask_on_thread(std::string name, UniqueFunction<Answer()> question, TimePoint until) {
  struct Round {
    Mutex mutex;
    ConditionVariable answered;
    std::optional<Answer> answer BERTH_GUARDED_BY(mutex);
  };
  const auto round = std::make_shared<Round>();
  Result<std::thread> thread = start_thread(std::move(name), [round, ask = std::move(question)]() mutable {
    Answer answer = ask();
    MutexLock lock(round->mutex);
    round->answer = std::move(answer);
    round->answered.notify_all();
  });
  if (!thread) return fail(thread.error());
  thread->detach();
  MutexLock lock(round->mutex);
  while (!round->answer && round->answered.wait_until(round->mutex, until)) {
  }
  if (!round->answer) return fail(ETIMEDOUT);
  return *std::move(round->answer);
}

}  // namespace berth::sys
