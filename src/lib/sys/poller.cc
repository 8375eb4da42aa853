#include "src/lib/sys/poller.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "src/lib/sys/time_left.h"

namespace berth::sys {
namespace {

constexpr std::uint64_t kWakeTag = ~std::uint64_t{0};
constexpr int kMostAtOnce = 64;

timespec time_until(TimePoint deadline) noexcept {
  const Duration left = time_left(deadline);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(left);
  return {.tv_sec = seconds.count(), .tv_nsec = std::chrono::nanoseconds(left - seconds).count()};
}

}  // namespace

Result<Poller> Poller::make() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno();
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return fail_errno();
  Poller poller(std::move(epoll), std::move(wake));
  TRY_VOID(poller.add(poller.wake_.get(), EPOLLIN, kWakeTag));
  return poller;
}

Result<> Poller::add(int fd, std::uint32_t events, std::uint64_t tag) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return fail_errno();
  return {};
}

void Poller::remove(int fd) noexcept { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Poller::wake() noexcept {
  const std::uint64_t one = 1;
  // EAGAIN: the counter is full, so a wake-up is pending anyway.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

Result<std::span<const Poller::Ready>> Poller::wait(std::optional<TimePoint> deadline) {
  std::array<epoll_event, kMostAtOnce> events{};
  int count = 0;
  do {
    timespec timeout{};
    if (deadline) timeout = time_until(*deadline);
    count = ::epoll_pwait2(epoll_.get(), events.data(), kMostAtOnce, deadline ? &timeout : nullptr, nullptr);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return fail_errno();

  ready_.clear();
  for (const epoll_event& event : std::span(events).first(static_cast<std::size_t>(count))) {
    if (event.data.u64 == kWakeTag) {
      std::uint64_t wakes = 0;
      [[maybe_unused]] const ssize_t read = ::read(wake_.get(), &wakes, sizeof wakes);
    } else {
      ready_.push_back({.tag = event.data.u64, .events = event.events});
    }
  }
  return std::span<const Ready>(ready_);
}

}  // namespace berth::sys
