#include "src/cli/mount_helper.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "src/cli/exit_code.h"
#include "src/cli/parse.h"
#include "src/cli/parse_value.h"
#include "src/cli/tree.h"
#include "src/lib/base/text.h"
#include "src/lib/base/told.h"
#include "src/lib/formats/json.h"
#include "src/lib/formats/names.h"

namespace berth::cli {

namespace {

constexpr const char* kHelp = R"(mount.berth is what mount(8) starts for the type "berth".

Usage: mount.berth SOURCE DIR [-sfnv] [-o OPTIONS]

SOURCE is a word for the mount table and says nothing else. Returns when the
namespace at DIR is ready.

Options:
  -o config=FILE          The configuration (default: /etc/berth/berth.toml,
                          unless share= is given)
  -o share=NAME=DIR       Show the directory DIR as share NAME as well; can be
                          given again
  -o state-dir=DIR        Where to keep attachments (default: state_dir of the
                          configuration; with shares alone, none)
  -o log-level=LEVEL      debug, info, warning or error (default: info)
  -o remount              Succeed if a namespace is mounted at DIR that is
                          served as the other options say
  -s                      Ignore unknown options
  -f                      Check everything and mount nothing
  -n, -v, -t, -N          Accepted, as mount(8) may pass them

Exit status, as of mount(8):
  0   success
  1   the command line was not understood
  32  the mount failed

Example of a line in /etc/fstab:
  berth /volumes berth _netdev,x-systemd.automount 0 0
)";

/// What mount(8) and systemd.mount(5) keep for themselves, and what changes nothing here.
constexpr std::array<std::string_view, 34> kIgnored{
    "rw",         "defaults", "auto",       "noauto",     "nofail",      "_netdev",       "user",
    "nouser",     "users",    "nousers",    "owner",      "noowner",     "group",         "nogroup",
    "suid",       "nosuid",   "dev",        "nodev",      "exec",        "sync",          "async",
    "atime",      "noatime",  "relatime",   "norelatime", "strictatime", "nostrictatime", "diratime",
    "nodiratime", "lazytime", "nolazytime", "iversion",   "silent",      "loud"};
constexpr std::array<std::string_view, 4> kIgnoredPrefixes{"x-", "X-", "comment=", "uhelper="};

/// What would promise something that does not happen, and what to do instead.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kRefused{{
    {"ro", "the namespace cannot be read-only; say read_only = true for the shares that shall be"},
    {"noexec", "the namespace cannot be noexec; say options = \"noexec\" for the shares that shall be"},
    {"bind", "to see a namespace at a second place, use mount --bind without a type"},
}};

/// What the kernel shows of every namespace in the mount table, from which mount(8) takes the options of a remount.
constexpr std::array<std::string_view, 4> kOfMountTable{"user_id=", "group_id=", "default_permissions", "allow_other"};

constexpr std::array<std::string_view, 4> kOwn{"config", "share", "state-dir", "log-level"};

NoCommand usage_error(std::string_view story) {
  return {kMountUsage, "mount.berth: " + std::string(story) + "\nTry `mount.berth --help`.\n"};
}

/// Splits at commas outside of double quotes, which are dropped (mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS").
std::vector<std::string> split_options(std::string_view text) {
  std::vector<std::string> options(1);
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      options.emplace_back();
    } else {
      options.back().push_back(c);
    }
  }
  return options;
}

bool is_ignored(std::string_view option) {
  return std::find(kIgnored.begin(), kIgnored.end(), option) != kIgnored.end() ||
         std::any_of(kIgnoredPrefixes.begin(), kIgnoredPrefixes.end(),
                     [option](std::string_view prefix) { return option.starts_with(prefix); });
}

/// The command line, taken apart; nothing of it understood yet.
struct Words {
  std::vector<std::string> positionals;
  std::vector<std::string> options;
  bool help = false, fake = false, sloppy = false;
};

Result<Words> take_apart(const std::vector<std::string>& arguments) {
  Words words;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--help" || argument == "-h") {
      words.help = true;
      continue;
    }
    if (argument.size() < 2 || argument.front() != '-') {
      words.positionals.push_back(argument);
      continue;
    }
    for (std::size_t at = 1; at < argument.size(); ++at) {
      const char letter = argument[at];
      if (std::string_view("oNt").find(letter) != std::string_view::npos) {
        // The value is the rest of the word, or the next word.
        std::string value = argument.substr(at + 1);
        if (value.empty() && ++i == arguments.size()) return fail(EINVAL, std::string("-") + letter + " wants a value");
        if (value.empty()) value = arguments[i];
        if (letter == 'o') std::ranges::move(split_options(value), std::back_inserter(words.options));
        break;
      }
      if (std::string_view("sfnv").find(letter) == std::string_view::npos) {
        return fail(EINVAL, "unknown option " + quote(argument));
      }
      words.fake |= letter == 'f';
      words.sloppy |= letter == 's';
    }
  }
  return words;
}

bool is_of_mount_table(std::string_view option) {
  return std::any_of(kOfMountTable.begin(), kOfMountTable.end(), [option](std::string_view shown) {
    return shown.ends_with('=') ? option.starts_with(shown) : option == shown;
  });
}

Result<> read_option(const std::string& option, bool sloppy, MountRequest& request) {
  ServeOptions& serve = request.serve;
  if (option.empty() || option == "remount" || is_ignored(option)) return {};
  if (request.remount && is_of_mount_table(option)) return {};
  for (const auto& [name, reason] : kRefused) {
    if (option == name) return fail(EINVAL, "option " + quote(name) + ": " + std::string(reason));
  }
  const std::size_t equals = option.find('=');
  const std::string name = option.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : option.substr(equals + 1);
  if (std::find(kOwn.begin(), kOwn.end(), name) == kOwn.end()) {
    if (sloppy) return {};
    const std::string_view meant = nearest(name, std::vector<std::string_view>(kOwn.begin(), kOwn.end()));
    return fail(EINVAL, "unknown option " + quote(name) +
                            (meant.empty() ? "; there are config, share, state-dir and log-level"
                                           : "; did you mean " + quote(meant) + "?"));
  }
  if (value.empty()) return fail(EINVAL, "option " + quote(name) + " wants a value: " + name + "=...");
  request.says_how = true;
  const auto within = [&name](const Error& error) { return error.within("option " + quote(name)); };
  if (name == "config") serve.config = absolute_path(value);
  if (name == "state-dir") serve.state_dir = absolute_path(value);
  if (name == "log-level") serve.log_level = TRY(parse_log_level(value).map_error(within));
  if (name == "share") TRY_VOID(add_quick_share(value, serve.shares).map_error(within));
  return {};
}

}  // namespace

tl::expected<MountRequest, NoCommand> parse_mount_request(const std::vector<std::string>& arguments) {
  const Result<Words> words = take_apart(arguments);
  if (!words) return tl::unexpected(usage_error(told(words.error())));
  if (words->help) return tl::unexpected(NoCommand{kMountOk, kHelp});
  if (words->positionals.size() != 2) return tl::unexpected(usage_error("wants a source and a directory"));
  MountRequest request;
  request.fake = words->fake;
  request.serve.background = true;
  request.serve.namespace_directory = absolute_path(words->positionals[1]);
  request.remount = std::find(words->options.begin(), words->options.end(), "remount") != words->options.end();
  for (const std::string& option : words->options) {
    const Result<> read = read_option(option, words->sloppy, request);
    if (!read) return tl::unexpected(usage_error(told(read.error())));
  }
  return request;
}

Result<> remount(const MountRequest& request, const ServeOptions& asked, const World& world) {
  const std::string& directory = asked.namespace_directory;
  const std::vector<sys::MountEntry> table = TRY(world.mount_table());
  const auto top =
      std::find_if(table.rbegin(), table.rend(), [&](const auto& mount) { return mount.target == directory; });
  if (top == table.rend() || top->type != formats::kMountType) {
    return fail(ENOENT, "no namespace is mounted at " + quote(directory) + "; mount it without \"remount\"");
  }
  const std::string status = TRY(Tree(directory).read("status.json"));
  const formats::NamespaceView berth = TRY(formats::parse_namespace_json(status));
  if (!request.says_how) return {};
  const auto command = parse(berth.arguments);
  const auto* const serves = command ? std::get_if<ServeOptions>(&command->action) : nullptr;
  if (serves == nullptr) return fail(EBADMSG, "its status.json does not say how it is served");
  const char* const differs = serves->config != asked.config         ? "config"
                              : serves->shares != asked.shares       ? "share"
                              : serves->state_dir != asked.state_dir ? "state-dir"
                              : serves->log_level != asked.log_level ? "log-level"
                                                                     : nullptr;
  if (differs == nullptr) return {};
  return fail(EINVAL, "option " + quote(differs) + ": " + quote(directory) + " is served by `berth " +
                          quote_command(berth.arguments) +
                          "`, and that stays until it is unmounted; unmount it, and mount it again");
}

}  // namespace berth::cli
