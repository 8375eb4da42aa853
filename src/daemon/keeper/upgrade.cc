#include "src/daemon/keeper/upgrade.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>
#include <vector>

#include "src/daemon/common/kept_memory.h"
#include "src/daemon/keeper/keeper.h"

namespace berth::daemon {
namespace {

void set_close_on_exec(const std::vector<int>& descriptors, bool close) noexcept {
  for (const int descriptor : descriptors) {
    if (descriptor > STDERR_FILENO) ::fcntl(descriptor, F_SETFD, close ? FD_CLOEXEC : 0);
  }
}

std::optional<std::string> take_variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  std::string text = value;
  ::unsetenv(name);
  return text;
}

}  // namespace

std::string record_version() { return std::to_string(KeptDaemon::kVersion) + "." + std::to_string(sizeof(KeptMemory)); }

std::string consent() { return "goes on with records of version " + record_version(); }

std::string own_program() {
  std::array<char, PATH_MAX> path{};
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size() - 1);
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "";
}

Result<sys::Process> ask_for_consent(const std::string& program, std::vector<std::string> arguments) {
  if (program.empty()) return fail(ENOENT, "it is not known which program this is");
  arguments.insert(arguments.begin(), program);
  ::setenv(kCheckVariable, record_version().c_str(), 1);
  Result<sys::Process> check = sys::Process::start(arguments);
  ::unsetenv(kCheckVariable);
  return check;
}

Error execute_upgrade(const std::string& program, ServerSetup& setup, const KeeperDescriptors& handed) {
  std::vector<std::string> arguments = setup.arguments;
  arguments.insert(arguments.begin(), "berth");
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  setup.record().keeper_descriptors = handed;
  const std::vector<int> open = open_descriptors();
  set_close_on_exec(open, false);
  ::setenv(kTakeOverVariable, std::to_string(setup.memory->fd()).c_str(), 1);
  ::setenv(kSettingsVariable, config::text_of(setup.configuration.settings).c_str(), 1);
  ::execv(program.c_str(), pointers.data());
  Error error = Error::last();
  ::unsetenv(kTakeOverVariable);
  ::unsetenv(kSettingsVariable);
  set_close_on_exec(open, true);
  return error;
}

std::optional<std::string> is_asked_for_consent() { return take_variable(kCheckVariable); }

std::optional<std::string> inherited_settings() { return take_variable(kSettingsVariable); }

std::optional<int> inherited_memory() {
  const std::optional<std::string> text = take_variable(kTakeOverVariable);
  if (!text) return std::nullopt;
  int descriptor = -1;
  std::from_chars(text->data(), text->data() + text->size(), descriptor);
  set_close_on_exec(open_descriptors(), true);
  return descriptor;
}

}  // namespace berth::daemon
