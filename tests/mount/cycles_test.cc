#include <fcntl.h>
#include <unistd.h>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

constexpr int kCycles = 1000;
constexpr int kShares = 4;

std::string read_hello(const BerthServer& server, const std::string& share) {
  return server.read_file("namespace/" + share + "/hello").value_or("");
}

// Threads of pools come and go with the load, within limits that a leak of one a cycle would be far beyond.
constexpr std::size_t kPooledThreads = 32;

void expect_no_growth(const BerthServer& server, const Footprint& before) {
  Footprint after;
  const auto is_as_before = [&] {
    after = server.footprint();
    return after.processes == before.processes && after.threads <= before.threads + kPooledThreads &&
           after.descriptors == before.descriptors && after.mounts == before.mounts &&
           after.directories == before.directories;
  };
  EXPECT_TRUE(eventually(is_as_before)) << before << "\nbecame\n" << after;
}

// Touches each share and unmounts it again; true when each was mounted and is idle after.
bool cycle(const BerthServer& server, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (read_hello(server, name) != "hello") return false;
    if (server.state(name) != "mounted") return false;
  }
  for (const std::string& name : names) {
    // Busy for as long as the release of the file, which the kernel sends behind the caller's back, is under way.
    if (!eventually([&] { return server.write_control("shares/" + name + "/control", "unmount").has_value(); })) {
      return false;
    }
    if (!server.wait_for_state(name, "idle")) return false;
  }
  return true;
}

std::vector<std::string> start_with_shares(BerthServer& server, const std::string& berth_table,
                                           const std::string& share_lines = "access = \"proxy\"\n") {
  std::string config = berth_table;
  std::vector<std::string> names;
  for (int i = 0; i < kShares; ++i) {
    names.push_back("s" + std::to_string(i));
    const std::string source = server.make_directory("source/" + names.back());
    EXPECT_TRUE(ok(server.write_file("source/" + names.back() + "/hello", "hello")));
    config += "[share." + names.back() + "]\ntype = \"bind\"\nsource = \"" + source + "\"\n" + share_lines;
  }
  EXPECT_TRUE(ok(server.start(config)));
  return names;
}

TEST(Cycles, AThousandLeakNothing) {
  BerthServer server;
  const auto names = start_with_shares(server, "");
  ASSERT_FALSE(HasFailure());

  // What is made once and kept (threads of pools, buffers) is there after the first few.
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(cycle(server, names)) << "warm-up cycle " << i;
  const Footprint before = server.footprint();
  for (int i = 0; i < kCycles / kShares; ++i) ASSERT_TRUE(cycle(server, names)) << "cycle " << i * kShares;
  expect_no_growth(server, before);

  EXPECT_EQ(before.directories, 0U) << "an idle share has no mountpoint";
  EXPECT_GE(server.read_json("shares/s0/status.json").value("mounts", 0), kCycles / kShares);
  EXPECT_EQ(server.stop(), Ending{});
}

TEST(Cycles, ExpiryLeaksNothing) {
  BerthServer server;
  const auto names = start_with_shares(server, "[berth]\nidle_timeout = \"1ms\"\n");
  ASSERT_FALSE(HasFailure());

  const auto touch_and_wait = [&] {
    for (const std::string& name : names) ASSERT_EQ(read_hello(server, name), "hello");
    for (const std::string& name : names) ASSERT_TRUE(server.wait_for_state(name, "idle"));
  };
  for (int i = 0; i < 10; ++i) touch_and_wait();
  const Footprint before = server.footprint();
  for (int i = 0; i < kCycles / kShares; ++i) touch_and_wait();
  expect_no_growth(server, before);
  EXPECT_EQ(server.stop(), Ending{});
}

TEST(Cycles, NativeOnesLeakNothing) {
  BerthServer server;
  const auto names = start_with_shares(server, "[berth]\nidle_timeout = \"1ms\"\n", "access = \"native\"\n");
  ASSERT_FALSE(HasFailure());

  const auto native = [&](const std::string& name) {
    return server.read_json("shares/" + name + "/status.json").value("native", false);
  };
  const auto go_native_and_wait = [&] {
    for (const std::string& name : names) {
      ASSERT_EQ(read_hello(server, name), "hello");
      ASSERT_TRUE(eventually([&] { return native(name) || server.state(name) == "idle"; }));
    }
    for (const std::string& name : names) ASSERT_TRUE(server.wait_for_state(name, "idle"));
  };
  for (int i = 0; i < 10; ++i) go_native_and_wait();
  const Footprint before = server.footprint();
  for (int i = 0; i < kCycles / kShares / 5; ++i) go_native_and_wait();
  expect_no_growth(server, before);
  EXPECT_EQ(server.stop(), Ending{});
}

// What the two tests above count can be seen: a mounted share has a mount, a directory and an open file a descriptor.
TEST(Cycles, AMountedShareIsCounted) {
  BerthServer server;
  const auto names = start_with_shares(server, "");
  ASSERT_FALSE(HasFailure());
  ASSERT_TRUE(cycle(server, names));
  const Footprint idle = server.footprint();

  const UniqueFd file(::open(server.in_namespace("s0/hello").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(file);
  const Footprint mounted = server.footprint();
  EXPECT_EQ(mounted.mounts, idle.mounts + 1);
  EXPECT_EQ(mounted.directories, idle.directories + 1);
  EXPECT_GT(mounted.descriptors, idle.descriptors);
}

}  // namespace
}  // namespace berth::test
