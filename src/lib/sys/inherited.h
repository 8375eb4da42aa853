#pragma once

#include <sys/types.h>

#include "src/lib/base/result.h"

/// What a program inherits from the process that starts it (execve(2)), and what a daemon must not leave to chance.
///
/// Call these with one thread.
namespace berth::sys {

/// Descriptors 0, 1 and 2 are open: one that is not becomes /dev/null, so that no file of this process gets its number.
/// Errors: ENOENT.
Result<> open_standard_descriptors() noexcept;
/// Closes every other one.
void close_other_descriptors() noexcept;

/// What ends a process or has its default action to end it is left to SIGTERM, SIGINT, SIGQUIT and the signals of
/// faults; all others are ignored, and children are waited for. Programs that we start get the defaults again
/// (process.h).
void settle_signals() noexcept;
/// No signal is blocked.
void unblock_signals() noexcept;

/// No limit of this process's own (getrlimit(2)) ends it or fails what it does; as many open files as the kernel gives
/// (fs.nr_open); stacks of 8 MiB. Limits of core dumps stay. Needs CAP_SYS_RESOURCE where the hard limit is low.
/// Errors: EPERM with a story that names the limit and where to raise it.
Result<> lift_limits();

/// Scheduled as programs are by default: no worse niceness than 0, neither SCHED_BATCH nor SCHED_IDLE, no idle class of
/// ioprio_set(2), a timer slack of 50 microseconds, the usual execution domain (personality(2)). What makes it better
/// stays. Errors: EPERM.
Result<> settle_scheduling() noexcept;

/// How soon the kernel kills a process when memory runs out (proc(5), oom_score_adj), among the processes of berth: the
/// server, which another one follows, before the programs that serve mounts, and those before the processes that hold
/// everything.
inline constexpr int kServerOomScore = 300;
inline constexpr int kProgramOomScore = 0;
inline constexpr int kKeeperOomScore = -500;
/// Of the calling process. Errors: those of open(2) and write(2): EACCES below what it was started with, without
/// CAP_SYS_RESOURCE.
Result<> set_oom_score(int score) noexcept;
/// The same of one that holds everything: it stays where it is if it is lower. Without the privilege, a value above 0
/// becomes 0.
Result<> settle_oom_score() noexcept;

/// Limits for a program that this process starts: of open files those that programs are used to, because many make a
/// table with a place for each. As soon after its start as can be.
void limit_program(pid_t program) noexcept;

/// While an object of it lives, a process that this one starts has kProgramOomScore, where this one has a higher score.
///
/// A program forks as soon as it likes, so a score that its parent sets after the start may come too late for its
/// children. So this process itself has the score of programs while any thread starts one.
///
/// Threading: any thread.
class ProgramOomScore {
 public:
  ProgramOomScore() noexcept;
  ~ProgramOomScore();
  ProgramOomScore(const ProgramOomScore&) = delete;
  ProgramOomScore& operator=(const ProgramOomScore&) = delete;
};
/// A program that this process has started gives up a lower score than kProgramOomScore. As soon after its start as can
/// be.
void give_up_oom_score(int pidfd) noexcept;

/// Makes room for so many descriptors in this process's table, which never shrinks. Later, when others share the table,
/// each doubling would wait for the kernel's other processors (expand_fdtable(), fs/file.c), some milliseconds each
/// time.
void make_room_for_descriptors(unsigned count) noexcept;

/// A program or process that is started gets a copy of all descriptors below this (dup_fd(), fs/file.c, copies whole
/// words), and none of the others (spawn_program.cc, native_agent.cc).
inline constexpr int kCopiedDescriptors = 64;
/// Takes the numbers below kCopiedDescriptors that are free, for good, so that no file of a share gets one. They become
/// copies of standard input, which a daemon has open on /dev/null (settle_surroundings()).
void occupy_copied_descriptors() noexcept;

}  // namespace berth::sys
