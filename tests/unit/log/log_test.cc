#include "src/lib/log/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>

#include "src/lib/base/unique_fd.h"
#include "tests/unit/temporary_directory.h"

namespace berth::log {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

/// Standard error goes elsewhere for a scope, and the logger with it.
class Redirected {
 public:
  explicit Redirected(int fd, Level threshold = Level::kInfo, const std::string& journal = "/nowhere")
      : before_(::dup(STDERR_FILENO)) {
    ::dup2(fd, STDERR_FILENO);
    start(threshold, journal);
  }
  Redirected(const Redirected&) = delete;
  Redirected& operator=(const Redirected&) = delete;
  ~Redirected() { ::dup2(before_.get(), STDERR_FILENO); }

 private:
  UniqueFd before_;
};

class Log : public ::testing::Test {
 protected:
  Log() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
    read_ = UniqueFd(ends[0]);
    write_ = UniqueFd(ends[1]);
    ::unsetenv("JOURNAL_STREAM");
    ::unsetenv("NO_COLOR");
    ::setenv("TERM", "xterm", 1);
  }
  ~Log() override {
    ::unsetenv("JOURNAL_STREAM");
    ::unsetenv("NO_COLOR");
    start(Level::kInfo);
  }

  static std::string read_from(int fd) {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::read(fd, buffer.data(), buffer.size());
    return {buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
  }
  std::string written() { return read_from(read_.get()); }

  UniqueFd read_;
  UniqueFd write_;
};

TEST_F(Log, LinesHaveTimeAndLevel) {
  {
    const Redirected redirected(write_.get());
    info("share {} mounted", "media");
    warning("careful");
  }
  EXPECT_THAT(written(), MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z info  share media mounted\n"
                                      "[0-9]{4}-[^ ]* warn  careful\n"));
}

TEST_F(Log, BelowTheThresholdNothingIsWritten) {
  {
    const Redirected redirected(write_.get(), Level::kWarning);
    EXPECT_FALSE(enabled(Level::kInfo));
    EXPECT_TRUE(enabled(Level::kWarning));
    info("quiet");
    error("loud");
  }
  const std::string lines = written();
  EXPECT_THAT(lines, Not(HasSubstr("quiet")));
  EXPECT_THAT(lines, HasSubstr("error loud\n"));
}

TEST_F(Log, TheJournalGetsPriorities) {
  struct stat pipe {};
  ASSERT_EQ(::fstat(write_.get(), &pipe), 0);
  ::setenv("JOURNAL_STREAM", (std::to_string(pipe.st_dev) + ":" + std::to_string(pipe.st_ino)).c_str(), 1);
  {
    const Redirected redirected(write_.get(), Level::kDebug);
    debug("d");
    info("i");
    warning("w");
    error("first\nsecond\n");
  }
  EXPECT_EQ(written(), "<7>d\n<6>i\n<4>w\n<3>first\n<3>second\n");
}

/// Standard error is the journal's, which takes entries at a socket.
class LogInTheJournal : public Log {
 protected:
  LogInTheJournal() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) std::abort();
    struct stat pipe {};
    if (::fstat(write_.get(), &pipe) != 0) std::abort();
    ::setenv("JOURNAL_STREAM", (std::to_string(pipe.st_dev) + ":" + std::to_string(pipe.st_ino)).c_str(), 1);
  }

  std::string entry() { return read_from(socket_.get()); }

  berth::testing::TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/journal";
  UniqueFd socket_;
};

TEST_F(LogInTheJournal, AnEntryHasFields) {
  const std::array<Field, 2> fields{{{"BERTH_SHARE", "home/alice"}, {"ERRNO", "2"}}};
  {
    const Redirected redirected(write_.get(), Level::kInfo, path_);
    write(Level::kWarning, "share home/alice: mount-failed\n", fields);
    write(Level::kDebug, "below the threshold", fields);
  }
  EXPECT_EQ(entry(),
            "PRIORITY=4\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=berth\nMESSAGE=share home/alice: mount-failed\n"
            "BERTH_SHARE=home/alice\nERRNO=2\n");
  EXPECT_EQ(entry(), "");
  EXPECT_EQ(written(), "");
}

TEST_F(LogInTheJournal, LineEndsMakeNoFields) {
  const std::string forged = "a\nPRIORITY=0";
  const std::array<Field, 1> fields{{{"BERTH_SHARE", forged}}};
  {
    const Redirected redirected(write_.get(), Level::kInfo, path_);
    write(Level::kInfo, "first\nMESSAGE=forged", fields);
  }
  const std::string text = entry();
  EXPECT_THAT(text, HasSubstr(std::string("\nMESSAGE\n\x14\0\0\0\0\0\0\0first\nMESSAGE=forged\n", 38)));
  EXPECT_THAT(text, HasSubstr(std::string("\nBERTH_SHARE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n", 34)));
}

TEST_F(LogInTheJournal, SecretsAndEscapesAreNotTold) {
  {
    const Redirected redirected(write_.get(), Level::kInfo, path_);
    info("mount -o password=hunter2 \033[2J");
  }
  const std::string text = entry();
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  EXPECT_THAT(text, Not(HasSubstr("\033")));
}

TEST_F(LogInTheJournal, WhatItDoesNotTakeIsALine) {
  std::size_t taken = 0;
  const Redirected redirected(write_.get(), Level::kInfo, path_);
  std::string lines;
  for (; (lines = written()).empty(); ++taken) info("entry {}", taken);
  EXPECT_EQ(lines, "<6>entry " + std::to_string(taken - 1) + "\n");
  EXPECT_GT(taken, 1U);
  while (!entry().empty()) {
  }
  info("it reads again");
  EXPECT_THAT(entry(), HasSubstr("MESSAGE=it reads again\n"));
  info("{}", std::string(std::size_t{1} << 20, 'x'));
  EXPECT_EQ(entry(), "") << "too large for a datagram";
}

TEST_F(Log, AnInheritedJournalStreamIsNotBelieved) {
  ::setenv("JOURNAL_STREAM", "8:1", 1);
  {
    const Redirected redirected(write_.get());
    info("i");
  }
  EXPECT_THAT(written(), HasSubstr("Z info  i\n"));
}

TEST_F(Log, FurtherLinesOfAMessageAreNoMessages) {
  {
    const Redirected redirected(write_.get());
    info("first\n2026-01-01T00:00:00.000Z error forged");
  }
  EXPECT_THAT(written(), HasSubstr("first\n    2026-01-01T00:00:00.000Z error forged\n"));
}

TEST_F(Log, BracesInAMessageAreText) {
  {
    const Redirected redirected(write_.get());
    write(Level::kInfo, "{} {0} {x");
  }
  EXPECT_THAT(written(), HasSubstr("{} {0} {x\n"));
}

/// Fills the pipe, so that nothing more can be written to it. The number of bytes.
std::size_t fill(int pipe) {
  const std::string page(4096, '.');
  std::size_t filled = 0;
  for (ssize_t written = 0; (written = ::write(pipe, page.data(), page.size())) > 0;) {
    filled += static_cast<std::size_t>(written);
  }
  return filled;
}

std::string drain(int pipe) {
  std::string all;
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = ::read(pipe, buffer.data(), buffer.size())) > 0;) {
    all.append(buffer.data(), static_cast<std::size_t>(count));
  }
  return all;
}

TEST_F(Log, AReaderThatStopsCostsMessagesAndNoTime) {
  const std::size_t filled = fill(write_.get());
  ASSERT_EQ(::fcntl(write_.get(), F_SETFL, 0), 0);  // as a shell leaves it
  {
    const Redirected redirected(write_.get());
    info("first");
    info("second");
    EXPECT_EQ(drain(read_.get()).size(), filled);
    info("third");
  }
  const std::string lines = written();
  EXPECT_THAT(lines, HasSubstr("warn  2 messages were dropped"));
  EXPECT_THAT(lines, HasSubstr("info  third\n"));
  EXPECT_THAT(lines, Not(HasSubstr("first")));
  EXPECT_EQ(::fcntl(write_.get(), F_GETFL) & O_NONBLOCK, 0) << "other programs that have the pipe open see no change";
}

TEST_F(Log, AMessageThatIsCutIsCountedAndTheNextOneBeginsALine) {
  const std::string page(4096, '.');
  fill(write_.get());
  ASSERT_EQ(::read(read_.get(), std::string(page).data(), page.size()), 4096);
  {
    const Redirected redirected(write_.get());
    info("{}", std::string(3 * page.size(), 'x'));
    drain(read_.get());
    info("next");
  }
  const std::string lines = written();
  EXPECT_THAT(lines, ::testing::StartsWith("\n")) << lines;
  EXPECT_THAT(lines, HasSubstr("1 messages were dropped"));
  EXPECT_THAT(lines, HasSubstr("info  next\n"));
}

TEST_F(Log, ASocketThatIsFullCostsMessagesAndNoTime) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd readers(ends[1]);
  while (::send(ours.get(), "........", 8, MSG_DONTWAIT) > 0) {
  }
  const Redirected redirected(ours.get());
  info("nothing waits");
}

class LogOnATerminal : public Log {
 protected:
  LogOnATerminal() {
    int master = -1;
    int slave = -1;
    if (::openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) std::abort();
    master_ = UniqueFd(master);
    slave_ = UniqueFd(slave);
  }
  std::string shown() {
    {
      const Redirected redirected(slave_.get());
      error("bad");
    }
    // A terminal hands over what is written to it piece by piece.
    std::string line;
    while (!line.ends_with('\n')) {
      const std::string more = read_from(master_.get());
      if (more.empty()) break;
      line += more;
    }
    return line;
  }

  UniqueFd master_;
  UniqueFd slave_;
};

TEST_F(LogOnATerminal, TheLevelIsColoured) {
  const std::string line = shown();
  EXPECT_THAT(line, HasSubstr("\033["));
  EXPECT_THAT(line, HasSubstr(" bad\r\n")) << "the message itself is not";
}

TEST_F(LogOnATerminal, NoColorIsRespected) {
  ::setenv("NO_COLOR", "1", 1);
  EXPECT_THAT(shown(), Not(HasSubstr("\033")));
}

TEST_F(LogOnATerminal, ADumbTerminalGetsNoColours) {
  ::setenv("TERM", "dumb", 1);
  EXPECT_THAT(shown(), Not(HasSubstr("\033")));
}

}  // namespace
}  // namespace berth::log
