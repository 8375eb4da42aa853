#include "tests/parity/furniture.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>

#include "src/lib/base/unique_fd.h"
#include "tests/parity/hand.h"

namespace berth::test {
namespace {

const std::string kLongest(255, 'n');

class Furniture {
 public:
  explicit Furniture(const std::string& directory)
      : at_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {}

  void file(const char* name, mode_t mode, uid_t uid, gid_t gid, long size = 5000) const {
    const UniqueFd made(::openat(at_.get(), name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    const std::string bytes = pattern(size, size);
    [[maybe_unused]] const ssize_t written = ::write(made.get(), bytes.data(), bytes.size());
    own(name, mode, uid, gid);
  }
  void directory(const char* name, mode_t mode, uid_t uid, gid_t gid) const {
    ::mkdirat(at_.get(), name, 0700);
    own(name, mode, uid, gid);
  }
  void special(const char* name, mode_t mode, dev_t device, uid_t uid) const {
    ::mknodat(at_.get(), name, mode, device);
    own(name, mode & 07777, uid, uid);
  }
  void link(const char* name, const char* target, uid_t uid = 1001) const {
    [[maybe_unused]] const int made = ::symlinkat(target, at_.get(), name);
    [[maybe_unused]] const int owned = ::fchownat(at_.get(), name, uid, uid, AT_SYMLINK_NOFOLLOW);
  }
  /// Of the same file.
  void hard_link(const char* name, const char* file) const {
    [[maybe_unused]] const int made = ::linkat(at_.get(), file, at_.get(), name, 0);
  }
  void flag(const char* name, int flag) const {
    const UniqueFd file(::openat(at_.get(), name, O_RDONLY | O_CLOEXEC));
    int flags = 0;
    if (::ioctl(file.get(), FS_IOC_GETFLAGS, &flags) != 0) return;
    flags |= flag;
    ::ioctl(file.get(), FS_IOC_SETFLAGS, &flags);
  }

 private:
  void own(const char* name, mode_t mode, uid_t uid, gid_t gid) const {
    [[maybe_unused]] const int owned = ::fchownat(at_.get(), name, uid, gid, AT_SYMLINK_NOFOLLOW);
    [[maybe_unused]] const int changed = ::fchmodat(at_.get(), name, mode, 0);
  }

  UniqueFd at_;
};

void furnish_refusing(const Furniture& in) {
  for (const auto& [name, mode] : std::initializer_list<std::pair<std::string, mode_t>>{
           {"closed", 0700}, {"readonly", 0555}, {"nosearch", 0666}, {"writeonly", 0333}}) {
    const uid_t owner = name == "closed" ? 0 : 1001;
    in.directory(name.c_str(), 0700, owner, owner);
    in.file((name + "/f").c_str(), 0666, 1001, 1001);
    in.directory((name + "/d").c_str(), 0777, 1001, 1001);
    in.directory(name.c_str(), mode, owner, owner);
  }
}

void furnish_inheriting(const Furniture& in) {
  in.directory("sticky", 01777, 0, 0);
  in.file("sticky/mine", 0666, 1001, 1001);
  in.file("sticky/other", 0666, 1002, 1002);
  in.file("sticky/root", 0666, 0, 0);
  in.directory("sticky/dir", 0777, 1002, 1002);
  in.directory("sticky/mydir", 0777, 1001, 1001);
  in.directory("mysticky", 01777, 1001, 1001);
  in.file("mysticky/other", 0666, 1002, 1002);
  in.directory("sgid", 02777, 0, 2001);
  in.file("sgid/f", 0664, 1001, 2001);
  in.directory("alien", 02777, 0, 3000);
  in.file("alien/f", 0666, 1001, 3000);
}

void furnish_plain(const Furniture& in) {
  in.file("file", 0644, 1001, 1001);
  in.hard_link("hard", "file");
  in.file("suid", 06777, 1001, 1001);
  in.file("sgid-only", 02767, 1001, 1001);
  in.file("mandatory", 02666, 1001, 2001);
  in.file("program", 0711, 0, 0, 0);
  in.directory("dir", 0755, 1001, 1001);
  in.file("dir/inside", 0644, 1001, 1001);
  in.directory("dir/deep", 0755, 1001, 1001);
  in.directory("empty", 0755, 1001, 1001);
}

void furnish_kinds(const Furniture& in) {
  furnish_plain(in);
  in.file("rootfile", 0600, 0, 0);
  in.file("group", 0060, 0, 2001);
  in.file("owner-not", 0077, 1001, 2001);
  in.file("nothing", 0, 1001, 1001, 0);
  in.file("open-to-all", 0666, 0, 0);
  in.directory("empty-root", 0755, 0, 0);
  in.directory("suid-dir", 06755, 1001, 1001);
  in.special("fifo", S_IFIFO | 0644, 0, 1001);
  in.special("socket", S_IFSOCK | 0644, 0, 1001);
  in.special("device", S_IFCHR | 0666, makedev(1, 3), 1001);
  in.link("link", "file");
  in.link("todir", "dir");
  in.link("dangling", "missing-target");
  in.link("loop", "loop");
  in.link("up", "..");
  in.link("long-target", std::string(4095, 'x').c_str());
  in.link("chain0", "file");
  for (int i = 1; i <= 41; ++i) {
    in.link(("chain" + std::to_string(i)).c_str(), ("chain" + std::to_string(i - 1)).c_str());
  }
  in.file(kLongest.c_str(), 0644, 1001, 1001, 1);
}

}  // namespace

void furnish_sparsely(const std::string& directory) {
  const mode_t mask = ::umask(0);
  const Furniture in(directory);
  furnish_plain(in);
  in.directory("closed", 0700, 0, 0);
  ::umask(mask);
}

void furnish(const std::string& directory) {
  const mode_t mask = ::umask(0);
  const Furniture in(directory);
  furnish_kinds(in);
  furnish_refusing(in);
  furnish_inheriting(in);
  in.directory("fixed-dir", 0777, 1001, 1001);
  in.file("fixed-dir/f", 0666, 1001, 1001);
  in.directory("append-dir", 0777, 1001, 1001);
  in.file("append-dir/f", 0666, 1001, 1001);
  in.file("fixed", 0666, 1001, 1001);
  in.file("append", 0666, 1001, 1001);
  for (const char* name : {"fixed", "fixed-dir"}) in.flag(name, FS_IMMUTABLE_FL);
  for (const char* name : {"append", "append-dir"}) in.flag(name, FS_APPEND_FL);
  ::umask(mask);
}

const std::vector<std::string>& all_paths() {
  static const std::vector<std::string> paths = [] {
    std::vector<std::string> all{"",
                                 ".",
                                 "..",
                                 "/",
                                 "//",
                                 "file",
                                 "file/",
                                 "file/x",
                                 "file/.",
                                 "file/..",
                                 "rootfile",
                                 "group",
                                 "owner-not",
                                 "nothing",
                                 "open-to-all",
                                 "suid",
                                 "sgid-only",
                                 "mandatory",
                                 "program",
                                 "hard",
                                 "dir",
                                 "dir/",
                                 "dir/.",
                                 "dir/..",
                                 "dir/inside",
                                 "dir/deep",
                                 "dir/new",
                                 "dir//new",
                                 "empty",
                                 "empty/",
                                 "empty/.",
                                 "empty-root",
                                 "suid-dir",
                                 "fifo",
                                 "socket",
                                 "device",
                                 "link",
                                 "link/",
                                 "todir",
                                 "todir/",
                                 "todir/new",
                                 "todir/inside",
                                 "todir/..",
                                 "dangling",
                                 "dangling/",
                                 "dangling/x",
                                 "loop",
                                 "loop/",
                                 "loop/x",
                                 "up",
                                 "up/file",
                                 "missing",
                                 "missing/",
                                 "missing/x",
                                 "missing/.",
                                 "missing/..",
                                 "long-target",
                                 "chain39",
                                 "chain40",
                                 "chain41",
                                 "closed",
                                 "closed/f",
                                 "closed/new",
                                 "readonly/f",
                                 "readonly/new",
                                 "readonly/d",
                                 "nosearch/f",
                                 "nosearch/new",
                                 "writeonly",
                                 "writeonly/f",
                                 "writeonly/new",
                                 "sticky/mine",
                                 "sticky/other",
                                 "sticky/root",
                                 "sticky/dir",
                                 "sticky/mydir",
                                 "sticky/new",
                                 "mysticky/other",
                                 "sgid",
                                 "sgid/f",
                                 "sgid/new",
                                 "alien/f",
                                 "alien/new",
                                 "fixed",
                                 "fixed-dir",
                                 "fixed-dir/f",
                                 "fixed-dir/new",
                                 "append",
                                 "append-dir",
                                 "append-dir/f",
                                 "append-dir/new",
                                 "new\n\xff\x01",
                                 kLongest,
                                 kLongest + "n",
                                 "dir/" + kLongest,
                                 "dir/" + kLongest + "n"};
    // As long as a path may be, and one longer.
    std::string path;
    while (path.size() + 4 <= 4091) path += "./";
    for (const std::size_t size : {4094UL, 4095UL, 4096UL}) {
      all.push_back(path + std::string(size - path.size() - 4, '/') + "file");
      all.push_back(path + std::string(size - path.size() - 3, '/') + "new");
    }
    return all;
  }();
  return paths;
}

const std::vector<std::string>& telling_paths() {
  static const std::vector<std::string> paths{"",
                                              ".",
                                              "..",
                                              "/",
                                              "file",
                                              "file/",
                                              "file/x",
                                              "rootfile",
                                              "open-to-all",
                                              "suid",
                                              "hard",
                                              "dir",
                                              "dir/",
                                              "dir/inside",
                                              "dir/new",
                                              "dir/deep",
                                              "dir/deep/x",
                                              "empty",
                                              "empty/",
                                              "empty-root",
                                              "fifo",
                                              "socket",
                                              "device",
                                              "link",
                                              "todir",
                                              "todir/new",
                                              "dangling",
                                              "loop",
                                              "loop/x",
                                              "missing",
                                              "missing/",
                                              "missing/x",
                                              "closed/f",
                                              "closed/new",
                                              "readonly/f",
                                              "readonly/d",
                                              "readonly/new",
                                              "nosearch/f",
                                              "nosearch/new",
                                              "sticky/mine",
                                              "sticky/other",
                                              "sticky/dir",
                                              "sticky/mydir",
                                              "sticky/new",
                                              "mysticky/other",
                                              "sgid/f",
                                              "sgid/new",
                                              "alien/new",
                                              "fixed",
                                              "fixed-dir/f",
                                              "fixed-dir/new",
                                              "append",
                                              "append-dir/f",
                                              "append-dir/new",
                                              kLongest,
                                              kLongest + "n"};
  return paths;
}

}  // namespace berth::test
