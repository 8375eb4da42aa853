#include "manager/engine/manager.h"

#include <future>
#include <thread>
#include <utility>

#include "manager/engine/core.h"
#include "src/lib/sys/thread.h"

namespace berth::manager {
namespace {

/// How long stop() waits for forced unmounts before it leaves their threads alone.
constexpr std::chrono::seconds kForcedUnmountPatience{2};
constexpr std::chrono::milliseconds kStopPoll{5};
/// Shares that were in use are tried again this often.
constexpr int kStopPollsPerTry = 20;

}  // namespace

Result<std::unique_ptr<Manager>> Manager::make(ManagerSetup setup, const Catalog& catalog, const Clock& clock) {
  std::shared_ptr<Core> core = TRY(Core::make(std::move(setup), catalog, clock));
  return std::unique_ptr<Manager>(new Manager(std::move(core)));
}

Manager::Manager(std::shared_ptr<Core> core) : core_(std::move(core)) { core_->take_over_mounts(); }

Manager::~Manager() { stop(std::chrono::steady_clock::now()); }

std::vector<int> Manager::kept_descriptors() const { return core_->kept_descriptors(); }

std::shared_ptr<const Manager::Directory> Manager::directory() const { return core_->directory(); }

std::shared_ptr<Share> Manager::find(std::string_view name) const { return core_->find(name); }

std::shared_ptr<const Catalog::Map> Manager::templates() const { return core_->templates(); }

std::shared_ptr<const std::vector<std::string>> Manager::browsed(const std::string& prefix) const {
  return core_->browsed(prefix);
}

void Manager::browse(std::string prefix, uid_t user, ShareCallback done) {
  core_->post([core = core_.get(), prefix = std::move(prefix), user, done = std::move(done)]() mutable {
    core->browse(prefix, user, std::move(done));
  });
}

std::vector<FailedLookUp> Manager::failed_look_ups() const { return core_->failed_look_ups(); }

void Manager::look_up(std::string name, uid_t user, ShareCallback done) {
  core_->post([core = core_.get(), name = std::move(name), user, done = std::move(done)]() mutable {
    core->look_up(name, user, std::move(done));
  });
}

std::shared_ptr<const Manager::Directory> Manager::shown() const { return core_->shown(); }

std::vector<std::shared_ptr<Share>> Manager::removed() const { return core_->removed(); }

std::map<std::uint64_t, std::shared_ptr<Share>> Manager::incarnations() const { return core_->incarnations(); }

std::vector<std::string> Manager::untold() const { return core_->untold(); }

void Manager::reload(Catalog catalog, bool dry_run, ReloadCallback done) {
  core_->post([core = core_.get(), catalog = std::move(catalog), dry_run, done = std::move(done)]() mutable {
    core->reload(std::move(catalog), dry_run, std::move(done));
  });
}

void Manager::remount(Share& share, bool force, DoneCallback done) {
  core_->post([core = core_.get(), &share, force, done = std::move(done)]() mutable {
    core->remount(share, force, std::move(done));
  });
}

WaiterId Manager::lease(Share& share, LeaseCallback done) {
  const WaiterId id = core_->next_waiter();
  core_->post([core = core_.get(), &share, id, done = std::move(done)]() mutable {
    core->await_mount(share, id, "first access", core->on_callback_thread(std::move(done)));
  });
  return id;
}

void Manager::make_room() {
  if (core_->wants_room()) core_->post([core = core_.get()] { core->make_room(); });
}

void Manager::interrupt(Share& share, WaiterId waiter) {
  core_->post([core = core_.get(), &share, waiter] { core->interrupt(share, waiter); });
}

void Manager::mount(Share& share, DoneCallback done) {
  core_->post([core = core_.get(), &share, done = std::move(done)]() mutable {
    core->retry(share);
    auto answer = [done = std::move(done)](Result<Lease> lease) mutable {
      if (!lease) return done(fail(lease.error()));
      // Given back before the answer: a caller that is answered that it is mounted may ask for it to be unmounted at
      // once.
      *lease = Lease();
      done({});
    };
    core->await_mount(share, core->next_waiter(), "on request", core->on_callback_thread(std::move(answer)));
  });
}

void Manager::unmount(Share& share, bool force, DoneCallback done) {
  core_->post([core = core_.get(), &share, force, done = std::move(done)]() mutable {
    core->unmount(share, force, std::move(done));
  });
}

void Manager::take_over_native(Share& share) {
  core_->post([core = core_.get(), &share] { core->take_over_native(share); });
}

void Manager::await_native(Share& share, NativeCallback done) {
  core_->post(
      [core = core_.get(), &share, done = std::move(done)]() mutable { core->await_native(share, std::move(done)); });
}

void Manager::retry(Share& share) {
  core_->post([core = core_.get(), &share] { core->retry(share); });
}

void Manager::call_back(std::function<void()> answer) { core_->post(std::move(answer)); }

void Manager::after_names_told(std::function<void()> then) {
  core_->post([core = core_.get(), then = std::move(then)]() mutable { core->after_names_told(std::move(then)); });
}

void Manager::report_lost(Share& share, std::uint32_t generation) {
  core_->post([core = core_.get(), &share, generation] {
    if (share.mount_generation() == generation) {
      core->feed(share, life_cycle::MountLost{"its file system says that it is not connected",
                                              Core::users_left_behind(share)});
    }
  });
}

void Manager::begin(StoredState kept) {
  // Here and now, so that the next caller does not find them missing.
  for (const StoredAttachments& one : kept.shares) {
    const std::shared_ptr<const Directory> shares = core_->shown();
    const auto found = shares->find(one.share);
    const std::shared_ptr<Share> share = found != shares->end() ? found->second : nullptr;
    for (const Attachment& attachment : one.attachments) {
      if (share == nullptr) continue;
      if (attachment.volume.empty()) {
        share->add_instance(attachment.instance);
      } else {
        share->add_attachment(attachment);
      }
    }
  }
  if (core_->manual()) {
    return core_->post([core = core_.get(), kept = std::move(kept)]() mutable {
      core->begin_catalog();
      core->restore(std::move(kept));
    });
  }
  control_ = sys::start_thread("berth-control", [core = core_] { core->run(); }).value();
  // The rest as well, before berth reports that it is ready; nothing of it waits for a mount.
  std::promise<void> over;
  core_->post([&] {
    core_->begin_catalog();
    core_->restore(std::move(kept));
    over.set_value();
  });
  over.get_future().wait();
}

StateReport Manager::state_report() const { return core_->state_report(); }

void Manager::drain(DoneCallback done) {
  core_->post([core = core_.get(), done = std::move(done)]() mutable { core->drain(std::move(done)); });
}

void Manager::resume(DoneCallback done) {
  core_->post([core = core_.get(), done = std::move(done)]() mutable { core->resume(std::move(done)); });
}

HostStatus Manager::host() const { return core_->host(); }

void Manager::attach(Share& share, Attachment attachment, DoneCallback done) {
  core_->post([core = core_.get(), &share, attachment = std::move(attachment), done = std::move(done)]() mutable {
    core->attach(share, std::move(attachment), std::move(done));
  });
}

void Manager::detach(Share& share, Attachment attachment, DoneCallback done) {
  core_->post([core = core_.get(), &share, attachment = std::move(attachment), done = std::move(done)]() mutable {
    core->detach(share, attachment, std::move(done));
  });
}

void Manager::make_instance(Share& share, std::string instance, DoneCallback done) {
  core_->post([core = core_.get(), &share, instance = std::move(instance), done = std::move(done)]() mutable {
    core->make_instance(share, instance, std::move(done));
  });
}

void Manager::remove_instance(Share& share, std::string instance, DoneCallback done) {
  core_->post([core = core_.get(), &share, instance = std::move(instance), done = std::move(done)]() mutable {
    core->remove_instance(share, instance, std::move(done));
  });
}

bool Manager::run_pending() { return core_->run_pending(); }

Manager::StopReport Manager::stop(TimePoint deadline) {
  if (!control_.joinable()) return {};
  const auto active = [this] {
    std::promise<std::size_t> count;
    core_->post([&] { count.set_value(core_->active()); });
    return count.get_future().get();
  };
  const auto wait_until_idle = [&](TimePoint until, bool may_hurry) {
    for (int poll = 1;; ++poll) {
      const std::size_t left = active();
      const bool hurry = may_hurry && hurry_.load(std::memory_order_relaxed);
      if (left == 0 || hurry || std::chrono::steady_clock::now() >= until) return left;
      std::this_thread::sleep_for(kStopPoll);
      if (poll % kStopPollsPerTry == 0) core_->post([core = core_.get()] { core->unmount_idle(); });
    }
  };
  core_->post([core = core_.get()] { core->begin_stop(); });
  std::size_t left = wait_until_idle(deadline, true);
  if (left > 0) {
    core_->post([core = core_.get()] { core->force_stop(); });
    left = wait_until_idle(std::chrono::steady_clock::now() + kForcedUnmountPatience, false);
  }
  StopReport report;
  bool is_stuck = left > 0;
  std::promise<void> over;
  core_->post([&] {
    report = core_->stop_report();
    is_stuck = is_stuck || core_->has_stuck_threads();
    core_->quit();
    over.set_value();
  });
  over.get_future().wait();
  control_.join();
  if (left == 0) core_->drain_callbacks();
  if (is_stuck) core_->abandon_threads();
  return report;
}

}  // namespace berth::manager
