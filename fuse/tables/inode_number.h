#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string_view>

#include "src/lib/base/hash.h"

namespace berth::fuse {

/// The inode numbers of one share in the namespace: the share and the real inode mixed, so that two files of two shares
/// never look like hard links of one (they have the same st_dev). Stable over restarts and on every machine.
///
/// One-to-one for the files of the share's own device. Across shares and devices numbers are as if drawn at random from
/// 2^64.
///
/// 32-bit programs without large files get EOVERFLOW for a number of more than 32 bits. For them there are numbers of
/// 32 bits: one-to-one for the files of the share's own device whose real number has 32 bits, and else as if drawn at
/// random from 2^32.
class InodeNumbers {
 public:
  /// 32 or 64, for the whole process, which serves one namespace. To be called before there is any number.
  static void set_bits(unsigned bits) noexcept { bits_ = bits; }

  explicit constexpr InodeNumbers(std::string_view share_name) noexcept : seed_(hash(share_name)) {}

  /// `device`: 0 for the device of the share's root, else that of the file.
  [[nodiscard]] ino_t of(std::uint64_t real, std::uint32_t device = 0) const noexcept {
    return bits_ == 32 ? narrow(real, device) : wide(real, device);
  }
  /// Of the root, which has a number before its real one is known. No file system gives a file the number 0.
  [[nodiscard]] ino_t root() const noexcept { return of(0); }
  /// The same whatever the bits are.
  [[nodiscard]] constexpr std::uint64_t wide_root() const noexcept { return wide(0, 0); }

 private:
  static constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;

  [[nodiscard]] constexpr ino_t wide(std::uint64_t real, std::uint32_t device) const noexcept {
    const std::uint64_t seed = device == 0 ? seed_ : mix(seed_ + device * kOdd);
    // Twice, with a seed each time: once alone would leave whole ranges of two shares the same when their seeds are
    // near.
    const std::uint64_t number = mix(mix(real + seed) ^ (seed << 32 | seed >> 32));
    return number > 1 ? number : number + (std::uint64_t{1} << 63);  // 0 means "none", 1 is the namespace's root
  }
  [[nodiscard]] constexpr ino_t narrow(std::uint64_t real, std::uint32_t device) const noexcept {
    const std::uint64_t number =
        device == 0 && real >> 32 == 0 ? mix_32(static_cast<std::uint32_t>(real + seed_)) : wide(real, device) >> 32;
    return number > 1 ? number : number + (std::uint64_t{1} << 31);
  }

  /// The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators"): one-to-one.
  static constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  /// The finaliser of MurmurHash3 (Appleby): one-to-one.
  static constexpr std::uint32_t mix_32(std::uint32_t x) noexcept {
    x = (x ^ (x >> 16)) * 0x85ebca6b;
    x = (x ^ (x >> 13)) * 0xc2b2ae35;
    return x ^ (x >> 16);
  }
  static constexpr std::uint64_t hash(std::string_view text) noexcept { return mix(fnv1a(text) + kOdd); }

  static inline std::atomic<unsigned> bits_{64};

  std::uint64_t seed_;
};

}  // namespace berth::fuse
