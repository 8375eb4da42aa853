#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "src/lib/base/unique_fd.h"

namespace berth::test {

/// All that can be seen of one file.
struct Seen {
  struct stat status {};
  std::string target;      ///< of a symbolic link
  std::string attributes;  ///< extended ones, with their values, sorted
  std::string data;        ///< digest; "" when not asked for
};

/// A tree at a moment, by path; the root is ".".
using Tree = std::map<std::string, Seen>;

/// What a file system cannot be held to.
struct Tolerance {
  bool blocks = false;  ///< st_blocks differs by itself (allocation that is put off)
  bool reads = false;   ///< times of access, where the kernel answers from a cache of its own
};

/// Looks at everything below `root`, as root, without changing times of access. `with_data`: reads files, links and
/// extended attributes too, but not of `known` paths.
Tree look(const std::string& root, bool with_data, const std::set<std::string>& known = {});

/// Differences between two sides, a line each; none when they are alike.
///
/// Times: those that were set (before 2001) must be equal. Of the others it is asked whether they changed since the
/// last look, which must be so on both sides or on none.
class Comparison {
 public:
  explicit Comparison(Tolerance tolerance) noexcept : tolerance_(tolerance) {}

  /// Takes what is seen on the two sides now. `reads`: times of access are compared too.
  std::string compare(Tree native, Tree share, bool times);

 private:
  [[nodiscard]] std::string file(const std::string& path, const Seen& native, const Seen& share, bool times) const;

  Tolerance tolerance_;
  std::map<ino_t, struct stat> native_before_;
  std::map<ino_t, struct stat> share_before_;
};

}  // namespace berth::test
