#include "train_display.hpp"

#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"

namespace heddle {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t between_lines = 500'000'000;  // plain lines are for reading along
constexpr std::int64_t between_bars = 50'000'000;

// A run that diverges has no number to give, and JSON has no word for it.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }

}  // namespace

TrainDisplay::TrainDisplay(Form form, const TrainPlan& plan, const StopSignals& signals)
    : form_(form), plan_(plan), signals_(signals) {}

// A reader that does not read must not keep a signal from being heard: its output is dropped then.
void TrainDisplay::print(std::string_view text) {
  while (!text.empty()) {
    pollfd ready[] = {{STDOUT_FILENO, POLLOUT, 0}, {signals_.fd(), POLLIN, 0}};
    poll(ready, 2, is_ending_ ? 0 : -1);
    if (ready[0].revents == 0) {
      if (ready[1].revents != 0 || is_ending_) return;
      continue;
    }
    const ssize_t written =
        write(STDOUT_FILENO, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (written < 0 && errno != EINTR) throw_system_error("cannot write to standard output", errno);
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
}

TrainDisplay::Form TrainDisplay::form_for(bool json) {
  if (json) return Form::json;
  return isatty(STDOUT_FILENO) ? Form::bar : Form::lines;
}

void TrainDisplay::line(const std::string& text) {
  clear_bar();
  print(text + "\n");
}

void TrainDisplay::clear_bar() {
  if (is_drawn_) print("\r\x1b[K");
  is_drawn_ = false;
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

void TrainDisplay::worker_died(std::uint32_t rank, int pid, const std::string& text) {
  if (form_ == Form::json) {
    print(Json{{"event", "died"}, {"rank", rank}, {"pid", pid}, {"text", text}}.dump() + "\n");
  } else {
    line(text);
  }
}

void TrainDisplay::epoch(std::uint64_t epoch, double loss, const std::optional<Evaluation>& test,
                         std::optional<double> samples_per_second, std::uint32_t restarts) {
  if (form_ == Form::json) {
    print(Json{{"event", "epoch"},
               {"epoch", epoch},
               {"loss", number(loss)},
               {"accuracy", test ? number(test->accuracy) : Json(nullptr)},
               {"samples_per_second",
                samples_per_second ? number(*samples_per_second) : Json(nullptr)},
               {"restarts", restarts}}
              .dump() +
          "\n");
    return;
  }
  const std::int64_t now = monotonic_ns();
  if (!test || (now < next_line_ && epoch < plan_.epochs)) return;
  next_line_ = now + (form_ == Form::bar ? between_bars : between_lines);
  std::string figures =
      fmt::format("epoch {:>{}}/{}  loss {:.4f}  accuracy {:.4f}", epoch,
                  fmt::formatted_size("{}", plan_.epochs), plan_.epochs, loss, test->accuracy);
  if (samples_per_second)
    figures += fmt::format("  {:.0f} k samples/s", *samples_per_second / 1000);
  if (restarts != 0) figures += fmt::format("  restarts {}", restarts);
  if (form_ == Form::lines) {
    line(figures);
  } else {
    draw_bar(epoch, figures);
  }
}

void TrainDisplay::draw_bar(std::uint64_t epoch, const std::string& figures) {
  winsize window{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) window.ws_col = 80;
  const std::size_t columns = window.ws_col - 1U;  // in the last one some terminals wrap
  std::string bar;
  if (figures.size() + 8 <= columns) {
    const std::size_t width = std::min<std::size_t>(24, columns - figures.size() - 3);
    const std::size_t filled = epoch * width / plan_.epochs;
    bar = fmt::format("[{:#<{}}{:.<{}}] ", "", filled, "", width - filled);
  }
  clear_bar();
  print((bar + figures).substr(0, columns));
  is_drawn_ = true;
}

void TrainDisplay::failed(const std::string& why) {
  if (form_ == Form::json) {
    print(Json{{"event", "failed"}, {"why", why}}.dump() + "\n");
  } else {
    clear_bar();
  }
  std::fprintf(stderr, "heddle: %s\n", why.c_str());
}

void TrainDisplay::done(const TrainResult& result) {
  if (is_drawn_) print("\n");  // the last bar stays
  is_drawn_ = false;
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
  is_ending_ = true;
  if (form_ == Form::json) {
    print(Json{{"event", "interrupted"}}.dump() + "\n");
  } else {
    line("interrupted: the workers are ended, the segment is removed");
  }
}

}  // namespace heddle
