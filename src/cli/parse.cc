#include "src/cli/parse.h"

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>
#include <utility>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "src/cli/exit_code.h"
#include "src/cli/help_text.h"
#include "src/cli/parse_value.h"
#include "src/lib/base/text.h"
#include "src/lib/base/told.h"

namespace berth::cli {

namespace {

/// Commands of other programs, and what is meant by them.
constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kOtherNames{{
    {"start", "`systemctl start berth` starts it, yours `systemctl --user start berth`; without systemd `berth serve`"},
    {"stop", "`systemctl stop berth` stops it, yours `systemctl --user stop berth`; without systemd SIGTERM does"},
    {"restart", "`systemctl restart berth` does that, yours `systemctl --user restart berth`"},
    {"ls", "did you mean \"status\"?"},
    {"list", "did you mean \"status\"?"},
    {"show", "did you mean \"status\"?"},
    {"info", "did you mean \"status\"?"},
    {"ps", "did you mean \"status\"?"},
    {"log", "did you mean \"events\"?"},
    {"logs", "did you mean \"events\"?"},
    {"journal", "did you mean \"events\"?"},
    {"rm", "did you mean \"remove\"?"},
    {"delete", "did you mean \"remove\"?"},
    {"validate", "did you mean \"check\"?"},
    {"test", "did you mean \"check\"?"},
    {"version", "did you mean \"--version\"?"},
}};

/// Where CLI11 leaves what it read, before it is checked.
struct Words {
  std::string namespace_directory;
  std::string config;
  std::string state_dir;
  std::string log_level = "info";
  std::vector<std::string> shares;
  std::string share, instance, volume;
  std::string timeout;
  std::vector<std::string> arguments;
  std::string type;
  std::string format, file;
  std::vector<std::string> sources, options, settings;
  std::string textfile;
  bool json = false;
  bool force = false;
  bool follow = false;
  bool foreground = false;
  bool dry_run = false;
  bool failed = false;
  bool watch = false;
  std::string sort = "name";
  bool strict = false;
  bool offline = false;
};

/// `text` in lines of at most `width` columns, each after the first behind `indent`. It is broken at blanks that are
/// not in brackets.
std::string wrapped(std::string_view text, std::size_t width, const std::string& indent = {}) {
  std::string lines;
  std::size_t used = 0;
  while (!text.empty()) {
    std::size_t end = 0;
    for (int depth = 0; end < text.size() && (text[end] != ' ' || depth > 0); ++end) {
      if (text[end] == '[') ++depth;
      if (text[end] == ']') --depth;
    }
    const bool fits = used == 0 || used + 1 + end <= width;
    if (used > 0) lines.append(fits ? " " : "\n" + indent);
    used = (fits ? used + (used > 0 ? 1 : 0) : indent.size()) + end;
    lines.append(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// CLI11's layout with a usage line of our own, in 80 columns.
class HelpFormat final : public CLI::Formatter {
 public:
  explicit HelpFormat(std::string usage) : usage_(std::move(usage)) {
    column_width(kColumn);
    label("Positionals", "Arguments");
  }
  std::string make_usage(const CLI::App*, std::string) const override {
    return "\n" + wrapped("Usage: " + usage_, kWidth, "         ") + "\n";
  }
  std::string make_description(const CLI::App* app) const override {
    return wrapped(app->get_description(), kWidth) + "\n";
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    return wrapped(option->get_description(), kWidth - kColumn);
  }
  std::string make_subcommand(const CLI::App* command) const override {
    std::ostringstream line;
    CLI::detail::format_help(line, command->get_name(), wrapped(command->get_description(), kWidth - kColumn), kColumn);
    return line.str();
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0 || option->get_positional()) return "";
    return " " + option->get_type_name();
  }

 private:
  static constexpr std::size_t kWidth = 80;
  static constexpr std::size_t kColumn = 26;  ///< where the descriptions begin

  std::string usage_;
};

class Parser {
 public:
  Parser();
  tl::expected<Command, NoCommand> parse(std::vector<std::string> arguments);

 private:
  CLI::App* add_command(const CommandText& text);
  void add_namespace(CLI::App& app, const char* description);
  void add_share(CLI::App& app, const char* description);
  void add_serve();
  void add_share_commands();
  void add_file_commands();
  void add_import();
  [[nodiscard]] NoCommand usage_error(const std::string& command, std::string_view story) const;
  [[nodiscard]] NoCommand explain(const CLI::ParseError& error) const;
  [[nodiscard]] std::string explain_unexpected(const CLI::App& app, const std::string& word) const;
  [[nodiscard]] const CLI::App* chosen() const;
  [[nodiscard]] tl::expected<Command, NoCommand> command_of(const CLI::App& app) const;
  [[nodiscard]] Result<ServeOptions> serve_options() const;
  [[nodiscard]] Result<AddOptions> add_options() const;
  [[nodiscard]] Result<MetricsCommand> metrics_command() const;
  [[nodiscard]] Result<ImportOptions> import_options() const;
  [[nodiscard]] Result<decltype(Command::action)> action_of(std::string_view name) const;

  CLI::App app_;
  Words words_;
};

Parser::Parser() : app_(kBerthText.description, "berth") {
  app_.formatter(std::make_shared<HelpFormat>(kBerthText.usage));
  app_.footer(kBerthText.footer);
  app_.set_help_flag("-h,--help", "Say this and exit");
  app_.set_version_flag("-V,--version", "berth " BERTH_VERSION, "Say the version and exit");
  // One command a line: what follows it is its own, whatever it is called.
  app_.require_subcommand(0, 1);
  add_namespace(app_, kNamespaceText);
  add_serve();
  CLI::App* check = add_command(kCheckText);
  check->add_option("FILE", words_.config, kCheckFileText);
  check->add_flag("--strict", words_.strict, "Fail for warnings as well");
  check->add_flag("--offline", words_.offline, "Look at the configuration alone, and not at this host");
  CLI::App* doctor = add_command(kDoctorText);
  doctor->add_option("FILE", words_.config, kDoctorFileText);
  doctor->add_flag("--json", words_.json, "As JSON, for programs");
  add_share_commands();
  add_file_commands();
  add_import();
  for (const CommandText* text : {&kReloadText, &kDrainText, &kResumeText, &kUpgradeText}) {
    CLI::App* command = add_command(*text);
    if (text == &kReloadText) command->add_flag("--dry-run", words_.dry_run, "Say what would change, and do nothing");
    if (text == &kDrainText) command->add_option("--timeout", words_.timeout, kTimeoutText)->type_name("TIME");
    add_namespace(*command, kNamespaceText);
    if (text != &kUpgradeText && text != &kReloadText) continue;
    command->add_option("-c,--config", words_.config, kUpgradeConfigText)->type_name("FILE");
  }
  CLI::App* events = add_command(kEventsText);
  events->add_flag("--json", words_.json, "As JSON, one object a line");
  events->add_flag("-f,--follow", words_.follow, "Go on and show what happens from now on");
  add_namespace(*events, kNamespaceText);
  CLI::App* metrics = add_command(kMetricsText);
  metrics->add_option("--textfile", words_.textfile, kTextfileText)->type_name("FILE");
  add_namespace(*metrics, kNamespaceText);
  CLI::App* exec = add_command(kExecText);
  add_namespace(*exec, kNamespaceText);
  exec->add_option("COMMAND", words_.arguments, "The program and its arguments")->required();
  exec->positionals_at_end();
  add_namespace(*add_command(kShellText), kNamespaceText);
}

CLI::App* Parser::add_command(const CommandText& text) {
  CLI::App* command = app_.add_subcommand(text.name, text.description);
  command->formatter(std::make_shared<HelpFormat>(text.usage));
  command->footer(text.footer);
  command->group("Commands");
  command->set_help_flag("-h,--help", "Say this and exit");
  return command;
}

void Parser::add_namespace(CLI::App& app, const char* description) {
  app.add_option("-n,--namespace", words_.namespace_directory, description)->type_name("DIR");
}

void Parser::add_share(CLI::App& app, const char* description) {
  app.add_option("SHARE", words_.share, description)->required();
}

void Parser::add_serve() {
  CLI::App* serve = add_command(kServeText);
  serve->add_option("-c,--config", words_.config, kServeConfigText)->type_name("FILE");
  add_namespace(*serve, kServeNamespaceText);
  serve->add_option("--share", words_.shares, kServeShareText)->type_name("NAME=DIR")->allow_extra_args(false);
  serve->add_option("--state-dir", words_.state_dir, kServeStateDirText)->type_name("DIR");
  serve->add_option("--log-level", words_.log_level, kServeLogLevelText)->type_name("LEVEL");
  serve->add_flag("--foreground", words_.foreground, "Stay in the foreground, which is the default");
}

void Parser::add_share_commands() {
  CLI::App* status = add_command(kStatusText);
  status->add_option("SHARE", words_.share, "The share to tell everything about (default: a table of all)");
  status->add_flag("--json", words_.json, "Print JSON, for programs");
  status->add_flag("--failed", words_.failed, "Only shares that have failed or do not answer");
  status->add_flag("--watch", words_.watch, "Show the table again every 2 seconds, until Ctrl-C");
  status->add_option("--sort", words_.sort, kSortText)->type_name("KEY");
  add_namespace(*status, kNamespaceText);
  CLI::App* top = add_command(kTopText);
  top->add_option("--sort", words_.sort, kSortText)->type_name("KEY");
  add_namespace(*top, kNamespaceText);
  for (const CommandText* text : {&kAttachText, &kDetachText}) {
    CLI::App* command = add_command(*text);
    add_share(*command, "The share");
    command->add_option("INSTANCE", words_.instance, "What holds it: a virtual machine, a job")->required();
    command->add_option("VOLUME", words_.volume, "What it is held for: a disk of the machine, a file")->required();
    add_namespace(*command, kNamespaceText);
  }
  for (const CommandText* text : {&kMountText, &kUnmountText, &kRemountText, &kRetryText}) {
    CLI::App* command = add_command(*text);
    add_share(*command, "The share");
    if (text == &kUnmountText || text == &kRemountText) command->add_flag("-f,--force", words_.force, kForceText);
    add_namespace(*command, kNamespaceText);
  }
}

void Parser::add_file_commands() {
  CLI::App* add = add_command(kAddText);
  add->add_option("NAME", words_.share, "The share: its path below the namespace")->required();
  const auto repeated = [add](const char* name, std::vector<std::string>& words, const char* description) {
    return add->add_option(name, words, description)->allow_extra_args(false);
  };
  add->add_option("-t,--type", words_.type, "dir, bind, command, or a type of mount(8)")->required()->type_name("TYPE");
  repeated("-s,--source", words_.sources, "What it shows; given again: another to try")->type_name("SOURCE");
  repeated("-o,--option", words_.options, "One of mount(8)'s; can be given again")->type_name("OPTION");
  repeated("--set", words_.settings, "Another key of berth.toml(5); can be given again")->type_name("KEY=VALUE");
  CLI::App* remove = add_command(kRemoveText);
  add_share(*remove, "The share");
  for (CLI::App* command : {add, remove}) {
    command->add_option("-c,--config", words_.config, kCheckFileText)->type_name("FILE");
    add_namespace(*command, kChangeNamespaceText);
  }
}

const CLI::App* Parser::chosen() const {
  const auto commands = app_.get_subcommands();
  return commands.empty() ? nullptr : commands.front();
}

NoCommand Parser::usage_error(const std::string& command, std::string_view story) const {
  const std::string space = command.empty() ? "" : " ";
  std::string text = "berth: ";
  if (!command.empty()) text.append(command).append(": ");
  text.append(story).append("\nTry `berth").append(space).append(command).append(" --help`.\n");
  return {kUsage, std::move(text)};
}

std::string Parser::explain_unexpected(const CLI::App& app, const std::string& word) const {
  const bool option = word.size() > 1 && word.front() == '-';
  const bool command = !option && &app == &app_;
  std::vector<std::string> names;
  if (option) {
    for (const CLI::Option* known : app.get_options()) {
      for (const std::string& name : known->get_lnames()) names.push_back("--" + name);
    }
  } else if (command) {
    for (const CLI::App* known : app.get_subcommands({})) names.push_back(known->get_name());
  }
  if (command) {
    for (const auto& [other, advice] : kOtherNames) {
      if (word == other) return "unknown command " + quote(word) + "; " + std::string(advice);
    }
  }
  const std::string typed = word.substr(0, option ? word.find('=') : std::string::npos);
  const std::string what = option ? "unknown option " : command ? "unknown command " : "too many arguments, from ";
  const std::string_view meant = nearest(typed, std::vector<std::string_view>(names.begin(), names.end()));
  std::string story = what + quote(typed);
  if (command || option) {
    if (!meant.empty()) story.append("; did you mean ").append(quote(meant)).append("?");
  } else if (app.get_option_no_throw("SHARE") != nullptr) {
    story.append("; a name with a blank in it needs quotes");
  }
  return story;
}

NoCommand Parser::explain(const CLI::ParseError& error) const {
  const CLI::App* command = chosen();
  const CLI::App& app = command != nullptr ? *command : app_;
  const std::string name = command != nullptr ? command->get_name() : "";
  // Before what is missing: an option that is misspelt is mostly why something is.
  const std::vector<std::string> extras = app.remaining(false);
  const auto mark = std::find(extras.begin(), extras.end(), "--");
  const auto option = std::find_if(extras.begin(), mark,
                                   [](const std::string& word) { return word.size() > 1 && word.front() == '-'; });
  if (option != mark) return usage_error(name, explain_unexpected(app, *option));
  if (mark != extras.begin()) return usage_error(name, explain_unexpected(app, extras.front()));
  if (extras.size() > 1)
    return usage_error(name, "too many arguments, from " + quote(extras[1]) + "; options go before \"--\"");
  const std::string_view missing_suffix = " is required";
  const std::string what = error.what();
  if (error.get_name() == "RequiredError" && what.ends_with(missing_suffix)) {
    return usage_error(name, what.substr(0, what.size() - missing_suffix.size()) + " is missing");
  }
  if (error.get_name() == "ArgumentMismatch") {
    return usage_error(name, what.substr(0, what.find(':')) + " wants a value");
  }
  if (error.get_name() == "ConversionError") {
    // "Could not convert: --json = maybe": only flags take no text.
    const std::size_t begin = what.find("--");
    if (begin != std::string::npos)
      return usage_error(name, what.substr(begin, what.find(' ', begin) - begin) + " takes no value");
  }
  return usage_error(name, what);
}

Result<ServeOptions> Parser::serve_options() const {
  ServeOptions options;
  if (!words_.config.empty()) options.config = absolute_path(words_.config);
  if (!words_.namespace_directory.empty()) options.namespace_directory = absolute_path(words_.namespace_directory);
  if (!words_.state_dir.empty()) options.state_dir = absolute_path(words_.state_dir);
  options.log_level =
      TRY(parse_log_level(words_.log_level).map_error([](Error error) { return error.within("--log-level"); }));
  for (const std::string& text : words_.shares) {
    TRY_VOID(add_quick_share(text, options.shares).map_error([](Error error) { return error.within("--share"); }));
  }
  return options;
}

void Parser::add_import() {
  CLI::App* import = add_command(kImportText);
  import->add_option("FORMAT", words_.format, "What to read: autofs")->required();
  import->add_option("FILE", words_.file, "The master map (default: /etc/auto.master)");
  add_namespace(*import, kImportNamespaceText);
}

Result<ImportOptions> Parser::import_options() const {
  if (words_.format != "autofs") return fail(EINVAL, "FORMAT: " + quote(words_.format) + " is not \"autofs\"");
  return ImportOptions{
      .file = words_.file.empty() ? "/etc/auto.master" : absolute_path(words_.file),
      .namespace_directory = words_.namespace_directory.empty() ? "" : absolute_path(words_.namespace_directory)};
}

Result<AddOptions> Parser::add_options() const {
  TRY_VOID(check_share(words_.share));
  AddOptions add{
      .config = words_.config.empty() ? "" : absolute_path(words_.config),
      .namespace_directory = words_.namespace_directory.empty() ? "" : absolute_path(words_.namespace_directory),
      .name = words_.share,
      .type = words_.type,
      .sources = words_.sources,
      .options = words_.options,
      .settings = {}};
  for (const std::string& setting : words_.settings) {
    const std::size_t equals = setting.find('=');
    if (equals == std::string::npos) return fail(EINVAL, "--set: " + quote(setting) + " is not KEY=VALUE");
    add.settings.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  return add;
}

/// Errors: EINVAL with a story.
Result<> check_sort(std::string_view key) {
  const std::vector<std::string_view> keys{"name", "state", "users", "since"};
  if (std::find(keys.begin(), keys.end(), key) != keys.end()) return {};
  const std::string_view meant = nearest(key, keys);
  return fail(EINVAL, "--sort: " + quote(key) + " is not name, state, users or since" +
                          (meant.empty() ? "" : "; did you mean " + quote(meant) + "?"));
}

Result<MetricsCommand> Parser::metrics_command() const {
  if (words_.textfile.empty()) return MetricsCommand{};
  if (words_.textfile.ends_with(".prom")) return MetricsCommand{absolute_path(words_.textfile)};
  return fail(EINVAL,
              "--textfile: " + quote(words_.textfile) + " does not end in .prom: node exporter reads no other files");
}

Result<decltype(Command::action)> Parser::action_of(std::string_view name) const {
  if (name == kServeText.name) return TRY(serve_options());
  if (name == kCheckText.name) {
    return CheckOptions{words_.config.empty() ? "" : absolute_path(words_.config), words_.strict, words_.offline};
  }
  if (name == kDoctorText.name)
    return DoctorOptions{words_.config.empty() ? "" : absolute_path(words_.config), words_.json};
  if (name == kAddText.name) return TRY(add_options());
  if (name == kImportText.name) return TRY(import_options());
  if (name == kRemoveText.name) {
    TRY_VOID(check_share(words_.share));
    return RemoveOptions{words_.config.empty() ? "" : absolute_path(words_.config),
                         words_.namespace_directory.empty() ? "" : absolute_path(words_.namespace_directory),
                         words_.share};
  }
  if (name == kMetricsText.name) return metrics_command();
  if (name == kEventsText.name) return EventsCommand{words_.follow, words_.json};
  if (name == kExecText.name || name == kShellText.name) return ExecCommand{words_.arguments};
  if (name == kResumeText.name) return HostCommand{formats::HostCommand::kResume, std::nullopt};
  if (name == kReloadText.name) {
    return HostCommand{words_.dry_run ? formats::HostCommand::kReloadDryRun : formats::HostCommand::kReload,
                       std::nullopt};
  }
  if (name == kUpgradeText.name) return HostCommand{formats::HostCommand::kUpgrade, std::nullopt};
  if (name == kDrainText.name) {
    HostCommand drain{formats::HostCommand::kDrain, std::nullopt};
    if (words_.timeout.empty()) return drain;
    drain.timeout = TRY(parse_timeout(words_.timeout).map_error([](Error error) { return error.within("--timeout"); }));
    return drain;
  }
  if (name == kTopText.name) {
    TRY_VOID(check_sort(words_.sort));
    return TopCommand{words_.sort};
  }
  const bool all = name == kStatusText.name && words_.share.empty();
  if (!all) TRY_VOID(check_share(words_.share));
  if (name == kStatusText.name) {
    TRY_VOID(check_sort(words_.sort));
    const bool is_of_table = words_.failed || words_.watch || words_.sort != "name";
    if (is_of_table && (words_.json || !all))
      return fail(EINVAL, "--failed, --sort and --watch are for the table of all shares");
    return StatusCommand{all ? std::nullopt : std::optional(words_.share), words_.json, words_.failed, words_.watch,
                         words_.sort};
  }
  if (name == kAttachText.name || name == kDetachText.name) {
    TRY_VOID(check_component("an instance", words_.instance));
    TRY_VOID(check_component("a volume", words_.volume));
    if (name == kAttachText.name) return AttachCommand{words_.share, words_.instance, words_.volume};
    return DetachCommand{words_.share, words_.instance, words_.volume};
  }
  if (name == kMountText.name) return ControlCommand{words_.share, formats::ControlCommand::kMount};
  if (name == kRetryText.name) return ControlCommand{words_.share, formats::ControlCommand::kRetry};
  if (name == kRemountText.name) {
    return ControlCommand{words_.share,
                          words_.force ? formats::ControlCommand::kForceRemount : formats::ControlCommand::kRemount};
  }
  return ControlCommand{words_.share,
                        words_.force ? formats::ControlCommand::kForceUnmount : formats::ControlCommand::kUnmount};
}

tl::expected<Command, NoCommand> Parser::command_of(const CLI::App& app) const {
  Result<decltype(Command::action)> action = action_of(app.get_name());
  if (!action) return tl::unexpected(usage_error(app.get_name(), told(action.error())));
  std::string config = words_.config.empty() ? "" : absolute_path(words_.config);
  return Command{app.get_name(), words_.namespace_directory, std::move(config), *std::move(action)};
}

tl::expected<Command, NoCommand> Parser::parse(std::vector<std::string> arguments) {
  // `berth help COMMAND` is `berth COMMAND --help`.
  if (!arguments.empty() && arguments.front() == "help") {
    if (arguments.size() > 2)
      return tl::unexpected(usage_error("", "help: too many arguments, from " + quote(arguments[2])));
    arguments.erase(arguments.begin());
    if (!arguments.empty() && arguments.front() == "help") arguments.clear();
    const auto known = app_.get_subcommands({});
    const bool is_known = arguments.empty() || std::any_of(known.begin(), known.end(), [&](const CLI::App* command) {
                            return command->get_name() == arguments.front();
                          });
    if (!is_known) return tl::unexpected(usage_error("", explain_unexpected(app_, arguments.front())));
    arguments.emplace_back("--help");
  }
  // CLI11 takes them from the back.
  std::reverse(arguments.begin(), arguments.end());
  try {
    app_.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    return tl::unexpected(NoCommand{kOk, app_.help()});
  } catch (const CLI::CallForVersion& version) {
    return tl::unexpected(NoCommand{kOk, std::string(version.what()) + "\n"});
  } catch (const CLI::ParseError& error) {
    return tl::unexpected(explain(error));
  }
  const CLI::App* command = chosen();
  if (command == nullptr) return tl::unexpected(usage_error("", "no command is given"));
  // As of a variable of a script that is not set.
  for (const CLI::App* const app : {static_cast<const CLI::App*>(&app_), command}) {
    for (const CLI::Option* const option : app->get_options()) {
      const std::vector<std::string>& given = option->results();
      const bool is_empty = !option->get_positional() && std::find(given.begin(), given.end(), "") != given.end();
      if (is_empty)
        return tl::unexpected(
            usage_error(command->get_name(), option->get_name() + " wants a value, and is given an empty one"));
    }
  }
  return command_of(*command);
}

}  // namespace

tl::expected<Command, NoCommand> parse(const std::vector<std::string>& arguments) { return Parser().parse(arguments); }

}  // namespace berth::cli
