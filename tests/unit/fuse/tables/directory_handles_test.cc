#include "fuse/tables/directory_handles.h"

#include <gtest/gtest.h>

#include <string>

namespace berth::fuse {
namespace {

constexpr NodeId kMany = 5000;

sys::FileHandle handle_numbered(NodeId node) { return {.type = 1, .bytes = std::to_string(node)}; }

TEST(DirectoryHandles, KeepThoseOfLivingNodesAndForgetTheDead) {
  DirectoryHandles handles;
  const auto is_even = [](NodeId node) { return node % 2 == 0; };
  for (NodeId node = 1; node <= kMany; ++node) handles.note(node, handle_numbered(node), is_even);
  std::size_t dead = 0;
  for (NodeId node = 1; node <= kMany; ++node) {
    const auto found = handles.find(node);
    if (is_even(node)) {
      ASSERT_TRUE(found);
      EXPECT_EQ(found->bytes, std::to_string(node));
    } else if (found) {
      ++dead;
    }
  }
  EXPECT_LT(dead, kMany / 2) << "some have been forgotten";
}

TEST(DirectoryHandles, LastOneNotedCounts) {
  DirectoryHandles handles;
  const auto is_known = [](NodeId) { return true; };
  handles.note(7, handle_numbered(1), is_known);
  handles.note(7, handle_numbered(2), is_known);
  ASSERT_TRUE(handles.find(7));
  EXPECT_EQ(handles.find(7)->bytes, "2");
  EXPECT_FALSE(handles.find(8));
}

}  // namespace
}  // namespace berth::fuse
