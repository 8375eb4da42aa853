#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "tests/parity/hand.h"

// Locks, none of which waits.
namespace berth::test {
namespace {

std::string perform_flock(Hand& hand, const Operation& op) {
  return result(::flock(hand.fd(op.slot), static_cast<int>(op.n[0]) | LOCK_NB));
}

void invent_flock(Random& random, Operation& op) { op.n[0] = random.of({LOCK_SH, LOCK_EX, LOCK_EX, LOCK_UN}); }

struct flock range_of(const Operation& op) {
  struct flock range {};
  range.l_type = static_cast<short>(op.n[1]);
  range.l_whence = SEEK_SET;
  range.l_start = op.n[2];
  range.l_len = op.n[3];
  return range;
}

std::string perform_lock(Hand& hand, const Operation& op) {
  struct flock range = range_of(op);
  return result(::fcntl(hand.fd(op.slot), op.n[0] != 0 ? F_OFD_SETLK : F_SETLK, &range));
}

std::string perform_ask(Hand& hand, const Operation& op) {
  struct flock range = range_of(op);
  const int answer = ::fcntl(hand.fd(op.slot), op.n[0] != 0 ? F_OFD_GETLK : F_GETLK, &range);
  if (answer < 0) return result(answer);
  if (range.l_type == F_UNLCK) return "free";
  return "type " + std::to_string(range.l_type) + " from " + std::to_string(range.l_start) + " for " +
         std::to_string(range.l_len) + " pid " + std::to_string(range.l_pid);
}

void invent_lock(Random& random, Operation& op) {
  op.n = {random.below(2), random.of({F_RDLCK, F_WRLCK, F_WRLCK, F_UNLCK}), random.of({0L, 0L, 10L, 100L, -1L}),
          random.of({0L, 0L, 1L, 50L, 90L})};
}

constexpr Call kCalls[] = {
    {"flock", 5, &perform_flock, &invent_flock},
    {"lock", 8, &perform_lock, &invent_lock},
    {"ask_lock", 5, &perform_ask, &invent_lock},
};

}  // namespace

std::span<const Call> lock_calls() { return kCalls; }

}  // namespace berth::test
