#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "src/lib/sys/process.h"
#include "tests/mount/berth_fixture.h"

namespace berth::test {

inline std::string read_at(int directory, const std::string& name) {
  const UniqueFd file(::openat(directory, name.c_str(), O_RDONLY | O_CLOEXEC));
  char text[256];
  const ssize_t size = ::read(file.get(), text, sizeof text);
  return size < 0 ? errno_name(errno) : std::string(text, static_cast<std::size_t>(size));
}

inline bool append(int file, const std::string& text) {
  return ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// A server whose shares are drop-ins. Each source holds a file "name" with the source's own name.
class Reload : public ::testing::Test {
 protected:
  void SetUp() override { server_.make_directory("shares.d"); }

  std::string make_source(const std::string& name) {
    const std::string path = server_.make_directory(name);
    EXPECT_TRUE(ok(server_.write_file(name + "/name", name)));
    return path;
  }
  /// As tools do it that write files whole: by rename(2).
  void put(const std::string& share, const std::string& source, const std::string& more = "access = \"proxy\"\n") {
    const std::string text =
        "[share.\"" + share + "\"]\ntype = \"bind\"\nsource = \"" + make_source(source) + "\"\n" + more;
    ASSERT_TRUE(ok(server_.write_file("shares.d/.new", text)));
    std::filesystem::rename(server_.path("shares.d/.new"), drop_in(share));
  }
  [[nodiscard]] std::string drop_in(std::string share) const {
    std::replace(share.begin(), share.end(), '/', '-');
    return server_.path("shares.d/" + share + ".toml");
  }
  void remove(const std::string& share) { std::filesystem::remove(drop_in(share)); }

  void start() { ASSERT_TRUE(ok(server_.start("[berth]\nidle_timeout = \"1h\"\n"))); }
  Result<> reload() { return server_.write_control("control", "reload"); }
  /// What a command says, on either output.
  [[nodiscard]] std::string berth(std::vector<std::string> command) const {
    command.insert(command.begin(), std::getenv("BERTH"));
    for (const std::string& word :
         {std::string("--config"), server_.path("berth.toml"), std::string("--namespace"), server_.namespace_path()})
      command.push_back(word);
    const auto done = sys::run(command, std::chrono::steady_clock::now() + std::chrono::seconds(30));
    return done ? done->output : done.error().message();
  }
  [[nodiscard]] std::string answer() const { return server_.read_control("reload").value_or("?"); }
  /// Summaries may follow of the drop-ins that have settled meanwhile: "nothing has changed".
  [[nodiscard]] std::string reload_says() {
    const Result<> done = reload();
    return done ? answer() : errno_name(done.error().code()) + std::string("\n") + answer();
  }
  [[nodiscard]] std::string name_in(const std::string& share) const {
    return server_.read_file("namespace/" + share + "/name").value_or("?");
  }
  /// A program that was in a share before is in the one of that source still.
  static void expect_inside(const UniqueFd& file, const UniqueFd& directory, const std::string& source) {
    EXPECT_TRUE(append(file.get(), "x")) << errno_name(errno);
    EXPECT_EQ(read_at(directory.get(), "name"), source);
  }
  [[nodiscard]] bool is_shown(const std::string& share) const {
    return server_.read_control("status").value_or("").find("\n" + share + " ") != std::string::npos;
  }
  UniqueFd open(const std::string& relative, int flags) const {
    UniqueFd file(::open(server_.in_namespace(relative).c_str(), flags | O_CLOEXEC, 0644));
    EXPECT_TRUE(file) << relative << ": " << errno_name(errno);
    return file;
  }

  BerthServer server_;
};

}  // namespace berth::test
