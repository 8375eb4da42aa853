#include "src/lib/formats/control_command.h"

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "src/lib/base/ascii.h"
#include "src/lib/base/text.h"

namespace berth::formats {

namespace {

template <typename W>
struct Named {
  std::string_view name;
  W command;
};

constexpr std::array<Named<ControlCommand>, 6> kWords{{
    {"mount", ControlCommand::kMount},
    {"unmount", ControlCommand::kUnmount},
    {"force-unmount", ControlCommand::kForceUnmount},
    {"retry", ControlCommand::kRetry},
    {"remount", ControlCommand::kRemount},
    {"force-remount", ControlCommand::kForceRemount},
}};
constexpr std::array<Named<HostCommand>, 5> kHostWords{{
    {"drain", HostCommand::kDrain},
    {"resume", HostCommand::kResume},
    {"upgrade", HostCommand::kUpgrade},
    {"reload", HostCommand::kReload},
    {"reload-dry-run", HostCommand::kReloadDryRun},
}};

/// Most bytes of a refused command that are repeated in the error.
constexpr std::size_t kRepeated = 64;

std::string refusal(std::string_view command, const std::vector<std::string_view>& candidates) {
  std::string story =
      command.empty() ? "nothing to do was written" : "unknown command " + quote(command.substr(0, kRepeated));
  const std::string_view meant = nearest(command.substr(0, kRepeated), candidates);
  if (!command.empty() && !meant.empty()) return story.append("; did you mean ").append(quote(meant)).append("?");
  story += "; write one of: ";
  for (const std::string_view candidate : candidates) {
    if (candidate != candidates.front()) story += ", ";
    story += candidate;
  }
  return story;
}

template <typename Words, typename W>
std::string_view name_of(const Words& commands, W command) noexcept {
  for (const auto& named : commands) {
    if (named.command == command) return named.name;
  }
  return "";
}

template <typename W, std::size_t kSize>
Result<W> parse(const std::array<Named<W>, kSize>& commands, std::string_view written) {
  if (written.size() > kMaxControlWrite) {
    return fail(EMSGSIZE, "a write to a control file has at most " + std::to_string(kMaxControlWrite) + " bytes");
  }
  const std::string_view command = trim(written);
  std::vector<std::string_view> candidates;
  for (const auto& named : commands) {
    if (named.name == command) return named.command;
    candidates.push_back(named.name);
  }
  return fail(EINVAL, refusal(command, candidates));
}

}  // namespace

std::string_view to_string(ControlCommand command) noexcept { return name_of(kWords, command); }
std::string_view to_string(HostCommand command) noexcept { return name_of(kHostWords, command); }

Result<ControlCommand> parse_control_command(std::string_view written) { return parse(kWords, written); }
Result<HostCommand> parse_host_command(std::string_view written) { return parse(kHostWords, written); }

}  // namespace berth::formats
