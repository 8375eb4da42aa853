// The requests of the control tree that wait for the manager.

#include <cerrno>
#include <utility>

#include "fuse/control/control_tree_core.h"
#include "fuse/kept/requests.h"
#include "fuse/session/parked_reply.h"
#include "src/lib/formats/control_command.h"

namespace berth::fuse {

namespace {

/// Parks a request that cannot be called back: when the caller gives up it is answered EINTR, and what it asked for
/// continues.
std::shared_ptr<ParkedReply> park_to_be_left(Reply reply) {
  return ParkedReply::park(std::move(reply), [](Reply left) { std::move(left).error(EINTR); });
}

}  // namespace

void ControlTree::Core::run_word(Reply reply, const std::shared_ptr<manager::Share>& share,
                                 std::span<const char> written) {
  const Result<formats::ControlCommand> word = formats::parse_control_command({written.data(), written.size()});
  if (!word) {
    files.refuse(*share, word.error());
    return std::move(reply).error(word.error());
  }
  files.accept(*share);
  if (*word == formats::ControlCommand::kRetry) {
    manager.retry(*share);
    return std::move(reply).written(written.size());
  }
  // The share is held until the manager is done with it.
  manager::DoneCallback done = [share, size = written.size(),
                                parked = park_to_be_left(std::move(reply))](Result<> result) {
    std::optional<Reply> answer = parked->take();
    if (!answer) return;
    if (!result) return std::move(*answer).error(result.error());
    std::move(*answer).written(size);
  };
  if (*word == formats::ControlCommand::kMount) return manager.mount(*share, std::move(done));
  if (*word == formats::ControlCommand::kRemount || *word == formats::ControlCommand::kForceRemount) {
    return manager.remount(*share, *word == formats::ControlCommand::kForceRemount, std::move(done));
  }
  manager.unmount(*share, *word == formats::ControlCommand::kForceUnmount, std::move(done));
}

void ControlTree::Core::run_host_word(Reply reply, std::span<const char> written) {
  const Result<formats::HostCommand> word = formats::parse_host_command({written.data(), written.size()});
  if (!word) return std::move(reply).error(word.error());
  const std::uint64_t request = CurrentRequest::unique();
  // A caller that gives up waiting is answered EINTR; what it asked for is in force all the same.
  manager::DoneCallback done = [size = written.size(), parked = park_to_be_left(std::move(reply))](Result<> result) {
    std::optional<Reply> answer = parked->take();
    if (!answer) return;
    if (!result) return std::move(*answer).error(result.error());
    std::move(*answer).written(size);
  };
  switch (*word) {
    case formats::HostCommand::kDrain:
      return manager.drain(std::move(done));
    case formats::HostCommand::kResume:
      return manager.resume(std::move(done));
    case formats::HostCommand::kUpgrade:
      if (!setup.upgrade) return done(fail(EOPNOTSUPP));
      return setup.upgrade(request, std::move(done));
    case formats::HostCommand::kReload:
    case formats::HostCommand::kReloadDryRun:
      if (!setup.reload) return done(fail(EOPNOTSUPP));
      return setup.reload(*word == formats::HostCommand::kReloadDryRun, std::move(done));
  }
}

void ControlTree::Core::make_instance(Reply reply, const std::shared_ptr<manager::Share>& share, ControlPath instance) {
  // Asked for again because a server died: it was that one's work.
  if (CurrentRequest::is_resent() && share->has_instance(instance.instance))
    return answer_entry(std::move(reply), instance);
  const std::string name = instance.instance;
  manager::DoneCallback done = [self = shared_from_this(), share, instance = std::move(instance),
                                parked = park_to_be_left(std::move(reply))](Result<> result) {
    std::optional<Reply> answer = parked->take();
    if (!answer) return;
    if (!result) return std::move(*answer).error(result.error());
    self->answer_entry(std::move(*answer), instance);
  };
  manager.make_instance(*share, name, std::move(done));
}

void ControlTree::Core::remove_instance(Reply reply, const std::shared_ptr<manager::Share>& share,
                                        const ControlPath& instance) {
  manager::DoneCallback done = [share, parked = park_to_be_left(std::move(reply))](Result<> result) {
    std::optional<Reply> answer = parked->take();
    if (!answer) return;
    std::move(*answer).error(result ? 0 : result.error().code());
  };
  manager.remove_instance(*share, instance.instance, std::move(done));
}

void ControlTree::Core::attach(Reply reply, const std::shared_ptr<manager::Share>& share, ControlPath volume) {
  const sys::Identity& caller = reply.caller();
  manager::Attachment attachment{.instance = volume.instance,
                                 .volume = volume.volume,
                                 .by = {.uid = caller.uid, .pid = caller.pid, .command = command_of(caller.pid)}};
  const AttachRequests::Key key(share->name(), attachment);
  // An attachment that is being made for a caller that has left may be had after all.
  if (share->has_attachment(attachment) && !attach_requests.contains(key)) {
    // Asked for again because a server died: it was that one's work.
    if (CurrentRequest::is_resent()) return answer_entry(std::move(reply), volume);
    return std::move(reply).error(EEXIST);
  }
  manager::DoneCallback done = [self = shared_from_this(), share, key, volume = std::move(volume),
                                parked = park_to_be_left(std::move(reply))](Result<> result) {
    std::optional<Reply> answer = parked->take();
    // The caller that asked and left was answered EINTR, and counts on not having it.
    if (self->attach_requests.end(key, result.has_value(), result && answer)) {
      self->manager.detach(*share, key.second,
                           [self, share, key](Result<>) { self->attach_requests.give_back_done(key); });
    }
    if (!answer) return;
    if (!result) return std::move(*answer).error(result.error());
    self->answer_entry(std::move(*answer), volume);
  };
  attach_requests.begin(
      key, [self = shared_from_this(), share, attachment = std::move(attachment), done = std::move(done)]() mutable {
        self->manager.attach(*share, std::move(attachment), std::move(done));
      });
}

void ControlTree::Core::detach(Reply reply, const std::shared_ptr<manager::Share>& share, const ControlPath& volume) {
  manager::DoneCallback done = [share, parked = park_to_be_left(std::move(reply))](Result<> result) {
    std::optional<Reply> answer = parked->take();
    if (!answer) return;
    std::move(*answer).error(result ? 0 : result.error().code());
  };
  manager.detach(*share, {.instance = volume.instance, .volume = volume.volume}, std::move(done));
}

}  // namespace berth::fuse
