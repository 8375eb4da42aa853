#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "tests/parity/furniture.h"
#include "tests/parity/options.h"
#include "tests/parity/sides.h"

// What takes several calls to see: set-id bits that a write takes away, files that are open and removed, directories
// that one process works in and another removes. On the furniture of furnish().
namespace berth::test {
namespace {

using Case = Sides::Case;

constexpr int kRoot = 0, kOwner = 1, kStranger = 2, kOwnerAgain = 3, kCapable = 4, kJoiner = 5;

/// How a file is changed through a descriptor that is open for writing in slot 1.
struct Change {
  const char* call;
  Given given;
};
const std::vector<Change>& changes() {
  static const std::vector<Change> all{
      {"write", {.n = {0, 10, 1}, .slot = 1}},
      {"write", {.n = {0, 0, 1}, .slot = 1}},
      {"pwrite", {.n = {6000, 100, 1}, .slot = 1}},
      {"writev", {.n = {0, 100, 1}, .slot = 1}},
      {"ftruncate", {.n = {10}, .slot = 1}},
      {"ftruncate", {.n = {5000}, .slot = 1}},
      {"ftruncate", {.n = {9000}, .slot = 1}},
      {"fallocate", {.n = {0, 9000, 0}, .slot = 1}},
      {"fallocate", {.n = {0, 4096, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE}, .slot = 1}},
      {"map", {.n = {0, 10, 1, 1}, .slot = 1}},
      {"copy", {.n = {0, 0, 100}, .slot = 1, .other_slot = 1}},
      {"fchown", {.n = {-1, -1}, .slot = 1}},
      {"fchmod", {.n = {06711}, .slot = 1}},
      {"futimes", {.n = {-1, -1, -9}, .slot = 1}},
      {"setxattr", {.other = "security.capability", .slot = 1}},
  };
  return all;
}

/// Where a FUSE client takes more away than it should: the capability of a file, after another user's chown(2) of
/// neither id, which is refused; and for a mapping whose pages are written back through berth.
bool is_beyond_fuse(int user, const Change& change, bool through_berth) {
  const std::string_view call = change.call;
  return (user == kStranger && call == "fchown") || (through_berth && call == "map");
}

/// Set-id bits and capabilities, when others and when owners write.
std::vector<Case> set_id_stories(bool through_berth) {
  std::vector<Case> stories;
  for (const int user : {kRoot, kOwner, kStranger}) {
    for (const char* file : {"suid", "sgid-only", "mandatory"}) {
      for (const Change& change : changes()) {
        if (!is_known(change.call)) continue;
        Case story{operation("open", {.path = file, .n = {O_RDWR}, .slot = 1}, user),
                   operation(change.call, change.given, user), operation("fstat", {.slot = 1}, user),
                   operation(change.call, change.given, user), operation("stat", {.path = file}, user)};
        stories.push_back(story);
        if (!is_known("setxattr") || is_beyond_fuse(user, change, through_berth)) continue;
        story.insert(story.begin(), operation("setxattr", {.path = file, .other = "security.capability"}));
        story.push_back(operation("getxattr", {.path = file, .other = "security.capability"}));
        stories.push_back(std::move(story));
      }
      for (const long length : {0L, 5000L, 7000L}) {
        stories.push_back({operation("truncate", {.path = file, .n = {length}}, user)});
      }
    }
  }
  return stories;
}

/// Files and directories that have lost their names.
std::vector<Case> removed_stories() {
  const auto open = [](const char* path, long flags) {
    return operation("open", {.path = path, .n = {flags, 0644}, .slot = 1}, kOwner);
  };
  const auto as_owner = [](const char* call, const Given& given) { return operation(call, given, kOwner); };
  const Case use{as_owner("fstat", {.slot = 1}),
                 as_owner("pwrite", {.n = {100, 5000, 3}, .slot = 1}),
                 as_owner("pread", {.n = {0, 8192}, .slot = 1}),
                 as_owner("ftruncate", {.n = {50}, .slot = 1}),
                 as_owner("fchmod", {.n = {0600}, .slot = 1}),
                 as_owner("fchown", {.n = {-1, 2001}, .slot = 1}),
                 as_owner("futimes", {.n = {5, 6}, .slot = 1}),
                 as_owner("sync", {.slot = 1}),
                 as_owner("map", {.n = {0, 20, 3, 1}, .slot = 1}),
                 as_owner("seek", {.n = {0, SEEK_END}, .slot = 1}),
                 as_owner("statfs", {.slot = 1}),
                 as_owner("flags", {.n = {-1}, .slot = 1}),
                 as_owner("list_open", {.n = {1}, .slot = 1}),
                 as_owner("open", {.path = "@1/x", .n = {O_CREAT | O_WRONLY, 0644}, .slot = 2}),
                 as_owner("mkdir", {.path = "@1/y", .n = {0755}}),
                 as_owner("stat", {.path = "@1/..", .n = {0}}),
                 as_owner("fstat", {.slot = 1}),
                 as_owner("close", {.slot = 1}),
                 as_owner("stat", {.path = "."})};
  std::vector<Case> stories;
  const auto add = [&](const Operation& opened, const std::vector<Operation>& then) {
    Case story{opened};
    story.insert(story.end(), then.begin(), then.end());
    story.insert(story.end(), use.begin(), use.end());
    stories.push_back(std::move(story));
  };
  add(open("file", O_RDWR), {operation("unlink", {.path = "hard"}), operation("unlink", {.path = "file"})});
  add(open("file", O_RDWR), {operation("unlink", {.path = "file"})});
  add(open("file", O_RDWR), {operation("rename", {.path = "file", .other = "dir/moved"})});
  add(open("file", O_RDWR), {operation("rename", {.path = "suid", .other = "file"})});
  add(open("file", O_RDWR), {operation("rename", {.path = "suid", .other = "file", .n = {RENAME_EXCHANGE}})});
  add(open("dir", O_RDONLY), {operation("rename", {.path = "dir", .other = "empty"})});
  add(open("dir/deep", O_RDONLY), {operation("rename", {.path = "dir", .other = "elsewhere"})});
  add(open("empty", O_RDONLY), {operation("rmdir", {.path = "empty", .n = {AT_REMOVEDIR}})});
  add(open("new", O_CREAT | O_RDWR), {operation("unlink", {.path = "new"}), operation("mkdir", {.path = "new"})});
  add(open("suid", O_RDWR | O_APPEND), {operation("unlink", {.path = "suid"})});
  // Any other process that had it open closes it: then it is looked for by its name.
  const auto again = [&](long flags) {
    return Case{as_owner("reopen", {.n = {flags}, .slot = 1, .other_slot = 2}), as_owner("close", {.slot = 2})};
  };
  for (const Operation& replacement :
       {operation("mkdir", {.path = "file", .n = {0777}}), operation("mknod", {.path = "file", .n = {S_IFIFO | 0666}}),
        operation("open", {.path = "file", .n = {O_CREAT | O_RDWR, 0}, .slot = 4})}) {
    Case then{operation("unlink", {.path = "file"}), replacement};
    for (const long flags : {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC}) {
      for (const Operation& step : again(flags)) then.push_back(step);
    }
    add(open("file", O_RDWR), then);
  }
  if (is_known("tmpfile")) {
    add(operation("tmpfile", {.path = "dir", .n = {O_RDWR, 0640}, .slot = 1}, kOwner), {});
    add(operation("tmpfile", {.path = "dir", .n = {O_RDWR, 0640}, .slot = 1}, kOwner),
        {operation("link_fd", {.path = "dir/named", .slot = 1}, kOwner)});
    add(operation("tmpfile", {.path = "dir", .n = {O_RDWR | O_EXCL, 0640}, .slot = 1}, kOwner),
        {operation("link_fd", {.path = "dir/named", .slot = 1}, kOwner)});
  }
  return stories;
}

/// A working directory that is renamed, removed or closed to the process in it.
std::vector<Case> working_directory_stories() {
  const auto at_work = [](std::vector<Operation> happens) {
    Case story{operation("chdir", {.path = "empty"}, kOwner)};
    story.insert(story.end(), happens.begin(), happens.end());
    for (const Operation& operation :
         {operation("open", {.path = "~new", .n = {O_CREAT | O_RDWR, 0644}, .slot = 3}, kOwner),
          operation("mkdir", {.path = "~below", .n = {0755}}, kOwner), operation("list", {.path = "~."}, kOwner),
          operation("stat", {.path = "~.."}, kOwner), operation("symlink", {.path = "~l", .other = "new"}, kOwner),
          operation("rename", {.path = "~new", .other = "~other"}, kOwner), operation("stat", {.path = "~."}, kOwner),
          operation("chmod", {.path = "~.", .n = {0700}}, kOwner), operation("chdir", {.path = "~.."}, kOwner)}) {
      story.push_back(operation);
    }
    return story;
  };
  std::vector<Case> stories{
      at_work({}), at_work({operation("rmdir", {.path = "empty", .n = {AT_REMOVEDIR}})}),
      at_work({operation("chmod", {.path = "empty", .n = {0}})}),
      at_work({operation("chown", {.path = "empty", .n = {0, 0}})}),
      at_work({operation("rmdir", {.path = "empty", .n = {AT_REMOVEDIR}}), operation("mkdir", {.path = "empty"})})};
  stories.push_back(at_work({operation("rename", {.path = "empty", .other = "dir/moved"})}));
  stories.push_back(at_work({operation("rename", {.path = "empty", .other = "closed/moved"})}));
  return stories;
}

/// Permissions that change while a file is open, and programs that one process writes and another runs.
std::vector<Case> two_process_stories() {
  const auto open = [](const char* path, long flags, int user) {
    return operation("open", {.path = path, .n = {flags, 0644}, .slot = 1}, user);
  };
  return {
      {open("file", O_RDWR, kOwner), operation("chmod", {.path = "file", .n = {0}}),
       operation("write", {.n = {0, 10, 1}, .slot = 1}, kOwner), operation("read", {.n = {0, 10}, .slot = 1}, kOwner),
       operation("reopen", {.slot = 1, .other_slot = 2}, kOwner), open("file", O_RDONLY, kOwnerAgain)},
      {open("file", O_RDWR, kOwner), operation("chown", {.path = "file", .n = {0, 0}}),
       operation("ftruncate", {.n = {7}, .slot = 1}, kOwner), operation("fchmod", {.n = {0777}, .slot = 1}, kOwner),
       operation("futimes", {.n = {5, 6}, .slot = 1}, kOwner),
       operation("futimes", {.n = {-1, -1, -9}, .slot = 1}, kOwner)},
      {operation("chmod", {.path = "program", .n = {0777}}), open("program", O_RDWR, kOwner),
       operation("execute", {.path = "program"}, kStranger), operation("close", {.slot = 1}, kOwner)},
      {open("file", O_WRONLY | O_APPEND, kOwner), open("file", O_WRONLY | O_APPEND, kOwnerAgain),
       operation("write", {.n = {0, 10, 1}, .slot = 1}, kOwner),
       operation("write", {.n = {0, 20, 2}, .slot = 1}, kOwnerAgain),
       operation("write", {.n = {0, 30, 3}, .slot = 1}, kOwner), operation("flags", {.n = {0}, .slot = 1}, kOwner),
       operation("pwrite", {.n = {0, 5, 3}, .slot = 1}, kOwner),
       operation("write", {.n = {0, 5, 4}, .slot = 1}, kOwner)},
      {open("file", O_RDWR, kOwner), operation("lock", {.n = {0, F_RDLCK, 10, 10}, .slot = 1}, kOwner),
       open("file", O_RDWR, kOwnerAgain), operation("lock", {.n = {0, F_RDLCK, 10, 10}, .slot = 1}, kOwnerAgain),
       operation("ask_lock", {.n = {0, F_WRLCK, 10, 10}, .slot = 1}, kOwnerAgain),
       operation("ask_lock", {.n = {0, F_WRLCK, 0, 0}, .slot = 1}, kOwner)},
      // The pages are written back through a descriptor that appends.
      {open("file", O_RDWR, kOwner), open("file", O_RDWR | O_APPEND, kOwnerAgain),
       operation("map", {.n = {10, 20, 3, 1}, .slot = 1}, kOwnerAgain),
       operation("map", {.n = {30, 20, 4, 1}, .slot = 1}, kOwner), operation("stat", {.path = "file"}, kOwner)},
      {operation("chattr", {.path = "file", .n = {FS_APPEND_FL}}), open("file", O_WRONLY, kOwner),
       open("file", O_WRONLY | O_APPEND, kOwner), operation("write", {.n = {0, 10, 1}, .slot = 1}, kOwner),
       operation("ftruncate", {.n = {0}, .slot = 1}, kOwner), operation("flags", {.n = {0}, .slot = 1}, kOwner)},
  };
}

/// Users that are allowed things not only by their ids: capabilities, and groups that a process joins after its first
/// call.
std::vector<Case> rights_stories() {
  const auto as_capable = [](const char* call, const Given& given) { return operation(call, given, kCapable); };
  const auto as_joiner = [](const char* call, const Given& given) { return operation(call, given, kJoiner); };
  const auto join = [&](long group) { return as_joiner("set_group", {.n = {group}}); };
  const Operation look = as_joiner("open", {.path = "teams", .n = {O_RDWR}, .slot = 1});
  const Case prepare{operation("mkdir", {.path = "team", .n = {0770}}),
                     operation("chown", {.path = "team", .n = {0, 3000}}),
                     operation("open", {.path = "teams", .n = {O_CREAT | O_RDWR, 0660}, .slot = 1}),
                     operation("chown", {.path = "teams", .n = {0, 3000}}),
                     as_joiner("open", {.path = "joiners", .n = {O_CREAT | O_RDWR, 0644}, .slot = 2})};
  std::vector<Case> stories{
      {as_capable("open", {.path = "closed/f", .n = {O_RDWR}, .slot = 1}),
       as_capable("write", {.n = {0, 9, 1}, .slot = 1})},
      {as_capable("mkdir", {.path = "closed/new", .n = {0755}}), as_capable("unlink", {.path = "closed/f", .n = {0}})},
      {as_capable("chown", {.path = "file", .n = {1002, 3000}}), as_capable("chmod", {.path = "file", .n = {06755}})},
      {as_capable("utimes", {.path = "rootfile", .n = {5, 6}}), as_capable("truncate", {.path = "rootfile", .n = {3}})},
      {as_capable("rename", {.path = "sticky/mine", .other = "sticky/other"}), as_capable("list", {.path = "closed"})},
      {as_capable("link", {.path = "rootfile", .other = "closed/another"}),
       as_capable("setxattr", {.path = "rootfile", .other = "user.a"}),
       as_capable("setxattr", {.path = "rootfile", .other = "trusted.a"})},
      {as_capable("mknod", {.path = "null", .n = {S_IFCHR | 0644, 0x103}})},
  };
  for (const Operation& then :
       {look, as_joiner("mkdir", {.path = "team/below", .n = {0755}}),
        as_joiner("chown", {.path = "joiners", .n = {-1, 3000}}), as_joiner("list", {.path = "team", .n = {2}}),
        as_joiner("link", {.path = "teams", .other = "another"}),
        as_joiner("rename", {.path = "joiners", .other = "team/joiners"})}) {
    Case story = prepare;
    for (const Operation& step : {join(2001), look, join(3000), then, join(2001), then}) story.push_back(step);
    stories.push_back(std::move(story));
  }
  return stories;
}

/// What is asked of a descriptor whatever the file's permissions have become since it was opened.
std::vector<Case> attribute_stories() {
  std::vector<Case> stories;
  const auto ask = [&](const char* path, long flags, long mode) {
    stories.push_back(
        {operation("open", {.path = path, .n = {flags, 0644}, .slot = 1}, kOwner),
         operation("chmod", {.path = path, .n = {mode}}), operation("fsxattr", {.n = {0}, .slot = 1}, kOwner),
         operation("set_flags", {.n = {FS_NODUMP_FL}, .slot = 1}, kOwner),
         operation("fsxattr", {.n = {FS_XFLAG_NODUMP}, .slot = 1}, kOwner),
         operation("chown", {.path = path, .n = {0, 0}}), operation("fsxattr", {.n = {0}, .slot = 1}, kOwner),
         operation("set_flags", {.n = {FS_NODUMP_FL}, .slot = 1}, kOwner),
         operation("open", {.path = path, .n = {O_RDONLY, 0}, .slot = 2}, kOwner)});
  };
  for (const long mode : {0L, 0200L, 0444L}) {
    ask("file", O_RDWR, mode);
    ask("file", O_WRONLY, mode);
    ask("dir", O_RDONLY | O_DIRECTORY, mode);
  }
  return stories;
}

/// Directories that are open while names come and go, which others have listed meanwhile.
std::vector<Case> listing_stories() {
  const Operation open = operation("open", {.path = "dir", .n = {O_RDONLY | O_DIRECTORY}, .slot = 1}, kOwner);
  const Operation list = operation("list", {.path = "dir", .n = {1}}, kStranger);
  const Operation list_open = operation("list_open", {.n = {1}, .slot = 1}, kOwner);
  const Operation make = operation("open", {.path = "dir/new", .n = {O_CREAT | O_WRONLY, 0644}, .slot = 2}, kOwner);
  const Operation remove = operation("unlink", {.path = "dir/inside"}, kOwner);
  return {{list, open, make, list_open, list, remove, list_open, list},
          {list, open, list_open, make, list_open, list, remove, list_open, list},
          {open, list, make, list_open, list},
          {list, open, remove, list_open, list},
          {list, open, operation("rename", {.path = "dir/inside", .other = "dir/other"}), list_open, list}};
}

class Stories : public testing::TestWithParam<const char*> {
 protected:
  void expect_alike(std::vector<Case> cases) {
    Sides sides(GetParam());
    if (!sides.why_not().empty()) GTEST_SKIP() << sides.why_not();
    std::erase_if(cases, [](const Case& one) {
      return std::any_of(one.begin(), one.end(), [](const Operation& op) { return !is_known(op.call->name); });
    });
    for (const std::string& text : sides.run_each(cases, &furnish_sparsely, 20)) ADD_FAILURE() << text;
  }
};

TEST_P(Stories, OfSetIdBitsThatAreTakenAway) {
  expect_alike(set_id_stories(GetParam() == std::string_view("overlay")));
}
TEST_P(Stories, OfFilesWithoutName) { expect_alike(removed_stories()); }
TEST_P(Stories, OfWorkingDirectories) { expect_alike(working_directory_stories()); }
TEST_P(Stories, OfAttributesOfWhatIsOpen) { expect_alike(attribute_stories()); }
TEST_P(Stories, OfCapabilitiesAndGroups) { expect_alike(rights_stories()); }
TEST_P(Stories, OfListings) { expect_alike(listing_stories()); }
TEST_P(Stories, OfTwoProcesses) { expect_alike(two_process_stories()); }

INSTANTIATE_TEST_SUITE_P(On, Stories, testing::Values("ext4", "xfs", "btrfs", "tmpfs", "overlay"),
                         [](const auto& tried) { return std::string(tried.param); });

}  // namespace
}  // namespace berth::test
