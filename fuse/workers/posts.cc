#include "fuse/workers/posts.h"

#include <utility>

namespace berth::fuse {
namespace {

Mail take_first(std::vector<Mail>& box) noexcept {
  Mail first = std::move(box.front());
  box.erase(box.begin());
  return first;
}

}  // namespace

// Nothing is allocated later: all have room for what may come at most.
Posts::Posts(std::size_t processors) : posts_(processors) {
  for (Post& post : posts_) {
    MutexLock lock(post.mutex);
    post.box.reserve(kMostMail);
  }
  MutexLock lock(mutex_);
  stray_.reserve(kMostTaken * kMostMail);
  spare_.reserve(kMostSpare);
}

bool Posts::take(unsigned processor) noexcept {
  if (processor >= posts_.size() || is_taken(processor)) return false;
  Post& post = posts_[processor];
  if (std::chrono::steady_clock::now() < post.closed_until.load(std::memory_order_relaxed)) return false;
  if (taken_.fetch_add(1) < kMostTaken) {
    MutexLock lock(post.mutex);
    if (!post.taken.exchange(true)) {
      post.asleep = false;
      return true;
    }
  }
  taken_.fetch_sub(1);
  return false;
}

void Posts::leave(unsigned processor) noexcept {
  Post& post = posts_[processor];
  {
    MutexLock lock(post.mutex);  // so that whoever sends comes before it, and is seen below, or is refused
    if (!post.taken.exchange(false)) return;
  }
  taken_.fetch_sub(1);
  while (std::optional<Mail> left = take_first_of(post)) add_stray(*std::move(left));
}

void Posts::add_stray(Mail mail) noexcept {
  MutexLock lock(mutex_);
  ++stray_count_;
  stray_.push_back(std::move(mail));
}

/// The oldest in a box.
std::optional<Mail> Posts::take_first_of(Post& post, TimePoint sent_before) noexcept {
  if (post.count == 0) return std::nullopt;
  MutexLock lock(post.mutex);
  if (post.box.empty() || post.box.front().sent > sent_before) return std::nullopt;
  --post.count;
  return take_first(post.box);
}

void Posts::close(unsigned processor, TimePoint until) noexcept {
  posts_[processor].closed_until.store(until, std::memory_order_relaxed);
}

bool Posts::is_taken(unsigned processor) const noexcept {
  return processor < posts_.size() && posts_[processor].taken.load(std::memory_order_relaxed);
}

bool Posts::try_sleep(unsigned processor) noexcept {
  Post& post = posts_[processor];
  MutexLock lock(post.mutex);  // a sender has put something in before this, or sees that the worker sleeps
  if (!post.box.empty()) return false;
  post.asleep = true;
  return true;
}

void Posts::wake(unsigned processor) noexcept { posts_[processor].asleep.store(false, std::memory_order_relaxed); }

bool Posts::send(unsigned processor, Mail& mail) noexcept {
  if (!is_taken(processor)) return false;
  Post& post = posts_[processor];
  MutexLock lock(post.mutex);
  if (!post.taken || post.asleep || post.box.size() >= kMostMail) return false;
  if (mail_.fetch_add(1) >= kMostTaken * kMostMail) {
    --mail_;
    return false;
  }
  ++post.count;
  post.box.push_back(std::move(mail));
  return true;
}

std::optional<Mail> Posts::take_stray() noexcept {
  if (stray_count_ == 0) return std::nullopt;
  MutexLock lock(mutex_);
  if (stray_.empty()) return std::nullopt;
  --stray_count_;
  --mail_;
  return take_first(stray_);
}

std::optional<Mail> Posts::receive(std::optional<unsigned> processor) noexcept {
  std::optional<Mail> first = processor ? take_first_of(posts_[*processor]) : std::nullopt;
  if (!first) return take_stray();
  --mail_;
  return first;
}

std::optional<Mail> Posts::take_late(TimePoint now, Duration age) noexcept {
  if (!has_mail()) return std::nullopt;
  for (Post& post : posts_) {
    std::optional<Mail> late = take_first_of(post, now - age);
    if (!late) continue;
    --mail_;
    return late;
  }
  return take_stray();
}

void Posts::let_go_of_late(TimePoint now, Duration age) noexcept {
  if (!has_mail()) return;
  for (Post& post : posts_) {
    if (std::optional<Mail> late = take_first_of(post, now - age)) add_stray(*std::move(late));
  }
}

bool Posts::has_mail(unsigned processor) const noexcept {
  return processor < posts_.size() && posts_[processor].count.load(std::memory_order_relaxed) != 0;
}

std::unique_ptr<ReadBuffer> Posts::take_spare() noexcept {
  MutexLock lock(mutex_);
  if (spare_.empty()) return nullptr;
  std::unique_ptr<ReadBuffer> spare = std::move(spare_.back());
  spare_.pop_back();
  return spare;
}

void Posts::add_spare(std::unique_ptr<ReadBuffer> buffer) noexcept {
  MutexLock lock(mutex_);
  if (buffer != nullptr && spare_.size() < kMostSpare) spare_.push_back(std::move(buffer));
}

}  // namespace berth::fuse
