#include "src/lib/sys/privileges.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

namespace berth::sys {
namespace {

/// The exit status of a child process that does `what`, for what is given up does not come back.
int in_child(const std::function<int()>& what) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(what());
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool is_root() { return own_capabilities()->permitted != 0 && ::geteuid() == 0; }

TEST(Privileges, KeepsWhatIsAskedForAndNothingElse) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  EXPECT_EQ(in_child([] {
              const CapabilitySet kept = capabilities({CAP_CHOWN, CAP_KILL});
              if (!keep_capabilities({.effective = capabilities({CAP_KILL}), .permitted = kept, .bounding = kept}))
                return 1;
              const Capabilities own = own_capabilities().value_or(Capabilities{});
              if (own.effective != capabilities({CAP_KILL}) || own.permitted != kept || own.bounding != kept) return 2;
              return own.inheritable == 0 && !is_bounding_set_full() ? 0 : 3;
            }),
            0);
}

TEST(Privileges, PermittedOneBecomesEffectiveAgain) {
  if (!is_root()) GTEST_SKIP() << "needs root";
  EXPECT_EQ(in_child([] {
              const CapabilitySet both = capabilities({CAP_CHOWN, CAP_KILL});
              if (!keep_capabilities({.effective = 0, .permitted = both, .bounding = both})) return 1;
              if (!keep_capabilities({.effective = both, .permitted = both, .bounding = both})) return 2;
              return own_capabilities()->effective == both ? 0 : 3;
            }),
            0);
}

TEST(Privileges, WhatIsMissingIsNoError) {
  EXPECT_EQ(in_child([] {
              if (!keep_capabilities({})) return 1;
              if (!keep_capabilities({.effective = ~0ULL, .permitted = ~0ULL, .bounding = ~0ULL})) return 2;
              return own_capabilities()->permitted == 0 ? 0 : 3;
            }),
            0);
}

TEST(Privileges, ForbidsProgramsAndSetuid) {
  EXPECT_EQ(in_child([] {
              if (!forbid_programs()) return 1;
              ::execl("/bin/true", "true", nullptr);
              if (errno != EPERM) return 2;
              if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 3;
              return in_child([] { return ::execl("/bin/true", "true", nullptr) == -1 && errno == EPERM ? 0 : 1; });
            }),
            0);
}

}  // namespace
}  // namespace berth::sys
