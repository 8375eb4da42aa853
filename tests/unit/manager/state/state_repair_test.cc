// A state directory that another program removes while berth runs.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "manager/state/attachment_store.h"
#include "tests/unit/temporary_directory.h"

namespace berth::manager {
namespace {

namespace fs = std::filesystem;
using Attachments = std::set<Attachment>;

class StateRepairTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(attach("a"), 0); }

  [[nodiscard]] StateDirectory directory() const { return StateDirectory(root_.path() + "/state", "/volumes"); }
  int attach(const std::string& volume) {
    const AttachmentStore::Change change{.share = "media", .attachment = {"vm", volume}};
    const Result<> result = store_->commit(std::span(&change, 1)).front();
    return result ? 0 : result.error().code();
  }
  /// What the next start finds, when this berth has ended.
  [[nodiscard]] StoredState next_start() {
    store_.reset();
    lender_.reset();
    AttachmentStore next(directory());
    return next.load().value_or(StoredState{});
  }
  /// The same by the next server, which gets the descriptor.
  [[nodiscard]] StoredState next_server() {
    store_.emplace(lender_->duplicate());
    return store_->load().value_or(StoredState{});
  }
  static Attachments attachments(const StoredState& kept) {
    return kept.shares.empty() ? Attachments{} : kept.shares.front().attachments;
  }
  [[nodiscard]] std::string repaired() {
    const std::optional<DamagedFile> damage = store_->take_repaired();
    return damage ? damage->reason : "";
  }
  static StateDirectory opened(StateDirectory directory) {
    EXPECT_TRUE(directory.open());
    return directory;
  }

  testing::TemporaryDirectory root_;
  std::optional<StateDirectory> lender_{opened(directory())};
  std::optional<AttachmentStore> store_{lender_->duplicate()};
  const std::string path_ = lender_->path();
};

TEST_F(StateRepairTest, NextAttachmentMakesARemovedDirectoryAgain) {
  ASSERT_TRUE(store_->commit(HostState{.up = false, .next_generation = 7, .since = {}}));
  fs::remove_all(root_.path() + "/state");
  EXPECT_EQ(attach("b"), 0);
  EXPECT_EQ(repaired(), "it was removed or moved away while berth ran; made again");
  EXPECT_EQ(attach("c"), 0);
  EXPECT_EQ(repaired(), "") << "told once";
  const StoredState kept = next_start();
  EXPECT_EQ(attachments(kept), (Attachments{{"vm", "a"}, {"vm", "b"}, {"vm", "c"}}));
  ASSERT_TRUE(kept.host);
  EXPECT_EQ(kept.host->next_generation, 7U);
}

// The program of a catalog source may make it before the next attachment does.
TEST_F(StateRepairTest, DirectoryWithSharesOfSourcesAloneIsMadeAgain) {
  fs::remove_all(path_);
  fs::create_directories(path_);
  for (const char* const name : {"source-fleet", "source-other.unfinished"}) std::ofstream(path_ + "/" + name) << "x";
  EXPECT_EQ(attach("b"), 0);
  EXPECT_EQ(attachments(next_start()), (Attachments{{"vm", "a"}, {"vm", "b"}}));
}

TEST_F(StateRepairTest, DirectoryWithFilesOfAnotherBerthIsNotMadeAgain) {
  for (const char* const name : {"source-x.attachments", "host"}) {
    fs::remove_all(path_);
    fs::create_directories(path_);
    std::ofstream(path_ + "/" + name) << "x";
    EXPECT_NE(attach("c"), 0) << name << " is of another berth";
  }
}

TEST_F(StateRepairTest, NextStateOfTheHostMakesItAgainWithAllThatIsAttached) {
  fs::remove_all(path_);
  ASSERT_TRUE(store_->commit(HostState{.up = false, .next_generation = 7, .since = {}}));
  EXPECT_NE(repaired(), "");
  const StoredState kept = next_start();
  EXPECT_EQ(attachments(kept), (Attachments{{"vm", "a"}}));
  ASSERT_TRUE(kept.host);
}

TEST_F(StateRepairTest, DirectoryThatWasMovedAwayIsMadeAgain) {
  fs::rename(path_, root_.path() + "/elsewhere");
  EXPECT_EQ(attach("b"), 0);
  EXPECT_EQ(attachments(next_start()), (Attachments{{"vm", "a"}, {"vm", "b"}}));
}

TEST_F(StateRepairTest, RemovedFileIsWrittenAgainWithItsNextLine) {
  for (const auto& entry : fs::directory_iterator(path_)) fs::remove(entry.path());
  EXPECT_EQ(attach("b"), 0);
  EXPECT_EQ(repaired(), "a file in it was removed or changed while berth ran; written again");
  EXPECT_EQ(attachments(next_start()), (Attachments{{"vm", "a"}, {"vm", "b"}}));
}

TEST_F(StateRepairTest, NextServerGoesOnInTheOneThatWasMadeAgain) {
  fs::remove_all(path_);
  ASSERT_EQ(attach("b"), 0);
  const StoredState kept = next_server();
  EXPECT_EQ(attachments(kept), (Attachments{{"vm", "a"}, {"vm", "b"}}));
  EXPECT_TRUE(kept.damages.empty());
  EXPECT_EQ(attach("c"), 0);
  EXPECT_EQ(attachments(next_start()), (Attachments{{"vm", "a"}, {"vm", "b"}, {"vm", "c"}}));
}

TEST_F(StateRepairTest, NextServerTellsOfOneThatNobodyCouldMakeAgain) {
  fs::remove_all(path_);
  const StoredState kept = next_server();
  ASSERT_EQ(kept.damages.size(), 1U);
  EXPECT_EQ(kept.damages[0].file, path_);
  EXPECT_TRUE(kept.damages[0].is_new);
  EXPECT_EQ(attach("b"), 0);
  EXPECT_EQ(attachments(next_start()), (Attachments{{"vm", "b"}}));
}

TEST_F(StateRepairTest, WhatIsInItsPlaceStaysAndNothingIsAttachedThatWouldBeLost) {
  fs::remove_all(path_);
  fs::create_directory(path_);
  std::ofstream(path_ + "/of-another") << "text";
  const AttachmentStore::Change change{.share = "media", .attachment = {"vm", "b"}};
  const Result<> refused = store_->commit(std::span(&change, 1)).front();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ENOTEMPTY);
  EXPECT_NE(refused.error().message().find("the next start will not find what is attached"), std::string::npos);
  EXPECT_TRUE(fs::exists(path_ + "/of-another"));
  fs::remove(path_ + "/of-another");
  EXPECT_EQ(attach("b"), 0);
  EXPECT_EQ(attachments(next_start()), (Attachments{{"vm", "a"}, {"vm", "b"}}));
}

}  // namespace
}  // namespace berth::manager
