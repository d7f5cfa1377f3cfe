#include "queue_work.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "guardian.hpp"
#include "handler.hpp"
#include "heddle/base/error.hpp"
#include "open_queue.hpp"
#include "option_checks.hpp"
#include "streams.hpp"
#include "work_report.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;

constexpr auto idle_look = 20ms;  // for a signal, when a task wakes us
constexpr auto busy_look = 5ms;   // for a task, when handlers and signals wake us
constexpr auto full_look = 100ms;
constexpr auto grace = 2s;  // from SIGTERM to SIGKILL
constexpr double longest_backoff = 300;
constexpr std::size_t most_printed = std::size_t{1} << 30;

// Before any task is taken: a start that fails costs it a try.
std::string runnable(const std::string& handler) {
  std::string program = find_program(handler);
  if (access(program.c_str(), X_OK) != 0) {
    throw_system_error("cannot run the handler \"" + handler + "\"", errno);
  }
  return program;
}

class Work {
 public:
  Work(const QueueWorkOptions& options, StopSignals& signals)
      : options_(options),
        signals_(signals),
        address_(parse_queue_address(options.queue)),
        program_(runnable(options.handler.front())),
        report_(options.json, signals),
        joined_(join()),
        queue_(joined_.queue().of_bytes(address_, joined_.segment().peers(), "work")),
        handlers_(options.workers.value_or(std::max(1U, std::thread::hardware_concurrency()))) {
    report_.clear();
    queue_.wait_strategy(WaitStrategy::sleep);
    extend_ns_ = static_cast<std::int64_t>(queue_.shape().ring.lease_timeout_ms) * 1'000'000 / 4;
  }

  int run() {
    try {
      while (look_after_handlers(), take_tasks()) {
        tell_progress();
        wait();
      }
      report_.end();
      return report_.dead() == 0 ? 0 : 1;
    } catch (const Stopped&) {
      report_.clear();
      give_back();
      joined_.interrupted(address_);
      throw;
    }
  }

 private:
  JoinedQueue join() {
    if (options_.once) return join_queue(address_);
    report_.waiting(address_.text());
    return await_queue(address_, Deadline::never(), signals_);
  }

  std::size_t running() const {
    const auto runs = [](const auto& handler) { return handler != nullptr; };
    return static_cast<std::size_t>(std::count_if(handlers_.begin(), handlers_.end(), runs));
  }

  // As many as there are handlers for. False: it is the end.
  bool take_tasks() {
    for (std::size_t place = 0; place < handlers_.size(); ++place) {
      if (handlers_[place]) continue;
      const bool is_idle = running() == 0;
      Task<bytes> task =
          queue_.pop(is_idle && !options_.once ? Deadline::after(idle_look) : Deadline::now());
      if (task) {
        guardian_.look_after();
        handlers_[place] = std::make_unique<Handler>(std::move(task), program_, options_.handler,
                                                     guardian_, place);
        report_.started(handlers_[place]->task(), handlers_[place]->child().pid());
        continue;
      }
      if (!is_idle) return true;
      if (task.status() == Status::closed) return false;
      return !options_.once || queue_.count().waiting != 0;  // these are not due yet
    }
    return true;
  }

  void look_after_handlers() {
    const std::int64_t now = monotonic_ns();
    const bool extends = extend_ns_ != 0 && now >= next_extend_;
    if (extends) next_extend_ = now + extend_ns_;
    for (auto& handler : handlers_) {
      if (!handler) continue;
      if (handler->child().has_ended()) {
        judge(*handler, handler->reap());
        handler.reset();
      } else if (extends && handler->task().extend() != Status::ready) {
        report_.lost(handler->task().id(), handler->task().tries());
        handler.reset();  // killed: another has the task
      } else if (handler->printed() > most_printed_by_one()) {
        handler->kill();
      }
    }
  }

  void tell_progress() {
    const std::int64_t now = monotonic_ns();
    if (!report_.is_due() || now < next_stats_) return;
    const QueueStats stats = queue_.stats();
    next_stats_ = now + 20 * (monotonic_ns() - now);  // a large queue is not looked at all the time
    report_.progress(running(), stats);
  }

  std::size_t most_printed_by_one() const {
    return keeps_results() ? queue_.shape().result_bytes : most_printed;
  }
  bool keeps_results() const { return queue_.shape().results != 0; }

  void judge(Handler& handler, const Ending& ending) {
    Task<bytes>& task = handler.task();
    const TaskId id = task.id();
    const std::uint64_t tries = task.tries();
    if (!ending.not_started.empty()) {
      static_cast<void>(task.release());
      throw Error(Errc::not_found, "cannot run the handler " + ending.not_started);
    }
    std::string reason;
    if (ending.code != 0) reason = fmt::format("exit {}", ending.code);
    if (ending.signal != 0) reason = fmt::format("signal {}", ending.signal);
    if (const std::size_t printed = handler.printed(); printed > most_printed_by_one()) {
      reason = fmt::format("output above {} bytes", most_printed_by_one());
      return fail(task, id, tries, reason, {});
    }
    const std::vector<std::byte> output = handler.output();
    if (!reason.empty()) return fail(task, id, tries, reason, output);
    if (!keeps_results()) {
      report_.done(id, tries, handler.seconds(), output);  // first: who reads it may be gone
      if (task.complete() != Status::ready) report_.lost(id, tries);
    } else if (task.complete(output) == Status::ready) {
      report_.done(id, tries, handler.seconds(), {});
    } else {
      report_.lost(id, tries);
    }
  }

  bool is_last(std::uint64_t tries) const {
    const std::uint32_t most = queue_.shape().ring.max_tries;
    return most != 0 && tries % most == 0;
  }

  void fail(Task<bytes>& task, TaskId id, std::uint64_t tries, const std::string& reason,
            std::span<const std::byte> output) {
    const LeaseRingShape& ring = queue_.shape().ring;
    const double doubled =
        std::ldexp(options_.backoff, static_cast<int>(std::min<std::uint64_t>(tries, 30)) - 1);
    const double again =
        is_last(tries) ? -1 : (ring.notes ? std::min(doubled, longest_backoff) : 0);
    if (task.fail(reason, seconds(std::max(again, 0.0))) == Status::ready) {
      report_.failed(id, tries, reason, again, output);
    } else {
      report_.lost(id, tries);
    }
  }

  // Until a handler ends, or it is time to look.
  void wait() {
    std::vector<pollfd> watched{{signals_.fd(), POLLIN, 0}};
    for (const auto& handler : handlers_) {
      if (handler) watched.push_back({handler->child().pidfd(), POLLIN, 0});
    }
    std::int64_t most = (watched.size() > handlers_.size() ? full_look : busy_look) / 1ns;
    if (watched.size() == 1) most = options_.once ? busy_look / 1ns : 0;  // pop has waited
    if (extend_ns_ != 0) most = std::min(most, std::max<std::int64_t>(extend_ns_, 1'000'000));
    const timespec time{0, most};
    ppoll(watched.data(), watched.size(), &time, nullptr);
    if (const int signal = signals_.take()) throw Stopped{signal};
  }

  // Asks the handlers to end, and kills those that have not ended after `grace`, or when another
  // signal comes. Who has done its task, has.
  void give_back() {
    std::uint64_t given_back = 0;
    std::uint64_t dead = 0;
    for (const auto& handler : handlers_) {
      if (handler) handler->child().send_all(SIGTERM);
    }
    const Deadline deadline = Deadline::after(grace);
    while (running() != 0) {
      const bool late = deadline.left(monotonic_ns()) <= 0 || signals_.take() != 0;
      for (auto& handler : handlers_) {
        if (!handler || (!late && !handler->child().has_ended())) continue;
        if (late) handler->kill();
        const Ending ending = handler->reap();
        const std::size_t printed = handler->printed();
        const bool is_done = ending.code == 0 && ending.signal == 0 && ending.not_started.empty() &&
                             printed <= (keeps_results() ? most_printed_by_one() : 0);
        Task<bytes>& task = handler->task();
        if (!is_done || task.complete(handler->output()) != Status::ready) {
          const bool last = is_last(task.tries());
          if (task.release() == Status::ready) ++(last ? dead : given_back);
        }
        handler.reset();
      }
      const timespec pause{0, 1'000'000};
      if (running() != 0) nanosleep(&pause, nullptr);
    }
    const auto tell = [&](std::uint64_t count, const char* what) {
      if (count == 0) return;
      std::fprintf(stderr, "heddle: %llu task%s of %s %s\n", static_cast<unsigned long long>(count),
                   count == 1 ? "" : "s", address_.text().c_str(), what);
    };
    tell(given_back, "given back");
    tell(dead, "ended at the last try; see heddle queue dead");
  }

  const QueueWorkOptions& options_;
  StopSignals& signals_;
  const QueueAddress address_;
  const std::string program_;
  Guardian guardian_;
  WorkReport report_;
  JoinedQueue joined_;
  TaskQueue<bytes> queue_;
  std::vector<std::unique_ptr<Handler>> handlers_;
  std::int64_t extend_ns_ = 0;  // between two; 0: leases have no end
  std::int64_t next_extend_ = 0;
  std::int64_t next_stats_ = 0;
};

}  // namespace

void add_queue_work(CLI::App& queue, QueueWorkOptions& options) {
  CLI::App* work = queue.add_subcommand("work", "run a program for each task");
  work->add_option("SEGMENT/QUEUE", options.queue, queue_address_help)->required()->type_name("");
  work->add_option("HANDLER", options.handler,
                   "the program, with its arguments; write -- in front of it")
      ->required()
      ->type_name("");
  work->add_option("-n,--workers", options.workers, "tasks at a time [the number of cores]");
  work->add_option("--backoff", options.backoff,
                   "seconds before a task that failed is tried again; doubled at each try")
      ->capture_default_str();
  work->add_flag("--once", options.once,
                 "end when nothing waits [when the queue is closed and all is done]");
  work->add_flag("--json", options.json, "print one JSON object a line");
  check_whole(*work, {"--workers"});
  check_decimal(*work, {"--backoff"});
  work->footer(
      "The handler gets the task on its standard input, and HEDDLE_TASK_ID and HEDDLE_TASK_TRIES. "
      "Exit\n"
      "code 0: the task is done; what it printed is the result if the queue keeps results, else it "
      "is\n"
      "printed. Anything else: the task has failed, is tried again, and after its last try is a "
      "dead\n"
      "letter (heddle queue dead). Waits for the queue if there is none yet. kill -9: the "
      "handlers\n"
      "end, too, and their tasks go to others: so a task may be begun twice, and is done at least "
      "once.\n"
      "Ctrl-C: handlers end within two seconds, their tasks are given back; a try is used.\n"
      "Ends with 1 if some became dead letters.");
}

int queue_work(const QueueWorkOptions& options) {
  if (options.workers && (*options.workers == 0 || *options.workers > Guardian::most / 4)) {
    throw Error(Errc::invalid_argument,
                fmt::format("--workers must be 1 to {}", Guardian::most / 4));
  }
  if (!(options.backoff >= 0 && options.backoff <= longest_backoff)) {
    throw Error(Errc::invalid_argument,
                fmt::format("--backoff must be 0 to {} seconds", longest_backoff));
  }
  signal(SIGCHLD, SIG_DFL);  // were it ignored, the kernel would take the exit codes
  return run_until_stopped([&](StopSignals& signals) { return Work(options, signals).run(); });
}

}  // namespace heddle
