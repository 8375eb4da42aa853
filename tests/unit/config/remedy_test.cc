#include "src/config/remedy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <utility>

#include "src/config/config.h"
#include "tests/unit/temporary_directory.h"

namespace berth::config {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// What is said of a configuration with this line.
std::string said_of(const std::string& line) {
  const testing::TemporaryDirectory scratch;
  std::ofstream(scratch / "berth.toml") << "[berth]\nnamespace = \"/volumes\"\n" << line << "\n";
  const auto loaded = load(scratch / "berth.toml");
  return loaded ? "" : std::string(loaded.error().story());
}

TEST(Remedy, IsToldWithTheLine) {
  const std::pair<const char*, const char*> cases[]{
      {"state_dir = /var/lib", "the value of \"state_dir\" needs quotes: state_dir = \"...\""},
      {"idle_timeout = 5m", "the value of \"idle_timeout\" needs quotes"},
      {"idle_timeout = nfs", "needs quotes"},
      {"idle_timeout = ", "is missing"},
      {"state_dir = \"/var/lib", "a quote is missing at the end of the value of \"state_dir\""},
      {"state_dir = '/var/lib", "a quote is missing"},
      {"state_dir = \u201c/var/lib\u201d", "use straight quotes"},
      {"[share.home/alice]", "[share.\"home/alice\"]"},
      {"[share.media", "a ']' is missing"},
      {"[share.]", "the name of the share is missing"},
      {"state_dir: \"/var/lib\"", "write state_dir = \"...\""},
      {"[share.a]\nsource = \"/a\"\nsource = \"/b\"", "for several write one list"},
      {"[share.a]\ntype = \"nfs\"\ntype = \"nfs\"", "\"type\" is there twice"},
      {"[share.a]\nread_only = yes", "write true or false"},
      {"[share.a]\n[share.a]", "[share.a] is there twice"},
      {"[berth]", "[berth] is there twice"},
      {"[share.a] type = \"bind\"", "the name of a section has a line of its own"},
      {"[share.\"a]", "a quote is missing in the section's name"},
      {"[share]\ntype = \"bind\"", "the name of the share is missing"},
      {"{\"share\": {}}",
       "this is JSON, and TOML is expected: [share.NAME], and below it lines such as type = \"nfs\""},
      {"[share.a]\n\"type\" = nfs", "needs quotes: NAME = \"...\""},
      {"// a comment", "a comment begins with '#'"},
      {"; a comment", "a comment begins with '#'"},
      {"[share.a]\nmode = 0755", "the value of \"mode\" needs quotes"},
      {"[share.a]\nsource = \"\\\\filer\\media\"", "begins an escape"},
      {"[share.a]\nsource = \"/a\",", "remove the ',' at the end of the line"},
      {"[share.a]\noptions = \"vers=4.2\" ro", "belongs into its quotes"},
      {"[share.a]\nsource = [\"/a\", \"/b\"", "a ']' is missing at the end of the list"}};
  for (const auto& [line, wanted] : cases) EXPECT_THAT(said_of(line), HasSubstr(wanted)) << line;
}

TEST(Remedy, TellsNoValue) {
  for (const char* const line :
       {"options = password=Hidd3n", "options = \"password=Hidd3n", "options: password=Hidd3n"})
    EXPECT_THAT(remedy_of(line, "expected"), Not(HasSubstr("Hidd3n"))) << line;
}

}  // namespace
}  // namespace berth::config
