#pragma once

// What a rank's death in the middle of an allreduce costs the others: from its SIGKILL until they have
// the answer. No supervisor: whoever waits finds it dead. A fresh process takes its place, and dies next.

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>
#include <random>
#include <thread>

#include "heddle_group.hpp"

namespace heddle::bench {

class GroupDeath final : public Contender {
 public:
  explicit GroupDeath(std::size_t bytes) : bytes_(bytes) {}

  int processes() const override { return ranks; }  // the survivors, and who kills the others
  void prepare() override {
    state_.reset();
    there_.reset();
    there_.emplace(ranks, Memory::shared, bytes_);
  }

  void work(Member& member) override {
    if (member.rank() == 0) {
      kill_ranks(member);
    } else {
      survive(member);
    }
  }

  Sample result() override {
    there_.reset();
    Histogram all;
    for (const Histogram& each : state_->durations) all.merge(each);
    return {.value = nanoseconds(all.quantile(0.5)), .durations = all};
  }

 private:
  static constexpr int ranks = 4;
  static constexpr int survivors = ranks - 1;
  static constexpr std::uint32_t least_deaths = 4;  // in a sample: to set one up takes longer

  struct State {
    Atomic<std::uint32_t> at_work;   // ranks, counted through all deaths
    Atomic<std::uint32_t> returned;  // survivors, likewise
    Atomic<std::uint32_t> last;      // the number of the last death
    Atomic<std::uint32_t> victim;    // its rank
    Atomic<std::uint64_t> killed_at;
    std::array<Histogram, survivors> durations;
  };

  /// A child that takes part until it is killed.
  class Victim {
   public:
    Victim(const GroupSegment& there, State& state, bool first) {
      const pid_t parent = getpid();
      pid_ = fork();
      if (pid_ < 0) throw Failure(fmt::format("fork: {}", strerror(errno)));
      if (pid_ > 0) return;
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      try {
        GroupSegment::Joined joined(there);
        if (first) allreduce_and_check(joined);
        state.victim.store(static_cast<std::uint32_t>(joined.rank()), relaxed);
        state.at_work.fetch_add(1, release("BENCH.at_work"));
        for (;;) joined.allreduce(joined.buffer());
      } catch (const std::exception&) {
        _exit(1);
      }
    }
    void kill_it() const {
      kill(pid_, SIGKILL);
      int status = 0;
      waitpid(pid_, &status, 0);
      if (!WIFSIGNALED(status)) throw Failure("a rank that was to be killed had ended");
    }

   private:
    pid_t pid_;
  };

  static void allreduce_and_check(GroupSegment::Joined& joined) {
    const Exchange exchange(Operation::allreduce, {joined.rank(), ranks, 0}, joined.buffer());
    exchange.fill(0);
    for (int i = 0; i < exchange.calls().count; ++i) joined.allreduce(joined.buffer());
    exchange.check(0);
  }

  void kill_ranks(Member& member) {
    using namespace std::chrono_literals;
    const auto wait_for = [&](const char* what, auto&& ready) {
      for (; !ready(); member.look_around(what)) std::this_thread::sleep_for(1ms);
    };
    std::mt19937 random(std::random_device{}());
    std::uniform_int_distribution<int> moment(0, 40'000);  // µs: some allreduces
    std::optional<Victim> victim(std::in_place, *there_, *state_, true);
    member.start();
    for (std::uint32_t number = 1;; ++number) {
      wait_for("the ranks to be at work",
               [&] { return state_->at_work.load(acquire("BENCH.at_work")) == ranks * number; });
      const bool last = number >= least_deaths && member.over();
      if (last) state_->last.store(number, relaxed);
      std::this_thread::sleep_for(std::chrono::microseconds(moment(random)));
      state_->killed_at.store(ticks_before(), release("BENCH.killed"));
      victim->kill_it();
      wait_for("the survivors to return",
               [&] { return state_->returned.load(relaxed) == survivors * number; });
      if (last) break;
      victim.emplace(*there_, *state_, false);
    }
    member.stop();
  }

  void survive(Member& member) {
    Histogram& durations = state_->durations[static_cast<std::size_t>(member.rank() - 1)];
    GroupSegment::Joined joined(*there_);
    member.start();
    allreduce_and_check(joined);
    for (std::uint32_t number = 1;; ++number) {
      state_->at_work.fetch_add(1, release("BENCH.at_work"));
      GroupOutcome outcome;
      do {
        outcome = joined.member().allreduce(joined.buffer(), Reduction::sum, joined.deadline());
      } while (outcome);
      const std::uint64_t end = ticks_after();
      if (outcome.status != Status::peer_died || outcome.rank != state_->victim.load(relaxed)) {
        member.fail(fmt::format("got {} of rank {} when rank {} had died",
                                to_string(outcome.status), outcome.rank,
                                state_->victim.load(relaxed)));
      }
      durations.add(state_->killed_at.load(acquire("BENCH.killed")), end);
      const bool last = state_->last.load(relaxed) == number;
      state_->returned.fetch_add(1, relaxed);
      if (last) break;
      do {  // an epoch of the survivors alone, until the next one has joined
        outcome = joined.member().rebuild(joined.deadline());
        if (!outcome) member.fail(fmt::format("got {} from rebuild", to_string(outcome.status)));
      } while (joined.member().size() < ranks);
      joined.choose_buffer(*there_);
    }
    member.stop();
  }

  std::size_t bytes_;
  std::optional<GroupSegment> there_;
  Shared<State> state_;
};

}  // namespace heddle::bench
