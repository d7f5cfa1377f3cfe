#pragma once

// A publisher at full speed: how often it publishes, and how often readers copy the newest value,
// when all of them do it as often as they can; and how often it publishes while a reader is stopped
// with a view open. A value has 64 bytes, so that publications pass as fast as they ever do, and
// says which version it is.

#include <signal.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <fstream>
#include <span>
#include <string>

#include "clock.hpp"
#include "harness.hpp"
#include "heddle_slot.hpp"

namespace heddle::bench {

/// How often something was done, and in what time.
struct alignas(64) Rate {
  std::uint64_t times = 0;
  std::uint64_t ticks = 0;

  double per_second() const {
    return static_cast<double>(times) / (nanoseconds(static_cast<double>(ticks)) * 1e-9);
  }
  /// Does it until the sample is over, which it looks for every 16th time.
  template <class Once>
  void measure(const Member& member, Once&& once) {
    const std::uint64_t begin = ticks_before();
    do {
      for (int i = 0; i < 16; ++i) once();
      times += 16;
    } while (!member.over());
    ticks = ticks_after() - begin;
  }
};

class SlotLoad : public Contender {
 protected:
  using Value = std::array<std::uint64_t, 8>;

  /// The slot's only publisher. There is a value from its construction on.
  class Publisher : HeddleSlot::Writer {
   public:
    explicit Publisher(HeddleSlot& slot) : Writer(slot), version_(slot_.version()) { next(); }
    void next() {
      ++version_;
      for (std::size_t i = 0; i < value_.size(); ++i) value_[i] = word(version_, i);
      publish(value_);
    }

   private:
    Version version_;
    Value value_{};
  };

  static bool is_of(Version version, std::span<const std::uint64_t> value) {
    std::uint64_t wrong = 0;
    for (std::size_t i = 0; i < value.size(); ++i) wrong |= value[i] ^ word(version, i);
    return wrong == 0;
  }

  HeddleSlot slot_{sizeof(Value)};

 private:
  static std::uint64_t word(Version version, std::size_t at) {
    return version * 0x9e3779b97f4a7c15U + at;
  }
};

class SlotReaders final : public SlotLoad {
 public:
  explicit SlotReaders(int readers) : readers_(readers) {}

  int processes() const override { return 1 + readers_; }
  void prepare() override { state_.reset(); }

  void work(Member& member) override {
    if (member.rank() == 0) {
      Publisher publisher(slot_);
      member.start();
      state_->publications.measure(member, [&] { publisher.next(); });
      member.stop();
    } else {
      read(member, state_->readers[static_cast<std::size_t>(member.rank()) - 1]);
    }
  }

  Sample result() override {
    double pulls = 0;
    double retries = 0;
    double busy = 0;
    double per_second = 0;
    for (int i = 0; i < readers_; ++i) {
      const Reader& reader = state_->readers[static_cast<std::size_t>(i)];
      pulls += static_cast<double>(reader.pulls.times);
      retries += static_cast<double>(reader.retries);
      busy += static_cast<double>(reader.busy);
      per_second += reader.pulls.per_second();
    }
    return {state_->publications.per_second(),
            {},
            {{"pulls", "pulls/s", per_second},
             {"retries", "retries/M pulls", 1e6 * retries / pulls},
             {"busy", "busy/M pulls", 1e6 * busy / pulls}}};
  }

 private:
  class Puller : HeddleSlot::Handle {
   public:
    using Handle::Handle;
    Reading pull(Value& value) { return slot_.pull(std::span(value)); }
  };

  void read(Member& member, auto& reader) {
    Puller puller(slot_);
    Version last = 0;
    Value value;
    member.start();
    reader.pulls.measure(member, [&] {
      const Reading reading = puller.pull(value);
      reader.retries += reading.retries;
      if (reading.status == Status::busy) {
        ++reader.busy;
      } else if (!reading || reading.version < last || !is_of(reading.version, value)) {
        member.fail("version " + std::to_string(reading.version) + " after " +
                    std::to_string(last) + " is torn or lost");
      } else {
        last = reading.version;
      }
    });
    member.stop();
  }

  struct Reader {
    Rate pulls;
    std::uint64_t retries = 0;
    std::uint64_t busy = 0;  // publishers passed at every attempt of one pull
  };
  struct State {
    Rate publications;
    std::array<Reader, 8> readers;
  };

  int readers_;
  Shared<State> state_;
};

/// With `stops`, the reader opens a view and is stopped; without, it is not there.
template <bool stops>
class SlotStoppedReader final : public SlotLoad {
 public:
  int processes() const override { return 2; }
  void prepare() override { state_.reset(); }

  void work(Member& member) override {
    if (member.rank() == 0) {
      Publisher publisher(slot_);
      member.start();
      if (stops) member.spin_until("the reader to be stopped", [&] { return is_stopped(); });
      state_->publications.measure(member, [&] { publisher.next(); });
      if (stops) kill(reader(), SIGCONT);
      member.stop();
    } else {
      Viewer viewer(slot_);
      member.start();
      if (stops) {
        const auto view = viewer.pull();
        state_->reader.store(static_cast<std::uint32_t>(getpid()), release("BENCH.viewed"));
        raise(SIGSTOP);
        if (!view || !is_of(view.reading().version, view.values())) {
          member.fail("a value was overwritten under its view");
        }
      }
      member.stop();
    }
  }

  Sample result() override { return {state_->publications.per_second(), {}}; }

 private:
  class Viewer : HeddleSlot::Handle {
   public:
    explicit Viewer(HeddleSlot& slot) : Handle(slot), reader_(slot_.reader()) {}
    HeddleSlot::Words::View pull() { return reader_.pull(); }

   private:
    HeddleSlot::Words::Reader reader_;
  };

  pid_t reader() const { return static_cast<pid_t>(state_->reader.load(acquire("BENCH.viewed"))); }
  bool is_stopped() const {
    if (reader() == 0) return false;
    std::string number, name, state;
    std::ifstream("/proc/" + std::to_string(reader()) + "/stat") >> number >> name >> state;
    return state == "T";
  }

  struct State {
    Rate publications;
    Atomic<std::uint32_t> reader;
  };
  Shared<State> state_;
};

}  // namespace heddle::bench
