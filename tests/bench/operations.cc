// Compares single operations in several directories that show the same files.
//
//   operations SOURCE BATCHES ROOT...
//
// SOURCE is an empty directory, and each ROOT shows it through one file system. Works in turns, a batch of each
// operation in each ROOT, beginning with another ROOT every time, and prints a line for each turn:
// "OPERATION INDEX-OF-ROOT NANOSECONDS-PER-OPERATION".

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "tests/bench/timing.h"

namespace {

using berth::bench::nanoseconds_now;

constexpr int kNames = 200;    // looked up in a batch, and listed by readdir
constexpr int kRepeats = 200;  // of open-read-close and of create-unlink in a batch
constexpr int kListings = 10;  // of a directory in a batch

void demand(bool condition, const char* what, const std::string& path) {
  if (condition) return;
  std::fprintf(stderr, "%s %s: %s\n", what, path.c_str(), std::strerror(errno));
  std::exit(EXIT_FAILURE);
}

void make_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  demand(fd >= 0, "create", path);
  const std::string content(4096, 'x');
  demand(::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()), "write", path);
  ::close(fd);
}

void make_directory_of_files(const std::string& path) {
  demand(::mkdir(path.c_str(), 0755) == 0, "mkdir", path);
  for (int i = 0; i < kNames; ++i) make_file(path + "/" + std::to_string(i));
}

// Each returns how many operations it was.
int stat_names(const std::string& directory) {
  for (int i = 0; i < kNames; ++i) {
    struct stat attributes {};
    const std::string path = directory + "/" + std::to_string(i);
    demand(::lstat(path.c_str(), &attributes) == 0, "lstat", path);
  }
  return kNames;
}

int open_read_close(const std::string& path) {
  for (int i = 0; i < kRepeats; ++i) {
    char bytes[4096];
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    demand(fd >= 0, "open", path);
    demand(::read(fd, bytes, sizeof bytes) == sizeof bytes, "read", path);
    ::close(fd);
  }
  return kRepeats;
}

int create_unlink(const std::string& path) {
  for (int i = 0; i < kRepeats; ++i) {
    const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    demand(fd >= 0, "create", path);
    ::close(fd);
    demand(::unlink(path.c_str()) == 0, "unlink", path);
  }
  return kRepeats;
}

int list(const std::string& path) {
  for (int i = 0; i < kListings; ++i) {
    DIR* directory = ::opendir(path.c_str());
    demand(directory != nullptr, "opendir", path);
    int entries = 0;
    while (::readdir(directory) != nullptr) ++entries;
    demand(entries == kNames + 2, "readdir", path);
    ::closedir(directory);
  }
  return kListings;
}

struct Operation {
  const char* name;
  const char* where;  // below the root; '#' stands for the number of the batch
  int (*run)(const std::string& path);
};

// Names that no file system was asked for before are looked up in a directory that is new in each batch.
constexpr Operation kOperations[] = {
    {"lookup", "names-#", stat_names},
    {"open-read-close", "files/0", open_read_close},
    {"create-unlink", "files/new", create_unlink},
    {"readdir", "files", list},
};

std::string in(const std::string& root, std::string where, int batch) {
  if (const auto at = where.find('#'); at != std::string::npos) where.replace(at, 1, std::to_string(batch));
  return root + "/" + where;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fputs("usage: operations SOURCE BATCHES ROOT...\n", stderr);
    return EXIT_FAILURE;
  }
  const std::string source = argv[1];
  const int batches = std::atoi(argv[2]);
  const std::vector<std::string> roots(argv + 3, argv + argc);
  make_directory_of_files(source + "/files");
  for (int batch = 0; batch < batches; ++batch) {
    make_directory_of_files(in(source, "names-#", batch));
    for (const Operation& operation : kOperations) {
      for (std::size_t turn = 0; turn < roots.size(); ++turn) {
        const std::size_t index = (turn + static_cast<std::size_t>(batch)) % roots.size();
        const std::string path = in(roots[index], operation.where, batch);
        struct stat attributes {};
        ::lstat(path.substr(0, path.rfind('/')).c_str(),
                &attributes);  // the way there is known before the clock starts
        const std::int64_t begin = nanoseconds_now();
        const int count = operation.run(path);
        const std::int64_t took = nanoseconds_now() - begin;
        std::printf("%s %zu %lld\n", operation.name, index, static_cast<long long>(took / count));
      }
    }
  }
}
