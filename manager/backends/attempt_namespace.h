#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "manager/backends/host_view.h"
#include "manager/model/backend.h"
#include "src/lib/sys/namespaces.h"

namespace berth::manager {

/// The mount namespace of one attempt that runs a program: a copy of the host's as it is now, with berth's directories
/// in it.
///
/// The program finds the host's files as they are at that moment. What it mounts shows on no other mount table until
/// bring_home(), so that what a server has begun when it dies counts as nothing. And the namespace shows which
/// processes the attempt has started: none of them leaves it by making a session of its own or by becoming a daemon.
///
/// Threading: the thread that has entered it, which is in that namespace until bring_home(), leave() or the end.
class AttemptNamespace {
 public:
  /// `words`: paths that the program may need, in any text around them. What the host has mounted elsewhere, and would
  /// not be unmounted here when it is there, is left out of the copy. Errors: setns(2)'s, unshare(2)'s.
  static Result<AttemptNamespace> enter(const HostView& host, const Attempt& attempt,
                                        const std::vector<std::string>& words);
  AttemptNamespace(AttemptNamespace&&) noexcept = default;
  AttemptNamespace& operator=(AttemptNamespace&&) = delete;
  /// Ends all programs of an attempt that has not succeeded.
  ~AttemptNamespace();

  /// Goes home and puts there what is mounted at the berth here; where nothing is, only goes home.
  Result<> bring_home();
  /// Names the namespace while it lives (stat(2) of /proc/PID/ns/mnt).
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
  /// The attempt has succeeded. Null when no program is left.
  std::unique_ptr<AttemptPrograms> leave();

 private:
  AttemptNamespace(sys::MountNamespaceVisit visit, UniqueFd self, std::uint64_t number, const Attempt& attempt)
      : visit_(std::move(visit)),
        self_(std::move(self)),
        number_(number),
        berth_(attempt.berth),
        noted_(attempt.programs) {}

  std::optional<sys::MountNamespaceVisit> visit_;
  UniqueFd self_;  ///< empty: moved from, or left
  std::uint64_t number_;
  std::string berth_;
  std::atomic<std::int32_t>* noted_;
};

/// The programs of an attempt that a dead server has noted. Null when `mount_namespace` is no mount namespace, or the
/// server's.
std::unique_ptr<AttemptPrograms> take_over_programs(UniqueFd mount_namespace, const std::string& berth);

/// Whether any process of the server's pid namespace is in that mount namespace.
bool has_programs(std::uint64_t mount_namespace);

/// Takes off, in the calling thread's mount namespace, the copies of the host's mounts that stay when the host unmounts
/// what they are copies of, but for those that programs need: what the system itself is made of, and what leads to a
/// path in `words`.
Result<> detach_copies(const std::vector<std::string>& words);

}  // namespace berth::manager
