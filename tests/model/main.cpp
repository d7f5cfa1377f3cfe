// heddle_model_tests. Without options: GoogleTest, one test for each scenario. By hand: see usage.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "model/mutations.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {

std::vector<Scenario> all_scenarios() {
  std::vector<Scenario> all;
  for (const auto& group :
       {control_scenarios(), wait_scenarios(), participants_scenarios(), directory_scenarios(),
        slot_scenarios(), board_scenarios(), queue_scenarios(), barrier_scenarios()}) {
    all.insert(all.end(), group.begin(), group.end());
  }
  return all;
}

void PrintTo(const Scenario& scenario, std::ostream* to) { *to << scenario.name; }  // GoogleTest's

namespace {

constexpr const char* usage = R"(usage: heddle_model_tests [GoogleTest's options]
       heddle_model_tests --list
       heddle_model_tests --explore [NAME]   scenarios whose name begins so, within their bounds
       heddle_model_tests --mutations        weakens every order, leaves out every repair: all must fail
       heddle_model_tests --replay SCHEDULE  what a failure has printed
options
  --preemptions N --deaths N --stale N   other bounds
  --executions N, --seconds N            ends each walk after so much (--mutations: 200000 runs)
  --seed N                               at random instead of depth first
  --weaken TAG[:ORDER]                   with this order weakened (or WEAKEN=TAG in the environment)
  --json FILE                            writes the table too
)";

struct Options {
  std::map<std::string, std::string> given;
  bool has(const char* name) const { return given.contains(name); }
  std::uint64_t number(const char* name, std::uint64_t otherwise) const {
    const auto found = given.find(name);
    if (found == given.end()) return otherwise;
    char* end = nullptr;
    const unsigned long long value = std::strtoull(found->second.c_str(), &end, 10);
    if (found->second.empty() || *end != '\0') {
      throw std::invalid_argument(std::string(name) + " needs a number, not \"" + found->second +
                                  "\"");
    }
    return value;
  }
};

Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    if (name == "--list" || name == "--mutations" || name == "--help") {
      options.given[name] = "";
    } else if (name == "--explore") {
      const bool named = i + 1 < count && arguments[i + 1][0] != '-';
      options.given[name] = named ? arguments[++i] : "";
    } else if (name == "--replay" || name == "--weaken" || name == "--json" || name == "--seed" ||
               name == "--preemptions" || name == "--deaths" || name == "--stale" ||
               name == "--executions" || name == "--seconds") {
      if (i + 1 == count) throw std::invalid_argument(name + " needs a value");
      options.given[name] = arguments[++i];
    } else {
      throw std::invalid_argument("unknown option \"" + name + "\"; --help tells them");
    }
  }
  if (const char* tag = std::getenv("WEAKEN"); tag != nullptr && *tag != '\0') {
    options.given.emplace("--weaken", tag);
  }
  return options;
}

void print(const Scenario& scenario, const Result& result) {
  const Bounds& b = scenario.bounds;
  std::printf(
      "%-32s %9llu runs, %9llu with deaths, %-8s %6.2f s  (preemptions %d, deaths %d, stale "
      "%d%s)\n",
      scenario.name.c_str(), static_cast<unsigned long long>(result.executions),
      static_cast<unsigned long long>(result.deaths),
      result.failed     ? "FAILED"
      : result.complete ? "complete"
                        : "cut",
      result.seconds, b.preemptions, b.deaths, b.stale,
      b.inner_timeouts ? "" : ", no inner timeouts");
  std::fflush(stdout);
}

std::string told(const Result& result) {
  return result.claim + "\n" + result.steps + "replay: " + result.schedule + "\n";
}

int explore_all(const Options& options) {
  std::vector<Mutation> mutations{{}};  // the first of none
  if (options.has("--weaken")) mutations = mutations_of(options.given.at("--weaken"));
  nlohmann::json table = nlohmann::json::array();
  bool good = true, any = false;
  for (const Mutation& mutation : mutations) {
    if (!mutation.tag.empty()) std::cout << describe(mutation) << "\n";
    for (Scenario scenario : all_scenarios()) {
      if (!scenario.name.starts_with(options.given.at("--explore"))) continue;
      any = true;
      Bounds& bounds = scenario.bounds;
      bounds.preemptions = static_cast<int>(options.number("--preemptions", bounds.preemptions));
      bounds.deaths = static_cast<int>(options.number("--deaths", bounds.deaths));
      bounds.stale = static_cast<int>(options.number("--stale", bounds.stale));
      const Limits limits{options.number("--executions", 0),
                          static_cast<double>(options.number("--seconds", 0)),
                          options.number("--seed", 0)};
      const Result result = explore(scenario, limits, mutation.tag.empty() ? nullptr : &mutation);
      print(scenario, result);
      if (result.failed && !scenario.must_fail) std::cout << told(result);
      good &= result.failed == scenario.must_fail;
      table.push_back({{"scenario", scenario.name},
                       {"executions", result.executions},
                       {"with_deaths", result.deaths},
                       {"complete", result.complete},
                       {"failed", result.failed},
                       {"must_fail", scenario.must_fail},
                       {"preemptions", bounds.preemptions},
                       {"deaths", bounds.deaths},
                       {"stale", bounds.stale},
                       {"seconds", result.seconds}});
    }
  }
  if (!any) throw std::invalid_argument("no scenario begins so; --list names them");
  if (options.has("--json")) std::ofstream(options.given.at("--json")) << table.dump(1) << "\n";
  return good ? 0 : 1;
}

int mutate_all(const Options& options) {
  const auto mutations =
      options.has("--weaken") ? mutations_of(options.given.at("--weaken")) : all_mutations();
  const auto scenarios = all_scenarios();
  nlohmann::json table = nlohmann::json::array();
  std::size_t caught = 0;
  for (const Mutation& mutation : mutations) {
    const Verdict verdict =
        try_mutation(mutation, scenarios, options.number("--executions", 200'000));
    caught += !verdict.caught_by.empty();
    std::printf("%-52s %-30s %9llu runs %6.2f s  %s\n", describe(mutation).c_str(),
                verdict.caught_by.empty() ? "NOT CAUGHT" : verdict.caught_by.c_str(),
                static_cast<unsigned long long>(verdict.executions), verdict.seconds,
                verdict.claim.substr(0, 60).c_str());
    std::fflush(stdout);
    table.push_back({{"tag", mutation.tag},
                     {"weakened_to", weakened_to(mutation)},
                     {"caught_by", verdict.caught_by},
                     {"executions", verdict.executions}});
  }
  std::printf("%zu of %zu caught\n", caught, mutations.size());
  if (options.has("--json")) std::ofstream(options.given.at("--json")) << table.dump(1) << "\n";
  return caught == mutations.size() ? 0 : 1;
}

int replay_one(const Options& options) {
  Mutation mutation;
  if (options.has("--weaken")) {
    const auto chosen = mutations_of(options.given.at("--weaken"));
    if (chosen.size() > 1) throw std::invalid_argument("--weaken TAG:ORDER, to replay");
    mutation = chosen.front();
  }
  const Result result = replay(all_scenarios(), options.given.at("--replay"),
                               mutation.tag.empty() ? nullptr : &mutation);
  std::cout << (result.failed ? "fails: " : "passes\n") << told(result);
  return result.failed ? 1 : 0;
}

int by_hand(const Options& options) {
  if (options.has("--help")) return std::cout << usage, 0;
  if (options.has("--list")) {
    for (const Scenario& scenario : all_scenarios()) std::cout << scenario.name << "\n";
    return 0;
  }
  if (options.has("--replay")) return replay_one(options);
  if (options.has("--mutations")) return mutate_all(options);
  if (options.has("--explore")) return explore_all(options);
  throw std::invalid_argument("one of --list, --explore, --mutations, --replay, please");
}

// ---- under CTest

class Model : public testing::TestWithParam<Scenario> {};

TEST_P(Model, holds_in_every_schedule) {
  constexpr std::uint64_t most = 30'000;
  const Scenario& scenario = GetParam();
  const Result result = explore(scenario, {.executions = most});
  print(scenario, result);
  if (scenario.must_fail) {
    EXPECT_TRUE(result.failed) << "the explorer misses a protocol that is known to be bad";
    const Result again = replay({scenario}, result.schedule);
    EXPECT_EQ(again.claim, result.claim) << "a schedule is replayed from its string";
  } else {
    EXPECT_FALSE(result.failed) << told(result);
    EXPECT_EQ(result.deaths > 0, scenario.bounds.deaths > 0) << "death is no choice here";
  }
}

std::string test_name(const testing::TestParamInfo<Scenario>& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Explorer, Model, testing::ValuesIn(all_scenarios()), test_name);

TEST(ModelMutation, some_orders_weakened_are_caught) {
  for (const char* name :
       {"SLOT.publish:acquire", "SLOT.recheck:removed", "SLOT.claimed:acq_rel",
        "WAIT.changed:acq_rel", "QUEUE.commit:acquire", "BARRIER.before_scan:acq_rel",
        "BOARD.finish:relaxed", "DIR.ready:relaxed", "QUEUE.repair:left"}) {
    for (const Mutation& mutation : mutations_of(name)) {
      EXPECT_NE(try_mutation(mutation, all_scenarios(), 60'000).caught_by, "")
          << describe(mutation);
    }
  }
}

TEST(ModelErrors, are_said) {
  EXPECT_THROW(static_cast<void>(mutations_of("SLOT.no_such")), std::invalid_argument);
  const auto message = [](const std::string& schedule) {
    try {
      static_cast<void>(replay(all_scenarios(), schedule));
      return std::string("none");
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
  };
  EXPECT_NE(message("nonsense").find("SCENARIO:BUILD:CHOICES"), std::string::npos);
  EXPECT_NE(message("slot/none:0:1").find("no scenario"), std::string::npos);
  EXPECT_NE(message("slot/copy:0:1").find("another build"), std::string::npos);
}

}  // namespace
}  // namespace heddle::model

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 1) return RUN_ALL_TESTS();
  try {
    return heddle::model::by_hand(heddle::model::parse(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "heddle_model_tests: " << error.what() << "\n";
    return 2;
  }
}
