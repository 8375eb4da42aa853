// What the control thread does about native access (life_cycle::Native).
#include <algorithm>
#include <utility>

#include "manager/engine/core.h"

namespace berth::manager {
namespace {

/// Those whose turn comes at once. While they are laid over none of them can be unmounted.
constexpr std::size_t kMostInABatch = 64;
/// The same on a host that is never quiet.
constexpr std::size_t kMostAmongOthers = 4;

}  // namespace

void Manager::Core::note_mount() noexcept { last_mount_ = clock_.now().time_since_epoch().count(); }

TimePoint Manager::Core::quiet_at() const noexcept {
  return TimePoint(Duration(last_mount_)) + life_cycle::kHandOverQuiet;
}

void Manager::Core::queue_hand_over(Record& record) {
  if (std::exchange(record.hand_over_queued, true)) return;
  hand_overs_.push_back({&record, clock_.now()});
}

std::optional<TimePoint> Manager::Core::next_hand_over() const {
  if (laying_) return std::nullopt;
  if (!batch_.empty()) return TimePoint::min();
  if (hand_overs_.empty()) return std::nullopt;
  return std::min(quiet_at(), hand_overs_.front().since + life_cycle::kHandOverLongestWait);
}

/// One batch at a time: what it costs is mostly to look at all threads of the host, which serves all shares in it.
void Manager::Core::start_hand_overs() {
  const TimePoint now = clock_.now();
  const bool quiet = quiet_at() <= now;
  const std::size_t most = quiet ? kMostInABatch : kMostAmongOthers;
  while (!hand_overs_.empty() && batch_.size() < most) {
    const QueuedHandOver next = hand_overs_.front();
    if (!quiet && next.since + life_cycle::kHandOverLongestWait > now) break;
    hand_overs_.pop_front();
    next.record->hand_over_queued = false;
    happen(next.record->share, life_cycle::HandOver{});
  }
  if (batch_.empty()) return;
  laying_ = true;
  auto work = [self = shared_from_this(), batch = std::exchange(batch_, {}), quiet]() mutable {
    self->lay_over(std::move(batch), quiet);
  };
  submit(operations_.get(), std::move(work));
}

/// On a pool thread.
void Manager::Core::lay_over(std::vector<Laying> batch, bool waits_for_quiet) {
  std::vector<const Share*> shares;
  shares.reserve(batch.size());
  for (const Laying& laying : batch) shares.push_back(&laying.record->share);
  setup_.native->begin_batch(shares);
  for (const Laying& laying : batch) {
    life_cycle::NativeLaid laid;
    laid.postponed = waits_for_quiet && !laying.wanted && quiet_at() > clock_.now();
    if (!laid.postponed) {
      Share& share = laying.record->share;
      const Result<> result = setup_.native->lay_over(share, laying.root, laying.deadline);
      if (result) share.set_handed_over(clock_.now());
      if (!result) laid.error = result.error();
    }
    post([this, record = laying.record, laid = std::move(laid)] { happen(record->share, laid); });
  }
  setup_.native->end_batch();
  post([this] { laying_ = false; });
}

void Manager::Core::hand_over(Share& share, HandOverCallback done) {
  Record& record = record_of(share);
  if (record.hand_over_waiters.size() >= setup_.max_waiters_per_share) return answer(std::move(done), false);
  record.hand_over_waiters.push_back({clock_.now() + life_cycle::kHandOverPatience, std::move(done)});
  if (!share.awaits_hand_over()) return answer_hand_over_waiters(record);
  happen(share, life_cycle::HandOverWanted{});
}

/// It has been handed over, or is not going to be.
void Manager::Core::answer_hand_over_waiters(Record& record) {
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  const bool handed_over = mounted != nullptr && mounted->native == life_cycle::Native::kOn;
  for (HandOverWaiter& waiter : std::exchange(record.hand_over_waiters, {}))
    answer(std::move(waiter.done), handed_over);
}

void Manager::Core::start_taking(Record& record, NativeAccess::When when, TimePoint deadline) {
  auto work = [self = shared_from_this(), &record, when, deadline] {
    Result<NativeAccess::Outcome> taken = self->setup_.native->take_off(record.share, when, deadline);
    Core* core = self.get();
    core->post([core, &record, taken = std::move(taken)] {
      core->happen(record.share, taken ? life_cycle::NativeTaken{*taken, Error(0)}
                                       : life_cycle::NativeTaken{NativeAccess::Outcome::kInUse, taken.error()});
    });
  };
  submit(operations_.get(), std::move(work));
}

void Manager::Core::resume_native(Share& share) {
  if (stopping_) return;
  Record& record = record_of(share);
  if (auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state)) {
    mounted->native = life_cycle::Native::kOn;
    mounted->native_at = clock_.now();
    share.set_handed_over(clock_.now());
    record.timer = mounted->native_at;
    publish(record);
    return schedule(record);
  }
  record.was_native = true;
  happen(share, life_cycle::Wanted{"native since an earlier server"});
}

}  // namespace berth::manager
