#include "heddle/base/wait.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "support/process.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::eventually;

constexpr std::int64_t far_too_long = 5'000'000'000;  // nobody sleeps that long but by a bug

std::uint32_t word_of(const Event& event) {
  return reinterpret_cast<const Atomic<std::uint32_t>&>(event).load(relaxed);
}
bool has_bit(const Event& event) { return (word_of(event) & 1) != 0; }

bool is_asleep(pid_t thread) {
  std::string status;
  std::getline(std::ifstream("/proc/self/task/" + std::to_string(thread) + "/stat"), status);
  return status.find(") S ") != status.npos;
}

// A thread that waits on an event without the inner timeouts of wait_for: only a wake ends it.
class Sleeper {
 public:
  template <class Ready>
  Sleeper(Event& event, Ready ready)
      : thread_([this, &event, ready] {
          tid_ = gettid();
          for (;;) {
            const std::uint32_t announced = event.announce();
            if (ready()) break;
            const std::int64_t start = monotonic_ns();
            event.sleep(announced, far_too_long);
            if (monotonic_ns() - start >= far_too_long) overslept_ = true;
          }
          done_ = true;
        }) {}
  ~Sleeper() { thread_.join(); }

  bool done() const { return done_; }
  bool overslept() const { return overslept_; }
  bool asleep() const { return is_asleep(tid_); }

 private:
  std::atomic<pid_t> tid_ = 0;
  std::atomic<bool> done_ = false;
  std::atomic<bool> overslept_ = false;
  std::thread thread_;
};

TEST(Event, nobody_asleep_means_that_a_notification_changes_nothing) {  // no system call either
  Event event{};
  event.notify_all();
  event.notify_one();
  event.notify_one_after_rmw();
  EXPECT_EQ(word_of(event), 0U);
}

TEST(Event, notify_all_wakes_every_sleeper_and_clears_the_bit) {  // WAIT-2
  Event event{};
  std::atomic<bool> go = false;
  std::deque<Sleeper> sleepers;
  for (int i = 0; i < 4; ++i) sleepers.emplace_back(event, [&] { return go.load(); });
  for (const Sleeper& sleeper : sleepers) {
    ASSERT_TRUE(eventually([&] { return sleeper.asleep(); }));
  }
  EXPECT_TRUE(has_bit(event));
  go = true;
  event.notify_all();
  for (const Sleeper& sleeper : sleepers) {
    EXPECT_TRUE(eventually([&] { return sleeper.done(); }));
    EXPECT_FALSE(sleeper.overslept());
  }
  event.notify_all();  // for a bit that a sleeper announced again
  EXPECT_FALSE(has_bit(event));
}

TEST(Event, notify_one_wakes_one_and_leaves_the_bit_to_the_other) {
  Event event{};
  std::atomic<int> tasks = 0;
  const auto take = [&] {
    int have = tasks.load();
    return have > 0 && tasks.compare_exchange_strong(have, have - 1);
  };
  Sleeper first(event, take);
  Sleeper second(event, take);
  ASSERT_TRUE(eventually([&] { return first.asleep() && second.asleep(); }));
  tasks = 1;
  event.notify_one();
  ASSERT_TRUE(eventually([&] { return first.done() || second.done(); }));
  EXPECT_TRUE(has_bit(event));
  EXPECT_FALSE(first.done() && second.done());
  tasks = 1;
  event.notify_one();
  EXPECT_TRUE(eventually([&] { return first.done() && second.done(); }));
  EXPECT_FALSE(first.overslept() || second.overslept());
}

TEST(Event, n_pushes_wake_n_sleepers) {
  constexpr int count = 6;
  for (int round = 0; round < 20; ++round) {
    Event event{};
    std::atomic<int> tasks = 0;
    const auto take = [&] {
      int have = tasks.load();
      while (have > 0) {
        if (tasks.compare_exchange_strong(have, have - 1)) return true;
      }
      return false;
    };
    std::deque<Sleeper> sleepers;
    for (int i = 0; i < count; ++i) sleepers.emplace_back(event, take);
    for (const Sleeper& sleeper : sleepers) {
      ASSERT_TRUE(eventually([&] { return sleeper.asleep(); }));
    }
    for (int i = 0; i < count; ++i) {
      ++tasks;
      event.notify_one();
    }
    for (const Sleeper& sleeper : sleepers) {
      EXPECT_TRUE(eventually([&] { return sleeper.done(); }));
      EXPECT_FALSE(sleeper.overslept());
    }
  }
}

TEST(Event, a_hand_over_back_and_forth_loses_no_wake) {  // WAIT-1
  constexpr std::uint32_t rounds = 25'000;
  for (const bool one : {false, true}) {
    Event event{};
    std::atomic<std::uint32_t> turn = 0;
    std::atomic<bool> overslept = false;
    const auto player = [&](std::uint32_t parity) {
      for (std::uint32_t round = parity; round < rounds; round += 2) {
        while (turn.load() != round) {
          const std::uint32_t announced = event.announce();
          if (turn.load() == round) break;
          const std::int64_t start = monotonic_ns();
          event.sleep(announced, far_too_long);
          if (monotonic_ns() - start >= far_too_long) overslept = true;
        }
        turn.store(round + 1, std::memory_order_relaxed);
        one ? event.notify_one() : event.notify_all();
      }
    };
    std::thread other(player, 1U);
    player(0);
    other.join();
    EXPECT_FALSE(overslept);
  }
}

TEST(Event, the_bit_of_a_dead_sleeper_is_cleared_by_the_first_wake_that_finds_nobody) {
  for (const bool one : {false, true}) {
    Event event{};
    event.announce();  // and then it dies
    ASSERT_TRUE(has_bit(event));
    one ? event.notify_one() : event.notify_all();
    EXPECT_FALSE(has_bit(event));
    const std::uint32_t after = word_of(event);
    one ? event.notify_one() : event.notify_all();
    EXPECT_EQ(word_of(event), after) << "a second wake has nothing to do";
  }
}

TEST(Event, a_wake_between_announcement_and_sleep_is_not_lost) {  // WAIT-1
  for (const bool one : {false, true}) {
    Event event{};
    const std::uint32_t announced = event.announce();
    one ? event.notify_one() : event.notify_all();
    const std::int64_t start = monotonic_ns();
    event.sleep(announced, far_too_long);
    EXPECT_LT(monotonic_ns() - start, far_too_long);
  }
}

// Or one who announced it and was slow to fall asleep would miss what happened in between.
TEST(Event, an_announced_word_never_comes_back_once_its_bit_was_cleared) {  // WAIT-1
  Event by_all{};
  const std::uint32_t announced = by_all.announce();
  by_all.notify_all();
  EXPECT_NE(by_all.announce(), announced);

  Event by_one{};
  const std::uint32_t passed = by_one.announce() + 2;  // stands there while notify_one wakes
  by_one.notify_one();
  ASSERT_FALSE(has_bit(by_one));
  EXPECT_NE(by_one.announce(), passed);
}

TEST(Event, a_woken_sleeper_that_dies_takes_no_wake_with_it) {
  Event event{};
  std::atomic<pid_t> dying_id = 0;
  std::thread dying([&] {
    dying_id = gettid();
    event.sleep(event.announce(), far_too_long);
  });
  ASSERT_TRUE(eventually([&] { return is_asleep(dying_id); }));
  std::atomic<bool> go = false;
  Sleeper other(event, [&] { return go.load(); });
  ASSERT_TRUE(eventually([&] { return other.asleep(); }));
  event.notify_one();  // the first to sleep is the first to wake
  dying.join();
  go = true;
  event.notify_one();
  EXPECT_TRUE(eventually([&] { return other.done(); }));
  EXPECT_FALSE(other.overslept());
}

TEST(Event, recovery_wakes_sleepers_whose_waker_died_after_it_took_the_bit) {
  Event event{};
  std::atomic<bool> go = false;
  Sleeper sleeper(event, [&] { return go.load(); });
  ASSERT_TRUE(eventually([&] { return sleeper.asleep(); }));
  go = true;
  auto& word = reinterpret_cast<Atomic<std::uint32_t>&>(event);
  word.store(word.load(relaxed) + 1, relaxed);  // as notify_all leaves it just before its wake
  ASSERT_FALSE(has_bit(event));
  ASSERT_FALSE(sleeper.done());
  event.wake_regardless();
  EXPECT_TRUE(eventually([&] { return sleeper.done(); }));
  EXPECT_FALSE(sleeper.overslept());
}

class WaitFor : public testing::TestWithParam<WaitStrategy> {
 protected:
  static Status go_on() { return Status::ready; }
  Event event_{};
};

std::string strategy_name(const testing::TestParamInfo<WaitStrategy>& info) {
  constexpr const char* names[] = {"spin", "adaptive", "sleep"};
  return names[static_cast<std::size_t>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Strategy, WaitFor,
                         testing::Values(WaitStrategy::spin, WaitStrategy::adaptive,
                                         WaitStrategy::sleep),
                         strategy_name);

TEST_P(WaitFor, what_is_ready_is_taken_at_once_even_when_the_deadline_is_over) {
  const Status status = wait_for(
      event_, Deadline::now(), GetParam(), [] { return true; }, [] { return Status::peer_died; });
  EXPECT_EQ(status, Status::ready);
}

TEST_P(WaitFor, a_deadline_of_now_probes_once_and_looks_before_and_after) {
  int looks = 0;
  int probes = 0;
  const auto never_ready = [&] { return ++looks, false; };
  const auto probe = [&] { return ++probes, Status::ready; };
  EXPECT_EQ(wait_for(event_, Deadline::now(), GetParam(), never_ready, probe), Status::timeout);
  EXPECT_EQ(looks, 2);
  EXPECT_EQ(probes, 1);
  EXPECT_EQ(word_of(event_), 0U);
}

TEST_P(WaitFor, ends_with_timeout_not_before_the_deadline) {
  const std::int64_t start = monotonic_ns();
  const Status status = wait_for(
      event_, Deadline::after(15ms), GetParam(), [] { return false; }, go_on);
  EXPECT_EQ(status, Status::timeout);
  EXPECT_GE(monotonic_ns() - start, 15'000'000);
}

TEST_P(WaitFor, gives_up_with_what_the_probe_says) {
  int probes = 0;
  const auto probe = [&] { return ++probes < 3 ? Status::ready : Status::peer_died; };
  EXPECT_EQ(wait_for(
                event_, Deadline::never(), GetParam(), [] { return false; }, probe),
            Status::peer_died);
  EXPECT_EQ(probes, 3);
}

TEST_P(WaitFor, asks_once_more_before_it_gives_up) {
  bool arrived = false;
  const auto probe = [&] { return arrived = true, Status::peer_died; };  // it came, and then died
  EXPECT_EQ(wait_for(
                event_, Deadline::never(), GetParam(), [&] { return arrived; }, probe),
            Status::ready);
}

TEST_P(WaitFor, a_lost_wake_costs_one_inner_sleep_and_not_the_deadline) {
  std::atomic<bool> arrived = false;
  std::thread dying([&] {  // changes the state, and gets no further
    if (GetParam() != WaitStrategy::spin) eventually([&] { return has_bit(event_); });
    arrived = true;
  });
  const std::int64_t start = monotonic_ns();
  const auto deadline = Deadline::after(test::patience);
  EXPECT_EQ(wait_for(
                event_, deadline, GetParam(), [&] { return arrived.load(); }, go_on),
            Status::ready);
  EXPECT_LT(monotonic_ns() - start, test::patience / 1ns);
  dying.join();
}

TEST_P(WaitFor, is_ended_by_a_change_in_another_thread) {
  std::atomic<int> turn = 0;
  constexpr int rounds = 2'000;
  const auto player = [&](int parity) {
    for (int round = parity; round < rounds; round += 2) {
      const Status status = wait_for(
          event_, Deadline::after(test::patience), GetParam(), [&] { return turn == round; },
          go_on);
      if (status != Status::ready) return;
      turn.store(round + 1, std::memory_order_relaxed);
      event_.notify_all();
    }
  };
  std::thread other(player, 1);
  player(0);
  other.join();
  EXPECT_EQ(turn, rounds);
}

TEST(Waiting, only_the_spinning_strategy_never_announces_itself) {
  for (const WaitStrategy strategy :
       {WaitStrategy::spin, WaitStrategy::adaptive, WaitStrategy::sleep}) {
    Event event{};
    int probes = 0;  // by the second, whoever sleeps at all has slept
    EXPECT_EQ(wait_for(
                  event, Deadline::never(), strategy, [] { return false; },
                  [&] { return ++probes < 2 ? Status::ready : Status::peer_died; }),
              Status::peer_died);
    EXPECT_EQ(has_bit(event), strategy != WaitStrategy::spin);
  }
}

TEST(Patience, once_lost_comes_back_after_256_waits) {
  Patience patience;
  EXPECT_TRUE(patience.has_any());
  patience.lose();
  for (int i = 1; i < 256; ++i) EXPECT_FALSE(patience.has_any()) << i;
  EXPECT_TRUE(patience.has_any());
  EXPECT_TRUE(patience.has_any());
}

TEST(Deadline, too_far_to_count_is_never) {
  EXPECT_TRUE(Deadline::after(std::chrono::nanoseconds::max()).is_never());
  EXPECT_TRUE(Deadline::never().is_never());
  EXPECT_GT(Deadline::never().left(monotonic_ns()), 0);
  EXPECT_TRUE(Deadline::now().is_now());
  EXPECT_LE(Deadline::after(-1s).left(monotonic_ns()), 0);
}

}  // namespace
}  // namespace heddle
