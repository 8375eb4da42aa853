#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "fuse/files/handle_io.h"
#include "fuse/session/dirent_buffer.h"
#include "fuse/shares/share_fs.h"
#include "fuse/shares/share_fs_core.h"
#include "src/lib/sys/file.h"

// The operations of ShareFs on open directories.
namespace berth::fuse {
namespace {

bool is_dot(const char* name) noexcept { return std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0; }

/// Opens a directory again under the same descriptor, after a server died while it read it. An open SMB directory answers
/// ENOENT from then on, which readdir(3) takes for its end, and what its server had sent is lost (Linux 6.1 to 6.12:
/// SIGKILL of a thread in cifs_readdir()). Where it cannot be opened again, the old one goes on.
void open_again(const ShareRequest& request, Handle& directory) {
  if (!request.assume_caller()) return;
  const Result<UniqueFd> fresh = sys::open_beneath(directory.fd(), ".", O_RDONLY | O_DIRECTORY);
  if (fresh && ::dup3(fresh->get(), directory.fd(), O_CLOEXEC) >= 0) directory.interrupted = false;
}

/// A reader of a directory, for the time of one request. The kernel sends one after another; a second one at once is
/// refused.
class Reading {
 public:
  Reading(const HandleTable& handles, Handle& directory) noexcept
      : handles_(handles), directory_(directory), owned_(!directory.reading.test_and_set(std::memory_order_acquire)) {
    if (owned_) handles_.note_reading(directory_, true);
  }
  ~Reading() {
    if (!owned_) return;
    handles_.note_reading(directory_, false);
    directory_.reading.clear(std::memory_order_release);
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  [[nodiscard]] explicit operator bool() const noexcept { return owned_; }

 private:
  const HandleTable& handles_;
  Handle& directory_;
  bool owned_;
};

/// Fills `page` from `offset` on. `add(item)`: false when the page is full.
template <typename Add>
Result<> fill(const HandleTable& handles, const ShareRequest& request, Handle& directory, off_t offset,
              const Add& add) {
  const Reading reading(handles, directory);
  if (!reading) return fail(EBUSY);
  if (directory.interrupted) open_again(request, directory);
  TRY_VOID(directory.stream.seek(directory.fd(), offset));
  for (;;) {
    const sys::DirectoryStream::Item* const item = TRY(directory.stream.peek(directory.fd()));
    if (item == nullptr || !add(*item)) return {};
    directory.stream.skip();
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
  core_->with_handle(std::move(reply), node, handle.fh,
                     [this, size, offset](const ShareRequest& request, Handle& directory, Reply to) {
                       if (!directory.directory) return std::move(to).error(ENOTDIR);
                       DirentBuffer page(to, size);
                       const Result<> filled = fill(
                           core_->handles, request, directory, offset, [&](const sys::DirectoryStream::Item& item) {
                             const ino_t number = request.share.number_of(directory.device, item.inode);
                             return page.add(item.name, number, item.type, item.next);
                           });
                       if (!filled && page.empty()) return core_->reply_error(request, std::move(to), filled.error());
                       std::move(to).data(page.bytes());
                     });
}

void ShareFs::readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  core_->with_handle(
      std::move(reply), node, handle.fh,
      [this, size, offset](const ShareRequest& request, Handle& directory, Reply to) {
        if (!directory.directory) return std::move(to).error(ENOTDIR);
        if (const Result<> acts = request.assume_caller(); !acts) return std::move(to).error(acts.error());
        DirentBuffer page(to, size);
        const Result<> filled =
            fill(core_->handles, request, directory, offset, [&](const sys::DirectoryStream::Item& item) {
              if (!page.fits_plus(item.name)) return false;
              const Result<Entry> entry =
                  is_dot(item.name) ? fail(EINVAL) : core_->real_files.entry_in(request, directory, item.name);
              if (entry) {
                page.add_plus(item.name, *entry, item.next);
              } else {  // gone meanwhile, or the caller may list the directory but not search it
                page.add_plain(item.name, request.share.number_of(directory.device, item.inode), item.type, item.next);
              }
              return true;
            });
        if (!filled && page.empty()) return core_->reply_error(request, std::move(to), filled.error());
        std::move(to).data(page.bytes());
      });
}

void ShareFs::releasedir(Reply reply, NodeId node, const fuse_file_info& handle) {
  release(std::move(reply), node, handle);
}

void ShareFs::fsyncdir(Reply reply, NodeId node, bool data_only, const fuse_file_info& handle) {
  fsync(std::move(reply), node, data_only, handle);
}

}  // namespace berth::fuse
