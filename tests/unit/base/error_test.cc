#include "src/lib/base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace berth {
namespace {

TEST(ErrorMessage, EndsWithTheErrnoUnlessTheStoryIsWhole) {
  EXPECT_EQ(Error(EACCES).message(), "Permission denied");
  EXPECT_EQ(Error(EACCES, "cannot open a").message(), "cannot open a: Permission denied");
  EXPECT_EQ(Error(EACCES, "a: Permission denied").message(), "a: Permission denied");
  EXPECT_EQ(Error(ENODEV, "a is not installed; on Debian: apt install a").message(),
            "a is not installed; on Debian: apt install a");
}

/// A name is a user's.
TEST(ErrorMessage, HasTheErrnoWhateverIsQuoted) {
  EXPECT_EQ(Error(ENOENT, R"(cannot open "a; b\"; c")").message(),
            R"(cannot open "a; b\"; c": No such file or directory)");
}

}  // namespace
}  // namespace berth
