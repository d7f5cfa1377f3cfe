// heddle_model_tests: under CTest each scenario within its bounds; by hand also replays, random
// walks, deeper bounds and the mutation run (--help).

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <string>

#include "model/scenarios.hpp"

namespace heddle::model {

std::vector<Scenario> all_scenarios() {
  std::vector<Scenario> all;
  for (auto group : {control_scenarios(), slot_scenarios(), board_scenarios(), queue_scenarios(), barrier_scenarios(), wait_scenarios(), directory_scenarios(), participants_scenarios()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

}  // namespace heddle::model

int main(int argc, char** argv) {
  using namespace heddle::model;
  const double seconds = argc > 2 ? std::atof(argv[2]) : 20;
  for (const auto& s : all_scenarios()) {
    if (argc > 1 && s.name.find(argv[1]) == std::string::npos) continue;
    auto r = explore(s, {.seconds = seconds});
    std::printf("%-34s %10lu runs, %lu with deaths, %s %.2fs %s\n", s.name.c_str(), r.executions, r.deaths, r.complete ? "complete" : "cut", r.seconds, r.failed ? r.claim.c_str() : "");
    if (r.failed && argc > 3) std::printf("%s\n%s\n", r.schedule.c_str(), r.steps.c_str());
    std::fflush(stdout);
  }
}
