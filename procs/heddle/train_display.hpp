#pragma once

#include <cstdint>
#include <optional>
#include <string>

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
  TrainDisplay(Form form, const TrainPlan& plan);
  /// json if asked for, else by what standard output is.
  static Form form_for(bool json);

  void began(const std::string& segment);
  void worker_started(std::uint32_t rank, int pid);
  void worker_died(std::uint32_t rank, int pid, const std::string& how);
  /// An epoch is over. `test` if its weights were evaluated: when epochs pass faster than the
  /// evaluator looks, it takes the newest.
  void epoch(std::uint64_t epoch, double loss, const std::optional<Evaluation>& test,
             double samples_per_second, std::uint32_t restarts);
  void done(const TrainResult& result);
  void interrupted();

 private:
  void line(const std::string& text);
  void clear_bar();

  Form form_;
  const TrainPlan& plan_;
  std::int64_t next_line_ = 0;
  std::size_t drawn_ = 0;  // columns of the bar on the terminal
};

}  // namespace heddle
