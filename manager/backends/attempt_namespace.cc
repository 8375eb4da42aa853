#include "manager/backends/attempt_namespace.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <utility>

#include "manager/backends/berth_backend.h"
#include "manager/backends/namespace_programs.h"
#include "src/lib/base/path.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/mount.h"
#include "src/lib/sys/mount_table.h"

namespace berth::manager {
namespace {

constexpr const char* kMount = "mnt";

/// How long the programs of a failed attempt have between SIGTERM and SIGKILL.
constexpr std::chrono::seconds kTermGrace{2};

/// Places of the system itself, where programs find their parts, and what is mounted below some of them.
constexpr std::array<std::string_view, 14> kSystem = {"/",     "/boot", "/gnu", "/home", "/lib", "/nix",     "/opt",
                                                      "/root", "/run",  "/tmp", "/usr",  "/var", "/var/tmp", "/bin"};
constexpr std::array<std::string_view, 5> kSystemTrees = {"/dev", "/etc", "/proc", "/sys", "/usr"};

/// Whether a path that begins somewhere in `text` leads through `directory`.
bool leads_through(std::string_view text, std::string_view directory) {
  for (std::size_t at = text.find(directory); at != std::string_view::npos; at = text.find(directory, at + 1)) {
    const std::size_t end = at + directory.size();
    if (end == text.size() || std::string_view("/:,\\\"' =").find(text[end]) != std::string_view::npos) return true;
  }
  return false;
}

bool is_needed(std::string_view target, const std::vector<std::string>& words) {
  const auto is_above = [&](std::string_view tree) { return is_below(target, tree); };
  return std::find(kSystem.begin(), kSystem.end(), target) != kSystem.end() ||
         std::any_of(kSystemTrees.begin(), kSystemTrees.end(), is_above) ||
         std::any_of(words.begin(), words.end(), [&](const std::string& word) { return leads_through(word, target); });
}

/// Mounts that are attached nowhere, by the paths at which programs look for them.
using RequiredTrees = std::vector<std::pair<std::string, UniqueFd>>;

/// The shares that are required, as they are mounted in the server's mount namespace.
Result<RequiredTrees> clone_required(const HostView& host, const std::vector<RequiredShare>& shares) {
  RequiredTrees trees;
  for (const RequiredShare& share : shares) {
    if (host.shares.empty()) continue;
    Result<UniqueFd> tree = sys::clone_mount(share.root);
    // The root of a share of type "dir" is in a mount of the host.
    if (!tree && tree.error().code() == EINVAL) tree = in_host(host, [&] { return sys::clone_mount(share.root); });
    if (!tree) return fail(tree.error().within("cannot show the share " + quote(share.name)));
    trees.emplace_back(host.shares + "/" + share.name, std::move(*tree));
  }
  return trees;
}

/// Puts them where the host shows the shares, which are not to be seen here: a program that used them through the
/// namespace would have the server wait for itself.
Result<> show_required(const std::string& shares, const RequiredTrees& trees) {
  MountOptions options;
  options.parameters = {{"mode", "0755"}, {"size", "64k"}};
  const UniqueFd directory = TRY(sys::make_mount("tmpfs", "berth", options));
  TRY_VOID(sys::attach_mount(directory.get(), shares));
  for (const auto& [path, tree] : trees) {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    if (error) return fail(error.value(), "cannot make " + quote(path));
    TRY_VOID(sys::attach_mount(tree.get(), path));
  }
  return {};
}

class NamespacePrograms final : public AttemptPrograms {
 public:
  NamespacePrograms(UniqueFd self, std::string berth)
      : self_(std::move(self)), number_(namespace_number(self_.get())), berth_(std::move(berth)) {}

  [[nodiscard]] int descriptor() const noexcept override { return self_.get(); }

  void let_go() noexcept override {
    static_cast<void>(sys::in_mount_namespace(self_.get(), [this]() -> Result<> {
      clear_berth(berth_);
      return {};
    }));
  }

  void end(TimePoint deadline, int hurry_fd) noexcept override { end_processes({kMount, number_}, deadline, hurry_fd); }

 private:
  const UniqueFd self_;
  const std::uint64_t number_;
  const std::string berth_;
};

}  // namespace

Result<AttemptNamespace> AttemptNamespace::enter(const HostView& host, const Attempt& attempt,
                                                 const std::vector<std::string>& words) {
  const bool is_elsewhere = host.mount_namespace >= 0;
  UniqueFd berths;
  if (is_elsewhere) berths = TRY(sys::make_bind(host.berths, {}));
  RequiredTrees required = TRY(clone_required(host, attempt.required));
  sys::MountNamespaceVisit visit = TRY(sys::MountNamespaceVisit::enter(host.mount_namespace));
  TRY_VOID(sys::unshare_mount_namespace());
  if (is_elsewhere) {
    // It leads to berth, and would keep the connection alive. Where it is not mounted, there is nothing to take off.
    static_cast<void>(sys::unmount(host.shown, MNT_DETACH));
    TRY_VOID(sys::attach_mount(berths.get(), host.berths));
  }
  std::vector<std::string> needed = words;
  needed.push_back(attempt.berth);
  if (!required.empty()) {
    TRY_VOID(show_required(host.shares, required));
    needed.push_back(host.shares);
    for (const auto& [path, tree] : required) needed.push_back(path);
  }
  TRY_VOID(detach_copies(needed));
  UniqueFd self = TRY(sys::current_mount_namespace());
  const std::uint64_t number = namespace_number(self.get());
  if (attempt.programs != nullptr) *attempt.programs = self.get();
  return AttemptNamespace(std::move(visit), std::move(self), number, attempt);
}

AttemptNamespace::~AttemptNamespace() {
  if (!self_) return;
  visit_.reset();
  end_processes({kMount, number_}, now() + kTermGrace);
  if (noted_ != nullptr) *noted_ = -1;
}

Result<> AttemptNamespace::bring_home() {
  UniqueFd tree;
  if (is_mounted(berth_)) tree = TRY(sys::clone_tree(berth_));
  visit_.reset();
  if (tree) TRY_VOID(sys::attach_mount(tree.get(), berth_));
  return {};
}

std::unique_ptr<AttemptPrograms> AttemptNamespace::leave() {
  visit_.reset();
  if (has_programs(number_)) return std::make_unique<NamespacePrograms>(std::move(self_), berth_);
  if (noted_ != nullptr) *noted_ = -1;
  self_.reset();
  return nullptr;
}

std::unique_ptr<AttemptPrograms> take_over_programs(UniqueFd mount_namespace, const std::string& berth) {
  if (!mount_namespace || ::ioctl(mount_namespace.get(), NS_GET_NSTYPE) != CLONE_NEWNS) return nullptr;
  const Result<UniqueFd> own = sys::current_mount_namespace();
  if (!own || namespace_number(own->get()) == namespace_number(mount_namespace.get())) return nullptr;
  return std::make_unique<NamespacePrograms>(std::move(mount_namespace), berth);
}

bool has_programs(std::uint64_t mount_namespace) { return has_processes({kMount, mount_namespace}); }

Result<> detach_copies(const std::vector<std::string>& words) {
  std::vector<sys::MountEntry> entries = TRY(sys::read_mount_table());
  for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
    // What is covered by another mount at the same place is taken off with it, or stays below it.
    if (!entry->is_slave && !is_needed(entry->target, words)) {
      static_cast<void>(sys::unmount(entry->target, MNT_DETACH));
    }
  }
  return {};
}

}  // namespace berth::manager
