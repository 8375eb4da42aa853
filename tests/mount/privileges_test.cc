// What each process of a `berth serve` may do, against the table in src/daemon/README.md, and what the programs that it
// starts may.
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "tests/mount/berth_fixture.h"
#include "tests/mount/text_of.h"

namespace berth::test {
namespace {

/// In the order of their numbers (linux/capability.h).
constexpr std::array kNames{"CHOWN",
                            "DAC_OVERRIDE",
                            "DAC_READ_SEARCH",
                            "FOWNER",
                            "FSETID",
                            "KILL",
                            "SETGID",
                            "SETUID",
                            "SETPCAP",
                            "LINUX_IMMUTABLE",
                            "NET_BIND_SERVICE",
                            "NET_BROADCAST",
                            "NET_ADMIN",
                            "NET_RAW",
                            "IPC_LOCK",
                            "IPC_OWNER",
                            "SYS_MODULE",
                            "SYS_RAWIO",
                            "SYS_CHROOT",
                            "SYS_PTRACE",
                            "SYS_PACCT",
                            "SYS_ADMIN",
                            "SYS_BOOT",
                            "SYS_NICE",
                            "SYS_RESOURCE",
                            "SYS_TIME",
                            "SYS_TTY_CONFIG",
                            "MKNOD",
                            "LEASE",
                            "AUDIT_WRITE",
                            "AUDIT_CONTROL",
                            "SETFCAP",
                            "MAC_OVERRIDE",
                            "MAC_ADMIN",
                            "SYSLOG",
                            "WAKE_ALARM",
                            "BLOCK_SUSPEND",
                            "AUDIT_READ",
                            "PERFMON",
                            "BPF",
                            "CHECKPOINT_RESTORE"};

using Set = std::uint64_t;

/// "" for none.
std::string words(Set set) {
  std::string all;
  for (std::size_t number = 0; number < 64; ++number) {
    if ((set >> number & 1) == 0) continue;
    all += (all.empty() ? "" : " ") + (number < kNames.size() ? std::string(kNames[number]) : std::to_string(number));
  }
  return all;
}

Set set_of(const std::string& name) {
  for (std::size_t number = 0; number < kNames.size(); ++number) {
    if (name == kNames[number]) return Set{1} << number;
  }
  ADD_FAILURE() << "no capability " << name;
  return 0;
}

/// A field of /proc/PID/status.
std::string field(const std::string& status, const std::string& name) {
  std::istringstream lines(status);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "";
}

Set set_in(const std::string& status, const std::string& name) {
  return std::strtoull(field(status, name).c_str(), nullptr, 16);
}

std::string status_of(pid_t pid) { return text_of("/proc/" + std::to_string(pid) + "/status"); }

/// Columns of the table: sets of those that have "yes", and in the keeper's "kept" for what is permitted alone.
struct Table {
  Set keeper = 0, keeper_permitted = 0, server = 0, agent = 0, first = 0, programs = 0;
};

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream parts(line.substr(1));
  for (std::string cell; std::getline(parts, cell, '|');) {
    const auto begin = cell.find_first_not_of(' ');
    cells.push_back(begin == std::string::npos ? "" : cell.substr(begin, cell.find_last_not_of(' ') + 1 - begin));
  }
  return cells;
}

/// The table of the README.
Table table() {
  Table found;
  std::istringstream lines(text_of(std::string(BERTH_SOURCE) + "/src/daemon/README.md"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("| `CAP_")) continue;
    const std::vector<std::string> cells = cells_of(line);
    if (cells.size() < 6) {
      ADD_FAILURE() << line;
      continue;
    }
    for (std::size_t at = 0; (at = cells[0].find("`CAP_", at)) != std::string::npos; ++at) {
      const std::size_t begin = at + 5;
      const Set one = set_of(cells[0].substr(begin, cells[0].find('`', begin) - begin));
      const auto put = [one](Set& set, const std::string& cell) { set |= cell == "yes" ? one : 0; };
      put(found.keeper, cells[1]);
      if (cells[1] != "") found.keeper_permitted |= one;
      put(found.server, cells[2]);
      put(found.agent, cells[3]);
      put(found.first, cells[4]);
      put(found.programs, cells[5]);
    }
  }
  return found;
}

class Privileges : public ::testing::Test {
 protected:
  void SetUp() override {
    source_ = server_.make_directory("source");
    ASSERT_TRUE(ok(server_.write_file("source/hello", "hello")));
    ASSERT_TRUE(ok(server_.write_file(
        "mounts", "#!/bin/sh\ncat /proc/self/status >\"$2\"\nexec mount -t tmpfs program \"$1\"\n")));
    ASSERT_EQ(::chmod(server_.path("mounts").c_str(), 0755), 0);
  }
  void start() {
    ASSERT_TRUE(ok(server_.start("[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ +
                                 "\"\n[share.c]\ntype = \"command\"\nmount = [\"" + server_.path("mounts") +
                                 "\", \"{mountpoint}\", \"" + server_.path("status") + "\"]\n")));
    EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  }
  [[nodiscard]] std::string status_named(const std::string& name) const {
    for (const pid_t pid : server_.processes()) {
      if (text_of("/proc/" + std::to_string(pid) + "/comm") == name + "\n") return status_of(pid);
    }
    return "";
  }
  /// Of a program that mounts.
  [[nodiscard]] std::string status_of_program() const {
    EXPECT_EQ(::access(server_.in_namespace("c/none").c_str(), F_OK), -1);
    EXPECT_EQ(errno, ENOENT) << errno_name(errno);
    return server_.read_file("status").value_or("");
  }
  void expect_narrow(const std::string& status, Set effective, Set permitted, Set bounding) const {
    EXPECT_EQ(words(set_in(status, "CapEff")), words(effective & own_));
    EXPECT_EQ(words(set_in(status, "CapPrm")), words(permitted & own_));
    EXPECT_EQ(words(set_in(status, "CapInh")), "");
    EXPECT_EQ(words(set_in(status, "CapAmb")), "");
    EXPECT_EQ(words(set_in(status, "CapBnd")), words(bounding & bounding_));
  }
  void expect_table(Set programs) {
    expect_processes(server_.server_pid(), programs);
    SCOPED_TRACE("programs");
    const std::string program = status_of_program();
    EXPECT_EQ(words(set_in(program, "CapPrm")), words(programs & bounding_));
    EXPECT_EQ(words(set_in(program, "CapBnd")), words(programs & bounding_));
    EXPECT_EQ(field(program, "NoNewPrivs"), field(status_of(::getpid()), "NoNewPrivs"));
  }
  void expect_processes(pid_t server, Set programs) {
    const Table kept = table();
    {
      SCOPED_TRACE("keeper");
      expect_narrow(status_of(server_.pid()), kept.keeper, kept.keeper_permitted, programs);
    }
    {
      SCOPED_TRACE("server");
      expect_narrow(status_of(server), kept.server, kept.server, programs);
    }
    {
      SCOPED_TRACE("agent");
      expect_narrow(status_named("berth-agent"), kept.agent, kept.agent, 0);
      EXPECT_EQ(field(status_named("berth-agent"), "NoNewPrivs"), "1");
    }
    {
      SCOPED_TRACE("first process");
      expect_narrow(status_named("berth-first"), kept.first, kept.first, 0);
      EXPECT_EQ(field(status_named("berth-first"), "NoNewPrivs"), "1");
    }
    for (const char* const name : {"berth-agent", "berth-first"}) {
      const int filters = std::atoi(field(status_named(name), "Seccomp_filters").c_str());
      EXPECT_EQ(filters, std::atoi(field(status_of(::getpid()), "Seccomp_filters").c_str()) + 1) << name;
    }
  }

  BerthServer server_;
  std::string source_;
  Set own_ = set_in(status_of(::getpid()), "CapPrm");
  Set bounding_ = set_in(status_of(::getpid()), "CapBnd");
};

TEST_F(Privileges, ProcessesHaveWhatTheTableSays) {
  start();
  const Set all = (Set{1} << kNames.size()) - 1;
  const bool is_chosen = (bounding_ & all) != all;
  expect_table(is_chosen ? all : table().programs);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Privileges, NextServerAndAgentHaveTheSame) {
  start();
  const std::string before = words(set_in(status_of(server_.server_pid()), "CapEff"));
  const std::string agent = words(set_in(status_named("berth-agent"), "CapEff"));
  const pid_t server = server_.server_pid();
  for (const pid_t pid : server_.processes()) {
    const std::string comm = text_of("/proc/" + std::to_string(pid) + "/comm");
    if (pid == server || comm == "berth-agent\n") ::kill(pid, SIGKILL);
  }
  ASSERT_TRUE(eventually([&] { return server_.log().find("has taken over") != std::string::npos; }));
  ASSERT_TRUE(eventually([&] { return words(set_in(status_named("berth-agent"), "CapEff")) == agent; }));
  EXPECT_EQ(words(set_in(status_of(server_.server_pid()), "CapEff")), before);
  EXPECT_EQ(server_.read_file("namespace/a/hello").value_or(""), "hello");
  EXPECT_EQ(server_.stop(), Ending{});
}

/// The kernel gives all capabilities with a user namespace, so the bounding set is full there.
TEST_F(Privileges, FullBoundingSetIsReduced) {
  server_.launch_through({"unshare", "--user", "--map-root-user", "--mount", "--propagation", "unchanged", "--"});
  const Result<> started =
      server_.start("[share.a]\ntype = \"bind\"\naccess = \"proxy\"\nsource = \"" + source_ + "\"\n");
  if (!started) GTEST_SKIP() << "needs user namespaces: " << started.error().message();
  own_ = bounding_ = (Set{1} << kNames.size()) - 1;
  pid_t server = 0;
  for (const pid_t pid : server_.processes()) {
    const bool is_berth = text_of("/proc/" + std::to_string(pid) + "/comm") == "berth\n";
    if (is_berth && pid != server_.pid()) server = pid;
  }
  expect_processes(server, table().programs);
  EXPECT_EQ(server_.stop(), Ending{});
}

/// A container, or a line CapabilityBoundingSet= of a drop-in.
TEST_F(Privileges, BoundingSetThatWasChosenStaysForPrograms) {
  if ((bounding_ & set_of("NET_ADMIN")) == 0) GTEST_SKIP() << "needs CAP_NET_ADMIN, to see it kept";
  server_.launch_through({"setpriv", "--bounding-set", "-net_raw,-sys_time,-audit_write", "--"});
  start();
  const Set chosen = bounding_ & ~(set_of("NET_RAW") | set_of("SYS_TIME") | set_of("AUDIT_WRITE"));
  expect_table(chosen);
  EXPECT_NE(words(chosen).find("NET_ADMIN"), std::string::npos);
  EXPECT_EQ(server_.stop(), Ending{});
}

/// What a process inherits it cannot hand on to a program of another user.
TEST_F(Privileges, InheritableAndAmbientOnesEnd) {
  server_.launch_through({"setpriv", "--inh-caps", "+net_admin,+chown", "--ambient-caps", "+chown", "--"});
  start();
  const Set all = (Set{1} << kNames.size()) - 1;
  expect_table((bounding_ & all) != all ? all : table().programs);
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_F(Privileges, UnitGivesProgramsWhatTheTableSays) {
  const std::string unit = text_of(std::string(BERTH_SOURCE) + "/systemd/berth.service.in");
  constexpr const char* kKey = "\nCapabilityBoundingSet=~";
  const std::size_t begin = unit.find(kKey);
  ASSERT_NE(begin, std::string::npos);
  const std::size_t first = begin + std::string(kKey).size();
  std::istringstream denied(unit.substr(first, unit.find('\n', first) - first));
  Set set = 0;
  for (std::string name; denied >> name;) set |= set_of(name.substr(std::string("CAP_").size()));
  const Set all = (Set{1} << kNames.size()) - 1;
  EXPECT_EQ(words(all & ~set), words(table().programs));
}

}  // namespace
}  // namespace berth::test
