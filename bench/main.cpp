// heddle_bench: parses, measures, reports. README.md beside this file says what and how.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "queue_death.hpp"
#include "report.hpp"
#include "suites.hpp"

namespace {

using namespace heddle::bench;

constexpr int failed = 1;
constexpr int bad_usage = 2;
constexpr bool has_peers = HEDDLE_BENCH_PEERS;

struct Options {
  std::vector<std::string> suites;
  std::string filter;
  std::string json;
  std::string table;
  Plan plan;
  double seconds = Plan{}.time.count();
  bool peers = false;
  bool list = false;
};

struct Suite {
  const char* name;
  std::vector<Entry> (*entries)();
};
constexpr Suite all_suites[] = {{"slot", slot_suite},
                                {"task_queue", task_queue_suite},
                                {"barrier", barrier_suite},
                                {"collective", collective_suite},
                                {"uncontended", uncontended_suite},
                                {"copy", copy_suite}};

/// Returns an exit code when there is nothing to run.
std::optional<int> parse(int argc, char** argv, Options& options) {
  CLI::App app{"Measures Heddle's mechanisms between processes, beside their peers.",
               "heddle_bench"};
  std::vector<std::string> names;
  for (const Suite& suite : all_suites) names.emplace_back(suite.name);
  app.add_option("--suite", options.suites, "only these suites")
      ->type_name("NAME")
      ->check(CLI::IsMember(names));
  app.add_option("--case", options.filter, "only cases with this in their name")
      ->type_name("FILTER");
  app.add_flag("--peers", options.peers, "measure what people use instead, too");
  app.add_option("--runs", options.plan.runs, "samples of each contender")
      ->type_name("N")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "begin no new round after this time")
      ->type_name("S")
      ->check(CLI::Range(0.0, 86'400.0))
      ->capture_default_str();
  app.add_option("--json", options.json, "write the rows to this file too; - for standard output")
      ->type_name("FILE");
  app.add_option("--table", options.table,
                 "\"collective\": that suite, in tables as the OSU micro-benchmarks print them")
      ->type_name("NAME")
      ->check(CLI::IsMember({"collective"}));
  app.add_flag("--list", options.list, "name the cases and their implementations, and end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "heddle_bench: {}\n", error.what());
    return bad_usage;
  }
  if (options.peers && !has_peers) {
    fmt::print(stderr,
               "heddle_bench: this program was built without the peers: \"./dev bench --peers\" "
               "installs them and builds it with them\n");
    return bad_usage;
  }
  if (!options.table.empty()) options.suites = {options.table};
  options.plan.time = std::chrono::duration<double>(options.seconds);
  return std::nullopt;
}

/// Says what is not measured, and why: once.
class LeftOut {
 public:
  void add(const std::string& what, const std::string& why) {
    std::string line = fmt::format("heddle_bench: {} is left out: {}\n", what, why);
    if (said_.insert(line).second) fmt::print(stderr, "{}", line);
  }

 private:
  std::set<std::string> said_;
};

std::vector<Entry> chosen(const Options& options) {
  std::vector<Entry> entries;
  LeftOut left_out;
  for (const Suite& suite : all_suites) {
    if (!options.suites.empty() &&
        std::ranges::find(options.suites, suite.name) == options.suites.end()) {
      continue;
    }
    for (Entry& entry : suite.entries()) {
      if (entry.peer && !options.peers) continue;
      if (entry.label.name.find(options.filter) == std::string::npos) continue;
      if (!entry.missing.empty()) {
        left_out.add(entry.label.impl, entry.missing);
        continue;
      }
      if (entry.processors > processors().size()) {
        left_out.add(
            fmt::format("what of {} needs {} processors", entry.label.suite, entry.processors),
            fmt::format("here are {}", processors().size()));
        continue;
      }
      entries.push_back(std::move(entry));
    }
  }
  return entries;
}

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::string_view(argv[1]) == SupervisedHolder::argument) {
    SupervisedHolder::work();
    return 0;
  }
  Options options;
  if (const auto code = parse(argc, argv, options)) return *code;

  const std::vector<Entry> entries = chosen(options);
  if (entries.empty()) {
    fmt::print(stderr, "heddle_bench: no case has \"{}\" in its name: --list names them\n",
               options.filter);
    return bad_usage;
  }
  if (options.list) {
    for (const Entry& entry : entries) fmt::print("{}  {}\n", entry.label.name, entry.label.impl);
    return 0;
  }

  // Opened first: a run of minutes should not end with a result that cannot be written.
  const bool json_on_stdout = options.json == "-";
  File json(nullptr, std::fclose);
  if (!options.json.empty() && !json_on_stdout) {
    json.reset(std::fopen(options.json.c_str(), "we"));
    if (!json) {
      fmt::print(stderr, "heddle_bench: cannot write {}: {}\n", options.json, std::strerror(errno));
      return bad_usage;
    }
  }
  if (processors().size() < 2) {
    fmt::print(stderr,
               "heddle_bench: only one processor: processes take turns on it, and nothing "
               "here says how fast two cores would be\n");
  }

  try {
    const Report result = report(measure(entries, options.plan));
    fmt::print(json_on_stdout ? stderr : stdout, "{}",
               options.table.empty() ? table(result) : collective_tables(result));
    if (json_on_stdout) fmt::print("{}\n", to_json(result.rows).dump(2));
    if (json) {
      fmt::print(json.get(), "{}\n", to_json(result.rows).dump(2));
      if (std::fclose(json.release()) != 0) {
        throw Failure(fmt::format("cannot write {}: {}", options.json, std::strerror(errno)));
      }
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "heddle_bench: {}\n", error.what());
    return failed;
  }
  return 0;
}
