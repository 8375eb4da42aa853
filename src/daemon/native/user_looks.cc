#include "src/daemon/native/user_looks.h"

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "src/lib/sys/ask_on_thread.h"

namespace berth::daemon {
namespace {

/// Threads that look at one user's processes at once, and users of whom any does: some threads may hang for ever.
constexpr int kMostThreads = 4;
constexpr std::size_t kMostUsers = 64;
/// Users that are named.
constexpr std::size_t kMostTold = 5;

using ByUser = std::vector<std::pair<uid_t, std::vector<pid_t>>>;

ByUser in_order(std::map<uid_t, std::vector<pid_t>> processes) {
  ByUser by_user(std::make_move_iterator(processes.begin()), std::make_move_iterator(processes.end()));
  std::stable_sort(by_user.begin(), by_user.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first != 0, a.second.size()) < std::pair(b.first != 0, b.second.size());
  });
  return by_user;
}

/// Adds what was found of one user, and takes it off what is still wanted.
void add(UsersOfMounts found, UsersOfMounts& to, UsesWanted& wanted) {
  for (std::size_t i = 0; i < to.in.size(); ++i) {
    UsersOfMounts::In& all = to.in[i];
    all.processes += found.in[i].processes;
    all.left_out += found.in[i].left_out;
    for (UseOfMount& use : found.in[i].uses) {
      --wanted.most;
      wanted.most_of_names -= use.path.size();
      all.uses.push_back(std::move(use));
    }
  }
}

}  // namespace

bool UserLooks::Threads::begin(uid_t user) {
  MutexLock lock(mutex);
  const auto known = of.find(user);
  if (known != of.end() ? known->second == kMostThreads : of.size() == kMostUsers) return false;
  ++of[user];
  return true;
}

void UserLooks::Threads::end(uid_t user) {
  MutexLock lock(mutex);
  if (--of[user] == 0) of.erase(user);
}

UserLooks::Found UserLooks::look(const std::vector<std::uint64_t>& mounts, std::chrono::milliseconds patience,
                                 UsesWanted of_one, UsesWanted of_all) {
  const TimePoint until = SystemClock().now() + patience;
  Found found;
  const Duration begun = processor_time();
  ByUser by_user = in_order(processes_by_user());
  found.all.cost = processor_time() - begun;
  found.all.in.resize(mounts.size());
  for (std::size_t i = 0; i < by_user.size(); ++i) {
    const uid_t user = by_user[i].first;
    const TimePoint now = SystemClock().now();
    const Duration time = (until - now) / (user == 0 ? 1 : static_cast<Duration::rep>(by_user.size() - i));
    if (time <= Duration::zero() || !threads_->begin(user)) {
      found.unseen.push_back(user);
      continue;
    }
    const UsesWanted wanted{.most = std::min(of_one.most, of_all.most),
                            .most_of_names = std::min(of_one.most_of_names, of_all.most_of_names)};
    const std::shared_ptr<void> look_ends(nullptr, [user, threads = threads_](void*) { threads->end(user); });
    Result<UsersOfMounts> of_user = sys::ask_on_thread<UsersOfMounts>(
        "berth-look",
        [mounts, user, wanted, look_ends, processes = std::move(by_user[i].second), end = now + time - time / 10] {
          return find_users_of(mounts, user, processes, end, wanted);
        },
        now + time);
    if (!of_user || !of_user->is_complete) found.unseen.push_back(user);
    // What a thread costs that does not end is not known.
    found.all.cost += of_user ? of_user->cost : time;
    if (of_user) add(*std::move(of_user), found.all, of_all);
  }
  found.all.is_complete = found.unseen.empty();
  return found;
}

std::string UserLooks::Found::text_of_unseen() const {
  if (unseen.empty()) return "";
  const std::size_t most = std::min(unseen.size(), kMostTold);
  std::string text = "whether processes of user ";
  for (std::size_t i = 0; i < most; ++i) text += (i > 0 ? ", " : "") + std::to_string(unseen[i]);
  if (most < unseen.size()) text += " and " + std::to_string(unseen.size() - most) + " more";
  return text + " use it is not known: they have too much open or mapped, or cannot be looked at";
}

}  // namespace berth::daemon
