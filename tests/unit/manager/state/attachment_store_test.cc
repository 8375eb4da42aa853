// The state directory on a real disk: a change that is answered as done is there afterwards, whatever happens in
// between.
#include "manager/state/attachment_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "manager/state/state_format.h"

namespace berth::manager {
namespace {

namespace fs = std::filesystem;
using Attachments = std::set<Attachment>;
using Change = AttachmentStore::Change;

/// Through a socket (SCM_RIGHTS, unix(7)).
bool send_descriptor(int socket, int descriptor) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  cmsghdr* const header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
  return ::sendmsg(socket, &message, 0) == 1;
}

UniqueFd receive_descriptor(int socket) {
  char byte = 0;
  iovec part{&byte, 1};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> space{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = space.data();
  message.msg_controllen = space.size();
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == nullptr) return UniqueFd();
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
  return UniqueFd(descriptor);
}

class AttachmentStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/berth-state-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }

  [[nodiscard]] StateDirectory directory(const std::string& name_space = "/volumes") const {
    return StateDirectory(root_ + "/state", name_space);
  }
  /// What a berth that starts now finds, of one share; fails the test for any damage.
  [[nodiscard]] Attachments kept(const std::string& share = "media") const {
    AttachmentStore store(directory());
    const Result<StoredState> state = store.load();
    EXPECT_TRUE(state) << state.error().message();
    if (!state) return {};
    for (const DamagedFile& damage : state->damages) ADD_FAILURE() << damage.file << ": " << damage.reason;
    for (const StoredAttachments& one : state->shares) {
      if (one.share == share) return one.attachments;
    }
    return {};
  }
  /// The same when the berth of `store` has ended.
  [[nodiscard]] Attachments kept_after(AttachmentStore& store) const {
    store = AttachmentStore(directory("/not-berths"));
    return kept();
  }
  static int commit(AttachmentStore& store, const std::string& volume, bool attached,
                    const std::string& share = "media") {
    const Change change{.share = share, .attachment = {"vm", volume}, .attached = attached};
    const Result<> result = store.commit(std::span(&change, 1)).front();
    return result ? 0 : result.error().code();
  }
  [[nodiscard]] std::string state_path() const { return directory().path(); }
  [[nodiscard]] std::string file_of(const std::string& share) const {
    return state_path() + "/" + state_format::file_name(share) + ".attachments";
  }
  static std::string content(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  static void overwrite(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(state_path()), fs::directory_iterator()));
  }

  std::string root_;
};

TEST_F(AttachmentStoreTest, WhatWasRecordedIsThereAtTheNextStart) {
  {
    AttachmentStore store(directory());
    EXPECT_EQ(commit(store, "a", true), 0);
    EXPECT_EQ(commit(store, "b", true), 0);
    EXPECT_EQ(commit(store, "a", false), 0);
    EXPECT_EQ(commit(store, "x", true, "home/alice"), 0);
  }
  EXPECT_EQ(kept(), (Attachments{{"vm", "b"}}));
  EXPECT_EQ(kept("home/alice"), (Attachments{{"vm", "x"}}));
}

TEST_F(AttachmentStoreTest, MissingDirectoryIsMadeForRootAlone) {
  AttachmentStore store(directory());
  ASSERT_EQ(commit(store, "a", true), 0);
  for (const std::string& path : {root_ + "/state", state_path()}) {
    struct stat attributes {};
    ASSERT_EQ(::stat(path.c_str(), &attributes), 0) << path;
    EXPECT_EQ(attributes.st_mode & 07777, 0700U) << path;
  }
  struct stat attributes {};
  ASSERT_EQ(::stat(file_of("media").c_str(), &attributes), 0);
  EXPECT_EQ(attributes.st_mode & 07777, 0600U);
}

TEST_F(AttachmentStoreTest, LastAttachmentTakesItsFileWithIt) {
  AttachmentStore store(directory());
  commit(store, "a", true);
  EXPECT_EQ(files(), 1U);
  commit(store, "a", false);
  EXPECT_EQ(files(), 0U);
}

TEST_F(AttachmentStoreTest, SameTwiceIsOnceAndUnknownIsNothing) {
  AttachmentStore store(directory());
  EXPECT_EQ(commit(store, "a", true), 0);
  const std::string before = content(file_of("media"));
  EXPECT_EQ(commit(store, "a", true), 0);
  EXPECT_EQ(commit(store, "b", false), 0);
  EXPECT_EQ(content(file_of("media")), before);
}

TEST_F(AttachmentStoreTest, OneWriteForManyChangesOfOneShare) {
  AttachmentStore store(directory());
  std::vector<Change> changes;
  for (int i = 0; i < 1000; ++i) changes.push_back({"media", {"vm", std::to_string(i)}, true});
  for (const Result<>& result : store.commit(changes)) EXPECT_TRUE(result);
  EXPECT_EQ(kept_after(store).size(), 1000U);
}

TEST_F(AttachmentStoreTest, HistoryDoesNotGrowWithoutBound) {
  AttachmentStore store(directory());
  commit(store, "stays", true);
  for (int i = 0; i < 2000; ++i) {
    ASSERT_EQ(commit(store, "comes and goes", true), 0);
    ASSERT_EQ(commit(store, "comes and goes", false), 0);
  }
  EXPECT_LT(fs::file_size(file_of("media")), 64U << 10);
  EXPECT_EQ(kept_after(store), (Attachments{{"vm", "stays"}}));
}

TEST_F(AttachmentStoreTest, TwoNamespacesShareNothing) {
  AttachmentStore one(directory("/volumes"));
  AttachmentStore other(directory("/srv/volumes"));
  EXPECT_EQ(commit(one, "a", true), 0);
  EXPECT_EQ(commit(other, "b", true), 0);
  EXPECT_EQ(kept_after(one), (Attachments{{"vm", "a"}}));
}

TEST_F(AttachmentStoreTest, SecondBerthOfOneNamespaceIsKeptOffUntilTheFirstIsGone) {
  auto first = std::make_unique<StateDirectory>(directory());
  ASSERT_TRUE(first->open());
  StateDirectory second = directory();
  const Result<int> refused = second.open();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), EBUSY);
  EXPECT_NE(refused.error().story().find("another berth"), std::string::npos);
  first.reset();
  EXPECT_TRUE(second.open());
}

TEST_F(AttachmentStoreTest, DirectoryThatComesLaterIsUsedThen) {
  overwrite(root_ + "/state", "in the way");
  AttachmentStore store(directory());
  EXPECT_EQ(commit(store, "a", true), ENOTDIR);
  fs::remove(root_ + "/state");
  EXPECT_EQ(commit(store, "a", true), 0);
  EXPECT_EQ(kept_after(store), (Attachments{{"vm", "a"}}));
}

TEST_F(AttachmentStoreTest, WhatWasNeverReadIsNotLost) {
  {
    AttachmentStore store(directory());
    commit(store, "a", true);
  }
  AttachmentStore store(directory());
  EXPECT_EQ(commit(store, "b", true), 0) << "of a start at which the directory could not be used";
  EXPECT_EQ(kept_after(store), (Attachments{{"vm", "a"}, {"vm", "b"}}));
}

TEST_F(AttachmentStoreTest, LockOfADeadBerthIsPassedByThatOfALivingOneIsNot) {
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::milliseconds(50); };
  // Its descriptor lives on in this process, as it would in a thread that is stuck in the kernel.
  StateDirectory left = directory();
  UniqueFd kept;
  {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    const UniqueFd ours(ends[0]);
    const pid_t owner = ::fork();
    if (owner == 0) {
      StateDirectory mine = directory();
      const Result<int> opened = mine.open();
      ::_exit(opened && send_descriptor(ends[1], *opened) && ::pause() < 0 ? 0 : 1);
    }
    ::close(ends[1]);
    kept = receive_descriptor(ours.get());
    ASSERT_TRUE(kept);
    const Result<bool> refused = left.open_after_others(soon());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), EBUSY);
    ::kill(owner, SIGKILL);
    ::waitpid(owner, nullptr, 0);
  }
  EXPECT_EQ(left.open().error().code(), EBUSY) << "the lock is still there";
  const Result<bool> passed_by = left.open_after_others(soon());
  ASSERT_TRUE(passed_by) << passed_by.error().message();
  EXPECT_FALSE(*passed_by);
  AttachmentStore store(std::move(left));
  EXPECT_EQ(commit(store, "a", true), 0);
}

TEST_F(AttachmentStoreTest, SecondDescriptorIsInTheSameLock) {
  StateDirectory first = directory();
  ASSERT_TRUE(first.open());
  AttachmentStore store(first.duplicate());
  EXPECT_EQ(commit(store, "a", true), 0);
  store = AttachmentStore(directory("/not-berths"));
  EXPECT_EQ(directory().open().error().code(), EBUSY) << "the first still has it";
}

TEST_F(AttachmentStoreTest, DirectoryThatCannotBeMadeAgainFailsTheChangeAndKeepsNothingOfIt) {
  AttachmentStore store(directory());
  ASSERT_TRUE(store.load());
  fs::remove_all(root_ + "/state");
  overwrite(root_ + "/state", "in the way");
  EXPECT_EQ(commit(store, "a", true), ENOTDIR);
  EXPECT_EQ(commit(store, "a", true), ENOTDIR) << "it does not take the failed one for recorded";
}

TEST_F(AttachmentStoreTest, FileThatSomebodyElseChangedIsWrittenAnew) {
  AttachmentStore store(directory());
  commit(store, "a", true);
  overwrite(file_of("media"), "shorter\n");
  EXPECT_EQ(commit(store, "b", true), 0);
  EXPECT_EQ(kept_after(store), (Attachments{{"vm", "a"}, {"vm", "b"}}));
}

TEST_F(AttachmentStoreTest, DamagedFileIsSetAsideAndWhatIsWholeOfItIsUsed) {
  {
    AttachmentStore store(directory());
    for (const char* volume : {"a", "b", "c"}) commit(store, volume, true);
    commit(store, "x", true, "other");
  }
  std::string text = content(file_of("media"));
  text[text.find("vm b")] = 'w';
  overwrite(file_of("media"), text);
  {
    AttachmentStore store(directory());
    const Result<StoredState> state = store.load();
    ASSERT_TRUE(state);
    ASSERT_EQ(state->shares.size(), 2U) << "the other share has no part in it";
    EXPECT_EQ(state->shares[0].attachments, (Attachments{{"vm", "a"}, {"vm", "c"}}));
    ASSERT_EQ(state->damages.size(), 1U);
    EXPECT_EQ(state->damages[0].file, file_of("media"));
    EXPECT_NE(state->damages[0].set_aside.find(".damaged-"), std::string::npos);
    EXPECT_EQ(content(state->damages[0].set_aside), text);
    EXPECT_EQ(commit(store, "d", true), 0);
  }
  AttachmentStore next(directory());
  const Result<StoredState> state = next.load();
  ASSERT_TRUE(state);
  EXPECT_EQ(state->shares[0].attachments, (Attachments{{"vm", "a"}, {"vm", "c"}, {"vm", "d"}}));
  ASSERT_EQ(state->damages.size(), 1U) << "told again until it is removed";
  EXPECT_EQ(state->damages[0].reason, "it was set aside earlier");
}

TEST_F(AttachmentStoreTest, FileOfWhichNothingCanBeReadIsSetAsideAndStopsNothing) {
  {
    AttachmentStore store(directory());
    commit(store, "a", true);
    commit(store, "x", true, "other");
  }
  for (const std::string& garbage : {std::string(), std::string("garbage"), std::string(4096, '\0')}) {
    overwrite(file_of("media"), garbage);
    AttachmentStore store(directory());
    const Result<StoredState> state = store.load();
    ASSERT_TRUE(state);
    ASSERT_EQ(state->shares.size(), 1U);
    EXPECT_EQ(state->shares[0].share, "other");
    ASSERT_FALSE(state->damages.empty());
    EXPECT_EQ(state->damages.front().file, file_of("media")) << "those of earlier rounds come after it";
    EXPECT_TRUE(content(state->damages.front().set_aside) == garbage);
    EXPECT_EQ(commit(store, "b", true), 0);
  }
}

TEST_F(AttachmentStoreTest, FileOfAnotherNamespaceOrShareIsDamage) {
  {
    AttachmentStore store(directory());
    commit(store, "a", true);
  }
  const std::string line = state_format::line(true, {"vm", "b"});
  for (const std::string& header :
       {state_format::header("/elsewhere", "media"), state_format::header("/volumes", "other")}) {
    overwrite(file_of("media"), header + line);
    AttachmentStore store(directory());
    const Result<StoredState> state = store.load();
    ASSERT_TRUE(state);
    EXPECT_TRUE(state->shares.empty());
    EXPECT_FALSE(state->damages.empty());
  }
}

TEST_F(AttachmentStoreTest, HostStateIsKeptAndADamagedOneIsReported) {
  const HostState host{.up = true, .next_generation = 3, .since = WallTime(std::chrono::seconds(1000))};
  {
    AttachmentStore store(directory());
    EXPECT_FALSE(store.load()->host);
    ASSERT_TRUE(store.commit(host));
  }
  EXPECT_EQ(AttachmentStore(directory()).load()->host, host);
  overwrite(state_path() + "/host", "garbage");
  AttachmentStore store(directory());
  const Result<StoredState> state = store.load();
  EXPECT_FALSE(state->host);
  EXPECT_EQ(state->damages.size(), 1U);
}

/// A child that does `work`, of which the parent sees every system call.
class TracedChild {
 public:
  explicit TracedChild(const std::function<void()>& work) : pid_(::fork()) {
    if (pid_ == 0) {
      ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      ::raise(SIGSTOP);
      work();
      ::_exit(0);
    }
    int status = 0;
    traced_ = ::waitpid(pid_, &status, 0) == pid_ && WIFSTOPPED(status) &&
              ::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0;
  }
  ~TracedChild() {
    if (running_) kill();
  }
  TracedChild(const TracedChild&) = delete;
  TracedChild& operator=(const TracedChild&) = delete;

  [[nodiscard]] bool is_traced() const noexcept { return traced_; }
  /// Runs to the beginning or the end of the next system call: its number; nothing when the child has ended.
  std::optional<long> step() {
    for (;;) {
      if (::ptrace(PTRACE_SYSCALL, pid_, nullptr, nullptr) != 0) return std::nullopt;
      int status = 0;
      if (::waitpid(pid_, &status, 0) != pid_ || !WIFSTOPPED(status)) {
        running_ = false;
        return std::nullopt;
      }
      if (WSTOPSIG(status) != (SIGTRAP | 0x80)) continue;
      __ptrace_syscall_info call{};
      ::ptrace(PTRACE_GET_SYSCALL_INFO, pid_, sizeof call, &call);
      is_entry_ = call.op == PTRACE_SYSCALL_INFO_ENTRY;
      if (is_entry_) return call_ = static_cast<long>(call.entry.nr);
      if (changes_disk(call_)) ++changes_;
      return -1;
    }
  }
  /// How many calls have ended that may have changed what is on the disk. They are always the same, while memory is
  /// asked for now and then.
  [[nodiscard]] int changes() const noexcept { return changes_; }
  void kill() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    running_ = false;
  }

 private:
  static bool changes_disk(long call) noexcept {
    constexpr std::array kChanges{SYS_openat, SYS_mkdirat,   SYS_write,     SYS_pwrite64, SYS_writev,    SYS_fallocate,
                                  SYS_fsync,  SYS_fdatasync, SYS_ftruncate, SYS_renameat, SYS_renameat2, SYS_unlinkat};
    return std::find(kChanges.begin(), kChanges.end(), call) != kChanges.end();
  }

  pid_t pid_;
  long call_ = -1;
  int changes_ = 0;
  bool traced_ = false;
  bool running_ = true;
  bool is_entry_ = false;
};

class AttachmentStoreKillTest : public AttachmentStoreTest {
 protected:
  /// Kills a child that does `change` at each beginning and end of its system calls, in turn, and after each looks
  /// whether what a next berth finds is `before` or `after`.
  void kill_everywhere(const std::function<void(AttachmentStore&)>& prepare,
                       const std::function<void(AttachmentStore&)>& change, const Attachments& before,
                       const Attachments& after) {
    constexpr int kNever = std::numeric_limits<int>::max();
    int after_since = kNever;  ///< TracedChild::changes()
    for (int steps = 1;; ++steps) {
      fs::remove_all(root_ + "/state");
      {
        AttachmentStore store(directory());
        ASSERT_TRUE(store.load());
        prepare(store);
      }
      TracedChild child([&] {
        AttachmentStore store(directory());
        (void)store.load();
        change(store);
      });
      if (!child.is_traced()) GTEST_SKIP() << "ptrace(2) is not allowed here";
      bool ended = false;
      for (int i = 0; i < steps && !ended; ++i) ended = !child.step();
      if (ended) {
        EXPECT_GT(steps, 20) << "the steps were seen";
        EXPECT_NE(after_since, kNever);
        return;
      }
      child.kill();
      const Attachments found = kept();
      EXPECT_TRUE(found == before || found == after) << "killed at step " << steps;
      EXPECT_TRUE(child.changes() < after_since || found == after) << "what was there once stays: step " << steps;
      if (found == after) after_since = std::min(after_since, child.changes());
      AttachmentStore store(directory());
      ASSERT_TRUE(store.load());
      EXPECT_EQ(commit(store, "next", true), 0) << "and the next berth goes on: step " << steps;
    }
  }
};

TEST_F(AttachmentStoreKillTest, FirstAttachment) {
  kill_everywhere([](AttachmentStore&) {}, [](AttachmentStore& store) { commit(store, "a", true); }, {}, {{"vm", "a"}});
}

TEST_F(AttachmentStoreKillTest, FurtherAttachment) {
  kill_everywhere([](AttachmentStore& store) { commit(store, "a", true); },
                  [](AttachmentStore& store) { commit(store, "b", true); }, {{"vm", "a"}}, {{"vm", "a"}, {"vm", "b"}});
}

TEST_F(AttachmentStoreKillTest, Detachment) {
  kill_everywhere(
      [](AttachmentStore& store) {
        commit(store, "a", true);
        commit(store, "b", true);
      },
      [](AttachmentStore& store) { commit(store, "a", false); }, {{"vm", "a"}, {"vm", "b"}}, {{"vm", "b"}});
}

TEST_F(AttachmentStoreKillTest, LastDetachment) {
  kill_everywhere([](AttachmentStore& store) { commit(store, "a", true); },
                  [](AttachmentStore& store) { commit(store, "a", false); }, {{"vm", "a"}}, {});
}

TEST_F(AttachmentStoreKillTest, WritingAnewWhatIsMostlyHistory) {
  std::string history = state_format::header("/volumes", "media") + state_format::line(true, {"vm", "a"});
  for (int i = 0; i < 600; ++i) {
    history += state_format::line(true, {"vm", "b"}) + state_format::line(false, {"vm", "b"});
  }
  kill_everywhere([&](AttachmentStore&) { overwrite(file_of("media"), history); },
                  [](AttachmentStore& store) { commit(store, "c", true); }, {{"vm", "a"}}, {{"vm", "a"}, {"vm", "c"}});
  EXPECT_LT(fs::file_size(file_of("media")), history.size() / 2);
}

/// The calls by which something gets to the disk, or is told apart from what was there, in their order.
std::vector<std::string> disk_calls(TracedChild& child) {
  std::vector<std::string> calls;
  while (const std::optional<long> number = child.step()) {
    if (*number == SYS_fsync) calls.emplace_back("fsync");
    if (*number == SYS_fdatasync) calls.emplace_back("fdatasync");
    if (*number == SYS_renameat || *number == SYS_renameat2) calls.emplace_back("rename");
    if (*number == SYS_unlinkat) calls.emplace_back("unlink");
    if (*number == SYS_write) calls.emplace_back("write");
  }
  return calls;
}

TEST_F(AttachmentStoreKillTest, FileAndDirectoryAreOnDiskBeforeItReturns) {
  using Calls = std::vector<std::string>;
  const auto calls_of = [&](bool attached, const std::string& volume) {
    TracedChild child([&] {
      AttachmentStore store(directory());
      (void)store.load();
      commit(store, volume, attached);
    });
    EXPECT_TRUE(child.is_traced());
    return disk_calls(child);
  };
  ASSERT_TRUE(directory().open());  // the directory itself is there
  EXPECT_EQ(calls_of(true, "a"), (Calls{"write", "fsync", "rename", "fsync"}));
  EXPECT_EQ(calls_of(true, "b"), (Calls{"write", "fdatasync"}));
  EXPECT_EQ(calls_of(false, "a"), (Calls{"write", "fdatasync"}));
  EXPECT_EQ(calls_of(false, "b"), (Calls{"unlink", "fsync"}));
}

}  // namespace
}  // namespace berth::manager
