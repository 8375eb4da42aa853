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
  const UniqueFd parent = std::move(record.mount.parent);
  if (!parent || !source_watch_) return;
  // Refused only when out of memory or watches: then the share shows what is mounted until it is mounted anew.
  const Result<int> number = source_watch_->add(parent.get());
  record.source_number = number ? *number : 0;
}

void Manager::Core::unwatch_source(Record& record) {
  const int number = std::exchange(record.source_number, 0);
  const auto has_it = [number](const auto& entry) { return entry.second->source_number == number; };
  if (number == 0 || std::any_of(records_.begin(), records_.end(), has_it)) return;
  source_watch_->remove(number);
}

void Manager::Core::check_sources(const std::vector<int>& numbers) {
  for (const auto& [share, record] : records_) {
    const int number = record->source_number;
    if (number == 0 || !std::holds_alternative<life_cycle::Mounted>(record->state)) continue;
    const bool meant = std::any_of(numbers.begin(), numbers.end(),
                                   [number](int one) { return one == number || one == SourceWatch::kAll; });
    if (meant) check_source(*record);
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
    const bool current = self->setup_.backends.at(spec.kind())->is_current(source, identity);
    Core* core = self.get();
    core->post([core, &record, generation, current] {
      record.checking_source = false;
      const bool again = std::exchange(record.check_source_again, false);
      if (record.share.mount_generation() != generation) return;
      if (!std::holds_alternative<life_cycle::Mounted>(record.state)) return;
      if (!current) {
        core->feed(record.share, life_cycle::MountLost{"its source was removed or replaced"});
      } else if (again) {
        core->check_source(record);
      }
    });
  };
  submit(operations_.get(), std::move(work));
}

}  // namespace berth::manager
