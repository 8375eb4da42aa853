#pragma once

#include <span>
#include <string_view>
#include <vector>

namespace berth::doctor {

struct KernelVersion {
  unsigned major = 0, minor = 0;
  friend auto operator<=>(const KernelVersion&, const KernelVersion&) = default;
};

/// Something that berth does from a version of Linux on. This table is the only one; docs/limits.md shows it (a test
/// compares them).
struct KernelFeature {
  KernelVersion since;
  std::string_view gives;
};

/// By version. The first one is what berth needs at least.
std::span<const KernelFeature> kernel_features() noexcept;

/// The version at the start of a release ("6.1.0-18-amd64", uname(2)); 0.0 when there is none.
KernelVersion parse_kernel_release(std::string_view release) noexcept;

}  // namespace berth::doctor
