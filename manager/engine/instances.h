#pragma once

#include <sys/types.h>

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/lib/base/clock.h"
#include "src/lib/base/error.h"

namespace berth::manager {

/// The shares that templates have made on look-up, how many more there may be, and the names that were looked up in
/// vain, with the error. All of it is bounded: any user of the host can look names up.
///
/// Threading: one thread.
class Instances {
 public:
  struct Limits {
    std::size_t in_all = 16384;
    std::size_t of_template = 8192;
    std::size_t of_user = 1024;  ///< made for one user; the superuser has no limit
  };
  static constexpr std::size_t kMostRefused = 16384;  ///< names that are remembered as absent, or as an error
  /// A user can have so many made at once, and then one more each kRefill: the kernel may hold on to each.
  static constexpr double kBurst = 1024;
  static constexpr std::chrono::seconds kRefill{1};
  /// How long a name of which a program said no share stays an error: no look-up runs the program meanwhile.
  static constexpr std::chrono::seconds kFailed{5};

  struct Instance {
    uid_t user = 0;                          ///< that it was made for
    std::string looked_up = {};              ///< the name that was: the share's, or that of a directory above it
    TimePoint used{};                        ///< when it was made or taken over
    std::optional<TimePoint> holds_until{};  ///< what its program has answered; nothing: there is no program
  };
  using Map = std::map<std::string, Instance, std::less<>>;

  Instances() = default;
  explicit Instances(const Limits& limits) : limits_(limits) {}

  /// Which limit keeps another one from being made.
  enum class Full : std::uint8_t { kNo, kOfUser, kOfTemplate, kInAll };
  /// How many there are for each limit.
  struct Counts {
    std::size_t of_user, of_template, in_all;
  };

  void add(const std::string& name, const std::string& looked_up, uid_t user, TimePoint now);
  void remove(std::string_view name);
  /// Of all that was made when `looked_up` was.
  void set_holds_until(const std::string& looked_up, TimePoint until);
  /// The names of these, sorted.
  [[nodiscard]] std::vector<std::string> made_of(const std::string& looked_up) const;
  [[nodiscard]] const Map& all() const noexcept { return instances_; }
  /// Nothing: the share is configured.
  [[nodiscard]] std::optional<uid_t> user_of(std::string_view name) const;
  /// For `count` more, as if `gone` of those that there are had been removed.
  [[nodiscard]] Full full(std::string_view looked_up, uid_t user, std::size_t count, const Counts& gone = {}) const;

  /// False: the user has had too many made lately.
  bool take_turn(uid_t user, TimePoint now);

  /// ENOENT: it is absent.
  void note_refused(const std::string& name, Error why, TimePoint until);
  /// Nothing: it is to be asked for.
  [[nodiscard]] std::optional<Error> refusal_of(std::string_view name, TimePoint now) const;
  void forget_refused();

  /// The name of the template of a name that is looked up: "home/*" of "home/alice".
  static std::string template_of(std::string_view looked_up);

 private:
  struct Refusal {
    Error why;
    TimePoint until;
  };
  struct Turns {
    double left = kBurst;
    TimePoint at{};
  };

  Limits limits_;
  Map instances_;
  std::unordered_map<uid_t, std::size_t> of_user_;
  std::unordered_map<std::string, std::size_t> of_template_;
  std::unordered_map<uid_t, Turns> turns_;  ///< of users that have not all of them
  std::map<std::string, Refusal, std::less<>> refused_;
  std::deque<std::string> refused_order_;  ///< the oldest first
};

}  // namespace berth::manager
