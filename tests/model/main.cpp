// heddle_model_tests. Without options: GoogleTest, one test for each scenario. By hand: see usage.

#include <gtest/gtest.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

#include "model/mutations.hpp"
#include "model/parallel.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {

std::vector<Scenario> all_scenarios() {
  std::vector<Scenario> all;
  for (const auto& group :
       {control_scenarios(), draft_scenarios(), wait_scenarios(), participants_scenarios(),
        directory_scenarios(), slot_scenarios(), board_scenarios(), queue_scenarios(),
        letter_scenarios(), late_scenarios(), lane_scenarios(), result_scenarios(),
        barrier_scenarios(), group_scenarios(), collective_scenarios(), epoch_scenarios(),
        bsp_scenarios(), history_scenarios(), progress_scenarios()}) {
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
  --wider N                              so many preemptions and stale reads more than the bounds say
  --executions N, --seconds N            ends each walk after so much (--mutations: 200000 runs)
  --seed N                               at random instead of depth first
  --jobs N                               so many at a time (1)
  --weaken TAG[:ORDER]                   with this order weakened (or WEAKEN=TAG in the environment)
  --json FILE                            writes the table too
)";

struct Options {
  std::map<std::string, std::string> given;
  bool has(const char* name) const { return given.contains(name); }
  std::uint64_t number(const char* name, std::uint64_t otherwise,
                       std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) const {
    const auto found = given.find(name);
    if (found == given.end()) return otherwise;
    const std::string& text = found->second;
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value > most) {
      throw std::invalid_argument(std::string(name) + " needs a number up to " +
                                  std::to_string(most) + ", not \"" + text + "\"");
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
               name == "--executions" || name == "--seconds" || name == "--jobs" ||
               name == "--wider") {
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

std::string told(const Result& result) {
  return result.claim + "\n" + result.steps + "replay: " + result.schedule + "\n";
}

nlohmann::json row(const Scenario& scenario, const Result& result) {
  const Bounds& b = scenario.bounds;
  return {{"scenario", scenario.name},
          {"executions", result.executions},
          {"with_deaths", result.deaths},
          {"complete", result.complete},
          {"failed", result.failed},
          {"must_fail", scenario.must_fail},
          {"preemptions", b.preemptions},
          {"deaths", b.deaths},
          {"stale", b.stale},
          {"inner_timeouts", b.inner_timeouts},
          {"alone", b.alone != 0},
          {"seconds", result.seconds},
          {"claim", result.claim},
          {"told", result.failed && !scenario.must_fail ? told(result).substr(0, 90'000) : ""}};
}

void print(const nlohmann::json& row) {
  const bool failed = row["failed"];
  std::printf(
      "%-32s %9llu runs, %9llu with deaths, %-8s %6.2f s  (preemptions %d, deaths %d, "
      "stale %d%s%s)%s%s\n%s",
      row["scenario"].get<std::string>().c_str(), row["executions"].get<unsigned long long>(),
      row["with_deaths"].get<unsigned long long>(),
      failed            ? row["must_fail"] ? "found" : "FAILED"
      : row["complete"] ? "complete"
                        : "cut",
      row["seconds"].get<double>(), row["preemptions"].get<int>(), row["deaths"].get<int>(),
      row["stale"].get<int>(), row["inner_timeouts"] ? "" : ", no inner timeouts",
      row["alone"] ? ", others stop" : "", failed ? "  " : "",
      row["must_fail"] ? row["claim"].get<std::string>().c_str() : "",
      row["told"].get<std::string>().c_str());
  std::fflush(stdout);
}

void write_json(const Options& options, const nlohmann::json& table) {
  if (!options.has("--json")) return;
  const std::string& path = options.given.at("--json");
  if (!(std::ofstream(path) << table.dump(1) << "\n")) {
    throw std::invalid_argument("cannot write \"" + path + "\"");
  }
}

std::size_t jobs(const Options& options) {
  return std::max<std::size_t>(options.number("--jobs", 1, 1024), 1);
}

std::vector<Scenario> chosen_scenarios(const Options& options) {
  std::vector<Scenario> chosen;
  for (Scenario scenario : all_scenarios()) {
    if (!scenario.name.starts_with(options.given.at("--explore"))) continue;
    Bounds& bounds = scenario.bounds;
    bounds.preemptions = static_cast<int>(options.number("--preemptions", bounds.preemptions, 100));
    bounds.deaths = static_cast<int>(options.number("--deaths", bounds.deaths, 100));
    bounds.stale = static_cast<int>(options.number("--stale", bounds.stale, 100));
    const int wider = static_cast<int>(options.number("--wider", 0, 100));
    bounds.preemptions += wider;
    bounds.stale += wider;
    chosen.push_back(scenario);
  }
  if (chosen.empty()) throw std::invalid_argument("no scenario begins so; --list names them");
  return chosen;
}

int explore_all(const Options& options) {
  std::vector<Mutation> mutations{{}};  // the first of none
  if (options.has("--weaken")) mutations = mutations_of(options.given.at("--weaken"));
  const std::vector<Scenario> scenarios = chosen_scenarios(options);
  const Limits limits{options.number("--executions", 0),
                      static_cast<double>(options.number("--seconds", 0, 1'000'000)),
                      options.number("--seed", 0)};
  nlohmann::json table = nlohmann::json::array();
  bool good = true;
  std::uint64_t executions = 0, with_deaths = 0;
  for (const Mutation& mutation : mutations) {
    if (!mutation.tag.empty()) std::cout << describe(mutation) << std::endl;
    in_parallel(
        scenarios.size(), jobs(options),
        [&](std::size_t i) {
          return row(scenarios[i],
                     explore(scenarios[i], limits, mutation.tag.empty() ? nullptr : &mutation));
        },
        [&](const nlohmann::json& told) {
          print(told);
          good &= told["failed"] == told["must_fail"];
          executions += told["executions"].get<std::uint64_t>();
          with_deaths += told["with_deaths"].get<std::uint64_t>();
          table.push_back(told);
        });
  }
  std::printf("%zu scenarios, %llu runs, %llu with deaths: %s\n", scenarios.size(),
              static_cast<unsigned long long>(executions),
              static_cast<unsigned long long>(with_deaths), good ? "all hold" : "NOT all hold");
  write_json(options, table);
  return good ? 0 : 1;
}

int mutate_all(const Options& options) {
  const auto mutations =
      options.has("--weaken") ? mutations_of(options.given.at("--weaken")) : all_mutations();
  const auto scenarios = all_scenarios();
  const std::uint64_t executions = options.number("--executions", 200'000);
  nlohmann::json table = nlohmann::json::array();
  std::size_t caught = 0;
  in_parallel(
      mutations.size(), jobs(options),
      [&](std::size_t i) -> nlohmann::json {
        const Verdict verdict = try_mutation(mutations[i], scenarios, executions);
        return {{"mutation", describe(mutations[i])}, {"tag", mutations[i].tag},
                {"order", order_of(mutations[i])},    {"weakened_to", weakened_to(mutations[i])},
                {"caught_by", verdict.caught_by},     {"executions", verdict.executions},
                {"seconds", verdict.seconds},         {"claim", verdict.claim.substr(0, 60)}};
      },
      [&](nlohmann::json told) {
        const auto caught_by = told["caught_by"].get<std::string>();
        caught += !caught_by.empty();
        std::printf("%-52s %-30s %9llu runs %6.2f s  %s\n",
                    told["mutation"].get<std::string>().c_str(),
                    caught_by.empty() ? "NOT CAUGHT" : caught_by.c_str(),
                    told["executions"].get<unsigned long long>(), told["seconds"].get<double>(),
                    told["claim"].get<std::string>().c_str());
        std::fflush(stdout);
        for (const char* own : {"mutation", "seconds", "claim"}) told.erase(own);
        table.push_back(told);
      });
  std::printf("%zu of %zu caught\n", caught, mutations.size());
  write_json(options, table);
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

// With WEAKEN=TAG in the environment, some test must fail.
std::vector<Mutation> weakened() {
  const char* tag = std::getenv("WEAKEN");
  return tag != nullptr && *tag != '\0' ? mutations_of(tag) : std::vector<Mutation>{};
}

TEST_P(Model, holds_in_every_schedule) {
  constexpr std::uint64_t most = 30'000;
  const Scenario& scenario = GetParam();
  for (const Mutation& mutation : weakened()) {
    const Result result = explore(scenario, {.executions = most}, &mutation);
    EXPECT_EQ(result.failed, scenario.must_fail) << describe(mutation) << "\n" << told(result);
  }
  const Result result = explore(scenario, {.executions = most});
  print(row(scenario, result));
  if (scenario.must_fail) {
    EXPECT_TRUE(result.failed) << "the explorer misses a protocol that is known to be bad";
    const Result again = replay({scenario}, result.schedule);
    EXPECT_EQ(again.claim, result.claim) << "a schedule is replayed from its string";
  } else {
    EXPECT_FALSE(result.failed) << told(result);
    EXPECT_EQ(result.deaths > 0, scenario.bounds.deaths > 0) << "death is no choice here";
    EXPECT_EQ(result.alone > 0, scenario.bounds.alone > 0) << "nobody was left alone";
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
       {"SLOT.publish:relaxed", "SLOT.recheck:removed", "SLOT.claimed:acq_rel",
        "WAIT.changed:acq_rel", "QUEUE.commit:acquire", "BARRIER.before_scan:acq_rel",
        "BOARD.finish:relaxed", "DIR.ready:relaxed", "DIR.orphan:relaxed", "PART.join:acquire",
        "QUEUE.repair:left", "GROUP.out:relaxed", "GROUP.leave:relaxed"}) {
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
  try {
    if (argc == 1) {
      static_cast<void>(heddle::model::weakened());  // an unknown tag is an error now
      return RUN_ALL_TESTS();
    }
    return heddle::model::by_hand(heddle::model::parse(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << "heddle_model_tests: " << error.what() << "\n";
    return 2;
  }
}
