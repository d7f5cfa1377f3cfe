#include "train_display.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "heddle/base/clock.hpp"

namespace heddle {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t between_lines = 500'000'000;  // plain lines are for reading along
constexpr std::int64_t between_bars = 50'000'000;

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// A run that diverges has no number to give, and JSON has no word for it.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace

TrainDisplay::TrainDisplay(Form form, const TrainPlan& plan) : form_(form), plan_(plan) {}

TrainDisplay::Form TrainDisplay::form_for(bool json) {
  if (json) return Form::json;
  return isatty(STDOUT_FILENO) ? Form::bar : Form::lines;
}

void TrainDisplay::line(const std::string& text) {
  clear_bar();
  print(text + "\n");
}

void TrainDisplay::clear_bar() {
  if (drawn_ == 0) return;
  print(fmt::format("\r{:{}}\r", "", drawn_));
  drawn_ = 0;
}

void TrainDisplay::began(const std::string& segment) {
  if (form_ == Form::json) return;
  line(fmt::format("training {} with {} worker{} ({}), {} epochs, batch {}, in segment \"{}\"",
                   plan_.model, plan_.workers, plan_.workers == 1 ? "" : "s", to_string(plan_.sync),
                   plan_.epochs, plan_.batch, segment));
}

void TrainDisplay::worker_started(std::uint32_t rank, int pid) {
  if (form_ == Form::json) {
    print(Json{{"event", "worker"}, {"rank", rank}, {"pid", pid}}.dump() + "\n");
  } else {
    line(fmt::format("worker {} is process {}", rank, pid));
  }
}

void TrainDisplay::worker_died(std::uint32_t rank, int pid, const std::string& how) {
  if (form_ == Form::json) {
    print(Json{{"event", "died"}, {"rank", rank}, {"pid", pid}, {"how", how}}.dump() + "\n");
  } else {
    line(fmt::format("worker {} (process {}) has died: {}; its work goes to the others", rank, pid,
                     how));
  }
}

void TrainDisplay::epoch(std::uint64_t epoch, double loss, const std::optional<Evaluation>& test,
                         double samples_per_second, std::uint32_t restarts) {
  if (form_ == Form::json) {
    print(Json{{"event", "epoch"},
               {"epoch", epoch},
               {"loss", number(loss)},
               {"accuracy", test ? number(test->accuracy) : Json(nullptr)},
               {"samples_per_second", number(samples_per_second)},
               {"restarts", restarts}}
              .dump() +
          "\n");
    return;
  }
  const std::int64_t now = monotonic_ns();
  if (!test || now < next_line_) return;
  next_line_ = now + (form_ == Form::bar ? between_bars : between_lines);
  const std::string figures =
      fmt::format("epoch {:>{}}/{}  loss {:.4f}  accuracy {:.4f}  {:.0f} k samples/s  restarts {}",
                  epoch, fmt::formatted_size("{}", plan_.epochs), plan_.epochs, loss,
                  test->accuracy, samples_per_second / 1000, restarts);
  if (form_ == Form::lines) {
    line(figures);
    return;
  }
  constexpr std::size_t width = 24;
  const std::size_t filled = epoch * width / plan_.epochs;
  const std::string bar =
      fmt::format("[{:#<{}}{:.<{}}] {}", "", filled, "", width - filled, figures);
  clear_bar();
  print(bar);
  drawn_ = bar.size();
}

void TrainDisplay::done(const TrainResult& result) {
  const double rate =
      static_cast<double>(result.epochs) * plan_.samples / std::max(result.seconds, 1e-9);
  if (form_ == Form::json) {
    print(Json{{"event", "done"},
               {"sync", to_string(plan_.sync)},
               {"workers", plan_.workers},
               {"epochs", result.epochs},
               {"accuracy", number(result.test.accuracy)},
               {"loss", number(result.loss)},
               {"samples_per_second", number(rate)},
               {"seconds", result.seconds},
               {"restarts", result.restarts},
               {"params_sha256", result.params_sha256}}
              .dump() +
          "\n");
    return;
  }
  line(fmt::format("done: {} epochs in {:.2f} s ({:.0f} k samples/s), restarts {}", result.epochs,
                   result.seconds, rate / 1000, result.restarts));
  line(fmt::format("accuracy on the test set {:.4f}, loss {:.4f}", result.test.accuracy,
                   result.loss));
  if (plan_.target_accuracy > 0 && result.test.accuracy < plan_.target_accuracy) {
    line(fmt::format("the target accuracy {:.4f} was not reached", plan_.target_accuracy));
  }
  line("parameters sha256 " + result.params_sha256);
}

void TrainDisplay::interrupted() {
  if (form_ == Form::json) {
    print(Json{{"event", "interrupted"}}.dump() + "\n");
  } else {
    line("interrupted: the workers are ended, the segment is removed");
  }
}

}  // namespace heddle
