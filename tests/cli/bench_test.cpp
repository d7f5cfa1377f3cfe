#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <map>
#include <regex>

#include "support/program.hpp"

namespace heddle {
namespace {

using nlohmann::json;
using test::Program;
using Arguments = std::vector<std::string>;

Arguments bench(Arguments more) {
  more.insert(more.begin(), {"bench", "collective"});
  return more;
}

struct Outcome {
  std::vector<std::string> lines;
  std::string errors;
  int code = -1;

  std::vector<json> events() const {
    std::vector<json> all;
    for (const std::string& line : lines) all.push_back(json::parse(line));
    return all;
  }
  std::vector<json> rows() const {
    std::vector<json> all = events();
    std::erase_if(all, [](const json& event) { return event["event"] != "row"; });
    return all;
  }
};

Outcome run(Arguments arguments) {
  Program program(std::move(arguments));
  Outcome outcome;
  while (const auto line = program.line()) outcome.lines.push_back(*line);
  outcome.code = program.join();
  outcome.errors = program.errors();
  return outcome;
}

void expect_refused(Arguments options, const std::string& words) {
  const Outcome outcome = run(bench(std::move(options)));
  EXPECT_EQ(outcome.code, 2);
  EXPECT_TRUE(outcome.lines.empty());
  EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome.errors;
  EXPECT_EQ(outcome.errors.rfind("heddle: ", 0), 0U) << outcome.errors;
  EXPECT_NE(outcome.errors.find(words), std::string::npos)
      << outcome.errors << "\nlacks: " << words;
}

// One that goes on until it is ended: its ranks' processes, when all have joined and have measured.
std::map<int, pid_t> ranks_of(Program& program, std::size_t count) {
  std::map<int, pid_t> ranks;
  while (const auto event = program.event()) {
    if ((*event)["event"] == "rank") ranks[(*event)["rank"]] = (*event)["pid"];
    if ((*event)["event"] == "row") break;
  }
  EXPECT_EQ(ranks.size(), count);
  return ranks;
}
Arguments endless() {
  return bench({"-n", "3", "--json", "--min-bytes", "1024", "--max-bytes", "2048", "--iterations",
                "1000000000"});
}
// The same, but its first row is done soon.
Arguments long_one() { return bench({"-n", "3", "--json", "--max-bytes", "16777216"}); }

void expect_gone(const std::map<int, pid_t>& ranks) {
  for (const auto& [rank, pid] : ranks) {
    EXPECT_TRUE(kill(pid, 0) != 0 && errno == ESRCH) << "rank " << rank << " is left";
  }
}

TEST(CliBench, a_table_has_a_line_for_each_size) {
  const Outcome outcome = run(bench({"-n", "2", "--max-bytes", "2048", "--iterations", "1"}));
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  EXPECT_EQ(outcome.errors, "");
  ASSERT_EQ(outcome.lines.size(), 3 + 10 + 1);
  EXPECT_EQ(outcome.lines[0].rfind("allreduce of float32, sum, 2 ranks: microseconds", 0), 0U);
  EXPECT_TRUE(std::regex_match(outcome.lines[1], std::regex(" +shared +private")));
  EXPECT_TRUE(std::regex_match(outcome.lines[2],
                               std::regex(" +size +min +avg +max +GB/s +min +avg +max +GB/s")));
  const std::regex row(" +([0-9]+ K?i?B)( +[0-9]+\\.[0-9]+){8}");
  std::smatch parts;
  for (std::size_t i = 3; i < 13; ++i) {
    ASSERT_TRUE(std::regex_match(outcome.lines[i], parts, row)) << outcome.lines[i];
    EXPECT_EQ(parts[1], i < 11 ? std::to_string(4 << (i - 3)) + " B" : i == 11 ? "1 KiB" : "2 KiB");
  }
  EXPECT_EQ(outcome.lines[13].rfind("every result was right: ", 0), 0U) << outcome.lines[13];
}

TEST(CliBench, json_says_what_the_table_says) {
  const Outcome outcome = run(bench({"-n", "2", "--op", "all_gather", "--type", "float64",
                                     "--min-bytes", "1024", "--max-bytes", "2048", "--json"}));
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  const auto events = outcome.events();
  ASSERT_EQ(events.size(), 1 + 2 + 4 + 1);
  EXPECT_EQ(events.front(), json::parse(R"({"event": "begin", "op": "all_gather",
    "type": "float64", "reduction": null, "ranks": 2, "rows": 4})"));
  EXPECT_EQ(events[1]["event"], "rank");
  EXPECT_EQ(events[2]["event"], "rank");
  const auto rows = outcome.rows();
  ASSERT_EQ(rows.size(), 4U);
  std::uint64_t compared = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    const json& row = rows[i];
    EXPECT_EQ(row["bytes"], i < 2 ? 1024 : 2048);
    EXPECT_EQ(row["memory"], i % 2 == 0 ? "shared" : "private");
    EXPECT_GT(row["min_us"], 0);
    EXPECT_LE(row["min_us"], row["avg_us"]);
    EXPECT_LE(row["avg_us"], row["max_us"]);
    EXPECT_GE(row["calls"], 3 * 16);  // of each rank
    // Of both ranks' buffers, in the time of the slower one.
    EXPECT_NEAR(row["bytes_per_second"],
                2.0 * row["bytes"].get<double>() * 1e6 / row["max_us"].get<double>(), 1);
    compared += row["compared"].get<std::uint64_t>();
  }
  EXPECT_EQ(events.back()["event"], "end");
  EXPECT_EQ(events.back()["rows"], 4);
  EXPECT_EQ(events.back()["compared"], compared);
}

// In one round and in many, of parts that no stripe and no chunk divides.
TEST(CliBench, every_collective_is_right_for_two_and_three_ranks_and_odd_lengths) {
  for (const char* op : {"allreduce", "reduce", "reduce_scatter", "all_gather", "gather", "scatter",
                         "broadcast", "all_to_all"}) {
    for (const char* ranks : {"2", "3"}) {
      const Outcome outcome =
          run(bench({"-n", ranks, "--op", op, "--min-bytes", "20", "--max-bytes", "200000",
                     "--iterations", "1", "--exchange-bytes", "65536", "--json"}));
      EXPECT_EQ(outcome.code, 0) << op << ", " << ranks << " ranks: " << outcome.errors;
      const auto rows = outcome.rows();
      EXPECT_EQ(rows.size(), 2 * 14U) << op;
      for (const json& row : rows) EXPECT_GT(row["compared"], 0) << op << row;
    }
  }
}

TEST(CliBench, every_type_and_reduction_is_right) {
  for (const char* type : {"float32", "float64", "int32", "int64", "bfloat16", "float16"}) {
    for (const char* reduction : {"sum", "mean", "min", "max", "product"}) {
      const Outcome outcome =
          run(bench({"-n", "3", "--type", type, "--reduction", reduction, "--min-bytes", "8",
                     "--max-bytes", "65536", "--iterations", "1", "--json"}));
      EXPECT_EQ(outcome.code, 0) << type << ", " << reduction << ": " << outcome.errors;
    }
  }
}

TEST(CliBench, a_barrier_has_a_line_without_sizes) {
  const Outcome outcome = run(bench({"-n", "3", "--op", "barrier", "--iterations", "10"}));
  EXPECT_EQ(outcome.code, 0) << outcome.errors;
  ASSERT_EQ(outcome.lines.size(), 3U);
  EXPECT_EQ(outcome.lines[0].rfind("barrier, 3 ranks", 0), 0U) << outcome.lines[0];
  EXPECT_TRUE(std::regex_match(outcome.lines[1], std::regex(" +min +avg +max")));
  EXPECT_TRUE(std::regex_match(outcome.lines[2], std::regex("( +[0-9]+\\.[0-9]+){3}")));
}

TEST(CliBench, bad_options_say_what_to_do) {
  expect_refused({"-n", "0"}, "--ranks must be 1 to 48, not 0");
  expect_refused({"-n", "49"}, "--ranks must be 1 to 48, not 49");
  expect_refused({"-n", "two"}, "--ranks");
  expect_refused({"--op", "dance"}, "give allreduce, reduce, ");
  expect_refused({"--type", "int8"}, "give float32, float64, ");
  expect_refused({"--reduction", "xor"}, "give sum, mean, ");
  expect_refused({"--op", "gather", "--reduction", "sum"}, "leave out --reduction");
  expect_refused({"--op", "barrier", "--max-bytes", "8"}, "leave out --type");
  expect_refused({"--memory", "none"}, "give shared, private or both");
  expect_refused({"--min-bytes", "0"}, "a multiple of 4, not 0");
  expect_refused({"--type", "int64", "--min-bytes", "12"}, "a multiple of 8, not 12");
  expect_refused({"--min-bytes", "16", "--max-bytes", "8"},
                 "--max-bytes 8 is below --min-bytes 16");
  expect_refused({"--max-bytes", "99999999999999"}, "must be at most");
  expect_refused({"--iterations", "0"}, "--iterations must be 1 or more");
  expect_refused({"--exchange-bytes", "5"}, "a multiple of 4096");
  expect_refused({"--exchange-bytes", "4096", "-n", "48"}, "at least 8192 for 48 ranks");
  expect_refused({"--what"}, "\"heddle bench collective --help\"");
  EXPECT_NE(run({"bench", "speed"}).errors.find("there is collective"), std::string::npos);
}

TEST(CliBench, sizes_that_no_memory_holds_are_refused_before_a_rank_starts) {
  for (const char* memory : {"shared", "private", "both"}) {
    expect_refused({"--memory", memory, "--max-bytes", "1099511627776"},
                   "left: ask for less, or give it more; --max-bytes is 1099511627776");
  }
}

// Its memory has no name from the beginning on.
TEST(CliBench, a_signal_ends_it_and_nothing_is_left) {
  Program program(endless());
  std::map<int, pid_t> ranks;
  while (ranks.size() < 3) {
    const auto event = program.event("rank");
    ASSERT_TRUE(event) << program.errors();
    ranks[(*event)["rank"]] = (*event)["pid"];
  }
  std::ifstream maps("/proc/" + std::to_string(ranks[1]) + "/maps");
  const std::string mapped{std::istreambuf_iterator<char>(maps), {}};
  EXPECT_NE(mapped.find("heddle"), std::string::npos);
  EXPECT_EQ(mapped.find("/dev/shm/"), std::string::npos) << mapped;
  program.send(SIGINT);
  EXPECT_EQ(program.join(), 128 + SIGINT);
  EXPECT_EQ(program.errors(), "");
  expect_gone(ranks);
}

TEST(CliBench, a_killed_rank_ends_it_and_is_named) {
  for (const int victim : {0, 2}) {
    Program program(long_one());
    const auto ranks = ranks_of(program, 3);
    const pid_t pid = ranks.at(victim);
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    EXPECT_EQ(program.join(), 1);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
    const std::string words = "rank " + std::to_string(victim) + " (process " +
                              std::to_string(pid) +
                              ") was killed by signal 9 (Killed) at allreduce";
    EXPECT_NE(program.errors().find(words), std::string::npos) << program.errors();
    EXPECT_EQ(std::count(program.errors().begin(), program.errors().end(), '\n'), 1);
    expect_gone(ranks);
  }
}

}  // namespace
}  // namespace heddle
