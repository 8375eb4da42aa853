#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "src/cli/world.h"
#include "src/lib/base/mutex.h"

namespace berth::cli {

/// What is known of a wait.
struct Span {
  std::string from;                   ///< what is waited for; empty: not known
  std::chrono::milliseconds limit{};  ///< how long it may take; 0: not known
  std::function<std::string()> news;  ///< what is to be told besides, asked for on a thread of Progress; null: nothing
};

/// While it lives, shows a waiting user on the terminal what the command waits for: nothing for the first interval,
/// then "mounting media from nfs1:/media ... 3s of 30s", rewritten in place and wiped at the end. Silent where
/// standard error is no terminal.
///
/// Threading: a thread of its own, ended by the destructor.
class Progress {
 public:
  Progress(const World& world, std::string what, Span span = {});
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void show();

  const World& world_;
  std::string what_;
  std::string of_;  ///< " of 30s"
  std::function<std::string()> news_;
  Mutex mutex_;
  ConditionVariable changed_;
  bool over_ BERTH_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace berth::cli
