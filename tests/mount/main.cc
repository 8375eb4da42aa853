#include <cstdio>

#include "tests/mount/berth_fixture.h"

// meson's word for "skipped".
constexpr int kSkipped = 77;

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (const std::string reason = berth::test::why_not(); !reason.empty()) {
    std::printf("skipped: %s\n", reason.c_str());
    return kSkipped;
  }
  if (const auto entered = berth::test::enter_private_mount_namespace(); !entered) {
    std::printf("skipped: no mount namespace of its own: %s\n", entered.error().message().c_str());
    return kSkipped;
  }
  return RUN_ALL_TESTS();
}
