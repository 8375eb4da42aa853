#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "tests/parity/options.h"
#include "tests/parity/sides.h"

namespace berth::test {
namespace {

/// How the directory is that a sequence is run in, and how often it is looked at, come from the seed as well.
Sides::Run run_of(std::uint64_t seed) {
  Random random(seed * 7919 + 1);
  Sides::Run run;
  run.mode = random.of({0777U, 0777U, 01777U, 02777U, 0755U});
  run.look_every = random.of({1, 1, 1, 5, 1000});
  run.sequence = invent_sequence(seed, options().steps, static_cast<int>(persons().size()));
  return run;
}

class Parity : public testing::TestWithParam<const char*> {};

TEST_P(Parity, RandomSequencesAreAsOnTheFileSystemItself) {
  Sides sides(GetParam());
  if (!sides.why_not().empty()) GTEST_SKIP() << sides.why_not();
  int failures = 0;
  for (std::uint64_t seed = options().first; seed < options().first + options().seeds && failures < 5; ++seed) {
    const Sides::Run run = run_of(seed);
    const std::string text = sides.run(run);
    if (text.empty()) continue;
    ++failures;
    const std::string least = options().minimise ? sides.run(sides.minimised(run)) : "";
    ADD_FAILURE() << "seed " << seed << " (--first=" << seed << " --seeds=1): " << (least.empty() ? text : least);
  }
}

INSTANTIATE_TEST_SUITE_P(On, Parity, testing::Values("ext4", "xfs", "btrfs", "tmpfs", "overlay"),
                         [](const auto& tried) { return std::string(tried.param); });

}  // namespace
}  // namespace berth::test
