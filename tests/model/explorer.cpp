#include "model/explorer.hpp"

#include <cxxabi.h>
#include <ucontext.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>

namespace heddle::model {
namespace {

constexpr std::size_t stack_bytes = 128 * 1024;
constexpr std::string_view digits =
    "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

const char* name_of(Strength strength) {
  switch (strength) {
    case Strength::relaxed:
      return "relaxed";
    case Strength::acquire:
      return "acquire";
    case Strength::release:
      return "release";
    case Strength::acq_rel:
      return "acq_rel";
    case Strength::seq_cst:
      return "seq_cst";
  }
  return "?";
}

// The choices of one run: a given beginning, then the first alternative (or a drawn one).
class Choices {
 public:
  void begin() { at_ = 0; }
  int choose(int count, bool free) {
    if (count <= 1) return 0;
    if (at_ == path_.size())
      path_.push_back(
          {static_cast<std::uint8_t>(draw(count, free)), static_cast<std::uint8_t>(count)});
    Choice& choice = path_[at_++];
    if (choice.chosen >= count) misfit_ = true;
    choice.count = static_cast<std::uint8_t>(count);
    return misfit_ ? 0 : choice.chosen;
  }
  // To the next string; false when there is none.
  bool advance() {
    while (!path_.empty() && path_.back().chosen + 1 >= path_.back().count) path_.pop_back();
    if (path_.empty()) return false;
    ++path_.back().chosen;
    return true;
  }
  void cut() { path_.resize(at_); }
  void clear() { path_.clear(); }
  void random(std::uint64_t seed) { random_.emplace(seed); }
  bool misfit() const { return misfit_; }

  // A digit for each choice; a run of zeros is "(n)".
  std::string text() const {
    std::string text;
    for (std::size_t i = 0; i < at_;) {
      std::size_t zeros = 0;
      while (i + zeros < at_ && path_[i + zeros].chosen == 0) ++zeros;
      if (zeros > 3) {
        if (i + zeros < at_) text += "(" + std::to_string(zeros) + ")";
        i += zeros;
      } else {
        text += digits[path_[i++].chosen];
      }
    }
    return text;
  }
  void parse(std::string_view text) {
    path_.clear();
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '(') {
        std::size_t zeros = 0;
        for (++i; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
          zeros = zeros * 10 + static_cast<std::size_t>(text[i] - '0');
        }
        if (i == text.size() || text[i] != ')' || zeros > 100'000) throw std::invalid_argument("");
        path_.resize(path_.size() + zeros, {0, 255});
        continue;
      }
      const std::size_t digit = digits.find(text[i]);
      if (digit == std::string_view::npos) throw std::invalid_argument("");
      path_.push_back({static_cast<std::uint8_t>(digit), 255});
    }
  }

 private:
  struct Choice {
    std::uint8_t chosen, count;
  };
  // Free choices are drawn evenly, those that cost seldom: else all is spent at the beginning.
  int draw(int count, bool free) {
    if (!random_) return 0;
    if (!free && (*random_)() % 12 != 0) return 0;
    return static_cast<int>((*random_)() % static_cast<unsigned>(count));
  }
  std::vector<Choice> path_;
  std::size_t at_ = 0;
  std::optional<std::mt19937_64> random_;
  bool misfit_ = false;
};

enum class State { ready, paused, asleep, done, dead, stopped };

struct Process {
  std::string name;
  bool mortal = false;
  std::function<void()> body;
  ucontext_t context{};
  std::unique_ptr<std::byte[]> stack = std::make_unique<std::byte[]>(stack_bytes);
  void* exceptions[2]{};  // what the C++ runtime keeps of the exceptions being handled here
  State state = State::done;
  bool changed = false;  // since it last could have died
  int impatient = 0;     // so many of its next pauses let nobody run
  bool repairs = false;
  bool token_free = false;
  std::uint64_t paused_at = 0;  // changes by anybody
  std::uint64_t paused_since = 0;
  const void* futex = nullptr;
  std::int64_t wakes_at = 0;
};

}  // namespace

class Explorer {
 public:
  static Explorer& the() {
    static Explorer explorer;
    return explorer;
  }

  // ---- running

  void run_once(const Scenario& scenario) {
    Run run;
    bounds_ = scenario.bounds;
    preemptions_ = bounds_.preemptions;
    deaths_ = bounds_.deaths;
    stale_ = bounds_.stale;
    alone_since_ = 0;
    steps_ = 0;
    changes_ = pauses_ = 0;
    now_ = 1'000'000'000;
    failure_.clear();
    trace_.clear();
    recent_.fill("");
    skipped_ = 0;
    labels_.clear();
    count_ = 0;
    self_ = nobody;
    choices_.begin();
    memory_.reset();
    std::memset(memory_.arena(), 0, arena_used_);
    run_ = &run;
    scenario.setup(run);
    arena_used_ = std::max(arena_used_, run.used_);
    pick_next(false);
    if (self_ != nobody) enter();
    self_ = nobody;
    if (failure_.empty() && run.finally_ && alone_since_ == 0) run.finally_();
    run_ = nullptr;
  }

  std::size_t add(const char* name, bool mortal, std::function<void()> body) {
    if (count_ == most_processes) throw std::logic_error("too many processes in a scenario");
    Process& process = processes_[count_];
    process.name = name;
    process.mortal = mortal;
    process.body = std::move(body);
    process.state = State::ready;
    process.changed = mortal;
    process.impatient = 0;
    process.repairs = process.token_free = false;
    process.exceptions[0] = process.exceptions[1] = nullptr;
    getcontext(&process.context);
    process.context.uc_stack.ss_sp = process.stack.get();
    process.context.uc_stack.ss_size = stack_bytes;
    process.context.uc_link = nullptr;
    makecontext(&process.context, &Explorer::main_of_process, 0);
    return count_++;
  }

  std::span<std::byte> take(Run& run, const char* label, std::size_t bytes) {
    const std::size_t start = run.used_;
    run.used_ += (bytes + 63) / 64 * 64;
    if (run.used_ > arena_bytes) throw std::logic_error("the arena is too small");
    if (run.used_ > arena_used_) {
      std::memset(memory_.arena() + start, 0, run.used_ - start);
    }
    labels_.push_back({start, label});
    return {memory_.arena() + start, bytes};
  }

  [[noreturn]] void failed(const std::string& claim) {
    if (failure_.empty()) failure_ = claim;
    if (!inside()) throw Finished{};
    note("fails", nullptr, nullptr, claim);
    leave_to_main();
    std::abort();
  }

  bool inside() const { return self_ != nobody; }
  std::size_t self() const { return self_; }
  Process& process(std::size_t i) { return processes_[i]; }
  const Process& me() const { return processes_[self_]; }
  Process& me() { return processes_[self_]; }

  // ---- operations of processes

  std::uint64_t load(const void* address, std::size_t bytes, Order order) {
    if (!inside()) return native(address, bytes);
    point();
    const Strength strength = strength_of(order, Kind::load);
    Memory::Location& at = locate(address, bytes);
    const std::uint16_t index = choose_store(at, memory_.oldest(self_, at, strength), nullptr);
    memory_.read(self_, at, index, strength);
    const std::uint64_t value = memory_.value(at, index);
    if (tracing_) note("load", &at, &order, "= " + hex(value) + older(at, index), strength);
    return value;
  }

  void store(void* address, std::size_t bytes, std::uint64_t value, Order order) {
    if (!inside()) return static_cast<void>(std::memcpy(address, &value, bytes));
    point();
    if (omitted(order)) return;
    const Strength strength = strength_of(order, Kind::store);
    Memory::Location& at = locate(address, bytes);
    if (memory_.races_with_reader(self_, at)) race("a store", at);
    if (order.tag == owned.tag && !memory_.ordered(self_, at, false)) race("an owner's store", at);
    memory_.write(self_, at, value, strength, false);
    changed();
    if (tracing_) note("store", &at, &order, hex(value), strength);
  }

  std::uint64_t change(void* address, std::size_t bytes, Change kind, std::uint64_t value,
                       Order order) {
    if (!inside()) {
      const std::uint64_t old = native(address, bytes);
      const std::uint64_t fresh = changed_value(kind, old, value);
      std::memcpy(address, &fresh, bytes);
      return old;
    }
    point();
    Memory::Location& at = locate(address, bytes);
    const Strength strength = strength_of(order, Kind::change);
    const std::uint64_t old = memory_.value(at, at.last);
    if (omitted(order)) return old;
    if (memory_.races_with_reader(self_, at)) race("a change", at);
    const std::uint64_t fresh =
        changed_value(kind, old, value) & (bytes == 4 ? 0xffffffffU : ~std::uint64_t{0});
    memory_.read(self_, at, at.last, strength);
    memory_.write(self_, at, fresh, strength, true);
    // One that leaves the value as it was still is a store, but nobody waits for it.
    if (fresh != old) changed();
    if (tracing_) note("change", &at, &order, hex(old) + " -> " + hex(fresh), strength);
    return old;
  }

  bool compare_exchange(void* address, std::size_t bytes, std::uint64_t& expected,
                        std::uint64_t desired, Order order) {
    if (!inside()) {
      const std::uint64_t old = native(address, bytes);
      if (old != expected) {
        expected = old;
        return false;
      }
      std::memcpy(address, &desired, bytes);
      return true;
    }
    point();
    if (omitted(order)) return true;
    Memory::Location& at = locate(address, bytes);
    const Strength strength = strength_of(order, Kind::change);
    // A failure is a relaxed load of any store with another value; success needs the newest store.
    const std::uint16_t oldest = memory_.oldest(self_, at, Strength::relaxed);
    const std::uint16_t index = choose_store(at, oldest, &expected);
    const std::uint64_t seen = memory_.value(at, index);
    if (seen != expected) {
      memory_.read(self_, at, index, Strength::relaxed);
      if (tracing_) {
        note("exchange", &at, &order,
             "fails: " + hex(seen) + ", not " + hex(expected) + older(at, index),
             Strength::relaxed);
      }
      expected = seen;
      return false;
    }
    if (memory_.races_with_reader(self_, at)) race("an exchange", at);
    memory_.read(self_, at, index, strength);
    memory_.write(self_, at, desired, strength, true);
    changed();
    if (tracing_) note("exchange", &at, &order, hex(seen) + " -> " + hex(desired), strength);
    return true;
  }

  void fence(Order order) {
    if (!inside()) return;
    if (mutation_ != nullptr && mutation_->removes && is_mutated(order) &&
        mutation_->from == order.strength) {
      if (tracing_) note("fence", nullptr, &order, "removed");
      return;
    }
    const Strength strength = strength_of(order, Kind::fence);
    if (strength == Strength::seq_cst) point();
    memory_.fence(self_, strength);
    if (tracing_) note("fence", nullptr, &order, "", strength);
  }

  void futex_wait(void* address, std::uint32_t expected, std::int64_t nanoseconds) {
    if (!inside()) return;
    point();
    Memory::Location& at = locate(address, 4);
    const std::uint64_t value = memory_.value(at, at.last);
    if (value != expected) {
      if (tracing_) note("futex_wait", &at, nullptr, "returns: " + hex(value));
      return;
    }
    if (tracing_) note("futex_wait", &at, nullptr, "sleeps on " + hex(value));
    me().futex = address;
    me().wakes_at = now_ + nanoseconds;
    block(State::asleep);
  }

  int futex_wake(void* address, int count) {
    if (!inside()) return 0;
    point();
    int woken = 0;
    if (!(me().repairs && mutation_ != nullptr && mutation_->removes && mutation_->tag == "WAKE")) {
      while (woken < count) {
        std::array<std::size_t, most_processes> sleepers{};
        int found = 0;
        for (std::size_t i = 0; i < count_; ++i) {
          if (processes_[i].state == State::asleep && processes_[i].futex == address) {
            sleepers[static_cast<std::size_t>(found++)] = i;
          }
        }
        if (found == 0) break;
        const bool all = found <= count - woken;  // then the order does not matter
        const int chosen = all ? 0 : choices_.choose(found, true);
        Process& sleeper = processes_[sleepers[static_cast<std::size_t>(chosen)]];
        sleeper.state = State::ready;
        sleeper.changed = true;  // it has used up a wake-up: it may die of it
        ++woken;
      }
    }
    me().changed = true;
    if (tracing_) {
      note("futex_wake", memory_.holds(address) ? &locate(address, 4) : nullptr, nullptr,
           "wakes " + std::to_string(woken));
    }
    return woken;
  }

  void pause() {
    if (!inside()) return;
    step();
    if (me().impatient > 0) {
      --me().impatient;
      return;
    }
    bool others = false;
    for (std::size_t i = 0; i < count_; ++i) others |= i != self_ && can_run(processes_[i]);
    if (others && preemptions_ > 0 && choices_.choose(2, false) == 1) {
      --preemptions_;
      me().impatient = 300;  // more than any mechanism's patience
      if (tracing_) note("pause", nullptr, nullptr, "and goes on at once");
      return;
    }
    me().paused_at = changes_;
    me().paused_since = ++pauses_;
    block(State::paused);
  }

  std::int64_t now() { return now_ += 1; }
  void advance_time(std::int64_t nanoseconds) {
    if (inside()) now_ += nanoseconds;
  }

  void plain(const void* address, std::size_t bytes, bool writes) {
    if (!inside() || !memory_.holds(address)) return;
    const auto start = reinterpret_cast<std::uintptr_t>(address);
    for (std::uintptr_t word = start / 8 * 8; word < start + bytes; word += 8) {
      Memory::Location& at = locate(reinterpret_cast<const void*>(word), 8);
      if (!memory_.ordered(self_, at, writes)) race(writes ? "a plain write" : "a plain read", at);
      if (writes) {
        memory_.write(self_, at, 0, Strength::relaxed, false, true);
        changed();
      } else {
        memory_.mark_plain_read(self_, at);
      }
    }
  }

  // ---- death

  bool is_dead(std::size_t other) {
    if (!inside()) return processes_[other].state == State::dead || processes_[other].token_free;
    point();
    Process& process = processes_[other];
    if (process.state != State::dead && !process.token_free) {
      if (other == self_ || !process.mortal || deaths_ == 0 || alone_since_ != 0 ||
          choices_.choose(2, false) == 0) {
        if (tracing_) note("looks", nullptr, nullptr, process.name + " lives");
        return false;
      }
      --deaths_;
      process.state = State::dead;
    }
    memory_.learn(self_, other);
    if (tracing_) note("looks", nullptr, nullptr, process.name + " is dead");
    return true;
  }

  // ---- the walk

  Result explore(const Scenario& scenario, const Limits& limits, const Mutation* mutation) {
    const auto start = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    mutation_ = mutation;
    choices_ = {};
    if (limits.seed != 0) choices_.random(limits.seed);
    Result result;
    for (;;) {
      run(scenario);
      ++result.executions;
      if (deaths_ < scenario.bounds.deaths) ++result.deaths;
      if (alone_since_ != 0) ++result.alone;
      if (!failure_.empty()) {
        result.failed = true;
        result.claim = failure_;
        result.schedule = write_schedule(scenario.name);
        trace_again(scenario, result);
        break;
      }
      if (limits.seed != 0) {
        choices_.clear();
      } else if (choices_.cut(); !choices_.advance()) {
        result.complete = true;
        break;
      }
      if (result.executions == limits.executions) break;
      if (limits.seconds > 0 && result.executions % 256 == 0 && seconds() > limits.seconds) break;
    }
    result.seconds = seconds();
    mutation_ = nullptr;
    return result;
  }

  Result replay(const std::vector<Scenario>& scenarios, const std::string& text,
                const Mutation* mutation) {
    const std::size_t first = text.find(':');
    const std::size_t second = text.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      throw std::invalid_argument("a schedule reads SCENARIO:BUILD:CHOICES, not \"" + text + "\"");
    }
    const std::string name = text.substr(0, first);
    const auto found = std::find_if(scenarios.begin(), scenarios.end(),
                                    [&](const Scenario& s) { return s.name == name; });
    if (found == scenarios.end()) {
      throw std::invalid_argument("no scenario \"" + name + "\"; --list names them");
    }
    if (text.substr(first + 1, second - first - 1) != build()) {
      throw std::invalid_argument("this schedule is of another build (this one is " + build() +
                                  "): explore the scenario again to find it");
    }
    choices_ = {};
    try {
      choices_.parse(std::string_view(text).substr(second + 1));
    } catch (const std::invalid_argument&) {
      throw std::invalid_argument("the schedule \"" + text + "\" is damaged");
    }
    mutation_ = mutation;
    Result result;
    tracing_ = true;
    run(*found);
    tracing_ = false;
    mutation_ = nullptr;
    if (choices_.misfit()) {
      throw std::invalid_argument("the schedule \"" + text +
                                  "\" does not fit this scenario, or "
                                  "needs the mutation with which it was found");
    }
    result.executions = 1;
    result.failed = !failure_.empty();
    result.claim = failure_;
    result.steps = trace_;
    result.schedule = text;
    return result;
  }

  Tick tick() { return inside() ? memory_.tick(self_) : Tick{0}; }
  std::array<Tick, most_processes> known_ticks() const {
    std::array<Tick, most_processes> known;
    for (std::size_t i = 0; i < most_processes; ++i) {
      known[i] = inside() ? memory_.known_tick(self_, i) : std::numeric_limits<Tick>::max();
    }
    return known;
  }
  bool is_sequential() const { return stale_ == bounds_.stale; }

 private:
  static constexpr std::size_t nobody = ~std::size_t{0};
  enum class Kind { load, store, change, fence };
  struct Finished {};

  void run(const Scenario& scenario) {
    try {
      run_once(scenario);
    } catch (const Finished&) {
      self_ = nobody;
    } catch (const std::exception& error) {
      self_ = nobody;
      failure_ = std::string("threw: ") + error.what();
    }
  }

  void trace_again(const Scenario& scenario, Result& result) {
    tracing_ = true;
    const std::string text = choices_.text();
    Choices again;
    again.parse(text);
    std::swap(choices_, again);
    run(scenario);
    result.steps = trace_;
    tracing_ = false;
  }

  static void main_of_process() {
    Explorer& explorer = the();
    explorer.begin_process();
  }
  void begin_process() {
    // In a scope of its own: this frame is never left.
    try {
      me().body();
    } catch (const std::exception& error) {
      failed(std::string(me().name) + " threw: " + error.what());
    }
    if (tracing_) note("ends", nullptr, nullptr, "");
    block(State::done);
    std::abort();
  }

  // -- switching

  void enter() {
    save_exceptions(main_exceptions_);
    restore_exceptions(me().exceptions);
    swapcontext(&main_, &me().context);
    restore_exceptions(main_exceptions_);
  }
  void leave_to_main() {
    save_exceptions(me().exceptions);
    Process& from = me();
    swapcontext(&from.context, &main_);
  }
  void go_to(std::size_t next) {
    if (next == self_) return;
    Process& from = me();
    save_exceptions(from.exceptions);
    self_ = next;
    restore_exceptions(me().exceptions);
    swapcontext(&from.context, &me().context);
  }
  static void save_exceptions(void** to) {
    std::memcpy(to, abi::__cxa_get_globals(), 2 * sizeof(void*));
  }
  static void restore_exceptions(void** from) {
    std::memcpy(static_cast<void*>(abi::__cxa_get_globals()), from, 2 * sizeof(void*));
  }

  bool can_run(const Process& process) const {
    return process.state == State::ready ||
           (process.state == State::paused && process.paused_at != changes_);
  }

  void step() {
    if (++steps_ > bounds_.steps) {
      failed("no progress: more than " + std::to_string(bounds_.steps) + " steps");
    }
    if (alone_since_ != 0 && steps_ - alone_since_ > bounds_.alone) {
      failed("no progress: all others have stopped, and it does not end in " +
             std::to_string(bounds_.alone) + " steps");
    }
    if (memory_.is_full()) failed("the model's memory is too small: raise most_ids");
  }

  // Before an operation: somebody else first? Death? Do all others stop?
  void point() {
    step();
    Process& process = me();
    std::array<int, 2 * most_processes> options;
    int count = 1;
    const bool may_die = process.mortal && deaths_ > 0 && process.changed && alone_since_ == 0;
    if (may_die) options[static_cast<std::size_t>(count++)] = -1;
    if (bounds_.alone != 0 && alone_since_ == 0) options[static_cast<std::size_t>(count++)] = -2;
    process.changed = false;
    if (preemptions_ > 0 && process.impatient == 0) {
      for (std::size_t i = 0; i < count_; ++i) {
        const Process& other = processes_[i];
        if (i != self_ && (can_run(other) || may_time_out(other))) {
          options[static_cast<std::size_t>(count++)] = static_cast<int>(i);
        }
      }
    }
    const int chosen = choices_.choose(count, false);
    if (chosen == 0) return;
    const int what = options[static_cast<std::size_t>(chosen)];
    if (what == -1) {
      --deaths_;
      if (tracing_) note("DIES", nullptr, nullptr, "");
      block(State::dead);
      std::abort();
    }
    if (what == -2) return stop_others();
    --preemptions_;
    wake_up(static_cast<std::size_t>(what));
    go_to(static_cast<std::size_t>(what));
  }

  void stop_others() {
    alone_since_ = steps_;
    for (std::size_t i = 0; i < count_; ++i) {
      Process& other = processes_[i];
      if (i != self_ && other.state != State::done && other.state != State::dead) {
        other.state = State::stopped;
      }
    }
    if (tracing_) note("ALONE", nullptr, nullptr, "all others stop here");
  }

  bool may_time_out(const Process& process) const {
    return process.state == State::asleep && bounds_.inner_timeouts;
  }

  void wake_up(std::size_t i) {
    Process& process = processes_[i];
    if (process.state == State::asleep) {
      now_ = std::max(now_, process.wakes_at);
      if (tracing_ && skipped_ <= recent_.size()) {
        trace_ += "      " + process.name + " wakes by itself\n";
      }
    }
    process.state = State::ready;
  }

  // This process cannot go on: the next, or back to main when the run is over.
  void block(State state) {
    me().state = state;
    const std::size_t from = self_;
    const std::size_t next = choose_next();
    if (next == nobody) {
      leave_to_main();
      std::abort();
    }
    wake_up(next);
    if (next != from) go_to(next);
  }
  void pick_next(bool) {
    self_ = choose_next();
    if (self_ != nobody) wake_up(self_);
  }

  std::size_t choose_next() {
    std::array<std::size_t, most_processes> list{};
    int count = 0;
    const auto gather = [&](auto&& wanted) {
      for (std::size_t i = 0; count_ != 0 && i < count_; ++i) {
        if (wanted(processes_[i])) list[static_cast<std::size_t>(count++)] = i;
      }
      return count != 0;
    };
    // Fair: who paused longest, and sleepers whose time is about equal.
    std::uint64_t longest = ~std::uint64_t{0};
    std::int64_t earliest = std::numeric_limits<std::int64_t>::max();
    for (std::size_t i = 0; i < count_; ++i) {
      const Process& p = processes_[i];
      if (p.state == State::paused) longest = std::min(longest, p.paused_since);
      if (p.state == State::asleep) earliest = std::min(earliest, p.wakes_at);
    }
    const std::int64_t about = 10'000'000;
    if (!gather([&](const Process& p) { return can_run(p); }) && !gather([&](const Process& p) {
          return p.state == State::paused && p.paused_since == longest;
        }) &&
        !gather(
            [&](const Process& p) { return may_time_out(p) && p.wakes_at - about <= earliest; })) {
      const auto sleeps = [](const Process& p) { return p.state == State::asleep; };
      if (std::any_of(processes_.begin(), processes_.begin() + static_cast<std::ptrdiff_t>(count_),
                      sleeps)) {
        failure_ = "WAIT: somebody sleeps for ever (a lost wake-up)";
        if (tracing_) trace_ += "      everybody else has ended: " + failure_ + "\n";
      }
      return nobody;
    }
    return list[static_cast<std::size_t>(choices_.choose(count, true))];
  }

  void changed() {
    ++changes_;
    me().changed = true;
    me().impatient = 0;
  }

  // -- memory

  Memory::Location& locate(const void* address, std::size_t bytes) {
    if (!memory_.holds(address)) failed("an atomic operation outside shared memory");
    return memory_.at(address, bytes);
  }
  static std::uint64_t native(const void* address, std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, address, bytes);
    return value;
  }
  static std::uint64_t changed_value(Change kind, std::uint64_t old, std::uint64_t value) {
    switch (kind) {
      case Change::exchange:
        return value;
      case Change::add:
        return old + value;
      case Change::bit_or:
        return old | value;
    }
    return old;
  }

  // The newest first. For an exchange, older ones only if their value makes it fail.
  std::uint16_t choose_store(const Memory::Location& at, std::uint16_t oldest,
                             const std::uint64_t* expected) {
    if (at.stores[at.last].plain && !memory_.ordered(self_, at, false)) {
      race("an atomic operation", at);
    }
    if (stale_ == 0 || me().impatient > 0 || oldest == at.last) return at.last;
    std::array<std::uint16_t, 12> options;
    std::size_t count = 0;
    for (int i = at.last; i >= oldest && count < options.size(); --i) {
      const auto index = static_cast<std::uint16_t>(i);
      if (index != at.last && expected != nullptr && memory_.value(at, index) == *expected)
        continue;
      options[count++] = index;
    }
    const std::uint16_t chosen =
        options[static_cast<std::size_t>(choices_.choose(static_cast<int>(count), false))];
    if (chosen != at.last) --stale_;
    return chosen;
  }

  [[noreturn]] void race(const char* what, const Memory::Location& at) {
    failed(std::string("data race: ") + what + " of " + me().name + " at " + name(at) +
           " is not ordered with another access");
  }

  bool is_mutated(Order order) const {
    return mutation_ != nullptr && order.tag != nullptr && mutation_->tag == order.tag;
  }
  bool omitted(Order order) {
    if (!is_mutated(order) || !mutation_->removes || !me().repairs) return false;
    if (tracing_) note("repair", nullptr, &order, "left out");
    return true;
  }
  Strength strength_of(Order order, Kind kind) const {
    Strength strength = order.strength;
    if (is_mutated(order) && !mutation_->removes && strength == mutation_->from) {
      strength = mutation_->to;
    }
    // What an operation cannot have, it has not.
    if (kind == Kind::load && strength == Strength::acq_rel) return Strength::acquire;
    if (kind == Kind::store && strength == Strength::acq_rel) return Strength::release;
    return strength;
  }

  // -- telling

  static std::string hex(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%" PRIx64, value);
    return text;
  }
  std::string name(const Memory::Location& at) const {
    const auto offset = static_cast<std::size_t>(at.address - const_cast<Memory&>(memory_).arena());
    const auto after = std::find_if(labels_.begin(), labels_.end(),
                                    [&](const Label& label) { return label.start > offset; });
    if (after == labels_.begin()) return "+" + hex(offset);
    return std::string((after - 1)->text) + "+" + hex(offset - (after - 1)->start);
  }
  static std::string older(const Memory::Location& at, std::uint16_t index) {
    if (index == at.last) return "";
    return "  (older: store " + std::to_string(index) + " of " + std::to_string(at.last) + ")";
  }
  void note(const char* operation, const Memory::Location* at, const Order* order,
            const std::string& rest, Strength strength = Strength::relaxed) {
    char line[256];
    std::string how;
    if (order != nullptr) {
      how = name_of(strength);
      if (order->tag != nullptr) how += std::string(" ") + order->tag;
    }
    std::snprintf(line, sizeof line, "%5d %-12s %-10s %-14s %-26s ", steps_, me().name.c_str(),
                  operation, at != nullptr ? name(*at).c_str() : "", how.c_str());
    // A loop that goes round and round is told once.
    const std::string told = std::string(line + 6) + rest;
    const auto same = std::find(recent_.begin(), recent_.end(), told);
    if (same != recent_.end() && ++skipped_ > recent_.size()) return;
    if (same == recent_.end()) {
      if (skipped_ > recent_.size()) trace_ += "      ... and so on, round and round\n";
      skipped_ = 0;
    }
    recent_[recent_at_++ % recent_.size()] = told;
    trace_ += line + rest + "\n";
  }

  // A checksum of this program.
  static const std::string& build() {
    static const std::string text = [] {
      std::ifstream program("/proc/self/exe", std::ios::binary);
      std::uint64_t sum = 0xcbf29ce484222325;
      std::array<char, 65536> piece;
      while (program.read(piece.data(), piece.size()), program.gcount() > 0) {
        for (std::streamsize i = 0; i < program.gcount(); ++i) {
          sum = (sum ^ static_cast<unsigned char>(piece[static_cast<std::size_t>(i)])) *
                0x100000001b3;
        }
      }
      return hex(sum & 0xffffffff).substr(2);
    }();
    return text;
  }
  std::string write_schedule(const std::string& scenario) const {
    return scenario + ":" + build() + ":" + choices_.text();
  }

  struct Label {
    std::size_t start;
    const char* text;
  };

  Memory memory_;
  Choices choices_;
  std::array<Process, most_processes> processes_;
  std::size_t count_ = 0;
  std::size_t self_ = nobody;
  ucontext_t main_{};
  void* main_exceptions_[2]{};
  Run* run_ = nullptr;
  std::size_t arena_used_ = 0;
  Bounds bounds_;
  int preemptions_ = 0, deaths_ = 0, stale_ = 0, steps_ = 0;
  int alone_since_ = 0;  // the step; 0: nobody is
  std::uint64_t changes_ = 0, pauses_ = 0;
  std::int64_t now_ = 0;
  const Mutation* mutation_ = nullptr;
  bool tracing_ = false;
  std::string failure_, trace_;
  std::array<std::string, 12> recent_;  // of the trace
  std::size_t recent_at_ = 0, skipped_ = 0;
  std::vector<Label> labels_;
};

std::span<std::byte> Run::memory(const char* label, std::size_t bytes) {
  return Explorer::the().take(*this, label, bytes);
}
std::size_t Run::process(const char* name, bool mortal, std::function<void()> body) {
  return Explorer::the().add(name, mortal, std::move(body));
}

void fail(const std::string& claim) { Explorer::the().failed(claim); }
bool is_dead(std::size_t process) { return Explorer::the().is_dead(process); }
void drop_token(std::size_t process) { Explorer::the().process(process).token_free = true; }
bool has_ended(std::size_t process) {
  const State state = Explorer::the().process(process).state;
  return state == State::dead || state == State::done;
}
bool has_died(std::size_t process) { return Explorer::the().process(process).state == State::dead; }
std::size_t self() { return Explorer::the().self(); }
Tick tick() { return Explorer::the().tick(); }
std::array<Tick, most_processes> known_ticks() { return Explorer::the().known_ticks(); }
bool is_sequential() { return Explorer::the().is_sequential(); }
void begin_repair() {
  if (Explorer::the().inside()) Explorer::the().me().repairs = true;
}
void end_repair() {
  if (Explorer::the().inside()) Explorer::the().me().repairs = false;
}

Result explore(const Scenario& scenario, const Limits& limits, const Mutation* mutation) {
  return Explorer::the().explore(scenario, limits, mutation);
}
Result replay(const std::vector<Scenario>& scenarios, const std::string& schedule,
              const Mutation* mutation) {
  return Explorer::the().replay(scenarios, schedule, mutation);
}

namespace machine {

std::uint64_t load(const void* at, std::size_t bytes, Order order) noexcept {
  return Explorer::the().load(at, bytes, order);
}
void store(void* at, std::size_t bytes, std::uint64_t value, Order order) noexcept {
  Explorer::the().store(at, bytes, value, order);
}
std::uint64_t change(void* at, std::size_t bytes, Change kind, std::uint64_t value,
                     Order order) noexcept {
  return Explorer::the().change(at, bytes, kind, value, order);
}
bool compare_exchange(void* at, std::size_t bytes, std::uint64_t& expected, std::uint64_t desired,
                      Order order) noexcept {
  return Explorer::the().compare_exchange(at, bytes, expected, desired, order);
}
void fence(Order order) noexcept { Explorer::the().fence(order); }
void futex_wait(void* at, std::uint32_t expected, std::int64_t nanoseconds) noexcept {
  Explorer::the().futex_wait(at, expected, nanoseconds);
}
int futex_wake(void* at, int count) noexcept { return Explorer::the().futex_wake(at, count); }
void pause() noexcept { Explorer::the().pause(); }
std::int64_t now() noexcept { return Explorer::the().now(); }
void advance_time(std::int64_t nanoseconds) noexcept { Explorer::the().advance_time(nanoseconds); }

}  // namespace machine

}  // namespace heddle::model

// What the compiler calls before each plain access in code built with -fsanitize=thread. Heddle's
// own code and the scenarios are; libtsan is not linked.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
#define HEDDLE_PLAIN(bytes)                                                                     \
  void __tsan_read##bytes(void* at) { heddle::model::Explorer::the().plain(at, bytes, false); } \
  void __tsan_write##bytes(void* at) { heddle::model::Explorer::the().plain(at, bytes, true); } \
  void __tsan_unaligned_read##bytes(void* at) {                                                 \
    heddle::model::Explorer::the().plain(at, bytes, false);                                     \
  }                                                                                             \
  void __tsan_unaligned_write##bytes(void* at) {                                                \
    heddle::model::Explorer::the().plain(at, bytes, true);                                      \
  }
HEDDLE_PLAIN(1)
HEDDLE_PLAIN(2)
HEDDLE_PLAIN(4)
HEDDLE_PLAIN(8)
HEDDLE_PLAIN(16)
unsigned char __tsan_atomic8_load(const volatile unsigned char* at, int) { return *at; }  // guards
void __tsan_read_range(void* at, unsigned long bytes) {
  heddle::model::Explorer::the().plain(at, bytes, false);
}
void __tsan_write_range(void* at, unsigned long bytes) {
  heddle::model::Explorer::the().plain(at, bytes, true);
}
}
