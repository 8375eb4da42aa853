#include "src/daemon/native/overmount_table.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "src/lib/sys/mount_table.h"
#include "tests/unit/temporary_directory.h"

namespace berth::daemon {
namespace {

namespace fs = std::filesystem;
using There = OvermountTable::There;

/// Bytes that this process has read (proc(5), io).
std::uint64_t bytes_read() {
  std::ifstream io("/proc/self/io");
  std::string key;
  std::uint64_t value = 0;
  io >> key >> value;
  return value;
}

/// The mount namespace is the thread's own.
class OvermountTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << errno;
    ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr), 0) << errno;
    fs::create_directory(target_);
  }
  std::uint64_t mount() const {
    EXPECT_EQ(::mount("tmpfs", target_.c_str(), "tmpfs", 0, nullptr), 0) << errno;
    const auto entry = sys::find_mount(target_);
    return entry && *entry ? (*entry)->id : 0;
  }
  void unmount() const { EXPECT_EQ(::umount2(target_.c_str(), 0), 0) << errno; }
  There look(std::uint64_t id) { return table_.look(id, target_, directory_.path()).value(); }

  testing::TemporaryDirectory directory_;
  const std::string target_ = fs::path(directory_.path()) / "share";
  OvermountTable table_;
};

TEST_F(OvermountTableTest, SeesEachChange) {
  const std::uint64_t lower = mount();
  EXPECT_EQ(look(lower), There::kOnTop);
  const std::uint64_t upper = mount();
  EXPECT_EQ(look(lower), There::kCovered);
  EXPECT_EQ(look(upper), There::kOnTop);
  unmount();
  EXPECT_EQ(look(lower), There::kOnTop);
  EXPECT_EQ(look(upper), There::kGone);
  EXPECT_EQ(table_.look(lower, target_ + "/other", directory_.path()).value(), There::kGone);
  unmount();
  EXPECT_EQ(look(lower), There::kGone);
}

TEST_F(OvermountTableTest, ReadsTheKernelsTableNoMoreOftenThanItChanges) {
  const std::uint64_t id = mount();
  ASSERT_EQ(look(id), There::kOnTop);
  const std::uint64_t at_first = bytes_read();
  ASSERT_TRUE(sys::read_mount_table());
  const std::uint64_t before = bytes_read();
  for (int i = 0; i < 100; ++i) ASSERT_EQ(look(id), There::kOnTop);
  // To count reads something, too.
  EXPECT_LT(bytes_read() - before, before - at_first);
}

}  // namespace
}  // namespace berth::daemon
