// Slot and queue against sequential objects: a register, and a bag of tasks with leases.

#include <optional>
#include <utility>

#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "model/history.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

// ---- the method itself: a counter that loses an addition is found, and a good one passes

struct Counter {
  struct Call {};
  using Result = std::uint64_t;
  std::uint64_t count = 0;
  bool apply(const Call&, const Result* before) {
    return before == nullptr || *before == count ? (++count, true) : false;
  }
  static std::string told(const Call&, const Result* before) {
    return "add: " + (before == nullptr ? "never ended" : std::to_string(*before) + " before");
  }
};

template <bool is_good>
void counter(Run& run) {
  auto& word = run.shared<Atomic<std::uint64_t>>("count");
  auto& history = run.ghost<History<Counter>>();
  for (const char* name : {"one", "two"}) {
    run.process(name, true, [&word, &history] {
      history.made({}, [&word] {
        if (is_good) return word.fetch_add(1, acq_rel("CONTROL.count"));
        const std::uint64_t before = word.load(acquire("CONTROL.count"));
        word.store(before + 1, release("CONTROL.count"));
        return before;
      });
    });
  }
  run.finally([&history] { history.check({}); });
}

// ---- slot: a register that counts its versions

struct Register {
  struct Call {
    std::uint64_t published;  // 0: it is a pull
    std::optional<Version> expected = {};
  };
  // Of a pull: the version and the value. Of a conditional publication: how many there were, and 0.
  using Result = std::pair<Version, std::uint64_t>;
  Version version = 0;
  std::uint64_t value = 0;

  bool apply(const Call& call, const Result* result) {
    if (call.published == 0) return result == nullptr || *result == Result(version, value);
    if (call.expected) {
      const bool is_expected = *call.expected == version;
      if (result != nullptr && (result->first == 1) != is_expected) return false;
      if (!is_expected) return true;
    }
    ++version;
    value = call.published;
    return true;
  }
  static std::string told(const Call& call, const Result* result) {
    if (call.published != 0) {
      return "publish " + std::to_string(call.published) +
             (call.expected ? " upon version " + std::to_string(*call.expected) : "") +
             (!result                               ? ", never ended"
              : call.expected && result->first == 0 ? ": overtaken"
                                                    : "");
    }
    return result == nullptr ? "pull, never ended"
                             : "pull: version " + std::to_string(result->first) + ", value " +
                                   std::to_string(result->second);
  }
};

using NumberSlot = Slot<std::uint64_t>;

struct SlotWorld {
  SlotWorld(Run& run, const NumberSlot::Options& options, std::size_t places)
      : participants(run, places), memory(run.memory("slot", NumberSlot::bytes(options))) {
    NumberSlot::format(memory, options);
    participants.repair_with([this](const Dead& dead) { NumberSlot::repair(memory, dead); });
  }
  void publish(NumberSlot::Publisher& publisher, std::uint64_t value) {
    history.made({value}, [&] {
      check(publisher.publish(value) == Status::ready, "publish finds a buffer");
      return Register::Result();
    });
  }
  bool compare_and_publish(NumberSlot::Publisher& publisher, Version expected,
                           std::uint64_t value) {
    const auto result = history.made({value, expected}, [&] {
      const Status status = publisher.compare_and_publish(expected, value);
      check(status == Status::ready || status == Status::overtaken, "publish finds a buffer");
      return Register::Result(status == Status::ready ? 1 : 0, 0);
    });
    return result.first == 1;
  }
  Register::Result pull(NumberSlot& slot) {
    return history.made({0}, [&] {
      std::uint64_t value = 0;
      const Reading reading = slot.pull(value);
      return Register::Result(reading.version, reading ? value : 0);
    });
  }
  Participants participants;
  std::span<std::byte> memory;
  History<Register> history;
};

// Each publishes upon the version that it has read: one that is overtaken reads again. Beside them
// one publishes whatever the version is.
void conditional_history(Run& run, bool mortal, bool beside) {
  auto& world =
      run.ghost<SlotWorld>(run, NumberSlot::Options{.views = 0, .publishers = 3, .buffers = 4}, 3U);
  static constexpr std::array names{"one", "two", "publisher"};
  for (std::size_t i = 0; i < (beside ? 3 : 2); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& slot = run.ghost<NumberSlot>(world.memory, peers);
    auto& publisher = run.ghost<NumberSlot::Publisher>(slot.publisher());
    run.process(names[i], mortal && i == 0, [&world, &slot, &publisher, i] {
      if (i == 2) return world.publish(publisher, 100);
      for (std::uint64_t mine = 1 + 4 * i;; ++mine) {
        const auto [version, value] = world.pull(slot);
        if (world.compare_and_publish(publisher, version, value + mine)) break;
      }
    });
  }
  run.finally([&world] {
    world.participants.recover_dead(nobody);
    auto peers = ModelPeers(world.participants);
    NumberSlot slot(world.memory, peers);
    world.pull(slot);
    world.history.check({});
  });
}

void slot_history(Run& run, std::size_t publishers, std::size_t readers, bool mortal) {
  auto& world = run.ghost<SlotWorld>(
      run, NumberSlot::Options{.views = 0, .publishers = 2, .buffers = 3}, publishers + readers);
  static constexpr std::array names{"publisher 0", "publisher 1"};
  for (std::size_t i = 0; i < publishers; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& slot = run.ghost<NumberSlot>(world.memory, peers);
    auto& publisher = run.ghost<NumberSlot::Publisher>(slot.publisher());
    run.process(names[i], mortal && i == 0, [&world, &slot, &publisher, i] {
      world.publish(publisher, i + 1);
      if (i == 0) world.pull(slot);
    });
  }
  for (std::size_t i = publishers; i < publishers + readers; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process("reader", false, [&world, &peers] {
      NumberSlot slot(world.memory, peers);
      world.pull(slot);
      world.pull(slot);
    });
  }
  run.finally([&world] {
    world.participants.recover_dead(nobody);
    auto peers = ModelPeers(world.participants);
    NumberSlot slot(world.memory, peers);
    world.pull(slot);
    world.history.check({});
  });
}

// ---- queue: tasks that wait, and tasks that are leased. A push is two steps: it is admitted, unless
// the queue is closed, and its task comes later. In between, `empty` is right and `closed` is not.

struct Tasks {
  enum class Kind { admit, push, pop, complete, give_back, close, lost };
  struct Call {
    Kind kind;
    std::uint64_t task;
    std::size_t process;
  };
  struct Result {
    Status status;
    std::uint64_t task;
  };
  using Lease = std::pair<std::uint64_t, std::size_t>;
  bool in_order = false;  // what is popped is the oldest
  bool closed = false;
  std::vector<std::uint64_t> admitted;
  std::vector<std::uint64_t> waiting;
  std::vector<Lease> leased;

  bool apply(const Call& call, const Result* result) {
    const auto lease = std::find(leased.begin(), leased.end(), Lease(call.task, call.process));
    switch (call.kind) {
      case Kind::admit:
        if (result != nullptr && result->status == Status::closed) return closed;
        admitted.push_back(call.task);
        return !closed;
      case Kind::push:
        if (std::erase(admitted, call.task) == 0) return false;
        waiting.push_back(call.task);
        return true;
      case Kind::pop:
        return pop(call.process, result);
      case Kind::complete:
      case Kind::give_back:
        if (lease == leased.end()) return false;
        leased.erase(lease);
        if (call.kind == Kind::give_back) waiting.push_back(call.task);
        return true;
      case Kind::close:
        closed = true;
        return true;
      case Kind::lost:
        for (const auto& [task, process] : leased) {
          if (process == call.process) waiting.push_back(task);
        }
        std::erase_if(leased, [&](const Lease& one) { return one.second == call.process; });
        return true;
    }
    return false;
  }
  bool pop(std::size_t process, const Result* result) {
    if (result != nullptr && result->status == Status::empty) return waiting.empty();
    if (result != nullptr && result->status == Status::closed) {
      return closed && admitted.empty() && waiting.empty() && leased.empty();
    }
    const auto task = result == nullptr ? waiting.begin()
                                        : std::find(waiting.begin(), waiting.end(), result->task);
    if (task == waiting.end() || (in_order && task != waiting.begin())) return false;
    leased.emplace_back(*task, process);
    waiting.erase(task);
    return true;
  }
  static std::string told(const Call& call, const Result* result) {
    static constexpr std::array kinds{
        "admit", "push", "pop", "complete", "give back", "close", "loses its leases"};
    std::string text = "process " + std::to_string(call.process) + ": " +
                       kinds[static_cast<std::size_t>(call.kind)] + " ";
    const std::uint64_t task = result != nullptr ? result->task : call.task;
    if (task != 0) text += std::to_string(task);
    return text +
           (result == nullptr ? ", never ended" : std::string(": ") + to_string(result->status));
  }
};

using NumberQueue = TaskQueue<std::uint64_t>;

struct QueueWorld {
  QueueWorld(Run& run, std::size_t places)
      : participants(run, places + 1),
        memory(run.memory("queue", NumberQueue::bytes({2}))),
        afterwards(participants, places) {
    NumberQueue::format(memory, {2});
    participants.repair_with([this](const Dead& dead) { NumberQueue::repair(memory, dead); });
  }
  void push(NumberQueue& queue, std::uint64_t task) {
    const std::size_t admitted = history.begin({Tasks::Kind::admit, task, self()});
    const std::size_t pushed = history.begin({Tasks::Kind::push, task, self()});
    const Status status = queue.try_push(task);
    check(status == Status::ready || status == Status::closed, "there is room, or it is closed");
    history.end(admitted, {status, task});
    if (status == Status::ready) history.end(pushed, {status, task});
  }
  // Pops, and completes what it gets (or gives it back). Whether there was anything.
  bool work(NumberQueue& queue, bool gives_back = false) {
    const std::size_t number = history.begin({Tasks::Kind::pop, 0, self()});
    auto task = queue.try_pop();
    history.end(number, {task.status(), task ? task.payload() : 0});
    if (!task) return false;
    const std::uint64_t value = task.payload();
    if (gives_back) {
      made(Tasks::Kind::give_back, value, [&] { return task.fail(); });
    } else {
      made(Tasks::Kind::complete, value, [&] { return task.complete(); });
    }
    return true;
  }
  template <class Make>
  void made(Tasks::Kind kind, std::uint64_t task, Make&& make) {
    history.made({kind, task, self()}, [&] {
      const Status status = make();
      check(status == Status::ready || status == Status::closed, "it is done, or it is closed");
      return Tasks::Result{status, task};
    });
  }
  // The dead lose what they had; all that is left is found.
  void check_history(bool in_order) {
    for (std::size_t i = 0; i < most_processes; ++i) {
      if (has_died(i)) history.may_have_happened({Tasks::Kind::lost, 0, i});
    }
    participants.recover_dead(nobody);
    NumberQueue queue(memory, afterwards);
    while (work(queue)) continue;
    history.check(
        {.in_order = in_order, .closed = false, .admitted = {}, .waiting = {}, .leased = {}});
  }
  Participants participants;
  std::span<std::byte> memory;
  ModelPeers afterwards;
  History<Tasks> history;
};

// Each process does what its letters say: u push, o pop (without waiting) and complete, b pop and
// give back, c close. The first may be mortal.
void queue_history(Run& run, std::initializer_list<const char*> processes, bool mortal,
                   bool in_order) {
  auto& world = run.ghost<QueueWorld>(run, processes.size());
  std::size_t i = 0;
  std::uint64_t task = 1;
  for (const char* letters : processes) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(letters, mortal && i == 0, [&world, &peers, letters, task] {
      NumberQueue queue(world.memory, peers);
      std::uint64_t next = task;
      for (const char* letter = letters; *letter != '\0'; ++letter) {
        if (*letter == 'u') world.push(queue, next++);
        if (*letter == 'o') world.work(queue);
        if (*letter == 'b') world.work(queue, true);
        if (*letter == 'c') world.made(Tasks::Kind::close, 0, [&] { return queue.close(); });
      }
    });
    task += std::string_view(letters).size();
    ++i;
  }
  run.finally([&world, in_order] { world.check_history(in_order); });
}

}  // namespace

std::vector<Scenario> history_scenarios() {
  return {
      {"control/lost_addition", {.preemptions = 1, .stale = 0}, counter<false>, true},
      {"litmus/counter", {.preemptions = 2, .deaths = 1, .stale = 1}, counter<true>},
      {"slot/history",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { slot_history(run, 2, 1, true); }},
      {"slot/history_conditional",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { conditional_history(run, true, false); }},
      {"slot/history_conditional_beside",
       {.preemptions = 2, .stale = 1},
       [](Run& run) { conditional_history(run, false, true); }},
      {"queue/history_in_order",
       {.preemptions = 2, .stale = 1},
       [](Run& run) {
         queue_history(run, {"uu", "oo"}, false, true);
       }},
      // QUEUE-7: who has pushed, and hears `empty` after it, has had its task taken.
      {"queue/history_hints",
       {.preemptions = 2, .stale = 2},
       [](Run& run) {
         queue_history(run, {"uo", "uo"}, false, false);
       }},
      {"queue/history",
       {.preemptions = 2, .stale = 1},
       [](Run& run) {
         queue_history(run, {"u", "uo", "oo"}, false, false);
       }},
      {"queue/history_returned",
       {.preemptions = 2, .stale = 1},
       [](Run& run) {
         queue_history(run, {"ub", "o", "o"}, false, false);
       }},
      {"queue/history_closed",
       {.preemptions = 2, .stale = 1},
       [](Run& run) {
         queue_history(run, {"uco", "uo"}, false, false);
       }},
      {"queue/history_dead",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) {
         queue_history(run, {"uoc", "uo", "o"}, true, false);
       }},
  };
}

}  // namespace heddle::model
