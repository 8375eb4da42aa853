#include <fcntl.h>
#include <linux/fuse.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "fuse/files/handle_io.h"
#include "fuse/session/dirent_buffer.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/sys/file.h"

// The operations of ShareFs on open directories.
namespace berth::fuse {
namespace {

bool is_dot(const char* name) noexcept { return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0; }

/// A position means nothing in another mount, but for the start.
constexpr bool is_begun_at(off_t offset) noexcept { return offset == 0; }

/// Opens a directory again under the same descriptor, after a server died while it read it. An open SMB directory
/// answers ENOENT from then on, which readdir(3) takes for its end, and what its server had sent is lost (Linux 6.1 to
/// 6.12: SIGKILL of a thread in cifs_readdir()). Where it cannot be opened again, the old one goes on.
void open_again(const ShareRequest& request, Handle& directory) {
  if (!request.assume_caller()) return;
  const Result<UniqueFd> fresh = sys::open_beneath(directory.fd(), ".", O_RDONLY | O_DIRECTORY);
  if (fresh && ::dup3(fresh->get(), directory.fd(), O_CLOEXEC) >= 0) directory.interrupted = false;
}

/// A reader of a directory, for the time of one request. The kernel sends one after another; so where another thread
/// reads, its caller was interrupted, and it may be stuck for ever. Then the directory is opened once more, and read
/// from there.
class Reading {
 public:
  static Result<Reading> begin(const HandleTable& handles, const ShareRequest& request, Handle& directory) {
    if (!directory.reading.test_and_set(std::memory_order_acquire)) {
      handles.note_reading(directory, true);
      Reading reading(&handles, directory, nullptr);
      reading.put_spare(nullptr);
      if (directory.interrupted) open_again(request, directory);
      return reading;
    }
    std::shared_ptr<Handle::Spare> spare = spare_of(directory);
    if (spare == nullptr || spare->reading.test_and_set(std::memory_order_acquire)) {
      TRY_VOID(request.assume_caller());
      spare = std::make_shared<Handle::Spare>(TRY(sys::open_beneath(directory.fd(), ".", O_RDONLY | O_DIRECTORY)));
      spare->reading.test_and_set(std::memory_order_acquire);
    }
    Reading reading(nullptr, directory, spare);
    reading.put_spare(spare);
    return reading;
  }
  ~Reading() {
    if (directory_ == nullptr) return;
    if (handles_ != nullptr) handles_->note_reading(*directory_, false);
    (spare_ != nullptr ? spare_->reading : directory_->reading).clear(std::memory_order_release);
  }
  Reading(Reading&& other) noexcept
      : handles_(other.handles_),
        directory_(std::exchange(other.directory_, nullptr)),
        spare_(std::move(other.spare_)) {}
  Reading& operator=(Reading&&) = delete;

  [[nodiscard]] sys::DirectoryStream& stream() const noexcept {
    return spare_ != nullptr ? spare_->stream : directory_->stream;
  }
  [[nodiscard]] int fd() const noexcept { return spare_ != nullptr ? spare_->file.get() : directory_->fd(); }

 private:
  Reading(const HandleTable* handles, Handle& directory, std::shared_ptr<Handle::Spare> spare) noexcept
      : handles_(handles), directory_(&directory), spare_(std::move(spare)) {}
  static std::shared_ptr<Handle::Spare> spare_of(Handle& directory) {
    MutexLock lock(directory.mutex);
    return directory.spare;
  }
  void put_spare(std::shared_ptr<Handle::Spare> spare) const {
    MutexLock lock(directory_->mutex);
    directory_->spare.swap(spare);
  }

  const HandleTable* handles_;  ///< null: it reads a spare one
  Handle* directory_;
  std::shared_ptr<Handle::Spare> spare_;
};

/// Fills `page` from `offset` on. `add(item)`: false when the page is full.
template <typename Add>
Result<> fill(const HandleTable& handles, const ShareRequest& request, Handle& directory, off_t offset,
              const Add& add) {
  const Reading reading = TRY(Reading::begin(handles, request, directory));
  TRY_VOID(reading.stream().seek(reading.fd(), offset));
  for (;;) {
    const sys::DirectoryStream::Item* const item = TRY(reading.stream().peek(reading.fd()));
    if (item == nullptr || !add(*item)) return {};
    reading.stream().skip();
  }
}

}  // namespace

void ShareFs::opendir(Reply reply, NodeId node, const fuse_file_info& handle) {
  core_->with_share(
      std::move(reply), node, Core::Access::kRead,
      [core = core_.get(), node, flags = handle.flags](const ShareRequest& request) {
        return core->real_files.open_directory(request, node, flags);
      },
      Core::Origin::kAtItsEnd);
}

void ShareFs::readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  core_->with_file(
      std::move(reply), node, handle.fh,
      [core = core_.get(), size, offset](const ShareRequest& request, Handle& directory, Reply& to) -> Result<> {
        if (!directory.directory) return fail(ENOTDIR);
        DirentBuffer page(to, size);
        Result<> filled = fill(core->handles, request, directory, offset, [&](const sys::DirectoryStream::Item& item) {
          const ino_t number = request.share.number_of(directory.device, item.inode);
          return page.add(item.name, number, item.type, item.next);
        });
        if (!filled && page.empty()) return filled;
        std::move(to).data(page.bytes());
        return {};
      },
      is_begun_at(offset));
}

void ShareFs::readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  core_->with_file(
      std::move(reply), node, handle.fh,
      [core = core_.get(), size, offset](const ShareRequest& request, Handle& directory, Reply& to) -> Result<> {
        if (!directory.directory) return fail(ENOTDIR);
        TRY_VOID(request.assume_caller());
        DirentBuffer page(to, size);
        /// The look-ups of the page: taken back unless the caller gets it.
        struct LookedUp {
          Core& core;
          std::vector<NodeId> nodes{};
          ~LookedUp() { core.take_back(nodes); }
        } looked_up{*core};
        looked_up.nodes.reserve(size / FUSE_NAME_OFFSET_DIRENTPLUS + 1);
        Result<> filled = fill(core->handles, request, directory, offset, [&](const sys::DirectoryStream::Item& item) {
          if (!page.fits_plus(item.name)) return false;
          const Result<Entry> entry =
              is_dot(item.name) ? fail(EINVAL) : core->real_files.entry_in(request, directory, item.name);
          if (entry) {
            if (entry->node != 0) looked_up.nodes.push_back(entry->node);
            page.add_plus(item.name, *entry, item.next);
          } else {  // gone meanwhile, or the caller may list the directory but not search it
            page.add_plain(item.name, request.share.number_of(directory.device, item.inode), item.type, item.next);
          }
          return true;
        });
        if (!filled && page.empty()) return filled;
        if (std::move(to).data(page.bytes())) looked_up.nodes.clear();
        return {};
      },
      is_begun_at(offset));
}

void ShareFs::releasedir(Reply reply, NodeId node, const fuse_file_info& handle) {
  release(std::move(reply), node, handle);
}

void ShareFs::fsyncdir(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle) {
  fsync(std::move(reply), node, data_only, handle);
}

}  // namespace berth::fuse
