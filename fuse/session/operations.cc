#include "fuse/session/operations.h"

#include <sys/epoll.h>

#include <cerrno>

// The answers of a file system that does not support an operation, as in the man pages of the system calls.
namespace berth::fuse {

Lane* Operations::lane_of(NodeId, std::uint32_t) const { return nullptr; }

void Operations::lookup(Reply reply, NodeId, const char*) { std::move(reply).error(ENOENT); }
void Operations::getattr(Reply reply, NodeId, const fuse_file_info*) { std::move(reply).error(ESTALE); }
void Operations::setattr(Reply reply, NodeId, const struct stat&, int, const fuse_file_info*) {
  std::move(reply).error(EPERM);
}
void Operations::readlink(Reply reply, NodeId) { std::move(reply).error(EINVAL); }
void Operations::mknod(Reply reply, NodeId, const char*, mode_t, dev_t) { std::move(reply).error(EPERM); }
void Operations::mkdir(Reply reply, NodeId, const char*, mode_t) { std::move(reply).error(EPERM); }
void Operations::unlink(Reply reply, NodeId, const char*) { std::move(reply).error(EPERM); }
void Operations::rmdir(Reply reply, NodeId, const char*) { std::move(reply).error(EPERM); }
void Operations::symlink(Reply reply, const char*, NodeId, const char*) { std::move(reply).error(EPERM); }
void Operations::rename(Reply reply, NodeId, const char*, NodeId, const char*, unsigned) {
  std::move(reply).error(EPERM);
}
void Operations::link(Reply reply, NodeId, NodeId, const char*) { std::move(reply).error(EPERM); }
void Operations::open(Reply reply, NodeId, const fuse_file_info&) { std::move(reply).error(EOPNOTSUPP); }
void Operations::create(Reply reply, NodeId, const char*, mode_t, const fuse_file_info&) {
  std::move(reply).error(EPERM);
}
void Operations::read(Reply reply, NodeId, std::size_t, off_t, const fuse_file_info&) {
  std::move(reply).error(EINVAL);
}
void Operations::write(Reply reply, NodeId, std::span<const char>, off_t, const fuse_file_info&) {
  std::move(reply).error(EINVAL);
}
void Operations::flush(Reply reply, NodeId, const fuse_file_info&) { std::move(reply).error(0); }
void Operations::release(Reply reply, NodeId, const fuse_file_info&) { std::move(reply).error(0); }
void Operations::fsync(Reply reply, NodeId, bool, const fuse_file_info&) { std::move(reply).error(EINVAL); }
void Operations::opendir(Reply reply, NodeId, const fuse_file_info&) { std::move(reply).error(EOPNOTSUPP); }
void Operations::readdir(Reply reply, NodeId, std::size_t, off_t, const fuse_file_info&) {
  std::move(reply).error(EINVAL);
}
void Operations::readdirplus(Reply reply, NodeId, std::size_t, off_t, const fuse_file_info&) {
  std::move(reply).error(EINVAL);
}
void Operations::releasedir(Reply reply, NodeId, const fuse_file_info&) { std::move(reply).error(0); }
void Operations::fsyncdir(Reply reply, NodeId, bool, const fuse_file_info&) { std::move(reply).error(EINVAL); }

void Operations::statfs(Reply reply, NodeId) {
  struct statvfs nothing {};
  nothing.f_bsize = 4096;
  nothing.f_frsize = 4096;
  nothing.f_namemax = 255;
  std::move(reply).statistics(nothing);
}

void Operations::access(Reply reply, NodeId, int) { std::move(reply).error(0); }

void Operations::create_nameless(Reply reply, NodeId, mode_t, const fuse_file_info&) {
  std::move(reply).error(EOPNOTSUPP);
}
void Operations::fallocate(Reply reply, NodeId, int, off_t, off_t, const fuse_file_info&) {
  std::move(reply).error(EOPNOTSUPP);
}
void Operations::lseek(Reply reply, NodeId, off_t, int, const fuse_file_info&) { std::move(reply).error(EINVAL); }
void Operations::copy(Reply reply, const Position&, const Position&, std::size_t) {
  std::move(reply).error(EOPNOTSUPP);
}
void Operations::ioctl(Reply reply, NodeId, unsigned, const fuse_file_info&, std::span<const char>, std::size_t) {
  std::move(reply).error(ENOTTY);
}

void Operations::getlk(Reply reply, NodeId, const fuse_file_info&, const struct flock&) {
  std::move(reply).error(ENOLCK);
}
void Operations::setlk(Reply reply, NodeId, const fuse_file_info&, const struct flock&, bool) {
  std::move(reply).error(ENOLCK);
}
void Operations::flock(Reply reply, NodeId, const fuse_file_info&, int) { std::move(reply).error(ENOLCK); }

void Operations::getxattr(Reply reply, NodeId, const char* name, std::size_t) {
  std::move(reply).error(is_access_list(name) ? ENODATA : EOPNOTSUPP);
}
void Operations::listxattr(Reply reply, NodeId, std::size_t size) {
  if (size == 0) return std::move(reply).xattr_size(0);
  std::move(reply).data({});
}
void Operations::setxattr(Reply reply, NodeId, const char*, std::span<const char>, int) {
  std::move(reply).error(EOPNOTSUPP);
}
void Operations::removexattr(Reply reply, NodeId, const char*) { std::move(reply).error(EOPNOTSUPP); }

void Operations::poll(Reply reply, NodeId, const fuse_file_info&, fuse_pollhandle* waker) {
  if (waker != nullptr) fuse_pollhandle_destroy(waker);
  // As poll(2) reports a regular file.
  std::move(reply).poll(EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM);
}

}  // namespace berth::fuse
