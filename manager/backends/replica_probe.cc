#include "manager/backends/replica_probe.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <future>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "manager/backends/berth_backend.h"
#include "manager/model/server_of.h"
#include "src/lib/base/mutex.h"
#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/thread.h"
#include "src/lib/sys/time_left.h"

namespace berth::manager {
namespace {

/// Once a server has answered, the others may take so long, or as long again. A server that is much slower is not the
/// one to take.
constexpr std::chrono::milliseconds kGrace{50};

/// Whether the programs that mount this type know a server by the resolver's name alone. ssh and others have names of
/// their own.
bool has_resolvers_names(std::string_view type) noexcept {
  constexpr std::array<std::string_view, 4> kTypes{"nfs", "nfs4", "cifs", "smb3"};
  return std::find(kTypes.begin(), kTypes.end(), type) != kTypes.end();
}

struct FreeAddresses {
  void operator()(addrinfo* addresses) const noexcept { ::freeaddrinfo(addresses); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

/// Errors: EHOSTUNREACH with the resolver's words, and what to do.
Result<Addresses> resolve(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code == 0) return Addresses(found);
  const std::string words = std::string(" (") + ::gai_strerror(code) + "); ";
  if (code == EAI_NONAME || code == EAI_NODATA) {
    return fail(EHOSTUNREACH, "the server " + quote(host) + " has no address" + words +
                                  "correct the name, or add it to DNS or /etc/hosts");
  }
  return fail(EHOSTUNREACH,
              "the name service does not tell the address of " + quote(host) + words + "look at /etc/resolv.conf");
}

/// To the first of the addresses that accepts it; all are tried at once, IPv6 and IPv4. Errors: that of the last one;
/// ETIMEDOUT.
Result<> connect_to_any(const addrinfo* addresses, TimePoint deadline) {
  constexpr std::size_t kMostAddresses = 16;
  std::vector<UniqueFd> sockets;
  std::vector<pollfd> pending;
  Error last(EHOSTUNREACH);
  for (const addrinfo* one = addresses; one != nullptr && sockets.size() < kMostAddresses; one = one->ai_next) {
    UniqueFd socket(::socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket && ::connect(socket.get(), one->ai_addr, one->ai_addrlen) == 0) return {};
    last = Error::last();
    if (!socket || last.code() != EINPROGRESS) continue;
    pending.push_back({socket.get(), POLLOUT, 0});
    sockets.push_back(std::move(socket));
  }
  while (!pending.empty()) {
    if (::poll(pending.data(), pending.size(), sys::poll_timeout(deadline)) <= 0) return fail(ETIMEDOUT);
    for (const pollfd& one : std::vector<pollfd>(pending)) {
      if (one.revents == 0) continue;
      int code = 0;
      socklen_t size = sizeof code;
      if (::getsockopt(one.fd, SOL_SOCKET, SO_ERROR, &code, &size) != 0) return fail_errno();
      if (code == 0) return {};
      last = Error(code);
      std::erase_if(pending, [&one](const pollfd& other) { return other.fd == one.fd; });
    }
  }
  return fail(std::move(last));
}

/// What the servers have answered so far. The threads that ask them own it together with the caller.
///
/// Threading: any thread.
class Answers {
 public:
  /// `changed`: an eventfd.
  Answers(std::vector<std::uint32_t> weights, UniqueFd changed)
      : weights_(std::move(weights)),
        start_(now()),
        answers_(weights_.size()),
        is_resolved_(weights_.size()),
        changed_(std::move(changed)) {}

  void note_resolved(std::size_t index) {
    MutexLock lock(mutex_);
    is_resolved_[index] = true;
  }

  void add(std::size_t index, Result<> answer) {
    {
      MutexLock lock(mutex_);
      if (answer) {
        const TimePoint at = now();
        order_.emplace_back((at - start_) * (Duration::rep{weights_[index]} + 1), index);
        // A server that answers later costs more, whatever its weight.
        last_useful_ =
            std::min(last_useful_.value_or(TimePoint::max()),
                     start_ + std::max<Duration>(order_.back().first + (at - start_), (at - start_) + kGrace));
      }
      answers_[index] = std::move(answer);
    }
    const std::uint64_t one = 1;
    if (::write(changed_.get(), &one, sizeof one) < 0) {
    }  // it counts further than there are sources
  }

  /// Until all have answered, one has and the others are much slower, or `cancel_fd` is readable.
  void wait(TimePoint deadline, int cancel_fd) const {
    while (const std::optional<TimePoint> until = waits_until(deadline)) {
      const int left = sys::poll_timeout(*until);
      if (left == 0) return;
      std::array<pollfd, 2> watched{{{changed_.get(), POLLIN, 0}, {cancel_fd, POLLIN, 0}}};
      if (::poll(watched.data(), watched.size(), left) < 0 || watched[1].revents != 0) return;
      std::uint64_t count = 0;
      if (::read(changed_.get(), &count, sizeof count) < 0) {
      }  // nothing has changed
    }
  }

  /// Those that have answered, the one that costs least at the head: the time of its answer, once more for each of its
  /// weight.
  [[nodiscard]] std::vector<std::size_t> order() const {
    std::vector<std::pair<Duration, std::size_t>> answered;
    {
      MutexLock lock(mutex_);
      answered = order_;
    }
    std::stable_sort(answered.begin(), answered.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<std::size_t> order;
    order.reserve(answered.size());
    for (const auto& [cost, index] : answered) order.push_back(index);
    return order;
  }
  [[nodiscard]] std::optional<Result<>> of(std::size_t index) const {
    MutexLock lock(mutex_);
    return answers_[index];
  }
  [[nodiscard]] bool is_resolved(std::size_t index) const {
    MutexLock lock(mutex_);
    return is_resolved_[index];
  }

 private:
  /// Nothing: there is nothing to wait for.
  [[nodiscard]] std::optional<TimePoint> waits_until(TimePoint deadline) const {
    MutexLock lock(mutex_);
    if (std::all_of(answers_.begin(), answers_.end(), [](const auto& one) { return one.has_value(); })) return {};
    return std::min(deadline, last_useful_.value_or(deadline));
  }

  const std::vector<std::uint32_t> weights_;
  const TimePoint start_;
  mutable Mutex mutex_;
  std::vector<std::optional<Result<>>> answers_ BERTH_GUARDED_BY(mutex_);
  std::vector<bool> is_resolved_ BERTH_GUARDED_BY(mutex_);
  std::vector<std::pair<Duration, std::size_t>> order_ BERTH_GUARDED_BY(mutex_);  ///< with what each costs
  std::optional<TimePoint> last_useful_ BERTH_GUARDED_BY(mutex_);
  const UniqueFd changed_;
};

/// One for each source.
std::vector<std::uint32_t> weights_of(const ShareSpec& spec, std::size_t count) {
  std::vector<std::uint32_t> weights = spec.policy().weights;
  weights.resize(count);
  return weights;
}

/// The sources with the smallest weight at their head.
std::vector<std::size_t> order_by_weight(const std::vector<std::uint32_t>& weights) {
  std::vector<std::size_t> order(weights.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&weights](std::size_t a, std::size_t b) { return weights[a] < weights[b]; });
  return order;
}

/// Asks one server. `connects`: false: that its name has an address is enough.
struct Question {
  std::shared_ptr<Answers> answers;
  std::size_t index;
  std::string host;
  int port;
  bool connects;

  [[nodiscard]] Result<> ask() const {
    const Addresses addresses = TRY(host.empty() ? Result<Addresses>(nullptr) : resolve(host, port));
    answers->note_resolved(index);
    if (host.empty()) return fail(EINVAL, "names no server");
    if (!connects) return {};
    const Result<> answer = connect_to_any(addresses.get(), now() + kReplicaPatience);
    if (!answer) return fail(answer.error().within("port " + std::to_string(port) + " of " + quote(host)));
    return {};
  }
};

/// In a thread of its own: a look-up of a name may hang. Errors: EAGAIN.
Result<> start_question(Question question) {
  std::promise<void> begun;
  std::future<void> has_begun = begun.get_future();
  auto work = [question = std::move(question), begun = std::move(begun)]() mutable {
    begun.set_value();
    question.answers->add(question.index, question.ask());
  };
  TRY(sys::start_thread("berth-replica", std::move(work))).detach();
  // As in RootAnswer::ask().
  has_begun.wait();
  return {};
}

}  // namespace

int port_of(std::string_view type, std::string_view options) noexcept {
  for (const std::string_view option : split(options, ',')) {
    if (!option.starts_with("port=")) continue;
    int port = 0;
    const std::string_view number = option.substr(5);
    std::from_chars(number.data(), number.data() + number.size(), port);
    if (port > 0 && port < 65536) return port;
  }
  constexpr std::array<std::pair<std::string_view, int>, 6> kPorts{
      {{"nfs", 2049}, {"nfs4", 2049}, {"cifs", 445}, {"smb3", 445}, {"fuse.sshfs", 22}, {"ceph", 6789}}};
  const auto* const known =
      std::find_if(kPorts.begin(), kPorts.end(), [&](const auto& one) { return one.first == type; });
  return known != kPorts.end() ? known->second : 0;
}

namespace {

/// `connects`: false: that the names have addresses is enough.
ReplicaOrder ask(const ShareSpec& spec, const std::vector<std::string>& sources, const Attempt& attempt,
                 bool connects) {
  const int port = port_of(spec.type(), spec.options());
  const bool is_name_needed = has_resolvers_names(spec.type());
  const std::vector<std::uint32_t> weights = weights_of(spec, sources.size());
  const std::vector<std::size_t> by_weight = order_by_weight(weights);
  ReplicaOrder unasked;
  for (const std::size_t index : by_weight) unasked.sources.push_back(sources[index]);
  if (port == 0 || (!connects && !is_name_needed)) return unasked;
  UniqueFd changed(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!changed) return unasked;
  const TimePoint start = now();
  const TimePoint deadline =
      std::min<TimePoint>(attempt.deadline, start + (is_name_needed ? kResolverPatience : kReplicaPatience));
  const auto answers = std::make_shared<Answers>(weights, std::move(changed));
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (!start_question({answers, i, server_of(sources[i]), port, connects})) return unasked;
  }
  answers->wait(deadline, attempt.cancel_fd);
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(now() - start);
  ReplicaOrder order;
  const std::vector<std::size_t> answered = answers->order();
  for (const std::size_t index : answered) order.sources.push_back(sources[index]);
  for (const std::size_t i : by_weight) {
    if (std::find(answered.begin(), answered.end(), i) != answered.end()) continue;
    const std::optional<Result<>> answer = answers->of(i);
    const bool is_resolved = answers->is_resolved(i);
    Error why(ETIMEDOUT, (is_resolved ? "no answer from " : "the resolver has not answered about ") +
                             quote(server_of(sources[i])) + " in " + std::to_string(waited.count()) + " ms");
    if (answer && !*answer) why = answer->error();
    const bool is_unknown = is_name_needed && !is_resolved && (answer || waited >= kResolverPatience);
    (is_unknown ? order.unknown : order.silent).push_back({sources[i], std::move(why)});
  }
  // Nothing is lost by trying them after the others; and where none has answered, something else may be in the way of
  // the question.
  for (const PassedOver& silent : order.silent) order.sources.push_back(silent.source);
  return order;
}

}  // namespace

ReplicaOrder order_replicas(const ShareSpec& spec, const std::vector<std::string>& sources, const Attempt& attempt) {
  return ask(spec, sources, attempt, sources.size() > 1);
}

bool another_answers(const ShareSpec& spec, const std::string& but, TimePoint deadline) {
  std::vector<std::string> others = spec.sources();
  std::erase(others, but);
  const Attempt attempt{.berth = {}, .deadline = deadline};
  const ReplicaOrder order = ask(spec, others, attempt, true);
  return order.sources.size() > order.silent.size();
}

}  // namespace berth::manager
