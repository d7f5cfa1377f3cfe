#include "storm_command.hpp"

#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "heddle/base/error.hpp"
#include "option_checks.hpp"
#include "status_line.hpp"
#include "storm_group.hpp"
#include "storm_queue.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

constexpr std::int64_t round_ns =
    5'000'000'000;  // then all is accounted for, and the other's begins

class Storm {
 public:
  Storm(const StormOptions& options, StopSignals& signals)
      : options_(options),
        signals_(signals),
        output_("-", signals),
        seed_(options.seed ? *options.seed : std::random_device{}()) {}

  int run() {
    std::mt19937_64 random(seed_);
    const std::int64_t end = began_ + static_cast<std::int64_t>(options_.seconds * 1e9);
    std::string violated;
    // Each in turn, and both of them also in a short storm.
    const std::int64_t each = std::min(round_ns, (end - began_) / 2);
    for (bool on_queue = true; violated.empty() && monotonic_ns() < end; on_queue = !on_queue) {
      const std::unique_ptr<StormRound> round = begin(on_queue, random);
      round->rage(std::min(monotonic_ns() + each, end), [&](std::uint64_t done) {
        if (const int signal = signals_.take()) throw Stopped{signal};
        if (status_.is_due()) show(on_queue ? done : 0, on_queue ? 0 : done);
      });
      violated = round->account();
    }
    status_.clear();
    tell(violated);
    if (violated.empty()) return 0;
    std::fprintf(stderr, "heddle: the storm has found a violation: %s; again with --seed %llu\n",
                 violated.c_str(), static_cast<unsigned long long>(seed_));
    return 1;
  }

 private:
  double elapsed() const { return static_cast<double>(monotonic_ns() - began_) / 1e9; }
  double kills_per_second() const { return static_cast<double>(totals_.killed()) / elapsed(); }

  std::unique_ptr<StormRound> begin(bool on_queue, std::mt19937_64& random) {
    if (on_queue) return std::make_unique<StormOnQueue>(random, options_.lies == "queue", totals_);
    return std::make_unique<StormOnGroup>(random, options_.lies == "group", totals_);
  }

  // What the present round has done comes to the totals at its end.
  void show(std::uint64_t tasks, std::uint64_t reductions) {
    status_.draw(fmt::format("{:.0f}/{:g} s  {} kills ({:.0f}/s)  {:.2f} M tasks  {:.1f} k sums",
                             elapsed(), options_.seconds, totals_.killed(), kills_per_second(),
                             static_cast<double>(totals_.acknowledged + tasks) / 1e6,
                             static_cast<double>(totals_.reductions + reductions) / 1e3));
  }

  void tell(const std::string& violated) {
    using Json = nlohmann::ordered_json;
    const std::uint64_t producers = totals_.killed(StormRole::producer);
    const std::uint64_t consumers = totals_.killed(StormRole::consumer);
    const std::uint64_t recoverers = totals_.killed(StormRole::recoverer);
    const std::uint64_t members = totals_.killed(StormRole::member);
    if (options_.json) {
      const Json event{{"event", "end"},
                       {"seed", seed_},
                       {"seconds", elapsed()},
                       {"kills", totals_.killed()},
                       {"kills_per_second", kills_per_second()},
                       {"producers_killed", producers},
                       {"consumers_killed", consumers},
                       {"recoverers_killed", recoverers},
                       {"members_killed", members},
                       {"tasks", totals_.acknowledged},
                       {"done_again", totals_.again},
                       {"slots_recovered", totals_.recovered},
                       {"sums", totals_.reductions},
                       {"epochs", totals_.epochs},
                       {"violation", violated.empty() ? Json(nullptr) : Json(violated)}};
      return output_.write(event.dump() + "\n");
    }
    output_.write(fmt::format(
        "{:.1f} s, seed {}: {} kills ({:.0f}/s) of {} producers, {} consumers, {} members of a "
        "group, "
        "{} recoverers\n"
        "{} tasks were acknowledged; {} were done again; {} slots were taken from the dead\n"
        "{} sums were made by the members, in {} epochs\n",
        elapsed(), seed_, totals_.killed(), kills_per_second(), producers, consumers, members,
        recoverers, totals_.acknowledged, totals_.again, totals_.recovered, totals_.reductions,
        totals_.epochs));
    if (!violated.empty()) return;
    output_.write(
        "held: every acknowledged task was done, none again but those of killed consumers, no slot "
        "is lost;\n"
        "every sum is that of all members, survivors are told the same, no place is lost\n");
  }

  const StormOptions& options_;
  StopSignals& signals_;
  Output output_;
  StatusLine status_;
  const std::uint64_t seed_;
  const std::int64_t began_ = monotonic_ns();
  StormTotals totals_;
};

}  // namespace

CLI::App* add_storm_command(CLI::App& app, StormOptions& options) {
  CLI::App* storm =
      app.add_subcommand("storm", "kill processes that share a queue, or a group, and account");
  storm->add_option("--seconds", options.seconds, "how long")->capture_default_str();
  storm->add_option("--seed", options.seed, "whom it kills and when [drawn]");
  storm->add_flag("--json", options.json, "print one JSON object");
  storm->add_option("--lies", options.lies)->group("");  // for a test
  check_whole(*storm, {"--seed"});
  check_decimal(*storm, {"--seconds"});
  storm->footer(
      "Producers, consumers and recoverers on a task queue, and in turn members of a group that "
      "add "
      "up\n"
      "numbers, are killed with SIGKILL, some hundred a second, and started again. At the end "
      "every "
      "task\n"
      "whose push was acknowledged was done, none again but those that a killed consumer had, and "
      "no "
      "slot\n"
      "of the queue is lost; and every sum was that of all members, and survivors were told the "
      "same.\n"
      "If not, it says what was violated, and ends with 1.");
  return storm;
}

int storm_command(const StormOptions& options) {
  if (!(options.seconds > 0 && options.seconds <= 1e6)) {
    throw Error(Errc::invalid_argument, "--seconds must be above 0, and 1000000 at most");
  }
  signal(SIGCHLD, SIG_DFL);  // were it ignored, the kernel would take how they ended
  return run_until_stopped([&](StopSignals& signals) { return Storm(options, signals).run(); });
}

}  // namespace heddle
