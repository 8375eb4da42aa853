#include "src/config/drop_in.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <filesystem>
#include <string_view>

#include "src/config/config_file.h"
#include "src/config/document.h"
#include "src/config/section.h"
#include "src/config/toml_text.h"
#include "src/lib/base/ascii.h"
#include "src/lib/base/crash_point.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::config {
namespace {

/// The value of a key, which may be written as TOML.
Result<std::string> toml_value(const std::string& key, const std::string& value) {
  const bool is_toml = value == "true" || value == "false" || value.starts_with('[') || value.starts_with('"');
  if (!is_toml) return toml_text(value);
  const tl::expected<toml::table, SyntaxFault> parsed = parse("x = " + value);
  if (!parsed) return fail(EINVAL, key + ": " + parsed.error().text);
  if (parsed->size() != 1) return fail(EINVAL, key + ": one value is expected");
  return value;
}

Result<std::string> section_of(const NewShare& share) {
  std::string text =
      "# Written by `berth add`; `berth remove` deletes it.\n[share." + TRY(toml_text(share.name)) + "]\n";
  text += "type = " + TRY(toml_text(share.type)) + "\n";
  if (!share.sources.empty()) text += "source = " + TRY(toml_texts(share.sources)) + "\n";
  std::string options;
  for (const std::string& option : share.options) options.append(options.empty() ? "" : ",").append(option);
  if (!options.empty()) text += "options = " + TRY(toml_text(options)) + "\n";
  for (const auto& [key, value] : share.settings) {
    if (!is_bare_key(key)) return fail(EINVAL, quote(key) + " is no key of a share");
    text.append(key).append(" = ").append(TRY(toml_value(key, value))).append("\n");
  }
  return text;
}

Result<> sync(const UniqueFd& directory) {
  // EINVAL: a file system that has nothing to synchronise.
  if (::fsync(directory.get()) != 0 && errno != EINVAL) return fail_errno();
  return {};
}

/// The directory of drop-ins, which this process alone changes as long as it is open: a check is of what is written.
/// The lock is on the file that is written, which is root's alone: any user that may read the directory could lock that
/// (flock(2)).
class DropIns {
 public:
  static Result<DropIns> open(const std::string& path, bool makes) {
    if (makes) {
      TRY_VOID(sys::make_directories(path, 0755).map_error([&](const Error& error) { return error.within(path); }));
    }
    Result<UniqueFd> directory = sys::open_at(AT_FDCWD, path.c_str(), O_RDONLY | O_DIRECTORY);
    if (!directory) return fail(directory.error().within(path));
    Result<UniqueFd> file = lock(*directory);
    if (!file) return fail(file.error().within(path));
    return DropIns(path, *std::move(directory), *std::move(file));
  }
  DropIns(DropIns&&) noexcept = default;
  DropIns(const DropIns&) = delete;
  DropIns& operator=(const DropIns&) = delete;
  DropIns& operator=(DropIns&&) = delete;
  ~DropIns() {
    if (file_) ::unlinkat(directory_.get(), kHidden, 0);
  }

  [[nodiscard]] std::string path_of(const std::string& name) const { return path_ + "/" + name; }

  /// Makes a file that is not there. What is written is hidden, and so no drop-in, until it is whole. Once.
  [[nodiscard]] Result<> write(const std::string& name, std::string_view text) {
    const auto make = [&]() -> Result<> {
      // Of a writer that died.
      if (::ftruncate(file_.get(), 0) != 0) return fail_errno();
      TRY_VOID(sys::write_all(file_.get(), text));
      if (::fsync(file_.get()) != 0) return fail_errno();
      crash_point("drop-in-written");
      const int fd = directory_.get();
      if (::renameat2(fd, kHidden, fd, name.c_str(), RENAME_NOREPLACE) != 0) return fail_errno();
      crash_point("drop-in-renamed");
      file_.reset();
      return sync(directory_);
    };
    Result<> made = make();
    return made ? made : fail(made.error().within(path_of(name)));
  }

  [[nodiscard]] Result<> remove(const std::string& name) const {
    crash_point("drop-in-leaves");
    if (::unlinkat(directory_.get(), name.c_str(), 0) != 0) return fail(Error::last().within(path_of(name)));
    crash_point("drop-in-gone");
    return sync(directory_);
  }

 private:
  static constexpr const char* kHidden = ".new";

  DropIns(std::string path, UniqueFd directory, UniqueFd file)
      : path_(std::move(path)), directory_(std::move(directory)), file_(std::move(file)) {}

  /// The file that will be written, once it is this process's.
  static Result<UniqueFd> lock(const UniqueFd& directory) {
    for (;;) {
      UniqueFd file = TRY(sys::open_at(directory.get(), kHidden, O_WRONLY | O_CREAT | O_NOFOLLOW, S_IRUSR | S_IWUSR));
      while (::flock(file.get(), LOCK_EX) != 0) {
        if (errno != EINTR) return fail_errno();
      }
      struct stat mine {};
      struct stat there {};
      if (::fstat(file.get(), &mine) != 0) return fail_errno();
      // Else it is what another process has written meanwhile.
      const bool is_there = ::fstatat(directory.get(), kHidden, &there, AT_SYMLINK_NOFOLLOW) == 0;
      if (is_there && there.st_ino == mine.st_ino) return file;
    }
  }

  std::string path_;
  UniqueFd directory_;
  UniqueFd file_;
};

std::string drop_ins_beside(const std::string& file) {
  return (std::filesystem::path(file).parent_path() / "shares.d").native();
}

const manager::ShareSpec* find(const manager::Catalog& catalog, const std::string& name) {
  if (const manager::ShareSpec* share = catalog.find(name)) return share;
  const auto found = catalog.templates().find(name);
  return found == catalog.templates().end() ? nullptr : &found->second;
}

/// Whether it stands in a file of berth's own: what maps of autofs and catalog sources name gives way to such a share.
bool is_configured(const manager::ShareSpec& share, const std::string& file) {
  const std::string origin = share.fields().origin_file;
  if (origin == shown_path(file)) return true;
  const std::vector<std::string> drop_ins = find_drop_ins(drop_ins_beside(file)).value_or(std::vector<std::string>());
  return std::any_of(drop_ins.begin(), drop_ins.end(),
                     [&origin](const std::string& path) { return shown_path(path) == origin; });
}

/// Of a configuration the share `name` alone, and the warnings of its drop-in.
Result<Configuration> only(const std::string& name, const std::string& path, const Configuration& all) {
  Configuration one;
  if (const manager::ShareSpec* const share = find(all.catalog, name)) TRY_VOID(one.catalog.add(*share));
  for (const std::string& warning : all.warnings) {
    if (warning.starts_with(shown_path(path) + ":")) one.warnings.push_back(warning);
  }
  return one;
}

/// Whether `path` is a file with this share and nothing else.
bool holds_only(const std::string& text, const std::string& name) {
  const tl::expected<toml::table, SyntaxFault> document = parse(text);
  if (!document || document->size() != 1) return false;
  const toml::table* const shares = (*document)["share"].as_table();
  return shares != nullptr && shares->size() == 1 && shares->begin()->first.str() == name;
}

}  // namespace

std::string drop_in_name(std::string_view share) {
  std::string name;
  for (const char c : share) {
    const bool is_plain = is_alphanumeric(c) || c == '_' || c == '-' || (c == '.' && !name.empty());
    if (is_plain) {
      name += c;
      continue;
    }
    std::array<char, 4> escaped{};
    std::snprintf(escaped.data(), escaped.size(), "%%%02X", static_cast<unsigned char>(c));
    name += escaped.data();
  }
  return name + ".toml";
}

Result<ChangedDropIn> add_share(const std::string& file, const CommandLine& command_line, const NewShare& share) {
  arm_crash_points();
  const std::string text = TRY(section_of(share));
  const std::string name = drop_in_name(share.name);
  if (name.size() > NAME_MAX) {
    return fail(ENAMETOOLONG, "the name is too long for a file of its own; write it into a drop-in of another name");
  }
  // Before anything is made.
  TRY(load(file, command_line));
  DropIns drop_ins = TRY(DropIns::open(drop_ins_beside(file), true));
  const std::string path = drop_ins.path_of(name);
  const Configuration now = TRY(load(file, command_line));
  if (const manager::ShareSpec* const taken = find(now.catalog, share.name); taken && is_configured(*taken, file)) {
    return fail(EEXIST, "it is there already, in " + taken->origin());
  }
  if (::access(path.c_str(), F_OK) == 0)
    return fail(EEXIST, "there is a file " + quote(path) + ", which holds something else");
  const DropInChange change{path, text};
  const Configuration changed = TRY(load(file, command_line, &change));
  TRY_VOID(drop_ins.write(name, text));
  return ChangedDropIn{path, std::nullopt, now.settings.namespace_directory, TRY(only(share.name, path, changed))};
}

Result<ChangedDropIn> remove_share(const std::string& file, const CommandLine& command_line, const std::string& name) {
  arm_crash_points();
  const Configuration now = TRY(load(file, command_line));
  const manager::ShareSpec* const share = find(now.catalog, name);
  if (share == nullptr) {
    std::vector<std::string_view> names;
    names.reserve(now.catalog.shares().size());
    for (const auto& [known, spec] : now.catalog.shares()) names.emplace_back(known);
    return fail(ENXIO, "no such share in " + shown_path(file) + " and its drop-ins" + suggestion(name, names));
  }
  if (!is_configured(*share, file)) {
    const bool is_map = share->fields().origin_line != 0;
    return fail(EBUSY, "it comes from " + share->origin() +
                           (is_map ? ", a map of autofs; delete the entry there" : "; delete it in the store of that"));
  }
  const std::string elsewhere =
      "it stands in " + share->origin() + ", not in a drop-in of its own; delete the section there";
  const std::string file_name = drop_in_name(name);
  if (share->fields().origin_file != shown_path(drop_ins_beside(file) + "/" + file_name)) return fail(EBUSY, elsewhere);
  const DropIns drop_ins = TRY(DropIns::open(drop_ins_beside(file), false));
  const std::string path = drop_ins.path_of(file_name);
  const Result<ConfigFile> text = read_config_file(path);
  if (!text) return fail(text.error().code(), path + ": " + std::string(text.error().story()));
  if (!holds_only(text->text, name)) return fail(EBUSY, elsewhere);
  const DropInChange change{path, std::nullopt};
  TRY(load(file, command_line, &change));
  TRY_VOID(drop_ins.remove(file_name));
  return ChangedDropIn{path, text->text, now.settings.namespace_directory, {}};
}

Result<> undo(const ChangedDropIn& change) {
  const std::filesystem::path path = change.path;
  DropIns drop_ins = TRY(DropIns::open(path.parent_path(), false));
  if (change.before) return drop_ins.write(path.filename(), *change.before);
  return drop_ins.remove(path.filename());
}

}  // namespace berth::config
