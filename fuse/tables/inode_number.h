#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string_view>

#include "src/lib/base/hash.h"

namespace berth::fuse {

/// The inode numbers of one share in the namespace: the share and the real inode mixed, so that two files of two shares
/// never look like hard links of one (they have the same st_dev). Stable over restarts and on every machine.
///
/// One-to-one for the files of the share's own device. Across shares and devices numbers are as if drawn at random from
/// 2^64.
class InodeNumbers {
 public:
  explicit constexpr InodeNumbers(std::string_view share_name) noexcept : seed_(hash(share_name)) {}

  /// `device`: 0 for the device of the share's root, else that of the file.
  [[nodiscard]] constexpr ino_t of(std::uint64_t real, std::uint32_t device = 0) const noexcept {
    const std::uint64_t seed = device == 0 ? seed_ : mix(seed_ + device * kOdd);
    // Twice, with a seed each time: once alone would leave whole ranges of two shares the same when their seeds are near.
    const std::uint64_t number = mix(mix(real + seed) ^ (seed << 32 | seed >> 32));
    return number > 1 ? number : number + (std::uint64_t{1} << 63);  // 0 means "none", 1 is the namespace's root
  }
  /// Of the root, which has a number before its real one is known. No file system gives a file the number 0.
  [[nodiscard]] constexpr ino_t root() const noexcept { return of(0); }

 private:
  static constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;

  /// The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): one-to-one.
  static constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  static constexpr std::uint64_t hash(std::string_view text) noexcept { return mix(fnv1a(text) + kOdd); }

  std::uint64_t seed_;
};

}  // namespace berth::fuse
