#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include "fuse/wire/protocol.h"
#include "fuse/workers/workers.h"
#include "src/lib/sys/other_threads.h"
#include "src/lib/sys/scheduling.h"

// Workers: each where its callers are.
namespace berth::fuse {
namespace {

/// A worker that is asked as often in as long a time goes beside its caller.
constexpr unsigned kManyRequests = 4;
constexpr std::chrono::milliseconds kShortTime{1};
/// A caller beside us needs less from an answer to his next request, unless he computes. Otherwise he may be somewhere else
/// now: the kernel moves who waits to a processor that has nothing to do.
constexpr std::chrono::microseconds kNextRequest{10};
/// Who asks as often in a row is alone.
constexpr unsigned kAlone = 8;
/// As many requests in kShortTime from another processor are worth a worker there.
constexpr unsigned kManyElsewhere = 8;
/// How long a worker that has nothing to do looks around for more, while others are at their posts.
constexpr std::chrono::microseconds kLookAround{30};
/// What has waited as long for another worker is taken by one that has nothing to do.
constexpr std::chrono::microseconds kLate{20};

/// Looking lasts as long as a caller likes: who executes a program and leaves open a file of a FUSE server of his own, which does not
/// answer the close, holds up who looks. These many threads may be lost to such callers; then nobody looks.
constexpr std::size_t kMostLooking = 4;

}  // namespace

/// When a request of `caller` has been taken.
void Workers::note_caller(Worker& self, pid_t caller, bool is_waited_for) noexcept {
  self.has_waited |= std::chrono::steady_clock::now() - self.ended > kNextRequest;
  if (self.was_late.load(std::memory_order_relaxed) && self.was_late.exchange(false) && is_waited_for) {
    self.free_until = self.late_until.load();
  }
  if (!is_waited_for) return;
  ++self.in_a_row;
  if (std::exchange(self.caller, caller) != caller) {
    self.in_a_row = 1;
    self.turns.fetch_add(1, std::memory_order_relaxed);
  }
  ++self.requests;
}

/// When it has been answered, not before: while a thread is in execve(2) the kernel does not say where it is (src/lib/sys/other_threads.h), and
/// it may be waiting there until its files are closed, by us. Then this waits, and another worker closes them.
void Workers::stay_beside_caller(Worker& self) noexcept {
  const TimePoint now = self.ended;
  if (places_.is_to_be_looked_for(self.caller, now, std::exchange(self.has_waited, false))) look_for_caller(self);
  const std::optional<unsigned> place = places_.place_of(self.caller);
  const std::optional<unsigned> post = self.post();
  const bool is_elsewhere = place && post && *place != *post;
  if (is_elsewhere) ++self.elsewhere;
  // A lone one is followed at once.
  if (is_elsewhere && self.in_a_row >= kAlone) return go_to(self, *place);
  const Duration counted = now - self.counted;
  if (counted < kShortTime && self.elsewhere < kManyElsewhere) return;
  const bool is_asked_often = self.requests >= kManyRequests && counted < kShortTime * 2;
  const bool many_elsewhere = self.elsewhere >= kManyElsewhere && counted < kShortTime * 2;
  self.counted = now;
  self.requests = self.elsewhere = 0;
  if (!place || do_all_serve() || now < self.free_until.load()) return;
  if (!post && is_asked_often) go_to(self, *place);
  if (is_elsewhere && many_elsewhere) call_to(*place);
}

void Workers::look_for_caller(Worker& self) noexcept {
  if (looking_.fetch_add(1) < kMostLooking) {
    self.looking.store(true, std::memory_order_relaxed);
    try {
      if (const Result<unsigned> place = sys::processor_of(self.caller)) places_.note(self.caller, *place, self.ended);
    } catch (const std::exception&) {
      // It is looked for again.
    }
    self.looking.store(false, std::memory_order_relaxed);
  }
  looking_.fetch_sub(1);
}

/// Unless there is another worker.
void Workers::go_to(Worker& self, unsigned processor) noexcept {
  if (!posts_.take(processor)) return;
  int before = self.beside.load();
  const bool moved = sys::run_beside(self.id, processor).has_value();
  // The watch may have let us go meanwhile.
  const bool stays = self.beside.compare_exchange_strong(before, moved ? static_cast<int>(processor) : kNowhere);
  if (stays && before != kNowhere) posts_.leave(static_cast<unsigned>(before));
  if (!stays) static_cast<void>(sys::run_as_usual(self.id));
  if (!stays || !moved) posts_.leave(processor);
  // And may have gone to sleep over it: it is needed as long as somebody is beside a caller.
  if (!watching_) wake_watch();
}

void Workers::call_to(unsigned processor) noexcept {
  if (posts_.is_taken(processor) || called_to_ == static_cast<int>(processor)) return;
  called_to_ = static_cast<int>(processor);
  call_another();
}

void Workers::go_where_called(Worker& self) noexcept {
  if (called_to_.load(std::memory_order_relaxed) == kNowhere || self.post()) return;
  const int processor = called_to_.exchange(kNowhere);
  if (processor != kNowhere && std::chrono::steady_clock::now() >= self.free_until.load())
    go_to(self, static_cast<unsigned>(processor));
}

/// What others have read for this worker's callers, or for one that has left. It is in the worker's buffer then; answers its size.
std::optional<std::size_t> Workers::receive_mail(Worker& self) noexcept {
  std::optional<Mail> mail = std::exchange(self.mail, std::nullopt);
  if (!mail) mail = posts_.receive(self.post());
  if (!mail) return std::nullopt;
  return open_mail(self, *std::move(mail));
}

std::size_t Workers::open_mail(Worker& self, Mail mail) noexcept {
  posts_.add_spare(std::exchange(self.buffer, std::move(mail.buffer)));
  return mail.size;
}

/// To the worker that is where the caller is: he is woken there without disturbing another processor. True: the request is his, and
/// the worker has another buffer.
bool Workers::pass_on(Worker& self, std::size_t size) noexcept {
  const std::optional<unsigned> post = self.post();
  // What a dead server has left is known to be complete by who has read what (look_whether_all_came()).
  if (!post || posts_.taken() < 2 || requests_.has_left()) return false;
  const fuse_in_header header = protocol::header_of(self.buffer->bytes().first(size));
  if (!protocol::needs_answer(header.opcode)) return false;
  const std::optional<unsigned> place = places_.place_of(static_cast<pid_t>(header.pid));
  if (!place || *place == *post || !posts_.is_taken(*place)) return false;
  std::unique_ptr<ReadBuffer> fresh = posts_.take_spare();
  if (fresh == nullptr) fresh = ReadBuffer::make(requests_, session_.buffer_size());
  // Not into memory that ends with us, where what was read so far does not.
  if (fresh == nullptr || (fresh->record() == nullptr) != (self.buffer->record() == nullptr)) return false;
  Mail mail{.buffer = std::move(self.buffer), .size = size, .sent = std::chrono::steady_clock::now()};
  const bool sent = posts_.send(*place, mail);
  self.buffer = sent ? std::move(fresh) : std::move(mail.buffer);
  if (!sent) posts_.add_spare(std::move(fresh));
  return sent;
}

/// For a worker that has nothing to do while others are at their posts: it is asked again soon, mostly, or can help.
Workers::Found Workers::look_around(Worker& self) noexcept {
  const std::optional<unsigned> post = self.post();
  if (!post || posts_.taken() < 2) return Found::kNothing;
  const TimePoint began = std::chrono::steady_clock::now();
  for (;;) {
    if (posts_.has_mail(*post)) return Found::kMail;
    if (has_request()) return Found::kRequest;
    const TimePoint now = std::chrono::steady_clock::now();
    self.mail = posts_.take_late(now, kLate);
    if (self.mail) return Found::kMail;
    if (now - began > kLookAround && !posts_.has_mail()) return Found::kNothing;
    std::this_thread::yield();
  }
}

/// What was read is handled, whoever ends.
void Workers::finish_mail(Worker& self) noexcept {
  do {
    release(self);
    if (!self.mail) self.mail = posts_.receive(std::nullopt);
    if (self.mail) handle(self, open_mail(self, *std::exchange(self.mail, std::nullopt)));
  } while (self.mail || self.post() || posts_.has_stray());
}

}  // namespace berth::fuse
