// A fleet of hosts that come back after a power cut, on the real life cycle, back-off and mount slots: what a filer has
// to bear.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "manager/engine/life_cycle.h"
#include "manager/engine/mount_slots.h"

namespace berth::manager {
namespace {

using namespace std::chrono_literals;
using namespace life_cycle;

constexpr std::size_t kHosts = 10'000;
constexpr std::size_t kSharesOfHost = 4;
constexpr std::size_t kOfServer = 2;  ///< max_mounts_per_server
/// Mounts that the filer does in a second; what comes while it is busy waits.
constexpr double kCapacity = 2000;
constexpr Duration kBoot = 10s;             ///< in which all hosts come back
constexpr Duration kFilerComesBack = 3min;  ///< later than they do
constexpr Duration kCallersAgain = 5s;      ///< how often a program tries again that was refused

/// What the filer does before it is back.
enum class WhileDown { kRefuses, kIsSilent };

struct MountOfHost {
  std::size_t host = 0;
  State state;
};

/// What the filer has seen.
struct Load {
  std::vector<std::size_t> attempts;  ///< in each second
  std::size_t most_waiting = 0;       ///< at once, of mounts that it was working on
  Duration all_mounted{};
};

class Fleet {
 public:
  Fleet(WhileDown while_down, std::uint32_t seed) : while_down_(while_down), random_(seed) {
    for (std::size_t host = 0; host < kHosts; ++host) {
      slots_.emplace_back(16, kOfServer);
      const Duration boot = random_time(kBoot);
      for (std::size_t i = 0; i < kSharesOfHost; ++i) {
        const std::size_t share = mounts_.size();
        mounts_.push_back({.host = host, .state = Idle{}});
        at(boot, [this, share] { want(share); });
      }
    }
  }

  Load run() {
    while (!events_.empty() && mounted_ < mounts_.size()) {
      now_ = events_.top().when;
      const auto what = events_.top().what;
      events_.pop();
      what();
    }
    load_.all_mounted = now_;
    return load_;
  }

 private:
  struct Later {
    Duration when;
    std::uint64_t order;
    std::function<void()> what;
    bool operator<(const Later& other) const { return when != other.when ? when > other.when : order > other.order; }
  };

  Duration random_time(Duration below) {
    return Duration(std::uniform_int_distribution<Duration::rep>(0, below.count())(random_));
  }
  void at(Duration when, std::function<void()> what) { events_.push({when, order_++, std::move(what)}); }

  /// A program looks into the share, and does so again for as long as it is refused.
  void want(std::size_t share) {
    feed(share, LeaseWanted{});
    if (!std::holds_alternative<Mounted>(mounts_[share].state)) {
      at(now_ + kCallersAgain, [this, share] { want(share); });
    }
  }

  void feed(std::size_t share, const Input& happening) {
    MountOfHost& mount = mounts_[share];
    Step step = life_cycle::step(mount.state, happening, policy_, TimePoint(now_));
    mount.state = std::move(step.state);
    for (const Effect& effect : step.effects) {
      if (const auto* const start = std::get_if<StartMount>(&effect)) {
        slots_[mount.host].add(&mount, MountSlots<MountOfHost>::Kind::kRemote, start->deadline, "filer");
        begin_queued(mount.host);
      } else if (std::holds_alternative<SetTimer>(effect)) {
        const TimePoint due = std::get<SetTimer>(effect).at;
        if (std::holds_alternative<Mounting>(mount.state)) {
          at(due.time_since_epoch(), [this, share, started = std::get<Mounting>(mount.state).started] {
            const auto* const mounting = std::get_if<Mounting>(&mounts_[share].state);
            if (mounting == nullptr || mounting->started != started) return;
            feed(share, Timer{.jitter = jitter()});
          });
        }
      } else if (std::holds_alternative<OpenGate>(effect)) {
        ++mounted_;
      }
    }
  }

  void begin_queued(std::size_t host) {
    while (const auto turn = slots_[host].next(TimePoint(now_))) {
      const auto share = static_cast<std::size_t>(turn->mount - mounts_.data());
      if (turn->deadline > TimePoint(now_)) {
        ask_filer(share, turn->deadline);
      } else {
        at(now_, [this, share] { end(share, false); });
      }
    }
  }

  void ask_filer(std::size_t share, TimePoint deadline) {
    const auto second = static_cast<std::size_t>(now_ / 1s);
    if (load_.attempts.size() <= second) load_.attempts.resize(second + 1);
    ++load_.attempts[second];
    const bool is_up = now_ >= kFilerComesBack;
    if (!is_up) {
      at(while_down_ == WhileDown::kRefuses ? now_ + 10ms : deadline.time_since_epoch(),
         [this, share] { end(share, false); });
      return;
    }
    busy_until_ = std::max(busy_until_, now_) +
                  std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1 / kCapacity));
    load_.most_waiting = std::max(load_.most_waiting, ++waiting_);
    at(busy_until_, [this, share] {
      --waiting_;
      end(share, true);
    });
  }

  void end(std::size_t share, bool success) {
    const std::size_t host = mounts_[share].host;
    slots_[host].end(&mounts_[share]);
    feed(share, MountEnded{.success = success, .error = Error(success ? 0 : ECONNREFUSED), .jitter = jitter()});
    begin_queued(host);
  }

  double jitter() { return std::uniform_real_distribution<double>(0, 1)(random_); }

  const SharePolicy policy_;
  const WhileDown while_down_;
  std::mt19937 random_;
  Duration now_{};
  Duration busy_until_{};
  std::uint64_t order_ = 0;
  std::size_t waiting_ = 0;
  std::size_t mounted_ = 0;
  std::vector<MountOfHost> mounts_;
  std::deque<MountSlots<MountOfHost>> slots_;
  std::priority_queue<Later> events_;
  Load load_;
};

/// Most attempts in a second, of those from `from` to `to`.
std::size_t most_in(const Load& load, std::size_t from, std::size_t to) {
  to = std::min(to, load.attempts.size());
  if (from >= to) return 0;
  const auto begin = load.attempts.begin();
  return *std::max_element(begin + static_cast<std::ptrdiff_t>(from), begin + static_cast<std::ptrdiff_t>(to));
}

/// The plot of manager/engine/README.md.
void print(const Load& load) {
  for (std::size_t i = 0; i < load.attempts.size(); i += 15) {
    const std::size_t most = most_in(load, i, i + 15);
    std::printf("%3zu s %5zu %s\n", i, most, std::string((most + 199) / 200, '#').c_str());
  }
  std::printf("%zu mounts at once, all mounted after %.0f s\n", load.most_waiting,
              std::chrono::duration<double>(load.all_mounted).count());
}

constexpr auto kUp = static_cast<std::size_t>(kFilerComesBack / 1s);
constexpr std::size_t kAll = std::size_t{1} << 30;
/// The longest back-off is spread over half of it: were all shares in step with it, and evenly.
constexpr auto kEven = kHosts * kSharesOfHost / static_cast<std::size_t>(kLongestBackoff / 2 / 1s);

TEST(FleetTest, FilerThatRefusesItsHostsForAWhileBearsABoundedLoadWhenItIsBack) {
  const Load load = Fleet(WhileDown::kRefuses, 1).run();
  print(load);
  EXPECT_LT(most_in(load, 90, kUp), 2 * kEven) << "the back-off has spread them";
  EXPECT_LT(most_in(load, kUp, kAll), 2 * kEven);
  EXPECT_LT(load.most_waiting, kHosts / 100);
  EXPECT_LT(load.all_mounted, kFilerComesBack + kLongestBackoff + kCallersAgain) << "and each has its turn";
}

TEST(FleetTest, FilerThatIsSilentForAWhileBearsABoundedLoadWhenItIsBack) {
  const Load load = Fleet(WhileDown::kIsSilent, 1).run();
  print(load);
  // Each host has kOfServer mounts under way, which end together, as they have begun in the boot.
  EXPECT_LT(most_in(load, 0, kAll), 2 * kHosts * kOfServer / static_cast<std::size_t>(kBoot / 1s));
  EXPECT_LT(load.most_waiting, kHosts * kOfServer / 2);
  EXPECT_LT(load.all_mounted, kFilerComesBack + SharePolicy().mount_timeout + kLongestBackoff + kCallersAgain);
}

}  // namespace
}  // namespace berth::manager
