#include "fuse/control/control_handles.h"

#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace berth::fuse {

std::size_t ControlHandle::bytes() const noexcept {
  if (const auto* text = std::get_if<Text>(&content)) return text->capacity();
  const auto* listing = std::get_if<Listing>(&content);
  if (listing == nullptr) return 0;
  std::size_t sum = listing->capacity() * sizeof(Listed);
  for (const Listed& entry : *listing) sum += entry.name.capacity();
  return sum;
}

namespace {

Result<> check(std::size_t handles, std::size_t bytes, std::size_t more, const ControlHandles::Limits& limits) {
  if (handles >= limits.handles) return fail(EMFILE);
  // One is always let in, however large.
  if (handles > 0 && bytes + more > limits.bytes) return fail(EAGAIN);
  return {};
}

}  // namespace

Result<> ControlHandles::charge(const Opener& opener, std::size_t bytes) {
  TRY_VOID(check(all_.handles, all_.bytes, bytes, kAll));
  if (!opener.is_trusted) {
    TRY_VOID(check(strangers_.handles, strangers_.bytes, bytes, kStrangers));
    const auto found = by_stranger_.find(opener.uid);
    const Sum sum = found == by_stranger_.end() ? Sum{} : found->second;
    TRY_VOID(check(sum.handles, sum.bytes, bytes, kOneStranger));
    Sum& mine = by_stranger_[opener.uid];
    ++mine.handles;
    mine.bytes += bytes;
    ++strangers_.handles;
    strangers_.bytes += bytes;
  }
  ++all_.handles;
  all_.bytes += bytes;
  return {};
}

void ControlHandles::discharge(const Opener& opener, std::size_t bytes) noexcept {
  --all_.handles;
  all_.bytes -= bytes;
  if (opener.is_trusted) return;
  --strangers_.handles;
  strangers_.bytes -= bytes;
  const auto mine = by_stranger_.find(opener.uid);
  mine->second.bytes -= bytes;
  if (--mine->second.handles == 0) by_stranger_.erase(mine);
}

/// What is charged for something that is being made; given back unless it becomes a handle.
class ControlHandles::Charge {
 public:
  Charge(ControlHandles& of, const Opener& opener, std::size_t bytes) noexcept
      : of_(of), opener_(opener), bytes_(bytes) {}
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  ~Charge() {
    if (kept_) return;
    MutexLock lock(of_.mutex_);
    of_.discharge(opener_, bytes_);
  }
  void keep() noexcept { kept_ = true; }

 private:
  ControlHandles& of_;
  const Opener opener_;
  const std::size_t bytes_;
  bool kept_ = false;
};

/// The caller has charged it.
Result<> ControlHandles::make_under(std::uint64_t number, const Opener& opener, std::size_t expected,
                                    const Make& make) {
  Charge charge(*this, opener, expected);
  std::shared_ptr<ControlHandle> handle = make();
  // What is more than was expected counts only for those that come later: it is there.
  const std::size_t bytes = handle->bytes();
  MutexLock lock(mutex_);
  if (!handles_.try_emplace(number, Open{std::move(handle), opener, bytes}).second) return fail(EEXIST);
  charge.keep();
  all_.bytes += bytes - expected;
  if (opener.is_trusted) return {};
  strangers_.bytes += bytes - expected;
  by_stranger_[opener.uid].bytes += bytes - expected;
  return {};
}

Result<std::uint64_t> ControlHandles::add(const Opener& opener, std::size_t expected, const Make& make) {
  std::uint64_t number = 0;
  {
    MutexLock lock(mutex_);
    TRY_VOID(charge(opener, expected));
    number = next_++ | (opener.is_trusted ? kOfTrusted : 0);
  }
  TRY_VOID(make_under(number, opener, expected, make));
  return number;
}

Result<> ControlHandles::put(std::uint64_t number, const Opener& opener, std::size_t expected, const Make& make) {
  {
    MutexLock lock(mutex_);
    if (handles_.contains(number)) return {};
    TRY_VOID(charge(opener, expected));
  }
  Result<> made = make_under(number, opener, expected, make);
  // Another thread was as quick.
  if (!made && made.error().code() != EEXIST) return made;
  return {};
}

std::shared_ptr<ControlHandle> ControlHandles::find(std::uint64_t number) const {
  MutexLock lock(mutex_);
  const auto found = handles_.find(number);
  return found == handles_.end() ? nullptr : found->second.handle;
}

void ControlHandles::remove(std::uint64_t number) {
  Open removed;
  {
    MutexLock lock(mutex_);
    const auto found = handles_.find(number);
    if (found == handles_.end()) return;
    removed = std::move(found->second);
    handles_.erase(found);
    discharge(removed.opener, removed.bytes);
  }
  removed.handle.reset();
  // Of a text of thousands of shares, and of what it was made from, malloc(3) would keep megabytes.
  if (removed.bytes >= kLarge) ::malloc_trim(0);
}

std::size_t ControlHandles::size() const {
  MutexLock lock(mutex_);
  return handles_.size();
}

}  // namespace berth::fuse
