#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"
#include "tests/parity/observer.h"
#include "tests/parity/operation.h"

namespace berth::test {

/// A file system, one directory of it as a share of a berth, another as it is.
class Sides {
 public:
  /// Makes and mounts it, and starts a berth. `type`: ext4, xfs, btrfs, tmpfs, overlay (of tmpfs). `read_only`: the
  /// share and what it is compared with, not the file system.
  explicit Sides(std::string type, bool read_only = false);
  ~Sides();
  Sides(const Sides&) = delete;
  Sides& operator=(const Sides&) = delete;

  /// Why it cannot be tried here; "" when it can.
  [[nodiscard]] const std::string& why_not() const noexcept { return why_not_; }

  /// How a sequence is run.
  struct Run {
    std::vector<Operation> sequence;
    mode_t mode = 0777;  ///< of the directory that it is run in
    int look_every = 1;  ///< after how many operations all files are compared; they always are at the end
  };
  /// Runs it in an empty directory on either side. "" when all was alike; else what was not, with what led there.
  [[nodiscard]] std::string run(const Run& run);
  /// Leaves out of a failing sequence what can be left out, within a bounded number of runs.
  [[nodiscard]] Run minimised(Run run);

  /// Some operations that belong together.
  using Case = std::vector<Operation>;
  /// Runs each case in a directory that `furnish` has filled, which serves several cases as long as they change
  /// nothing. One text a failure, and no more than `most`.
  [[nodiscard]] std::vector<std::string> run_each(const std::vector<Case>& cases,
                                                  const std::function<void(const std::string&)>& furnish,
                                                  std::size_t most);

 private:
  /// A new directory on either side: where it is made, and where it is seen.
  struct Stage {
    std::string made_native, made_share;
    std::string native, share;
  };
  [[nodiscard]] Stage make_stage(mode_t mode);
  [[nodiscard]] std::string remove(const Stage& stage) const;
  [[nodiscard]] bool read_only() const { return native_ == server_.path("read-only"); }
  [[nodiscard]] Tolerance tolerance() const {
    return {.blocks = type_ == "xfs" || type_ == "btrfs", .reads = type_ == "overlay"};
  }
  /// Whether times are those of the clock's tick.
  [[nodiscard]] bool is_coarse() const { return type_ == "tmpfs" || type_ == "overlay"; }
  [[nodiscard]] std::string prepare_overlay();
  [[nodiscard]] std::string prepare(const std::string& type);
  [[nodiscard]] std::string attempt(const Run& run, const Stage& stage, std::size_t& reached);

  std::string type_;
  std::string why_not_;
  BerthServer server_;
  std::string mount_;
  std::string layers_;  ///< of an overlay; "": none
  std::string native_;  ///< where the native side is seen
  int stages_ = 0;
};

}  // namespace berth::test
