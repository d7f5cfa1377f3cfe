#include "work_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "open_queue.hpp"

namespace heddle {
namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t between_lines = 2 * second;  // where nobody draws again
constexpr std::int64_t between_events = second;

}  // namespace

void WorkReport::waiting(const std::string& queue) {
  if (!json_ && status_.is_due()) status_.draw("waiting for " + queue);
}

void WorkReport::started(const Task<bytes>& task, int pid) {
  if (!json_) return;
  output_.write(
      line_of({{"event", "started"}, {"id", task.id()}, {"tries", task.tries()}, {"pid", pid}}));
}

void WorkReport::print(std::span<const std::byte> output) {
  if (output.empty()) return;
  status_.clear();
  output_.write({reinterpret_cast<const char*>(output.data()), output.size()});
}

void WorkReport::done(TaskId id, std::uint64_t tries, double seconds,
                      std::span<const std::byte> output) {
  ++done_;
  if (!json_) return print(output);
  Json event{{"event", "done"}, {"id", id}, {"tries", tries}, {"seconds", seconds}};
  put_bytes(event, "output", output);
  output_.write(line_of(event));
}

void WorkReport::failed(TaskId id, std::uint64_t tries, const std::string& reason, double again,
                        std::span<const std::byte> output) {
  ++failed_;
  if (again < 0) ++dead_;
  if (!json_) {
    print(output);
    const std::string next =
        again < 0 ? "it is a dead letter"
                  : (again > 0 ? fmt::format("again in {:g} s", again) : "others may have it");
    status_.say(fmt::format("task {} failed at try {} ({}): {}", id, tries, reason, next));
    return;
  }
  Json event{{"event", "failed"}, {"id", id}, {"tries", tries}, {"reason", reason}};
  event["dead"] = again < 0;
  put_bytes(event, "output", output);
  output_.write(line_of(event));
}

void WorkReport::lost(TaskId id, std::uint64_t tries) {
  if (json_) {
    output_.write(line_of({{"event", "lost"}, {"id", id}, {"tries", tries}}));
  } else {
    status_.say(fmt::format("task {} was taken from us: we were late (--lease-timeout)", id));
  }
}

bool WorkReport::is_due() const {
  return status_.is_terminal() && !json_ ? status_.is_due() : monotonic_ns() >= next_line_;
}

double WorkReport::rate() {
  const std::int64_t now = monotonic_ns();
  if (now - since_ >= second || since_ == began_) {
    rate_ = static_cast<double>(done_ - done_then_) * 1e9 / static_cast<double>(now - since_ + 1);
  }
  if (now - since_ >= second) {
    since_ = now;
    done_then_ = done_;
  }
  return rate_;
}

void WorkReport::progress(std::size_t running, const QueueStats& stats) {
  next_line_ = monotonic_ns() + (json_ ? between_events : between_lines);
  if (json_) {
    output_.write(line_of({{"event", "progress"},
                           {"done", done_},
                           {"failed", failed_},
                           {"dead", dead_},
                           {"running", running},
                           {"waiting", stats.now.waiting},
                           {"per_second", rate()}}));
    return;
  }
  const std::string text =
      fmt::format("done {}  failed {}  dead letters {}  running {}  waiting {}  {:.1f}/s", done_,
                  failed_, dead_, running, stats.now.waiting, rate());
  if (status_.is_terminal()) {
    status_.draw(text);
  } else if (running != 0) {
    status_.say(text);
  }
}

void WorkReport::end() {
  const double seconds = static_cast<double>(monotonic_ns() - began_) / 1e9;
  if (json_) {
    output_.write(line_of({{"event", "end"},
                           {"done", done_},
                           {"failed", failed_},
                           {"dead", dead_},
                           {"seconds", seconds}}));
    return;
  }
  status_.say(fmt::format("done {} tasks in {:.1f} s ({:.1f}/s), failed {}, dead letters {}", done_,
                          seconds, static_cast<double>(done_) / std::max(seconds, 1e-9), failed_,
                          dead_));
}

}  // namespace heddle
