#include "manager/backends/secret_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

#include "src/lib/base/text.h"
#include "src/lib/sys/file.h"

namespace berth::manager {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const std::size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string_view::npos ? std::string_view()
                                         : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string_view unquoted(std::string_view value) {
  const bool quoted =
      value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
  return quoted ? value.substr(1, value.size() - 2) : value;
}

Result<std::vector<std::string>> read_environment(const std::string& file) {
  const Result<std::string> text = sys::read_regular_file(file, kMaxSecretFile);
  if (!text) return fail(text.error().within("cannot read environment_file " + quote(file)));
  std::vector<std::string> variables;
  std::size_t number = 0;
  for (std::string_view line : split(*text, '\n')) {
    ++number;
    line = trimmed(line);
    if (line.starts_with("export ")) line = trimmed(line.substr(7));
    if (line.empty() || line.front() == '#') continue;
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || equals == 0 || line.find('\0') != std::string_view::npos) {
      return fail(EINVAL, quote(file) + ":" + std::to_string(number) + ": NAME=value is expected");
    }
    variables.push_back(
        std::string(trimmed(line.substr(0, equals))).append("=").append(unquoted(trimmed(line.substr(equals + 1)))));
  }
  return variables;
}

/// A file in a share is not read: the server would wait for itself, a server that takes over for ever.
bool is_in_share(const HostView& host, const std::string& file) {
  const std::string path = std::filesystem::path(file).lexically_normal().native();
  return !host.shares.empty() && path.starts_with(host.shares + "/");
}

/// What a program is given in an argument that not every user may read, such as its configuration: what has a secret's key in it.
void add_closed_files(Secrets& secrets, const HostView& host, std::string_view argument) {
  for (const std::string_view option : split(argument, ',')) {
    const std::string file(unquoted(option.substr(option.starts_with('/') ? 0 : option.find('=') + 1)));
    if (!file.starts_with('/') || is_in_share(host, file)) continue;
    const Result<struct statx> attributes = sys::stat_at(AT_FDCWD, file.c_str(), STATX_MODE | STATX_TYPE);
    if (!attributes || !S_ISREG(attributes->stx_mode) || (attributes->stx_mode & S_IROTH) != 0) continue;
    if (const Result<std::string> content = sys::read_regular_file(file, kMaxSecretFile)) secrets.add_source(*content);
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
    if (is_in_share(host, file)) continue;
    if (const Result<std::string> content = sys::read_regular_file(file, kMaxSecretFile)) secrets.add_file(*content);
  }
  for (const std::vector<std::string>& argv : {std::vector<std::string>{spec.options()}, spec.mount_command(),
                                               spec.unmount_command(), spec.environment(), spec.program()}) {
    for (const std::string& argument : argv) add_closed_files(secrets, host, argument);
  }
  if (!spec.environment_file().empty() && !is_in_share(host, spec.environment_file())) {
    if (const Result<std::vector<std::string>> variables = read_environment(spec.environment_file())) {
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
  if (!spec.environment_file().empty()) variables = TRY(read_environment(spec.environment_file()));
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
