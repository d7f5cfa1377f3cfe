#include <gtest/gtest.h>

#include "support/program.hpp"

namespace heddle {
namespace {

using test::Program;

// Also on a slow machine there are some kills, and tasks that were done between them.
TEST(CliStorm, kills_and_finds_everything_accounted_for) {
  Program storm({"storm", "--seconds", "2", "--seed", "7", "--json"});
  const auto end = storm.event("end");
  EXPECT_EQ(storm.join(), 0) << storm.errors();
  ASSERT_TRUE(end);
  EXPECT_EQ((*end)["violation"], nullptr);
  EXPECT_EQ((*end)["seed"], 7);
  EXPECT_GT((*end)["kills"], 50);
  EXPECT_GT((*end)["consumers_killed"], 0);
  EXPECT_GT((*end)["tasks"], 1000);
  EXPECT_GT((*end)["members_killed"], 0);
  EXPECT_GT((*end)["sums"], 100);
}

TEST(CliStorm, says_what_was_violated_and_the_seed) {
  Program storm({"storm", "--seconds", "2", "--seed", "8", "--lies", "queue"});
  EXPECT_EQ(storm.join(), 1);
  EXPECT_EQ(
      storm.errors(),
      "heddle: the storm has found a violation: task 1000: it was pushed, and never done: it is "
      "lost; again with --seed 8\n");
}

TEST(CliStorm, says_that_a_sum_was_wrong) {
  Program storm({"storm", "--seconds", "2", "--seed", "8", "--lies", "group"});
  EXPECT_EQ(storm.join(), 1);
  EXPECT_NE(storm.errors().find("COLL-1: a sum is not that of all members"), std::string::npos)
      << storm.errors();
}

TEST(CliStorm, is_ended_by_a_signal_and_nobody_is_left) {
  Program storm({"storm", "--seconds", "1000"});
  std::string children;
  ASSERT_TRUE(test::eventually([&] {
    const std::string pid = std::to_string(storm.pid());
    std::getline(std::ifstream("/proc/" + pid + "/task/" + pid + "/children"), children);
    return !children.empty();
  }));
  storm.send(SIGINT);
  const int code = storm.join();
  EXPECT_EQ(code, 128 + SIGINT) << storm.errors();
  EXPECT_EQ(storm.errors(), "");
}

TEST(CliStorm, bad_options_are_refused) {
  for (const char* seconds : {"0", "nan", "-1"}) {
    Program storm({"storm", "--seconds", seconds});
    EXPECT_EQ(storm.join(), 2);
    EXPECT_NE(storm.errors().find("--seconds"), std::string::npos) << storm.errors();
  }
}

}  // namespace
}  // namespace heddle
