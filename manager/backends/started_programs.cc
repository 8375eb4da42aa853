#include "manager/backends/started_programs.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <utility>

#include "manager/backends/namespace_programs.h"
#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

constexpr const char* kUts = "uts";

UniqueFd own_uts_namespace() {
  Result<UniqueFd> own = sys::open_at(AT_FDCWD, "/proc/thread-self/ns/uts", O_RDONLY);
  return own ? std::move(*own) : UniqueFd();
}

class StartedPrograms final : public AttemptPrograms {
 public:
  explicit StartedPrograms(UniqueFd uts_namespace)
      : uts_namespace_(std::move(uts_namespace)), number_(namespace_number(uts_namespace_.get())) {}

  [[nodiscard]] int descriptor() const noexcept override { return uts_namespace_.get(); }
  void let_go() noexcept override {}
  void end(TimePoint deadline, int hurry_fd) noexcept override { end_processes({kUts, number_}, deadline, hurry_fd); }

 private:
  const UniqueFd uts_namespace_;
  const std::uint64_t number_;
};

}  // namespace

std::unique_ptr<AttemptPrograms> begin_started_programs() {
  if (::unshare(CLONE_NEWUTS) != 0) return nullptr;
  UniqueFd own = own_uts_namespace();
  return own ? std::make_unique<StartedPrograms>(std::move(own)) : nullptr;
}

std::unique_ptr<AttemptPrograms> take_over_started_programs(UniqueFd uts_namespace) {
  if (!uts_namespace || ::ioctl(uts_namespace.get(), NS_GET_NSTYPE) != CLONE_NEWUTS) return nullptr;
  if (namespace_number(own_uts_namespace().get()) == namespace_number(uts_namespace.get())) return nullptr;
  return std::make_unique<StartedPrograms>(std::move(uts_namespace));
}

}  // namespace berth::manager
