#include "src/daemon/keeper/service_manager.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <thread>

#include "src/lib/base/unique_fd.h"
#include "tests/unit/temporary_directory.h"

namespace berth::daemon {
namespace {

/// A service manager that reads when it is asked to.
class Told : public ::testing::Test {
 protected:
  Told() : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = directory_.path() + "/notify";
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) std::abort();
    ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  }
  ~Told() override { ::unsetenv("NOTIFY_SOCKET"); }

  std::string read() {
    std::array<char, 4096> buffer{};
    const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    return {buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(count, 0))};
  }

  berth::testing::TemporaryDirectory directory_;
  UniqueFd socket_;
};

TEST_F(Told, ItIsTold) {
  ServiceManager manager;
  manager.ready();
  EXPECT_EQ(read(), "READY=1\n");
  manager.status("serving");
  EXPECT_EQ(read(), "STATUS=serving\n");
  EXPECT_FALSE(manager.due());
}

TEST_F(Told, OneThatDoesNotReadIsNotWaitedForAndHearsWhatCounts) {
  ServiceManager manager;
  std::size_t taken = 0;
  for (; !manager.due(); ++taken) manager.status(std::to_string(taken));
  manager.status("last");
  manager.ready();
  for (std::size_t read_so_far = 0; read_so_far < taken - 1; ++read_so_far) EXPECT_NE(read(), "");
  EXPECT_TRUE(manager.due());
  manager.tell();
  EXPECT_FALSE(manager.due());
  EXPECT_EQ(read(), "READY=1\nSTATUS=last\n");
  EXPECT_EQ(read(), "");
}

TEST_F(Told, TheWatchdogHearsOnceWhatWasSaidOften) {
  ServiceManager manager;
  manager.alive();
  EXPECT_EQ(read(), "WATCHDOG=1\n");
  std::size_t taken = 0;
  for (; !manager.due(); ++taken) manager.alive();
  manager.alive();
  for (std::size_t read_so_far = 0; read_so_far < taken - 1; ++read_so_far) EXPECT_NE(read(), "");
  manager.tell();
  EXPECT_EQ(read(), "WATCHDOG=1\n");
  EXPECT_EQ(read(), "");
}

TEST(ServiceManager, TheWatchdogIsForTheProcessThatIsNamed) {
  const auto watchdog = [](const char* time, const std::string& pid) {
    ::setenv("WATCHDOG_USEC", time, 1);
    pid.empty() ? ::unsetenv("WATCHDOG_PID") : ::setenv("WATCHDOG_PID", pid.c_str(), 1);
    return ServiceManager().watchdog();
  };
  EXPECT_EQ(watchdog("60000000", ""), std::chrono::seconds(60));
  EXPECT_EQ(watchdog("60000000", std::to_string(::getpid())), std::chrono::seconds(60));
  EXPECT_EQ(watchdog("60000000", "1"), std::nullopt);
  for (const char* const time : {"", "0", "-1", "1s", "99999999999999999999"})
    EXPECT_EQ(watchdog(time, ""), std::nullopt);
  ::unsetenv("WATCHDOG_USEC");
  EXPECT_EQ(ServiceManager().watchdog(), std::nullopt);
}

TEST(ServiceManager, WithoutOneNothingIsTold) {
  ::unsetenv("NOTIFY_SOCKET");
  ServiceManager manager;
  manager.ready();
  EXPECT_FALSE(manager.due());
}

}  // namespace
}  // namespace berth::daemon
