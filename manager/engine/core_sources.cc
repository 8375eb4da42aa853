// Sources that are removed or replaced while they are mounted.

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>

#include "manager/engine/core.h"

namespace berth::manager {

/// Takes over what the last manager watched: its numbers are in the records.
Result<> Manager::Core::watch_sources() {
  KeptMounts* const area = setup_.kept;
  const int left = area != nullptr ? area->source_watch - 1 : -1;
  source_watch_.emplace(TRY(SourceWatch::make(UniqueFd(left))));
  if (area != nullptr) area->source_watch = source_watch_->descriptor() + 1;
  return poller_.add(source_watch_->descriptor(), EPOLLIN, kSourceTag);
}

void Manager::Core::watch_source(Record& record) {
  const std::vector<UniqueFd> parents = std::move(record.mount.parents);
  const std::vector<UniqueFd> way = std::move(record.mount.way);
  if ((parents.empty() && way.empty()) || !source_watch_) return;
  // Refused only when out of memory or watches: then the share shows what is mounted until it is mounted anew.
  const auto note = [&](const Result<int>& number) {
    if (!number) return;
    record.way_numbers.push_back(*number);
    ++watched_[*number];
  };
  for (const UniqueFd& parent : parents) note(source_watch_->add(parent.get()));
  for (const UniqueFd& place : way) note(source_watch_->add_way(place.get()));
  if (record.way_numbers.empty()) return;
  record.source_number = record.way_numbers.front();
  record.way_numbers.erase(record.way_numbers.begin());
}

void Manager::Core::unwatch_source(Record& record) {
  std::vector<int> numbers = std::exchange(record.way_numbers, {});
  numbers.push_back(std::exchange(record.source_number, 0));
  for (const int number : numbers) {
    const auto watched = watched_.find(number);
    if (watched == watched_.end() || --watched->second > 0) continue;
    watched_.erase(watched);
    source_watch_->remove(number);
  }
}

void Manager::Core::check_sources(const std::vector<int>& numbers) {
  // Of the ways to sources that an earlier server has mounted only the watches are left, not whose they are.
  const bool all = std::any_of(numbers.begin(), numbers.end(), [this](int one) { return !watched_.contains(one); });
  for (const auto& [share, record] : records_) {
    if (record->source_number == 0 || !std::holds_alternative<life_cycle::Mounted>(record->state)) continue;
    const auto is_on_way = [&record = *record](int one) {
      return one == record.source_number ||
             std::find(record.way_numbers.begin(), record.way_numbers.end(), one) != record.way_numbers.end();
    };
    if (all || std::any_of(numbers.begin(), numbers.end(), is_on_way)) check_source(*record);
  }
}

/// On a thread that may hang, for the source may be behind a server; what happens meanwhile is looked at afterwards.
void Manager::Core::check_source(Record& record) {
  if (std::exchange(record.checking_source, true)) {
    record.check_source_again = true;
    return;
  }
  auto work = [self = shared_from_this(), &record, generation = record.share.mount_generation(),
               source = record.mount.source, identity = record.mount.identity] {
    const ShareSpec& spec = record.share.spec();
    const bool current = self->setup_.backends.at(spec.kind())->is_current(spec, source, identity);
    Core* core = self.get();
    core->post([core, &record, generation, current] {
      record.checking_source = false;
      const bool again = std::exchange(record.check_source_again, false);
      if (record.share.mount_generation() != generation) return;
      if (!std::holds_alternative<life_cycle::Mounted>(record.state)) return;
      if (!current) {
        core->feed(record.share,
                   life_cycle::MountLost{.reason = "its source was removed or replaced", .is_dead = false});
      } else if (again) {
        core->check_source(record);
      }
    });
  };
  submit(operations_.get(), std::move(work));
}

}  // namespace berth::manager
