// The server dies over pages that were acknowledged and are not written yet: what was acknowledged is in the file in
// the end, and an error is told. Needs a build with -Dcrash_points=true.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "tests/mount/write_back.h"

namespace berth::test {
namespace {

class WriteBackCrashPoints : public WriteBack, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    ASSERT_EQ(::setenv("BERTH_CRASH_FILE", server_.path("trigger").c_str(), 1), 0);
    WriteBack::SetUp();
  }
  void TearDown() override {
    WriteBack::TearDown();
    ::unsetenv("BERTH_CRASH_FILE");
  }
  void arm() {
    ASSERT_TRUE(ok(server_.write_file("trigger.new", std::string(GetParam()) + "\n")));
    ASSERT_EQ(::rename(server_.path("trigger.new").c_str(), server_.path("trigger").c_str()), 0);
  }
  [[nodiscard]] bool has_struck() const { return ::access(server_.path("trigger").c_str(), F_OK) != 0; }
};

std::string word_of(const ::testing::TestParamInfo<const char*>& chosen) {
  std::string word = chosen.param;
  std::replace(word.begin(), word.end(), '-', '_');
  std::replace(word.begin(), word.end(), ' ', '_');
  return word;
}

constexpr std::size_t kSize = std::size_t{1} << 20;

using WrittenPages = WriteBackCrashPoints;
INSTANTIATE_TEST_SUITE_P(Points, WrittenPages,
                         ::testing::Values("pages-kept", "pages-acknowledged", "pages-done", "pages-kept pages-done",
                                           "pages-acknowledged pages-acknowledged", "pages-done pages-done"),
                         word_of);

TEST_P(WrittenPages, AreInTheFileInTheEnd) {
  start_and_map(kSize);
  const Footprint before = server_.footprint();
  hang(0);
  arm();
  for (const char with : {'a', 'b', 'c'}) write_back_and_die(with);
  go_on(0);
  EXPECT_EQ(::fsync(file_.get()), 0) << errno_name(errno);
  EXPECT_TRUE(eventually([this] { return has_struck(); })) << "the point was never reached";
  EXPECT_EQ(::fsync(file_.get()), 0) << errno_name(errno);
  EXPECT_EQ(far_content(), std::string(kSize, 'c'));
  EXPECT_TRUE(eventually([&] { return server_.footprint().descriptors <= before.descriptors; }))
      << server_.footprint() << before;
}

/// A disk that is full, whose server says so when the pages are written.
using RefusedPages = WriteBackCrashPoints;
INSTANTIATE_TEST_SUITE_P(Points, RefusedPages,
                         ::testing::Values("pages-kept", "pages-acknowledged", "late-error-noted", "pages-done",
                                           "pages-done pages-done", "late-error-noted pages-done"),
                         word_of);

TEST_P(RefusedPages, AreAnErrorOnce) {
  start_and_map_on_full_disk("sshfs_sync,");
  hang(0);
  arm();
  write_back_and_die('f');
  go_on(0);
  // Waits until the pages have failed.
  EXPECT_TRUE(eventually([this] { return has_struck() && read_one(in("full/mapped")) == 0; }));
  EXPECT_NE(::fsync(file_.get()), 0);
  EXPECT_EQ(::fsync(file_.get()), 0) << "it is told once: " << errno_name(errno);
}

using TakenError = WriteBackCrashPoints;
INSTANTIATE_TEST_SUITE_P(Points, TakenError, ::testing::Values("late-error-taken", "late-error-taken late-error-taken"),
                         word_of);

TEST_P(TakenError, IsToldThoughTheServerDiesBeforeItAnswers) {
  start_and_map_on_full_disk("sshfs_sync,");
  hang(0);
  write_back_and_die('f');
  go_on(0);
  EXPECT_EQ(read_one(in("full/mapped")), 0);
  arm();
  EXPECT_NE(::fsync(file_.get()), 0);
  EXPECT_TRUE(has_struck()) << "the point was never reached";
  EXPECT_EQ(::fsync(file_.get()), 0) << "it is told once: " << errno_name(errno);
}

}  // namespace
}  // namespace berth::test
