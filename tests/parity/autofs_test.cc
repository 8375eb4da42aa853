// Maps of autofs are read as Debian's automount reads them: the cases in autofs/ by both. A case whose title starts
// with "differs:" is one that is read otherwise on purpose (src/autofs/README.md), and is known to be.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "src/autofs/entry.h"
#include "src/autofs/lines.h"
#include "src/autofs/maps.h"
#include "src/lib/base/text.h"
#include "tests/unit/eventually.h"
#include "tests/unit/temporary_directory.h"

namespace berth::autofs {
namespace {

constexpr const char* kAutomount = "/usr/sbin/automount";

using Texts = std::vector<std::string>;

struct Case {
  std::string title, text;
  [[nodiscard]] bool differs() const { return title.starts_with("differs:"); }
};

std::string read(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size())
    text.replace(at, what.size(), by);
  return text;
}

std::string joined(const Texts& texts, const std::string& separator) {
  std::string text;
  for (const std::string& part : texts) text.append(text.empty() ? "" : separator).append(part);
  return text;
}

Texts words_of(const std::string& text, char separator) {
  Texts words;
  for (const std::string_view word : split(text, separator)) {
    if (!word.empty()) words.emplace_back(word);
  }
  return words;
}

/// The text behind `mark`, up to `end`; "" when there is none.
std::string behind(const std::string& line, const std::string& mark, const std::string& end = "\n") {
  const std::size_t begin = line.find(mark);
  if (begin == std::string::npos) return "";
  return line.substr(begin + mark.size(), line.find(end, begin + mark.size()) - begin - mark.size());
}

class AutofsParity : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (::access(kAutomount, X_OK) != 0) GTEST_SKIP() << "needs automount (Debian: autofs)";
    static const bool alone =
        ::unshare(CLONE_NEWNS) == 0 && ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    if (!alone) GTEST_SKIP() << "needs a mount namespace of its own";
    std::filesystem::create_directories("/etc");
    write(directory_ / "auto.master", "");
    write(directory_ / "m", "k s:/x\n");
    write(directory_ / "d", "/k/l s:/x\n");
    write(directory_ / "included", "in s:/in\nb s:/included\n");
    write(directory_ / "é", "k s:/x\n");
    write(directory_ / "more.é", "/é " + directory_.path() + "/m\n");
    write(directory_ / "more", "/more " + directory_.path() + "/m\n");
    std::filesystem::create_directories(directory_ / "more.d");
    write(directory_ / "more.d/x.autofs", "/x " + directory_.path() + "/m -ro\n");
    write(directory_ / "more.d/y", "/y " + directory_.path() + "/m\n");
    write(directory_ / "more.d/.z.autofs", "/z " + directory_.path() + "/m\n");
    // automount -m takes no other name.
    ASSERT_EQ(::mount((directory_ / "auto.master").c_str(), "/etc/auto.master", nullptr, MS_BIND, nullptr), 0)
        << "there is no /etc/auto.master to cover";
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) ::umount2("/etc/auto.master", MNT_DETACH);
  }

  /// The cases of autofs/NAME, with DIR put in.
  [[nodiscard]] std::vector<Case> cases(const std::string& name) const {
    const std::string text = replaced(read(std::string(BERTH_CASES) + "/" + name), "DIR", directory_.path());
    std::vector<Case> cases;
    std::size_t at = 0;
    while ((at = text.find("%% ", at)) != std::string::npos) {
      const std::size_t line = text.find('\n', at);
      const std::size_t end = std::min(text.find("%% ", line), text.size());
      cases.push_back({text.substr(at + 3, line - at - 3), text.substr(line + 1, end - line - 1)});
      if (cases.back().title.starts_with("cut:")) cases.back().text.pop_back();
      at = end;
    }
    EXPECT_GT(cases.size(), 20U);
    return cases;
  }

  /// What automount wants of `entries` in a map with these options in the master map, by key ("k0"): as mount_text().
  [[nodiscard]] std::map<std::string, Texts> wanted(const Texts& entries, const std::string& options) const;

  /// Starts automount with `arguments`; its output is in DIR/output.
  [[nodiscard]] pid_t start(std::vector<const char*> arguments) const {
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::setsid();  // processes of its group see through it
    const int output = ::open((directory_ / "output").c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_APPEND, 0600);
    ::dup2(output, STDOUT_FILENO);
    ::dup2(output, STDERR_FILENO);
    arguments.insert(arguments.begin(), kAutomount);
    arguments.push_back(nullptr);
    ::execv(kAutomount, const_cast<char* const*>(arguments.data()));
    ::_exit(127);
  }

  /// What automount -m says of a master map.
  [[nodiscard]] std::string dump(const std::string& master) const {
    write(directory_ / "auto.master", master);
    const pid_t child = start({"-m"});
    ::waitpid(child, nullptr, 0);
    return read(directory_ / "output");
  }

  static void compare(const Case& tried, const Texts& ours, const Texts& theirs) {
    if (tried.differs()) {
      EXPECT_NE(ours, theirs) << tried.title << ": is there no difference any more?";
    } else {
      EXPECT_EQ(ours, theirs) << tried.title;
    }
  }

  berth::testing::TemporaryDirectory directory_;
  bool mounted_ = false;
};

TEST_F(AutofsParity, MapsHaveTheSameKeysAndEntries) {
  const std::vector<Case> all = cases("maps.cases");
  std::string master;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string map = directory_ / ("map-" + std::to_string(i));
    write(map, replaced(all[i].text, "map-SELF", "map-" + std::to_string(i)));
    if (!all[i].title.starts_with("direct:")) master += "/m" + std::to_string(i) + " " + map + "\n";
  }
  std::map<std::string, Texts> theirs;
  const auto add_dump = [&](const std::string& dumped) {
    Texts* map = nullptr;
    for (const std::string& line : words_of(dumped, '\n')) {
      if (const std::string name = behind(line, "  map: "); !name.empty()) map = &theirs[name];
      if (map != nullptr && line.find(" | ") != std::string::npos) map->push_back(line.substr(2));
    }
  };
  add_dump(dump(master));
  for (std::size_t i = 0; i < all.size(); ++i) {
    Map map{"/m", {{"file", "", directory_ / ("map-" + std::to_string(i))}}, {}, {}, "master", 1};
    if (all[i].title.starts_with("direct:")) {
      map.mount_point = "/-";
      add_dump(dump("/- " + map.sources.front().name + "\n"));
    }
    Findings findings;
    load_sources(map, directory_.path(), findings);
    Texts ours;
    for (const MapEntry& entry : map.entries) ours.push_back(entry.key + " | " + entry.value);
    std::sort(ours.begin(), ours.end());
    Texts& listed = theirs[map.sources.front().name];
    std::sort(listed.begin(), listed.end());
    compare(all[i], ours, listed);
  }
}

/// "MOUNT-POINT MAP... [OPTIONS]" of what automount -m says.
Texts dumped_mounts(const std::string& dumped) {
  Texts result;
  Texts arguments;
  const auto finish = [&] {
    std::sort(arguments.begin(), arguments.end());
    if (!result.empty()) result.back().append(" [").append(joined(arguments, " ")).append("]");
    arguments.clear();
  };
  for (const std::string& line : words_of(dumped, '\n')) {
    if (const std::string mount_point = behind(line, "Mount point: "); !mount_point.empty()) {
      finish();
      result.push_back(mount_point);
    }
    if (result.empty()) continue;
    const std::string map = behind(line, "  map: ");
    if (!map.empty()) result.back().append(" ").append(map);
    if (line.find("  arguments[") != std::string::npos) result.back().append(" ").append(behind(line, "]: "));
    for (std::string argument : words_of(behind(line, "  arguments: "), ' ')) {
      argument.erase(0, std::min(argument.find_first_not_of('-'), argument.size()));
      if (argument == "D") continue;
      if (argument.starts_with("DX")) argument.erase(0, 1);
      std::erase(argument, '"');
      arguments.push_back(argument);
    }
  }
  finish();
  return result;
}

/// The same of what is read here.
Texts our_mounts(const Maps& maps) {
  Texts result;
  for (const Map& map : maps.maps) {
    Texts arguments = map.options.mount_options;
    for (const auto& [name, value] : map.options.variables) arguments.push_back(name + "=" + value);
    for (const std::string& own : map.options.own) {
      if (own.ends_with("strict")) arguments.emplace_back("strict");
    }
    if (!map.options.slashify_colons) arguments.emplace_back("no-slashify-colons");
    std::sort(arguments.begin(), arguments.end());
    std::string text = map.mount_point;
    for (const MapSource& source : map.sources) text.append(source.name.empty() ? "" : " ").append(source.name);
    result.push_back(text + " [" + joined(arguments, " ") + "]");
  }
  return result;
}

TEST_F(AutofsParity, MasterMapsHaveTheSameMountPointsAndOptions) {
  for (const Case& tried : cases("master.cases")) {
    const Texts theirs = dumped_mounts(dump(tried.text));
    const Result<Maps> maps = load_master(directory_ / "auto.master");
    ASSERT_TRUE(maps.has_value());
    compare(tried, our_mounts(*maps), theirs);
  }
}

/// "OFFSET TYPE OPTIONS LOCATIONS", where options mean nothing to automount alone.
std::string mount_text(const std::string& offset, std::string type, const Texts& options, std::string locations) {
  Texts kept;
  for (const std::string& option : options) {
    if (option.starts_with("fstype=")) type = option.substr(7);
    const bool is_own = option == "strict" || option == "browse" || option == "bg" || option == "(null)";
    if (!is_own && !option.starts_with("fstype=")) kept.push_back(option);
  }
  if (type == "nfs") {
    Texts servers;
    for (const std::string& location : words_of(locations, ' ')) {
      const std::size_t colon = location.starts_with('[') ? location.find("]:") + 1 : location.find(':');
      if (colon >= location.size()) continue;
      for (const std::string& host : words_of(location.substr(0, colon), ','))
        servers.push_back(host + location.substr(colon));
    }
    locations = joined(servers, " ");
  }
  return offset + " " + type + " " + joined(kept, ",") + " " + locations;
}

/// What automount wanted to mount, by the key, as its log of debugging says.
std::map<std::string, Texts> wanted_mounts(const std::string& log) {
  std::map<std::string, Texts> result;
  std::string key;
  bool is_multi = false;
  for (const std::string& line : words_of(log, '\n')) {
    if (const std::string found = behind(line, "looking up "); !found.empty()) {
      key = found;
      is_multi = false;
    }
    if (line.find("duplicate offset") != std::string::npos) result[key].clear();
    if (const std::string offset = behind(line, "multi-mount offset ", " -> "); !offset.empty()) {
      std::string rest = behind(line, " -> ");
      const std::string options = behind(rest, "-", " ");
      if (rest.starts_with('-')) rest.erase(0, rest.find(' ') + 1);
      if (rest.starts_with(':')) rest.erase(0, 1);
      result[key].push_back(mount_text(offset, "nfs", words_of(options, ','), rest));
      is_multi = true;
    } else if (const std::string what = behind(line, ", what ", ", fstype "); !what.empty() && !is_multi) {
      result[key].push_back(
          mount_text("/", behind(line, ", fstype ", ", options "), words_of(behind(line, ", options "), ','), what));
    }
  }
  return result;
}

std::map<std::string, Texts> AutofsParity::wanted(const Texts& entries, const std::string& options) const {
  const std::string place = directory_ / "place";
  std::filesystem::create_directories(place);
  std::string map;
  for (std::size_t i = 0; i < entries.size(); ++i) map += "k" + std::to_string(i) + " " + entries[i];
  write(directory_ / "map", map);
  write(directory_ / "auto.master", place + " " + directory_.path() + "/map " + options + "\n");
  const pid_t automount =
      start({"-f", "-d", "-C", "-t", "3600", "-p", (directory_ / "pid").c_str(), "/etc/auto.master"});
  const auto is_ready = [&] { return read("/proc/self/mountinfo").find(" " + place + " ") != std::string::npos; };
  const bool ready = berth::testing::eventually(is_ready);
  for (std::size_t i = 0; ready && i < entries.size(); ++i) {
    (void)::access((place + "/k" + std::to_string(i) + "/").c_str(), F_OK);
  }
  ::kill(automount, SIGKILL);
  ::waitpid(automount, nullptr, 0);
  while (::umount2(place.c_str(), MNT_DETACH) == 0) {
  }
  EXPECT_TRUE(ready) << read(directory_ / "output");
  return wanted_mounts(read(directory_ / "output"));
}

/// The same of what is read here of an entry.
Texts our_wishes(const std::string& value, const EntryContext& context) {
  Texts ours;
  const Result<std::vector<Mount>> mounts = parse_entry(value, context);
  for (const Mount& mount : mounts ? *mounts : std::vector<Mount>()) {
    Texts locations;
    for (const Location& location : mount.locations) {
      const std::string weight = location.weight == 0 ? "" : "(" + std::to_string(location.weight) + ")";
      locations.push_back(location.host.empty() ? location.path : location.host + weight + ":" + location.path);
    }
    ours.push_back(mount_text(mount.offset, mount.type, mount.options, joined(locations, " ")));
  }
  return ours;
}

Texts found_in(const std::map<std::string, Texts>& all, const std::string& key) {
  const auto found = all.find(key);
  return found == all.end() ? Texts() : found->second;
}

TEST_F(AutofsParity, EntriesWantTheSameMounts) {
  if (::access("/dev/autofs", F_OK) != 0) GTEST_SKIP() << "needs /dev/autofs";
  const std::vector<Case> all = cases("entries.cases");
  Texts entries;
  for (const Case& tried : all) entries.push_back(tried.text);
  const std::map<std::string, Texts> theirs = wanted(entries, "-nosuid -DX=y");
  struct utsname host {};
  ASSERT_EQ(::uname(&host), 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string key = "k" + std::to_string(i);
    const Lines lines = read_lines(key + " " + all[i].text, "map");
    const EntryContext context{
        key, {{"HOST", host.nodename}, {"ARCH", host.machine}, {"OSNAME", host.sysname}, {"X", "y"}}, {"nosuid"}, true};
    compare(all[i], lines.lines.empty() ? Texts() : our_wishes(lines.lines.front().value, context),
            found_in(theirs, key));
  }
}

TEST_F(AutofsParity, OptionsOfAnEntryStandInThePlaceOfTheMapsWhereAutofsConfSaysSo) {
  if (::access("/dev/autofs", F_OK) != 0) GTEST_SKIP() << "needs /dev/autofs";
  const Texts entries{"-fstype=foo,a :/x\n",     "s:/x\n",
                      "-fstype=foo -a -b :/x\n", "-fstype=foo,a /s -b :/x /t :/y\n",
                      "/s -b s:/x /t s:/y\n",    "-a s:/x /t s:/y\n"};
  for (const std::string says : {"yes", "no"}) {
    write(directory_ / "autofs.conf", "[ autofs ]\nappend_options = " + says + "\n");
    ASSERT_EQ(::mount((directory_ / "autofs.conf").c_str(), "/etc/autofs.conf", nullptr, MS_BIND, nullptr), 0);
    const std::map<std::string, Texts> theirs = wanted(entries, "-nosuid,noexec");
    ASSERT_EQ(::umount2("/etc/autofs.conf", MNT_DETACH), 0);
    const Result<Maps> maps = load_master(directory_ / "auto.master");
    ASSERT_TRUE(maps && maps->maps.size() == 1);
    const MapOptions& options = maps->maps.front().options;
    for (const MapEntry& entry : maps->maps.front().entries) {
      EntryContext context{entry.key, {}, options.mount_options, true};
      context.append_options = options.append_options;
      EXPECT_EQ(our_wishes(entry.value, context), found_in(theirs, entry.key)) << says << ": " << entry.value;
    }
  }
}

}  // namespace
}  // namespace berth::autofs
