#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "src/lib/base/text.h"
#include "src/lib/base/unique_fd.h"
#include "src/lib/sys/process.h"
#include "tests/mount/compared_share.h"

// Extended attributes and access control lists.
namespace berth::test {
namespace {

class Attributes : public ComparedShare {
 protected:
  static void get(Transcript& t, const std::string& name, const char* attribute) {
    std::array<char, 256> value{};
    const ssize_t size = ::lgetxattr(t.path(name).c_str(), attribute, value.data(), value.size());
    const std::string what = "get " + name + " " + attribute;
    if (size < 0) return t.note(what, size);
    t.note(what, std::string(value.data(), static_cast<std::size_t>(size)));
  }
  static void set(Transcript& t, const std::string& name, const char* attribute, const std::string& value,
                  int flags = 0) {
    t.note("set " + name + " " + attribute,
           ::lsetxattr(t.path(name).c_str(), attribute, value.data(), value.size(), flags));
  }
  static void remove(Transcript& t, const std::string& name, const char* attribute) {
    t.note("remove " + name + " " + attribute, ::lremovexattr(t.path(name).c_str(), attribute));
  }
  static void list(Transcript& t, const std::string& name) {
    std::array<char, 4096> names{};
    const ssize_t size = ::llistxattr(t.path(name).c_str(), names.data(), names.size());
    if (size < 0) return t.note("list " + name, size);
    t.note("size of the list", ::llistxattr(t.path(name).c_str(), nullptr, 0));
    std::vector<std::string> sorted;
    for (const auto part : split(std::string_view(names.data(), static_cast<std::size_t>(size)), '\0')) {
      sorted.emplace_back(part);
    }
    std::sort(sorted.begin(), sorted.end());
    for (const std::string& one : sorted) t.note("list " + name, one);
  }
};

/// An access control list as it is stored (linux/posix_acl_xattr.h).
class AccessList {
 public:
  static constexpr std::uint16_t kOwner = 1, kUser = 2, kOwningGroup = 4, kGroup = 8, kMask = 16, kOther = 32;

  AccessList& add(std::uint16_t tag, std::uint16_t rights, std::uint32_t id = 0xffffffff) {
    append(tag);
    append(rights);
    append(id);
    return *this;
  }
  [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }

 private:
  template <typename T>
  void append(T value) {
    bytes_.append(static_cast<const char*>(static_cast<const void*>(&value)), sizeof value);
  }
  std::string bytes_{2, 0, 0, 0};
};

constexpr const char* kAccess = "system.posix_acl_access";
constexpr const char* kDefault = "system.posix_acl_default";

TEST_F(Attributes, OfEveryNamespaceAndKindOfFile) {
  compare([](Transcript& t) {
    t.write("file", "x");
    t.note("mkdir", ::mkdir(t.path("directory").c_str(), 0755));
    t.note("symlink", ::symlink("file", t.path("link").c_str()));
    t.note("fifo", ::mkfifo(t.path("fifo").c_str(), 0644));
    for (const char* name : {"file", "directory", "link", "fifo", "missing"}) {
      for (const char* attribute : {"user.a", "trusted.b", "security.c", "system.d", "none", "user."}) {
        get(t, name, attribute);
        set(t, name, attribute, "one");
        set(t, name, attribute, "two", XATTR_CREATE);
        get(t, name, attribute);
        set(t, name, attribute, std::string("thr\0ee", 6), XATTR_REPLACE);
        get(t, name, attribute);
      }
      set(t, name, "user.empty", "");
      get(t, name, "user.empty");
      set(t, name, "user.absent", "x", XATTR_REPLACE);
      list(t, name);
      remove(t, name, "user.a");
      remove(t, name, "user.a");
      get(t, name, "user.a");
      list(t, name);
    }
    char small = 0;
    t.note("too small", ::getxattr(t.path("file").c_str(), "trusted.b", &small, 1));
    t.note("list too small", ::listxattr(t.path("file").c_str(), &small, 1));
    t.note("size", ::getxattr(t.path("file").c_str(), "trusted.b", nullptr, 0));
    set(t, "file", "user.large", std::string(3000, 'x'));
    t.note("large", ::getxattr(t.path("file").c_str(), "user.large", nullptr, 0));
    set(t, "file", "user.too-large", std::string(65537, 'x'));
    set(t, "file", (std::string("user.") + std::string(255, 'n')).c_str(), "x");
  });
}

TEST_F(Attributes, OfAnOpenFileThatHasNoNameAnyMore) {
  compare([](Transcript& t) {
    const UniqueFd file(::open(t.path("file").c_str(), O_RDWR | O_CREAT, 0644));
    t.note("unlink", ::unlink(t.path("file").c_str()));
    t.note("set", ::fsetxattr(file.get(), "user.a", "one", 3, 0));
    std::array<char, 10> value{};
    t.note("get", ::fgetxattr(file.get(), "user.a", value.data(), value.size()));
    t.note("value", std::string(value.data()));
    t.note("list", ::flistxattr(file.get(), nullptr, 0));
    t.note("remove", ::fremovexattr(file.get(), "user.a"));
    t.note("get", ::fgetxattr(file.get(), "user.a", value.data(), value.size()));
  });
}

TEST_F(Attributes, TheCallersRightsDecide) {
  compare([](Transcript& t) {
    t.write("readable", "x", O_CREAT, 0644);
    t.write("private", "x", O_CREAT, 0600);
    t.write("public", "x", O_CREAT, 0666);
    for (const char* name : {"readable", "private", "public"}) {
      for (const char* attribute : {"user.a", "trusted.b", "security.c"}) set(t, name, attribute, "value");
    }
    t.note("chmod", ::chmod(t.path("public").c_str(), 0666));
    t.note("as nobody", in_process([&t] {
             if (!become_nobody()) return std::string("cannot become nobody");
             for (const char* name : {"readable", "private", "public"}) {
               for (const char* attribute : {"user.a", "trusted.b", "security.c"}) {
                 get(t, name, attribute);
                 set(t, name, attribute, "other");
                 get(t, name, attribute);
               }
               list(t, name);
               remove(t, name, "user.a");
             }
             return t.text();
           }));
  });
}

TEST_F(Attributes, AccessListsLetInAndKeepOut) {
  const std::string lets_in = AccessList()
                                  .add(AccessList::kOwner, 7)
                                  .add(AccessList::kUser, 7, kNobody)
                                  .add(AccessList::kOwningGroup, 0)
                                  .add(AccessList::kMask, 7)
                                  .add(AccessList::kOther, 0)
                                  .bytes();
  const std::string keeps_out = AccessList()
                                    .add(AccessList::kOwner, 7)
                                    .add(AccessList::kOwningGroup, 7)
                                    .add(AccessList::kGroup, 0, kTeam)
                                    .add(AccessList::kMask, 7)
                                    .add(AccessList::kOther, 7)
                                    .bytes();
  compare([&](Transcript& t) {
    for (const auto& [name, access] : {std::pair<std::string, std::string>{"in", lets_in}, {"out", keeps_out}}) {
      t.note("mkdir", ::mkdir(t.path(name).c_str(), 0750));
      t.write(name + "/file", "text", O_CREAT, 0640);
      set(t, name, kAccess, access);
      set(t, name + "/file", kAccess, access);
      t.show(name);
      t.show(name + "/file");
      get(t, name, kAccess);
      list(t, name);
    }
    t.note("as nobody", in_process([&t] {
             if (!become_nobody()) return std::string("cannot become nobody");
             for (const char* name : {"in", "out"}) {
               t.list(name);
               t.read(std::string(name) + "/file");
               t.write(std::string(name) + "/file", "more", O_APPEND);
               t.write(std::string(name) + "/new", "new", O_CREAT);
               t.note("access", ::access(t.path(std::string(name) + "/file").c_str(), W_OK));
               set(t, std::string(name) + "/file", kAccess, "");
             }
             return t.text();
           }));
    t.note("chmod", ::chmod(t.path("in/file").c_str(), 0700));
    get(t, "in/file", kAccess);
    t.note("as nobody", in_process([&t] {
             if (!become_nobody()) return std::string("cannot become nobody");
             t.read("in/file");
             return t.text();
           }));
    remove(t, "in", kAccess);
    get(t, "in", kAccess);
    t.show("in");
    t.note("as nobody", in_process([&t] {
             if (!become_nobody()) return std::string("cannot become nobody");
             t.read("in/file");
             return t.text();
           }));
    set(t, "in/file", kAccess, "nonsense");
    set(t, "in/file", kDefault, lets_in);
  });
}

TEST_F(Attributes, DefaultListsBeatTheUmask) {
  const std::string lists = AccessList()
                                .add(AccessList::kOwner, 7)
                                .add(AccessList::kUser, 6, kNobody)
                                .add(AccessList::kOwningGroup, 7)
                                .add(AccessList::kMask, 7)
                                .add(AccessList::kOther, 5)
                                .bytes();
  compare([&](Transcript& t) {
    t.note("mkdir", ::mkdir(t.path("with").c_str(), 0755));
    t.note("mkdir", ::mkdir(t.path("without").c_str(), 0755));
    set(t, "with", kDefault, lists);
    for (const mode_t mask : {0U, 022U, 077U, 0777U}) {
      const mode_t before = ::umask(mask);
      for (const std::string in : {"with", "without"}) {
        const std::string name = in + "/" + std::to_string(mask);
        t.write(name, "x", O_CREAT, 0666);
        t.note("mkdir", ::mkdir(t.path(name + "-directory").c_str(), 0777));
        t.note("fifo", ::mkfifo(t.path(name + "-fifo").c_str(), 0666));
        for (const char* what : {"", "-directory", "-fifo"}) {
          t.show(name + what);
          get(t, name + what, kAccess);
          get(t, name + what, kDefault);
        }
      }
      ::umask(before);
    }
  });
}

TEST_F(Attributes, ListsInheritedAndSetEndSetGroupIdAsNatively) {
  compare([](Transcript& t) {
    t.write("file", "x", O_CREAT, 0755);
    t.note("chown", ::chown(t.path("file").c_str(), kNobody, 12345));
    t.note("chmod", ::chmod(t.path("file").c_str(), 02755));
    t.note("as nobody", in_process([&t] {
             if (!become_nobody()) return std::string("cannot become nobody");
             set(t, "file", kAccess,
                 AccessList()
                     .add(AccessList::kOwner, 7)
                     .add(AccessList::kOwningGroup, 5)
                     .add(AccessList::kOther, 5)
                     .bytes());
             t.show("file");
             return t.text();
           }));
    t.show("file");
  });
}

TEST_F(Attributes, OfTheNamespaceMountNothing) {
  for (const char* path : {"namespace", "namespace/a", "namespace/.berth", "namespace/.berth/shares/a/state"}) {
    std::array<char, 16> value{};
    for (const char* name : {"security.selinux", "user.a", "security.capability"}) {
      EXPECT_EQ(::getxattr(server_.path(path).c_str(), name, value.data(), value.size()), -1) << path;
      EXPECT_EQ(errno, EOPNOTSUPP) << path << " " << name;
    }
    EXPECT_EQ(::getxattr(server_.path(path).c_str(), kAccess, value.data(), value.size()), -1) << path;
    EXPECT_EQ(errno, ENODATA) << path;
    EXPECT_EQ(::setxattr(server_.path("namespace").c_str(), "user.a", "x", 1, 0), -1);
    EXPECT_EQ(errno, EOPNOTSUPP);
  }
  EXPECT_EQ(server_.state("a"), "idle");
  EXPECT_EQ(::listxattr(server_.namespace_path().c_str(), nullptr, 0), 0);
}

TEST(AttributesOfAnIdleRoot, AreTheRealOnesAsSoonAsItIsMounted) {
  BerthServer server;
  const std::string source = server.make_directory("source");
  ASSERT_EQ(::chmod(source.c_str(), 01711), 0);
  ASSERT_TRUE(ok(server.start("[share.a]\ntype = \"bind\"\nsource = \"" + source + "\"\naccess = \"proxy\"\n")));
  const auto mode = [&]() -> mode_t {
    struct stat root {};
    return ::stat(server.in_namespace("a").c_str(), &root) == 0 ? root.st_mode & 07777 : 0;
  };
  EXPECT_EQ(mode(), 0755U);
  EXPECT_EQ(server.state("a"), "idle");
  // By a caller that never goes in.
  const std::string instance = server.in_namespace(".berth/shares/a/attachments/vm1");
  ASSERT_EQ(::mkdir(instance.c_str(), 0755), 0);
  ASSERT_EQ(::mkdir((instance + "/disk").c_str(), 0755), 0);
  EXPECT_EQ(mode(), 01711U);
  EXPECT_EQ(::rmdir((instance + "/disk").c_str()), 0);
  EXPECT_EQ(server.stop(), Ending{});
}

/// One EOPNOTSUPP makes ls(1) take it that no file of the device has a list.
TEST(AttributesOfAnIdleRoot, LetLsShowTheAccessListsOfFilesInShares) {
  BerthServer server;
  const std::string source = server.make_directory("source");
  ASSERT_TRUE(ok(server.write_file("source/file", "hello")));
  const std::string list = AccessList()
                               .add(AccessList::kOwner, 6)
                               .add(AccessList::kUser, 4, kNobody)
                               .add(AccessList::kOwningGroup, 4)
                               .add(AccessList::kMask, 4)
                               .add(AccessList::kOther, 0)
                               .bytes();
  ASSERT_EQ(::setxattr((source + "/file").c_str(), kAccess, list.data(), list.size(), 0), 0);
  const std::string share = "type = \"bind\"\nsource = \"" + source + "\"\naccess = \"proxy\"\n";
  ASSERT_TRUE(ok(server.start("[share.a]\n" + share + "[share.b]\n" + share)));
  const Result<sys::Finished> ls =
      sys::run({"ls", "-lR", server.namespace_path()}, std::chrono::steady_clock::now() + std::chrono::seconds(30));
  ASSERT_TRUE(ok(ls));
  const auto lines = split(ls->output, '\n');
  EXPECT_EQ(std::count_if(lines.begin(), lines.end(), [](const auto& line) { return line.starts_with("-rw-r-----+"); }),
            2)
      << ls->output;
  EXPECT_EQ(server.stop(), Ending{});
}

TEST(AttributesOfAnIdleRoot, LetInWhomTheyLetInWhenItWasMounted) {
  BerthServer server;
  const std::string source = server.make_directory("source");
  ::chmod(server.directory().c_str(), 0755);
  ASSERT_TRUE(ok(server.write_file("source/file", "hello")));
  const std::string list = AccessList()
                               .add(AccessList::kOwner, 7)
                               .add(AccessList::kUser, 5, kNobody)
                               .add(AccessList::kOwningGroup, 0)
                               .add(AccessList::kMask, 5)
                               .add(AccessList::kOther, 0)
                               .bytes();
  ASSERT_EQ(::chmod(source.c_str(), 0700), 0);
  ASSERT_EQ(::setxattr(source.c_str(), kAccess, list.data(), list.size(), 0), 0);
  ASSERT_TRUE(ok(server.start("[share.a]\ntype = \"bind\"\nsource = \"" + source +
                              "\"\naccess = \"proxy\"\nidle_timeout = \"0s\"\n")));
  const auto read = [&] {
    return in_process([&]() -> std::string {
      if (!become_nobody()) return "cannot become nobody";
      const UniqueFd file(::open(server.in_namespace("a/file").c_str(), O_RDONLY));
      return file ? "opened" : errno_name(errno);
    });
  };
  EXPECT_TRUE(ok(server.read_file("namespace/a/file")));
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(server.wait_for_state("a", "idle"));
    EXPECT_EQ(read(), "opened");
  }
  EXPECT_EQ(server.stop(), Ending{});
}

/// rclone answers EOPNOTSUPP of its root, and EIO of each file.
TEST(AccessListsOfAFileSystemWithoutThem, AreNoneAndNoError) {
  if (::access("/usr/bin/rclone", X_OK) != 0) GTEST_SKIP() << "no rclone here";
  BerthServer server;
  server.make_directory("source/directory");
  ASSERT_TRUE(ok(server.write_file("source/file", "hello")));
  ASSERT_TRUE(
      ok(server.start("[share.a]\ntype = \"command\"\nmount = [\"rclone\", \"--config=/dev/null\", \"mount\", \"" +
                      server.path("source") + "\", \"{mountpoint}\"]\n")));
  for (const char* const name : {"a", "a/directory", "a/file"}) {
    struct stat s {};
    ASSERT_EQ(::stat(server.in_namespace(name).c_str(), &s), 0) << name << ": " << errno_name(errno);
    for (const char* const list : {kAccess, kDefault}) {
      EXPECT_EQ(::getxattr(server.in_namespace(name).c_str(), list, nullptr, 0), -1) << name;
      EXPECT_EQ(errno_name(errno), errno_name(ENODATA)) << name << " " << list;
    }
  }
  EXPECT_EQ(server.stop(), Ending{});
}

/// The greatest inode number that stat(2) and the listings of `directory` and of what is below it show.
ino_t greatest_number(const std::string& directory, int depth = 6) {
  ino_t greatest = 0;
  const auto look = [&](const std::string& path) {
    struct stat s {};
    if (::lstat(path.c_str(), &s) == 0) greatest = std::max(greatest, s.st_ino);
    return S_ISDIR(s.st_mode);
  };
  look(directory);
  DIR* const listing = ::opendir(directory.c_str());
  if (listing == nullptr) return greatest;
  while (const dirent* const entry = ::readdir(listing)) {
    greatest = std::max(greatest, entry->d_ino);
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (look(directory + "/" + name) && depth > 0) {
      greatest = std::max(greatest, greatest_number(directory + "/" + name, depth - 1));
    }
  }
  ::closedir(listing);
  return greatest;
}

TEST(InodeNumbersOfANamespace, HaveThirtyTwoBitsWhereThatIsAskedFor) {
  for (const std::string bits : {"32", "64"}) {
    BerthServer server;
    server.make_directory("source/directory");
    ASSERT_TRUE(ok(server.write_file("source/directory/file", "hello")));
    const std::string share = "type = \"bind\"\naccess = \"proxy\"\nsource = \"" + server.path("source") + "\"\n";
    ASSERT_TRUE(
        ok(server.start("[berth]\ninode_bits = " + bits + "\n[share.a]\n" + share + "[share.\"b/c\"]\n" + share)));
    const ino_t greatest = greatest_number(server.namespace_path());
    EXPECT_EQ(greatest >> 32 == 0, bits == "32") << greatest;
    EXPECT_GT(greatest, 1000U);
    EXPECT_EQ(server.stop(), Ending{});
  }
}

/// Linux gives a server that takes idmapped mounts its caller's ids only where something is made. So berth does not
/// take them.
TEST(IdmappedMounts, AreRefusedOfTheNamespaceAndMadeOfNativeShares) {
  BerthServer server;
  const std::string source = server.make_directory("source");
  ASSERT_TRUE(ok(server.write_file("source/file", "hello")));
  ASSERT_TRUE(ok(server.start("[share.a]\ntype = \"bind\"\naccess = \"native\"\nsource = \"" + source + "\"\n")));
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWUSER) != 0) ::_exit(1);
    ::kill(::getpid(), SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  ASSERT_TRUE(WIFSTOPPED(status));
  const std::string proc = "/proc/" + std::to_string(child);
  std::ofstream(proc + "/uid_map") << "0 100000 65536";
  std::ofstream(proc + "/gid_map") << "0 100000 65536";
  const UniqueFd users(::open((proc + "/ns/user").c_str(), O_RDONLY | O_CLOEXEC));
  const auto map_ids = [&](const std::string& path) {
    const UniqueFd tree(
        static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)));
    if (!tree) return errno;
    mount_attr attributes{};
    attributes.attr_set = MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<unsigned>(users.get());
    return ::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) == 0 ? 0 : errno;
  };
  EXPECT_EQ(errno_name(map_ids(server.namespace_path())), errno_name(EINVAL));
  EXPECT_TRUE(eventually([&] {
    UniqueFd(::open(server.in_namespace("a/file").c_str(), O_RDONLY)).reset();
    return server.read_json("shares/a/status.json").value("native", false);
  }));
  EXPECT_EQ(errno_name(map_ids(server.in_namespace("a"))), errno_name(0));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(server.stop(), Ending{});
}

}  // namespace
}  // namespace berth::test
