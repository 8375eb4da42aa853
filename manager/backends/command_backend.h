#pragma once

#include <utility>

#include "manager/backends/berth_backend.h"
#include "manager/backends/host_view.h"
#include "manager/backends/secret_files.h"

namespace berth::manager {

/// Type "command": a program that gets the directory in its argv, and mounts there.
///
/// It may stay in the foreground (it is the helper process then) or become a daemon and exit 0. The attempt succeeds as
/// soon as the mount table has a mount at the berth, and fails when the program ends without one.
///
/// Unmounted by the share's unmount command if it has one, else by umount2(2); then the program is ended.
class CommandBackend final : public BerthBackend {
 public:
  explicit CommandBackend(HostView host) : host_(std::move(host)) {}
  MountResult mount_source(const ShareSpec& spec, const std::string& source, const Attempt& attempt) override;
  [[nodiscard]] Secrets secrets_of(const ShareSpec& spec) const override { return known_secrets(host_, spec); }

 protected:
  Result<> take_off(const ShareSpec& spec, const RealMount& mount, const Attempt& attempt) override;

 private:
  const HostView host_;
};

/// `argv` with "{mountpoint}" and "{source}" replaced, wherever in an element they stand. What is put in is not looked
/// at again.
std::vector<std::string> expand_command(const std::vector<std::string>& argv, std::string_view source,
                                        std::string_view mountpoint);

}  // namespace berth::manager
