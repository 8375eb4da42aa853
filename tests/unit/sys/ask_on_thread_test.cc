#include "src/lib/sys/ask_on_thread.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <memory>
#include <utility>

namespace berth::sys {
namespace {

using std::chrono::steady_clock;

TEST(AskOnThread, AnswersWhatTheQuestionAnswers) {
  const auto answer = ask_on_thread<std::unique_ptr<int>>(
      "berth-test", [of = std::make_unique<int>(7)]() mutable { return std::move(of); },
      steady_clock::now() + std::chrono::minutes(5));
  ASSERT_TRUE(answer);
  EXPECT_EQ(**answer, 7);
}

TEST(AskOnThread, LeavesAQuestionBehindThatDoesNotAnswerInTime) {
  std::promise<void> may_answer;
  const auto asked = std::make_shared<int>(7);
  const auto seen = std::make_shared<std::promise<int>>();
  const auto answer = ask_on_thread<int>(
      "berth-test",
      [seen, asked, may = may_answer.get_future()]() mutable {
        may.wait();
        seen->set_value(*asked);
        return *asked;
      },
      steady_clock::now());
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), ETIMEDOUT);
  may_answer.set_value();
  EXPECT_EQ(seen->get_future().get(), 7) << "the question goes on, with what it owns";
}

}  // namespace
}  // namespace berth::sys
