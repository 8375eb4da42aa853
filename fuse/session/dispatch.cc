#include "fuse/session/dispatch.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "fuse/kept/requests.h"
#include "fuse/session/exception_barrier.h"
#include "fuse/session/outer_ids.h"
#include "fuse/session/session.h"
#include "fuse/wire/protocol.h"

namespace berth::fuse {

namespace {

/// The real opcode of the request that this thread handles, where libfuse gets another one.
thread_local constinit std::uint32_t disguised = 0;

const Router& router_of(fuse_req_t request) noexcept {
  return static_cast<const Session*>(fuse_req_userdata(request))->router();
}

/// Calls `operation(Operations&, Reply)` with the owner of `node`; no owner is ESTALE.
template <typename Operation>
void dispatch(fuse_req_t request, NodeId node, Operation operation) noexcept {
  run_behind_barrier(request, [&](Reply reply) {
    Operations* const owner = router_of(request).find(node);
    if (owner == nullptr) return std::move(reply).error(ESTALE);
    operation(*owner, std::move(reply));
  });
}

void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  dispatch(request, parent, [&](Operations& to, Reply reply) { to.lookup(std::move(reply), parent, name); });
}

void forget_one(const Router& router, NodeId node, std::uint64_t count) noexcept {
  if (Operations* const owner = router.find(node); owner != nullptr) owner->forget(node, count);
}

void forget(fuse_req_t request, fuse_ino_t node, std::uint64_t count) {
  if (CurrentRequest::first_forget() == 0) {
    CurrentRequest::note_forget(0);
    forget_one(router_of(request), node, count);
  }
  fuse_reply_none(request);
}

void forget_multi(fuse_req_t request, std::size_t count, fuse_forget_data* forgets) {
  for (std::size_t i = CurrentRequest::first_forget(); i < count; ++i) {
    CurrentRequest::note_forget(static_cast<std::uint32_t>(i));
    forget_one(router_of(request), forgets[i].ino, forgets[i].nlookup);
  }
  fuse_reply_none(request);
}

void getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle) {
  const bool statx = std::exchange(disguised, 0) == protocol::kStatx;
  dispatch(request, node, [&](Operations& to, Reply reply) {
    if (statx) reply.ask_statx();
    to.getattr(std::move(reply), node, handle);
  });
}

void setattr(fuse_req_t request, fuse_ino_t node, struct stat* attributes, int to_set, fuse_file_info* handle) {
  attributes->st_uid = inner_user(attributes->st_uid);
  attributes->st_gid = inner_group(attributes->st_gid);
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.setattr(std::move(reply), node, *attributes, to_set, handle); });
}

void readlink(fuse_req_t request, fuse_ino_t node) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.readlink(std::move(reply), node); });
}

void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  dispatch(request, parent,
           [&](Operations& to, Reply reply) { to.mknod(std::move(reply), parent, name, mode, device); });
}

void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  dispatch(request, parent, [&](Operations& to, Reply reply) { to.mkdir(std::move(reply), parent, name, mode); });
}

void unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  dispatch(request, parent, [&](Operations& to, Reply reply) { to.unlink(std::move(reply), parent, name); });
}

void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  dispatch(request, parent, [&](Operations& to, Reply reply) { to.rmdir(std::move(reply), parent, name); });
}

void symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  dispatch(request, parent, [&](Operations& to, Reply reply) { to.symlink(std::move(reply), target, parent, name); });
}

void rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent, const char* new_name,
            unsigned flags) {
  dispatch(request, parent, [&](Operations& to, Reply reply) {
    if (owner_of(parent) != owner_of(new_parent)) return std::move(reply).error(EXDEV);
    to.rename(std::move(reply), parent, name, new_parent, new_name, flags);
  });
}

void link(fuse_req_t request, fuse_ino_t node, fuse_ino_t new_parent, const char* new_name) {
  dispatch(request, node, [&](Operations& to, Reply reply) {
    if (owner_of(node) != owner_of(new_parent)) return std::move(reply).error(EXDEV);
    to.link(std::move(reply), node, new_parent, new_name);
  });
}

void open(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.open(std::move(reply), node, *handle); });
}

void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* handle) {
  const bool nameless = std::exchange(disguised, 0) == FUSE_TMPFILE;
  dispatch(request, parent, [&](Operations& to, Reply reply) {
    if (nameless) return to.create_nameless(std::move(reply), parent, mode, *handle);
    to.create(std::move(reply), parent, name, mode, *handle);
  });
}

void read(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.read(std::move(reply), node, size, offset, *handle); });
}

void write(fuse_req_t request, fuse_ino_t node, const char* bytes, std::size_t size, off_t offset,
           fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) {
    to.write(std::move(reply), node, std::span(bytes, size), offset, *handle);
  });
}

void flush(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.flush(std::move(reply), node, *handle); });
}

void release(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.release(std::move(reply), node, *handle); });
}

void fsync(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info* handle) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.fsync(std::move(reply), node, data_only != 0, *handle); });
}

void opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.opendir(std::move(reply), node, *handle); });
}

void readdir(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* handle) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.readdir(std::move(reply), node, size, offset, *handle); });
}

void readdirplus(fuse_req_t request, fuse_ino_t node, std::size_t size, off_t offset, fuse_file_info* handle) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.readdirplus(std::move(reply), node, size, offset, *handle); });
}

void releasedir(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.releasedir(std::move(reply), node, *handle); });
}

void fsyncdir(fuse_req_t request, fuse_ino_t node, int data_only, fuse_file_info* handle) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.fsyncdir(std::move(reply), node, data_only != 0, *handle); });
}

void statfs(fuse_req_t request, fuse_ino_t node) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.statfs(std::move(reply), node); });
}

void access(fuse_req_t request, fuse_ino_t node, int mask) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.access(std::move(reply), node, mask); });
}

void fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t length, fuse_file_info* handle) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.fallocate(std::move(reply), node, mode, offset, length, *handle); });
}

void lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence, fuse_file_info* handle) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.lseek(std::move(reply), node, offset, whence, *handle); });
}

void copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset, fuse_file_info* from_handle, fuse_ino_t to,
                     off_t to_offset, fuse_file_info* to_handle, std::size_t size, int) {
  dispatch(request, from, [&](Operations& owner, Reply reply) {
    if (owner_of(from) != owner_of(to)) return std::move(reply).error(EXDEV);
    owner.copy(std::move(reply), {from, *from_handle, from_offset}, {to, *to_handle, to_offset}, size);
  });
}

void ioctl(fuse_req_t request, fuse_ino_t node, unsigned command, void*, fuse_file_info* handle, unsigned,
           const void* bytes, std::size_t size, std::size_t answer_size) {
  dispatch(request, node, [&](Operations& to, Reply reply) {
    to.ioctl(std::move(reply), node, command, *handle, std::span(static_cast<const char*>(bytes), size), answer_size);
  });
}

void getlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle, struct flock* range) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.getlk(std::move(reply), node, *handle, *range); });
}

void setlk(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle, struct flock* range, int wait) {
  dispatch(request, node,
           [&](Operations& to, Reply reply) { to.setlk(std::move(reply), node, *handle, *range, wait != 0); });
}

void flock(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle, int operation) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.flock(std::move(reply), node, *handle, operation); });
}

void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, std::size_t size) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.getxattr(std::move(reply), node, name, size); });
}

void listxattr(fuse_req_t request, fuse_ino_t node, std::size_t size) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.listxattr(std::move(reply), node, size); });
}

void setxattr(fuse_req_t request, fuse_ino_t node, const char* name, const char* value, std::size_t size, int flags) {
  dispatch(request, node, [&](Operations& to, Reply reply) {
    to.setxattr(std::move(reply), node, name, std::span(value, size), flags);
  });
}

void removexattr(fuse_req_t request, fuse_ino_t node, const char* name) {
  dispatch(request, node, [&](Operations& to, Reply reply) { to.removexattr(std::move(reply), node, name); });
}

void poll(fuse_req_t request, fuse_ino_t node, fuse_file_info* handle, fuse_pollhandle* waker) {
  bool owned = false;
  dispatch(request, node, [&](Operations& to, Reply reply) {
    owned = true;
    to.poll(std::move(reply), node, *handle, waker);
  });
  if (!owned && waker != nullptr) fuse_pollhandle_destroy(waker);
}

}  // namespace

void map_unknown_opcodes(const protocol::Message& message) noexcept {
  fuse_in_header header = message.header;
  disguised = header.opcode;
  switch (header.opcode) {
    case FUSE_TMPFILE:
      header.opcode = FUSE_CREATE;  // the same structures; the name in it means nothing
      break;
    case protocol::kStatx:
      header.opcode = FUSE_GETATTR;  // what libfuse reads of it is the same
      break;
    default:
      disguised = 0;
      return;
  }
  std::memcpy(message.bytes.data(), &header, sizeof header);
}

fuse_lowlevel_ops dispatch_table() noexcept {
  fuse_lowlevel_ops table{};
  table.lookup = &lookup;
  table.forget = &forget;
  table.forget_multi = &forget_multi;
  table.getattr = &getattr;
  table.setattr = &setattr;
  table.readlink = &readlink;
  table.mknod = &mknod;
  table.mkdir = &mkdir;
  table.unlink = &unlink;
  table.rmdir = &rmdir;
  table.symlink = &symlink;
  table.rename = &rename;
  table.link = &link;
  table.open = &open;
  table.create = &create;
  table.read = &read;
  table.write = &write;
  table.flush = &flush;
  table.release = &release;
  table.fsync = &fsync;
  table.opendir = &opendir;
  table.readdir = &readdir;
  table.readdirplus = &readdirplus;
  table.releasedir = &releasedir;
  table.fsyncdir = &fsyncdir;
  table.statfs = &statfs;
  table.access = &access;
  table.fallocate = &fallocate;
  table.lseek = &lseek;
  table.copy_file_range = &copy_file_range;
  table.ioctl = &ioctl;
  table.getlk = &getlk;
  table.setlk = &setlk;
  table.flock = &berth::fuse::flock;
  table.getxattr = &getxattr;
  table.listxattr = &listxattr;
  table.setxattr = &setxattr;
  table.removexattr = &removexattr;
  table.poll = &poll;
  return table;
}

}  // namespace berth::fuse
