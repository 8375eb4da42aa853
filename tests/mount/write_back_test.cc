// Pages of mappings that the kernel writes back to a share whose server does not answer, or has no room.
#include "tests/mount/write_back.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace berth::test {
namespace {

constexpr uid_t kUser = 1000;

TEST_F(WriteBack, ProcessesThatEndWithAMappingOfAHungShareEnd) {
  start_and_map(300000);
  hang(0);
  Callers mappers;
  const auto change = [this](int page) {
    return [this, page] {
      static_cast<char*>(mapped_)[4096 * page] = 'x';
      return ::raise(SIGKILL);
    };
  };
  for (int i = 0; i < 60; ++i) mappers.add(change(i), i % 2 == 0 ? 0 : kUser);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/other")); }, kUser, 20);
  EXPECT_TRUE(mappers.all_end());
  EXPECT_EQ(mappers.ended_with(SIGKILL), 60U);
  go_on(0);
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(sync_pages(), 0);
  const std::string all = far_content();
  EXPECT_EQ(std::count(all.begin(), all.end(), 'x'), 60);
}

TEST_F(WriteBack, WhatASlowServerHasNotWrittenIsReadAndOvertakenByNothing) {
  start_and_map(std::size_t{2} << 20);
  hang(0);
  for (const char with : {'a', 'b', 'c'}) write_back_and_die(with);
  // In a process of their own, and past the page cache: what they are answered comes from the server.
  Callers readers;
  readers.add(
      [this] {
        const UniqueFd direct(::open(in("r0/mapped").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
        std::string bytes(4096, '-');
        if (!direct || ::pread(direct.get(), bytes.data(), bytes.size(), 0) != 4096) return 1;
        return bytes == std::string(4096, 'c') ? 0 : 2;
      },
      0, 8);
  readers.add([this] { return ::ftruncate(file_.get(), 1 << 20) == 0 ? 0 : errno; });
  ASSERT_TRUE(readers.all_wait());
  go_on(0);
  EXPECT_TRUE(readers.all_end());
  EXPECT_EQ(readers.ended_with(0), 9U);
  EXPECT_EQ(::fsync(file_.get()), 0) << errno_name(errno);
  EXPECT_EQ(far_content(), std::string(1 << 20, 'c'));
}

TEST_F(WriteBack, FsyncWaitsForWhatIsNotWritten) {
  start_and_map(std::size_t{1} << 20);
  hang(0);
  write_back_and_die('a');
  Callers syncers;
  syncers.add([this] { return ::fsync(file_.get()) == 0 ? 0 : errno; });
  ASSERT_TRUE(syncers.all_wait());
  EXPECT_EQ(syncers.running(), 1U);
  go_on(0);
  EXPECT_TRUE(syncers.all_end());
  EXPECT_EQ(syncers.ended_with(0), 1U);
  EXPECT_EQ(far_content(), std::string(1 << 20, 'a'));
}

TEST_F(WriteBack, MoreThanWaitsForAShareIsNotLost) {
  constexpr std::size_t kSize = std::size_t{300} << 20;
  start_and_map(kSize);
  allow_dirty_pages();
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/other")); }, kUser, 10);
  ASSERT_TRUE(stuck.all_wait());
  Callers writer;
  writer.add([this] {
    fill('m');
    return sync_pages();
  });
  // In requests of 1 MiB at most: more than what is acknowledged and what others may have wait.
  EXPECT_TRUE(eventually([this] {
    return server_.read_json("shares/r0/status.json")["unanswered"].value("callers", 0) > 160;
  })) << server_.read_json("shares/r0/status.json");
  go_on(0);
  EXPECT_TRUE(writer.all_end());
  EXPECT_EQ(writer.ended_with(0), 1U);
  const std::string all = far_content();
  EXPECT_EQ(static_cast<std::size_t>(std::count(all.begin(), all.end(), 'm')), kSize);
}

TEST_F(WriteBack, NextServerWritesWhatAKilledOneHasNot) {
  start_and_map(std::size_t{3} << 20);
  hang(0);
  Callers stuck;
  stuck.add([this] { return look_at(in("r0/other")); }, kUser, 10);
  ASSERT_TRUE(stuck.all_wait());
  write_back_and_die('a');
  write_back_and_die('b');
  for (int i = 0; i < 3; ++i) server_.kill_server();
  Callers syncers;
  syncers.add([this] { return ::fsync(file_.get()) == 0 ? 0 : errno; });
  ASSERT_TRUE(syncers.all_wait());
  go_on(0);
  EXPECT_TRUE(syncers.all_end());
  EXPECT_EQ(syncers.ended_with(0), 1U);
  EXPECT_TRUE(stuck.all_end());
  EXPECT_EQ(far_content(), std::string(std::size_t{3} << 20, 'b'));
}

/// "sshfs_sync,": the server refuses the pages. "": it takes them, and says so when the process that has died closes
/// the file.
class LateError : public WriteBack, public ::testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Tellers, LateError, ::testing::Values("", "sshfs_sync,"));

TEST_P(LateError, IsToldOnceAndOverAKill) {
  start_and_map_on_full_disk(GetParam());
  hang(0);
  write_back_and_die('f');
  go_on(0);
  // Waits until the pages have failed.
  EXPECT_EQ(read_one(in("full/mapped")), 0);
  server_.kill_server();
  EXPECT_NE(::fsync(file_.get()), 0);
  EXPECT_EQ(::fsync(file_.get()), 0) << "it is told once: " << errno_name(errno);
}

TEST_F(WriteBack, ForcedUnmountTellsTheError) {
  start_and_map(std::size_t{1} << 20);
  hang(0);
  write_back_and_die('a');
  ASSERT_TRUE(ok(server_.write_control("shares/r0/control", "force-unmount")));
  EXPECT_NE(::fsync(file_.get()), 0);
  EXPECT_EQ(read_one(in("r0/file")), 0);
}

TEST_F(WriteBack, PartThatHasNoRoomIsAnError) {
  start_and_map_on_full_disk("sshfs_sync,");
  fill('f');
  EXPECT_NE(sync_pages(), 0);
}

}  // namespace
}  // namespace berth::test
