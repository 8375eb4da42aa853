#pragma once

#include <chrono>
#include <string>
#include <thread>

#include "src/cli/world.h"
#include "src/lib/base/mutex.h"

namespace berth::cli {

/// While it lives, shows a waiting user on the terminal what the command waits for: nothing for the first interval,
/// then "mounting "media" ... 3 s", rewritten in place and wiped at the end. Silent where standard error is no
/// terminal.
///
/// Threading: a thread of its own, ended by the destructor.
class Progress {
 public:
  Progress(const World& world, std::string what);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void show();

  const World& world_;
  const std::string what_;
  Mutex mutex_;
  ConditionVariable changed_;
  bool over_ BERTH_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace berth::cli
