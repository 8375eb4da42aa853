#pragma once

#include <string>
#include <utility>
#include <vector>

#include "manager/backends/berth_backend.h"
#include "manager/backends/host_view.h"
#include "manager/backends/secret_files.h"
#include "src/lib/sys/process.h"

namespace berth::manager {

/// File systems that have a mount helper (nfs, cifs, fuse.sshfs): `mount -t TYPE -o OPTIONS -- SOURCE BERTH`.
///
/// Each of those is one element of the argv: no shell of berth's sees it, and it cannot become an option. The
/// mount table afterwards counts, not the exit status.
class HelperBackend final : public BerthBackend {
 public:
  explicit HelperBackend(HostView host) : host_(std::move(host)) {}
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;
  [[nodiscard]] Secrets secrets_of(const ShareSpec& spec) const override { return known_secrets(host_, spec); }

 private:
  const HostView host_;
};

/// Ends the program of an attempt that is given up because of `cause`. What it mounted meanwhile goes with its
/// namespace.
AttemptFailure give_up(const Error& cause, std::vector<std::string> argv, sys::Process& process);

/// Takes the mount that a program left at the berth for the share's, after giving it `attributes` (MOUNT_ATTR_*) as
/// well. A failure leaves nothing. `warning`: what the program complained about.
/// Errors: ENOENT when nothing is mounted there.
Result<RealMount> adopt_mount(const ShareSpec& spec, const std::string& source, const std::string& berth,
                              std::uint64_t attributes, std::string warning);

}  // namespace berth::manager
