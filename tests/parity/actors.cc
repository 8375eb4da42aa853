#include "tests/parity/actors.h"

#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>

#include "tests/parity/hand.h"

namespace berth::test {
namespace {

/// Only what hangs meets it.
constexpr int kPatience = 60'000;

/// Waits for the clock that files are stamped with.
void await_tick() {
  timespec start{}, now{};
  ::clock_gettime(CLOCK_REALTIME_COARSE, &start);
  do {
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
  } while (now.tv_sec == start.tv_sec && now.tv_nsec == start.tv_nsec);
}

/// Of a user; root has all.
bool take_capabilities(std::uint64_t which) {
  const auto low = static_cast<std::uint32_t>(which), high = static_cast<std::uint32_t>(which >> 32U);
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const __user_cap_data_struct data[2] = {{low, low, 0}, {high, high, 0}};
  return ::syscall(SYS_capset, &header, data) == 0;
}

bool become(const Person& person) {
  std::vector<gid_t> groups(person.groups.begin(), person.groups.end());
  return ::prctl(PR_SET_KEEPCAPS, 1) == 0 && ::setgroups(groups.size(), groups.data()) == 0 &&
         ::setresgid(person.gid, person.gid, person.gid) == 0 && ::setresuid(person.uid, person.uid, person.uid) == 0 &&
         (person.uid == 0 || take_capabilities(person.capabilities));
}

void replace_all(std::string& text, const std::string& what, const std::string& with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size()) {
    text.replace(at, what.size(), with);
  }
}

}  // namespace

Actors::Actors(const std::vector<Operation>& sequence, const std::string& native, const std::string& share, bool tmpfs)
    : sequence_(sequence), tmpfs_(tmpfs), native_{native, {}}, share_{share, {}} {
  native_.actors.resize(persons().size());
  share_.actors.resize(persons().size());
}

Actors::~Actors() {
  for (Side* const side : {&native_, &share_}) {
    for (Actor& actor : side->actors) actor.line.reset();
  }
  for (const Side* const side : {&native_, &share_}) {
    int status = 0;
    for (const Actor& actor : side->actors) {
      if (actor.pid > 0) ::waitpid(actor.pid, &status, 0);
    }
  }
}

/// So that a time that is set again is seen to change. A link or a rename on tmpfs gives the directory the time of the
/// file, which need not be a new one.
std::string Actors::perform_with(Hand& hand, const Operation& operation) const {
  using Stamps = Call::Stamps;
  const Stamps stamps = operation.call->stamps;
  if (stamps == Stamps::kCoarse || (stamps == Stamps::kCoarseOnTmpfs && tmpfs_)) await_tick();
  return operation.call->perform(hand, operation);
}

void Actors::act(int line, const Person& person, const std::string& root) const {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(022);
  Hand hand(root);
  if (!hand.ready() || !become(person)) ::_exit(1);
  std::size_t number = 0;
  while (::recv(line, &number, sizeof number, 0) == static_cast<ssize_t>(sizeof number)) {
    const std::string answer = perform_with(hand, sequence_.at(number));
    if (::send(line, answer.data(), answer.size(), 0) < 0) break;
  }
  ::_exit(0);
}

void Actors::start(const Side& side, Actor& actor, const Person& person) const {
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
  actor.pid = ::fork();
  if (actor.pid == 0) {
    ::close(ends[0]);
    // A process that has another's line keeps it from ending.
    for (const Side* const known : {&native_, &share_}) {
      for (const Actor& other : known->actors) ::close(other.line.get());
    }
    act(ends[1], person, side.root);
  }
  ::close(ends[1]);
  actor.line.reset(ends[0]);
}

std::string Actors::perform_on(Side& side, std::size_t number) const {
  const auto who = static_cast<std::size_t>(sequence_.at(number).actor);
  Actor& actor = side.actors.at(who);
  if (actor.pid < 0) start(side, actor, persons().at(who));
  std::string answer(100'000, '\0');
  if (::send(actor.line.get(), &number, sizeof number, MSG_NOSIGNAL) < 0) return "the process is gone";
  pollfd readable{actor.line.get(), POLLIN, 0};
  if (::poll(&readable, 1, kPatience) != 1) {
    ::kill(actor.pid, SIGKILL);
    return "the process hangs";
  }
  const ssize_t size = ::recv(actor.line.get(), answer.data(), answer.size(), 0);
  if (size < 0) return "the process is gone";
  answer.resize(static_cast<std::size_t>(size));
  // The holder of a lock is named by process id.
  for (std::size_t i = 0; i < side.actors.size(); ++i) {
    replace_all(answer, "pid " + std::to_string(side.actors[i].pid), "actor " + std::to_string(i));
  }
  return answer;
}

Outcomes Actors::perform(std::size_t number) {
  Outcomes outcomes;
  outcomes.native = perform_on(native_, number);
  outcomes.share = perform_on(share_, number);
  return outcomes;
}

}  // namespace berth::test
