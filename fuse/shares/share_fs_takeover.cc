#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "fuse/kept/apply_once.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/sys/file.h"

/// How the next server takes over the shares: what the dead one had open is open still, and what it had begun is
/// finished or undone.
namespace berth::fuse {

void ShareFs::take_over(std::vector<int>& inherited) { core_->take_over(inherited); }
void ShareFs::finish_take_over() { core_->finish_take_over(); }

void ShareFs::Core::take_over(std::vector<int>& inherited) {
  if (!has_predecessor) return;
  // First: it needs the records that were changed last.
  if (requests != nullptr) {
    requests->take_over([this](std::uint64_t node, std::uint64_t tag) { return nodes.was_applied_to(node, tag); },
                        [this](const Requests::Interrupted& what) { undo(what); });
  }
  shares.take_over(manager.incarnations());
  for (const HandleTable::Inherited& handle : handles.inherited()) {
    const auto descriptor = static_cast<int>(static_cast<std::uint32_t>(handle.number));
    const auto found = std::lower_bound(inherited.begin(), inherited.end(), descriptor);
    // Closed already by a server that died before it could record that; or taken over, or closed in the end with
    // all that is left.
    if (found == inherited.end() || *found != descriptor || !take_over(handle)) {
      handles.forget(handle.number);
    } else {
      inherited.erase(found);
    }
  }
  locks.take_over(inherited);
  unused_backings_ = nodes.free_unneeded();
  shares.free_slots([this](ShareIndex share) { return nodes.size(share) > 0; });
  real_files.set_predecessor_files(created_by_predecessor(inherited));
}

/// Files that were opened, or made, by requests which are not answered and will come again.
std::vector<FileKey> ShareFs::Core::created_by_predecessor(const std::vector<int>& inherited) const {
  std::vector<int> descriptors = inherited;
  if (requests != nullptr) {
    for (const std::uint64_t number : requests->inherited_handles()) {
      descriptors.push_back(static_cast<int>(static_cast<std::uint32_t>(number)));
    }
  }
  std::vector<FileKey> files;
  for (const int descriptor : descriptors) {
    const Result<struct statx> x = sys::stat_at(descriptor, "", STATX_TYPE | STATX_INO, AT_STATX_DONT_SYNC);
    if (x && S_ISREG(x->stx_mode)) files.push_back(once::key_of(*x));
  }
  return files;
}

/// False: its share is unknown. One that is not mounted now had a dead mount, and will have another.
bool ShareFs::Core::take_over(const HandleTable::Inherited& inherited) {
  const HandleRecord& record = *inherited.record;
  KnownShare* const share = shares.find(record.share);
  if (share == nullptr) return false;
  auto handle = std::make_shared<Handle>();
  handle->lease = share->share().lease_again();
  handle->file =
      std::make_shared<const UniqueFd>(UniqueFd(static_cast<int>(static_cast<std::uint32_t>(inherited.number))));
  handle->node = record.node;
  handle->share = record.share;
  handle->device = record.device;
  handle->identity = record.identity;
  handle->mount_generation = record.mount_generation;
  handle->flags = record.flags;
  handle->lease.count_as_writer(may_write(record.flags));
  handle->pid = record.pid;
  handle->uid = record.uid;
  handle->late_error = record.late_error.load();
  handle->directory = record.kind == HandleRecord::kDirectory;
  // How far reading had come is lost with the dead server; the kernel sends the offset where it continues.
  if (handle->directory) ::lseek(handle->fd(), 0, SEEK_SET);
  handle->interrupted = handle->directory && record.reading != 0;
  nodes.take_over_handle(handle->node, handle->file, handle->mount_generation);
  handles.take_over(inherited.number, std::move(handle));
  return true;
}

/// Undoes what a request has done that is handled again now: the kernel has no answer to it.
void ShareFs::Core::undo(const Requests::Interrupted& request) {
  for (const std::uint64_t number : request.handles) {
    if (const NodeId node = handles.node_of(number); node != 0) real_files.close(number, node);
  }
  for (const std::uint64_t node : request.counted) nodes.forget(node, 1);
}

void ShareFs::Core::finish_take_over() {
  const TimePoint now = std::chrono::steady_clock::now();
  for (KnownShare* const share : shares.all()) {
    share->note_root_asked(now + kIdleRootTtl);  // the dead server may just have told it
    // One may have been mounted by a server that died before it could say so.
    if (!share->share().gate().closed()) invalidate_root(*share);
  }
  if (passthrough == nullptr) return;
  for (const BackingId id : std::exchange(unused_backings_, {})) passthrough->unregister_backing(id);
}

}  // namespace berth::fuse
