#pragma once

// A task queue with options, for scenarios: two slots for each lane, and what the checks know of its
// tasks. (queue.cpp has the plain queue.)

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "heddle/sync/task_queue.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {

struct TaskWorld {
  using Queue = TaskQueue<std::uint64_t>;
  using Task = heddle::Task<std::uint64_t>;

  TaskWorld(Run& run, std::size_t places, const Queue::Options& options)
      : participants(run, places), memory(run.memory("queue", Queue::bytes(options))) {
    Queue::format(memory, options);
    participants.repair_with([this](const Dead& dead) { Queue::repair(memory, dead); });
    holder.fill(no_one);
  }

  Peers& joined(Run& run, std::size_t i) { return run.ghost<ModelPeers>(participants, i); }
  ModelPeers& recoverer(Run& run, std::size_t i) { return run.ghost<ModelPeers>(participants, i); }
  Queue& queue(Run& run, Peers& peers) {
    Queue& made = run.ghost<Queue>(memory, peers);
    made.wait_strategy(WaitStrategy::sleep);
    return made;
  }

  // Those of a task, by its payload.
  void begin(const Task& task) {
    check(static_cast<bool>(task), "a task is there");
    std::size_t& its = holder[task.payload()];
    check(its == no_one || has_ended(its), "QUEUE-3: two hold one task");
    its = self();
  }
  void complete(Task& task) {
    const std::uint64_t value = task.payload();
    ++completed[value];
    check(task.complete() == Status::ready, "QUEUE-3: a lease of the living is not lost");
    holder[value] = no_one;
  }

  static constexpr std::size_t no_one = 99;
  Participants participants;
  std::span<std::byte> memory;
  std::array<std::size_t, 16> holder{};
  std::array<int, 16> completed{};
};

/// Virtual time goes on for all.
inline void pass(std::chrono::milliseconds time) {
  machine::advance_time(std::chrono::nanoseconds(time).count());
}

}  // namespace heddle::model
