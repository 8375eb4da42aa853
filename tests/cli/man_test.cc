#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "src/config/config.h"
#include "src/config/daemon_section.h"
#include "src/config/share_section.h"
#include "src/lib/base/text.h"
#include "tests/cli/stage.h"

namespace berth::test {
namespace {

using Words = std::set<std::string>;

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  EXPECT_FALSE(text.str().empty()) << path;
  return text.str();
}

/// A manual page by its headings (.SH and .SS), with roff's escapes for '-' and '"' undone.
std::map<std::string, std::string> sections(const std::string& name) {
  std::string text = read(std::string(BERTH_MAN) + "/" + name);
  text = std::regex_replace(text, std::regex(R"(\\-)"), "-");
  text = std::regex_replace(text, std::regex(R"(\\\(dq)"), "\"");
  std::map<std::string, std::string> result;
  std::string heading;
  for (const std::string_view line : split(text, '\n')) {
    if (line.starts_with(".SH ") || line.starts_with(".SS ")) {
      heading = line.substr(4);
    } else {
      result[heading].append(line).append("\n");
    }
  }
  return result;
}

Words matches(const std::string& text, const char* pattern) {
  const std::regex regex(pattern);
  Words words;
  for (std::sregex_iterator i(text.begin(), text.end(), regex), end; i != end; ++i) words.insert((*i)[1]);
  return words;
}

std::string help(const std::string& command = {}) {
  Stage stage;
  return stage
      .run(command.empty() ? std::vector<std::string>{"berth", "--help"}
                           : std::vector<std::string>{"berth", command, "--help"})
      .out;
}

/// The text between a line that is `heading` and the next empty line.
std::string help_part(const std::string& heading) {
  const std::string text = help();
  const std::size_t begin = text.find("\n" + heading + "\n");
  EXPECT_NE(begin, std::string::npos) << heading;
  const std::size_t first = begin + heading.size() + 2;
  return text.substr(first, text.find("\n\n", first) + 1 - first);
}

TEST(ManPage, HasEveryCommandAndEveryOptionOfIt) {
  const auto page = sections("berth.8");
  const Words commands = matches(help_part("Commands:"), "(?:^|\n)  ([a-z]+) ");
  ASSERT_GE(commands.size(), 9U);
  for (const std::string& command : commands) {
    ASSERT_TRUE(page.contains(command)) << command;
    Words options = matches(help(command), "\n  (?:-[a-z],)?(--[a-z-]+)");
    EXPECT_TRUE(options.contains("--help"));
    // Said once for all commands.
    options.erase("--help");
    if (command != "serve") options.erase("--namespace");
    // An option of the command is a paragraph of its own; one that is only mentioned is not.
    EXPECT_EQ(matches(page.at(command), "\\.TP\n\\.BR?.* ?(--[a-z-]+)"), options) << command;
  }
}

TEST(ManPage, HasEveryCommandInItsSynopsis) {
  const std::string synopsis = sections("berth.8").at("SYNOPSIS");
  for (const std::string& command : matches(help_part("Commands:"), "(?:^|\n)  ([a-z]+) ")) {
    const std::size_t begin = synopsis.find(".B berth " + command);
    ASSERT_NE(begin, std::string::npos) << command;
    Words options = matches(help(command), "\n  (?:-[a-z],)?(--[a-z-]+)");
    for (const char* said_once : {"--help", "--foreground"}) options.erase(said_once);
    if (command != "serve" && command != "import") {
      for (const char* said_once : {"--namespace", "--config"}) options.erase(said_once);
    }
    const std::string of_command = synopsis.substr(begin, synopsis.find("\n.br\n", begin) - begin);
    EXPECT_EQ(matches(of_command, "(--[a-z-]+)"), options) << command;
  }
}

TEST(ManPage, HasTheExitCodesOfTheHelp) {
  const auto page = sections("berth.8");
  const std::string in_help = help_part("Exit status:");
  const std::string as_table = std::regex_replace(in_help, std::regex("(^|\n)  ([0-9]+) +"), "$1$2\t");
  EXPECT_GT(in_help.size(), 100U);
  EXPECT_NE(page.at("EXIT STATUS").find(as_table), std::string::npos) << as_table;
}

TEST(ManPage, HasEveryKeyOfTheConfiguration) {
  const auto page = sections("berth.toml.5");
  const auto keys_of = [](const std::vector<std::string_view>& keys) { return Words(keys.begin(), keys.end()); };
  EXPECT_EQ(matches(page.at("[share.NAME]"), "\\.TP\n\\.B ([a-z_]+)"), keys_of(config::share_keys()));
  EXPECT_EQ(matches(page.at("[berth]"), "(?:\n|^)\\.BR? ([a-z_]+)"), keys_of(config::daemon_keys()));
}

/// man(1) indents by 7 columns.
TEST(ManPage, HasNoExampleThatIsWiderThanATerminal) {
  std::size_t examples = 0;
  for (const auto& page : std::filesystem::directory_iterator(BERTH_MAN)) {
    if (page.path().filename() == "meson.build") continue;
    std::string text = std::regex_replace(read(page.path()), std::regex(R"(\\-)"), "-");
    text = std::regex_replace(text, std::regex(R"(\\\((dq|aq))"), "'");
    text = std::regex_replace(text, std::regex(R"(\\f[IBRP])"), "");
    bool is_example = false;
    for (const std::string_view line : split(text, '\n')) {
      if (line == ".nf") ++examples;
      if (line == ".nf" || line == ".fi") is_example = line == ".nf";
      if (!is_example) continue;
      EXPECT_LE(line.size(), 73U) << page.path() << ": " << line;
    }
  }
  EXPECT_GT(examples, 5U);
}

TEST(ManPage, HasAnExampleThatIsAConfiguration) {
  std::string example = sections("berth.toml.5").at("EXAMPLE");
  example = std::regex_replace(example, std::regex("\\.(nf|fi)\n"), "");
  // A group that is on every machine.
  example = std::regex_replace(example, std::regex("\"disk\""), "0");
  Stage stage;
  const std::string path = stage.root() + "/berth.toml";
  stage.write_file(path, example);
  const auto configuration = config::load(path);
  ASSERT_TRUE(configuration) << configuration.error().message();
  EXPECT_EQ(configuration->catalog.shares().size(), 3U);
}

TEST(ManPage, HasExamplesThatFitATerminalOf80Columns) {
  constexpr std::size_t kWidth = 73;  // man(1) indents them by 7
  for (const char* page : {"berth.8", "berth.toml.5"}) {
    for (const auto& [heading, text] : sections(page)) {
      bool is_example = false;
      for (const std::string_view line : split(text, '\n')) {
        if (line == ".nf" || line == ".fi") is_example = line == ".nf";
        const std::string shown = std::regex_replace(std::string(line), std::regex(R"(\\f[RIBP])"), "");
        if (is_example) {
          EXPECT_LE(shown.size(), kWidth) << page << ", " << heading << ": " << shown;
        }
      }
    }
  }
}

}  // namespace
}  // namespace berth::test
