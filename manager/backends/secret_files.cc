#include "manager/backends/secret_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "manager/backends/host_walk.h"
#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

std::string_view unquoted(std::string_view value) {
  const bool quoted =
      value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
  return quoted ? value.substr(1, value.size() - 2) : value;
}

Result<std::vector<std::string>> variables_in(const std::string& file, const Result<std::string>& text) {
  if (!text) return fail(text.error().within("cannot read environment_file " + quote(file)));
  std::vector<std::string> variables;
  std::size_t number = 0;
  for (std::string_view line : split(*text, '\n')) {
    ++number;
    line = trim(line);
    if (line.starts_with("export ")) line = trim(line.substr(7));
    if (line.empty() || line.front() == '#') continue;
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0 || line.find('\0') != std::string_view::npos) {
      return fail(EINVAL, quote(file) + ":" + std::to_string(number) + ": NAME=value is expected");
    }
    variables.push_back(
        std::string(trim(line.substr(0, equals))).append("=").append(unquoted(trim(line.substr(equals + 1)))));
  }
  return variables;
}

/// Of the host, by a way that does not lead into the namespace: a server that takes over would wait for itself.
Result<UniqueFd> find_file(const HostView& host, const std::string& file) {
  return std::move(TRY(walk_on_host(host, file, WalkTo::kFile)).end);
}

Result<std::string> read_found(int file) { return sys::read_regular_file(sys::proc_path(file), kMaxSecretFile); }

Result<std::string> read_on_host(const HostView& host, const std::string& file) {
  const UniqueFd found = TRY(find_file(host, file));
  return read_found(found.get());
}

/// What a program is given in an argument that not every user may read, such as its configuration: what has a secret's
/// key in it.
void add_closed_files(Secrets& secrets, const HostView& host, std::string_view argument) {
  for (const std::string_view option : split(argument, ',')) {
    const std::string file(unquoted(option.substr(option.starts_with('/') ? 0 : option.find('=') + 1)));
    if (!file.starts_with('/')) continue;
    const Result<UniqueFd> found = find_file(host, file);
    if (!found) continue;
    const Result<struct statx> attributes = sys::stat_at(found->get(), "", STATX_MODE | STATX_TYPE);
    if (!attributes || !S_ISREG(attributes->stx_mode) || (attributes->stx_mode & S_IROTH) != 0) continue;
    if (const Result<std::string> content = read_found(found->get())) secrets.add_source(*content);
  }
}

std::string_view name_of(std::string_view variable) { return variable.substr(0, variable.find('=')); }

/// In the host's mount namespace.
void add_files(Secrets& secrets, const HostView& host, const ShareSpec& spec) {
  std::vector<std::string> files = secret_files_in(spec.options());
  for (const auto* argv : {&spec.mount_command(), &spec.unmount_command(), &spec.environment(), &spec.program()}) {
    for (std::string& file : secret_files_in(*argv)) files.push_back(std::move(file));
  }
  for (const std::string& file : files) {
    if (const Result<std::string> content = read_on_host(host, file)) secrets.add_file(*content);
  }
  for (const std::vector<std::string>& argv : {std::vector<std::string>{spec.options()}, spec.mount_command(),
                                               spec.unmount_command(), spec.environment(), spec.program()}) {
    for (const std::string& argument : argv) add_closed_files(secrets, host, argument);
  }
  if (const std::string& file = spec.environment_file(); !file.empty()) {
    if (const Result<std::vector<std::string>> variables = variables_in(file, read_on_host(host, file))) {
      for (const std::string_view variable : *variables) {
        const std::string_view name = name_of(variable);
        secrets.add_variable(name, variable.substr(name.size() + 1));
      }
    }
  }
}

}  // namespace

Result<std::vector<std::string>> program_environment(const ShareSpec& spec) {
  std::vector<std::string> variables;
  if (const std::string& file = spec.environment_file(); !file.empty())
    variables = TRY(variables_in(file, sys::read_regular_file(file, kMaxSecretFile)));
  const std::size_t of_file = variables.size();
  for (const std::string& variable : spec.environment()) {
    const bool is_in_file = std::any_of(variables.begin(), variables.begin() + static_cast<std::ptrdiff_t>(of_file),
                                        [&](const std::string& one) { return name_of(one) == name_of(variable); });
    if (!is_in_file) variables.push_back(variable);
  }
  return variables;
}

Secrets known_secrets(const HostView& host, const ShareSpec& spec) {
  Secrets secrets = spec.secrets();
  static_cast<void>(in_host(host, [&]() -> Result<> {
    add_files(secrets, host, spec);
    return {};
  }));
  return secrets;
}

}  // namespace berth::manager
