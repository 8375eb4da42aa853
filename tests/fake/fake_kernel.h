#pragma once

#include <linux/fuse.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fuse/session/session.h"
#include "fuse/workers/workers.h"
#include "src/lib/base/unique_fd.h"

namespace berth::fuse::testing {

/// The caller of a request.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 4'194'303;  ///< no process of this host: the greatest number is of none (PID_MAX_LIMIT, linux/threads.h)
};

/// What came back for a request.
struct Answer {
  int error = 0;  ///< errno value; 0: success
  std::vector<char> body;

  /// The body, or the part of it from `at` on, as one of the structures of linux/fuse.h; zeros where it is too short.
  template <typename T>
  [[nodiscard]] T as(std::size_t at = 0) const {
    T value{};
    if (body.size() > at) std::memcpy(&value, body.data() + at, std::min(sizeof value, body.size() - at));
    return value;
  }
  [[nodiscard]] std::string text() const { return {body.begin(), body.end()}; }
};

/// A notification that the file system has sent.
struct Notification {
  int code = 0;  ///< FUSE_NOTIFY_*
  std::vector<char> body;
};

/// The kernel's side of a FUSE connection, played by a test over a SOCK_SEQPACKET pair: the true wire without a mount
/// and without privilege.
///
/// A receive that gets nothing for kPatience fails the test by an exception: the file system hangs.
///
/// Threading: one thread.
class FakeKernel {
 public:
  static constexpr int kPatienceSeconds = 20;

  FakeKernel();

  /// The other end, for Session::make. Once.
  [[nodiscard]] UniqueFd take_device() noexcept { return std::move(device_); }

  /// Says INIT and returns the answer. `flags`: what the kernel offers.
  fuse_init_out say_init(std::uint32_t flags = kAllFlags);
  static constexpr std::uint32_t kAllFlags = 0x7fffffff;  // those from the 32nd on too

  /// Sends a request and returns its unique number.
  std::uint64_t send(fuse_opcode opcode, NodeId node, std::span<const char> payload, const Caller& caller = {});
  /// Waits for the answer to `unique`; answers to others are kept for their own wait.
  Answer wait(std::uint64_t unique);
  /// Whether an answer to `unique` is here already; does not wait.
  bool answered(std::uint64_t unique);
  Answer call(fuse_opcode opcode, NodeId node, std::span<const char> payload, const Caller& caller = {});
  /// Sends bytes as they are.
  void send_raw(std::span<const char> bytes);
  /// Waits for something that the file system tells.
  Notification wait_notification();
  /// Number of answers to no request: answered twice, or never asked.
  [[nodiscard]] std::size_t unexpected() const noexcept { return unexpected_; }
  /// Hangs up, as an unmount does.
  void hang_up() noexcept { socket_.reset(); }

  // The requests that tests need often; those without a result return the errno value.
  Answer lookup(NodeId parent, std::string_view name, const Caller& caller = {});
  void forget(NodeId node, std::uint64_t count);
  /// Forgets every look-up that was answered and not forgotten, by BATCH_FORGET.
  void forget_all();
  /// Look-ups of `node` that are not forgotten yet, counted by the answers.
  [[nodiscard]] std::uint64_t look_ups(NodeId node) const;
  Answer getattr(NodeId node, const Caller& caller = {});
  Answer mkdir(NodeId parent, std::string_view name, mode_t mode = 0755, const Caller& caller = {});
  std::uint64_t send_mkdir(NodeId parent, std::string_view name, mode_t mode = 0755, const Caller& caller = {});
  int rmdir(NodeId parent, std::string_view name, const Caller& caller = {});
  int unlink(NodeId parent, std::string_view name, const Caller& caller = {});
  int rename(NodeId parent, std::string_view name, NodeId new_parent, std::string_view new_name);
  int link(NodeId node, NodeId new_parent, std::string_view new_name);
  Answer open(NodeId node, int flags, const Caller& caller = {});
  Answer opendir(NodeId node, const Caller& caller = {});
  Answer read(NodeId node, std::uint64_t handle, std::uint64_t offset, std::uint32_t size = 65536);
  Answer write(NodeId node, std::uint64_t handle, std::string_view bytes, const Caller& caller = {});
  std::uint64_t send_write(NodeId node, std::uint64_t handle, std::string_view bytes, const Caller& caller = {});
  int release(NodeId node, std::uint64_t handle);
  int releasedir(NodeId node, std::uint64_t handle);
  /// A POLL; `wake_handle` != 0: asks for a notification of a change under that number.
  Answer poll(NodeId node, std::uint64_t handle, std::uint64_t wake_handle = 0);
  void interrupt(std::uint64_t unique);

  // Walks, by several requests.
  /// Looks a path up from `from` on. The node, or the errno value as a negative number.
  std::int64_t walk(NodeId from, std::string_view path);
  /// Opens, reads to the end and releases. Throws when something fails.
  std::string read_file(NodeId node);
  /// The names in a directory but "." and "..", in its order. `plus`: by READDIRPLUS.
  std::vector<std::string> list(NodeId node, bool plus = false);

 private:
  struct Message {
    fuse_out_header header;
    std::vector<char> body;
  };
  std::optional<Message> receive(int timeout_milliseconds);
  void sort(Message message);
  void count_look_ups(fuse_opcode opcode, const Answer& answer);

  UniqueFd socket_;
  UniqueFd device_;
  std::uint64_t next_unique_ = 2;
  std::map<std::uint64_t, fuse_opcode> asked_;  ///< by unique number; not answered yet
  std::map<NodeId, std::uint64_t> look_ups_;
  std::vector<char> buffer_;
  std::map<std::uint64_t, Answer> answers_;
  std::vector<Notification> notifications_;
  std::size_t unexpected_ = 0;
};

/// A session served by real worker threads, with a fake kernel at the other end, past INIT. The destructor hangs up and
/// waits for the threads.
class FakeMount {
 public:
  /// `requests`: null if there will be no successor.
  explicit FakeMount(const Router& router, const WorkerLimits& limits = {}, Requests* requests = nullptr);
  ~FakeMount();
  FakeMount(const FakeMount&) = delete;
  FakeMount& operator=(const FakeMount&) = delete;

  [[nodiscard]] FakeKernel& kernel() noexcept { return kernel_; }
  [[nodiscard]] Session& session() noexcept { return *session_; }
  [[nodiscard]] Workers& workers() noexcept { return *workers_; }
  [[nodiscard]] const fuse_init_out& init() const noexcept { return init_; }
  [[nodiscard]] const Passthrough& passthrough() const noexcept { return passthrough_; }
  /// Waits until the workers have ended; call it once, after hang_up() or Workers::stop().
  StopReason join();
  /// Hangs up and lets the threads end; what is parked can still be answered, into nothing. Also by the destructor.
  void unmount();

 private:
  FakeKernel kernel_;
  Passthrough passthrough_;
  std::unique_ptr<Session> session_;
  Requests requests_{nullptr};
  std::unique_ptr<Workers> workers_;
  fuse_init_out init_{};
  std::optional<StopReason> reason_;
  std::thread serving_;
};

}  // namespace berth::fuse::testing
