#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "manager/model/share_spec.h"
#include "src/lib/base/secrets.h"

namespace berth::manager {

/// Makes whole lines of what a program of a share writes, without secrets, and passes them on.
///
/// Threading: one thread at a time.
class ShareOutput {
 public:
  /// Longest line; of a longer one only its length is told. In bytes.
  static constexpr std::size_t kLongestLine = 4096;

  using Emit = std::function<void(const std::string& share, std::string_view lines)>;

  ShareOutput(std::string share, Secrets secrets, Emit tell)
      : share_(std::move(share)), secrets_(std::move(secrets)), tell_(std::move(tell)) {}

  /// What the program has written next.
  void operator()(std::string_view bytes);

 private:
  const std::string share_;
  const Secrets secrets_;
  const Emit tell_;
  std::string line_;          ///< the beginning of one
  std::size_t left_out_ = 0;  ///< bytes of a line that is too long
};

}  // namespace berth::manager
