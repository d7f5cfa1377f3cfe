#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <cstdlib>
#include <map>
#include <string>

#include "heddle/base/error.hpp"
#include "heddle/run/worker.hpp"
#include "support/supervision.hpp"

namespace heddle {
namespace {

using namespace test;
using testing::HasSubstr;

std::string refusal(const std::map<std::string, std::string>& environment) {
  for (const char* name : {"HEDDLE_RANK", "HEDDLE_SIZE", "HEDDLE_SEGMENT", "HEDDLE_SEGMENT_FD"}) {
    unsetenv(name);
  }
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::string text = "accepted";
  try {
    Worker::from_environment();
  } catch (const Error& error) {
    text = error.what();
  }
  for (const auto& [name, value] : environment) unsetenv(name.c_str());
  return text;
}

TEST(Worker, says_what_is_wrong_with_its_environment) {
  EXPECT_THAT(refusal({}),
              HasSubstr("HEDDLE_RANK is not set: a worker is started by a supervisor"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "1x"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("HEDDLE_RANK is \"1x\""));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "-1"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("HEDDLE_RANK is \"-1\""));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", ""}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("HEDDLE_RANK is \"\""));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "2"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("none of HEDDLE_SIZE 2"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("neither HEDDLE_SEGMENT nor HEDDLE_SEGMENT_FD is set"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"}, {"HEDDLE_SIZE", "2"}, {"HEDDLE_SEGMENT_FD", "999"}}),
              HasSubstr("HEDDLE_SEGMENT_FD 999 cannot be used"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"}, {"HEDDLE_SIZE", "2"}, {"HEDDLE_SEGMENT", "no.such"}}),
              HasSubstr("no segment \"no.such\""));
}

TEST(Worker, needs_the_events_of_a_supervisor) {
  const Segment segment = small_segment();
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"},
                       {"HEDDLE_SIZE", "1"},
                       {"HEDDLE_SEGMENT_FD", std::to_string(segment.fd())}}),
              HasSubstr("no object \"events/0\""));
}

}  // namespace
}  // namespace heddle
