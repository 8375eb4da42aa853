// A share whose source is not there, for each kind of backend: an error with its reason and never an empty directory,
// remembered with a back-off that spreads, tried again at once by hand; and its name stays.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "tests/mount/berth_fixture.h"

namespace berth::test {
namespace {

/// A time of the control tree, in milliseconds since 1970; -1: it is none.
std::int64_t milliseconds_of(const std::string& text) {
  std::tm parts{};
  const char* const rest = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr || *rest != '.') return -1;
  return std::int64_t{::timegm(&parts)} * 1000 + std::atoi(rest + 1);
}

int code_of(long result) { return result < 0 ? errno : 0; }

/// How one kind of share is told where its source is, and what makes that source.
struct Kind {
  const char* name;
  std::function<std::string(const BerthServer&)> section;  ///< the keys of the share
  const char* make;                                        ///< a script that makes the source in the working directory
  const char* needs = nullptr;                             ///< a program that it takes
};

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

const Kind kKinds[] = {
    {"bind", [](const BerthServer& server) { return "type = \"bind\"\nsource = " + quoted(server.path("source")); },
     "mkdir source && echo there > source/file"},
    {"dir", [](const BerthServer& server) { return "type = \"dir\"\nsource = " + quoted(server.path("source")); },
     "mkdir source && echo there > source/file"},
    {"image", [](const BerthServer& server) { return "type = \"ext4\"\nsource = " + quoted(server.path("source")); },
     "mkdir tree && echo there > tree/file && truncate -s 8M new && mkfs.ext4 -q -d tree new && mv new source && rm -r "
     "tree",
     "/usr/sbin/mkfs.ext4"},
    {"helper",
     [](const BerthServer& server) {
       return "type = \"fuse.sshfs\"\nsource = " + quoted("far:" + server.path("source")) +
              "\noptions = \"allow_other,ssh_command=" + server.path("pipe") + "\"";
     },
     "mkdir source && echo there > source/file", "/usr/bin/sshfs"},
    {"command",
     [](const BerthServer& server) {
       return "type = \"command\"\nmount = [\"sh\", " + quoted(server.path("program")) + ", " +
              quoted(server.path("source")) + ", \"{mountpoint}\"]";
     },
     "mkdir source && echo there > source/file"},
};

class Unavailable : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam().needs != nullptr && ::access(GetParam().needs, X_OK) != 0)
      GTEST_SKIP() << "takes " << GetParam().needs;
    ASSERT_TRUE(ok(server_.write_file(
        "pipe", "#!/bin/sh\ncd " + server_.path("source") + " || exit 1\nexec /usr/lib/openssh/sftp-server\n")));
    ASSERT_EQ(::chmod(server_.path("pipe").c_str(), 0755), 0);
    ASSERT_TRUE(ok(server_.write_file("program",
                                      "test -d \"$1\" || { echo \"$1 is not there\" >&2; exit 1; }\n"
                                      "mount -t tmpfs none \"$2\" && cp \"$1/file\" \"$2\"\n")));
    // attr_timeout: the kernel would believe for a second what it knows of a share that was unmounted.
    ASSERT_TRUE(ok(
        server_.start("[share.s]\naccess = \"proxy\"\nattr_timeout = \"0\"\n" + GetParam().section(server_) + "\n")));
  }
  void make_source() const {
    ASSERT_EQ(::system(("cd " + server_.directory() + " && PATH=$PATH:/usr/sbin:/sbin && " + GetParam().make).c_str()),
              0);
  }
  [[nodiscard]] std::string in(const std::string& name) const { return server_.in_namespace("s/" + name); }
  [[nodiscard]] nlohmann::json status() const { return server_.read_json("shares/s/status.json"); }

  /// What each call that would look into the share answers: errno values, 0 where it worked.
  [[nodiscard]] std::map<std::string, int> answers() const {
    const std::string root = server_.in_namespace("s");
    std::map<std::string, int> answers;
    answers["stat"] = code_of(::access(in("file").c_str(), F_OK));
    answers["open"] = code_of(UniqueFd(::open(in("file").c_str(), O_RDONLY | O_CLOEXEC)) ? 0 : -1);
    answers["create"] = code_of(UniqueFd(::open(in("new").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)) ? 0 : -1);
    answers["mkdir"] = code_of(::mkdir(in("directory").c_str(), 0700));
    answers["remove"] = code_of(::unlink(in("none").c_str()));
    answers["list"] = errno_of_listing(root);
    struct statvfs room {};
    answers["statfs"] = code_of(::statvfs((root + "/.").c_str(), &room));
    return answers;
  }
  /// 0 where a directory was listed, empty or not.
  static int errno_of_listing(const std::string& directory) {
    DIR* const stream = ::opendir(directory.c_str());
    if (stream == nullptr) return errno;
    errno = 0;
    while (::readdir(stream) != nullptr) {
    }
    const int code = errno;
    ::closedir(stream);
    return code;
  }
  void expect_shown() const {
    bool is_listed = false;
    for (const auto& entry : std::filesystem::directory_iterator(server_.namespace_path())) {
      is_listed = is_listed || entry.path().filename() == "s";
    }
    EXPECT_TRUE(is_listed);
    struct stat attributes {};
    EXPECT_EQ(::stat(server_.in_namespace("s").c_str(), &attributes), 0) << errno_name(errno);
    EXPECT_TRUE(S_ISDIR(attributes.st_mode));
  }
  void expect_unavailable() const {
    for (const auto& [call, code] : answers()) EXPECT_EQ(code, EHOSTDOWN) << call << ": " << errno_name(code);
    expect_shown();
    EXPECT_EQ(server_.state("s"), "failed");
    const std::string error = server_.read_control("shares/s/error").value_or("");
    EXPECT_NE(error.find("EHOSTDOWN"), std::string::npos) << error;
    EXPECT_NE(error.find("source"), std::string::npos) << error;
  }

  BerthServer server_;
};

TEST_P(Unavailable, IsAnErrorWithItsReasonAndNeverAnEmptyDirectory) {
  expect_unavailable();
  make_source();
  ASSERT_TRUE(ok(server_.write_control("shares/s/control", "retry")));
  EXPECT_EQ(server_.read_file("namespace/s/file").value_or("none"), "there\n");
  // And again, as it was there.
  ASSERT_TRUE(ok(server_.write_control("shares/s/control", "unmount")));
  std::filesystem::remove_all(server_.path("source"));
  expect_unavailable();
  EXPECT_EQ(server_.stop(), Ending{});
}

TEST_P(Unavailable, IsTriedAgainAfterAWaitThatGrowsAndHasChanceInIt) {
  const auto failures = [this] { return status().value("failures", 0); };
  for (int wanted = 1; wanted <= 2; ++wanted) {
    ASSERT_TRUE(eventually([&] { return ::access(in("file").c_str(), F_OK) == -1 && failures() >= wanted; }));
    const nlohmann::json seen = status();
    if (seen["retry_at"].is_null() || failures() != wanted) continue;  // a slow machine: it is over by now
    const std::int64_t when = milliseconds_of(seen["last_failure"].value("when", ""));
    const std::int64_t retry_at = milliseconds_of(seen.value("retry_at", ""));
    ASSERT_TRUE(when > 0 && retry_at > 0) << seen;
    // Twice as long each time, of which half is left to chance. Times are written in milliseconds.
    EXPECT_GE(retry_at - when, wanted * 500 - 20) << seen;
    EXPECT_LE(retry_at - when, wanted * 1000 + 20) << seen;
    EXPECT_EQ(seen["last_failure"].value("attempt", 0), wanted);
  }
  expect_shown();
  EXPECT_EQ(server_.stop(), Ending{});
}

INSTANTIATE_TEST_SUITE_P(Kinds, Unavailable, ::testing::ValuesIn(kKinds),
                         [](const auto& chosen) { return std::string(chosen.param.name); });

}  // namespace
}  // namespace berth::test
