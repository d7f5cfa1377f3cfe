#pragma once

// What a worker's death costs the others: the repair of its queue by the survivor that finds it dead,
// and the time until its task is in another's hands. Real processes, real SIGKILLs.

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>

#include "clock.hpp"
#include "harness.hpp"
#include "heddle/run/supervisor.hpp"
#include "heddle/run/worker.hpp"
#include "heddle_queue.hpp"

namespace heddle::bench {

/// A child that takes a task and has it when it dies: at once, or when it is killed.
class Holder {
 public:
  enum class Death { at_once, when_killed };

  explicit Holder(HeddleQueue& shared, Death death = Death::when_killed) {
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) throw Failure(fmt::format("fork: {}", strerror(errno)));
    if (pid_ > 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    try {
      HeddleQueue::Handle queue(shared);
      const Task<Payload> task = queue.wait_and_pop();
      if (death == Death::at_once) raise(SIGKILL);
      for (;;) ::pause();
    } catch (const std::exception&) {
      _exit(1);
    }
  }

  /// Until the kernel has taken it apart.
  void bury() const {
    int status = 0;
    waitpid(pid_, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
      throw Failure("a worker that was to be killed ended otherwise");
    }
  }
  void kill_it() const {
    kill(pid_, SIGKILL);
    bury();
  }

 private:
  pid_t pid_;
};

/// The task is the one of the dead, and whole.
inline void take_over(Task<Payload>& task, std::uint64_t number) {
  if (!task || !task.payload().intact() || task.payload().task() != number || task.tries() != 2) {
    throw Failure(fmt::format("task {} was not handed over", number));
  }
  HeddleQueue::Handle::complete(task);
}

/// From a survivor's look until all that a dead worker held is back. The worker had one task: how much
/// there is to look through is what counts.
class QueueRecovery final : public Contender {
 public:
  explicit QueueRecovery(std::uint32_t slots) : queue_(slots) {}

  int processes() const override { return 1; }
  void prepare() override { durations_.reset(); }

  void work(Member& member) override {
    HeddleQueue::Handle survivor(queue_);
    static_cast<void>(survivor.tasks().count());  // maps every page
    member.start();
    std::uint64_t number = 0;
    do {
      survivor.push(Payload(++number));
      Holder(queue_, Holder::Death::at_once).bury();
      std::uint64_t begin = 0;
      member.spin_until("a dead worker to be found", [&] {
        begin = ticks_before();
        return survivor.segment().recover_dead() == 1;
      });
      durations_->add(begin, ticks_after());
      Task<Payload> task = survivor.pop();
      take_over(task, number);
    } while (!member.over());
    member.stop();
  }

  Sample result() override { return {nanoseconds(durations_->quantile(0.5)), *durations_}; }

 private:
  HeddleQueue queue_;
  Shared<Histogram> durations_;
};

/// The same as a worker of a supervisor, which sees its death and recovers at once.
class SupervisedHolder {
 public:
  /// Makes this program such a worker.
  static constexpr const char* argument = "hold-a-task";
  static void work() {
    Worker worker = Worker::from_environment();
    auto tasks = worker.segment().find<HeddleQueue::Tasks>("tasks");
    const Task<Payload> task = tasks.pop();
    while (!worker.stop_requested()) ::pause();
  }

  explicit SupervisedHolder(HeddleQueue& shared)
      : queue_(shared),
        supervisor_(
            queue_.segment(),
            {.command = {"/proc/self/exe", argument}, .max_restarts = 0, .environment = {}}),
        pid_(supervisor_.poll(Deadline::now()).at(0).pid) {}

  void kill_it() {
    kill(pid_, SIGKILL);
    while (supervisor_.state() == Supervisor::State::running) supervisor_.poll(Deadline::never());
  }

 private:
  HeddleQueue::Handle queue_;
  Supervisor supervisor_;
  pid_t pid_;
};

/// From a SIGKILL until a process that waits for tasks has the one of the killed.
template <class Victim>
class QueueHandover final : public Contender {
 public:
  int processes() const override { return 2; }
  void prepare() override { state_.reset(); }

  void work(Member& member) override {
    if (member.rank() == 0) {
      kill_holders(member);
    } else {
      wait_for_tasks(member);
    }
  }

  Sample result() override {
    return {nanoseconds(state_->durations.quantile(0.5)), state_->durations};
  }

 private:
  struct State {
    Atomic<std::uint64_t> held;  // the number of the task that a victim has
    Atomic<std::uint64_t> killed_at;
    Atomic<std::uint64_t> taken;  // the number of the task that was handed over
    Atomic<std::uint64_t> last;
    Histogram durations;
  };

  void kill_holders(Member& member) {
    HeddleQueue::Handle queue(queue_);
    member.start();
    bool last = false;
    for (std::uint64_t number = 1; !last; ++number) {
      queue.push(Payload(number));
      Victim victim(queue_);
      while (queue.tasks().count().leased == 0) member.look_around("a worker to take its task");
      if ((last = member.over())) state_->last.store(number, relaxed);
      state_->held.store(number, release("BENCH.held"));
      // The other falls asleep, and looks after those who hold tasks every 10 ms: the kill comes at
      // any moment between two looks.
      using namespace std::chrono_literals;
      std::this_thread::sleep_for(2ms + std::chrono::nanoseconds(monotonic_ns()) % 10ms);

      state_->killed_at.store(ticks_before(), relaxed);
      victim.kill_it();
      member.spin_until("the task to be handed over",
                        [&] { return state_->taken.load(acquire("BENCH.handed_over")) == number; });
    }
    member.stop();
  }

  void wait_for_tasks(Member& member) {
    HeddleQueue::Handle queue(queue_);
    member.start();
    bool last = false;
    for (std::uint64_t number = 1; !last; ++number) {
      member.spin_until("a worker to have a task",
                        [&] { return state_->held.load(acquire("BENCH.held")) == number; });
      Task<Payload> task = queue.wait_and_pop();
      state_->durations.add(state_->killed_at.load(relaxed), ticks_after());
      take_over(task, number);
      last = state_->last.load(relaxed) == number;
      state_->taken.store(number, release("BENCH.handed_over"));
    }
    member.stop();
  }

  HeddleQueue queue_;
  Shared<State> state_;
};

}  // namespace heddle::bench
