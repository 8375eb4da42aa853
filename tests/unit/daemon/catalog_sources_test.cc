#include "src/daemon/server/catalog_sources.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <fstream>
#include <vector>

#include "src/lib/base/unique_fd.h"
#include "tests/unit/eventually.h"
#include "tests/unit/temporary_directory.h"

namespace berth::daemon {
namespace {

TEST(CatalogSourcesTest, SourceThatCannotBeRunSaysWhyAndIsStartedByTheNextReload) {
  const testing::TemporaryDirectory directory;
  CatalogSources sources({.directory = directory.path(), .namespace_directory = "/volumes", .changed = [] {}});
  const std::vector<config::CatalogSource> wanted{
      {.name = "fleet", .program = {"/bin/sleep", "1000"}, .max_shares = 10}};
  // No mount namespace, so its thread cannot be where its program is.
  const UniqueFd wrong(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  sources.run(wanted, wrong.get());
  EXPECT_TRUE(testing::eventually([&] { return sources.views().at(0).error.starts_with("it cannot be run"); }));
  EXPECT_EQ(sources.views().at(0).state, "down");
  sources.run(wanted, -1);
  EXPECT_EQ(sources.views().size(), 1U);
  EXPECT_TRUE(testing::eventually([&] { return sources.views().at(0).state == "listing"; }));
}

}  // namespace
}  // namespace berth::daemon
