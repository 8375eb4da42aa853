#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/lib/base/error.h"

namespace berth::config {

/// What is wrong with a configuration: all of it, so that it can be put right in one go. Secrets are masked.
class Mistakes {
 public:
  /// Those that follow are in `file`. Files are listed in the order in which they were begun.
  void begin(std::string file);
  /// `line` 0: the file as a whole.
  void add(std::uint32_t line, std::string message);

  [[nodiscard]] bool empty() const noexcept { return count_ == 0; }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] const std::string& file() const noexcept { return files_.back(); }
  /// So many that what follows is only counted, and need not be put into words.
  [[nodiscard]] bool full() const noexcept;
  /// EINVAL with one line a mistake, "FILE:LINE: message", in the order of the files and their lines.
  [[nodiscard]] Error error() const;

 private:
  struct Mistake {
    std::size_t file;
    std::uint32_t line;
    std::string message;
  };
  std::vector<std::string> files_{""};
  std::vector<Mistake> mistakes_;  ///< the first kMaxKept
  std::size_t count_ = 0;
};

/// A name out of a file for a message: masked, quoted, and cut where it is so long that it would not be read.
std::string shown(std::string_view text);

}  // namespace berth::config
