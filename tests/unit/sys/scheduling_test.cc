#include "src/lib/sys/scheduling.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <latch>
#include <thread>

#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/thread.h"

namespace berth::sys {
namespace {

int count_of_processors() {
  cpu_set_t processors;
  return ::sched_getaffinity(0, sizeof processors, &processors) == 0 ? CPU_COUNT(&processors) : 0;
}

class Scheduling : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!may_pin_idle()) GTEST_SKIP() << "takes two processors, and CAP_SYS_NICE";
  }
  const int processors_ = count_of_processors();
  const unsigned processor_ = static_cast<unsigned>(::sched_getcpu());
};

TEST_F(Scheduling, OneBesideAnotherHasOneProcessorThatCountsAsIdle) {
  std::thread thread([&] {
    ASSERT_TRUE(pin_idle(::gettid(), processor_));
    EXPECT_EQ(::sched_getscheduler(0), SCHED_IDLE);
    EXPECT_EQ(count_of_processors(), 1);
    EXPECT_EQ(::sched_getcpu(), static_cast<int>(processor_));
    EXPECT_EQ(processor_of(own_id_in_proc()), processor_);
    ASSERT_TRUE(unpin(0));
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(count_of_processors(), processors_);
  });
  thread.join();
}

TEST_F(Scheduling, WhatIsStartedBesideAnotherRunsAnywhere) {
  std::thread thread([&] {
    ASSERT_TRUE(pin_idle(::gettid(), processor_));
    Result<std::thread> started = start_thread("berth-test", [&] {
      EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
      EXPECT_EQ(count_of_processors(), processors_);
    });
    ASSERT_TRUE(started);
    started->join();
  });
  thread.join();
}

TEST_F(Scheduling, ProcessorThatIsNotOursChangesNothing) {
  std::thread thread([&] {
    const Result<> placed = pin_idle(::gettid(), CPU_SETSIZE);
    ASSERT_FALSE(placed);
    EXPECT_EQ(placed.error().code(), EINVAL);
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(count_of_processors(), processors_);
  });
  thread.join();
}

TEST_F(Scheduling, OneWhoseCallerIsOnAProcessorThatIsNotOursRunsAnywhere) {
  std::thread thread([&] {
    ASSERT_TRUE(pin_idle(::gettid(), processor_));
    EXPECT_FALSE(pin_idle(::gettid(), CPU_SETSIZE));
    EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
    EXPECT_EQ(count_of_processors(), processors_);
  });
  thread.join();
}

TEST_F(Scheduling, WhereAllMayRunIsAskedAgain) {
  cpu_set_t before;
  cpu_set_t here;
  CPU_ZERO(&here);
  CPU_SET(processor_, &here);
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  std::latch is_beside(1);
  std::latch is_changed(1);
  std::thread thread([&] {
    EXPECT_TRUE(pin_idle(::gettid(), processor_));
    is_beside.count_down();
    is_changed.wait();
    EXPECT_TRUE(unpin(0));
    EXPECT_EQ(count_of_processors(), 1);
  });
  is_beside.wait();
  EXPECT_EQ(::sched_setaffinity(0, sizeof here, &here), 0);
  is_changed.count_down();
  thread.join();
  EXPECT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

TEST_F(Scheduling, ThreadThatIsGoneHasNoProcessor) {
  pid_t gone = 0;
  std::thread([&] { gone = own_id_in_proc(); }).join();
  ASSERT_GT(gone, 0);
  EXPECT_FALSE(processor_of(gone));
}

}  // namespace
}  // namespace berth::sys
