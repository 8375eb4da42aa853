#include "src/config/config.h"

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <functional>
#include <map>
#include <new>
#include <utility>

#include "manager/model/requirements.h"
#include "src/autofs/maps.h"
#include "src/autofs/shares.h"
#include "src/config/catalog_source_section.h"
#include "src/config/config_file.h"
#include "src/config/daemon_section.h"
#include "src/config/document.h"
#include "src/config/read_files.h"
#include "src/config/share_section.h"
#include "src/lib/base/secrets.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/user_directories.h"

namespace berth::config {
namespace {

/// Reads one configuration. All that is wrong is collected, and refused at the end.
class Loader {
 public:
  explicit Loader(const CommandLine& command_line, const DropInChange* change = nullptr, ReadFiles* before = nullptr)
      : command_line_(command_line), change_(change), before_(before) {
    apply_command_line();
  }

  Result<Configuration> load(const std::string& file);
  Result<Configuration> finish();

 private:
  /// The command line overrides the file.
  void apply_command_line();
  void read_file(const std::string& path, const ConfigFile& file, bool is_main);
  /// Reads it, and remembers what it has come to.
  void parse_file(const std::string& path, std::string_view text, bool is_main);
  /// What was remembered, as parse_file() would come to it.
  void repeat_file(const ReadFile& file);
  void read_document(const toml::table& document, bool is_main);
  void read_top_level(const toml::table& document, bool is_main);
  void read_daemon_sections(const toml::table& document);
  /// Errors: EACCES, of the first that this user may not read; what else is wrong with one is a mistake.
  Result<> read_drop_ins(const std::string& file);
  void read_shares(const toml::table& document);
  void read_share(std::string_view name, std::uint32_t line, const toml::table& table);
  void read_quick_share(const std::string& argument);
  void read_map_sections(const toml::table& document);
  /// Adds the shares of the maps of autofs. What they cannot be is a warning: the maps are another program's.
  void read_maps();
  void read_map(const std::string& master, const autofs::Maps& maps);
  void read_source_sections(const toml::table& document);
  /// Adds the shares of the catalog sources, last of all: what is configured goes before them.
  void read_sources();
  SourceShares read_source(const CatalogSource& source);
  using Refuse = std::function<void(const std::string& name, const std::string& why)>;
  /// A share of a catalog source, as it was kept.
  struct KeptShare {
    std::string name;
    std::string_view line;
    Fingerprint print;
    const ReadSource::Share* before = nullptr;  ///< what the line has come to; null: that is not known
  };
  /// In the order of the names, each once. Errors: EBADMSG where one line puts no share.
  static Result<std::vector<KeptShare>> shares_in(const std::vector<std::string_view>& lines, ReadSource& before);
  void read_source_shares(const std::vector<KeptShare>& shares, ReadSource& before, const std::string& origin,
                          const Refuse& refuse);
  void add_of_source(manager::ShareFields fields, const Refuse& refuse);
  /// Adds those whose requirements are there, until there are none: so there is no circle, in whichever order they are.
  void add_in_order(std::vector<manager::ShareFields> waiting, const Refuse& refuse);
  void check_requirements();
  /// A share that is required and not there yet; "": there is none. What is put later requires what is there, so it
  /// makes no circle.
  [[nodiscard]] std::string missing_requirement(const manager::SharePolicy& policy) const;
  /// Adds a share if nothing is wrong with it. `reject(key, reason)` gets what is.
  template <typename Reject>
  void add_share(manager::ShareFields fields, Reject reject);
  /// The same of one that was added when its file was last read.
  Result<> add_again(const manager::ShareSpec& spec, bool has_secret);
  void warn_of_owner(const std::string& path, const struct stat& attributes);
  /// Whether it has a secret.
  bool warn_of_secrets(const manager::ShareFields& fields);

  const CommandLine& command_line_;
  const DropInChange* const change_;  ///< null: none
  ReadFiles* const before_;           ///< null: nothing is remembered
  /// Takes a share that was read, with whether it has a secret. Empty: it is not remembered.
  std::function<void(const manager::ShareSpec&, bool)> remember_;
  Configuration loaded_;
  manager::SharePolicy defaults_;
  Accounts accounts_;
  Mistakes mistakes_;
  std::string main_file_;
  std::size_t shares_with_secrets_ = 0;
  std::size_t source_bytes_ = 0;  ///< of the lines of all catalog sources
  std::vector<MapSection> maps_;
  std::map<std::string, std::uint32_t> required_lines_;  ///< of `requires`, by the share
  std::string secret_of_file_;              ///< a section of the file that is read which has a secret; "": none so far
  std::optional<manager::ShareSpec> last_;  ///< most shares are like the one before
};

void Loader::apply_command_line() {
  Settings& settings = loaded_.settings;
  const CommandLine& said = command_line_;
  if (!said.namespace_directory.empty()) settings.namespace_directory = normal_path(said.namespace_directory);
  if (!said.state_dir.empty()) settings.state_dir = normal_path(said.state_dir);
}

Result<Configuration> Loader::load(const std::string& file) {
  main_file_ = file;
  if (before_ != nullptr) before_->begin();
  if (loaded_.settings.state_dir.empty()) loaded_.settings.state_dir = sys::default_state_directory();
  {
    Result<ConfigFile> main = read_config_file(file);
    if (!main) return fail(main.error().code(), shown_path(file) + ": " + std::string(main.error().story()));
    read_file(file, *main, true);
  }
  if (before_ != nullptr) before_->set_context(defaults_, loaded_.settings.namespace_directory);
  TRY_VOID(read_drop_ins(file));
  read_maps();
  Result<Configuration> loaded = finish();
  if (loaded && before_ != nullptr) before_->end(loaded->sources);
  return loaded;
}

Result<Configuration> Loader::finish() {
  if (!command_line_.state_dir.empty() && is_inside(loaded_.settings.state_dir, loaded_.settings.namespace_directory)) {
    mistakes_.begin("--state-dir " + shown_path(command_line_.state_dir));
    mistakes_.add(0, "it lies inside the namespace " + shown(loaded_.settings.namespace_directory));
  }
  for (const std::string& argument : command_line_.quick_shares) {
    mistakes_.begin("--share " + shown_path(argument));
    read_quick_share(argument);
  }
  check_requirements();
  if (!mistakes_.empty()) return fail(mistakes_.error());
  read_sources();
  if (shares_with_secrets_ > kMaxMistakesTold) {
    loaded_.warnings.push_back(std::to_string(shares_with_secrets_ - kMaxMistakesTold) + " more shares have a secret");
  }
  // They quote what maps and the catalog say.
  for (std::string& warning : loaded_.warnings) warning = mask_secrets(warning);
  return std::move(loaded_);
}

/// Of all shares together, so a share may stand before those that it requires. Where there are other mistakes, a share
/// that could not be read would be reported once more.
void Loader::check_requirements() {
  if (!mistakes_.empty()) return;
  for (const manager::RequirementFault& fault : manager::faults_of_requirements(loaded_.catalog)) {
    const manager::ShareFields fields = fault.share.fields();
    const auto line = required_lines_.find(fields.name);
    mistakes_.begin(fields.origin_file);
    mistakes_.add(line == required_lines_.end() ? fields.origin_line : line->second,
                  "\"requires\" in " + section_label("share", fields.name) + ": " + fault.reason);
  }
}

std::string Loader::missing_requirement(const manager::SharePolicy& policy) const {
  for (const std::string& name : policy.required) {
    if (manager::find_maker(loaded_.catalog, name) == nullptr) return name;
  }
  return "";
}

Result<> Loader::read_drop_ins(const std::string& file) {
  const std::string directory = (std::filesystem::path(file).parent_path() / "shares.d").native();
  Result<std::vector<std::string>> paths = find_drop_ins(directory);
  const auto is_forbidden = [](const Error& error) { return error.code() == EACCES; };
  if (!paths) {
    if (is_forbidden(paths.error())) return fail(paths.error().within(shown_path(directory)));
    mistakes_.begin(shown_path(directory));
    mistakes_.add(0, std::string(paths.error().story()));
    return {};
  }
  struct stat attributes {};
  if (::stat(directory.c_str(), &attributes) == 0) warn_of_owner(directory, attributes);
  if (change_ != nullptr) {
    std::erase(*paths, change_->path);
    if (change_->text) paths->insert(std::upper_bound(paths->begin(), paths->end(), change_->path), change_->path);
  }
  for (const std::string& path : *paths) {
    if (change_ != nullptr && path == change_->path) {
      read_file(path, {.text = *change_->text, .attributes = {}}, false);
    } else if (Result<ConfigFile> drop_in = read_config_file(path)) {
      read_file(path, *drop_in, false);
    } else if (is_forbidden(drop_in.error())) {
      return fail(drop_in.error().within(shown_path(path)));
    } else {
      mistakes_.begin(shown_path(path));
      mistakes_.add(0, std::string(drop_in.error().story()));
    }
  }
  return {};
}

void Loader::warn_of_owner(const std::string& path, const struct stat& attributes) {
  if (::geteuid() != 0) return;
  if (std::string warning = ownership_warning(path, attributes); !warning.empty()) {
    loaded_.warnings.push_back(std::move(warning));
  }
}

/// Every user of the host can read a program's argv in /proc (proc(5), cmdline).
bool Loader::warn_of_secrets(const manager::ShareFields& fields) {
  const std::vector<const char*> keys = manager::keys_with_secrets(fields);
  const bool has_variable =
      std::any_of(fields.environment.begin(), fields.environment.end(), [](const std::string& variable) {
        return is_secret_key(std::string_view(variable).substr(0, variable.find('=')));
      });
  if (keys.empty() && !has_variable) return false;
  secret_of_file_ = section_label("share", fields.name);
  if (keys.empty()) return true;
  if (++shares_with_secrets_ > kMaxMistakesTold) return true;
  std::string warning = fields.origin_file;
  if (fields.origin_line > 0) warning += ":" + std::to_string(fields.origin_line);
  warning += ": " + section_label("share", fields.name) + " has a secret in ";
  for (const char* key : keys) warning += (key == keys.front() ? "" : " and ") + quote(key);
  loaded_.warnings.push_back(std::move(warning) +
                             ", which every user can read in /proc while a program is told it; put it into a "
                             "credentials file that only root can read "
                             "(the option \"credentials\" where the type has it, or \"environment_file\")");
  return true;
}

void Loader::read_file(const std::string& path, const ConfigFile& file, bool is_main) {
  mistakes_.begin(shown_path(path));
  loaded_.files.push_back(path);
  warn_of_owner(path, file.attributes);
  secret_of_file_.clear();
  const ReadFile* const before =
      before_ != nullptr ? before_->use_file(path, Fingerprint::of(file.text), is_main, accounts_) : nullptr;
  if (before != nullptr) {
    repeat_file(*before);
  } else {
    parse_file(path, file.text, is_main);
  }
  if (!secret_of_file_.empty() && (file.attributes.st_mode & S_IROTH) != 0) {
    loaded_.warnings.push_back(shown_path(path) + ": every user may read it, and " + secret_of_file_ +
                               " has a secret in it; take that right away (chmod o-r)");
  }
}

void Loader::parse_file(const std::string& path, std::string_view text, bool is_main) {
  const std::size_t mistakes_before = mistakes_.count();
  ReadFile read;
  if (before_ != nullptr) {
    (void)accounts_.take_asked();
    remember_ = [&read](const manager::ShareSpec& spec, bool has_secret) {
      if (has_secret) read.with_secrets.push_back(read.shares.size());
      read.shares.push_back(spec);
    };
  }
  if (tl::expected<toml::table, SyntaxFault> document = parse(text)) {
    read_document(*document, is_main);
  } else {
    mistakes_.add(document.error().line, document.error().text);
  }
  remember_ = nullptr;
  if (before_ == nullptr || mistakes_.count() != mistakes_before) return;
  read.text = Fingerprint::of(text);
  read.accounts = accounts_.take_asked();
  read.shares.shrink_to_fit();
  for (const manager::ShareSpec& spec : read.shares) {
    if (const auto line = required_lines_.find(spec.name()); line != required_lines_.end())
      read.required_lines.emplace_back(*line);
  }
  if (is_main) read.main = {loaded_.settings, defaults_, maps_, loaded_.sources};
  before_->put_file(path, std::move(read));
}

void Loader::repeat_file(const ReadFile& file) {
  if (file.main) {
    loaded_.settings = file.main->settings;
    defaults_ = file.main->defaults;
    maps_ = file.main->maps;
    loaded_.sources = file.main->sources;
  }
  for (const auto& [name, line] : file.required_lines) required_lines_[name] = line;
  auto with_secret = file.with_secrets.begin();
  for (std::size_t i = 0; i < file.shares.size(); ++i) {
    const manager::ShareSpec& spec = file.shares[i];
    const bool has_secret = with_secret != file.with_secrets.end() && *with_secret == i;
    if (has_secret) ++with_secret;
    if (const Result<> added = add_again(spec, has_secret); !added)
      mistakes_.add(spec.fields().origin_line, std::string(added.error().story()));
  }
}

void Loader::read_document(const toml::table& document, bool is_main) {
  read_top_level(document, is_main);
  if (is_main) read_daemon_sections(document);
  if (is_main) read_map_sections(document);
  if (is_main) read_source_sections(document);
  read_shares(document);
}

void Loader::read_top_level(const toml::table& document, bool is_main) {
  for (const auto& [key, value] : document) {
    const std::string_view name = key.str();
    const std::uint32_t line = key.source().begin.line;
    const bool is_list = name == "map" || name == "catalog_source";
    const bool is_known = name == "berth" || name == "control" || name == "share" || is_list;
    if (is_known && (is_list ? !value.is_array_of_tables() : !value.is_table())) {
      const std::string wanted = name == "share" ? "[share.NAME]"
                                 : is_list       ? "[" + section_label(name) + "]"
                                                 : section_label(name);
      mistakes_.add(line, quote(name) + " is not a value: a section " + wanted + " is expected");
    } else if (is_known && name != "share" && !is_main) {
      mistakes_.add(line, section_label(name) + " belongs in the main file, " + shown_path(main_file_));
    } else if (!is_known && value.is_table()) {
      mistakes_.add(line, "unknown section " + section_label(name) +
                              suggestion(name, {"berth", "catalog_source", "control", "map", "share"}));
    } else if (!is_known) {
      const std::vector<std::string_view>& keys = daemon_keys();
      const bool is_daemon_key = std::find(keys.begin(), keys.end(), name) != keys.end();
      mistakes_.add(line, "unknown key " + shown(name) + " outside of a section" +
                              (is_daemon_key ? "; it belongs in [berth]" : ""));
    }
  }
}

void Loader::read_daemon_sections(const toml::table& document) {
  const auto line_of = [&](std::string_view name) { return document.find(name)->first.source().begin.line; };
  if (const toml::table* berth = document["berth"].as_table()) {
    Section section(*berth, "[berth]", line_of("berth"), mistakes_);
    Settings& settings = loaded_.settings;
    read_daemon_section(section, settings, defaults_);
    apply_command_line();
    if (command_line_.state_dir.empty() && is_inside(settings.state_dir, settings.namespace_directory)) {
      section.reject("state_dir",
                     shown(settings.state_dir) + " lies inside the namespace " + shown(settings.namespace_directory));
    }
  }
  if (const toml::table* control = document["control"].as_table()) {
    Section section(*control, "[control]", line_of("control"), mistakes_);
    read_control_section(section, loaded_.settings.control, accounts_);
  }
}

void Loader::read_map_sections(const toml::table& document) {
  const toml::array* maps = document["map"].as_array();
  if (maps == nullptr || !maps->is_array_of_tables()) return;
  for (const toml::node& map : *maps) {
    const std::uint32_t line = map.source().begin.line;
    Section section(*map.as_table(), "[[map]]", line, mistakes_);
    std::string master;
    section.text("autofs", master);
    section.reject_unknown();
    if (master.empty()) {
      mistakes_.add(line, "\"autofs\" in [[map]] is missing; the path of a master map, such as \"/etc/auto.master\"");
    } else if (master.front() != '/') {
      section.reject("autofs", shown(master) + " is not an absolute path");
    } else {
      maps_.push_back({std::move(master), line});
    }
  }
}

void Loader::read_maps() {
  if (maps_.empty()) return;
  mistakes_.begin(shown_path(main_file_));
  for (const MapSection& map : maps_) {
    const Result<autofs::Maps> maps = autofs::load_master(map.master);
    if (maps) {
      read_map(map.master, *maps);
    } else {
      mistakes_.add(map.line, "the maps of autofs: " + std::string(maps.error().story()));
    }
  }
}

void Loader::read_map(const std::string& master, const autofs::Maps& maps) {
  autofs::Translation translation = autofs::translate(maps, loaded_.settings.namespace_directory,
                                                      std::filesystem::path(master).parent_path().native(), defaults_);
  std::vector<std::string>& files = translation.findings.files;
  std::sort(files.begin(), files.end());
  files.erase(std::unique(files.begin(), files.end()), files.end());
  for (const std::string& file : files) {
    struct stat attributes {};
    if (::stat(file.c_str(), &attributes) == 0) warn_of_owner(file, attributes);
    loaded_.files.push_back(file);
  }
  std::vector<autofs::Fault>& faults = translation.findings.faults;
  for (autofs::Share& share : translation.shares) {
    const std::string origin = share.fields.origin_file;
    const std::uint32_t line = share.fields.origin_line;
    for (std::string& note : share.notes) faults.push_back({origin, line, std::move(note)});
    add_share(std::move(share.fields), [&](std::string_view, const std::string& reason) {
      faults.push_back({origin, line, reason});
    });
  }
  // What is not known removes nothing, and is told in any case.
  std::stable_partition(faults.begin(), faults.end(), [](const autofs::Fault& fault) { return !fault.unread.empty(); });
  for (autofs::Fault& fault : faults) {
    if (fault.unread.empty()) break;
    loaded_.catalog.keep(fault.unread);
    fault.reason += "; those of its shares that are in force stay";
  }
  for (std::size_t i = 0; i < std::min(faults.size(), kMaxMistakesTold); ++i) {
    loaded_.warnings.push_back("not carried over from autofs: " + to_string(faults[i]));
  }
  if (faults.size() > kMaxMistakesTold) {
    loaded_.warnings.push_back(std::to_string(faults.size() - kMaxMistakesTold) +
                               " more are not carried over from autofs");
  }
}

void Loader::read_source_sections(const toml::table& document) {
  const toml::array* sources = document["catalog_source"].as_array();
  if (sources == nullptr || !sources->is_array_of_tables()) return;
  for (const toml::node& source : *sources) {
    Section section(*source.as_table(), "[[catalog_source]]", source.source().begin.line, mistakes_);
    read_catalog_source(section, loaded_.sources);
  }
}

void Loader::read_sources() {
  for (const CatalogSource& source : loaded_.sources) loaded_.source_shares.push_back(read_source(source));
}

SourceShares Loader::read_source(const CatalogSource& source) {
  SourceShares result{.source = source.name};
  const Settings& settings = loaded_.settings;
  const std::string directory = command_line_.source_directory.empty()
                                    ? source_directory(settings.state_dir, settings.namespace_directory)
                                    : command_line_.source_directory;
  const std::string path = source_file(directory, source.name);
  const std::string origin = source_origin(source.name);
  ReadSource none;
  ReadSource& before = before_ != nullptr ? before_->source(source.name) : none;
  before.begin(accounts_);
  const Result<std::string> text = read_source_text(path);
  const Result<KeptLines> kept = text ? split_source_text(*text) : fail(text.error());
  const Result<std::vector<KeptShare>> shares = kept ? shares_in(kept->lines, before) : fail(kept.error());
  // What cannot be read removes nothing.
  if (!shares || !kept->is_whole) loaded_.catalog.keep(origin);
  if (!shares) {
    // Nothing has been kept yet, or only root may read it.
    if (shares.error().code() == ENOENT) return result;
    result.unread = "its shares cannot be read: " + path + ": " + shares.error().message();
    const bool is_for_this_user = shares.error().code() != EACCES || !command_line_.source_directory.empty();
    if (is_for_this_user) loaded_.warnings.push_back(origin + ": " + result.unread + "; those in force stay");
    return result;
  }
  const Refuse refuse = [&](const std::string& name, const std::string& why) {
    if (++result.refused_count > kMaxMistakesTold) return;
    result.refused.emplace(name, prose(why));
    loaded_.warnings.push_back(origin + ": " + section_label("share", name) + ": " + prose(why));
  };
  read_source_shares(*shares, before, origin, refuse);
  result.shares = shares->size() - result.refused_count;
  if (result.refused_count > kMaxMistakesTold) {
    loaded_.warnings.push_back(origin + ": " + std::to_string(result.refused_count - kMaxMistakesTold) +
                               " more shares are refused");
  }
  return result;
}

Result<std::vector<Loader::KeptShare>> Loader::shares_in(const std::vector<std::string_view>& lines,
                                                         ReadSource& before) {
  std::vector<KeptShare> shares;
  shares.reserve(lines.size());
  for (const std::string_view line : lines) {
    KeptShare share{.name = "", .line = line, .print = Fingerprint::of(line)};
    share.before = before.use(share.print);
    share.name = share.before != nullptr ? share.before->spec.name() : TRY(name_in_put(line));
    shares.push_back(std::move(share));
  }
  const auto by_name = [](const KeptShare& a, const KeptShare& b) { return a.name < b.name; };
  const auto has_same_name = [](const KeptShare& a, const KeptShare& b) { return a.name == b.name; };
  std::stable_sort(shares.begin(), shares.end(), by_name);
  shares.erase(std::unique(shares.begin(), shares.end(), has_same_name), shares.end());
  return shares;
}

void Loader::read_source_shares(const std::vector<KeptShare>& shares, ReadSource& before, const std::string& origin,
                                const Refuse& refuse) {
  (void)accounts_.take_asked();
  std::vector<manager::ShareFields> waiting;  // for shares that they require
  for (const KeptShare& share : shares) {
    source_bytes_ += share.line.size();
    if (source_bytes_ > kMostOfSource) {
      refuse(share.name, "the shares of all catalog sources together have more than " +
                             std::to_string(kMostOfSource >> 20) + " MiB");
      continue;
    }
    if (share.before != nullptr && missing_requirement(share.before->spec.policy()).empty()) {
      const Result<> added = add_again(share.before->spec, share.before->has_secret);
      if (!added) refuse(share.name, std::string(added.error().story()));
      continue;
    }
    manager::ShareFields fields;
    fields.policy = defaults_;
    fields.origin_file = origin;
    if (const Result<> read = read_put(share.line, fields, accounts_); !read) {
      refuse(share.name, std::string(read.error().story()));
    } else if (!missing_requirement(fields.policy).empty()) {
      waiting.push_back(std::move(fields));
    } else {
      remember_ = [&before, &share](const manager::ShareSpec& spec, bool has_secret) {
        before.add(share.print, spec, has_secret);
      };
      add_of_source(std::move(fields), refuse);
      remember_ = nullptr;
    }
  }
  add_in_order(std::move(waiting), refuse);
  before.end(accounts_.take_asked());
}

void Loader::add_of_source(manager::ShareFields fields, const Refuse& refuse) {
  const std::string name = fields.name;
  std::string why;
  add_share(std::move(fields), [&why](std::string_view key, const std::string& reason) {
    if (why.empty()) why = (key.empty() ? "" : quote(key) + ": ") + reason;
  });
  if (!why.empty()) refuse(name, why);
}

void Loader::add_in_order(std::vector<manager::ShareFields> waiting, const Refuse& refuse) {
  for (std::size_t before = 0; before != waiting.size();) {
    before = waiting.size();
    std::vector<manager::ShareFields> left;
    for (manager::ShareFields& fields : waiting) {
      if (missing_requirement(fields.policy).empty()) {
        add_of_source(std::move(fields), refuse);
      } else {
        left.push_back(std::move(fields));
      }
    }
    waiting = std::move(left);
  }
  for (const manager::ShareFields& fields : waiting)
    refuse(fields.name,
           quote("requires") + ": " + shown(missing_requirement(fields.policy)) + " is no share that is there");
}

void Loader::read_shares(const toml::table& document) {
  const toml::table* shares = document["share"].as_table();
  if (shares == nullptr) return;
  for (const auto& [key, value] : *shares) {
    const std::uint32_t line = key.source().begin.line;
    if (const toml::table* table = value.as_table()) {
      read_share(key.str(), line, *table);
    } else {
      const std::vector<std::string_view>& keys = share_keys();
      const bool is_key = std::find(keys.begin(), keys.end(), key.str()) != keys.end();
      mistakes_.add(line,
                    is_key ? quote(key.str()) + " in [share]: the name of the share is missing, such as [share.media]"
                           : shown(key.str()) + " in [share] is not a section: a share is written as " +
                                 section_label("share", key.str()) + " with its keys below");
    }
  }
}

/// Whether there is no key in it.
bool holds_sections_alone(const toml::table& table) {
  return !table.empty() &&
         std::all_of(table.begin(), table.end(), [](const auto& entry) { return entry.second.is_table(); });
}

void Loader::read_share(std::string_view name, std::uint32_t line, const toml::table& table) {
  const std::string label = section_label("share", name);
  if (holds_sections_alone(table)) {
    // [share.a.b]: a table "b" in a table "a".
    std::string meant(name);
    for (const toml::table* below = &table; holds_sections_alone(*below); below = below->begin()->second.as_table())
      meant.append("/").append(below->begin()->first.str());
    return mistakes_.add(table.begin()->first.source().begin.line,
                         "below " + label + " there are only sections; quote the name: [share." + quote(meant) + "]");
  }
  const std::size_t mistakes_before = mistakes_.count();
  Section section(table, label, line, mistakes_);
  manager::ShareFields fields;
  fields.name = name;
  fields.policy = defaults_;
  fields.origin_file = mistakes_.file();
  fields.origin_line = line;
  read_share_section(section, fields, accounts_);
  // A value that could not be read would be reported once more, as missing.
  if (mistakes_.count() != mistakes_before) return;
  if (const toml::node* const required = table.get("requires")) {
    required_lines_[fields.name] = required->source().begin.line;
  }
  add_share(std::move(fields), [&](std::string_view key, const std::string& reason) {
    if (key.empty() || key == "name") return mistakes_.add(line, reason);
    section.reject(key, reason);
  });
}

template <typename Reject>
void Loader::add_share(manager::ShareFields fields, Reject reject) {
  const std::vector<manager::FieldFault> faults = manager::ShareSpec::faults_in(fields);
  for (const manager::FieldFault& fault : faults) reject(fault.key, fault.reason);
  const InsideNamespace inside = find_inside(fields, loaded_.settings.namespace_directory);
  if (!inside.key.empty()) {
    reject(inside.key, shown(inside.path) + " lies inside the namespace " +
                           shown(loaded_.settings.namespace_directory) + ": the share would wait for itself");
  }
  if (!faults.empty() || !inside.key.empty()) return;
  const bool has_secret = warn_of_secrets(fields);
  Result<manager::ShareSpec> spec = manager::ShareSpec::make(std::move(fields), last_ ? &*last_ : nullptr);
  if (!spec) return reject("", std::string(spec.error().story()));
  last_ = *spec;
  if (remember_) remember_(*spec, has_secret);
  if (Result<> added = loaded_.catalog.add(std::move(*spec)); !added) reject("", std::string(added.error().story()));
}

Result<> Loader::add_again(const manager::ShareSpec& spec, bool has_secret) {
  if (has_secret) warn_of_secrets(spec.fields());
  last_ = spec;
  return loaded_.catalog.add(spec);
}

void Loader::read_quick_share(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == std::string::npos || equals + 1 == argument.size()) return mistakes_.add(0, "NAME=DIR is expected");
  manager::ShareFields fields;
  fields.name = argument.substr(0, equals);
  fields.type = "bind";
  fields.sources = {normal_path(argument.substr(equals + 1))};
  fields.policy = defaults_;
  fields.origin_file = "--share";
  add_share(std::move(fields), [&](std::string_view, const std::string& reason) { mistakes_.add(0, reason); });
}

/// berth does not throw, but the library does when memory runs out, and a daemon that reads its configuration again
/// keeps the old one then.
template <typename Load>
Result<Configuration> without_exceptions(Load load) {
  try {
    return load();
  } catch (const std::bad_alloc&) {
    return fail(ENOMEM, "out of memory while reading the configuration");
  } catch (const std::exception& exception) {
    return fail(EINVAL, std::string("cannot read the configuration: ") + exception.what());
  }
}

}  // namespace

Result<Configuration> load(const std::string& file, const CommandLine& command_line, const DropInChange* change,
                           ReadFiles* before) {
  Result<Configuration> loaded = without_exceptions([&] { return Loader(command_line, change, before).load(file); });
  // The text and its tables are many times as large as what is kept of them.
  ::malloc_trim(0);
  return loaded;
}

Result<Configuration> default_configuration(const CommandLine& command_line) {
  return without_exceptions([&] { return Loader(command_line).finish(); });
}

}  // namespace berth::config
