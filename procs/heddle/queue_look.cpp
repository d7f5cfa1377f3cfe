#include "queue_look.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <utility>
#include <vector>

#include "heddle/base/error.hpp"
#include "option_checks.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;

// What happened in one second, more or less.
struct Rates {
  double pushed;
  double popped;
};

double oldest_s(const QueueStats& stats) {
  if (stats.now.oldest_ns == 0) return 0;
  return static_cast<double>(monotonic_ns() - stats.now.oldest_ns) / 1e9;
}

std::string json(const QueueStats& stats, const QueueShape& shape, const Rates* rates) {
  Json event{{"event", "stats"},
             {"waiting", stats.now.waiting},
             {"leased", stats.now.leased},
             {"filling", stats.now.filling},
             {"retried", stats.now.retried},
             {"dead_letters", stats.now.dead},
             {"oldest_s", stats.now.oldest_ns == 0 ? Json(nullptr) : Json(oldest_s(stats))},
             {"closed", stats.closed},
             {"capacity", stats.capacity},
             {"lanes", shape.lanes},
             {"max_tries", shape.ring.max_tries},
             {"lease_timeout_ms", shape.ring.lease_timeout_ms},
             {"result_bytes", shape.result_bytes},
             {"pushed", stats.pushed},
             {"popped", stats.popped},
             {"abandoned", stats.abandoned},
             {"skipped", stats.skipped},
             {"recovered", stats.recovered},
             {"expired", stats.expired},
             {"died", stats.died},
             {"results_expired", stats.results_expired}};
  if (rates != nullptr) {
    event["pushed_per_second"] = rates->pushed;
    event["popped_per_second"] = rates->popped;
  }
  return line_of(event);
}

std::string page(const QueueAddress& address, const QueueStats& stats, const QueueShape& shape) {
  std::string text = fmt::format(
      "{}: {}, {} of {} slots taken", address.text(), stats.closed ? "closed" : "open",
      stats.now.waiting + stats.now.leased + stats.now.filling + stats.now.dead, stats.capacity);
  if (shape.lanes > 1) text += fmt::format(" in {} lanes", shape.lanes);
  text += fmt::format("\n  waiting       {}", stats.now.waiting);
  if (stats.now.oldest_ns != 0) text += fmt::format(", the oldest for {:.1f} s", oldest_s(stats));
  text += fmt::format("\n  leased        {}\n", stats.now.leased);
  if (stats.now.filling != 0) text += fmt::format("  being pushed  {}\n", stats.now.filling);
  text += fmt::format(
      "  tried again   {} of these{}\n", stats.now.retried,
      shape.ring.max_tries == 0 ? "" : fmt::format(", up to {} times each", shape.ring.max_tries));
  text += fmt::format("  dead letters  {}\n", stats.now.dead);
  text += fmt::format(
      "since it was made: pushed {}, popped {}; taken from the dead {}, from the late {}; dead "
      "letters {}\n  slots gone past: of slow producers {}, of long leases {}",
      stats.pushed, stats.popped, stats.recovered, stats.expired, stats.died, stats.abandoned,
      stats.skipped);
  if (shape.results != 0) {
    text += fmt::format("; results that went before they were read {}", stats.results_expired);
  }
  return text + "\n";
}

std::string line(const QueueStats& stats, const Rates& rates) {
  std::string text =
      fmt::format("waiting {}  leased {}  pushed {:.1f}/s  popped {:.1f}/s  dead letters {}",
                  stats.now.waiting, stats.now.leased, rates.pushed, rates.popped, stats.now.dead);
  if (stats.now.oldest_ns != 0) text += fmt::format("  oldest {:.1f} s", oldest_s(stats));
  if (stats.recovered != 0) text += fmt::format("  recovered {}", stats.recovered);
  if (stats.expired != 0) text += fmt::format("  expired {}", stats.expired);
  return text + (stats.closed ? "  closed\n" : "\n");
}

int watch(const QueueStatsOptions& options, const QueueAddress& address, Output& output) {
  QueueStats before = observe_queue(address).queue.core.stats();
  for (std::int64_t then = monotonic_ns();;) {
    output.pause(1s / 1ns);
    // Anew each time: what it has looked into may be gone, and another of the name be there.
    const ObservedQueue seen = observe_queue(address);
    const QueueStats stats = seen.queue.core.stats();
    const std::int64_t now = monotonic_ns();
    const auto rate = [&](std::uint64_t old, std::uint64_t fresh) {
      return fresh < old ? 0
                         : static_cast<double>(fresh - old) * 1e9 / static_cast<double>(now - then);
    };
    const Rates rates{rate(before.pushed, stats.pushed), rate(before.popped, stats.popped)};
    output.write(options.json ? json(stats, seen.queue.core.shape(), &rates) : line(stats, rates));
    before = stats;
    then = now;
  }
}

int stats(const QueueStatsOptions& options, StopSignals& signals) {
  const QueueAddress address = parse_queue_address(options.queue);
  Output output("-", signals);
  if (options.watch) return watch(options, address, output);
  const ObservedQueue seen = observe_queue(address);
  const QueueShape& shape = seen.queue.core.shape();
  output.write(options.json ? json(seen.queue.core.stats(), shape, nullptr)
                            : page(address, seen.queue.core.stats(), shape));
  return 0;
}

int no_result(const std::string& why) {
  std::fprintf(stderr, "heddle: %s\n", why.c_str());
  return 1;
}

int result(const QueueResultOptions& options, StopSignals& signals) {
  const QueueAddress address = parse_queue_address(options.queue);
  ObservedQueue seen = observe_queue(address);
  QueueCore& core = seen.queue.core;
  if (!core.keeps_results()) {
    throw Error(Errc::invalid_argument,
                fmt::format("{} keeps no results: make it with --results BYTES", address.text()));
  }
  std::vector<std::byte> value(core.shape().result_bytes);
  std::size_t length = 0;
  const Deadline deadline = Deadline::after(seconds(options.wait));
  Status got = core.result(options.id, value, length, Deadline::now());
  while (got == Status::timeout && deadline.left(monotonic_ns()) > 0) {
    wait_for_descriptor(-1, 0, 0, signals);
    got = core.result(options.id, value, length, Deadline::after(20ms));
  }
  const std::string task = fmt::format("task {} of {}", options.id, address.text());
  switch (got) {
    case Status::ready:
      break;
    case Status::failed:
      return no_result(
          fmt::format("{} has failed: \"heddle queue dead {}\" says why", task, address.text()));
    case Status::expired:
      return no_result(fmt::format("the result of {} is gone: later ones have its place", task));
    case Status::invalid:
      return no_result(fmt::format("there was no {} yet", task));
    default:
      return no_result(fmt::format("{} has no result yet; --wait SECONDS waits for it", task));
  }
  const auto bytes = std::span<const std::byte>(value).first(std::min(length, value.size()));
  Output output("-", signals);
  if (options.json) {
    Json event{{"event", "result"}, {"id", options.id}};
    put_bytes(event, "result", bytes);
    output.write(line_of(event));
  } else {
    output.write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }
  return 0;
}

}  // namespace

ObservedQueue observe_queue(const QueueAddress& address) {
  const auto open = [&] {
    try {
      return Observer::open(address.segment);
    } catch (const Error& error) {
      if (error.code() != Errc::not_found) throw;
      throw_no_queue(address, nullptr);
    }
  };
  Observer observer = open();
  auto queue = find_queue(observer.directory(), observer.peers(), address);
  if (!queue) throw_no_queue(address, &observer.directory());
  return {std::move(observer), std::move(*queue)};
}

void add_queue_stats(CLI::App& queue, QueueStatsOptions& options) {
  CLI::App* stats = queue.add_subcommand("stats", "say what a queue holds, of any type of tasks");
  stats->add_option("SEGMENT/QUEUE", options.queue, queue_address_help)->required()->type_name("");
  stats->add_flag("--watch", options.watch, "print a line each second, with rates, until Ctrl-C");
  stats->add_flag("--json", options.json, "print one JSON object a line");
  stats->footer(
      "It only looks, and takes no place in the segment. A push or pop that is counted is one "
      "that\n"
      "was begun.");
}

void add_queue_result(CLI::App& queue, QueueResultOptions& options) {
  CLI::App* result = queue.add_subcommand("result", "print what a task has come to");
  result->add_option("SEGMENT/QUEUE", options.queue, queue_address_help)->required()->type_name("");
  result->add_option("ID", options.id, "the task's, as push --json prints it")
      ->required()
      ->type_name("");
  result->add_option("--wait", options.wait, "seconds to wait for it [0]");
  result->add_flag("--json", options.json, "print one JSON object a line");
  check_whole(*result, {"ID"});
  check_decimal(*result, {"--wait"});
  result->footer(
      "The queue must keep results (push --results). Each stays until as many tasks as the queue "
      "has\n"
      "slots were pushed after it. Ends with 1 when there is none.");
}

int queue_stats(const QueueStatsOptions& options) {
  return run_until_stopped([&](StopSignals& signals) { return stats(options, signals); });
}

int queue_result(const QueueResultOptions& options) {
  if (!(options.wait >= 0)) throw Error(Errc::invalid_argument, "--wait must be 0 or more seconds");
  return run_until_stopped([&](StopSignals& signals) { return result(options, signals); });
}

}  // namespace heddle
