#include "fuse/control/attach_requests.h"

#include <gtest/gtest.h>

namespace berth::fuse {
namespace {

const AttachRequests::Key kKey{"share", {.instance = "vm1", .volume = "disk"}};

TEST(AttachRequestsTest, WhatNoCallerWasToldOfIsGivenBack) {
  AttachRequests requests;
  requests.begin(kKey, [] {});
  EXPECT_TRUE(requests.end(kKey, true, false));
  requests.give_back_done(kKey);
  EXPECT_FALSE(requests.contains(kKey));
}

/// Also where the last one of several fails.
TEST(AttachRequestsTest, WhatOneOfSeveralHasAttachedIsGivenBackWhenTheLastHasFailed) {
  AttachRequests requests;
  requests.begin(kKey, [] {});
  requests.begin(kKey, [] {});
  EXPECT_FALSE(requests.end(kKey, true, false));
  EXPECT_TRUE(requests.end(kKey, false, false));
}

TEST(AttachRequestsTest, WhatOneCallerWasToldOfStays) {
  AttachRequests requests;
  requests.begin(kKey, [] {});
  requests.begin(kKey, [] {});
  EXPECT_FALSE(requests.end(kKey, true, true));
  EXPECT_FALSE(requests.end(kKey, true, false));
  EXPECT_FALSE(requests.contains(kKey));
}

}  // namespace
}  // namespace berth::fuse
