#include "src/config/autofs_import.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "src/autofs/maps.h"
#include "src/autofs/shares.h"
#include "src/config/share_section.h"
#include "src/config/toml_text.h"
#include "src/lib/base/text.h"

namespace berth::config {
namespace {

using autofs::Fault;

constexpr const char* kNamespace = "/volumes";

/// `text` as one word of a shell's command line (sh(1)).
std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

/// The lines of a comment, with a title if there are any.
std::string comment(std::string_view title, const std::vector<std::string>& lines) {
  if (lines.empty()) return "";
  std::string text = "# " + std::string(title) + "\n";
  for (const std::string& line : lines) text.append("#   ").append(prose(line)).append("\n");
  return text + "\n";
}

/// Commands that make links, which work in this order. automount takes the directories away that it has made.
std::vector<std::string> links(const std::vector<autofs::OldPath>& old_paths, const std::string& namespace_directory) {
  std::set<std::string> linked;
  for (const autofs::OldPath& old : old_paths) linked.insert(old.path);
  const auto lies_below_a_link = [&linked](std::string path) {
    while (path.size() > 1) {
      path = std::filesystem::path(path).parent_path();
      if (linked.contains(path)) return true;
    }
    return false;
  };
  std::set<std::string> made{"/"};
  std::vector<std::string> lines;
  for (const autofs::OldPath& old : old_paths) {
    if (lies_below_a_link(old.path)) continue;  // it leads there
    const std::string target = namespace_directory + "/" + old.below;
    if (is_harmless(target) && is_harmless(old.path)) {
      const std::string parent = std::filesystem::path(old.path).parent_path();
      if (made.insert(parent).second) lines.push_back("mkdir -p " + shell_word(parent));
      lines.push_back("ln -sT " + shell_word(target) + " " + shell_word(old.path));
    } else {
      lines.push_back("(a link by hand, for its name cannot be shown) " + quote(old.path));
    }
  }
  return lines;
}

/// "NAME=value" as a table.
Result<std::string> environment_table(const std::vector<std::string>& environment) {
  std::string text;
  for (const std::string& variable : environment) {
    const std::size_t equals = variable.find('=');
    text += (text.empty() ? "{ " : ", ") + TRY(toml_text(variable.substr(0, equals))) + " = " +
            TRY(toml_text(variable.substr(equals + 1)));
  }
  return text + " }";
}

/// The value of `source`. Errors: as section_of().
Result<std::string> sources_of(const manager::ShareFields& fields) {
  const std::vector<std::uint32_t>& weights = fields.policy.weights;
  if (weights.size() != fields.sources.size()) return toml_texts(fields.sources);
  std::string text;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    text += (i == 0 ? "[" : ", ") + ("{ source = " + TRY(toml_text(fields.sources[i])));
    text += ", weight = " + std::to_string(weights[i]) + " }";
  }
  return text + "]";
}

/// The section of a share. Errors: EINVAL for text that is not UTF-8.
Result<std::string> section_of(const autofs::Share& share) {
  const manager::ShareFields& fields = share.fields;
  std::string text = "# " + prose(fields.origin_file) + ":" + std::to_string(fields.origin_line) + "\n";
  for (const std::string& note : share.notes) text.append("# Not carried over: ").append(prose(note)).append("\n");
  text += "[share." + TRY(toml_text(fields.name)) + "]\ntype = " + TRY(toml_text(fields.type)) + "\n";
  if (!fields.program.empty()) text += "program = " + TRY(toml_texts(fields.program)) + "\n";
  if (!fields.sources.empty()) text += "source = " + TRY(sources_of(fields)) + "\n";
  if (!fields.environment.empty()) text += "environment = " + TRY(environment_table(fields.environment)) + "\n";
  if (!fields.options.empty()) text += "options = " + TRY(toml_text(fields.options)) + "\n";
  if (fields.policy.read_only) text += "read_only = true\n";
  if (fields.policy.hidden) text += "hidden = true\n";
  if (fields.policy.allow_suid) text += "allow_suid = true\n";
  if (fields.policy.allow_devices) text += "allow_devices = true\n";
  if (fields.policy.idle_timeout_is_own) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(fields.policy.idle_timeout);
    text += "idle_timeout = \"" + std::to_string(seconds.count()) + "s\"\n";
  }
  if (fields.policy.negative_timeout != manager::SharePolicy().negative_timeout && fields.name.ends_with('*')) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(fields.policy.negative_timeout);
    text += "negative_timeout = \"" + std::to_string(seconds.count()) + "s\"\n";
  }
  return text + "\n";
}

}  // namespace

Result<ImportedMaps> import_autofs(const std::string& file, std::string namespace_directory) {
  const autofs::Maps maps = TRY(autofs::load_master(file));
  if (namespace_directory.empty()) namespace_directory = autofs::only_mount_point(maps);
  if (namespace_directory.empty()) namespace_directory = kNamespace;
  autofs::Translation translation =
      autofs::translate(maps, namespace_directory, std::filesystem::path(file).parent_path());

  ImportedMaps result;
  std::string sections;
  for (const autofs::Share& share : translation.shares) {
    const auto leave_out = [&](std::string reason) {
      translation.findings.faults.push_back({share.fields.origin_file, share.fields.origin_line, std::move(reason)});
    };
    if (const InsideNamespace inside = find_inside(share.fields, namespace_directory); !inside.key.empty()) {
      leave_out(quote(inside.path) + " lies inside the namespace " + quote(namespace_directory));
    } else if (const Result<std::string> section = section_of(share); section) {
      sections += *section;
      ++result.shares;
    } else {
      leave_out(std::string(section.error().story()));
    }
  }
  std::vector<std::string> faults;
  for (const Fault& fault : translation.findings.faults) faults.push_back(to_string(fault));
  result.faults = faults.size();
  result.text =
      "# Made by `berth import autofs " + prose(file) +
      "`.\n\n[berth]\nnamespace = " + TRY(toml_text(namespace_directory)) + "\n\n" +
      comment("Not carried over:", faults) +
      comment("The old paths go on working by these lines. An empty directory that is there is removed before.",
              links(translation.old_paths, namespace_directory)) +
      sections;
  while (result.text.ends_with("\n\n")) result.text.pop_back();
  return result;
}

}  // namespace berth::config
