#include "src/libvirt/plan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace berth::libvirt {
namespace {

constexpr const char* kUuid = "6695eb01-f6a4-8304-79aa-97f2502e193f";
constexpr const char* kOther = "11111111-2222-3333-4444-555555555555";

std::set<std::string> files(const std::string& devices) {
  const auto found =
      files_in_definition("<domain type='qemu'><name>g</name><devices>" + devices + "</devices></domain>");
  EXPECT_TRUE(found.has_value());
  return found.value_or(std::set<std::string>());
}

using Paths = std::set<std::string>;

TEST(GuestDefinition, FileDisksAreThoseOfTypeFile) {
  EXPECT_EQ(files("<disk type='file' device='disk'><source file='/v/a/one.qcow2'/><target dev='vda'/></disk>"
                  "<disk type='block' device='disk'><source dev='/dev/sdb'/><target dev='vdb'/></disk>"
                  "<disk type='network' device='disk'><source protocol='rbd' name='pool/x'/></disk>"
                  "<disk type='file' device='cdrom'><target dev='hda'/></disk>"
                  "<disk type='file' device='cdrom'><source file='/v/a/cd.iso'/></disk>"),
            (Paths{"/v/a/one.qcow2", "/v/a/cd.iso"}));
}

TEST(GuestDefinition, BackingChainMirrorAndSharedDirectoriesBelongToIt) {
  EXPECT_EQ(files("<disk type='file'><source file='/v/a/top'/><backingStore type='file'><source file='/v/b/base'/>"
                  "<backingStore type='file'><source file='/v/c/deep'/></backingStore></backingStore>"
                  "<mirror type='file' job='copy'><source file='/v/d/new'/></mirror></disk>"
                  "<filesystem type='mount'><driver type='virtiofs'/><source dir='/v/e'/><target dir='t'/></filesystem>"
                  "<filesystem type='ram'><source usage='1'/></filesystem>"),
            (Paths{"/v/a/top", "/v/b/base", "/v/c/deep", "/v/d/new", "/v/e"}));
}

TEST(GuestDefinition, PathsAreTakenAsWrittenButForDotsAndSlashes) {
  EXPECT_EQ(files("<disk type='file'><source file='/v//a/../b/./x &amp; y'/></disk>"
                  "<disk type='file'><source file='relative'/></disk>"),
            Paths{"/v/b/x & y"});
}

TEST(GuestDefinition, WhatIsNoXmlIsAnError) {
  EXPECT_FALSE(files_in_definition("<domain>"));
  EXPECT_FALSE(files_in_definition(""));
}

TEST(Places, LongestShareHasThePath) {
  const std::set<std::string> shares{"a", "home/alice", "home"};
  EXPECT_EQ(place_of("home/alice/d/x", shares).share, "home/alice");
  EXPECT_EQ(place_of("home/alice/d/x", shares).rest, "d/x");
  EXPECT_EQ(place_of("home/bob/x", shares).share, "home");
  EXPECT_EQ(place_of("a", shares).rest, "/");
  EXPECT_EQ(place_of("ab/x", shares).share, "");
  EXPECT_EQ(below("/volumes/a/x", "/volumes"), "a/x");
  EXPECT_EQ(below("/volumes2/a/x", "/volumes"), "");
  EXPECT_EQ(below("/volumes", "/volumes"), "");
}

TEST(Places, AttachmentsOfDifferentFilesAreDifferent) {
  EXPECT_EQ(attachment_of("libvirt", kUuid, "x.qcow2"), (Attachment{std::string("libvirt:") + kUuid, "x.qcow2"}));
  EXPECT_EQ(attachment_of("libvirt", kUuid, "d/x").volume, "d%2Fx");
  EXPECT_NE(attachment_of("libvirt", kUuid, "d/x").volume, attachment_of("libvirt", kUuid, "d%2Fx").volume);
}

class Comparison : public ::testing::Test {
 protected:
  [[nodiscard]] std::vector<Line> lines() const {
    return compare(wanted_in("/v", {"a", "b"}, guests_, "libvirt"), there_, guests_, "libvirt");
  }
  /// ATTACHMENT: DISAGREEMENT, of the one line that there is.
  [[nodiscard]] std::string only() const {
    const std::vector<Line> all = lines();
    if (all.size() != 1) return std::to_string(all.size()) + " lines";
    return (all[0].is_by_hand ? "hand: " : "hypervisor: ") + all[0].disagreement;
  }

  Guests guests_;
  SharedAttachments there_;
};

TEST_F(Comparison, AttachedDiskOfAGuestAgrees) {
  guests_[kUuid] = {.name = "vm", .files = {"/v/a/x"}};
  there_["a"].insert({std::string("libvirt:") + kUuid, "x"});
  EXPECT_EQ(only(), "hypervisor: ");
  EXPECT_EQ(lines()[0].guest, "vm");
}

TEST_F(Comparison, DiskThatIsNotAttachedIsShown) {
  guests_[kUuid] = {.name = "vm", .files = {"/v/a/x"}};
  EXPECT_EQ(only(), "hypervisor: the hypervisor has this disk, and it is not attached");
}

TEST_F(Comparison, OwnAttachmentThatTheHypervisorDoesNotKnowIsShown) {
  there_["a"].insert({std::string("libvirt:") + kUuid, "x"});
  EXPECT_EQ(only(), "hypervisor: attached, and the hypervisor knows no such disk");
}

TEST_F(Comparison, DiskInNoShareIsShown) {
  guests_[kUuid] = {.name = "vm", .files = {"/v/unknown/x", "/elsewhere/x"}};
  ASSERT_EQ(lines().size(), 1U);
  EXPECT_EQ(lines()[0].attachment.volume, "/v/unknown/x");
  EXPECT_EQ(only(), "hypervisor: no share of that name");
}

TEST_F(Comparison, AttachmentByHandOfAGuestWithADiskThereAgrees) {
  guests_[kUuid] = {.name = "vm", .files = {"/v/a/x"}};
  there_["a"] = {{std::string("libvirt:") + kUuid, "x"}, {kUuid, "x"}, {"vm", "disk-0"}};
  for (const Line& line : lines()) EXPECT_EQ(line.disagreement, "") << line.attachment.instance;
}

TEST_F(Comparison, AttachmentByHandThatTheHypervisorDoesNotKnowIsShownAndNotCorrected) {
  guests_[kUuid] = {.name = "vm", .files = {"/v/a/x"}};
  there_["a"] = {{std::string("libvirt:") + kUuid, "x"}};
  there_["b"] = {{"vm", "x"}};
  ASSERT_EQ(lines().size(), 2U);
  EXPECT_EQ(lines()[1].disagreement, "attached by hand, and the hypervisor knows no disk of that guest here");
  there_["b"] = {{kOther, "x"}};
  EXPECT_EQ(lines()[1].disagreement, "attached by hand, and the hypervisor knows no such guest");
  there_["b"] = {{"backup", "nightly"}};
  EXPECT_EQ(lines()[1].disagreement, "") << "says nothing about guests";
}

TEST_F(Comparison, OtherOriginIsAnotherHand) {
  there_["a"] = {{std::string("xen:") + kUuid, "x"}};
  EXPECT_EQ(only(), "hand: ");
}

}  // namespace
}  // namespace berth::libvirt
