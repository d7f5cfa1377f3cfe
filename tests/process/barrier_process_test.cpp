// Real processes in one barrier, and SIGKILL.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
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

// A process of 256 threads, a party each, that pass 10 epochs, and 5 more when they are told so.
void crowd(Line& test, int fd) {
  constexpr int threads = 256;
  Segment segment = Segment::adopt(fd);
  const Barrier barrier = segment.find<Barrier>(name);
  std::array<std::atomic<int>, 2> done{};
  std::array<std::string, threads> ends;
  std::atomic<bool> go_on{false};
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      Barrier its = barrier;
      Barrier::Party mine = its.join(Deadline::after(test::patience));
      const auto pass = [&] { return mine.arrive_and_wait(Deadline::after(test::patience)); };
      for (std::uint64_t epoch = 1; epoch <= 10; ++epoch) {
        const Barrier::Outcome outcome = pass();
        if (outcome.status != Status::ready || outcome.epoch != epoch) ends[i] += text(outcome);
      }
      done[0].fetch_add(1);
      done[0].notify_all();
      go_on.wait(false);
      for (int n = 0; n < 5; ++n) ends[i] += " " + text(pass());
      done[1].fetch_add(1);
      done[1].notify_all();
      go_on.wait(true);
    });
  }
  const auto all_have_passed = [&](std::atomic<int>& passed) {
    for (int now = passed.load(); now < threads; now = passed.load()) passed.wait(now);
    const bool alike = std::all_of(ends.begin(), ends.end(),
                                   [&](const std::string& end) { return end == ends[0]; });
    test.say(alike ? "all" + ends[0] : "not alike");
    test.hear();
  };
  test.say(std::to_string(segment.peers().self().index()));
  all_have_passed(done[0]);
  go_on = true;
  go_on.notify_all();
  all_have_passed(done[1]);
  go_on = false;
  go_on.notify_all();
  for (auto& thread : running) thread.join();
}

TEST_F(BarrierProcesses, a_thousand_parties_go_on_without_a_process_that_had_256_of_them) {
  barrier.emplace(segment.open<Barrier>(name, {1024, 1024, Barrier::OnDeath::report}));
  for (int i = 0; i < 4; ++i) {
    workers.emplace_back([fd = segment.fd()](Line& test) { crowd(test, fd); });
    index.push_back(workers.back().hear());
  }
  for (auto& worker : workers) EXPECT_EQ(worker.hear(), "all") << "and no epoch that was not well";
  EXPECT_EQ(barrier->members(), 1024U);
  EXPECT_EQ(barrier->epoch(), 10U);
  workers[2].kill();
  for (const std::size_t i : {0U, 1U, 3U}) workers[i].say("go on");
  for (const std::size_t i : {0U, 1U, 3U}) {
    EXPECT_EQ(workers[i].hear(),
              "all peer_died 11 " + index[2] + " ready 12 ready 13 ready 14 ready 15");
  }
  EXPECT_EQ(barrier->members(), 768U);
  for (const std::size_t i : {0U, 1U, 3U}) workers[i].say("end");
  for (const std::size_t i : {0U, 1U, 3U}) EXPECT_EQ(workers[i].join(), 0);
  EXPECT_EQ(barrier->members(), 0U);
}

TEST_F(BarrierProcesses, opening_it_with_other_options_is_refused) {
  start(3);
  try {
    segment.open<Barrier>(name, {3, 6, Barrier::OnDeath::shrink});
    FAIL() << "it reports deaths";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::type_mismatch);
    EXPECT_NE(std::string(error.what()).find("its on_death is report, not shrink"),
              std::string::npos)
        << error.what();
  }
  EXPECT_NO_THROW(segment.open<Barrier>(name, {3, 6, Barrier::OnDeath::report}));
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
