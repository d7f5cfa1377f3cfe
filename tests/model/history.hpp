#pragma once

// Linearizability: whether what the calls of a run gave can be explained by a sequential object.
//
// A scenario begins a call, makes it, and ends it with what it gave. At the end of the run check()
// looks for one order of all calls in which each gives what it gave, and which keeps the order of
// those that did not overlap. Not overlapping means that the end of one happened before the beginning
// of the other, as C++ has it; and time itself in runs in which no load read an older store. (With
// weak memory, two calls of which neither could know of the other have no order.) A call that never
// ended, since its process died or stopped, may stand anywhere after its beginning, or nowhere.
//
// A Spec is the sequential object, by value:
//   Call, Result
//   bool apply(const Call&, const Result*)   makes the call; false if it cannot give that here.
//                                            Without a result: any will do
//   static std::string told(const Call&, const Result*)
// Source: Wing and Gong 1993, "Testing and verifying concurrent objects".

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <vector>

#include "model/explorer.hpp"

namespace heddle::model {

template <class Spec>
class History {
 public:
  using Call = typename Spec::Call;
  using Result = typename Spec::Result;

  std::size_t begin(const Call& call) {
    calls_.push_back({call, {}, self(), tick(), known_ticks(), ++time_, never});
    return calls_.size() - 1;
  }
  void end(std::size_t number, const Result& result) {
    Made& made = calls_[number];
    made.result = result;
    made.end_tick = tick();
    made.ended = ++time_;
  }
  /// `call` for the object, and what it gave.
  template <class Make>
  Result made(const Call& call, Make&& make) {
    const std::size_t number = begin(call);
    const Result result = make();
    end(number, result);
    return result;
  }
  /// Something that may have happened by itself, at any time: a lease that was lost by a death.
  void may_have_happened(const Call& call) {
    calls_.push_back({call, {}, self(), 0, {}, 0, never});
  }

  void check(const Spec& initial) const {
    std::vector<bool> taken(calls_.size());
    if (explained(initial, taken)) return;
    std::string claim = "no order of these calls explains what they gave:";
    for (const Made& made : calls_) {
      claim += "\n        " + Spec::told(made.call, made.result ? &*made.result : nullptr);
    }
    fail(claim);
  }

 private:
  static constexpr std::uint64_t never = ~std::uint64_t{0};
  struct Made {
    Call call;
    std::optional<Result> result;
    std::size_t process;
    Tick end_tick;
    std::array<Tick, most_processes> knew;  // at its beginning
    std::uint64_t began, ended;             // by time
  };

  bool precedes(const Made& one, const Made& other) const {
    if (one.ended == never || one.ended > other.began) return false;
    const bool by_process = one.process >= most_processes || other.process >= most_processes ||
                            one.process == other.process;
    return by_process || is_sequential() || other.knew[one.process] >= one.end_tick;
  }

  bool explained(const Spec& state, std::vector<bool>& taken) const {
    // Those that ended must all be taken; the others may be left out.
    const auto must = [&](std::size_t i) { return !taken[i] && calls_[i].ended != never; };
    bool any = false;
    for (std::size_t i = 0; i < calls_.size(); ++i) any |= must(i);
    if (!any) return true;
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      if (taken[i]) continue;
      bool first = true;
      for (std::size_t j = 0; j < calls_.size() && first; ++j) {
        first = j == i || taken[j] || !precedes(calls_[j], calls_[i]);
      }
      if (!first) continue;
      Spec next = state;
      if (!next.apply(calls_[i].call, calls_[i].result ? &*calls_[i].result : nullptr)) continue;
      taken[i] = true;
      if (explained(next, taken)) return true;
      taken[i] = false;
    }
    return false;
  }

  std::vector<Made> calls_;
  std::uint64_t time_ = 0;
};

}  // namespace heddle::model
