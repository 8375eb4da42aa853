#pragma once

#include <map>
#include <mutex>
#include <string>

#include "src/lib/base/error.h"

namespace berth::test {

/// What went wrong in many threads, by the call and the error.
class Faults {
 public:
  void note(const std::string& call, int error) {
    const std::lock_guard lock(mutex_);
    ++counts_[call + ": " + errno_name(error)];
  }
  [[nodiscard]] std::map<std::string, int> counts() {
    const std::lock_guard lock(mutex_);
    return counts_;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, int> counts_;
};

}  // namespace berth::test
