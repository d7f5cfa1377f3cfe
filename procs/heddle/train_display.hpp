#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "heddle/run/stop_signals.hpp"
#include "heddle/train/model.hpp"
#include "heddle/train/plan.hpp"

namespace heddle {

struct TrainResult {
  std::uint64_t epochs;
  Evaluation test;
  double loss;  ///< mean over the last epoch's training
  double seconds;
  std::uint32_t restarts;
  std::string params_sha256;
};

/// What a run shows: one JSON object a line for programs, plain lines in a pipe, and on a terminal
/// a bar that is drawn again in place.
class TrainDisplay {
 public:
  enum class Form { json, lines, bar };
  /// `signals` are heard even while nobody reads the output. Printing throws Error{system}.
  TrainDisplay(Form form, const TrainPlan& plan, const StopSignals& signals);
  /// json if asked for, else by what standard output is.
  static Form form_for(bool json);

  void began(const std::string& segment);
  void worker_started(std::uint32_t rank, int pid);
  void worker_died(std::uint32_t rank, int pid, const std::string& text);
  /// An epoch is over. `test` if its weights were evaluated: when epochs pass faster than the
  /// evaluator looks, it takes the newest.
  void epoch(std::uint64_t epoch, double loss, const std::optional<Evaluation>& test,
             std::optional<double> samples_per_second, std::uint32_t restarts);
  void done(const TrainResult& result);
  void failed(const std::string& why);
  void interrupted();

 private:
  void print(std::string_view text);
  void line(const std::string& text);
  void draw_bar(std::uint64_t epoch, const std::string& figures);
  void clear_bar();

  Form form_;
  const TrainPlan& plan_;
  const StopSignals& signals_;
  std::int64_t next_line_ = 0;
  bool is_ending_ = false;  // nobody is waited for any more
  bool is_drawn_ = false;   // a bar stands on the terminal's last line
};

}  // namespace heddle
