// Shares that require others: these are mounted first, and held for as long as the mount that needs them is there.

#include <algorithm>
#include <cerrno>
#include <utility>

#include "manager/engine/core.h"
#include "manager/model/requirements.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/base/told.h"

namespace berth::manager {
namespace {

/// Shares that are named where all are told of.
constexpr std::size_t kMostNamed = 5;

}  // namespace

/// An attempt: first the shares that it requires, one after the other, then its turn among all mounts.
void Manager::Core::begin_mount(Record& record, const life_cycle::StartMount& start) {
  end_gathering(record);
  const std::vector<std::string>& names = record.share.spec().policy().required;
  if (names.empty()) {
    hold(record, {});
    return enqueue_mount(record, start);
  }
  record.gathering =
      std::make_shared<Gathering>(Gathering{.start = start, .began = clock_.now(), .names = names, .held = {}});
  // Not at once: this may be in the middle of another share's step.
  post([this, &record, gathering = record.gathering] { gather(record, gathering); });
}

/// The next one, or the mount itself when none is left.
void Manager::Core::gather(Record& record, const std::shared_ptr<Gathering>& gathering) {
  if (record.gathering != gathering) return;  // the attempt is over
  if (gathering->held.size() == gathering->names.size()) {
    record.gathering.reset();
    hold(record, std::exchange(gathering->held, {}));
    crash_point("required-mounted");
    return enqueue_mount(record, gathering->start);
  }
  if (clock_.now() >= gathering->start.deadline) return fail_gathering(record, Error(ETIMEDOUT));
  const std::string& name = gathering->names[gathering->held.size()];
  if (const std::shared_ptr<Share> share = find_required(name)) return await_required(record, gathering, *share);
  look_up(name, instances_.user_of(record.share.name()).value_or(0),
          [self = shared_from_this(), &record, gathering](const Result<std::shared_ptr<Share>>& found) {
            const Error none(ENOENT, "it is a directory of shares");
            const Error error = !found ? found.error() : *found == nullptr ? none : Error(0);
            self->post([core = self.get(), &record, gathering, error] {
              if (record.gathering != gathering) return;
              if (error.code() != 0) return core->fail_gathering(record, error);
              core->gather(record, gathering);
            });
          });
}

void Manager::Core::await_required(Record& record, const std::shared_ptr<Gathering>& gathering, Share& share) {
  const std::string reason = "required by " + quote(record.share.name());
  await_mount_until(share, next_waiter(), reason.c_str(), gathering->start.deadline,
                    [this, &record, gathering, &share](Result<Lease> lease) {
                      post([this, &record, gathering, &share, lease = std::move(lease)]() mutable {
                        if (record.gathering != gathering) return;
                        if (!lease) return fail_gathering(record, lease.error());
                        gathering->held.push_back({&record_of(share), std::move(*lease)});
                        gather(record, gathering);
                      });
                    });
}

void Manager::Core::fail_gathering(Record& record, const Error& error) {
  const std::string& name = record.gathering->names[record.gathering->held.size()];
  const Duration took = clock_.now() - record.gathering->began;
  end_gathering(record);
  // A share that is not available must not look like a name that is not there.
  const int code = error.code() == ENOENT ? EHOSTDOWN : error.code();
  std::string story = "it requires " + quote(name) + ": " + told(error);
  if (error.code() == ENOENT) story = "it requires " + quote(name) + ", which is not there";
  on_mount_ended(record, tl::unexpected(AttemptFailure{.error = Error(code, std::move(story))}), took);
}

void Manager::Core::end_gathering(Record& record) {
  if (const std::shared_ptr<Gathering> gathering = std::exchange(record.gathering, nullptr)) gathering->held.clear();
}

/// In the place of what it held before.
void Manager::Core::hold(Record& record, std::vector<Required> required) {
  if (required.empty() && record.required.empty()) return;
  for (const Required& one : required) {
    one.of->required_by.insert(record.share.name());
    publish(*one.of);
  }
  for (Required& one : std::exchange(record.required, std::move(required))) {
    one.of->required_by.erase(one.of->required_by.find(record.share.name()));
    publish(*one.of);
  }
}

/// Of a share that is mounted already: those of the shares that it requires now that are mounted, too.
void Manager::Core::hold_mounted(Record& record) {
  std::vector<Required> held;
  for (const std::string& name : record.share.spec().policy().required) {
    const std::shared_ptr<Share> share = find_required(name);
    if (share == nullptr) continue;
    Record* const of = &record_of(*share);
    const auto known = std::find_if(record.required.begin(), record.required.end(),
                                    [of](const Required& one) { return one.of == of; });
    // A share that is draining takes no new user.
    std::optional<Lease> lease =
        known != record.required.end() ? std::optional(known->lease.duplicate()) : share->try_lease();
    if (lease) held.push_back({of, std::move(*lease)});
  }
  hold(record, std::move(held));
}

/// The one with the name, or the last one that had it: a removed share may come back, and what it requires with it.
std::shared_ptr<Share> Manager::Core::find_required(const std::string& name) const {
  if (std::shared_ptr<Share> share = find(name)) return share;
  for (auto share = removed_.rbegin(); share != removed_.rend(); ++share) {
    if ((*share)->name() == name) return *share;
  }
  return nullptr;
}

/// Forgets the remembered error of a share, and of those that it requires.
void Manager::Core::retry(Share& share, std::size_t in_a_row) {
  if (in_a_row > kMostInARow) return;
  for (const std::string& name : share.spec().policy().required) {
    if (const std::shared_ptr<Share> required = find_required(name)) retry(*required, in_a_row + 1);
  }
  feed(share, life_cycle::RetryWanted{});
}

/// "in use by 1 user; required by \"a\"": an error that says which shares it is in use by.
Error Manager::Core::with_requirers(const Record& record, const Error& error) {
  if (error.code() != EBUSY || record.required_by.empty()) return error;
  std::string names;
  std::size_t named = 0;
  for (const std::string& name : record.required_by) {
    if (named++ < kMostNamed) names.append(names.empty() ? "" : ", ").append(quote(name));
  }
  if (named > kMostNamed) names += " and " + std::to_string(named - kMostNamed) + " more";
  return Error(EBUSY, std::string(error.story()) + "; required by " + names);
}

std::vector<RequiredShare> Manager::Core::required_shares(const Record& record) {
  std::vector<RequiredShare> shares;
  shares.reserve(record.required.size());
  for (const Required& one : record.required) shares.push_back({one.of->share.name(), one.lease.root()});
  return shares;
}

}  // namespace berth::manager
