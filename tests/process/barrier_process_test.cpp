// Real processes in one barrier, and SIGKILL.

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/barrier.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using test::eventually;
using test::Line;
using test::Process;

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

// Nobody but the survivors looks.
TEST_F(BarrierProcesses, survivors_that_sleep_already_are_told) {
  start(3);
  all_pass({0, 1, 2}, "ready 1");
  workers[0].say("pass");
  workers[1].say("pass");
  ASSERT_TRUE(eventually([&] { return missing() == 1; }));
  ASSERT_TRUE(eventually([&] { return workers[0].sleeps() && workers[1].sleeps(); }));
  workers[2].kill();
  EXPECT_EQ(workers[0].hear(), "peer_died 2 " + index[2]);
  EXPECT_EQ(workers[1].hear(), "peer_died 2 " + index[2]);
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

TEST_F(BarrierProcesses, all_but_one_may_die_at_once) {
  start(4);
  for (const std::size_t i : {1U, 2U, 3U}) workers[i].kill();
  workers[0].say("pass");
  EXPECT_EQ(workers[0].hear().substr(0, 11), "peer_died 1");
  all_pass({0}, "ready 2");
}

}  // namespace
}  // namespace heddle
