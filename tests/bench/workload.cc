// Works in one directory with some threads at once, and tells how long that took.
//
//   workload prepare THREADS DIRECTORY            makes the files that the workloads use, below DIRECTORY
//   workload NAME THREADS MILLISECONDS DIRECTORY  works for about that long
//
// Prints a line for each thing that was measured: "NAME OPERATIONS NANOSECONDS", where the time is from the moment at
// which all threads begin to the end of the last one. Each thread has its own subdirectory, so what is measured is the
// file system and not a lock of one directory.

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/bench/timing.h"

namespace {

using berth::bench::nanoseconds_now;

constexpr std::size_t kPage = 4096;
constexpr std::size_t kDataSize = std::size_t{32} << 20U;  // of the one large file of a thread
constexpr int kSmallFiles = 250;                           // of kPage bytes each, of a thread
constexpr int kColdFiles = 1000;                           // that nothing but "stat-cold" touches, of a thread
constexpr int kNamesAtOnce = 250;                          // made, renamed and removed in turn

void demand(bool condition, const char* what, const std::string& path) {
  if (condition) return;
  std::fprintf(stderr, "%s %s: %s\n", what, path.c_str(), std::strerror(errno));
  std::exit(EXIT_FAILURE);
}

/// A descriptor of a file that must open.
class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    demand(fd_ >= 0, "open", path);
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  void write(const std::vector<char>& bytes, std::size_t offset) const {
    const ssize_t done = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    demand(done == static_cast<ssize_t>(bytes.size()), "write", "to a file");
  }
  void read(std::vector<char>& bytes, std::size_t offset) const {
    const ssize_t done = ::pread(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    demand(done == static_cast<ssize_t>(bytes.size()), "read", "from a file");
  }

 private:
  const int fd_;
};

/// Ends the loop of a thread. The clock is asked for every few operations only.
class Deadline {
 public:
  explicit Deadline(std::int64_t nanoseconds) : until_(nanoseconds_now() + nanoseconds) {}
  [[nodiscard]] bool passed(std::int64_t operations) const {
    return operations % 16 == 0 && nanoseconds_now() > until_;
  }

 private:
  const std::int64_t until_;
};

/// Where one thread works, and for how long.
struct Task {
  std::string directory;
  unsigned number;
  std::int64_t nanoseconds;

  [[nodiscard]] std::string small(int file) const { return directory + "/small/" + std::to_string(file); }
  [[nodiscard]] std::string data() const { return directory + "/data"; }
};

struct Measured {
  std::int64_t operations = 0;
  std::int64_t nanoseconds = 0;

  Measured& operator+=(const Measured& other) noexcept {
    operations += other.operations;
    nanoseconds += other.nanoseconds;
    return *this;
  }
};

/// The work of one thread in two steps: what comes before the clock starts, and what is measured, which answers how
/// many operations it was.
struct Work {
  std::function<void(const Task&)> warm_up;
  std::function<std::int64_t(const Task&)> run;
};

Measured measure(const std::vector<Task>& tasks, const Work& work) {
  std::vector<std::int64_t> ended(tasks.size());
  std::vector<std::int64_t> operations(tasks.size());
  std::int64_t begin = 0;
  std::barrier start(static_cast<std::ptrdiff_t>(tasks.size()), [&begin]() noexcept { begin = nanoseconds_now(); });
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    threads.emplace_back([&, i] {
      if (work.warm_up) work.warm_up(tasks[i]);
      start.arrive_and_wait();
      operations[i] = work.run(tasks[i]);
      ended[i] = nanoseconds_now();
    });
  }
  for (std::thread& thread : threads) thread.join();
  Measured all{0, *std::max_element(ended.begin(), ended.end()) - begin};
  for (const std::int64_t count : operations) all.operations += count;
  return all;
}

// File data. The file is in the page cache, of which the warm-up makes sure.

void read_all(const Task& task) {
  const File file(task.data(), O_RDONLY);
  std::vector<char> bytes(std::size_t{1} << 20U);
  for (std::size_t offset = 0; offset < kDataSize; offset += bytes.size()) file.read(bytes, offset);
}

std::int64_t transfer(const Task& task, std::size_t size, bool random, bool writes) {
  const File file(task.data(), writes ? O_WRONLY : O_RDONLY);
  std::vector<char> bytes(size, 'x');
  std::minstd_rand numbers(task.number + 1);
  const std::size_t places = kDataSize / size;
  const Deadline deadline(task.nanoseconds);
  std::int64_t count = 0;
  for (; !deadline.passed(count); ++count) {
    const std::size_t offset = (random ? numbers() : static_cast<std::size_t>(count)) % places * size;
    writes ? file.write(bytes, offset) : file.read(bytes, offset);
  }
  return count;
}

Work transfers(std::size_t size, bool random, bool writes) {
  return {read_all, [=](const Task& task) { return transfer(task, size, random, writes); }};
}

std::int64_t touch_mapped_pages(const Task& task) {
  const File file(task.data(), O_RDWR);
  const Deadline deadline(task.nanoseconds);
  std::int64_t count = 0;
  while (!deadline.passed(count)) {
    void* const memory = ::mmap(nullptr, kDataSize, PROT_READ, MAP_SHARED, file.fd(), 0);
    demand(memory != MAP_FAILED, "mmap", task.data());
    const auto* const bytes = static_cast<const volatile char*>(memory);
    for (std::size_t offset = 0; offset < kDataSize; offset += kPage) static_cast<void>(bytes[offset]);
    ::munmap(memory, kDataSize);
    count += static_cast<std::int64_t>(kDataSize / kPage);
  }
  return count;
}

// Names and attributes.

void stat(const std::string& path) {
  struct stat attributes {};
  demand(::lstat(path.c_str(), &attributes) == 0, "lstat", path);
}

void stat_small_files(const Task& task) {
  for (int i = 0; i < kSmallFiles; ++i) stat(task.small(i));
}

void open_read_close(const std::string& path) {
  static thread_local std::vector<char> bytes(kPage);
  const File file(path, O_RDONLY);
  file.read(bytes, 0);
}

/// `operation(path)` for the small files, one after another and again.
Work for_small_files(void (*operation)(const std::string&)) {
  const auto once = [operation](const Task& task) {
    for (int i = 0; i < kSmallFiles; ++i) operation(task.small(i));
  };
  return {once, [operation](const Task& task) {
            const Deadline deadline(task.nanoseconds);
            std::int64_t count = 0;
            for (; !deadline.passed(count); ++count) operation(task.small(static_cast<int>(count % kSmallFiles)));
            return count;
          }};
}

/// One entry is one operation.
std::int64_t list_with_attributes(const Task& task) {
  const std::string path = task.directory + "/small";
  DIR* const directory = ::opendir(path.c_str());
  demand(directory != nullptr, "opendir", path);
  std::int64_t entries = 0;
  while (const dirent* const entry = ::readdir(directory)) {
    struct stat attributes {};
    demand(::fstatat(::dirfd(directory), entry->d_name, &attributes, AT_SYMLINK_NOFOLLOW) == 0, "stat", entry->d_name);
    ++entries;
  }
  ::closedir(directory);
  demand(entries == kSmallFiles + 2, "listing", path);
  return entries;
}

std::int64_t list_again_and_again(const Task& task) {
  const Deadline deadline(task.nanoseconds);
  std::int64_t entries = 0;
  do {
    entries += list_with_attributes(task);
  } while (!deadline.passed(0));
  return entries;
}

std::int64_t stat_cold_files(const Task& task) {
  for (int i = 0; i < kColdFiles; ++i) stat(task.directory + "/cold/" + std::to_string(i));
  return kColdFiles;
}

std::int64_t for_new_names(const Task& task, void (*operation)(const std::string&)) {
  for (int i = 0; i < kNamesAtOnce; ++i) operation(task.directory + "/names/" + std::to_string(i));
  return kNamesAtOnce;
}

void create(const std::string& path) { const File file(path, O_CREAT | O_EXCL | O_WRONLY); }
void rename(const std::string& path) { demand(::rename(path.c_str(), (path + ".new").c_str()) == 0, "rename", path); }
void unlink(const std::string& path) { demand(::unlink((path + ".new").c_str()) == 0, "unlink", path); }

void print(std::string_view name, const Measured& measured) {
  std::printf("%.*s %lld %lld\n", static_cast<int>(name.size()), name.data(),
              static_cast<long long>(measured.operations), static_cast<long long>(measured.nanoseconds));
}

/// Makes, renames and removes a few files at a time, so that the kernel still has their names cached.
void measure_names(const std::vector<Task>& tasks) {
  const struct {
    const char* name;
    void (*operation)(const std::string&);
  } kinds[] = {{"create", create}, {"rename", rename}, {"unlink", unlink}};
  Measured sums[std::size(kinds)];
  const Deadline deadline(tasks.front().nanoseconds);
  do {
    for (std::size_t kind = 0; kind < std::size(kinds); ++kind) {
      const auto stat_parent = [](const Task& task) { stat(task.directory + "/names"); };
      const auto run = [&](const Task& task) { return for_new_names(task, kinds[kind].operation); };
      sums[kind] += measure(tasks, {stat_parent, run});
    }
  } while (!deadline.passed(0));
  for (std::size_t kind = 0; kind < std::size(kinds); ++kind) print(kinds[kind].name, sums[kind]);
}

void make_file(const std::string& path, std::size_t size) {
  const File file(path, O_CREAT | O_EXCL | O_WRONLY);
  const std::vector<char> bytes(std::min(size, std::size_t{1} << 20U), 'x');
  for (std::size_t offset = 0; offset < size; offset += bytes.size()) file.write(bytes, offset);
}

void make_files(const std::string& directory, int count, std::size_t size) {
  demand(::mkdir(directory.c_str(), 0755) == 0, "mkdir", directory);
  for (int i = 0; i < count; ++i) make_file(directory + "/" + std::to_string(i), size);
}

void prepare(const std::vector<Task>& tasks) {
  for (const Task& task : tasks) {
    demand(::mkdir(task.directory.c_str(), 0755) == 0, "mkdir", task.directory);
    make_file(task.data(), kDataSize);
    make_files(task.directory + "/small", kSmallFiles, kPage);
    make_files(task.directory + "/cold", kColdFiles, 0);
    make_files(task.directory + "/names", 0, 0);
  }
}

const struct {
  const char* name;
  Work work;
} kWorkloads[] = {
    {"read-4k-random", transfers(kPage, true, false)},
    {"write-4k-random", transfers(kPage, true, true)},
    {"read-128k", transfers(std::size_t{128} << 10U, false, false)},
    {"write-128k", transfers(std::size_t{128} << 10U, false, true)},
    {"read-1M", transfers(std::size_t{1} << 20U, false, false)},
    {"write-1M", transfers(std::size_t{1} << 20U, false, true)},
    {"mmap", {read_all, touch_mapped_pages}},
    {"stat-warm", for_small_files(stat)},
    {"stat-cold", {[](const Task& task) { stat(task.directory); }, stat_cold_files}},
    {"open-read-close", for_small_files(open_read_close)},
    {"readdir-stat", {stat_small_files, list_again_and_again}},
};

bool measure_workload(std::string_view name, const std::vector<Task>& tasks) {
  if (name == "names") {
    measure_names(tasks);
    return true;
  }
  for (const auto& workload : kWorkloads) {
    if (name != workload.name) continue;
    print(name, measure(tasks, workload.work));
    return true;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  const bool prepares = name == "prepare";
  if (argc != (prepares ? 4 : 5)) {
    std::fputs("usage: workload prepare THREADS DIRECTORY | workload NAME THREADS MILLISECONDS DIRECTORY\n", stderr);
    return EXIT_FAILURE;
  }
  std::vector<Task> tasks;
  for (unsigned i = 0; i < static_cast<unsigned>(std::atoi(argv[2])); ++i) {
    const std::int64_t nanoseconds = prepares ? 0 : std::atoll(argv[3]) * 1'000'000;
    tasks.push_back({std::string(argv[argc - 1]) + "/t" + std::to_string(i), i, nanoseconds});
  }
  if (prepares) {
    prepare(tasks);
    return EXIT_SUCCESS;
  }
  if (measure_workload(name, tasks)) return EXIT_SUCCESS;
  std::fprintf(stderr, "no workload \"%s\"\n", argv[1]);
  return EXIT_FAILURE;
}
