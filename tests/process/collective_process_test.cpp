// Real processes in one group, SIGKILL in the middle of collectives, and SIGSTOP.

#include <gtest/gtest.h>
#include <time.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/collective.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::Line;
using test::Process;

Deadline soon() { return Deadline::after(test::patience); }

std::string text(const GroupOutcome& outcome) {
  std::string line = to_string(outcome.status);
  if (outcome.rank != GroupOutcome::nobody_in_particular)
    line += " " + std::to_string(outcome.rank);
  return line;
}

// ---- killed in the middle of a large allreduce ------------------------------------------------------

constexpr std::size_t count = (std::size_t{16} << 20) / sizeof(float);
constexpr std::uint32_t members = 3;

float element(std::uint32_t rank, std::uint64_t call, std::size_t i) {
  return static_cast<float>((rank + 1) * (1 + (call + i) % 5));
}
bool add_up(Group::Member& member, std::span<float> data, std::uint64_t call,
            GroupOutcome& outcome) {
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = element(member.rank(), call, i);
  outcome = member.allreduce(data, Reduction::sum, soon());
  if (!outcome) return true;
  const auto ranks = static_cast<float>(member.size() * (member.size() + 1) / 2);
  for (std::size_t i = 0; i < data.size(); ++i) {
    if (data[i] != ranks * element(0, call, i)) return false;
  }
  return true;
}

// Adds up until one dies, says how that was told, adds up with the survivors, and goes on when the one
// in the dead one's stead has come.
void adder(Line& test, int fd, bool is_shared, std::uint32_t number) {
  Segment segment = Segment::adopt(fd);
  std::vector<float> own(is_shared ? 0 : count);
  std::span<float> data = own;
  if (is_shared) {
    data = segment.find<SharedBuffer<float>>("data" + std::to_string(number)).span();
  }
  auto member = segment.find<Group>("group").join(soon());
  test.say("joined");
  GroupOutcome outcome;
  for (;;) {
    while (member.size() < members) {
      if (member.rebuild(soon()).status != Status::ready) return test.say("stuck in rebuild");
    }
    std::uint64_t call = 0;
    for (;; ++call) {
      if (!add_up(member, data, call, outcome)) return test.say("a wrong sum");
      if (!outcome) break;
    }
    test.say(text(outcome) + " in call " + std::to_string(call));
    if (member.rebuild(soon()).status != Status::ready) return test.say("stuck in rebuild");
    if (!add_up(member, data, 77, outcome)) return test.say("a wrong sum of the survivors");
    test.say(text(outcome) + " with " + std::to_string(member.size()));
    if (test.hear() != "go on") return;
  }
}

class KilledInAllreduce : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Of, KilledInAllreduce, testing::Bool(), [](const auto& tested) {
  return tested.param ? "shared_memory" : "private_memory";
});

TEST_P(KilledInAllreduce, survivors_say_the_same_and_add_up_without_the_dead) {  // GROUP-3 COLL-1
  constexpr int kills = 120;
  const bool is_shared = GetParam();
  Segment segment = Segment::anonymous({.bytes = std::size_t{72} << 20, .participants = 8});
  segment.open<Group>("group", {.size = members, .places = members});
  for (std::uint32_t i = 0; is_shared && i < members; ++i) {
    segment.open<SharedBuffer<float>>("data" + std::to_string(i), {count});
  }
  const auto start = [&, fd = segment.fd()](std::uint32_t i) {
    return Process([=](Line& test) { adder(test, fd, is_shared, i); });
  };
  std::vector<Process> workers;
  for (std::uint32_t i = 0; i < members; ++i) workers.push_back(start(i));
  for (Process& worker : workers) ASSERT_EQ(worker.hear(), "joined");

  std::mt19937 random(3);
  int told = 0;
  for (int kill = 0; kill < kills; ++kill) {
    const std::size_t victim = random() % members;
    const timespec a_moment{0, static_cast<long>(random() % 60'000'000)};
    nanosleep(&a_moment, nullptr);
    workers[victim].kill();
    const auto killed = std::chrono::steady_clock::now();
    std::string answer;
    for (std::size_t i = 0; i < members; ++i) {
      if (i == victim) continue;
      const std::string its = workers[i].hear();
      if (answer.empty()) answer = its;
      ASSERT_EQ(its, answer) << "kill " << kill;
      ASSERT_EQ(its.substr(0, 9), "peer_died") << "kill " << kill;
    }
    EXPECT_LT(std::chrono::steady_clock::now() - killed, 10s) << "bounded time";
    for (std::size_t i = 0; i < members; ++i) {
      if (i == victim) continue;
      ASSERT_EQ(workers[i].hear(), "ready with 2") << "kill " << kill;
    }
    ++told;
    workers[victim] = start(static_cast<std::uint32_t>(victim));
    for (std::size_t i = 0; i < members; ++i) {
      if (i != victim) workers[i].say("go on");
    }
    ASSERT_EQ(workers[victim].hear(), "joined") << "kill " << kill;
  }
  EXPECT_EQ(told, kills);
}

// ---- one step after the other -----------------------------------------------------------------------

// Joins, says its rank; then does and answers what it is told.
void member(Line& test, int fd) {
  Segment segment = Segment::adopt(fd);
  auto mine = segment.find<Group>("group").join(soon());
  test.say(std::to_string(mine.rank()));
  for (;;) {
    const std::string command = test.hear();
    if (command == "pass") {
      test.say(text(mine.barrier(soon())));
    } else if (command == "pass soon") {
      test.say(text(mine.barrier(Deadline::after(50ms))));
    } else if (command == "wait") {
      test.say(text(mine.wait(soon())));
    } else if (command == "rebuild") {
      const GroupOutcome outcome = mine.rebuild(soon());
      test.say(text(outcome) + ", " + std::to_string(mine.rank()) + " of " +
               std::to_string(mine.size()));
    } else {
      return;  // leaves
    }
  }
}

struct GroupProcesses : testing::Test {
  void SetUp() override {
    segment.open<Group>("group", {.size = 3, .exchange_bytes = page_bytes});
    std::vector<Process> started;
    for (int i = 0; i < 3; ++i)
      started.emplace_back([fd = segment.fd()](Line& test) { member(test, fd); });
    std::vector<std::size_t> ranks;
    for (Process& one : started) ranks.push_back(std::stoul(one.hear()));
    for (std::size_t rank = 0; rank < 3; ++rank) {
      for (std::size_t i = 0; i < 3; ++i) {
        if (ranks[i] == rank) workers.push_back(std::move(started[i]));
      }
    }
    ASSERT_EQ(workers.size(), 3U);
  }
  void all(std::initializer_list<std::size_t> who, const std::string& command,
           const std::string& answer) {
    for (const std::size_t i : who) workers[i].say(command);
    for (const std::size_t i : who) EXPECT_EQ(workers[i].hear(), answer);
  }
  void two_go_on(std::size_t first, std::size_t second) {
    workers[first].say("rebuild");
    workers[second].say("rebuild");
    EXPECT_EQ(workers[first].hear(), "ready, 0 of 2");
    EXPECT_EQ(workers[second].hear(), "ready, 1 of 2");
    all({first, second}, "pass", "ready");
  }

  Segment segment = Segment::anonymous({});
  std::vector<Process> workers;
};

TEST_F(GroupProcesses, pass_together) {
  for (int step = 0; step < 20; ++step) all({0, 1, 2}, "pass", "ready");
}

TEST_F(GroupProcesses, survivors_that_sleep_are_told_and_so_is_one_that_comes_later) {
  workers[0].say("pass");
  ASSERT_TRUE(test::eventually([&] { return workers[0].sleeps(); }));
  workers[2].kill();
  EXPECT_EQ(workers[0].hear(), "peer_died 2");
  all({1}, "pass", "peer_died 2");
  two_go_on(0, 1);
}

TEST_F(GroupProcesses, one_killed_in_a_step_that_not_all_have_come_to) {  // GROUP-3
  workers[0].say("pass");
  workers[1].say("pass");
  ASSERT_TRUE(test::eventually([&] { return workers[0].sleeps() && workers[1].sleeps(); }));
  workers[1].kill();  // it had arrived
  workers[2].say("pass");
  const std::string answer = workers[0].hear();
  EXPECT_EQ(workers[2].hear(), answer) << "both, whichever it is";
  EXPECT_TRUE(answer == "ready" || answer == "peer_died 1") << answer;
  all({0, 2}, "pass", "peer_died 1");
  two_go_on(0, 2);
}

TEST_F(GroupProcesses, a_stopped_one_is_named_and_waited_for) {
  workers[1].stop();
  all({0, 2}, "pass soon", "timeout 1");
  workers[1].resume();
  workers[0].say("wait");
  workers[2].say("wait");
  workers[1].say("pass");
  for (auto& worker : workers) EXPECT_EQ(worker.hear(), "ready");
  all({0, 1, 2}, "pass", "ready");
}

TEST_F(GroupProcesses, a_stopped_one_is_not_rebuilt_without) {
  workers[2].kill();
  all({0}, "pass", "peer_died 2");
  workers[1].stop();
  workers[0].say("rebuild");
  ASSERT_TRUE(test::eventually([&] { return workers[0].sleeps(); }));
  workers[1].resume();
  workers[1].say("pass");
  EXPECT_EQ(workers[1].hear(), "peer_died 2");
  workers[1].say("rebuild");
  EXPECT_EQ(workers[0].hear(), "ready, 0 of 2");
  EXPECT_EQ(workers[1].hear(), "ready, 1 of 2");
}

TEST_F(GroupProcesses, one_that_ends_well_leaves) {
  workers[0].say("leave");
  EXPECT_EQ(workers[0].join(), 0);
  all({1, 2}, "pass", "peer_died 0");
  two_go_on(1, 2);
}

}  // namespace
}  // namespace heddle
