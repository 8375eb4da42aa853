#include "src/libvirt/attacher.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <string_view>
#include <utility>

#include "src/cli/tree.h"
#include "src/lib/base/text.h"
#include "src/lib/formats/names.h"
#include "src/lib/log/log.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/thread.h"
#include "src/libvirt/namespaces.h"

namespace berth::libvirt {
namespace {

Attachments without(const Attachments& from, const Attachments& what) {
  Attachments left;
  std::set_difference(from.begin(), from.end(), what.begin(), what.end(), std::inserter(left, left.end()));
  return left;
}

std::string text_of(const Attachment& attachment) { return quote(attachment.instance + "/" + attachment.volume); }

/// What is in the file, to its end; nothing when it cannot be read any more.
std::optional<std::string> read_to_end(int file) {
  std::string text;
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = ::read(file, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN ? std::optional(text) : std::nullopt;
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace

Attacher::Attacher(std::string origin, std::set<std::string> only)
    : origin_(std::move(origin)), only_(std::move(only)) {}

Attacher::~Attacher() {
  {
    const MutexLock lock(mutex_);
    stops_ = true;
  }
  if (poller_) poller_->wake();
  if (thread_.joinable()) thread_.join();
}

Result<> Attacher::start() {
  poller_ = TRY(sys::Poller::make());
  thread_ = TRY(sys::start_thread("compare", [this] { run(); }));
  return {};
}

void Attacher::want(Guests guests) {
  {
    const MutexLock lock(mutex_);
    guests_ = std::move(guests);
  }
  try_again_now();
}

void Attacher::on_mounts_changed() { try_again_now(); }

void Attacher::try_again_now() {
  {
    const MutexLock lock(mutex_);
    is_changed_ = true;
    retry_at_.reset();
    retry_ = kFirstRetry;
  }
  poller_->wake();
}

std::optional<TimePoint> Attacher::next_try() {
  const MutexLock lock(mutex_);
  if (is_changed_) return TimePoint::min();
  return retry_at_;
}

void Attacher::run() {
  for (;;) {
    if (const std::optional<TimePoint> at = next_try(); at && *at <= std::chrono::steady_clock::now()) compare_all();
    const Result<std::span<const sys::Poller::Ready>> ready = poller_->wait(next_try());
    {
      const MutexLock lock(mutex_);
      if (stops_) return;
    }
    if (!ready) return log::error("cannot wait for events: {}", ready.error().message());
    const std::vector<sys::Poller::Ready> all(ready->begin(), ready->end());
    for (const sys::Poller::Ready& one : all) {
      if (is_of_interest(one)) try_again_now();
    }
  }
}

void Attacher::compare_all() {
  std::optional<Guests> guests;
  {
    const MutexLock lock(mutex_);
    is_changed_ = false;
    retry_at_.reset();
    guests = guests_;
  }
  const Result<std::vector<std::string>> found = find_namespaces();
  if (!found) return log::error("the mount table: {}", found.error().message());
  std::vector<std::string> namespaces = *found;
  if (!only_.empty()) std::erase_if(namespaces, [this](const std::string& one) { return !only_.contains(one); });
  watch(namespaces);
  if (!guests) return;
  for (const std::string& one : namespaces) {
    const Result<> compared = compare_in(one, *guests);
    if (compared) continue;
    log::warning("{}: {}", quote(one), compared.error().message());
    retry_later();
  }
}

void Attacher::retry_later() {
  const MutexLock lock(mutex_);
  if (retry_at_) return;
  retry_at_ = std::chrono::steady_clock::now() + retry_;
  retry_ = std::min<std::chrono::milliseconds>(retry_ * 2, kLastRetry);
}

Result<> Attacher::compare_in(const std::string& namespace_directory, const Guests& guests) {
  const Seen seen = TRY(look_into(namespace_directory, guests));
  const Wanted wanted = wanted_in(namespace_directory, seen.shares, guests, origin_);
  report(namespace_directory, compare(wanted, seen.attachments, guests, origin_));
  const auto of = [](const SharedAttachments& all, const std::string& share) {
    const auto found = all.find(share);
    return found == all.end() ? Attachments() : found->second;
  };
  for (const std::string& share : seen.shares) {
    Attachments own = of(seen.attachments, share);
    std::erase_if(own, [this](const Attachment& one) { return !is_of(one, origin_); });
    settle({namespace_directory, share}, of(wanted.shares, share), own);
  }
  // A reload may bring the share.
  if (!wanted.homeless.empty()) retry_later();
  return {};
}

void Attacher::settle(const Share& share, const Attachments& wanted, const Attachments& there) {
  Attachments missing = without(wanted, there);
  Attachments surplus = without(there, wanted);
  if (missing.empty() && surplus.empty()) return;
  {
    const MutexLock lock(mutex_);
    if (!busy_.insert(share).second) {
      again_.insert(share);
      return;
    }
  }
  pool_.submit(
      [this, share, missing = std::move(missing), surplus = std::move(surplus)] { change(share, missing, surplus); });
}

void Attacher::change(const Share& share, const Attachments& missing, const Attachments& surplus) {
  const auto& [namespace_directory, name] = share;
  const cli::Tree tree(namespace_directory);
  std::string failure;
  for (const Attachment& one : missing) {
    const Result<> done = tree.attach(name, one.instance, one.volume);
    if (done) log::info("{}: attached {}", quote(name), text_of(one));
    if (!done) failure = "cannot attach " + text_of(one) + ": " + done.error().message();
  }
  for (const Attachment& one : surplus) {
    const Result<> done = tree.detach(name, one.instance, one.volume);
    if (done) log::info("{}: detached {}", quote(name), text_of(one));
    if (!done && done.error().code() != ENOENT)
      failure = "cannot detach " + text_of(one) + ": " + done.error().message();
  }
  if (!failure.empty()) retry_later();
  bool is_new = false;
  {
    const MutexLock lock(mutex_);
    busy_.erase(share);
    is_new = std::exchange(failures_[share], failure) != failure;
    if (failure.empty()) failures_.erase(share);
    if (again_.erase(share) > 0 && failure.empty()) is_changed_ = true;
  }
  if (is_new && !failure.empty()) log::warning("{}: {}", quote(name), failure);
  poller_->wake();
}

/// What the program cannot settle, once.
void Attacher::report(const std::string& namespace_directory, const std::vector<Line>& lines) {
  std::set<std::string> now;
  for (const Line& line : lines) {
    if (line.disagreement.empty() || (!line.is_by_hand && !line.share.empty())) continue;
    const std::string path = line.share.empty()
                                 ? line.attachment.volume
                                 : line.share + ": " + line.attachment.instance + "/" + line.attachment.volume;
    now.insert(namespace_directory + ": " + quote(path) + ": " + line.disagreement);
  }
  for (const std::string& one : now) {
    if (!told_.contains(one)) log::warning("{}", one);
  }
  std::erase_if(told_, [&](const std::string& one) { return one.starts_with(namespace_directory + ": "); });
  told_.merge(now);
}

/// What its `events` have said before is not of interest.
void Attacher::watch(const std::vector<std::string>& namespaces) {
  std::erase_if(watched_, [&](const Watched& one) {
    const bool is_gone = std::find(namespaces.begin(), namespaces.end(), one.namespace_directory) == namespaces.end();
    if (is_gone) poller_->remove(one.events.get());
    return is_gone;
  });
  for (const std::string& one : namespaces) {
    const bool is_known = std::any_of(watched_.begin(), watched_.end(),
                                      [&](const Watched& known) { return known.namespace_directory == one; });
    if (is_known) continue;
    const std::string path = formats::tree_path(one).append("/").append(formats::kEvents);
    Result<UniqueFd> events = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_NONBLOCK);
    if (!events || !read_to_end(events->get())) continue;
    if (!poller_->add(events->get(), EPOLLIN, static_cast<std::uint64_t>(events->get()))) continue;
    watched_.push_back({*std::move(events), one});
  }
}

/// The host is resumed, an attachment is gone, or a configuration has brought shares.
bool Attacher::is_of_interest(const sys::Poller::Ready& ready) {
  const auto found = std::find_if(watched_.begin(), watched_.end(), [&](const Watched& one) {
    return static_cast<std::uint64_t>(one.events.get()) == ready.tag;
  });
  if (found == watched_.end()) return false;
  const std::optional<std::string> said = read_to_end(found->events.get());
  if (!said || (ready.events & (EPOLLERR | EPOLLHUP)) != 0) {
    poller_->remove(found->events.get());
    watched_.erase(found);
    return true;
  }
  const auto has = [&](std::string_view word) { return said->find(word) != std::string::npos; };
  return has(" resumed") || has(" detached") || has(" restored");
}

}  // namespace berth::libvirt
