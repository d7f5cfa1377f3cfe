#include "queue_dead.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <vector>

#include "heddle/base/error.hpp"
#include "open_queue.hpp"
#include "option_checks.hpp"
#include "queue_look.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

int list(const QueueDeadOptions& options, const QueueAddress& address, StopSignals& signals) {
  Output output("-", signals);
  for (const DeadLetter& letter : observe_queue(address).queue.core.dead_letters()) {
    if (options.json) {
      output.write(line_of({{"event", "dead_letter"},
                            {"id", letter.id},
                            {"tries", letter.tries},
                            {"worker", letter.worker},
                            {"reason", letter.reason}}));
    } else {
      output.write(fmt::format("task {}: {} tr{}, at last by process {}: {}\n", letter.id,
                               letter.tries, letter.tries == 1 ? "y" : "ies", letter.worker,
                               letter.reason.empty() ? "it died, or was too late" : letter.reason));
    }
  }
  return 0;
}

std::vector<TaskId> chosen(const std::string& text, const QueueCore& core) {
  std::vector<TaskId> ids;
  if (text == "all") {
    for (const DeadLetter& letter : core.dead_letters()) ids.push_back(letter.id);
    return ids;
  }
  TaskId id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw Error(Errc::invalid_argument,
                fmt::format("\"{}\" is no task's id: give a number, or all", text));
  }
  return {id};
}

int change(const QueueDeadOptions& options, const QueueAddress& address, StopSignals& signals) {
  JoinedQueue joined = join_queue(address);
  QueueCore& core = joined.queue().core;
  const bool retries = !options.retry.empty();
  const std::string& which = retries ? options.retry : options.drop;
  std::uint64_t changed = 0;
  for (const TaskId id : chosen(which, core)) {
    const Status got = retries ? core.retry(id) : core.drop(id);
    if (got == Status::closed) {
      throw Error(
          Errc::closed,
          fmt::format("{0} is closed, so task {1} cannot be tried again: \"heddle queue reopen "
                      "{0}\" first",
                      address.text(), id));
    }
    if (got == Status::ready) ++changed;
    if (got == Status::ready || which == "all") continue;  // another has been at it
    std::fprintf(
        stderr, "heddle: task %llu of %s is no dead letter: \"heddle queue dead %s\" lists them\n",
        static_cast<unsigned long long>(id), address.text().c_str(), address.text().c_str());
    return 1;
  }
  const char* done = retries ? "retried" : "dropped";
  Output("-", signals)
      .write(options.json ? line_of({{"event", done}, {"count", changed}})
                          : fmt::format("{} {} task{}\n", done, changed, changed == 1 ? "" : "s"));
  return 0;
}

void add(CLI::App& command, std::string& queue) {
  command.add_option("SEGMENT/QUEUE", queue, queue_address_help)->required()->type_name("");
}

}  // namespace

void add_queue_dead(CLI::App& queue, QueueDeadOptions& options) {
  CLI::App* dead = queue.add_subcommand("dead", "list, retry or drop dead letters");
  add(*dead, options.queue);
  CLI::Option* retry =
      dead->add_option("--retry", options.retry, "let this task, or all, be tried again")
          ->type_name("ID|all");
  dead->add_option("--drop", options.drop, "remove this task, or all")
      ->type_name("ID|all")
      ->excludes(retry);
  dead->add_flag("--json", options.json, "print one JSON object a line");
  dead->footer("A task whose last try has failed stays in its slot as a dead letter.");
}

void add_queue_close(CLI::App& queue, QueueCloseOptions& options) {
  CLI::App* close = queue.add_subcommand("close", "take no more tasks; what is there is done");
  add(*close, options.queue);
}

void add_queue_reopen(CLI::App& queue, QueueCloseOptions& options) {
  CLI::App* reopen = queue.add_subcommand("reopen", "take tasks again");
  add(*reopen, options.queue);
}

int queue_dead(const QueueDeadOptions& options) {
  return run_until_stopped([&](StopSignals& signals) {
    const QueueAddress address = parse_queue_address(options.queue);
    const bool lists = options.retry.empty() && options.drop.empty();
    return lists ? list(options, address, signals) : change(options, address, signals);
  });
}

int queue_close(const QueueCloseOptions& options) {
  return run_until_stopped([&](StopSignals&) {
    JoinedQueue joined = join_queue(parse_queue_address(options.queue));
    return joined.queue().core.close() == Status::ready ? 0 : 1;
  });
}

int queue_reopen(const QueueCloseOptions& options) {
  return run_until_stopped([&](StopSignals&) {
    JoinedQueue joined = join_queue(parse_queue_address(options.queue));
    return joined.queue().core.reopen() == Status::ready ? 0 : 1;
  });
}

}  // namespace heddle
