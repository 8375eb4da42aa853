#include "src/lib/formats/control_command.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "src/lib/formats/names.h"

namespace berth::formats {
namespace {

std::string refusal(std::string_view written, int code = EINVAL) {
  const Result<ControlCommand> command = parse_control_command(written);
  if (command) return "understood";
  EXPECT_EQ(command.error().code(), code);
  return std::string(command.error().story());
}

TEST(ControlCommand, IsReadAsItIsWritten) {
  for (const ControlCommand command :
       {ControlCommand::kMount, ControlCommand::kUnmount, ControlCommand::kForceUnmount, ControlCommand::kRetry}) {
    const std::string text(to_string(command));
    EXPECT_FALSE(text.empty());
    EXPECT_EQ(parse_control_command(text).value(), command);
    EXPECT_EQ(parse_control_command("  " + text + "\r\n\n").value(), command);
  }
}

TEST(ControlCommand, RefusesGarbageWithAdvice) {
  EXPECT_EQ(refusal("mont\n"), "unknown command \"mont\"; did you mean \"mount\"?");
  EXPECT_EQ(refusal("\033[2J"),
            "unknown command \"\\033[2J\"; write one of: mount, unmount, force-unmount, retry, remount, force-remount");
  EXPECT_EQ(refusal(""),
            "nothing to do was written; write one of: mount, unmount, force-unmount, retry, remount, force-remount");
  EXPECT_EQ(refusal(" \n"),
            "nothing to do was written; write one of: mount, unmount, force-unmount, retry, remount, force-remount");
  EXPECT_NE(refusal("mount unmount"), "understood");
  EXPECT_NE(refusal("MOUNT"), "understood");
  EXPECT_NE(refusal(std::string_view("mount\0", 6)), "understood");
}

TEST(HostCommand, IsReadAsItIsWrittenAndIsNoWordOfAShare) {
  for (const HostCommand command : {HostCommand::kDrain, HostCommand::kResume, HostCommand::kUpgrade}) {
    const std::string text(to_string(command));
    EXPECT_FALSE(text.empty());
    EXPECT_EQ(parse_host_command(text + "\n").value(), command);
    EXPECT_FALSE(parse_control_command(text));
  }
  EXPECT_FALSE(parse_host_command("mount"));
  EXPECT_EQ(parse_host_command("drian").error().story(), "unknown command \"drian\"; did you mean \"drain\"?");
  EXPECT_EQ(parse_host_command("").error().story(),
            "nothing to do was written; write one of: drain, resume, upgrade, reload, reload-dry-run");
}

TEST(ControlCommand, RefusesWhatIsTooLong) {
  EXPECT_EQ(parse_control_command("mount" + std::string(kMaxControlWrite - 5, ' ')).value(), ControlCommand::kMount);
  EXPECT_EQ(refusal("mount" + std::string(kMaxControlWrite - 4, ' '), EMSGSIZE),
            "a write to a control file has at most 256 bytes");
  EXPECT_EQ(refusal(std::string(1 << 20, 'x'), EMSGSIZE), "a write to a control file has at most 256 bytes");
}

TEST(Names, AreJoinedToPaths) {
  EXPECT_EQ(tree_path("/volumes"), "/volumes/.berth");
  EXPECT_EQ(share_path("/volumes", "home/alice"), "/volumes/.berth/shares/home/alice");
}

TEST(Names, OfADirectoryAreOneComponent) {
  for (const std::string& good : {std::string("a"), std::string("..."), std::string("-x"), std::string(255, 'v')}) {
    EXPECT_TRUE(is_component(good)) << good;
  }
  for (const std::string& bad : {std::string(), std::string("."), std::string(".."), std::string("a/b"),
                                 std::string(256, 'v'), std::string("a\0b", 3)}) {
    EXPECT_FALSE(is_component(bad)) << bad;
  }
}

}  // namespace
}  // namespace berth::formats
