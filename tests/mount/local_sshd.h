#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "src/lib/base/result.h"

namespace berth::test {

/// An sshd of the test's own on 127.0.0.1, with its own keys, that lets root in with the key made for it and serves
/// files (internal-sftp). It dies with the object.
///
///   const auto sshd = LocalSshd::start(scratch_directory);
///   fields.type = "fuse.sshfs";
///   fields.sources = {(*sshd)->source("/srv/data")};
///   fields.options = (*sshd)->options();
class LocalSshd {
 public:
  /// Keys and configuration are made in `directory`, which exists. Returns when the server listens.
  /// Errors: ENOENT when sshd or ssh-keygen is not installed (Debian: openssh-server), EIO with what sshd wrote.
  static Result<std::unique_ptr<LocalSshd>> start(const std::string& directory);
  ~LocalSshd();
  LocalSshd(const LocalSshd&) = delete;
  LocalSshd& operator=(const LocalSshd&) = delete;

  [[nodiscard]] unsigned port() const noexcept { return port_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// "root@127.0.0.1:PATH", as sshfs takes it.
  [[nodiscard]] static std::string source(const std::string& path) { return "root@127.0.0.1:" + path; }
  /// sshfs options that reach this server and no other, with nothing asked and nothing read from the user's files.
  [[nodiscard]] std::string options() const;

 private:
  LocalSshd(std::string directory, pid_t pid, unsigned port)
      : directory_(std::move(directory)), pid_(pid), port_(port) {}
  std::string directory_;
  pid_t pid_;
  unsigned port_;
};

}  // namespace berth::test
