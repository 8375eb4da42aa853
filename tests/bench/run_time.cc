// Runs commands one after another and tells how long each ran.
//
//   run_time < LIST
//
// Standard input has one command a line, its words separated by single spaces. Standard output has one number of
// nanoseconds for each, from posix_spawn(3) to the end of the command. What a command prints is thrown away.

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/bench/timing.h"

namespace {

bool run(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, argv[0], &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  int status = 0;
  return error == 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    const std::int64_t begin = berth::bench::nanoseconds_now();
    if (words.empty() || !run(words)) {
      std::fprintf(stderr, "failed: %s\n", line.c_str());
      return EXIT_FAILURE;
    }
    std::printf("%lld\n", static_cast<long long>(berth::bench::nanoseconds_now() - begin));
  }
}
