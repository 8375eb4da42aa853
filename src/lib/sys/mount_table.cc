#include "src/lib/sys/mount_table.h"

#include <fcntl.h>
#include <libmount/libmount.h>
#include <linux/openat2.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <memory>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"
#include "src/lib/sys/proc.h"

namespace berth::sys {
namespace {

constexpr const char* kMountInfo = "/proc/thread-self/mountinfo";

struct TableCloser {
  void operator()(libmnt_table* table) const noexcept { mnt_unref_table(table); }
};
struct IteratorCloser {
  void operator()(libmnt_iter* iterator) const noexcept { mnt_free_iter(iterator); }
};
using Table = std::unique_ptr<libmnt_table, TableCloser>;
using Iterator = std::unique_ptr<libmnt_iter, IteratorCloser>;

std::string text_of(const char* text) { return text != nullptr ? std::string(text) : std::string(); }

/// proc(5), mountinfo: "shared:2 master:7".
bool has_field(libmnt_fs* fs, const char* name) {
  return text_of(mnt_fs_get_optional_fields(fs)).find(name) != std::string::npos;
}

/// Of the options of the file system, which a user that mounts it cannot choose: fusermount3(1) and the kernel do.
uid_t user_of(libmnt_fs* fs) {
  uid_t user = 0;
  const std::string options = text_of(mnt_fs_get_fs_options(fs));
  for (const std::string_view option : split(options, ',')) {
    constexpr std::string_view kUser = "user_id=";
    if (!option.starts_with(kUser)) continue;
    std::from_chars(option.data() + kUser.size(), option.data() + option.size(), user);
    break;
  }
  return user;
}

MountEntry entry_of(libmnt_fs* fs) {
  return {
      .id = static_cast<std::uint64_t>(mnt_fs_get_id(fs)),
      .parent = static_cast<std::uint64_t>(mnt_fs_get_parent_id(fs)),
      .root = text_of(mnt_fs_get_root(fs)),
      .target = text_of(mnt_fs_get_target(fs)),
      .type = text_of(mnt_fs_get_fstype(fs)),
      .source = text_of(mnt_fs_get_source(fs)),
      .options = text_of(mnt_fs_get_vfs_options(fs)),
      .device = static_cast<std::uint64_t>(mnt_fs_get_devno(fs)),
      .user = user_of(fs),
      .is_shared = has_field(fs, "shared:"),
      .is_slave = has_field(fs, "master:"),
  };
}

Result<Table> parse(const std::string& path = kMountInfo) {
  Table table(mnt_new_table());
  if (!table) return fail(ENOMEM);
  const int rc = mnt_table_parse_file(table.get(), path.c_str());
  if (rc != 0) return fail(rc < 0 ? -rc : EINVAL, "cannot read " + path);
  return table;
}

Result<std::vector<MountEntry>> entries_of(const Table& table) {
  const Iterator iterator(mnt_new_iter(MNT_ITER_FORWARD));
  if (!iterator) return fail(ENOMEM);
  std::vector<MountEntry> entries;
  libmnt_fs* fs = nullptr;
  while (mnt_table_next_fs(table.get(), iterator.get(), &fs) == 0) entries.push_back(entry_of(fs));
  return entries;
}

}  // namespace

Result<std::vector<MountEntry>> read_mount_table() { return entries_of(TRY(parse())); }

Result<std::vector<MountEntry>> read_mount_table(pid_t process) {
  return entries_of(TRY(parse(proc::path_of(process, "mountinfo"))));
}

Result<std::vector<MountEntry>> parse_mount_table(const std::string& text) {
  if (text.empty()) return std::vector<MountEntry>();
  const Table table(mnt_new_table());
  const std::unique_ptr<FILE, int (*)(FILE*)> file(::fmemopen(const_cast<char*>(text.data()), text.size(), "r"),
                                                   &std::fclose);
  if (!table || !file) return fail(ENOMEM);
  const int rc = mnt_table_parse_stream(table.get(), file.get(), "mountinfo");
  if (rc != 0) return fail(rc < 0 ? -rc : EINVAL, "this is no mountinfo");
  return entries_of(table);
}

Result<bool> is_mountpoint(const std::string& target) {
  const std::size_t last = target.find_last_not_of('/');
  if (last == std::string::npos) return !target.empty();  // "/" is one
  const std::size_t slash = target.rfind('/', last);
  const std::string parent = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  const std::string name = target.substr(slash + 1, last - slash);

  Result<UniqueFd> above = open_at(AT_FDCWD, parent.c_str(), O_PATH | O_DIRECTORY);
  if (!above) return above.error().code() == ENOENT ? Result<bool>(false) : fail(above.error());
  struct open_how how {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV;
  const UniqueFd found(static_cast<int>(::syscall(SYS_openat2, above->get(), name.c_str(), &how, sizeof how)));
  if (found) return false;
  if (errno == EXDEV) return true;
  if (errno == ENOENT) return false;
  return fail_errno();
}

Result<std::optional<MountEntry>> find_mount(std::string_view target) {
  // The table costs the kernel a microsecond or two a line, and libmount as much; most of the time nothing is there.
  if (const Result<bool> mounted = is_mountpoint(std::string(target)); mounted && !*mounted) {
    return std::optional<MountEntry>();
  }
  std::vector<MountEntry> entries = TRY(read_mount_table());
  const auto topmost = std::find_if(entries.rbegin(), entries.rend(),
                                    [target](const MountEntry& entry) { return entry.target == target; });
  if (topmost == entries.rend()) return std::optional<MountEntry>();
  return std::optional<MountEntry>(std::move(*topmost));
}

bool kernel_knows_filesystem(std::string_view type) {
  const Result<std::string> known = read_file("/proc/filesystems", 1U << 16U);
  if (!known) return false;
  // Lines are "nodev\tTYPE" or "\tTYPE".
  const std::string line = "\t" + std::string(type) + "\n";
  return !type.empty() && known->find(line) != std::string::npos;
}

}  // namespace berth::sys
