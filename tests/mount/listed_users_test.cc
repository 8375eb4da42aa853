// Programs in a native share are past berth, which has no lease of them: it finds them in /proc.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/mount/inside.h"
#include "tests/mount/reload_fixture.h"
#include "tests/mount/takeover.h"

namespace berth::test {
namespace {

class NativeUsers : public Reload {
 protected:
  void SetUp() override {
    Reload::SetUp();
    memory_ = std::make_unique<OwnTmpfs>(server_.make_directory("memory"));
    for (const char* const share : {"a", "b"}) put(share, std::string("memory/") + share, "access = \"auto\"\n");
    start();
    const Inside visitor(server_.in_namespace("a"), Inside::By::kFile);
    if (!server_.read_json("shares/a/status.json").value("native", false)) GTEST_SKIP() << "no native access here";
  }
  [[nodiscard]] std::string users() const { return server_.read_control("shares/a/users").value_or("?"); }
  [[nodiscard]] bool lists(const Inside& process, const std::string& kind, const std::string& what) const {
    return eventually([&] {
      const std::string text = users();
      const std::size_t row = text.find("\n" + std::to_string(process.pid()) + " ");
      if (row == std::string::npos) return false;
      const std::string line = text.substr(row + 1, text.find('\n', row + 1) - row - 1);
      return line.find(" " + kind + " ") != std::string::npos && line.ends_with(" " + what);
    });
  }
  /// Of the share `a`, by its own status and by the namespace's.
  [[nodiscard]] bool counts(std::uint64_t count) const {
    return eventually([&] {
      const nlohmann::json all = server_.read_json("status.json");
      std::uint64_t in_all = 99;
      if (all.is_object()) {
        for (const nlohmann::json& share : all["shares"]) {
          if (share.value("name", "") == "a") in_all = share.value("users", std::uint64_t{99});
        }
      }
      const nlohmann::json own = server_.read_json("shares/a/status.json");
      return own.is_object() && own.value("users", std::uint64_t{99}) == count && in_all == count;
    });
  }

  /// What a command says on either output.
  [[nodiscard]] std::string told(std::vector<std::string> command) const {
    command.insert(command.begin(), std::getenv("BERTH"));
    command.insert(command.end(), {"--namespace", server_.namespace_path()});
    const auto done = sys::run(command, std::chrono::steady_clock::now() + std::chrono::seconds(30));
    return done ? done->output : done.error().message();
  }

  std::unique_ptr<OwnTmpfs> memory_;
};

TEST_F(NativeUsers, AreListedAndCounted) {
  EXPECT_TRUE(counts(0)) << users();
  const Inside in_directory(server_.in_namespace("a"), Inside::By::kDirectory);
  const Inside with_file(server_.in_namespace("a"), Inside::By::kFile);
  const Inside with_mapping(server_.in_namespace("a"), Inside::By::kMapping);
  const Inside elsewhere(server_.in_namespace("b"), Inside::By::kFile);
  EXPECT_TRUE(lists(in_directory, "directory", ".")) << users();
  EXPECT_TRUE(lists(with_file, "file", "name")) << users();
  EXPECT_TRUE(lists(with_mapping, "mapping", "name")) << users();
  EXPECT_EQ(users().find("\n" + std::to_string(elsewhere.pid()) + " "), std::string::npos) << users();
  EXPECT_TRUE(counts(3)) << users();
}

TEST_F(NativeUsers, AreNamedByWhatIsRefusedForThem) {
  const Inside with_file(server_.in_namespace("a"), Inside::By::kFile);
  EXPECT_TRUE(counts(1)) << users();
  const std::string refused = told({"unmount", "a"});
  EXPECT_NE(refused.find("in use by 1 user; see "), std::string::npos) << refused;
  const std::string drained = told({"drain", "--timeout", "300ms"});
  EXPECT_NE(drained.find("in use: a (1 user)"), std::string::npos) << drained;
}

/// What a process of another user reads.
std::string read_as(uid_t user, const std::string& file) {
  int answer[2];
  if (::pipe2(answer, O_CLOEXEC) != 0) return "?";
  const pid_t reader = ::fork();
  if (reader == 0) {
    const bool is_user = ::setgid(user) == 0 && ::setuid(user) == 0;
    const UniqueFd opened(is_user ? ::open(file.c_str(), O_RDONLY | O_CLOEXEC) : -1);
    char text[4096];
    const ssize_t size = ::read(opened.get(), text, sizeof text);
    ::_exit(size > 0 && ::write(answer[1], text, static_cast<std::size_t>(size)) == size ? 0 : 1);
  }
  ::close(answer[1]);
  char text[4096];
  const ssize_t size = ::read(answer[0], text, sizeof text);
  ::close(answer[0]);
  ::waitpid(reader, nullptr, 0);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : "?";
}

TEST_F(NativeUsers, NamesAreForRootAndTheirOwnUser) {
  const Inside with_file(server_.in_namespace("a"), Inside::By::kFile);
  EXPECT_TRUE(lists(with_file, "file", "name")) << users();
  const std::string seen = read_as(4711, server_.in_namespace(".berth/shares/a/users"));
  EXPECT_NE(seen.find("\n" + std::to_string(with_file.pid()) + " "), std::string::npos) << seen;
  EXPECT_EQ(seen.find("name"), std::string::npos) << seen;
}

}  // namespace
}  // namespace berth::test
