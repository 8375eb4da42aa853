#include <fcntl.h>

#include <utility>

#include "manager/backends/replica_probe.h"
#include "manager/backends/root_answer.h"
#include "manager/engine/core.h"
#include "manager/model/of_this_host.h"
#include "src/lib/base/text.h"

/// Whether mounted shares answer. Requests that are answered show it, and cost one load. Where there are none, a share
/// in use is asked by a thread that may hang: a thread at most for each share, and none for shares of this host.
namespace berth::manager {

void Manager::Core::watch_health(Record& record) {
  record.health.look_at.reset();
  record.health.answered = clock_.now();
  if (!setup_.ask_root || is_of_this_host(record.share.spec())) return;
  record.health.look_at = clock_.now() + record.share.spec().policy().stall_timeout / 2;
}

void Manager::Core::look_at_health(Record& record) {
  Health& health = record.health;
  health.look_at.reset();
  const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
  if (mounted == nullptr) return;  // watched again when it is mounted
  const Duration stall = record.share.spec().policy().stall_timeout;
  const TimePoint now = clock_.now();
  const bool is_in_use = record.share.users() > 0 || mounted->native == life_cycle::Native::kOn;
  if (record.share.take_answered() || (!is_in_use && !health.probe)) {
    on_answer(record);
  } else if (!health.probe) {
    start_probe(record);
  }
  // A probe that waits for a thread proves nothing about the share.
  const bool is_asked = health.probe && health.probe->has_begun;
  if (is_asked && now - health.answered >= stall) {
    std::string reason = "no answer for " + format_duration(stall);
    if (const std::string waits = setup_.waiting_in ? setup_.waiting_in(record.share) : ""; !waits.empty()) {
      reason += "; " + waits;
    }
    feed(record.share, life_cycle::Silent{std::move(reason)});
  }
  if (mounted->stalled) look_for_replica(record);
  const bool is_expected = health.probe && now - health.answered < stall;
  health.look_at = is_expected ? std::max(health.answered + stall, now + stall / 8) : now + stall / 2;
}

/// A read-only share has nothing to lose: it moves to another server as soon as one answers.
void Manager::Core::look_for_replica(Record& record) {
  const ShareSpec& spec = record.share.spec();
  const bool is_read_only = spec.policy().read_only || spec.mount_options().read_only;
  if (!is_read_only || spec.sources().size() < 2 || std::exchange(record.looking_for_replica, true)) return;
  submit(probes_.get(), [self = shared_from_this(), &record, spec, source = record.mount.source,
                         generation = record.share.mount_generation()] {
    const bool is_there = another_answers(spec, source, self->clock_.now() + kReplicaPatience);
    Core* core = self.get();
    core->post([core, &record, source, generation, is_there] {
      record.looking_for_replica = false;
      const auto* const mounted = std::get_if<life_cycle::Mounted>(&record.state);
      if (!is_there || mounted == nullptr || !mounted->stalled || record.share.mount_generation() != generation) return;
      record.avoided = source;
      core->feed(record.share, life_cycle::MountLost{.reason = "it does not answer, and another replica does",
                                                     .users = users_left_behind(record.share),
                                                     .moves = true});
    });
  });
}

void Manager::Core::on_answer(Record& record) {
  record.health.answered = clock_.now();
  feed(record.share, life_cycle::Answered{});
}

void Manager::Core::start_probe(Record& record) {
  UniqueFd root(::fcntl(record.mount.root.get(), F_DUPFD_CLOEXEC, 0));
  if (!root) return;
  const auto probe = record.health.probe = std::make_shared<Probe>();
  submit(probes_.get(), [self = shared_from_this(), &record, probe, root = std::move(root)]() mutable {
    probe->has_begun = true;
    const Result<> asked = self->setup_.ask_root(root.get());
    root.reset();
    Core* core = self.get();
    core->post([core, &record, probe, asked] { core->on_probed(record, probe, asked); });
  });
}

void Manager::Core::on_probed(Record& record, const std::shared_ptr<Probe>& probe, const Result<>& asked) {
  if (record.health.probe != probe) return;  // the probe was of an earlier mount
  record.health.probe.reset();
  if (!asked && says_dead(asked.error().code())) {
    return feed(record.share,
                life_cycle::MountLost{"its root says: " + asked.error().message(), users_left_behind(record.share)});
  }
  on_answer(record);
}

}  // namespace berth::manager
