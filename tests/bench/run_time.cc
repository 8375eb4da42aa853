// Runs commands one after another and tells how long each ran.
//
//   run_time [COPIES] < LIST
//
// Standard input has one command a line, its words separated by single spaces. So many copies of it (1) run at once;
// '#' in it stands for the number of the copy. Standard output has one number of nanoseconds for each line, from
// posix_spawn(3) to the end of the last copy. What a command prints is thrown away.

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

pid_t start(std::vector<std::string> words, const std::string& copy) {
  std::vector<char*> argv;
  for (std::string& word : words) {
    for (auto at = word.find('#'); at != std::string::npos; at = word.find('#')) word.replace(at, 1, copy);
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, argv[0], &files, nullptr, argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  return error == 0 ? pid : -1;
}

bool run(const std::vector<std::string>& words, int copies) {
  std::vector<pid_t> started;
  for (int copy = 0; copy < copies; ++copy) started.push_back(start(words, std::to_string(copy)));
  bool good = true;
  for (const pid_t pid : started) {
    int status = 0;
    good = pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0 && good;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const int copies = argc > 1 ? std::atoi(argv[1]) : 1;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    const std::int64_t begin = berth::bench::nanoseconds_now();
    if (words.empty() || !run(words, copies)) {
      std::fprintf(stderr, "failed: %s\n", line.c_str());
      return EXIT_FAILURE;
    }
    std::printf("%lld\n", static_cast<long long>(berth::bench::nanoseconds_now() - begin));
  }
}
