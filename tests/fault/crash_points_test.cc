// The server dies at every named point of every operation, and its caller sees what would have been without: one
// success, or the right error, and one change on disk. Needs a build with -Dcrash_points=true.
#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "src/lib/sys/mount_table.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

constexpr const char* kAccessList = "system.posix_acl_access";

/// 0 or the error.
int code_of(long result) { return result < 0 ? errno : 0; }

/// What lies at `directory`: each name with its kind, links, mode and content, and attributes.
std::map<std::string, std::string> tree_at(const std::string& directory) {
  std::map<std::string, std::string> tree;
  std::error_code error;
  auto at = std::filesystem::recursive_directory_iterator(directory, error);
  for (; !error && at != std::filesystem::recursive_directory_iterator(); at.increment(error)) {
    const auto& entry = *at;
    const std::string path = entry.path();
    struct stat attributes {};
    if (::lstat(path.c_str(), &attributes) != 0) continue;
    std::string text = std::to_string(attributes.st_mode) + " links " + std::to_string(attributes.st_nlink);
    if (S_ISREG(attributes.st_mode)) {
      std::ifstream file(path);
      text += " holds " + std::string(std::istreambuf_iterator<char>(file), {});
    }
    if (S_ISLNK(attributes.st_mode)) text += " leads to " + std::filesystem::read_symlink(path).string();
    for (const char* const name : {"user.x", kAccessList}) {
      std::string value(64, '\0');
      const ssize_t size = ::lgetxattr(path.c_str(), name, value.data(), value.size());
      if (size >= 0) text += " " + (name + ("=" + value.substr(0, static_cast<std::size_t>(size))));
    }
    tree[path.substr(directory.size())] = text;
  }
  if (error) tree["error"] = error.message();
  return tree;
}

/// What is done in a directory, and answers 0 or an error: the first step makes what is needed, and is not disturbed.
struct Operation {
  const char* name;
  std::function<int(const std::string& in)> prepare;
  std::function<int(const std::string& in)> run;
};

int make_file(const std::string& path, std::string_view content = "content") {
  const UniqueFd file(::open(path.c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return errno;
  return ::write(file.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size()) ? 0 : EIO;
}

int make_file_in(const std::string& in) { return make_file(in + "/f"); }
int make_two_files_in(const std::string& in) { return make_file(in + "/f") != 0 ? EIO : make_file(in + "/g", "other"); }
int make_file_with_attribute_in(const std::string& in) {
  if (const int code = make_file_in(in); code != 0) return code;
  return code_of(::setxattr((in + "/f").c_str(), "user.x", "old", 3, 0));
}
int nothing(const std::string& /*in*/) { return 0; }

/// Opens, and writes to what was opened so that a second file under the name would be noticed.
int open_and_write(const std::string& path, int flags, std::string_view text = "written") {
  const UniqueFd file(::open(path.c_str(), flags | O_CLOEXEC, 0640));
  if (!file) return errno;
  if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return errno;
  return code_of(::fsync(file.get()));
}

/// As a user that the mode of the new file refuses.
int create_for_reading_alone(const std::string& in) {
  constexpr uid_t kUser = 1234;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(kUser) != 0 || ::setuid(kUser) != 0) ::_exit(EPERM);
    const UniqueFd file(::open((in + "/f").c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444));
    if (!file) ::_exit(errno);
    ::_exit(::write(file.get(), "written", 7) == 7 ? 0 : EIO);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return errno;
  return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

int rename_with(const std::string& in, unsigned flags) {
  return code_of(::renameat2(AT_FDCWD, (in + "/f").c_str(), AT_FDCWD, (in + "/g").c_str(), flags));
}

int set_attribute(const std::string& in, int flags) {
  return code_of(::setxattr((in + "/f").c_str(), "user.x", "new", 3, flags));
}

/// As setfacl -m u:1234:r does.
int set_access_list(const std::string& in) {
  constexpr auto kNoId = static_cast<std::uint32_t>(ACL_UNDEFINED_ID);
  struct {
    posix_acl_xattr_header header{htole32(POSIX_ACL_XATTR_VERSION)};
    posix_acl_xattr_entry entries[5]{{htole16(ACL_USER_OBJ), htole16(6), htole32(kNoId)},
                                     {htole16(ACL_USER), htole16(4), htole32(1234)},
                                     {htole16(ACL_GROUP_OBJ), htole16(4), htole32(kNoId)},
                                     {htole16(ACL_MASK), htole16(4), htole32(kNoId)},
                                     {htole16(ACL_OTHER), htole16(0), htole32(kNoId)}};
  } access;
  return code_of(::setxattr((in + "/f").c_str(), kAccessList, &access, sizeof access, 0));
}
int make_file_with_access_list_in(const std::string& in) {
  const int code = make_file_in(in);
  return code != 0 ? code : set_access_list(in);
}

/// A file without a name in `in`, with some content; nothing: errno says why.
UniqueFd make_nameless(const std::string& in) {
  UniqueFd file(::open(in.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0640));
  if (file && ::write(file.get(), "written", 7) != 7) file.reset();
  return file;
}
int use_nameless(const std::string& in) {
  const UniqueFd file = make_nameless(in);
  if (!file) return errno;
  std::array<char, 7> text{};
  struct stat attributes {};
  if (::pread(file.get(), text.data(), text.size(), 0) != 7 || ::fstat(file.get(), &attributes) != 0) return errno;
  return attributes.st_nlink == 0 && std::string_view(text.data(), 7) == "written" ? 0 : ERANGE;
}
/// Under a name that is free, or not.
int name_nameless(const std::string& in) {
  const UniqueFd file = make_nameless(in);
  if (!file) return errno;
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  return code_of(::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, (in + "/g").c_str(), AT_SYMLINK_FOLLOW));
}

int allocate(const std::string& in, int mode, off_t offset, off_t size) {
  const UniqueFd file(::open((in + "/f").c_str(), O_RDWR | O_CLOEXEC));
  return file ? code_of(::fallocate(file.get(), mode, offset, size)) : errno;
}

/// From the first file to the second one, or to another place in it.
int copy_range(const std::string& in, const char* to, off_t to_offset, std::size_t size = 7) {
  const UniqueFd source(::open((in + "/f").c_str(), O_RDWR | O_CLOEXEC));
  const UniqueFd target(::open((in + to).c_str(), O_RDWR | O_CLOEXEC));
  if (!source || !target) return errno;
  off_t from_offset = 0;
  const ssize_t copied = ::copy_file_range(source.get(), &from_offset, target.get(), &to_offset, size, 0);
  return copied < 0 ? errno : copied == 7 ? 0 : ERANGE;
}

int list(const std::string& in) {
  DIR* const listing = ::opendir(in.c_str());
  if (listing == nullptr) return errno;
  std::size_t count = 0;
  errno = 0;
  while (::readdir(listing) != nullptr) ++count;
  const int code = errno;
  ::closedir(listing);
  return code != 0 ? code : count == 4 ? 0 : ERANGE;
}

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all{
      {"create", nothing, [](const auto& in) { return open_and_write(in + "/f", O_CREAT | O_RDWR); }},
      {"create_new", nothing, [](const auto& in) { return open_and_write(in + "/f", O_CREAT | O_EXCL | O_WRONLY); }},
      {"create_new_over", make_file_in,
       [](const auto& in) { return open_and_write(in + "/f", O_CREAT | O_EXCL | O_WRONLY); }},
      {"create_for_reading_alone", [](const auto& in) { return code_of(::chmod(in.c_str(), 0777)); },
       create_for_reading_alone},
      {"open_truncate", make_file_in, [](const auto& in) { return open_and_write(in + "/f", O_WRONLY | O_TRUNC); }},
      {"mkdir", nothing, [](const auto& in) { return code_of(::mkdir((in + "/f").c_str(), 0750)); }},
      {"mkdir_over", make_file_in, [](const auto& in) { return code_of(::mkdir((in + "/f").c_str(), 0750)); }},
      {"mknod", nothing, [](const auto& in) { return code_of(::mknod((in + "/f").c_str(), S_IFIFO | 0600, 0)); }},
      {"symlink", nothing, [](const auto& in) { return code_of(::symlink("target", (in + "/f").c_str())); }},
      {"link", make_file_in, [](const auto& in) { return code_of(::link((in + "/f").c_str(), (in + "/g").c_str())); }},
      {"link_over", make_two_files_in,
       [](const auto& in) { return code_of(::link((in + "/f").c_str(), (in + "/g").c_str())); }},
      {"unlink", make_file_in, [](const auto& in) { return code_of(::unlink((in + "/f").c_str())); }},
      {"unlink_missing", nothing, [](const auto& in) { return code_of(::unlink((in + "/f").c_str())); }},
      {"rmdir", [](const auto& in) { return code_of(::mkdir((in + "/f").c_str(), 0755)); },
       [](const auto& in) { return code_of(::rmdir((in + "/f").c_str())); }},
      {"rename", make_file_in, [](const auto& in) { return rename_with(in, 0); }},
      {"rename_over", make_two_files_in, [](const auto& in) { return rename_with(in, 0); }},
      {"rename_directory", [](const auto& in) { return code_of(::mkdir((in + "/f").c_str(), 0755)); },
       [](const auto& in) { return rename_with(in, 0); }},
      {"rename_exchange", make_two_files_in, [](const auto& in) { return rename_with(in, RENAME_EXCHANGE); }},
      {"rename_noreplace", make_file_in, [](const auto& in) { return rename_with(in, RENAME_NOREPLACE); }},
      {"rename_noreplace_over", make_two_files_in, [](const auto& in) { return rename_with(in, RENAME_NOREPLACE); }},
      {"rename_same_file",
       [](const auto& in) { return make_file_in(in) + code_of(::link((in + "/f").c_str(), (in + "/g").c_str())); },
       [](const auto& in) { return rename_with(in, 0); }},
      {"setxattr_create", make_file_in, [](const auto& in) { return set_attribute(in, XATTR_CREATE); }},
      {"setxattr_create_over", make_file_with_attribute_in,
       [](const auto& in) { return set_attribute(in, XATTR_CREATE); }},
      {"setxattr_replace", make_file_with_attribute_in,
       [](const auto& in) { return set_attribute(in, XATTR_REPLACE); }},
      {"removexattr", make_file_with_attribute_in,
       [](const auto& in) { return code_of(::removexattr((in + "/f").c_str(), "user.x")); }},
      {"removexattr_missing", make_file_in,
       [](const auto& in) { return code_of(::removexattr((in + "/f").c_str(), "user.x")); }},
      {"append", make_file_in, [](const auto& in) { return open_and_write(in + "/f", O_WRONLY | O_APPEND); }},
      {"append_twice", make_file_in,
       [](const auto& in) {
         const UniqueFd file(::open((in + "/f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
         if (!file) return errno;
         return ::write(file.get(), "same", 4) == 4 && ::write(file.get(), "same", 4) == 4 ? 0 : EIO;
       }},
      {"write", make_file_in, [](const auto& in) { return open_and_write(in + "/f", O_RDWR); }},
      {"truncate", make_file_in, [](const auto& in) { return code_of(::truncate((in + "/f").c_str(), 3)); }},
      {"chmod", make_file_in, [](const auto& in) { return code_of(::chmod((in + "/f").c_str(), 0600)); }},
      {"chown", make_file_in, [](const auto& in) { return code_of(::chown((in + "/f").c_str(), 1234, 1234)); }},
      {"access_list", make_file_in, set_access_list},
      {"access_list_removed", make_file_with_access_list_in,
       [](const auto& in) { return code_of(::removexattr((in + "/f").c_str(), kAccessList)); }},
      {"nameless", nothing, use_nameless},
      {"nameless_named", nothing, name_nameless},
      {"nameless_named_over", make_two_files_in, name_nameless},
      {"allocate", make_file_in, [](const auto& in) { return allocate(in, 0, 4, 100); }},
      {"allocate_keep_size", make_file_in, [](const auto& in) { return allocate(in, FALLOC_FL_KEEP_SIZE, 0, 9000); }},
      {"punch_hole", make_file_in,
       [](const auto& in) { return allocate(in, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 3); }},
      {"copy_range", make_two_files_in, [](const auto& in) { return copy_range(in, "/g", 2); }},
      {"copy_range_within", make_file_in, [](const auto& in) { return copy_range(in, "/f", 7); }},
      {"copy_range_beyond_the_end", make_file_in, [](const auto& in) { return copy_range(in, "/f", 100, 1000); }},
      {"list", make_two_files_in, list},
  };
  return all;
}

constexpr const char* kPoints[] = {
    "read",         "begun",          "answer-ready", "answer-sent",     "answered",      "look-up-noted",
    "look-up-done", "forget-noted",   "forget-done",  "make-noted",      "make-done",     "remove-noted",
    "remove-done",  "move-noted",     "move-done",    "move-followed",   "create-noted",  "create-done",
    "open-done",    "handle-noted",   "handle-done",  "release-done",    "xattr-noted",   "xattr-done",
    "append-noted", "copy-noted",     "write-done",   "attributes-done", "nameless-made", "allocated",
    "copied",       "forget-dropped",
};

/// Points of the work that a successor does over what was left: reached when a server dies at another one first.
constexpr const char* kLaterPoints[] = {"taking-back", "taken-back"};

class CrashPoints : public TakeoverTest, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    TakeoverTest::SetUp();
    expected_ = server_.make_directory("memory/expected");
    trigger_ = server_.path("trigger");
    ASSERT_EQ(::setenv("BERTH_CRASH_FILE", trigger_.c_str(), 1), 0);
  }
  void TearDown() override { ::unsetenv("BERTH_CRASH_FILE"); }

  void arm(const std::string& points) {
    ASSERT_TRUE(ok(server_.write_file("trigger.new", points + "\n")));
    ASSERT_EQ(::rename(server_.path("trigger.new").c_str(), trigger_.c_str()), 0);
  }
  [[nodiscard]] bool is_armed() const { return ::access(trigger_.c_str(), F_OK) == 0; }

  /// The operation in the share, where servers die at these points one after another, must be as it is without.
  void expect_undisturbed(const Operation& operation, const std::string& points) {
    SCOPED_TRACE(std::string(operation.name) + " at " + points);
    const std::string name = operation.name + std::to_string(++count_);
    const std::string plain = expected_ + "/" + name;
    const std::string shown = in(name);
    ASSERT_EQ(::mkdir(plain.c_str(), 0755), 0);
    ASSERT_EQ(operation.prepare(plain), 0);
    const int expected = operation.run(plain);
    ASSERT_EQ(::mkdir(shown.c_str(), 0755), 0) << errno_name(errno);
    ASSERT_EQ(operation.prepare(shown), 0);

    arm(points);
    const int code = operation.run(shown);
    // What comes after the answer may still be under way.
    const bool strikes = !is_armed();
    if (!strikes) ::unlink(trigger_.c_str());
    struck_ += strikes ? 1 : 0;
    EXPECT_EQ(errno_name(code), errno_name(expected));
    EXPECT_EQ(tree_at(source_ + "/" + name), tree_at(plain)) << "on disk";
    EXPECT_EQ(tree_at(shown), tree_at(plain)) << "as it is shown";
  }

  std::string expected_;
  std::string trigger_;
  std::size_t struck_ = 0;

 private:
  int count_ = 0;
};

TEST_P(CrashPoints, CallerSeesNothingOfIt) {
  ASSERT_NO_FATAL_FAILURE(start_overlay());
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  const Footprint before = server_.footprint();
  for (const Operation& operation : operations()) {
    ASSERT_NO_FATAL_FAILURE(expect_undisturbed(operation, GetParam()));
  }
  if (std::string_view(GetParam()).starts_with("forget")) {
    // Only now does the kernel forget anything.
    arm(GetParam());
    EXPECT_TRUE(eventually([&] {
      std::ofstream("/proc/sys/vm/drop_caches") << "3";
      return !is_armed();
    }));
    ++struck_;
  }
  EXPECT_GE(struck_, 1U) << "the point was never reached";
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_P(CrashPoints, NorOfTwo) {
  ASSERT_NO_FATAL_FAILURE(start_overlay());
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  const Footprint before = server_.footprint();
  for (const Operation& operation : operations()) {
    ASSERT_NO_FATAL_FAILURE(expect_undisturbed(operation, std::string(GetParam()) + " " + GetParam()));
  }
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

std::string word_of(const ::testing::TestParamInfo<const char*>& chosen) {
  std::string word = chosen.param;
  std::replace(word.begin(), word.end(), '-', '_');
  return word;
}

INSTANTIATE_TEST_SUITE_P(Points, CrashPoints, ::testing::ValuesIn(kPoints), word_of);

/// The first server dies at one point, and the second one over what that has left.
class CrashOverACrash : public CrashPoints {};

TEST_P(CrashOverACrash, CallerSeesNothingOfIt) {
  ASSERT_NO_FATAL_FAILURE(start_overlay());
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  const Footprint before = server_.footprint();
  for (const char* const first : {"answer-ready", "make-done", "move-done", "look-up-done", "handle-done"}) {
    for (const Operation& operation : operations()) {
      ASSERT_NO_FATAL_FAILURE(expect_undisturbed(operation, std::string(first) + " " + GetParam()));
    }
  }
  EXPECT_GE(struck_, 1U) << "the point was never reached";
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

/// What the first one had not come to is noted by the second one, for the third.
TEST_P(CrashPoints, NorOfOneAfterAnotherThatHadOnlyBegun) {
  ASSERT_NO_FATAL_FAILURE(start_overlay());
  ASSERT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  for (const Operation& operation : operations()) {
    ASSERT_NO_FATAL_FAILURE(expect_undisturbed(operation, std::string("begun ") + GetParam()));
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Points, CrashOverACrash, ::testing::ValuesIn(kLaterPoints), word_of);

/// Points of a mount that requires another one, one after another: between the two, and when either is made and not
/// noted yet.
constexpr const char* kRequirementPoints[] = {"required-mounted", "required-mounted required-mounted", "mount-made",
                                              "mount-made mount-made", "mount-made required-mounted mount-made"};

class RequirementCrashPoints : public CrashPoints {};

TEST_P(RequirementCrashPoints, FirstCallerSeesNothingOfIt) {
  const std::string keys = server_.make_directory("keys");
  ASSERT_TRUE(ok(server_.write_file("keys/key", "open\n")));
  ASSERT_TRUE(ok(server_.write_file("script",
                                    "mount -t tmpfs the-crypt \"$1\" && cp \"$2\" \"$1/key\" || exit 1\n"
                                    "exec sleep 1000\n")));
  ASSERT_NO_FATAL_FAILURE(
      start("", "",
            "[share.keys]\ntype = \"bind\"\naccess = \"proxy\"\nidle_timeout = \"0\"\nsource = \"" + keys +
                "\"\n[share.crypt]\ntype = \"command\"\nrequires = [\"keys\"]\nidle_timeout = "
                "\"1h\"\nmount = [\"sh\", \"" +
                server_.path("script") + "\", \"{mountpoint}\", \"" + server_.in_namespace("keys/key") + "\"]\n"));
  const auto use = [this] { return server_.read_file("namespace/crypt/key").value_or("none"); };
  const auto give_back = [this] {
    EXPECT_TRUE(ok(server_.write_control("shares/crypt/control", "unmount")));
    EXPECT_TRUE(server_.wait_for_state("keys", "idle"));
  };
  EXPECT_EQ(use(), "open\n");
  give_back();
  const Footprint before = server_.footprint();
  for (int round = 0; round < 3; ++round) {
    arm(GetParam());
    EXPECT_EQ(use(), "open\n");
    EXPECT_FALSE(is_armed()) << "the point was never reached";
    ::unlink(trigger_.c_str());
    EXPECT_EQ(server_.state("keys"), "mounted");
    EXPECT_EQ(server_.read_json("shares/keys/status.json")["required_by"], nlohmann::json::array({"crypt"}));
    EXPECT_FALSE(server_.write_control("shares/keys/control", "unmount")) << "it is held";
    give_back();
  }
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Points, RequirementCrashPoints, ::testing::ValuesIn(kRequirementPoints),
                         [](const auto& chosen) {
                           std::string word = word_of(chosen);
                           std::replace(word.begin(), word.end(), ' ', '_');
                           return word;
                         });

/// Points on the way into a share that is to be native, and from it: of the server, and of the agent that overmounts
/// it.
constexpr const char* kNativePoints[] = {"sent-back", "at-the-name", "overmount-asked", "overmount-done",
                                         "removal-asked"};
constexpr const char* kAgentPoints[] = {"agent-overmounts", "agent-overmounted", "agent-removed"};

/// Each operation is the first access to an idle share, which is overmounted with its real mount.
class NativeCrashPoints : public CrashPoints {
 protected:
  void start_native() {
    ASSERT_TRUE(
        ok(server_.start("[berth]\ncrash_limit = 1000\n[share.a]\ntype = \"bind\"\nsource = \"" + source_ + "\"\n")));
    touch();
    ASSERT_NO_FATAL_FAILURE(unmount());
  }
  /// By another thread, as by another program.
  void touch() {
    std::thread([this] { EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello"); }).join();
  }
  [[nodiscard]] std::size_t mounts() const {
    const auto table = sys::read_mount_table();
    if (!table) return SIZE_MAX;
    return static_cast<std::size_t>(std::count_if(
        table->begin(), table->end(), [&](const auto& entry) { return entry.target == server_.in_namespace("a"); }));
  }
  [[nodiscard]] bool is_native() const { return server_.read_json("shares/a/status.json").value("native", false); }
  void unmount() {
    ASSERT_TRUE(eventually([&] { return server_.write_control("shares/a/control", "unmount").has_value(); }));
    ASSERT_EQ(mounts(), 0U);
  }
  /// The operation, with the share idle, while processes die at these points; and then another access, and an unmount.
  void expect_undisturbed_first(const Operation& operation, const std::string& points) {
    SCOPED_TRACE(std::string(operation.name) + " at " + points);
    const std::string name = operation.name + std::to_string(++count_);
    const std::string plain = expected_ + "/" + name;
    ASSERT_EQ(::mkdir(plain.c_str(), 0755), 0);
    ASSERT_EQ(operation.prepare(plain), 0);
    const int expected = operation.run(plain);
    ASSERT_EQ(::mkdir((source_ + "/" + name).c_str(), 0755), 0);
    ASSERT_EQ(operation.prepare(source_ + "/" + name), 0);

    arm(points);
    int code = -1;
    std::thread([&] { code = operation.run(in(name)); }).join();
    EXPECT_EQ(errno_name(code), errno_name(expected));
    EXPECT_EQ(tree_at(source_ + "/" + name), tree_at(plain)) << "on disk";
    EXPECT_LE(mounts(), 1U);
    EXPECT_TRUE(eventually([&] {
      touch();
      return is_native();
    })) << server_.read_control("shares/a/status.json").value_or("");
    EXPECT_EQ(mounts(), 1U);
    EXPECT_EQ(tree_at(in(name)), tree_at(plain)) << "as it is shown";
    ASSERT_NO_FATAL_FAILURE(unmount());
    if (!is_armed()) ++struck_;
    if (is_armed()) ::unlink(trigger_.c_str());
  }

 private:
  int count_ = 0;
};

TEST_P(NativeCrashPoints, FirstCallerSeesNothingOfIt) {
  ASSERT_NO_FATAL_FAILURE(start_native());
  const Footprint before = server_.footprint();
  for (const Operation& operation : operations()) {
    ASSERT_NO_FATAL_FAILURE(expect_undisturbed_first(operation, GetParam()));
  }
  // A caller that has not gone to sleep in its system call yet cannot be seen in it, and is served without being sent
  // back.
  EXPECT_GT(struck_, operations().size() / 2);
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_P(NativeCrashPoints, NorOfTwo) {
  ASSERT_NO_FATAL_FAILURE(start_native());
  const Footprint before = server_.footprint();
  for (const Operation& operation : operations()) {
    ASSERT_NO_FATAL_FAILURE(expect_undisturbed_first(operation, std::string(GetParam()) + " " + GetParam()));
  }
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Points, NativeCrashPoints, ::testing::ValuesIn(kNativePoints), word_of);

class NativeAgentCrashPoints : public NativeCrashPoints {};

TEST_P(NativeAgentCrashPoints, FirstCallerSeesNothingOfIt) {
  ASSERT_NO_FATAL_FAILURE(start_native());
  constexpr std::size_t kOfTenShortLives = 8;
  const Footprint before = server_.footprint();
  for (std::size_t i = 0; i < kOfTenShortLives; ++i) {
    const std::size_t step = operations().size() / kOfTenShortLives;
    ASSERT_NO_FATAL_FAILURE(expect_undisturbed_first(operations()[i * step], GetParam()));
  }
  EXPECT_EQ(struck_, kOfTenShortLives);
  expect_footprint_of(before);
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Points, NativeAgentCrashPoints, ::testing::ValuesIn(kAgentPoints), word_of);

/// A kernel before Linux 6.9 does not send a request again, which the switch stands for.
class WithoutResend : public TakeoverTest {
 protected:
  void SetUp() override {
    TakeoverTest::SetUp();
    ASSERT_EQ(::setenv("BERTH_NO_RESEND", "1", 1), 0);
    start("", "", "[share.hang]\ntype = \"command\"\nmount = [\"sh\", \"-c\", \"sleep 1000\", \"{mountpoint}\"]\n");
    ::unsetenv("BERTH_NO_RESEND");
  }
};

TEST_F(WithoutResend, WhatWasUnderWayFailsAndAllElseGoesOn) {
  const UniqueFd held(::open(in("hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(held);
  Doer reader([&] { return code_of(::open(server_.in_namespace("hang/x").c_str(), O_RDONLY)); });
  ASSERT_TRUE(server_.wait_for_state("hang", "mounting"));
  kill_server();
  EXPECT_EQ(reader.result(), EIO);
  char byte = 0;
  EXPECT_EQ(::pread(held.get(), &byte, 1, 0), 1);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

/// Operations where the server dies at a point, on such a kernel.
class CrashPointsWithoutResend : public CrashPoints {
 protected:
  void start_without_resend() {
    ASSERT_EQ(::setenv("BERTH_NO_RESEND", "1", 1), 0);
    start();
    ::unsetenv("BERTH_NO_RESEND");
  }
};

TEST_P(CrashPointsWithoutResend, EveryCallerIsAnswered) {
  ASSERT_NO_FATAL_FAILURE(start_without_resend());
  for (const Operation& operation : operations()) {
    SCOPED_TRACE(operation.name);
    const std::string plain = expected_ + "/" + operation.name;
    const std::string shown = in(operation.name);
    ASSERT_EQ(::mkdir(plain.c_str(), 0755), 0);
    ASSERT_EQ(operation.prepare(plain), 0);
    const int expected = operation.run(plain);
    ASSERT_EQ(::mkdir(shown.c_str(), 0755), 0) << errno_name(errno);
    ASSERT_EQ(operation.prepare(shown), 0);
    arm(GetParam());
    Doer caller([&] { return operation.run(shown); });
    const int code = caller.result();
    ASSERT_TRUE(code == expected || code == EIO)
        << code << " instead of " << errno_name(expected) << "; " << server_.log();
    EXPECT_TRUE(eventually([this] { return !is_armed(); }));
    EXPECT_TRUE(eventually([this] { return server_.read_file("namespace/a/hello").value_or("") == "hello"; }));
  }
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Points, CrashPointsWithoutResend,
                         ::testing::Values("read", "begun", "answer-ready", "answer-sent"), word_of);

}  // namespace
}  // namespace berth::test
