#include "manager/engine/share_output.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace berth::manager {
namespace {

class ShareOutputTest : public ::testing::Test {
 protected:
  static Secrets known() {
    Secrets secrets;
    secrets.add_options("password=hunter2hunter2");
    return secrets;
  }

  std::string told_;
  ShareOutput output_{"a", known(), [this](const std::string&, std::string_view lines) { told_ += lines; }};
};

TEST_F(ShareOutputTest, WholeLinesAreToldHoweverTheyCome) {
  output_("one\ntw");
  EXPECT_EQ(told_, "one\n");
  output_("o\r50%\r");
  EXPECT_EQ(told_, "one\ntwo\n50%\n");
}

TEST_F(ShareOutputTest, ASecretThatComesInTwoPartsIsMasked) {
  output_("it is hunter2");
  output_("hunter2, as you know\n");
  EXPECT_EQ(told_, "it is ***, as you know\n");
}

TEST_F(ShareOutputTest, OfALineThatIsTooLongOnlyItsLengthIsTold) {
  // So that no cut goes through a secret.
  for (std::size_t before = ShareOutput::kLongestLine - 20; before < ShareOutput::kLongestLine; ++before) {
    output_(std::string(before, 'x'));
    output_("hunter2hunter2");
    output_("rest\nnext\n");
    EXPECT_EQ(told_.find("unter"), std::string::npos) << told_;
    EXPECT_TRUE(told_.ends_with("next\n"));
    told_.clear();
  }
  output_(std::string(3 * ShareOutput::kLongestLine, 'x'));
  output_("\nnext\n");
  EXPECT_EQ(told_, "(a line of " + std::to_string(3 * ShareOutput::kLongestLine + 1) + " bytes is left out)\nnext\n");
}

TEST_F(ShareOutputTest, APrivateKeyIsMaskedWhereItComesInParts) {
  output_("key:\n-----BEGIN PRIVATE KEY-----\nMIIEabc\n");
  output_("defgh\n-----END PRIVATE KEY-----\nnext\n");
  EXPECT_EQ(told_.find("MIIE"), std::string::npos) << told_;
  EXPECT_EQ(told_.find("defgh"), std::string::npos) << told_;
  EXPECT_TRUE(told_.ends_with("next\n")) << told_;
}

}  // namespace
}  // namespace berth::manager
