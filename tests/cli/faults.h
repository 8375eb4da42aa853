#pragma once

namespace berth::test {

/// Makes a system call fail as the control tree would make it fail, which plain files cannot: mkdir(2) and the write(2)
/// of a control word answer `code` as long as this lives, the first `spared` of them excepted. 0: none fails. One at a
/// time.
class Fault {
 public:
  explicit Fault(int code, int spared = 0) noexcept;
  ~Fault();
  Fault(const Fault&) = delete;
  Fault& operator=(const Fault&) = delete;
};

/// Makes faccessat(2) for writing answer EACCES as long as this lives: the caller is a stranger.
class Stranger {
 public:
  Stranger() noexcept;
  ~Stranger();
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;
};

}  // namespace berth::test
