// Attachments: made, given back, recorded, and taken up again after a restart.

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "manager/engine/core.h"
#include "manager/model/attachment_name.h"
#include "src/lib/base/text.h"

namespace berth::manager {
namespace {

/// After a restart each host waits up to this long before it asks the servers for what was attached: they may all have
/// been restarted at once.
constexpr std::chrono::milliseconds kRestoreSpread{500};

std::string told(const Attachment& attachment) { return attachment.instance + "/" + attachment.volume; }

std::string count_of(std::size_t attachments) {
  return std::to_string(attachments) + (attachments == 1 ? " attachment" : " attachments");
}

}  // namespace

/// The one that has the attachments of its name: the share, or where it is removed and another one has taken its name,
/// the last of these.
Share& Manager::Core::holder_of(Share& share) const {
  if (!share.is_removed()) return share;
  if (const std::shared_ptr<Share> current = find(share.name())) return *current;
  const auto last = std::find_if(removed_.rbegin(), removed_.rend(),
                                 [&share](const auto& other) { return other->name() == share.name(); });
  return last != removed_.rend() ? **last : share;
}

void Manager::Core::attach(Share& asked, Attachment attachment, DoneCallback done) {
  Share& share = holder_of(asked);
  if (!is_attachment_name(attachment.instance) || !is_attachment_name(attachment.volume)) {
    return answer(std::move(done),
                  fail(EINVAL, "an attachment's instance and volume are names of 1 to 255 bytes without '/'"));
  }
  if (share.is_removed()) {
    return answer(std::move(done), fail(ENOENT, quote(share.name()) + " has been removed from the configuration"));
  }
  Record& record = record_of(share);
  if (!record.attachments.contains(attachment) && record.attachments.size() >= setup_.max_attachments_per_share) {
    return answer(std::move(done),
                  fail(EMLINK, quote(share.name()) + " has " + std::to_string(record.attachments.size()) +
                                   " attachments already, the limit"));
  }
  attachment.by.since = clock_.wall_now();
  if (!host_.up) return answer(std::move(done), fail(refusal_));
  auto attach = [this, &share, attachment = std::move(attachment),
                 done = count_operation(std::move(done))](Result<Lease> lease) mutable {
    post(
        [this, &share, attachment = std::move(attachment), done = std::move(done), lease = std::move(lease)]() mutable {
          on_attached(share, std::move(attachment), std::move(lease), std::move(done));
        });
  };
  await_mount(share, next_waiter(), "attachment", std::move(attach));
}

/// The share is mounted: the attachment is recorded, and then there.
void Manager::Core::on_attached(Share& share, Attachment attachment, Result<Lease> lease, DoneCallback done) {
  // What is mounted is not what the name leads to any more.
  if (share.is_removed()) return attach(share, std::move(attachment), std::move(done));
  if (!lease) return answer(std::move(done), fail(lease.error()));
  if (stopping_) return answer(std::move(done), fail(ESHUTDOWN));
  Record& record = record_of(share);
  if (const auto change = record.pending_attachments.find(attachment); change != record.pending_attachments.end()) {
    change->second.emplace_back([this, &share, attachment, lease = std::move(lease), done = std::move(done)]() mutable {
      on_attached(share, std::move(attachment), std::move(lease), std::move(done));
    });
    return;
  }
  if (record.attachments.contains(attachment)) return answer(std::move(done), {});
  if (record.attachments.size() + record.attaching >= setup_.max_attachments_per_share) {
    return answer(std::move(done), fail(EMLINK));
  }
  record.pending_attachments.try_emplace(attachment);
  ++record.attaching;
  record_change({share.name(), attachment, true},
                [this, &share, attachment, lease = std::move(*lease), done = std::move(done)](Result<> result) mutable {
                  Record& holder = record_of(holder_of(share));
                  --holder.attaching;
                  if (result) add_attachment(holder, attachment, std::move(lease));
                  lease = Lease();
                  answer(std::move(done), std::move(result));
                  end_change(holder, attachment);
                });
}

void Manager::Core::add_attachment(Record& record, const Attachment& attachment, Lease lease) {
  record.share.add_attachment(attachment);
  // The share that it was mounted for has been removed meanwhile: this one is still to be mounted.
  if (lease && &lease.share() != &record.share) lease = Lease();
  // A manager that stops gives every lease back; the attachment is on disk, and belongs to the next start.
  if (!stopping_) {
    if (!lease) ++record.without_lease;
    record.attachments.emplace(attachment, std::move(lease));
    give_leases(record);
    if (record.without_lease > 0 && !record.restore_at) restore_later(record, clock_.now());
  }
  emit(record, Event::Kind::kAttached, 0, {}, told(attachment));
}

void Manager::Core::detach(Share& asked, const Attachment& attachment, DoneCallback done) {
  Share& share = holder_of(asked);
  Record& record = record_of(share);
  if (const auto change = record.pending_attachments.find(attachment); change != record.pending_attachments.end()) {
    change->second.emplace_back(
        [this, &share, attachment, done = std::move(done)]() mutable { detach(share, attachment, std::move(done)); });
    return;
  }
  if (!share.has_attachment(attachment)) return answer(std::move(done), fail(ENOENT, "no such attachment"));
  record.pending_attachments.try_emplace(attachment);
  record_change({share.name(), attachment, false},
                [this, &share, attachment, done = std::move(done)](Result<> result) mutable {
                  Record& holder = record_of(holder_of(share));
                  if (result) remove_attachment(holder, attachment);
                  answer(std::move(done), std::move(result));
                  end_change(holder, attachment);
                });
}

void Manager::Core::make_instance(Share& asked, const std::string& instance, DoneCallback done) {
  Share& share = holder_of(asked);
  if (!is_attachment_name(instance)) {
    return answer(std::move(done), fail(EINVAL, "an instance is a name of 1 to 255 bytes without '/'"));
  }
  const Attachment directory{.instance = instance, .volume = {}};
  Record& record = record_of(share);
  if (const auto change = record.pending_attachments.find(directory); change != record.pending_attachments.end()) {
    change->second.emplace_back([this, &share, instance, done = std::move(done)]() mutable {
      make_instance(share, instance, std::move(done));
    });
    return;
  }
  if (share.has_instance(instance)) return answer(std::move(done), fail(EEXIST));
  if (share.made_instance_count() >= setup_.max_attachments_per_share) {
    return answer(std::move(done), fail(EMLINK, quote(share.name()) + " has as many instances as it may have"));
  }
  record.pending_attachments.try_emplace(directory);
  record_change({share.name(), directory, true},
                [this, &share, directory, done = std::move(done)](Result<> result) mutable {
                  Record& holder = record_of(holder_of(share));
                  if (result) holder.share.add_instance(directory.instance);
                  answer(std::move(done), std::move(result));
                  end_change(holder, directory);
                });
}

void Manager::Core::remove_instance(Share& asked, const std::string& instance, DoneCallback done) {
  Share& share = holder_of(asked);
  const Attachment directory{.instance = instance, .volume = {}};
  Record& record = record_of(share);
  if (const auto change = record.pending_attachments.find(directory); change != record.pending_attachments.end()) {
    change->second.emplace_back([this, &share, instance, done = std::move(done)]() mutable {
      remove_instance(share, instance, std::move(done));
    });
    return;
  }
  if (share.has_attachments_of(instance)) return answer(std::move(done), fail(ENOTEMPTY));
  if (!share.has_instance(instance)) return answer(std::move(done), fail(ENOENT));
  record.pending_attachments.try_emplace(directory);
  record_change({share.name(), directory, false},
                [this, &share, directory, done = std::move(done)](Result<> result) mutable {
                  Record& holder = record_of(holder_of(share));
                  if (result) holder.share.remove_instance(directory.instance);
                  answer(std::move(done), std::move(result));
                  end_change(holder, directory);
                });
}

void Manager::Core::remove_attachment(Record& record, const Attachment& attachment) {
  record.share.remove_attachment(attachment);
  if (const auto held = record.attachments.find(attachment); held != record.attachments.end()) {
    if (!held->second) --record.without_lease;
    record.attachments.erase(held);
  }
  emit(record, Event::Kind::kDetached, 0, {}, told(attachment));
}

/// Callers that waited for this attachment to be settled continue, in turn.
void Manager::Core::end_change(Record& record, const Attachment& attachment) {
  auto waiting = record.pending_attachments.extract(attachment);
  for (Task& task : waiting.mapped()) post(std::move(task));
}

void Manager::Core::record_change(AttachmentStore::Change change, DoneCallback done) {
  if (!setup_.store) return done({});
  pending_changes_.push_back({std::move(change), std::move(done)});
  start_commit();
}

/// One commit at a time: what comes meanwhile goes together into the next.
void Manager::Core::start_commit() {
  if (committing_ || pending_changes_.empty()) return;
  committing_ = true;
  auto work = [self = shared_from_this(), pending = std::exchange(pending_changes_, {})]() mutable {
    std::vector<AttachmentStore::Change> changes;
    changes.reserve(pending.size());
    for (PendingChange& one : pending) changes.push_back(std::move(one.change));
    std::vector<Result<>> results = self->setup_.store->commit(changes);
    Core* core = self.get();
    core->post([core, pending = std::move(pending), results = std::move(results),
                repaired = self->setup_.store->take_repaired()]() mutable {
      core->note_repaired(std::move(repaired));
      core->on_committed(std::move(pending), std::move(results));
    });
  };
  submit(disk_.get(), std::move(work));
}

void Manager::Core::on_committed(std::vector<PendingChange> changes, std::vector<Result<>> results) {
  committing_ = false;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    note_disk_failure(results[i]);
    changes[i].done(std::move(results[i]));
  }
  start_commit();
}

/// Counts for the status, and emits an event if it is new.
void Manager::Core::note_disk_failure(const Result<>& result) {
  std::string failure = result ? "" : result.error().message();
  {
    MutexLock lock(mutex_);
    if (report_.failure == failure) return;
    report_.failure = failure;
  }
  if (!failure.empty()) emit({.kind = Event::Kind::kWarning, .reason = std::move(failure)});
}

/// For the status, once for each file; and an event.
void Manager::Core::note_repaired(std::optional<DamagedFile> repaired) {
  if (!repaired) return;
  emit({.kind = Event::Kind::kStateDamaged, .reason = repaired->file + ": " + repaired->reason});
  MutexLock lock(mutex_);
  std::erase_if(report_.damages, [&](const DamagedFile& damage) { return damage.file == repaired->file; });
  report_.damages.push_back(*std::move(repaired));
}

StateReport Manager::Core::state_report() const {
  MutexLock lock(mutex_);
  return report_;
}

void Manager::Core::restore(StoredState kept) {
  StateReport report = state_report();
  for (const DamagedFile& damage : kept.damages) {
    std::string reason = damage.file + ": " + damage.reason;
    if (!damage.set_aside.empty() && damage.set_aside != damage.file) reason += "; kept as " + damage.set_aside;
    if (!setup_.takes_over || damage.is_new) emit({.kind = Event::Kind::kStateDamaged, .reason = std::move(reason)});
  }
  report.damages = std::move(kept.damages);
  for (StoredAttachments& one : kept.shares) {
    (void)restore_instance(one);
    // The directories of instances hold nothing.
    std::erase_if(one.attachments, [](const Attachment& attachment) { return attachment.volume.empty(); });
    if (one.attachments.empty()) continue;
    const std::shared_ptr<const Directory> shares = shown();
    if (const auto share = shares->find(one.share); share != shares->end()) {
      restore_attachments(*share->second, one.attachments);
      continue;
    }
    report.unknown_shares[one.share] = one.attachments.size();
    if (setup_.takes_over) continue;
    emit({.kind = Event::Kind::kWarning,
          .share = one.share,
          .reason = "it has " + count_of(one.attachments.size()) + " and is not configured; they stay on disk"});
  }
  // What was taken over was open until now, for the users that were inside.
  if (drained_) update_shares_for_host();
  MutexLock lock(mutex_);
  report_ = std::move(report);
}

void Manager::Core::restore_attachments(Share& share, const std::set<Attachment>& attachments) {
  Record& record = record_of(share);
  for (const Attachment& attachment : attachments) {
    if (record.attachments.try_emplace(attachment).second) ++record.without_lease;
  }
  if (!setup_.takes_over) emit(record, Event::Kind::kRestored, 0, {}, count_of(attachments.size()));
  give_leases(record);
  if (record.without_lease == 0) return;
  restore_later(record, clock_.now() + std::chrono::duration_cast<Duration>(kRestoreSpread * jitter()));
}

/// Gives the restored attachments of a share that is mounted a lease, as other attachments have.
void Manager::Core::give_leases(Record& record) {
  if (record.without_lease == 0) return;
  for (auto& [attachment, held] : record.attachments) {
    if (held) continue;
    std::optional<Lease> lease = record.share.try_lease();
    if (!lease) return;
    held = std::move(*lease);
    --record.without_lease;
  }
}

void Manager::Core::restore_later(Record& record, TimePoint at) {
  record.restore_at = at;
  schedule(record);
}

void Manager::Core::queue_restore(Record& record) {
  record.restore_at.reset();
  restore_queue_.push_back(&record);
  start_restoring();
}

/// A quarter of the mounts that may run at once is left to callers that wait for one.
void Manager::Core::start_restoring() {
  const std::size_t most = std::max<std::size_t>(setup_.max_concurrent_mounts * 3 / 4, 1);
  while (restoring_count_ < most && !restore_queue_.empty() && !stopping_ && host_.up) {
    Record& record = *restore_queue_.front();
    restore_queue_.pop_front();
    if (record.without_lease == 0) continue;
    ++restoring_count_;
    await_mount(record.share, next_waiter(), "restored attachment",
                [this, &record, use = Operation(*this)](const Result<Lease>&) {
                  // The attachments have taken leases of their own.
                  post([this, &record] { on_restore_tried(record); });
                });
  }
}

void Manager::Core::on_restore_tried(Record& record) {
  --restoring_count_;
  if (record.without_lease == 0 || stopping_) {
    record.restore_attempts = 0;
  } else {
    TimePoint at = clock_.now() + life_cycle::backoff(++record.restore_attempts, jitter());
    // Before that it would only get the stored error.
    if (const auto* failed = std::get_if<life_cycle::Failed>(&record.state)) at = std::max(at, failed->retry_at);
    restore_later(record, at);
  }
  start_restoring();
}

}  // namespace berth::manager
