#include "fuse/control/control_tree.h"

#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <utility>

#include "fuse/control/control_tree_core.h"
#include "fuse/kept/requests.h"
#include "src/lib/formats/names.h"

namespace berth::fuse {

namespace {

using Kind = ControlPath::Kind;

/// What may be set on a control file, to no effect: "echo mount > control" truncates it, touch(1) sets its times.
constexpr int kSettable = FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
                          FUSE_SET_ATTR_MTIME_NOW | FUSE_SET_ATTR_CTIME;

constexpr unsigned kReadable = EPOLLIN | EPOLLRDNORM;

std::span<const char> part_of(const std::string& text, off_t offset, std::size_t size) noexcept {
  const auto begin = static_cast<std::size_t>(std::max<off_t>(offset, 0));
  if (begin >= text.size()) return {};
  return {text.data() + begin, std::min(size, text.size() - begin)};
}

}  // namespace

ControlTree::ControlTree(manager::Manager& manager, const Clock& clock, ControlSetup setup)
    : core_(std::make_shared<Core>(manager, clock, std::move(setup))) {}

ControlTree::~ControlTree() { core_->events.stop(); }

Entry ControlTree::root_entry() { return core_->make_entry(ControlPath{}); }

const std::vector<std::uint64_t>& ControlTree::inherited_polls() const noexcept {
  return core_->events.inherited_polls();
}

struct stat ControlTree::root_attributes() const {
  return core_->attributes_of(ControlPath{});
}

void ControlTree::append_event(const manager::Event& event) { core_->events.append(event_line(event), event.when); }

void ControlTree::count_event(const manager::Event& event) { core_->files.count(event); }

void ControlTree::append_output(const std::string& share, std::string_view lines) { core_->logs.append(share, lines); }

void ControlTree::stop() noexcept { core_->events.stop(); }

ControlTree::Counts ControlTree::counts() const {
  return {.nodes = core_->nodes.size(), .handles = core_->handles.size()};
}

void ControlTree::lookup(Reply reply, NodeId parent, const char* name) {
  const Result<Core::Found> found = core_->find(parent);
  if (!found) return std::move(reply).error(found.error());
  const Result<ControlPath> child = core_->find_child(*found, name);
  if (!child) return std::move(reply).error(child.error());
  core_->answer_entry(std::move(reply), *child);
}

void ControlTree::forget(NodeId node, std::uint64_t count) noexcept { core_->nodes.forget(node, count); }

void ControlTree::getattr(Reply reply, NodeId node, const fuse_file_info*) {
  const Result<Core::Found> found = core_->find(node);
  if (!found) return std::move(reply).error(found.error());
  std::move(reply).attributes(core_->attributes_of(*found->path), 0);
}

void ControlTree::setattr(Reply reply, NodeId node, const struct stat&, int to_set, const fuse_file_info*) {
  const Result<Core::Found> found = core_->find(node);
  if (!found) return std::move(reply).error(found.error());
  if (!is_control(found->path->kind) || (to_set & ~kSettable) != 0) return std::move(reply).error(EPERM);
  if (!core_->may_change(reply.caller())) return std::move(reply).error(EACCES);
  std::move(reply).attributes(core_->attributes_of(*found->path), 0);
}

void ControlTree::mkdir(Reply reply, NodeId parent, const char* name, mode_t) {
  const Result<Core::Found> found = core_->find(parent);
  if (!found) return std::move(reply).error(found.error());
  ControlPath made = *found->path;
  if (made.kind != Kind::kAttachments && made.kind != Kind::kInstance) return std::move(reply).error(EPERM);
  if (!core_->may_change(reply.caller())) return std::move(reply).error(EACCES);
  if (std::strlen(name) > NAME_MAX) return std::move(reply).error(ENAMETOOLONG);
  if (!formats::is_component(name)) return std::move(reply).error(EINVAL);
  if (made.kind == Kind::kInstance) {
    made.kind = Kind::kVolume;
    made.volume = name;
    return core_->attach(std::move(reply), found->share, std::move(made));
  }
  made.kind = Kind::kInstance;
  made.instance = name;
  core_->make_instance(std::move(reply), found->share, std::move(made));
}

void ControlTree::rmdir(Reply reply, NodeId parent, const char* name) {
  const Result<Core::Found> found = core_->find(parent);
  if (!found) return std::move(reply).error(found.error());
  const Result<ControlPath> child = core_->find_child(*found, name);
  // Asked for again because a server died: it was that one's work.
  if (!child && child.error().code() == ENOENT && CurrentRequest::is_resent()) return std::move(reply).error(0);
  if (!child) return std::move(reply).error(child.error());
  if (!is_directory(child->kind)) return std::move(reply).error(ENOTDIR);
  if (child->kind != Kind::kInstance && child->kind != Kind::kVolume) return std::move(reply).error(EPERM);
  if (!core_->may_change(reply.caller())) return std::move(reply).error(EACCES);
  if (child->kind == Kind::kVolume) return core_->detach(std::move(reply), found->share, *child);
  core_->remove_instance(std::move(reply), found->share, *child);
}

void ControlTree::open(Reply reply, NodeId node, const fuse_file_info& handle) {
  const Result<Core::Found> found = core_->find(node);
  if (!found) return std::move(reply).error(found.error());
  const Result<std::uint64_t> number = core_->open_file(*found, handle.flags, reply.caller());
  if (!number) return std::move(reply).error(number.error());
  // Past the page cache: the size is not known before, and a file that is followed grows.
  if (!std::move(reply).opened({.handle = *number, .direct_io = true})) core_->handles.remove(*number);
}

void ControlTree::read(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  const std::shared_ptr<ControlHandle> open = core_->handle_of(node, handle.fh, reply.caller());
  if (open == nullptr) return std::move(reply).error(EBADF);
  if (const auto* text = std::get_if<ControlHandle::Text>(&open->content)) {
    std::move(reply).data(part_of(*text, offset, size));
  } else if (const auto* events = std::get_if<std::unique_ptr<EventLog::Reader>>(&open->content)) {
    std::move(reply).data((*events)->read(static_cast<std::uint64_t>(std::max<off_t>(offset, 0)), size));
  } else {
    std::move(reply).data({});
  }
}

void ControlTree::write(Reply reply, NodeId node, std::span<const char> bytes, off_t, const fuse_file_info& handle) {
  const std::shared_ptr<ControlHandle> open = core_->handle_of(node, handle.fh, reply.caller());
  if (open == nullptr || !is_control(open->path->kind)) return std::move(reply).error(EBADF);
  const Result<Core::Found> found = core_->find(node);
  if (!found) return std::move(reply).error(found.error());
  if (found->share == nullptr) return core_->run_host_word(std::move(reply), bytes);
  core_->run_word(std::move(reply), found->share, bytes);
}

void ControlTree::release(Reply reply, NodeId, const fuse_file_info& handle) {
  core_->handles.remove(handle.fh);
  std::move(reply).error(0);
}

void ControlTree::opendir(Reply reply, NodeId node, const fuse_file_info&) {
  const Result<Core::Found> found = core_->find(node);
  if (!found) return std::move(reply).error(found.error());
  const Result<std::uint64_t> number = core_->open_directory(*found, reply.caller());
  if (!number) return std::move(reply).error(number.error());
  if (!std::move(reply).opened({.handle = *number})) core_->handles.remove(*number);
}

void ControlTree::readdir(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  core_->list_page(std::move(reply), node, handle.fh, size, offset, false);
}

void ControlTree::readdirplus(Reply reply, NodeId node, std::size_t size, off_t offset, const fuse_file_info& handle) {
  core_->list_page(std::move(reply), node, handle.fh, size, offset, true);
}

void ControlTree::releasedir(Reply reply, NodeId, const fuse_file_info& handle) {
  core_->handles.remove(handle.fh);
  std::move(reply).error(0);
}

void ControlTree::poll(Reply reply, NodeId node, const fuse_file_info& handle, fuse_pollhandle* waker) {
  const std::shared_ptr<ControlHandle> open = core_->handle_of(node, handle.fh, reply.caller());
  const auto* events = open == nullptr ? nullptr : std::get_if<std::unique_ptr<EventLog::Reader>>(&open->content);
  if (events == nullptr) return Operations::poll(std::move(reply), node, handle, waker);
  // Noted first: what is added from now on wakes it, or the next server does.
  if (waker != nullptr) core_->events.note_poll(CurrentRequest::poll_number());
  std::move(reply).poll((*events)->poll(waker) ? kReadable : 0);
}

}  // namespace berth::fuse
