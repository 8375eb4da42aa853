// Follows the guests of libvirt's own test driver, which lives in this process.
#include "src/libvirt/hypervisor.h"

#include <gtest/gtest.h>
#include <libvirt/libvirt.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace berth::libvirt {
namespace {

constexpr const char* kOn = "00000000-0000-0000-0000-000000000001";
constexpr const char* kOff = "00000000-0000-0000-0000-000000000002";
constexpr const char* kNew = "00000000-0000-0000-0000-000000000003";

std::string definition(const std::string& name, const std::string& uuid, const std::vector<std::string>& files,
                       const std::string& more = "") {
  std::string text = "<domain type='test'" +
                     std::string(more.empty() ? "" : " xmlns:test='http://libvirt.org/schemas/domain/test/1.0'") +
                     "><name>" + name + "</name><uuid>" + uuid +
                     "</uuid><memory>8192</memory><os><type>hvm</type></os>" + more + "<devices>";
  char target = 'a';
  for (const std::string& file : files) {
    text += "<disk type='file' device='disk'><source file='" + file + "'/><target dev='vd" + target++ +
            "' bus='virtio'/></disk>";
  }
  return text + "</devices></domain>";
}

class Follow : public ::testing::Test {
 protected:
  void SetUp() override {
    static const bool prepared = prepare_event_loop().has_value();
    ASSERT_TRUE(prepared);
    path_ = std::filesystem::temp_directory_path() / ("berth-test-" + std::to_string(::getpid()) + ".xml");
    const std::string off = "<test:runstate>5</test:runstate>";
    std::ofstream(path_) << "<node>" << definition("on", kOn, {"/v/a/on"}) << definition("off", kOff, {"/v/b/off"}, off)
                         << "</node>";
    // So that the loop comes back to look.
    timer_ = ::virEventAddTimeout(
        5, [](int, void*) {}, nullptr, nullptr);
  }
  void TearDown() override {
    hypervisor_.reset();
    ::virEventRemoveTimeout(timer_);
    std::filesystem::remove(path_);
  }
  void follow(int failures = 0) {
    hypervisor_.emplace(
        Hypervisor::Setup{.uri = "test://" + path_,
                          .on_guests = [this](const Guests& guests) { ++told_, guests_ = guests; },
                          .on_connection = [this](const std::string& why_not) { said_.push_back(why_not); },
                          .open =
                              [this, failures](const std::string& uri) mutable {
                                ++opened_;
                                if (failures-- > 0) return ::virConnectOpen("test:///missing.xml");
                                return connection_ = ::virConnectOpen(uri.c_str());
                              },
                          .first_retry = std::chrono::milliseconds(1)});
    ASSERT_TRUE(hypervisor_->start());
  }
  [[nodiscard]] static bool eventually(const std::function<bool()>& condition) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      ::virEventRunDefaultImpl();
    }
    return true;
  }
  [[nodiscard]] bool has(const std::string& uuid, const std::set<std::string>& files) const {
    const auto found = guests_.find(uuid);
    return found != guests_.end() && found->second.files == files;
  }
  [[nodiscard]] virDomainPtr domain(const std::string& uuid) const {
    return ::virDomainLookupByUUIDString(connection_, uuid.c_str());
  }

  std::string path_;
  int timer_ = -1;
  virConnectPtr connection_ = nullptr;
  Guests guests_;
  int told_ = 0;
  int opened_ = 0;
  std::vector<std::string> said_;
  std::optional<Hypervisor> hypervisor_;
};

using Files = std::set<std::string>;

TEST_F(Follow, FindsAllGuestsRunningOrNot) {
  follow();
  ASSERT_TRUE(eventually([&] { return told_ > 0; }));
  EXPECT_EQ(guests_.size(), 2U);
  EXPECT_TRUE(has(kOn, Files{"/v/a/on"}));
  EXPECT_TRUE(guests_[kOn].is_running);
  EXPECT_TRUE(has(kOff, Files{"/v/b/off"}));
  EXPECT_FALSE(guests_[kOff].is_running);
  EXPECT_EQ(said_, std::vector<std::string>{""});
}

TEST_F(Follow, HearsOfGuestsThatAreDefinedChangedStartedStoppedAndUndefined) {
  follow();
  ASSERT_TRUE(eventually([&] { return told_ > 0; }));
  virDomainPtr made = ::virDomainDefineXML(connection_, definition("new", kNew, {"/v/a/new"}).c_str());
  ASSERT_NE(made, nullptr);
  EXPECT_TRUE(eventually([&] { return has(kNew, Files{"/v/a/new"}); }));
  ::virDomainFree(::virDomainDefineXML(connection_, definition("new", kNew, {"/v/a/new", "/v/b/more"}).c_str()));
  EXPECT_TRUE(eventually([&] { return has(kNew, Files{"/v/a/new", "/v/b/more"}); }));
  ASSERT_EQ(::virDomainCreate(made), 0);
  EXPECT_TRUE(eventually([&] { return guests_[kNew].is_running; }));
  // It runs with two disks until it is stopped, and is to have one.
  ::virDomainFree(::virDomainDefineXML(connection_, definition("new", kNew, {"/v/c/next"}).c_str()));
  EXPECT_TRUE(eventually([&] { return has(kNew, Files{"/v/a/new", "/v/b/more", "/v/c/next"}); }));
  ASSERT_EQ(::virDomainDestroy(made), 0);
  EXPECT_TRUE(eventually([&] { return has(kNew, Files{"/v/c/next"}) && !guests_[kNew].is_running; }));
  ASSERT_EQ(::virDomainUndefine(made), 0);
  EXPECT_TRUE(eventually([&] { return !guests_.contains(kNew); }));
  ::virDomainFree(made);
  EXPECT_EQ(guests_.size(), 2U);
  EXPECT_EQ(opened_, 1);
}

TEST_F(Follow, GuestWithoutADefinitionGoesWhenItStops) {
  follow();
  ASSERT_TRUE(eventually([&] { return told_ > 0; }));
  virDomainPtr made = ::virDomainCreateXML(connection_, definition("new", kNew, {"/v/a/new"}).c_str(), 0);
  ASSERT_NE(made, nullptr);
  EXPECT_TRUE(eventually([&] { return has(kNew, Files{"/v/a/new"}); }));
  ASSERT_EQ(::virDomainDestroy(made), 0);
  ::virDomainFree(made);
  EXPECT_TRUE(eventually([&] { return !guests_.contains(kNew); }));
}

TEST_F(Follow, ConnectionIsTriedAgainAndNothingIsSaidOfGuestsBefore) {
  constexpr int kFailures = 3;
  follow(kFailures);
  ASSERT_TRUE(eventually([&] { return told_ > 0; }));
  EXPECT_EQ(opened_, kFailures + 1);
  ASSERT_EQ(said_.size(), std::size_t{kFailures} + 1);
  EXPECT_NE(said_.front(), "");
  EXPECT_EQ(said_.back(), "");
  EXPECT_EQ(guests_.size(), 2U);
}

}  // namespace
}  // namespace berth::libvirt
