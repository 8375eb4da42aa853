// The server dies (kill -9), and what programs hold survives: files, directories, locks, attachments.
#include "tests/mount/takeover.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace berth::test {
namespace {

namespace fs = std::filesystem;

UniqueFd open_file(const std::string& path, int flags) {
  return UniqueFd(::open(path.c_str(), flags | O_CLOEXEC, 0644));
}

std::string read_some(int fd, std::size_t size) {
  std::string text(size, '\0');
  const ssize_t count = ::read(fd, text.data(), size);
  if (count < 0) return errno_name(errno);
  text.resize(static_cast<std::size_t>(count));
  return text;
}

/// On files that are backing files, and on those that are read and written through berth.
class TakeoverOfFiles : public TakeoverTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void start_kind() { std::string_view(GetParam()) == "overlay" ? start_overlay() : start(); }
};

TEST_P(TakeoverOfFiles, OpenFileIsReadAndWrittenOn) {
  ASSERT_NO_FATAL_FAILURE(start_kind());
  const UniqueFd file = open_file(in("hello"), O_RDWR);
  ASSERT_TRUE(file);
  EXPECT_EQ(read_some(file.get(), 2), "he");
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(read_some(file.get(), 10), "llo") << "where it was";
  EXPECT_EQ(::write(file.get(), " you", 4), 4) << errno_name(errno);
  EXPECT_EQ(::ftruncate(file.get(), 8), 0) << errno_name(errno);
  EXPECT_EQ(::fsync(file.get()), 0) << errno_name(errno);
  EXPECT_EQ(server_.read_file("memory/source/hello").value_or(""), "hello yo");
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello yo");
}

TEST_P(TakeoverOfFiles, OpenFileGoesOnOverManyDeaths) {
  ASSERT_NO_FATAL_FAILURE(start_kind());
  const UniqueFd file = open_file(in("log"), O_CREAT | O_RDWR | O_APPEND);
  ASSERT_TRUE(file);
  std::string expected;
  for (int i = 0; i < 5; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    EXPECT_EQ(::write(file.get(), line.data(), line.size()), static_cast<ssize_t>(line.size())) << errno_name(errno);
    expected += line;
    ASSERT_NO_FATAL_FAILURE(kill_server());
  }
  EXPECT_EQ(server_.read_file("memory/source/log").value_or(""), expected);
}

TEST_P(TakeoverOfFiles, MappedFileIsReadAndWrittenOn) {
  constexpr std::size_t kSize = 1 << 20;
  ASSERT_NO_FATAL_FAILURE(start_kind());
  ASSERT_TRUE(ok(server_.write_file("memory/source/large", std::string(kSize, 'a'))));
  const UniqueFd file = open_file(in("large"), O_RDWR);
  ASSERT_TRUE(file);
  void* const map = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  ASSERT_NE(map, MAP_FAILED) << errno_name(errno);
  char* const bytes = static_cast<char*>(map);
  bytes[0] = 'b';  // not written back yet when the server dies
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(bytes[kSize - 1], 'a') << "a page that was never read before";
  bytes[kSize - 1] = 'c';
  EXPECT_EQ(::msync(map, kSize, MS_SYNC), 0) << errno_name(errno);
  ASSERT_EQ(::munmap(map, kSize), 0);
  const std::string there = server_.read_file("memory/source/large").value_or("");
  ASSERT_EQ(there.size(), kSize);
  EXPECT_EQ(there.front(), 'b');
  EXPECT_EQ(there.back(), 'c');
}

TEST_P(TakeoverOfFiles, RemovedFileThatIsOpenLivesOn) {
  ASSERT_NO_FATAL_FAILURE(start_kind());
  const UniqueFd file = open_file(in("hello"), O_RDWR);
  ASSERT_TRUE(file);
  ASSERT_EQ(::unlink(in("hello").c_str()), 0);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  struct stat attributes {};
  ASSERT_EQ(::fstat(file.get(), &attributes), 0) << errno_name(errno);
  EXPECT_EQ(attributes.st_nlink, 0U);
  EXPECT_EQ(read_some(file.get(), 10), "hello");
  EXPECT_EQ(::pwrite(file.get(), "H", 1, 0), 1) << errno_name(errno);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
  EXPECT_EQ(read_some(file.get(), 10), "Hello");
  EXPECT_NE(::access(in("hello").c_str(), F_OK), 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, TakeoverOfFiles, ::testing::Values("bind", "overlay"),
                         [](const auto& chosen) { return std::string(chosen.param); });

/// The names that are left in an open listing.
std::vector<std::string> rest_of(DIR* listing) {
  std::vector<std::string> names;
  while (const dirent* const entry = ::readdir(listing)) names.emplace_back(entry->d_name);
  return names;
}

TEST_F(TakeoverTest, ListingGoesOnWhereItWas) {
  constexpr std::size_t kFiles = 5000;
  server_.make_directory("memory/source/many");
  for (std::size_t i = 0; i < kFiles; ++i) {
    ASSERT_TRUE(ok(server_.write_file("memory/source/many/file-" + std::to_string(i), "")));
  }
  ASSERT_NO_FATAL_FAILURE(start());
  DIR* const listing = ::opendir(in("many").c_str());
  ASSERT_NE(listing, nullptr);
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kFiles / 2; ++i) {
    const dirent* const entry = ::readdir(listing);
    ASSERT_NE(entry, nullptr);
    names.emplace_back(entry->d_name);
  }
  const long place = ::telldir(listing);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  const std::vector<std::string> rest = rest_of(listing);
  names.insert(names.end(), rest.begin(), rest.end());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end()) << "a name twice";
  EXPECT_EQ(names.size(), kFiles + 2);
  ::seekdir(listing, place);
  EXPECT_EQ(rest_of(listing), rest) << "a place of before";
  ::rewinddir(listing);
  EXPECT_EQ(rest_of(listing).size(), kFiles + 2);
  ::closedir(listing);
}

TEST_F(TakeoverTest, WorkingDirectoryAndPlacesWithoutAccessStay) {
  server_.make_directory("memory/source/deep/deeper");
  ASSERT_TRUE(ok(server_.write_file("memory/source/deep/deeper/file", "file")));
  ASSERT_NO_FATAL_FAILURE(start());
  const UniqueFd directory = open_file(in("deep"), O_PATH | O_DIRECTORY);
  const UniqueFd place = open_file(in("deep/deeper/file"), O_PATH);
  ASSERT_TRUE(directory && place);
  ASSERT_EQ(::chdir(in("deep/deeper").c_str()), 0);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  const UniqueFd file = open_file("file", O_RDONLY);
  EXPECT_TRUE(file) << errno_name(errno);
  EXPECT_EQ(::access("../deeper/file", R_OK), 0) << errno_name(errno);
  std::array<char, 4096> name{};
  EXPECT_EQ(::getcwd(name.data(), name.size()), in("deep/deeper"));
  const UniqueFd made(::openat(directory.get(), "new", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
  EXPECT_TRUE(made) << errno_name(errno);
  struct stat by_place {};
  struct stat by_name {};
  EXPECT_EQ(::fstat(place.get(), &by_place), 0) << errno_name(errno);
  EXPECT_EQ(::stat("file", &by_name), 0);
  EXPECT_EQ(by_place.st_ino, by_name.st_ino);
  ASSERT_EQ(::chdir("/"), 0);
  EXPECT_EQ(::access((source_ + "/deep/new").c_str(), F_OK), 0);
}

TEST_F(TakeoverTest, FileNumbersStay) {
  ASSERT_NO_FATAL_FAILURE(start());
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(::stat(in("hello").c_str(), &before), 0);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  ASSERT_EQ(::stat(in("hello").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(before.st_dev, after.st_dev);
}

TEST_F(TakeoverTest, LocksAreHeldOn) {
  ASSERT_NO_FATAL_FAILURE(start());
  const UniqueFd holder = open_file(in("hello"), O_RDWR);
  const UniqueFd other = open_file(in("hello"), O_RDWR);
  ASSERT_TRUE(holder && other);
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_start = 10;
  range.l_len = 10;
  ASSERT_EQ(::flock(holder.get(), LOCK_EX), 0);
  ASSERT_EQ(::fcntl(holder.get(), F_OFD_SETLK, &range), 0) << errno_name(errno);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_NE(::flock(other.get(), LOCK_EX | LOCK_NB), 0);
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_NE(::fcntl(other.get(), F_OFD_SETLK, &range), 0);
  EXPECT_EQ(errno, EAGAIN);
  ASSERT_EQ(::flock(holder.get(), LOCK_UN), 0);
  EXPECT_EQ(::flock(other.get(), LOCK_EX | LOCK_NB), 0) << errno_name(errno);
  range.l_type = F_UNLCK;
  ASSERT_EQ(::fcntl(holder.get(), F_OFD_SETLK, &range), 0) << errno_name(errno);
  range.l_type = F_WRLCK;
  EXPECT_EQ(::fcntl(other.get(), F_OFD_SETLK, &range), 0) << errno_name(errno);
}

TEST_F(TakeoverTest, AttachmentIsKept) {
  ASSERT_NO_FATAL_FAILURE(start("", "idle_timeout = \"100ms\"\n"));
  const std::string attachment = server_.in_namespace(".berth/shares/a/attachments/instance/volume");
  ASSERT_EQ(::system(("mkdir -p " + attachment).c_str()), 0);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(::access(attachment.c_str(), F_OK), 0) << errno_name(errno);
  EXPECT_EQ(server_.state("a"), "mounted");
  EXPECT_EQ(server_.read_json("shares/a/status.json").value("mounts", 0), 1);
  ASSERT_EQ(::rmdir(attachment.c_str()), 0) << errno_name(errno);
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
}

TEST_F(TakeoverTest, IdleShareIsUnmountedByTheNextServer) {
  ASSERT_NO_FATAL_FAILURE(start("idle_timeout = \"300ms\"\n"));
  const Footprint idle = server_.footprint();
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
  Footprint now = server_.footprint();
  EXPECT_EQ(now.mounts, idle.mounts);
  EXPECT_EQ(now.directories, idle.directories);
}

TEST_F(TakeoverTest, OpenFileHoldsItsShareOverADeathAndNoLonger) {
  ASSERT_NO_FATAL_FAILURE(start("idle_timeout = \"100ms\"\n"));
  UniqueFd file = open_file(in("hello"), O_RDONLY);
  ASSERT_TRUE(file);
  ASSERT_NO_FATAL_FAILURE(kill_server());
  EXPECT_FALSE(server_.write_control("shares/a/control", "unmount"));
  EXPECT_EQ(server_.state("a"), "mounted");
  file.reset();
  EXPECT_TRUE(server_.wait_for_state("a", "idle"));
}

TEST_F(TakeoverTest, NothingIsLostOfTwoHundredOpenFiles) {
  constexpr std::size_t kFiles = 200;
  server_.make_directory("memory/source/many");
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  ASSERT_NO_FATAL_FAILURE(kill_server());  // both counts are of a server that has succeeded another
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  const Footprint before = server_.footprint();
  std::vector<UniqueFd> files;
  for (std::size_t i = 0; i < kFiles; ++i) {
    files.push_back(open_file(in("many/" + std::to_string(i)), O_CREAT | O_RDWR));
    ASSERT_TRUE(files.back()) << errno_name(errno);
  }
  EXPECT_GE(server_.footprint().descriptors, before.descriptors + kFiles) << "the count can see them";
  ASSERT_NO_FATAL_FAILURE(kill_server());
  for (std::size_t i = 0; i < kFiles; ++i) {
    const std::string text = "this is " + std::to_string(i);
    ASSERT_EQ(::write(files[i].get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  files.clear();
  for (std::size_t i = 0; i < kFiles; ++i) {
    ASSERT_EQ(server_.read_file("memory/source/many/" + std::to_string(i)).value_or(""),
              "this is " + std::to_string(i));
  }
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverTest, NextServerFindsRoomForItsOwnDescriptors) {
  ASSERT_NO_FATAL_FAILURE(start());
  const rlimit low{320, 320};
  ASSERT_EQ(::prlimit(server_.pid(), RLIMIT_NOFILE, &low, nullptr), 0) << errno_name(errno);
  ASSERT_NO_FATAL_FAILURE(kill_server());  // the next one has it from the keeper
  std::vector<UniqueFd> files;
  do {
    files.push_back(open_file(in("file-" + std::to_string(files.size())), O_CREAT | O_RDWR));
  } while (files.back() && files.size() < low.rlim_cur);
  EXPECT_EQ(errno, ENFILE);
  files.pop_back();
  for (int i = 0; i < 3; ++i) {
    ASSERT_NO_FATAL_FAILURE(kill_server());
    for (const UniqueFd& file : files) ASSERT_EQ(::write(file.get(), "x", 1), 1) << errno_name(errno);
  }
  files.clear();  // the kernel sends each RELEASE after close(2) has returned
  EXPECT_TRUE(eventually([&] { return server_.read_file("namespace/a/file-0").has_value(); }));
  EXPECT_EQ(server_.read_file("namespace/a/file-0").value_or(""), "xxx");
}

std::vector<pid_t> threads_of(pid_t process) {
  std::vector<pid_t> threads;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(process) + "/task", error)) {
    threads.push_back(std::stoi(entry.path().filename()));
  }
  return threads;
}

bool is_worker(pid_t thread) {
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(thread) + "/comm"), name);
  return name == "berth-fuse";
}

/// Two processors: one that only some threads use, and which a process of the highest priority takes while it is
/// wanted.
class Processors {
 public:
  Processors() {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    if (::sched_getaffinity(0, sizeof usable, &usable) != 0 || CPU_COUNT(&usable) < 2) return;
    CPU_ZERO(&taken_);
    for (std::size_t cpu = CPU_SETSIZE; CPU_COUNT(&taken_) == 0; --cpu) {
      if (CPU_ISSET(cpu - 1, &usable)) CPU_SET(cpu - 1, &taken_);
    }
    CPU_XOR(&others_, &usable, &taken_);
  }
  [[nodiscard]] explicit operator bool() const { return CPU_COUNT(&taken_) == 1; }
  void use_taken(pid_t thread) const { use(thread, taken_); }
  void use_others(pid_t thread) const { use(thread, others_); }

  /// False: this process may not have such a priority.
  [[nodiscard]] bool take() {
    int ready[2];
    if (::pipe2(ready, O_CLOEXEC) != 0) return false;
    const UniqueFd read_end(ready[0]);
    UniqueFd write_end(ready[1]);
    hog_.emplace([&] {
      use_taken(0);
      const sched_param highest{.sched_priority = 1};
      if (::sched_setscheduler(0, SCHED_FIFO, &highest) != 0 || ::write(write_end.get(), "x", 1) != 1) return 1;
      for (std::atomic<unsigned> turns{0};;) ++turns;
    });
    write_end.reset();
    char byte = 0;
    return ::read(read_end.get(), &byte, 1) == 1;
  }
  void give_back() { hog_.reset(); }

 private:
  static void use(pid_t thread, const cpu_set_t& processors) {
    const sched_param none{};
    // A worker may have chosen another one.
    ::sched_setscheduler(thread, SCHED_OTHER, &none);
    EXPECT_EQ(::sched_setaffinity(thread, sizeof processors, &processors), 0) << errno_name(errno);
  }

  cpu_set_t taken_{};
  cpu_set_t others_{};
  std::optional<Doer> hog_;
};

// A killed thread that waits for a request takes one that is there by the time that it gets a processor.
TEST_F(TakeoverTest, RequestIsAnsweredThoughReadersOfTheDeadServerGetNoProcessor) {
  constexpr std::chrono::milliseconds kWithoutProcessor{500};
  Processors processors;
  if (!processors) GTEST_SKIP() << "needs two processors";
  ASSERT_NO_FATAL_FAILURE(start());
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  const pid_t before = server();
  // Workers leave their processors when there is nothing to do.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  for (const pid_t process : server_.processes()) {
    for (const pid_t thread : threads_of(process)) {
      process == before&& is_worker(thread) ? processors.use_taken(thread) : processors.use_others(thread);
    }
  }
  if (!processors.take()) GTEST_SKIP() << "no priority of its own here";
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  const auto until = std::chrono::steady_clock::now() + kWithoutProcessor;
  const auto has_successor = [this] { return server_.log().find("has taken over") != std::string::npos; };
  while (!has_successor() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  // The readers of the dead server are to come first.
  std::vector<pid_t> stopped;
  if (has_successor()) stopped = server_.processes();
  std::erase_if(stopped, [&](pid_t process) {
    const std::vector<pid_t> threads = threads_of(process);
    return process == before || std::none_of(threads.begin(), threads.end(), is_worker);
  });
  for (const pid_t process : stopped) EXPECT_EQ(::kill(process, SIGSTOP), 0);
  Doer caller([this] { return ::access(in("absent").c_str(), F_OK) == 0 ? 0 : errno; });
  EXPECT_TRUE(eventually([&] { return caller.waits(); }));
  processors.give_back();
  EXPECT_TRUE(eventually([&] { return threads_of(before).empty(); }));
  for (const pid_t process : stopped) EXPECT_EQ(::kill(process, SIGCONT), 0);
  EXPECT_EQ(errno_name(caller.result()), "ENOENT");
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A control group without memory: the kernel kills a process in it that needs any.
class GroupWithoutMemory {
 public:
  GroupWithoutMemory() {
    const fs::path second = "/sys/fs/cgroup";
    const fs::path first = second / "memory";
    std::string enabled;
    std::getline(std::ifstream(second / "cgroup.subtree_control"), enabled);
    const bool is_second = (" " + enabled + " ").find(" memory ") != std::string::npos;
    const fs::path directory = (is_second ? second : first) / ("berth-test-" + std::to_string(::getpid()));
    if (::mkdir(directory.c_str(), 0755) != 0) return;
    directory_ = directory;
    write(is_second ? "memory.max" : "memory.limit_in_bytes", "0");
  }
  ~GroupWithoutMemory() {
    EXPECT_TRUE(directory_.empty() || eventually([this] { return ::rmdir(directory_.c_str()) == 0; }));
  }
  GroupWithoutMemory(const GroupWithoutMemory&) = delete;
  GroupWithoutMemory& operator=(const GroupWithoutMemory&) = delete;

  [[nodiscard]] explicit operator bool() const noexcept { return !directory_.empty(); }
  void add(pid_t process) const { write("cgroup.procs", std::to_string(process)); }

 private:
  void write(const char* name, const std::string& text) const {
    EXPECT_TRUE(std::ofstream(directory_ / name) << text << std::flush) << name;
  }

  fs::path directory_;
};

TEST_F(TakeoverTest, ServerThatIsKilledForWantOfMemoryIsSucceeded) {
  const GroupWithoutMemory group;
  if (!group) GTEST_SKIP() << "no control group for memory can be made here: " << errno_name(errno);
  ASSERT_NO_FATAL_FAILURE(start_overlay());
  UniqueFd file = open_file(in("file"), O_RDWR | O_CREAT);
  ASSERT_TRUE(file);
  ASSERT_EQ(::write(file.get(), "before", 6), 6);
  const pid_t before = server();
  group.add(before);
  int made = 0;
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE(open_file(in("new-" + std::to_string(made)), O_RDWR | O_CREAT | O_EXCL)) << errno_name(errno);
    ++made;
    return HasFailure() || server() != before;
  }));
  EXPECT_NE(server_.log().find("killed by signal 9"), std::string::npos);
  EXPECT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
  EXPECT_EQ(read_some(file.get(), 10), "before");
  file.reset();
  for (int i = 0; i < made; ++i) EXPECT_EQ(::unlink(in("new-" + std::to_string(i)).c_str()), 0) << i;
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(TakeoverTest, NativeShareIsNotDisturbed) {
  const std::string other = server_.make_directory("memory/other");
  ASSERT_NO_FATAL_FAILURE(
      start("", "", "[share.n]\ntype = \"bind\"\naccess = \"native\"\nsource = \"" + other + "\"\n"));
  const auto is_native = [&] { return server_.read_json("shares/n/status.json").value("native", false); };
  ASSERT_TRUE(eventually([&] { return server_.write_file("namespace/n/file", "native").has_value() && is_native(); }));
  struct stat before {};
  struct stat after {};
  ASSERT_EQ(::stat(server_.in_namespace("n/file").c_str(), &before), 0);
  ASSERT_NO_FATAL_FAILURE(strike());
  // Whether or not the next server is there yet.
  ASSERT_EQ(::stat(server_.in_namespace("n/file").c_str(), &after), 0) << errno_name(errno);
  EXPECT_EQ(before.st_dev, after.st_dev);
  EXPECT_TRUE(ok(server_.write_file("namespace/n/file", "natively")));
  ASSERT_NO_FATAL_FAILURE(await_takeover());
  EXPECT_TRUE(is_native());
  // EBUSY until what the dead server had open is closed, which no caller waits for.
  ASSERT_TRUE(eventually([&] { return server_.write_control("shares/n/control", "unmount").has_value(); }));
  EXPECT_EQ(server_.state("n"), "idle");
  EXPECT_EQ(server_.read_file("namespace/n/file").value_or(""), "natively");
}

}  // namespace
}  // namespace berth::test
