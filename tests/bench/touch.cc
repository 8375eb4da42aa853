// Opens, reads and closes files, and tells how long each took.
//
//   touch one-by-one < LIST          one after another, in the order of the list
//   touch at-once < LIST             all at the same instant, each on a thread of its own
//   touch one-by-one write < LIST opens for writing, making it where it is not there, writes and closes; "at-once"
//   likewise
//
// Standard input has one path a line. Standard output has one number of nanoseconds for each, in the same order; for
// "at-once" counted from the starting shot, so that the greatest is the time for all of them.

#include <fcntl.h>
#include <unistd.h>

#include <barrier>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/bench/timing.h"

namespace {

using berth::bench::nanoseconds_now;

bool writes = false;

void touch(const std::string& path) {
  char bytes[64] = "hello";
  const int fd = ::open(path.c_str(), (writes ? O_WRONLY | O_CREAT : O_RDONLY) | O_CLOEXEC, 0644);
  if (fd < 0 || (writes ? ::write(fd, bytes, sizeof bytes) : ::read(fd, bytes, sizeof bytes)) <= 0) {
    std::fprintf(stderr, "%s: %s\n", path.c_str(), std::strerror(errno));
    std::exit(EXIT_FAILURE);
  }
  ::close(fd);
}

std::vector<std::int64_t> touch_one_by_one(const std::vector<std::string>& paths) {
  std::vector<std::int64_t> took;
  took.reserve(paths.size());
  for (const std::string& path : paths) {
    const std::int64_t begin = nanoseconds_now();
    touch(path);
    took.push_back(nanoseconds_now() - begin);
  }
  return took;
}

std::vector<std::int64_t> touch_at_once(const std::vector<std::string>& paths) {
  std::vector<std::int64_t> ended(paths.size());
  std::int64_t begin = 0;
  std::barrier start(static_cast<std::ptrdiff_t>(paths.size()), [&begin]() noexcept { begin = nanoseconds_now(); });
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      touch(paths[i]);
      ended[i] = nanoseconds_now();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::int64_t& end : ended) end -= begin;
  return ended;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view mode = argc == 2 || argc == 3 ? argv[1] : "";
  writes = argc == 3 && argv[2] == std::string_view("write");
  if ((mode != "one-by-one" && mode != "at-once") || (argc == 3 && !writes)) {
    std::fputs("usage: touch one-by-one|at-once [write] < LIST\n", stderr);
    return EXIT_FAILURE;
  }
  std::vector<std::string> paths;
  for (std::string line; std::getline(std::cin, line);) paths.push_back(line);
  for (const std::int64_t took : mode == "at-once" ? touch_at_once(paths) : touch_one_by_one(paths)) {
    std::printf("%lld\n", static_cast<long long>(took));
  }
}
