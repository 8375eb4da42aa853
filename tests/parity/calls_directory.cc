#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>

#include "src/lib/base/text.h"
#include "tests/parity/hand.h"

// Listing directories.
namespace berth::test {
namespace {

/// A name, and whether what the directory says of it is what stat(2) says.
std::string seen(DIR* directory, const dirent& entry) {
  struct stat s {};
  std::string text = quote(entry.d_name);
  if (std::string_view(entry.d_name) == "..") return text;
  if (::fstatat(::dirfd(directory), entry.d_name, &s, AT_SYMLINK_NOFOLLOW) != 0) return text + " " + result(-1);
  if (s.st_ino != entry.d_ino) text += " has another number";
  if (IFTODT(s.st_mode) != entry.d_type) text += " is of type " + std::to_string(entry.d_type);
  return text;
}

std::multiset<std::string> rest_of(DIR* directory) {
  std::multiset<std::string> names;
  while (const dirent* const entry = ::readdir(directory)) names.insert(seen(directory, *entry));
  return names;
}

std::string joined(const std::multiset<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += name + " ";
  return text;
}

/// Lists, goes back to some place in the middle and on from there, and back to the start.
std::string list(DIR* directory, long middle) {
  std::multiset<std::string> all;
  for (long i = 0; i < middle; ++i) {
    const dirent* const entry = ::readdir(directory);
    if (entry == nullptr) break;
    all.insert(seen(directory, *entry));
  }
  const long place = ::telldir(directory);
  const std::multiset<std::string> rest = rest_of(directory);
  ::seekdir(directory, place);
  const bool same_rest = rest_of(directory) == rest;
  all.insert(rest.begin(), rest.end());
  ::rewinddir(directory);
  const bool same = rest_of(directory) == all;
  return joined(all) + (same_rest ? "" : "; another rest after seekdir") + (same ? "" : "; others after rewinddir");
}

std::string perform_list(Hand& hand, const Operation& op) {
  const Hand::At at = hand.at(op.path);
  const int fd = ::openat(at.directory, at.name(), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return result(fd);
  DIR* const directory = ::fdopendir(fd);
  std::string text = list(directory, op.n[0]);
  ::closedir(directory);
  return text;
}

std::string perform_list_open(Hand& hand, const Operation& op) {
  const int fd = ::fcntl(hand.fd(op.slot), F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return result(fd);
  DIR* const directory = ::fdopendir(fd);
  if (directory == nullptr) {
    const std::string text = result(-1);
    ::close(fd);
    return text;
  }
  ::rewinddir(directory);
  std::string text = list(directory, op.n[0]);
  ::closedir(directory);
  return text;
}

void invent_list(Random& random, Operation& op) {
  op.path = random.one_in(4) ? "." : invent_path(random);
  op.n[0] = random.below(5);
}

constexpr Call kCalls[] = {
    {"list", 10, &perform_list, &invent_list, Call::Stamps::kCoarse},
    {"list_open", 4, &perform_list_open, &invent_list, Call::Stamps::kCoarse},
};

}  // namespace

std::span<const Call> directory_calls() { return kCalls; }

}  // namespace berth::test
