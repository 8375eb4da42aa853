#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "src/lib/base/unique_fd.h"
#include "tests/mount/hung_share.h"

namespace berth::test {

/// A file of r0 that is mapped, with all its pages read.
class WriteBack : public HungShareTest {
 protected:
  void TearDown() override {
    if (mapped_ != MAP_FAILED) ::munmap(mapped_, size_);
    file_.reset();
    if (!full_.empty()) {
      EXPECT_TRUE(eventually([this] { return server_.write_control("shares/full/control", "unmount").has_value(); }));
      EXPECT_EQ(::umount2(full_.c_str(), MNT_DETACH), 0) << errno_name(errno);
    }
    HungShareTest::TearDown();
  }

  void start_and_map(std::size_t size, const std::string& name = "r0/mapped", const std::string& berth_lines = "") {
    start(1, berth_lines);
    touch_remote(1);
    map(size, name);
  }
  void map(std::size_t size, const std::string& name) {
    size_ = size;
    file_ = UniqueFd(::open(in(name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    ASSERT_TRUE(file_) << errno_name(errno);
    ASSERT_EQ(::ftruncate(file_.get(), static_cast<off_t>(size)), 0) << errno_name(errno);
    mapped_ = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    ASSERT_NE(mapped_, MAP_FAILED) << errno_name(errno);
    ASSERT_EQ(::madvise(mapped_, size, MADV_POPULATE_READ), 0) << errno_name(errno);
  }
  /// A share "full" of the same server, on a disk that is smaller than the file that is mapped, "full/mapped".
  void start_and_map_on_full_disk(const std::string& options) {
    full_ = server_.make_directory("full");
    ASSERT_EQ(::mount("tmpfs", full_.c_str(), "tmpfs", 0, "size=512k,mode=777"), 0) << errno_name(errno);
    start(1, "[share.full]\ntype = \"fuse.sshfs\"\nsource = \"root@host-r0:" + full_ +
                 "\"\noptions = \"allow_other,cache=no," + options + "ssh_command=" + server_.path("pipe") + "\"\n");
    map(std::size_t{1} << 20, "full/mapped");
  }
  void fill(char with) { std::memset(mapped_, with, size_); }
  /// Answers an errno value.
  int sync_pages() { return ::msync(mapped_, size_, MS_SYNC) == 0 ? 0 : errno; }
  /// Has the kernel write the pages back, in another process, which ends by a signal with the file open.
  void write_back_and_die(char with) {
    Callers writers;
    writers.add([this, with] {
      fill(with);
      return ::raise(SIGKILL);
    });
    EXPECT_TRUE(writers.all_end());
    EXPECT_EQ(writers.ended_with(SIGKILL), 1U);
  }
  /// The host stops processes only when they make more pages dirty than a large host would allow.
  void allow_dirty_pages() const {
    struct stat attributes {};
    ASSERT_EQ(::fstat(file_.get(), &attributes), 0);
    const std::string bdi =
        "/sys/class/bdi/" + std::to_string(major(attributes.st_dev)) + ":" + std::to_string(minor(attributes.st_dev));
    std::ofstream(bdi + "/strict_limit") << "0";
    std::ofstream(bdi + "/max_ratio") << "100";
  }
  [[nodiscard]] std::string far_content() const {
    std::ifstream file(server_.path("far0/mapped"), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }

  UniqueFd file_;
  void* mapped_ = MAP_FAILED;
  std::size_t size_ = 0;

 private:
  std::string full_;
};

}  // namespace berth::test
