#include "manager/backends/host_walk.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

/// The device number of the namespace; 0: there is none yet. It asks berth nothing.
dev_t device_of_namespace(const HostView& host) {
  if (host.shown.empty()) return 0;
  const Result<struct statx> shown = sys::stat_at(AT_FDCWD, host.shown.c_str(), STATX_TYPE, AT_STATX_DONT_SYNC);
  return shown ? makedev(shown->stx_dev_major, shown->stx_dev_minor) : 0;
}

class Walk {
 public:
  Walk(const HostView& host, WalkTo to) : namespace_(device_of_namespace(host)), to_(to) {}

  Result<WalkedPath> follow(const std::string& path) {
    constexpr int kMostLinks = 40;  // MAXSYMLINKS, path_resolution(7)
    TRY_VOID(go_to_root());
    std::string rest = path;
    for (int links = 0;;) {
      const std::size_t begin = rest.find_first_not_of('/');
      if (begin == std::string::npos) return WalkedPath{std::move(at_), std::move(way_)};
      const std::size_t end = std::min(rest.find('/', begin), rest.size());
      const std::string name = rest.substr(begin, end - begin);
      rest.erase(0, end);
      // O_DIRECTORY: what is mounted there on demand is.
      Result<UniqueFd> directory = sys::open_at(at_.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_DIRECTORY);
      if (directory) {
        TRY_VOID(enter(*std::move(directory)));
        continue;
      }
      if (directory.error().code() != ENOTDIR) return fail(directory.error());
      UniqueFd other = TRY(sys::open_at(at_.get(), name.c_str(), O_PATH | O_NOFOLLOW));
      const std::string target = target_of(other.get());
      if (target.empty()) {
        if (to_ == WalkTo::kDirectory || !rest.empty()) return fail(ENOTDIR);
        TRY_VOID(enter(std::move(other)));
        continue;
      }
      if (++links > kMostLinks) return fail(ELOOP);
      way_.push_back(std::move(other));
      rest.insert(0, target);
      if (rest.front() == '/') TRY_VOID(go_to_root());
    }
  }

 private:
  Result<> go_to_root() {
    at_ = TRY(sys::open_at(AT_FDCWD, "/", O_PATH | O_DIRECTORY));
    is_root_ = true;
    return {};
  }

  Result<> enter(UniqueFd next) {
    const struct statx found = TRY(sys::stat_at(next.get(), "", STATX_TYPE, AT_STATX_DONT_SYNC));
    if (namespace_ != 0 && makedev(found.stx_dev_major, found.stx_dev_minor) == namespace_) {
      return fail(ELOOP, "it leads into the namespace itself");
    }
    if (!std::exchange(is_root_, false)) way_.push_back(std::move(at_));
    at_ = std::move(next);
    return {};
  }

  /// Where the symbolic link leads. "": it is none.
  static std::string target_of(int link) {
    std::array<char, PATH_MAX> target{};
    const ssize_t length = ::readlinkat(link, "", target.data(), target.size());
    return length > 0 ? std::string(target.data(), static_cast<std::size_t>(length)) : "";
  }

  const dev_t namespace_;
  const WalkTo to_;
  UniqueFd at_;
  bool is_root_ = true;  ///< `at_` is
  std::vector<UniqueFd> way_;
};

}  // namespace

Result<WalkedPath> walk_on_host(const HostView& host, const std::string& path, WalkTo to) {
  return Walk(host, to).follow(path);
}

}  // namespace berth::manager
