#include "tests/mount/compared_share.h"

#include <dirent.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <set>

#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"

namespace berth::test {

void Transcript::note(const std::string& what, long result) {
  text_ += what + ": " + (result < 0 ? errno_name(errno) : std::to_string(result)) + "\n";
}

void Transcript::note(const std::string& what, const std::string& result) {
  text_ += what + ": " + quote(result) + "\n";
}

void Transcript::show(const std::string& name) {
  struct stat s {};
  const int result = ::lstat(path(name).c_str(), &s);
  if (result != 0) return note("stat " + name, result);
  char line[200];
  std::snprintf(line, sizeof line, "mode %o links %lu owner %u:%u size %ld mtime %ld", s.st_mode,
                S_ISDIR(s.st_mode) ? 0UL : static_cast<unsigned long>(s.st_nlink), s.st_uid, s.st_gid,
                S_ISDIR(s.st_mode) ? 0L : s.st_size, s.st_mtim.tv_sec < 1'000'000'000 ? s.st_mtim.tv_sec : -1L);
  note("stat " + name, std::string(line));
}

void Transcript::write(const std::string& name, const std::string& bytes, int flags, mode_t mode) {
  const UniqueFd fd(::open(path(name).c_str(), O_WRONLY | flags, mode));
  if (!fd) return note("write " + name, -1);
  note("write " + name, ::write(fd.get(), bytes.data(), bytes.size()));
}

void Transcript::read(const std::string& name) {
  const UniqueFd fd(::open(path(name).c_str(), O_RDONLY));
  if (!fd) return note("read " + name, -1);
  read_fd("read " + name, fd.get());
}

void Transcript::read_fd(const std::string& what, int fd) {
  std::array<char, 4096> bytes{};
  const ssize_t size = ::pread(fd, bytes.data(), bytes.size(), 0);
  if (size < 0) return note(what, size);
  note(what, std::string(bytes.data(), static_cast<std::size_t>(size)));
}

void Transcript::list(const std::string& name) {
  DIR* const directory = ::opendir(path(name).c_str());
  if (directory == nullptr) return note("list " + name, -1);
  std::set<std::string> names;
  while (const dirent* const entry = ::readdir(directory)) {
    struct stat s {};
    const bool same = ::fstatat(::dirfd(directory), entry->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 &&
                      s.st_ino == entry->d_ino && IFTODT(s.st_mode) == entry->d_type;
    const std::string shown = entry->d_name;
    names.insert(shown + (same || shown == ".." ? "" : " (number or type differs)"));
  }
  ::closedir(directory);
  for (const std::string& shown : names) note("list " + name, shown);
}

std::string in_process(const std::function<std::string()>& work) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return "no pipe";
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = work();
    const bool written = ::write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    ::_exit(written ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 4096> part{};
  for (ssize_t size = 0; (size = ::read(ends[0], part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(size));
  }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return status == 0 ? text : text + "\nended with " + std::to_string(status);
}

bool become_nobody() {
  const gid_t group = kTeam;
  return ::setgroups(1, &group) == 0 && ::setresgid(kNobody, kNobody, kNobody) == 0 &&
         ::setresuid(kNobody, kNobody, kNobody) == 0;
}

void ComparedShare::SetUp() {
  ::umask(022);
  source_ = server_.make_directory("source");
  native_ = server_.make_directory("native");
  ::chmod(server_.directory().c_str(), 0755);
  ASSERT_TRUE(ok(server_.start_shares({{"a", source_}})));
  share_ = server_.in_namespace("a");
}

void ComparedShare::compare(const std::function<void(Transcript&)>& act) {
  Transcript here(native_);
  act(here);
  Transcript there(share_);
  act(there);
  EXPECT_EQ(there.text(), here.text());
  EXPECT_FALSE(here.text().empty());
}

void ComparedShare::compare_as_nobody(const std::function<void(Transcript&)>& act) {
  compare([&act](Transcript& t) {
    t.note("as nobody", in_process([&] {
             if (!become_nobody()) return std::string("cannot become nobody");
             act(t);
             return t.text();
           }));
  });
}

}  // namespace berth::test
