#pragma once

// Tasks per second through a queue: producers push for the length of a sample, consumers take
// and complete until all is done. Every payload is verified where it is taken, and afterwards
// every task must have come out exactly once.
//
// A queue to measure:
//   Queue()                  makes it, for queue_capacity payloads, in the benchmark's process
//   Queue::Handle(queue)     in each forked process:
//     bool push(const Payload&)    false: it is full
//     bool take(use)               calls use(const Payload&) and completes; false: it is empty
//
// One that is measured by several tasks at a time says how many, and counts them:
//   Queue::batch
//     std::size_t push(std::span<const Payload>)   the first so many are in; 0: it is full
//     std::size_t take(use)                        so many were used and completed; 0: it is empty

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "clock.hpp"
#include "harness.hpp"

namespace heddle::bench {

inline constexpr std::size_t queue_capacity = 4096;

/// What the take() of a queue's handle does when nothing is there, for queues that can do both.
enum class Waiting { spins, sleeps };

/// 64 bytes: those of a task, each word of which says which one, or any others.
class Payload {
 public:
  static constexpr std::size_t words = 8;

  Payload() = default;
  explicit Payload(std::uint64_t task) {
    for (std::size_t i = 0; i < words; ++i) words_[i] = task ^ (i << 56U);
  }
  explicit Payload(std::span<const std::uint64_t, words> value) {
    std::ranges::copy(value, words_.begin());
  }
  std::span<const std::uint64_t, words> value() const { return words_; }

  std::uint64_t task() const { return words_[0]; }
  bool intact() const {
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < words; ++i) wrong |= words_[i] ^ words_[0] ^ (i << 56U);
    return wrong == 0;
  }

 private:
  std::array<std::uint64_t, words> words_;
};
static_assert(sizeof(Payload) == 64);

template <class Queue, std::size_t pairs>
class QueueContender : public Contender {
 public:
  int processes() const override { return int{2 * pairs}; }

  void prepare() override { tally_.reset(); }

  // Producers and consumers alternate, and members are pinned in turn: on two cores all producers
  // are on the one and all consumers on the other. So every task crosses, which is the hard case
  // and the steady one; left to the scheduler, pairs that share a core pass tasks in long batches.
  void work(Member& member) override {
    const auto rank = static_cast<std::size_t>(member.rank());
    if (rank % 2 == 0) {
      produce(member, rank / 2);
    } else {
      consume(member, rank / 2);
    }
  }

  Sample result() override {
    std::uint64_t tasks = 0;
    for (std::size_t p = 0; p < pairs; ++p) {
      const std::uint64_t pushed = tally_->producers[p].pushed.load(relaxed);
      for (std::size_t at = 0; at * 64 < pushed; ++at) verify(p, at, pushed);
      tasks += pushed;
    }
    const auto first = std::ranges::min_element(tally_->producers, {}, &Producer::begin)->begin;
    const auto last = std::ranges::max_element(tally_->consumers, {}, &Consumer::end)->end;
    return {static_cast<double>(tasks) / (nanoseconds(static_cast<double>(last - first)) * 1e-9),
            {}};
  }

 protected:
  Queue queue_;

 private:
  static constexpr std::uint64_t most_tasks = 1U << 21U;  // of one producer in one sample
  static constexpr std::uint64_t tasks_between_looks = 64;
  static constexpr std::size_t batch = [] {
    if constexpr (requires { Queue::batch; }) {
      return Queue::batch;
    } else {
      return std::size_t{1};
    }
  }();
  static_assert(tasks_between_looks % batch == 0);
  using Bitmap = std::array<std::uint64_t, most_tasks / 64>;

  struct Producer {
    alignas(64) Atomic<std::uint64_t> pushed;
    Atomic<std::uint32_t> done;
    std::uint64_t begin;
  };
  struct Consumer {
    alignas(64) Atomic<std::uint64_t> taken;
    std::uint64_t end;
    std::array<Bitmap, pairs> tasks_of;  // of each producer: written by this consumer alone
  };
  struct Tally {
    std::array<Producer, pairs> producers;
    std::array<Consumer, pairs> consumers;
  };

  /// Full or empty: first spins, then lets another process have the core.
  static void wait_a_little(Member& member, unsigned tries, const char* what) {
    constexpr unsigned spins = 64;
    if (tries < spins && processors().size() > 1) {
      pause();
    } else {
      member.look_around(what);
    }
  }

  void produce(Member& member, std::size_t self) {
    typename Queue::Handle queue(queue_);
    Producer& tally = tally_->producers[self];
    member.start();
    tally.begin = ticks_before();
    std::uint64_t number = 0;
    while (number < most_tasks && (number % tasks_between_looks != 0 || !member.over())) {
      std::array<Payload, batch> tasks;
      for (Payload& task : tasks) task = Payload(self << 32U | number++);
      std::span<const Payload> left(tasks);
      for (unsigned tries = 0; !left.empty();) {
        const std::size_t pushed = push(queue, left);
        if (pushed == 0) wait_a_little(member, tries++, "room in the queue");
        left = left.subspan(pushed);
      }
    }
    tally.pushed.store(number, relaxed);
    tally.done.store(1, release("BENCH.pushed"));
    member.stop();
  }

  static std::size_t push(typename Queue::Handle& queue, std::span<const Payload> tasks) {
    if constexpr (batch == 1) {
      return queue.push(tasks.front());
    } else {
      return queue.push(tasks);
    }
  }

  void consume(Member& member, std::size_t self) {
    typename Queue::Handle queue(queue_);
    Consumer& tally = tally_->consumers[self];
    const auto use = [&](const Payload& payload) {
      const std::uint64_t producer = payload.task() >> 32U;
      const std::uint64_t number = payload.task() & 0xffffffffU;
      if (!payload.intact() || producer >= pairs || number >= most_tasks) {
        member.fail("a payload came out damaged");
      }
      std::uint64_t& word = tally.tasks_of[producer][number / 64];
      const std::uint64_t bit = std::uint64_t{1} << number % 64;
      if (word & bit) member.fail(describe(producer, number, "came out twice"));
      word |= bit;
    };

    member.start();
    std::uint64_t taken = 0;
    for (;;) {
      std::size_t got;
      while ((got = queue.take(use)) > 0) taken += got;
      tally.end = ticks_after();
      tally.taken.store(taken, relaxed);
      unsigned tries = 0;
      while ((got = queue.take(use)) == 0) {
        if (all_done()) {
          member.stop();
          return;
        }
        wait_a_little(member, tries++, "a task: none comes out");
      }
      taken += got;
    }
  }

  bool all_done() const {
    std::uint64_t pushed = 0;
    for (const Producer& producer : tally_->producers) {
      if (producer.done.load(acquire("BENCH.pushed")) == 0) return false;
      pushed += producer.pushed.load(relaxed);
    }
    std::uint64_t taken = 0;
    for (const Consumer& consumer : tally_->consumers) taken += consumer.taken.load(relaxed);
    return taken >= pushed;
  }

  /// The 64 tasks of a word: each has come out, and of one consumer alone.
  void verify(std::size_t producer, std::size_t at, std::uint64_t pushed) const {
    std::uint64_t all = 0;
    std::uint64_t twice = 0;
    for (const Consumer& consumer : tally_->consumers) {
      twice |= all & consumer.tasks_of[producer][at];
      all |= consumer.tasks_of[producer][at];
    }
    const std::uint64_t left = pushed - at * 64;
    const std::uint64_t expected = left >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << left) - 1;
    const auto number = [&](std::uint64_t bits) {
      return at * 64 + static_cast<std::uint64_t>(std::countr_zero(bits));
    };
    if (twice) throw Failure(describe(producer, number(twice), "came out twice"));
    if (all != expected) {
      throw Failure(describe(producer, number(all ^ expected),
                             all & ~expected ? "came out and was never pushed" : "was lost"));
    }
  }

  static std::string describe(std::uint64_t producer, std::uint64_t number, const char* what) {
    return fmt::format("task {} of producer {} {}", number, producer, what);
  }

  Shared<Tally> tally_;
};

}  // namespace heddle::bench
