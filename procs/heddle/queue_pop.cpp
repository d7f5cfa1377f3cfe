#include "queue_pop.hpp"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "heddle/base/error.hpp"
#include "open_queue.hpp"
#include "option_checks.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;

std::string form_of(const QueuePopOptions& options, const Task<bytes>& task) {
  const std::span<const std::byte> payload = task.payload();
  if (options.json) {
    Json event{{"event", "task"}, {"id", task.id()}, {"tries", task.tries()}};
    put_bytes(event, "payload", payload);
    return line_of(event);
  }
  std::string text(reinterpret_cast<const char*>(payload.data()), payload.size());
  return options.bytes ? text : text + "\n";
}

int pop(const QueuePopOptions& options, StopSignals& signals) {
  const QueueAddress address = parse_queue_address(options.queue);
  const auto wait = seconds(options.wait);
  Output output("-", signals);
  JoinedQueue joined = await_queue(address, Deadline::after(wait), signals);
  auto queue = joined.queue().of_bytes(address, joined.segment().peers(), "pop");
  queue.wait_strategy(WaitStrategy::sleep);
  std::uint64_t popped = 0;
  Deadline deadline = Deadline::after(wait);
  Status why = Status::ready;
  while (popped < options.count && why != Status::closed) {
    const std::int64_t left = deadline.left(monotonic_ns());
    Task<bytes> task = queue.pop(
        Deadline::after(std::min(std::chrono::nanoseconds(left), std::chrono::nanoseconds(20ms))));
    why = task.status();
    if (task) {
      output.write(form_of(options, task));  // if nobody reads it, it goes back to the queue
      if (task.complete() != Status::ready) {
        throw Error(Errc::timeout,
                    fmt::format("task {} was taken from us before it was printed: we were late",
                                task.id()));
      }
      ++popped;
      deadline = Deadline::after(wait);
    } else if (left <= 0) {
      break;
    }
    output.pause(0);
  }
  if (popped != 0 || options.count == 0) return 0;
  std::fprintf(stderr, "heddle: %s %s\n", address.text().c_str(),
               why == Status::closed ? "is closed, and all its tasks are done"
               : options.wait > 0    ? "had no task in time"
                                     : "has no task now; --wait SECONDS waits for one");
  return 1;
}

}  // namespace

void add_queue_pop(CLI::App& queue, QueuePopOptions& options) {
  CLI::App* pop = queue.add_subcommand("pop", "print tasks, which are done then");
  pop->add_option("SEGMENT/QUEUE", options.queue, queue_address_help)->required()->type_name("");
  pop->add_option("-n,--count", options.count, "end after so many tasks")->capture_default_str();
  pop->add_option("--wait", options.wait, "seconds to wait for each, or for the queue to come [0]");
  CLI::Option* json = pop->add_flag("--json", options.json, "print one JSON object a line");
  pop->add_flag("--bytes", options.bytes, "print the tasks alone, without an end of line")
      ->excludes(json);
  check_whole(*pop, {"--count"});
  check_decimal(*pop, {"--wait"});
  pop->footer(
      "A task is done when it is written: one whose pop was killed, or that nobody could read, is\n"
      "in the queue again. Ends with 1 when there was none.");
}

int queue_pop(const QueuePopOptions& options) {
  if (!(options.wait >= 0)) throw Error(Errc::invalid_argument, "--wait must be 0 or more seconds");
  return run_until_stopped([&](StopSignals& signals) { return pop(options, signals); });
}

}  // namespace heddle
