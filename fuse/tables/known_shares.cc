#include "fuse/tables/known_shares.h"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <functional>
#include <string_view>
#include <utility>

#include "fuse/session/operations.h"
#include "src/lib/sys/file.h"

namespace berth::fuse {
namespace {

/// As the kernel keeps it: 12 bits of major and 20 of minor number (linux/kdev_t.h).
std::uint32_t device_of(const struct statx& x) noexcept { return x.stx_dev_major << 20 | (x.stx_dev_minor & 0xfffff); }

/// The times of a root until the real ones are known.
const timespec& started() noexcept {
  static const timespec noted = [] {
    timespec time{};
    ::clock_gettime(CLOCK_REALTIME, &time);
    return time;
  }();
  return noted;
}

bool is_before(const KnownShare* known, const manager::Share* share) noexcept {
  return std::less<>()(&known->share(), share);
}

/// Empty when there is none, or it cannot be read.
std::vector<char> access_list(int fd, const char* name) {
  std::vector<char> list(4096);
  const ssize_t size = ::getxattr(sys::proc_path(fd).c_str(), name, list.data(), list.size());
  list.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  list.shrink_to_fit();
  return list;
}

bool keeps_inodes(const manager::ShareSpec& spec) noexcept {
  constexpr std::array<std::string_view, 8> kNumberAfresh{"tmpfs", "ramfs", "overlay", "vfat",
                                                          "msdos", "exfat", "cifs",    "smb3"};
  const std::string_view type = spec.type();
  return spec.kind() != manager::ShareKind::kCommand && !type.starts_with("fuse") &&
         std::find(kNumberAfresh.begin(), kNumberAfresh.end(), type) == kNumberAfresh.end();
}

}  // namespace

KnownShare::KnownShare(ShareIndex index, std::shared_ptr<manager::Share> share) noexcept
    : share_(std::move(share)),
      numbers_(share_->name()),
      index_(index),
      keeps_inodes_(fuse::keeps_inodes(share_->spec())) {}

KnownShare::~KnownShare() { delete lane_.load(); }

Lane& KnownShare::lane() {
  if (Lane* const lane = lane_.load(std::memory_order_acquire)) {
    lane->set_request_timeout(policy().request_timeout);  // a reload may have changed it
    return *lane;
  }
  auto made = std::make_unique<Lane>();
  made->set_request_timeout(policy().request_timeout);
  Lane* before = nullptr;
  return lane_.compare_exchange_strong(before, made.get()) ? *made.release() : *before;
}

Seconds KnownShare::attr_ttl() const noexcept {
  if (share_->may_be_native()) return 0;
  return std::chrono::duration<Seconds>(policy().attr_timeout).count();
}

Result<> KnownShare::on_mounted_root(const manager::Lease& lease) {
  const std::uint32_t generation = share_->mount_generation();
  if (met_.load(std::memory_order_acquire) == generation) return {};
  const struct statx x = TRY(sys::stat_at(lease.root(), "", STATX_BASIC_STATS));
  auto root = std::make_unique<Root>();
  const bool local = sys::is_local(lease.root());
  root->access_list = access_list(lease.root(), kAccessList);
  root->default_list = access_list(lease.root(), kDefaultList);
  const bool lists =
      ::getxattr(sys::proc_path(lease.root()).c_str(), kAccessList, nullptr, 0) >= 0 || errno != EOPNOTSUPP;
  MutexLock lock(mutex_);
  if (met_.load(std::memory_order_relaxed) == generation) return {};
  root_device_.store(device_of(x), std::memory_order_relaxed);
  root_inode_.store(x.stx_ino, std::memory_order_relaxed);
  local_.store(local, std::memory_order_relaxed);
  lists_.store(lists, std::memory_order_relaxed);
  root->attributes = attributes_of(x);
  root_.swap(root);
  met_.store(generation, std::memory_order_release);
  return {};
}

RealFile KnownShare::file_of(const struct statx& x) const noexcept {
  const std::uint32_t device = device_of(x);
  return {index_, device == root_device_.load(std::memory_order_relaxed) ? 0 : device, x.stx_ino};
}

struct stat KnownShare::attributes_of(const struct statx& x) const noexcept {
  const RealFile file = file_of(x);
  struct stat attributes = sys::to_stat(x);
  attributes.st_ino = number_of(file.device, file.inode);
  return attributes;
}

ino_t KnownShare::number_of(std::uint32_t device, std::uint64_t inode) const noexcept {
  if (device == 0 && inode == root_inode_.load(std::memory_order_relaxed)) return numbers_.root();
  return numbers_.of(inode, device);
}

struct stat KnownShare::root_attributes() const noexcept {
  {
    MutexLock lock(mutex_);
    if (root_ != nullptr) return root_->attributes;
  }
  struct stat attributes {};
  attributes.st_ino = numbers_.root();
  attributes.st_mode = S_IFDIR | (policy().mode & 07777);
  attributes.st_nlink = 1;  // "unknown" to programs that count subdirectories by it, as find(1) does
  attributes.st_uid = policy().owner;
  attributes.st_gid = policy().group;
  attributes.st_blksize = 4096;
  attributes.st_atim = attributes.st_mtim = attributes.st_ctim = started();
  return attributes;
}

KnownShare::RootPermissions KnownShare::root_permissions() const {
  const struct stat root = root_attributes();
  return {.mode = root.st_mode, .uid = root.st_uid, .gid = root.st_gid, .access_list = root_access_list(kAccessList)};
}

std::vector<char> KnownShare::root_access_list(std::string_view name) const {
  MutexLock lock(mutex_);
  if (root_ == nullptr) return {};
  if (name == kAccessList) return root_->access_list;
  return name == kDefaultList ? root_->default_list : std::vector<char>();
}

std::optional<TimePoint> KnownShare::root_sent() const noexcept {
  const std::uint32_t told = root_told_.load(std::memory_order_relaxed);
  return told != 0 ? std::optional(TimePoint(std::chrono::seconds(told - 1))) : std::nullopt;
}

void KnownShare::note_root_sent(std::optional<TimePoint> now) noexcept {
  using std::chrono::seconds;
  const auto time = now ? std::chrono::duration_cast<seconds>(now->time_since_epoch()).count() + 1 : 0;
  root_told_.store(static_cast<std::uint32_t>(time), std::memory_order_relaxed);
}

/// The kernel gives all back at once when it drops the root. A dead server may have counted more, which is in `count`
/// then.
void KnownShare::forget_root_lookups(std::uint64_t count) noexcept {
  const auto given_back = static_cast<std::int64_t>(count);
  if (root_lookups_.fetch_sub(given_back) > given_back) return;
  root_lookups_ = 0;
  is_root_held_.store(false, std::memory_order_release);
}

void KnownShare::remember_root(const struct statx& x) noexcept {
  const struct stat attributes = attributes_of(x);
  MutexLock lock(mutex_);
  if (root_ != nullptr) root_->attributes = attributes;
}

void KnownShare::release_root(int root) noexcept {
  using std::chrono::seconds;
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  let_go_at_ = static_cast<std::uint32_t>(std::chrono::duration_cast<seconds>(now).count());
  if (met_.load(std::memory_order_acquire) != share_->mount_generation()) return;
  const Result<struct statx> x = sys::stat_at(root, "", STATX_BASIC_STATS, AT_STATX_DONT_SYNC);
  if (x) remember_root(*x);
}

KnownShares::KnownShares(ShareSlots* slots) : slots_(slots) { started(); }

KnownShares::~KnownShares() {
  for (std::atomic<Block*>& at : blocks_) {
    const std::unique_ptr<Block> block(at.load(std::memory_order_relaxed));
    if (block == nullptr) continue;
    for (std::atomic<KnownShare*>& known : *block) delete known.load(std::memory_order_relaxed);
  }
}

Result<KnownShare*> KnownShares::add(const std::shared_ptr<manager::Share>& share) {
  MutexLock lock(mutex_);
  if (KnownShare* const known = find_locked(*share)) return known;
  if (free_.empty() && end_ == kMost) return fail(ENOSPC);
  const ShareIndex index = free_.empty() ? end_ : free_.front();
  make_room(slot_of(index));
  auto known = std::make_unique<KnownShare>(index, share);
  if (free_.empty()) {
    ++end_;
  } else {
    free_.pop_front();
  }
  // Last: from here on the next server counts it, so nothing may fail.
  if (slots_ != nullptr) {
    const std::uint64_t uses_before = index / kMost;
    slots_->shares[slot_of(index)] = uses_before << ShareSlots::kIncarnationBits | share->incarnation();
    slots_->end = end_;
  }
  return put(std::move(known));
}

void KnownShares::take_over(const std::map<std::uint64_t, std::shared_ptr<manager::Share>>& shares) {
  if (slots_ == nullptr) return;
  MutexLock lock(mutex_);
  end_ = std::min<std::uint32_t>(slots_->end, kMost);
  for (std::uint32_t slot = 0; slot < end_; ++slot) {
    const std::uint64_t kept = slots_->shares[slot];
    const auto uses_before = static_cast<std::uint32_t>(kept >> ShareSlots::kIncarnationBits);
    const auto index = static_cast<ShareIndex>(uses_before * kMost + slot);
    const auto found = shares.find(kept % (std::uint64_t{1} << ShareSlots::kIncarnationBits));
    if (found == shares.end()) {
      gone_.push_back(index);
    } else {
      make_room(slot);
      // What an earlier server was asked is not kept.
      put(std::make_unique<KnownShare>(index, found->second))->set_may_be_watched(true);
    }
  }
}

void KnownShares::free_slots(const std::function<bool(ShareIndex)>& is_used) {
  MutexLock lock(mutex_);
  for (const ShareIndex index : std::exchange(gone_, {})) {
    if (!is_used(index)) free_.push_back(static_cast<ShareIndex>(index + kMost));
  }
}

/// So that put() cannot fail.
void KnownShares::make_room(std::uint32_t slot) {
  std::atomic<Block*>& block = blocks_[slot / kBlockSize];
  if (block.load(std::memory_order_relaxed) == nullptr) block.store(new Block{}, std::memory_order_release);
  if (by_share_.size() == by_share_.capacity()) by_share_.reserve(2 * by_share_.size() + 1);
}

KnownShare* KnownShares::put(std::unique_ptr<KnownShare> owned) noexcept {
  KnownShare* const known = owned.release();
  Block& block = *blocks_[known->slot() / kBlockSize].load(std::memory_order_relaxed);
  block[known->slot() % kBlockSize].store(known, std::memory_order_release);
  by_share_.insert(std::lower_bound(by_share_.begin(), by_share_.end(), &known->share(), is_before), known);
  return known;
}

std::vector<KnownShare*> KnownShares::all() const {
  MutexLock lock(mutex_);
  return by_share_;
}

KnownShare* KnownShares::find(ShareIndex index) const noexcept {
  const std::uint32_t slot = slot_of(index);
  const Block* const block = blocks_[slot / kBlockSize].load(std::memory_order_acquire);
  if (block == nullptr) return nullptr;
  KnownShare* const known = (*block)[slot % kBlockSize].load(std::memory_order_acquire);
  return known != nullptr && known->index() == index ? known : nullptr;
}

KnownShare* KnownShares::find(const manager::Share& share) const {
  MutexLock lock(mutex_);
  return find_locked(share);
}

KnownShare* KnownShares::find_locked(const manager::Share& share) const {
  const auto found = std::lower_bound(by_share_.begin(), by_share_.end(), &share, is_before);
  return found != by_share_.end() && &(*found)->share() == &share ? *found : nullptr;
}

}  // namespace berth::fuse
