#include "src/doctor/kernel.h"

#include <array>
#include <charconv>

namespace berth::doctor {
namespace {

constexpr std::array kFeatures{
    KernelFeature{{6, 1}, "everything but what follows (Debian 12)"},
    KernelFeature{{6, 5}, "the next start replaces a dead namespace without a gap"},
    KernelFeature{{6, 9},
                  "no call fails when the server dies or is upgraded; data of local file systems at the kernel's own "
                  "speed; native shares"},
    KernelFeature{{6, 16}, "the process that serves a FUSE share is known, also if it is a daemon"},
    KernelFeature{{6, 18}, "`max_nodes` is kept"},
};

}  // namespace

std::span<const KernelFeature> kernel_features() noexcept { return kFeatures; }

KernelVersion parse_kernel_release(std::string_view release) noexcept {
  KernelVersion version;
  const char* const end = release.data() + release.size();
  const auto [dot, error] = std::from_chars(release.data(), end, version.major);
  if (error != std::errc() || dot == end || *dot != '.') return {};
  if (std::from_chars(dot + 1, end, version.minor).ec != std::errc()) return {};
  return version;
}

}  // namespace berth::doctor
