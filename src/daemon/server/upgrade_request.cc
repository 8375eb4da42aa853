#include "src/daemon/server/upgrade_request.h"

#include <cerrno>
#include <utility>

namespace berth::daemon {
namespace {

Result<> refused() { return fail(ENOEXEC, "the new binary cannot go on; the log says why"); }

}  // namespace

void UpgradeRequest::ask(std::uint64_t request, manager::DoneCallback done) {
  if (record_.upgrade_refused == request) return done(refused());
  {
    MutexLock lock(mutex_);
    if (asked_) return done(fail(EBUSY, "an upgrade is under way"));
    asked_ = std::move(done);
  }
  record_.upgrade_request = request;
  keeper_.send({.kind = Message::Kind::kUpgrade});
}

void UpgradeRequest::accept() { answer({}); }

void UpgradeRequest::refuse() { answer(refused()); }

void UpgradeRequest::end(const Error& error) { answer(fail(error)); }

void UpgradeRequest::answer(const Result<>& result) {
  manager::DoneCallback asked;
  {
    MutexLock lock(mutex_);
    asked = std::move(asked_);
    asked_ = {};
  }
  if (asked) asked(result);
}

}  // namespace berth::daemon
