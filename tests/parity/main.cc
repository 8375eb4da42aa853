#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/mount/berth_fixture.h"
#include "tests/parity/options.h"

namespace berth::test {

Options& options() {
  static Options given;
  return given;
}

}  // namespace berth::test

namespace {

// meson's word for "skipped".
constexpr int kSkipped = 77;

bool take(std::string_view argument) {
  berth::test::Options& options = berth::test::options();
  const auto number = [&] { return std::strtoull(argument.substr(argument.find('=') + 1).data(), nullptr, 10); };
  if (argument.starts_with("--first=")) {
    options.first = number();
  } else if (argument.starts_with("--seeds=")) {
    options.seeds = number();
  } else if (argument.starts_with("--steps=")) {
    options.steps = static_cast<int>(number());
  } else if (argument.starts_with("--without=")) {
    options.without = argument.substr(argument.find('=') + 1);
  } else if (argument.starts_with("--access=")) {
    options.access = argument.substr(argument.find('=') + 1);
  } else if (argument == "--no-atime") {
    options.atime = false;
  } else if (argument == "--thorough") {
    options.thorough = true;
  } else if (argument == "--whole") {
    options.minimise = false;
  } else {
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    if (take(argv[i])) continue;
    std::fprintf(stderr,
                 "usage: %s [--first=SEED] [--seeds=N] [--steps=N] [--without=CALL,...] [--access=native] [--no-atime] "
                 "[--thorough] [--whole]\n",
                 argv[0]);
    return 64;
  }
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
