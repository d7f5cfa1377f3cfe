#pragma once

// One way: from the moment before a process publishes a value to the moment when another has all
// of it. The next value is published only after the reader's acknowledgement, so this is latency
// and says nothing of throughput. The value carries the moment and is verified word by word,
// outside of the time that is measured.
//
// A channel to measure:
//   Channel(bytes)                     makes it, in the benchmark's process
//   Channel::Writer(channel)           in one process:  void publish(std::span<const uint64_t>)
//   Channel::Reader(channel)           in another:      bool poll(), true when a new value is here;
//                                      then std::span<const uint64_t> value(), until release()
//   void reset()                       before each sample

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "clock.hpp"
#include "harness.hpp"

namespace heddle::bench {

/// What a reader does with a value that it does not copy.
inline void read_once(std::span<const std::uint64_t> value) {
  std::uint64_t sum = 0;
  for (const std::uint64_t word : value) sum += word;
  benchmark::DoNotOptimize(sum);
}

/// Enough for a reader that is to be woken by each value.
inline constexpr std::chrono::microseconds to_fall_asleep{100};

template <class Channel>
class OneWay final : public Contender {
 public:
  /// `rest`: before each value, for a reader that shall be asleep when it comes.
  explicit OneWay(std::size_t bytes, std::chrono::nanoseconds rest = {})
      : words_(bytes / 8), rest_(rest), channel_(bytes) {}

  int processes() const override { return 2; }

  void prepare() override {
    shared_.reset();
    channel_.reset();
  }

  void work(Member& member) override {
    if (member.rank() == 0) {
      write(member);
    } else {
      read(member);
    }
  }

  Sample result() override {
    if (shared_->durations.count() == 0) throw Failure("no exchange in a whole sample");
    return {nanoseconds(shared_->durations.quantile(0.5)), shared_->durations};
  }

 private:
  // Exchanges before those that count: pages, caches, every buffer once.
  std::uint64_t warm_up() const { return words_ < (std::size_t{1} << 20) ? 32 : 4; }

  struct State {
    alignas(64) Atomic<std::uint64_t> acknowledged;
    alignas(64) Atomic<std::uint64_t> last;
    alignas(64) Histogram durations;
  };

  static std::uint64_t word(std::uint64_t number, std::size_t at) {
    return number * 0x9e3779b97f4a7c15U + at;
  }

  void write(Member& member) {
    typename Channel::Writer writer(channel_);
    std::vector<std::uint64_t> value(words_);
    member.start();
    bool last = false;
    for (std::uint64_t number = 1; !last; ++number) {
      for (std::size_t i = 1; i < words_; ++i) value[i] = word(number, i);
      if ((last = member.over() && number > warm_up())) {
        shared_->last.store(number, release("BENCH.last"));
      }
      if (rest_.count() > 0) {
        const std::uint64_t end = ticks_before() + ticks_in(rest_);
        while (ticks_before() < end) pause();
      }
      value[0] = ticks_before();
      writer.publish(value);
      member.spin_until("an acknowledgement", [&] {
        return shared_->acknowledged.load(acquire("BENCH.acknowledged")) == number;
      });
    }
    member.stop();
  }

  void read(Member& member) {
    typename Channel::Reader reader(channel_);
    member.start();
    for (std::uint64_t number = 1;; ++number) {
      member.poll_until("a value", [&] { return reader.poll(); });
      const std::uint64_t now = ticks_after();

      const std::span<const std::uint64_t> value = reader.value();
      std::uint64_t wrong = 0;
      for (std::size_t i = 1; i < words_; ++i) wrong |= value[i] ^ word(number, i);
      if (wrong != 0) member.fail("value " + std::to_string(number) + " is torn or lost");
      if (number > warm_up()) shared_->durations.add(value[0], now);
      reader.release();
      const bool last = shared_->last.load(acquire("BENCH.last")) == number;
      shared_->acknowledged.store(number, release("BENCH.acknowledged"));
      if (last) break;
    }
    member.stop();
  }

  std::size_t words_;
  std::chrono::nanoseconds rest_;
  Shared<State> shared_;
  Channel channel_;
};

}  // namespace heddle::bench
