// Real processes in one barrier, and SIGKILL.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/barrier.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using test::eventually;
using test::Line;
using test::Process;
using testing::ElementsAre;
using namespace std::chrono_literals;

constexpr const char* name = "step";

std::string text(const Barrier::Outcome& outcome) {
  std::string line = std::string(to_string(outcome.status)) + " " + std::to_string(outcome.epoch);
  if (outcome.died) line += " " + std::to_string(outcome.died.index());
  return line;
}

// Joins, says its index; then does and answers what it is told: "pass" or "leave".
void party(Line& test, int fd) {
  Segment segment = Segment::adopt(fd);
  Barrier::Party mine = segment.find<Barrier>(name).join();
  test.say(std::to_string(segment.peers().self().index()));
  for (;;) {
    const std::string command = test.hear();
    if (command == "pass") {
      test.say(text(mine.arrive_and_wait(Deadline::after(test::patience))));
    } else {
      return;  // leaves
    }
  }
}

struct BarrierProcesses : testing::Test {
  void start(std::uint32_t parties) {
    barrier.emplace(segment.open<Barrier>(name, {parties, 0, Barrier::OnDeath::report}));
    for (std::uint32_t i = 0; i < parties; ++i) add();
  }
  void add() {
    workers.emplace_back([fd = segment.fd()](Line& test) { party(test, fd); });
    index.push_back(workers.back().hear());
  }
  void all_pass(std::initializer_list<std::size_t> who, const std::string& outcome) {
    for (const std::size_t i : who) workers[i].say("pass");
    for (const std::size_t i : who) EXPECT_EQ(workers[i].hear(), outcome);
  }
  std::size_t missing() const {
    std::array<Owner, 16> owners;
    return barrier->missing(owners);
  }

  Segment segment = Segment::anonymous({});
  std::optional<Barrier> barrier;  // watched from here, not joined
  std::vector<Process> workers;
  std::vector<std::string> index;
};

TEST_F(BarrierProcesses, pass_together) {
  start(3);
  for (int epoch = 1; epoch <= 20; ++epoch) all_pass({0, 1, 2}, "ready " + std::to_string(epoch));
}

TEST_F(BarrierProcesses, survivors_are_told_of_a_party_killed_before_it_arrives) {
  start(3);
  all_pass({0, 1, 2}, "ready 1");
  workers[2].kill();
  all_pass({0, 1}, "peer_died 2 " + index[2]);
  all_pass({0, 1}, "ready 3");
}

TEST_F(BarrierProcesses, survivors_that_wait_already_are_told_in_bounded_time) {
  start(3);
  all_pass({0, 1, 2}, "ready 1");
  workers[0].say("pass");
  workers[1].say("pass");
  ASSERT_TRUE(eventually([&] { return missing() == 1; }));
  std::this_thread::sleep_for(20ms);  // so that they sleep
  workers[2].kill();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(workers[0].hear(), "peer_died 2 " + index[2]);
  EXPECT_EQ(workers[1].hear(), "peer_died 2 " + index[2]);
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_LT(took, 1s) << "nobody but the survivors looks";  // 10 ms when they have a core
  RecordProperty("microseconds", static_cast<int>(took / 1us));
}

TEST_F(BarrierProcesses, party_killed_while_it_waits_has_arrived) {
  start(3);
  workers[2].say("pass");
  ASSERT_TRUE(eventually([&] { return missing() == 2; }));
  workers[2].kill();
  all_pass({0, 1}, "ready 1");
  all_pass({0, 1}, "peer_died 2 " + index[2]);
  all_pass({0, 1}, "ready 3");
}

TEST_F(BarrierProcesses, process_started_again_joins_again) {
  start(3);
  workers[2].kill();
  all_pass({0, 1}, "peer_died 1 " + index[2]);
  add();
  EXPECT_EQ(index[3], index[2]) << "the same index of the table of participants";
  EXPECT_EQ(barrier->members(), 3U);
  all_pass({0, 1}, "ready 2");  // in which it came
  all_pass({0, 1, 3}, "ready 3");
}

TEST_F(BarrierProcesses, process_that_ends_well_leaves) {
  start(3);
  workers[2].say("leave");
  EXPECT_EQ(workers[2].join(), 0);
  all_pass({0, 1}, "ready 1");
}

TEST_F(BarrierProcesses, stopped_party_is_waited_for) {
  start(2);
  workers[1].stop();
  workers[0].say("pass");
  ASSERT_TRUE(eventually([&] { return missing() == 1; }));
  std::this_thread::sleep_for(30ms);  // the waiter has looked at it by now
  EXPECT_EQ(barrier->members(), 2U);
  workers[1].resume();
  workers[1].say("pass");
  EXPECT_EQ(workers[0].hear(), "ready 1");
  EXPECT_EQ(workers[1].hear(), "ready 1");
}

TEST_F(BarrierProcesses, all_but_one_may_die_at_once) {
  start(4);
  for (const std::size_t i : {1U, 2U, 3U}) workers[i].kill();
  workers[0].say("pass");
  EXPECT_EQ(workers[0].hear().substr(0, 11), "peer_died 1");
  all_pass({0}, "ready 2");
}

// What is known of each epoch of a storm, in memory that all its processes share. Whoever passes
// notes how many had arrived by then: were it fewer than in the end, it would have passed early.
struct Record {
  static constexpr std::uint64_t most = 1 << 22;
  struct Epoch {
    std::atomic<std::uint32_t> arrived;
    std::atomic<std::uint32_t> seen;     // by those who passed: 0, or the same for all
    std::atomic<std::uint32_t> outcome;  // likewise
  };
  std::array<Epoch, most> epochs;
  std::atomic<bool> stop, differ;
  std::atomic<std::uint64_t> passed;

  static void agree(std::atomic<std::uint32_t>& all, std::uint32_t mine,
                    std::atomic<bool>& differ) {
    std::uint32_t before = 0;
    if (!all.compare_exchange_strong(before, mine) && before != mine) differ = true;
  }

  void run(Barrier::Party& party) {
    std::uint64_t epoch = party.wait(Deadline::after(test::patience)).epoch;
    while (!stop && ++epoch < most) {
      epochs[epoch].arrived.fetch_add(1);
      const Barrier::Outcome outcome = party.arrive_and_wait(Deadline::after(test::patience));
      if (outcome.epoch != epoch) differ = true;
      agree(epochs[epoch].seen, epochs[epoch].arrived.load(), differ);
      agree(epochs[epoch].outcome,
            1 + static_cast<std::uint32_t>(outcome.status) * 2048 +
                static_cast<std::uint32_t>(outcome.died.bits()),
            differ);
      passed.fetch_add(1);
    }
    party.leave();
  }
};

// With room for all and for as many that died, or for no more than live: then newcomers wait until
// the epoch ends that the dead ones whose places they get have missed.
class BarrierStorm : public testing::TestWithParam<std::uint32_t> {};
INSTANTIATE_TEST_SUITE_P(Room, BarrierStorm, testing::Values(6U, 3U),
                         testing::PrintToStringParamName());

TEST_P(BarrierStorm, survivors_agree_on_every_epoch_whoever_is_killed) {
  void* memory = mmap(nullptr, sizeof(Record), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  Record& record = *static_cast<Record*>(memory);
  Segment segment = Segment::anonymous({});
  const Barrier barrier = segment.open<Barrier>(name, {3, GetParam(), Barrier::OnDeath::report});
  const auto worker = [&] {
    return Process([&, fd = segment.fd()](Line& test) {
      Segment own = Segment::adopt(fd);
      Barrier::Party party = own.find<Barrier>(name).join(Deadline::after(test::patience));
      test.say("joined");
      record.run(party);
    });
  };
  std::array<Process, 3> workers{worker(), worker(), worker()};

  std::mt19937 random(7);
  int kills = 0;
  const auto end = std::chrono::steady_clock::now() + 1s;
  while (std::chrono::steady_clock::now() < end && barrier.epoch() + 1000 < Record::most) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 5000));
    Process& victim = workers[random() % workers.size()];
    victim.kill();
    victim = worker();
    ++kills;
  }
  record.stop = true;
  for (Process& process : workers) EXPECT_EQ(process.join(), 0);

  EXPECT_FALSE(record.differ);
  std::uint64_t told = 0;
  for (std::uint64_t epoch = 1; epoch <= barrier.epoch(); ++epoch) {
    const Record::Epoch& of = record.epochs[epoch];
    const std::uint32_t outcome = of.outcome;
    if (outcome == 0) continue;  // nobody has lived to tell
    ASSERT_EQ(of.seen, of.arrived) << "passed early, epoch " << epoch;
    const bool broken = (outcome - 1) / 2048 == static_cast<std::uint32_t>(Status::peer_died);
    ASSERT_TRUE(broken || outcome - 1 == static_cast<std::uint32_t>(Status::ready) * 2048) << epoch;
    told += broken ? 1 : 0;
  }
  EXPECT_GT(kills, 10);
  EXPECT_GT(told, 0U);
  EXPECT_LE(told, static_cast<std::uint64_t>(kills)) << "a death is told once";
  EXPECT_GT(record.passed.load(), 100U);
  RecordProperty("kills", kills);
  RecordProperty("epochs", static_cast<int>(barrier.epoch()));
  RecordProperty("told", static_cast<int>(told));
  munmap(memory, sizeof(Record));
}

}  // namespace
}  // namespace heddle
