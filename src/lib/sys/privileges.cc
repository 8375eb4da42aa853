#include "src/lib/sys/privileges.h"

#include <linux/capability.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>

namespace berth::sys {
namespace {

/// By name: libseccomp knows those that an architecture lacks, and then leaves them out.
constexpr std::array kForbidden{
    // other programs and processes
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(kcmp), SCMP_SYS(process_madvise), SCMP_SYS(pidfd_getfd),
    // code in the kernel, and what has been a way there
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load), SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(modify_ldt),
    SCMP_SYS(personality),
    // namespaces, devices, files past their directories
    SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(chroot), SCMP_SYS(pivot_root), SCMP_SYS(mknod), SCMP_SYS(mknodat),
    SCMP_SYS(open_by_handle_at), SCMP_SYS(iopl), SCMP_SYS(ioperm),
    // the host
    SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct), SCMP_SYS(quotactl), SCMP_SYS(quotactl_fd),
    SCMP_SYS(syslog), SCMP_SYS(sethostname), SCMP_SYS(setdomainname), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex), SCMP_SYS(vhangup)};

constexpr unsigned kWord = 32;

std::uint32_t low(CapabilitySet set) noexcept { return static_cast<std::uint32_t>(set); }
std::uint32_t high(CapabilitySet set) noexcept { return static_cast<std::uint32_t>(set >> kWord); }

bool is_bounded(unsigned number) noexcept { return ::prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1; }
bool is_known(unsigned number) noexcept { return ::prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; }

}  // namespace

Result<Capabilities> own_capabilities() noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, 2> data{};
  if (::syscall(SYS_capget, &header, data.data()) != 0) return fail_errno();
  Capabilities own{.effective = CapabilitySet{data[1].effective} << kWord | data[0].effective,
                   .permitted = CapabilitySet{data[1].permitted} << kWord | data[0].permitted,
                   .inheritable = CapabilitySet{data[1].inheritable} << kWord | data[0].inheritable};
  for (unsigned number = 0; is_known(number); ++number) {
    if (is_bounded(number)) own.bounding |= capabilities({number});
  }
  return own;
}

Result<> set_capabilities(const Capabilities& wanted) noexcept {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const std::array<__user_cap_data_struct, 2> data{
      {{.effective = low(wanted.effective), .permitted = low(wanted.permitted), .inheritable = low(wanted.inheritable)},
       {.effective = high(wanted.effective),
        .permitted = high(wanted.permitted),
        .inheritable = high(wanted.inheritable)}}};
  return ::syscall(SYS_capset, &header, data.data()) == 0 ? Result<>() : fail_errno();
}

bool is_bounding_set_full() noexcept {
  unsigned number = 0;
  while (is_bounded(number)) ++number;
  return !is_known(number);
}

Result<> keep_capabilities(const Capabilities& kept) noexcept {
  const Capabilities own = TRY(own_capabilities());
  // CAP_SETPCAP, for the bounding set.
  TRY_VOID(set_capabilities({.effective = own.permitted, .permitted = own.permitted, .inheritable = own.inheritable}));
  for (unsigned number = 0; is_known(number); ++number) {
    if ((kept.bounding & capabilities({number})) != 0 || !is_bounded(number)) continue;
    if (::prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0 && errno != EPERM) return fail_errno();
  }
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) return fail_errno();
  const CapabilitySet permitted = own.permitted & kept.permitted;
  return set_capabilities({.effective = permitted & kept.effective, .permitted = permitted});
}

Result<> forbid_programs() noexcept {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return fail_errno();
  const std::unique_ptr<void, decltype(&::seccomp_release)> filter(::seccomp_init(SCMP_ACT_ALLOW), &::seccomp_release);
  if (!filter) return fail(ENOMEM);
  // Calls of another architecture have other numbers.
  if (const int code = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM)); code != 0)
    return fail(-code);
  for (const int call : kForbidden) {
    if (const int code = ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(EPERM), call, 0); code != 0)
      return fail(-code);
  }
  const int code = ::seccomp_load(filter.get());
  return code == 0 ? Result<>() : fail(-code);
}

}  // namespace berth::sys
