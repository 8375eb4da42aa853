#include "tests/fake/fake_kernel.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace berth::fuse::testing {

namespace {

constexpr std::size_t kMaxWrite = 65536;

void append(std::vector<char>& to, const void* bytes, std::size_t size) {
  const char* const begin = static_cast<const char*>(bytes);
  to.insert(to.end(), begin, begin + size);
}

/// A request's payload: fixed structures, then strings with their ending 0.
class Payload {
 public:
  template <typename T>
  Payload& fixed(const T& value) {
    append(bytes_, &value, sizeof value);
    return *this;
  }
  Payload& name(std::string_view name) {
    append(bytes_, name.data(), name.size());
    bytes_.push_back('\0');
    return *this;
  }
  Payload& data(std::string_view data) {
    append(bytes_, data.data(), data.size());
    return *this;
  }
  operator std::span<const char>() const noexcept { return bytes_; }  // NOLINT(google-explicit-constructor)

 private:
  std::vector<char> bytes_;
};

[[noreturn]] void throw_errno(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

/// The record at `at` of a READDIR or READDIRPLUS answer: its name, and where the next one begins.
struct DirectoryRecord {
  std::string name;
  std::uint64_t offset;
  std::size_t next;
};
DirectoryRecord record_at(const Answer& answer, std::size_t at, bool plus) {
  const std::size_t entry = plus ? sizeof(fuse_entry_out) : 0;
  const auto head = answer.as<fuse_dirent>(at + entry);
  const std::size_t name_at = at + entry + FUSE_NAME_OFFSET;
  if (name_at + head.namelen > answer.body.size()) throw std::runtime_error("a directory record is cut off");
  return {.name = std::string(answer.body.data() + name_at, head.namelen),
          .offset = head.off,
          .next = at + FUSE_DIRENT_ALIGN(entry + FUSE_NAME_OFFSET + head.namelen)};
}

}  // namespace

FakeKernel::FakeKernel() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) throw_errno("socketpair");
  socket_.reset(pair[0]);
  device_.reset(pair[1]);
}

fuse_init_out FakeKernel::say_init(std::uint32_t flags) {
  fuse_init_in init{};
  init.major = FUSE_KERNEL_VERSION;
  init.minor = FUSE_KERNEL_MINOR_VERSION;
  init.max_readahead = 131072;
  init.flags = flags;
  if ((flags & FUSE_INIT_EXT) != 0) init.flags2 = 0xffffffff;
  return call(FUSE_INIT, 0, Payload().fixed(init)).as<fuse_init_out>();
}

void FakeKernel::send_raw(std::span<const char> bytes) {
  if (::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) throw_errno("send to the file system");
}

std::uint64_t FakeKernel::send(fuse_opcode opcode, NodeId node, std::span<const char> payload, const Caller& caller) {
  fuse_in_header header{};
  header.len = static_cast<std::uint32_t>(sizeof header + payload.size());
  header.opcode = opcode;
  header.unique = next_unique_;
  header.nodeid = node;
  header.uid = caller.uid;
  header.gid = caller.gid;
  header.pid = static_cast<std::uint32_t>(caller.pid);
  next_unique_ += 2;
  std::vector<char> message;
  append(message, &header, sizeof header);
  append(message, payload.data(), payload.size());
  const bool has_answer = opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT;
  if (has_answer) asked_[header.unique] = opcode;
  send_raw(message);
  return header.unique;
}

std::optional<FakeKernel::Message> FakeKernel::receive(int timeout_milliseconds) {
  pollfd readable{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&readable, 1, timeout_milliseconds) <= 0) return std::nullopt;
  buffer_.resize(2 * kMaxWrite);
  const ssize_t size = ::recv(socket_.get(), buffer_.data(), buffer_.size(), 0);
  if (size < 0) throw_errno("receive from the file system");
  if (size == 0) throw std::runtime_error("the file system hung up");
  Message message{};
  if (static_cast<std::size_t>(size) < sizeof message.header) throw std::runtime_error("an answer without a header");
  std::memcpy(&message.header, buffer_.data(), sizeof message.header);
  if (message.header.len != static_cast<std::uint32_t>(size)) throw std::runtime_error("an answer of a wrong length");
  message.body.assign(buffer_.begin() + sizeof message.header, buffer_.begin() + size);
  return message;
}

void FakeKernel::sort(Message message) {
  const std::uint64_t unique = message.header.unique;
  if (unique == 0) {
    notifications_.push_back({.code = message.header.error, .body = std::move(message.body)});
    return;
  }
  const auto asked = asked_.find(unique);
  if (asked == asked_.end()) {
    // An INTERRUPT that came before its request is answered EAGAIN: try again.
    if (message.header.error != -EAGAIN) ++unexpected_;
    return;
  }
  Answer answer{.error = -message.header.error, .body = std::move(message.body)};
  count_look_ups(asked->second, answer);
  asked_.erase(asked);
  answers_[unique] = std::move(answer);
}

void FakeKernel::count_look_ups(fuse_opcode opcode, const Answer& answer) {
  const bool gives_entry = opcode == FUSE_LOOKUP || opcode == FUSE_MKDIR || opcode == FUSE_MKNOD ||
                           opcode == FUSE_SYMLINK || opcode == FUSE_LINK || opcode == FUSE_CREATE;
  if (answer.error != 0) return;
  if (gives_entry) {
    if (const NodeId node = answer.as<fuse_entry_out>().nodeid; node != 0) ++look_ups_[node];
  }
  if (opcode != FUSE_READDIRPLUS) return;
  for (std::size_t at = 0; at < answer.body.size();) {
    const DirectoryRecord record = record_at(answer, at, true);
    const NodeId node = answer.as<fuse_entry_out>(at).nodeid;
    if (node != 0 && record.name != "." && record.name != "..") ++look_ups_[node];
    at = record.next;
  }
}

Answer FakeKernel::wait(std::uint64_t unique) {
  while (!answers_.contains(unique)) {
    std::optional<Message> message = receive(kPatienceSeconds * 1000);
    if (!message) throw std::runtime_error("no answer from the file system");
    sort(std::move(*message));
  }
  return std::move(answers_.extract(unique).mapped());
}

bool FakeKernel::answered(std::uint64_t unique) {
  while (std::optional<Message> message = receive(0)) sort(std::move(*message));
  return answers_.contains(unique);
}

Answer FakeKernel::call(fuse_opcode opcode, NodeId node, std::span<const char> payload, const Caller& caller) {
  return wait(send(opcode, node, payload, caller));
}

Notification FakeKernel::wait_notification() {
  while (notifications_.empty()) {
    std::optional<Message> message = receive(kPatienceSeconds * 1000);
    if (!message) throw std::runtime_error("the file system told nothing");
    sort(std::move(*message));
  }
  Notification first = std::move(notifications_.front());
  notifications_.erase(notifications_.begin());
  return first;
}

Answer FakeKernel::lookup(NodeId parent, std::string_view name, const Caller& caller) {
  return call(FUSE_LOOKUP, parent, Payload().name(name), caller);
}

void FakeKernel::forget(NodeId node, std::uint64_t count) {
  if (auto found = look_ups_.find(node); found != look_ups_.end()) {
    found->second -= std::min(found->second, count);
    if (found->second == 0) look_ups_.erase(found);
  }
  send(FUSE_FORGET, node, Payload().fixed(fuse_forget_in{.nlookup = count}));
}

void FakeKernel::forget_all() {
  constexpr std::size_t kMostAtOnce = 1000;
  std::vector<fuse_forget_one> forgets;
  for (const auto& [node, count] : look_ups_) forgets.push_back({.nodeid = node, .nlookup = count});
  look_ups_.clear();
  for (std::span<const fuse_forget_one> rest = forgets; !rest.empty();) {
    const auto part = rest.first(std::min(kMostAtOnce, rest.size()));
    rest = rest.subspan(part.size());
    Payload payload;
    payload.fixed(fuse_batch_forget_in{.count = static_cast<std::uint32_t>(part.size()), .dummy = 0});
    for (const fuse_forget_one& forget : part) payload.fixed(forget);
    send(FUSE_BATCH_FORGET, 0, payload);
  }
}

std::uint64_t FakeKernel::look_ups(NodeId node) const {
  const auto found = look_ups_.find(node);
  return found == look_ups_.end() ? 0 : found->second;
}

Answer FakeKernel::getattr(NodeId node, const Caller& caller) {
  return call(FUSE_GETATTR, node, Payload().fixed(fuse_getattr_in{}), caller);
}

std::uint64_t FakeKernel::send_mkdir(NodeId parent, std::string_view name, mode_t mode, const Caller& caller) {
  return send(FUSE_MKDIR, parent, Payload().fixed(fuse_mkdir_in{.mode = mode, .umask = 022}).name(name), caller);
}

Answer FakeKernel::mkdir(NodeId parent, std::string_view name, mode_t mode, const Caller& caller) {
  return wait(send_mkdir(parent, name, mode, caller));
}

int FakeKernel::rmdir(NodeId parent, std::string_view name, const Caller& caller) {
  return call(FUSE_RMDIR, parent, Payload().name(name), caller).error;
}

int FakeKernel::unlink(NodeId parent, std::string_view name, const Caller& caller) {
  return call(FUSE_UNLINK, parent, Payload().name(name), caller).error;
}

int FakeKernel::rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name) {
  fuse_rename2_in in{};
  in.newdir = new_parent;
  return call(FUSE_RENAME2, parent, Payload().fixed(in).name(name).name(new_name)).error;
}

int FakeKernel::link(NodeId node, NodeId new_parent, std::string_view new_name) {
  return call(FUSE_LINK, new_parent, Payload().fixed(fuse_link_in{.oldnodeid = node}).name(new_name)).error;
}

Answer FakeKernel::open(NodeId node, int flags, const Caller& caller) {
  return call(FUSE_OPEN, node,
              Payload().fixed(fuse_open_in{.flags = static_cast<std::uint32_t>(flags), .open_flags = 0}), caller);
}

Answer FakeKernel::opendir(NodeId node, const Caller& caller) {
  return call(FUSE_OPENDIR, node, Payload().fixed(fuse_open_in{}), caller);
}

Answer FakeKernel::read(NodeId node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size) {
  fuse_read_in in{};
  in.fh = handle;
  in.offset = offset;
  in.size = size;
  return call(FUSE_READ, node, Payload().fixed(in));
}

std::uint64_t FakeKernel::send_write(NodeId node, std::uint64_t handle, std::string_view bytes, const Caller& caller) {
  fuse_write_in in{};
  in.fh = handle;
  in.size = static_cast<std::uint32_t>(bytes.size());
  return send(FUSE_WRITE, node, Payload().fixed(in).data(bytes), caller);
}

Answer FakeKernel::write(NodeId node, std::uint64_t handle, std::string_view bytes, const Caller& caller) {
  return wait(send_write(node, handle, bytes, caller));
}

int FakeKernel::release(NodeId node, std::uint64_t handle) {
  fuse_release_in in{};
  in.fh = handle;
  return call(FUSE_RELEASE, node, Payload().fixed(in)).error;
}

int FakeKernel::releasedir(NodeId node, std::uint64_t handle) {
  fuse_release_in in{};
  in.fh = handle;
  return call(FUSE_RELEASEDIR, node, Payload().fixed(in)).error;
}

Answer FakeKernel::poll(NodeId node, std::uint64_t handle, std::uint64_t wake_handle) {
  fuse_poll_in in{};
  in.fh = handle;
  in.kh = wake_handle;
  in.flags = wake_handle != 0 ? FUSE_POLL_SCHEDULE_NOTIFY : 0;
  return call(FUSE_POLL, node, Payload().fixed(in));
}

void FakeKernel::interrupt(std::uint64_t unique) {
  send(FUSE_INTERRUPT, 0, Payload().fixed(fuse_interrupt_in{.unique = unique}));
}

std::int64_t FakeKernel::walk(NodeId from, std::string_view path) {
  NodeId node = from;
  for (;;) {
    const std::size_t slash = path.find('/');
    const Answer answer = lookup(node, path.substr(0, slash));
    if (answer.error != 0) return -answer.error;
    node = answer.as<fuse_entry_out>().nodeid;
    if (slash == std::string_view::npos) return static_cast<std::int64_t>(node);
    path.remove_prefix(slash + 1);
  }
}

std::string FakeKernel::read_file(NodeId node) {
  const Answer opened = open(node, 0);
  if (opened.error != 0) throw std::system_error(opened.error, std::generic_category(), "open");
  const std::uint64_t handle = opened.as<fuse_open_out>().fh;
  std::string text;
  for (;;) {
    const Answer part = read(node, handle, text.size());
    if (part.error != 0) throw std::system_error(part.error, std::generic_category(), "read");
    if (part.body.empty()) break;
    text += part.text();
  }
  release(node, handle);
  return text;
}

std::vector<std::string> FakeKernel::list(NodeId node, bool plus) {
  const Answer opened = opendir(node);
  if (opened.error != 0) throw std::system_error(opened.error, std::generic_category(), "opendir");
  fuse_read_in in{};
  in.fh = opened.as<fuse_open_out>().fh;
  in.size = 4096;
  std::vector<std::string> names;
  for (;;) {
    const Answer part = call(plus ? FUSE_READDIRPLUS : FUSE_READDIR, node, Payload().fixed(in));
    if (part.error != 0) throw std::system_error(part.error, std::generic_category(), "readdir");
    if (part.body.empty()) break;
    for (std::size_t at = 0; at < part.body.size();) {
      DirectoryRecord record = record_at(part, at, plus);
      at = record.next;
      in.offset = record.offset;
      if (record.name != "." && record.name != "..") names.push_back(std::move(record.name));
    }
  }
  releasedir(node, in.fh);
  return names;
}

FakeMount::FakeMount(const Router& router, const WorkerLimits& limits, Requests* requests) {
  auto session = Session::make(kernel_.take_device(), router,
                               {.max_write = kMaxWrite, .max_background = 16, .passthrough = &passthrough_});
  if (!session) throw std::runtime_error(session.error().message());
  session_ = std::move(*session);
  workers_ = std::make_unique<Workers>(*session_, requests != nullptr ? *requests : requests_, limits);
  serving_ = std::thread([this] {
    const auto reason = workers_->run();
    if (reason) reason_ = *reason;
  });
  init_ = kernel_.say_init();
}

FakeMount::~FakeMount() { unmount(); }

StopReason FakeMount::join() {
  serving_.join();
  return reason_.value();
}

void FakeMount::unmount() {
  kernel_.hang_up();
  if (serving_.joinable()) serving_.join();
}

}  // namespace berth::fuse::testing
