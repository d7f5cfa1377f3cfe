#include <gtest/gtest.h>
#include <sys/file.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>

#include "heddle/shm/observer.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/fed.hpp"
#include "support/program.hpp"

namespace heddle {
namespace {

using nlohmann::json;
using test::eventually;
using test::Fed;
using test::Program;

std::string lines(int from, int to) {
  std::string text;
  for (int i = from; i <= to; ++i) text += std::to_string(i) + "\n";
  return text;
}

class QueueCommands : public testing::Test {
 protected:
  void SetUp() override {
    before_ = segments();
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    EXPECT_EQ(segments(), before_) << "left in /dev/shm";
  }

  // Not those of other programs that train at the same time.
  std::set<std::string> segments() const {
    std::set<std::string> found = test::segments();
    std::erase_if(found, [&](const std::string& name) { return name != "heddle." + segment_; });
    return found;
  }
  std::vector<std::string> queue(const std::string& command,
                                 std::vector<std::string> options = {}) {
    options.insert(options.begin(), {"queue", command, queue_});
    return options;
  }
  std::vector<std::string> work(const std::string& script, std::vector<std::string> options = {}) {
    options = queue("work", std::move(options));
    options.insert(options.end(), {"--json", "--", "sh", "-c", script});
    return options;
  }
  // Pushes, and stays: all tasks are there from here on.
  std::unique_ptr<Fed> hold(std::string_view text, std::vector<std::string> options = {}) {
    options.push_back("--json");
    auto held = std::make_unique<Fed>(queue("push", std::move(options)), text);
    EXPECT_TRUE((*held)->event("holding")) << (*held)->errors();
    return held;
  }
  static void stop(Fed& held) {
    held->send(SIGTERM);
    EXPECT_EQ(held->join(), 128 + SIGTERM);
  }
  // One that ends by itself. What it printed.
  static std::vector<std::string> run(std::vector<std::string> arguments, int code = 0) {
    Program program(std::move(arguments));
    std::vector<std::string> all;
    while (const auto line = program.line()) all.push_back(*line);
    EXPECT_EQ(program.join(), code) << program.errors();
    return all;
  }
  json stats() {
    const auto all = run(queue("stats", {"--json"}));
    return all.empty() ? json::object() : json::parse(all.front());
  }
  static void expect_refused(int code, const std::string& words, std::vector<std::string> arguments,
                             std::string_view input = "") {
    Fed program(std::move(arguments), input);
    EXPECT_EQ(program->line(), std::nullopt);
    EXPECT_EQ(program->join(), code);
    const std::string& error = program->errors();
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_EQ(error.rfind("heddle: ", 0), 0U) << error;
    EXPECT_NE(error.find(words), std::string::npos) << error << "\nlacks: " << words;
  }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }

  const std::string segment_ = "queue-" + std::to_string(getpid());
  const std::string queue_ = segment_ + "/x";
  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("heddle-queue-" + std::to_string(getpid()));
  std::set<std::string> before_;
};

// Ids of these events, with how often each.
std::map<std::uint64_t, int> ids_of(Program& program, const std::string& kind) {
  std::map<std::uint64_t, int> ids;
  while (const auto event = program.event(kind)) ++ids[(*event)["id"]];
  return ids;
}

TEST_F(QueueCommands, what_is_pushed_is_worked_on_each_task_once) {
  const auto pushed = hold(lines(1, 50), {"--close"});
  EXPECT_EQ(stats()["waiting"], 50);
  Program worker(work("read x; echo did $x as $HEDDLE_TASK_ID try $HEDDLE_TASK_TRIES", {"-n4"}));
  std::map<std::string, int> outputs;
  while (const auto event = worker.event("done")) ++outputs[(*event)["output"]];
  EXPECT_EQ(worker.join(), 0) << worker.errors();
  ASSERT_EQ(outputs.size(), 50U);
  for (int i = 1; i <= 50; ++i) {
    const std::string number = std::to_string(i);
    EXPECT_EQ(outputs["did " + number + " as " + std::to_string(i - 1) + " try 1\n"], 1) << i;
  }
  const auto drained = (*pushed)->event("drained");
  ASSERT_TRUE(drained);
  EXPECT_EQ((*drained)["dead_letters"], 0);
  EXPECT_EQ((*pushed)->join(), 0) << (*pushed)->errors();
}

TEST_F(QueueCommands, workers_may_be_there_before_the_queue) {
  Program worker(work("cat"));
  Program second(work("cat", {"-n", "1"}));
  Fed pushed(queue("push", {"--close"}), lines(1, 30));
  auto done = ids_of(worker, "done");
  done.merge(ids_of(second, "done"));
  EXPECT_EQ(done.size(), 30U);
  EXPECT_EQ(worker.join(), 0) << worker.errors();
  EXPECT_EQ(second.join(), 0) << second.errors();
  const auto line = pushed->line();
  ASSERT_TRUE(line);
  EXPECT_NE(line->find("pushed 30 tasks to " + queue_ + "; the segment stays until all are done"),
            std::string::npos);
  EXPECT_EQ(pushed->join(), 0) << pushed->errors();
}

TEST_F(QueueCommands, plain_output_is_the_handlers_alone_and_whole) {
  const auto pushed = hold(lines(1, 20), {"--close"});
  auto arguments = queue("work", {"-n", "4", "--", "sh", "-c", "read x; echo a$x; echo b$x"});
  const auto printed = run(arguments);
  ASSERT_EQ(printed.size(), 40U);
  for (std::size_t i = 0; i < 40; i += 2) {
    EXPECT_EQ(printed[i].substr(1), printed[i + 1].substr(1));
    EXPECT_EQ(printed[i].front(), 'a');
    EXPECT_EQ(printed[i + 1].front(), 'b');
  }
  EXPECT_EQ((*pushed)->join(), 0);
}

TEST_F(QueueCommands, tasks_wait_for_who_comes_next_when_nobody_holds_them) {
  run(queue("push", {"--no-hold", "--file", HEDDLE_TESTS_DIR "/cli/queue_test.cpp"}));
  EXPECT_EQ(segments().size(), before_.size() + 1);
  Fed again(queue("push", {"--no-hold"}), "short\n");
  EXPECT_EQ(again->join(), 0) << again->errors();
  EXPECT_EQ(stats()["waiting"], 2);
  std::ifstream stream(HEDDLE_TESTS_DIR "/cli/queue_test.cpp");
  const std::string content{std::istreambuf_iterator<char>(stream), {}};
  const auto popped = run(queue("pop", {"--json"}));
  ASSERT_EQ(popped.size(), 1U);
  EXPECT_EQ(json::parse(popped[0])["payload"], content);
  EXPECT_EQ(stats()["waiting"], 1);  // also after a pop that was alone with it
  EXPECT_EQ(run(queue("pop")), std::vector<std::string>{"short"});
  EXPECT_EQ(segments(), before_);
}

TEST_F(QueueCommands, what_fails_at_every_try_is_a_dead_letter_and_can_be_tried_again) {
  const std::string script = "read x; [ $x != 2 ] || [ -e " + file("fixed") + " ] || exit 3";
  const auto pushed = hold(lines(1, 3), {"--max-tries", "2"});
  Program failing(work(script, {"--once", "--backoff", "0.01"}));
  for (int tries = 1; tries <= 2; ++tries) {
    const auto failed = failing.event("failed");
    ASSERT_TRUE(failed);
    EXPECT_EQ((*failed)["id"], 1);
    EXPECT_EQ((*failed)["tries"], tries);
    EXPECT_EQ((*failed)["reason"], "exit 3");
    EXPECT_EQ((*failed)["dead"], tries == 2);
  }
  EXPECT_EQ(failing.join(), 1) << failing.errors();
  EXPECT_EQ((*pushed)->join(), 1);
  EXPECT_NE((*pushed)->errors().find("1 as dead letters, which stay"), std::string::npos);

  const auto dead = run(queue("dead", {"--json"}));
  ASSERT_EQ(dead.size(), 1U);
  const json letter = json::parse(dead[0]);
  EXPECT_EQ(letter["id"], 1);
  EXPECT_EQ(letter["tries"], 2);
  EXPECT_EQ(letter["reason"], "exit 3");
  EXPECT_NE(run(queue("dead")).at(0).find("task 1: 2 tries, at last by process"),
            std::string::npos);
  expect_refused(1, "task 2 of " + queue_ + " is no dead letter", queue("dead", {"--drop", "2"}));

  EXPECT_EQ(run(queue("dead", {"--retry", "1"})), std::vector<std::string>{"retried 1 task"});
  EXPECT_EQ(stats()["waiting"], 1);
  std::ofstream(file("fixed")).flush();
  Program fixed(work(script, {"--once"}));
  const auto done = fixed.event("done");
  ASSERT_TRUE(done);
  EXPECT_EQ((*done)["id"], 1);
  EXPECT_EQ((*done)["tries"], 3);
  EXPECT_EQ(fixed.join(), 0) << fixed.errors();
}

TEST_F(QueueCommands, dropped_dead_letters_are_gone) {
  const auto pushed = hold(lines(1, 3), {"--max-tries", "1"});
  run(work("exit 1", {"--once"}), 1);
  EXPECT_EQ((*pushed)->join(), 1);
  EXPECT_EQ(run(queue("dead", {"--drop", "0"})), std::vector<std::string>{"dropped 1 task"});
  EXPECT_EQ(run(queue("dead")).size(), 2U);
  EXPECT_EQ(run(queue("dead", {"--drop", "all"})), std::vector<std::string>{"dropped 2 tasks"});
}

TEST_F(QueueCommands, a_killed_handler_fails_its_task_and_another_does_it) {
  const auto pushed = hold("1\n", {"--close"});
  Program worker(work("[ $HEDDLE_TASK_TRIES != 1 ] || exec sleep 1000", {"--backoff", "0"}));
  const auto started = worker.event("started");
  ASSERT_TRUE(started);
  kill((*started)["pid"], SIGKILL);
  const auto failed = worker.event("failed");
  ASSERT_TRUE(failed);
  EXPECT_EQ((*failed)["reason"], "signal 9");
  const auto done = worker.event("done");
  ASSERT_TRUE(done);
  EXPECT_EQ((*done)["tries"], 2);
  EXPECT_EQ(worker.join(), 0) << worker.errors();
  EXPECT_EQ((*pushed)->join(), 0);
}

// The lock is that of the handler and of what it has started: both must be gone.
TEST_F(QueueCommands, the_tasks_of_a_killed_work_come_back_and_all_results_are_there) {
  const std::string lock = file("lock");
  const std::string script = "read x; if [ $x = 30 ] && [ $HEDDLE_TASK_TRIES = 1 ]; then exec 9>" +
                             lock + "; flock 9; : >" + file("locked") +
                             "; sleep 1000; fi; echo $((x * 2))";
  const auto pushed = hold(lines(0, 59), {"--results", "16"});
  Program killed(work(script, {"-n", "3"}));
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(file("locked")); }));
  killed.send(SIGKILL);
  EXPECT_EQ(killed.join(), -SIGKILL);
  ASSERT_TRUE(eventually([&] {
    const int fd = open(lock.c_str(), O_RDWR | O_CLOEXEC);
    const bool is_free = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return is_free;
  }));

  Program second(work(script, {"-n", "2", "--once"}));
  const auto done = ids_of(second, "done");
  EXPECT_EQ(done.count(30), 1U);
  EXPECT_EQ(second.join(), 0) << second.errors();
  Observer observer = Observer::open(segment_);
  auto seen = observer.find<TaskQueue<bytes>>("x");
  for (std::uint64_t id = 0; id < 60; ++id) {
    std::array<char, 16> text{};
    std::size_t length = 0;
    ASSERT_EQ(seen.result(id, std::as_writable_bytes(std::span(text)), length, Deadline::now()),
              Status::ready)
        << id;
    EXPECT_EQ(std::string(text.data(), length), std::to_string(id * 2) + "\n");
  }
  EXPECT_EQ(run(queue("result", {"30"})), std::vector<std::string>{"60"});
  EXPECT_GE(stats()["recovered"], 1);
  stop(*pushed);
}

TEST_F(QueueCommands, ctrl_c_gives_tasks_back_and_leaves_nothing) {
  const auto pushed = hold(lines(1, 5));
  Program worker(work("sleep 1000; exit 1", {"-n", "2"}));
  ASSERT_TRUE(worker.event("started"));
  ASSERT_TRUE(worker.event("started"));
  EXPECT_EQ(stats()["leased"], 2);
  worker.send(SIGINT);
  EXPECT_EQ(worker.join(), 128 + SIGINT);
  EXPECT_EQ(worker.errors(), "heddle: 2 tasks of " + queue_ + " given back\n");
  json left = stats();
  EXPECT_EQ(left["waiting"], 5);
  EXPECT_EQ(left["leased"], 0);
  stop(*pushed);
  EXPECT_EQ((*pushed)->errors(),
            "heddle: 5 tasks of " + queue_ + " went with the segment: nobody else was in it\n");
}

TEST_F(QueueCommands, ctrl_c_at_a_last_try_leaves_a_dead_letter_and_says_so) {
  const auto pushed = hold("1\n", {"--max-tries", "1"});
  Program worker(work("sleep 1000"));
  ASSERT_TRUE(worker.event("started"));
  worker.send(SIGINT);
  EXPECT_EQ(worker.join(), 128 + SIGINT);
  EXPECT_EQ(worker.errors(),
            "heddle: 1 task of " + queue_ + " ended at the last try; see heddle queue dead\n");
  EXPECT_EQ((*pushed)->join(), 1);
  EXPECT_EQ(run(queue("dead", {"--drop", "all"})), std::vector<std::string>{"dropped 1 task"});
}

TEST_F(QueueCommands, ctrl_c_does_not_wait_long_for_a_handler_that_does_not_hear) {
  const auto pushed = hold("1\n");
  Program worker(work("trap '' TERM; : >" + file("deaf") + "; while :; do sleep 1000; done"));
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(file("deaf")); }));
  worker.send(SIGTERM);
  EXPECT_EQ(worker.join(), 128 + SIGTERM);
  EXPECT_EQ(stats()["waiting"], 1);
  stop(*pushed);
}

TEST_F(QueueCommands, signals_end_every_wait) {
  Program waits_for_a_queue(work("true"));
  waits_for_a_queue.send(SIGTERM);
  const int code = waits_for_a_queue.join();  // -SIGTERM: it had not even begun
  EXPECT_TRUE(code == 128 + SIGTERM || code == -SIGTERM) << code;
  const auto pushed = hold("1\n");
  Program idle(work("true"));
  ASSERT_TRUE(idle.event("done"));
  EXPECT_EQ((*pushed)->join(), 0);
  Program waits_for_a_task(queue("pop", {"--wait", "1000"}));
  Fed waits_for_input(queue("push", {"--json", "--delay", "1000"}));
  waits_for_input.write("later\n");
  ASSERT_TRUE(waits_for_input->event("pushed"));
  Program watches(queue("stats", {"--watch", "--json"}));
  ASSERT_TRUE(watches.event("stats"));
  for (Program* program : {&waits_for_a_task, &watches, waits_for_input.operator->(), &idle}) {
    program->send(SIGINT);
    EXPECT_EQ(program->join(), 128 + SIGINT) << program->errors();
  }
}

TEST_F(QueueCommands, a_task_stays_leased_as_long_as_its_handler_runs) {
  const auto pushed = hold("1\n", {"--lease-timeout", "0.1", "--close"});
  Program worker(work("sleep 1"));
  Program other(work("sleep 1"));
  const auto done = worker.event("done");
  const auto others = other.event("done");
  ASSERT_NE(done.has_value(), others.has_value());  // whoever had it
  EXPECT_EQ((done ? *done : *others)["tries"], 1);
  EXPECT_EQ(worker.join(), 0);
  EXPECT_EQ(other.join(), 0);
  EXPECT_EQ((*pushed)->join(), 0);
}

TEST_F(QueueCommands, a_stopped_work_loses_its_task_and_its_handler_ends) {
  const auto pushed = hold("1\n", {"--lease-timeout", "0.1"});
  Program stopped(work("exec sleep 1000"));
  const auto started = stopped.event("started");
  ASSERT_TRUE(started);
  stopped.send(SIGSTOP);
  Program other(work("true"));
  const auto done = other.event("done");
  ASSERT_TRUE(done);
  EXPECT_EQ((*done)["tries"], 2);
  EXPECT_EQ(stats()["expired"], 1);
  other.send(SIGTERM);
  EXPECT_EQ(other.join(), 128 + SIGTERM);
  EXPECT_EQ((*pushed)->join(), 0);
  stopped.send(SIGCONT);
  ASSERT_TRUE(stopped.event("lost"));
  stopped.send(SIGTERM);
  EXPECT_EQ(stopped.join(), 128 + SIGTERM);
  EXPECT_EQ(stopped.errors(), "");
}

TEST_F(QueueCommands, pop_prints_tasks_in_order_and_they_are_done) {
  const auto pushed = hold("one\n\xff\x01\nthree\nfour\n\nsix\n");
  EXPECT_EQ(run(queue("pop")), std::vector<std::string>{"one"});
  const auto two = run(queue("pop", {"--json"}));
  EXPECT_EQ(two,
            std::vector<std::string>{R"({"event":"task","id":1,"tries":1,"payload_hex":"ff01"})"});
  EXPECT_EQ(run(queue("pop", {"-n", "2", "--bytes"})), std::vector<std::string>{} /* no \n */);
  EXPECT_EQ(run(queue("pop", {"-n", "10"})), (std::vector<std::string>{"", "six"}));
  EXPECT_EQ((*pushed)->join(), 0);
}

TEST_F(QueueCommands, a_pop_that_nobody_reads_leaves_its_task_in_the_queue) {
  const auto pushed = hold("1\n2\n");
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
  close(ends[0]);
  Program unread(queue("pop", {"-n", "2"}), [&] { dup2(ends[1], STDOUT_FILENO); });
  close(ends[1]);
  EXPECT_EQ(unread.join(), 128 + SIGPIPE);
  json left = stats();
  EXPECT_EQ(left["waiting"], 2);
  EXPECT_EQ(left["retried"], 1);
  EXPECT_EQ(run(queue("pop", {"-n", "2"})).size(), 2U);
  EXPECT_EQ((*pushed)->join(), 0);
}

TEST_F(QueueCommands, push_waits_while_the_queue_is_full) {
  Fed pushed(queue("push", {"--capacity", "64", "--close"}), lines(1, 200));
  ASSERT_TRUE(eventually([&] {
    Program look(queue("stats", {"--json"}));
    const auto seen = look.event();
    look.join();
    return seen && (*seen)["waiting"] == 64;
  }));
  const auto popped = run(queue("pop", {"-n", "1000", "--wait", "20"}));
  ASSERT_EQ(popped.size(), 200U);
  for (int i = 1; i <= 200; ++i)
    EXPECT_EQ(popped[static_cast<std::size_t>(i - 1)], std::to_string(i));
  EXPECT_EQ(pushed->join(), 0) << pushed->errors();
}

TEST_F(QueueCommands, lanes_and_delays_decide_who_is_next) {
  const auto first = hold("last\n", {"--lanes", "2", "--lane", "1"});
  Fed(queue("push"), "first\n")->join();
  Fed(queue("push", {"--delay", "1000"}), "never\n")->join();
  Fed(queue("push", {"--delay", "0.05"}), "soon\n")->join();
  EXPECT_EQ(run(queue("pop", {"-n", "3", "--wait", "20"})).size(), 3U);
  expect_refused(1, "had no task in time", queue("pop", {"--wait", "0.01"}));
  EXPECT_EQ(stats()["waiting"], 1);
  stop(*first);
}

TEST_F(QueueCommands, who_only_looks_takes_no_place) {
  Segment segment = Segment::create(segment_, {.bytes = 1 << 18, .participants = 1});
  auto jobs = segment.open<TaskQueue<std::uint64_t>>(
      "x", {.capacity = 64, .max_tries = 1, .result_bytes = 8});
  for (const std::uint64_t job : {1, 2, 3}) ASSERT_TRUE(jobs.push(job));
  Task<std::uint64_t> leased = jobs.pop();
  ASSERT_EQ(jobs.pop().fail("too hard"), Status::ready);
  json seen = stats();
  EXPECT_EQ(seen["waiting"], 1);
  EXPECT_EQ(seen["leased"], 1);
  EXPECT_EQ(seen["dead_letters"], 1);
  EXPECT_EQ(seen["pushed"], 3);
  EXPECT_EQ(seen["max_tries"], 1);
  EXPECT_EQ(seen["closed"], false);
  EXPECT_GE(seen["oldest_s"], 0);
  const auto dead = run(queue("dead", {"--json"}));
  ASSERT_EQ(dead.size(), 1U);
  EXPECT_EQ(json::parse(dead[0])["reason"], "too hard");
  EXPECT_EQ(json::parse(dead[0])["worker"], getpid());
  EXPECT_EQ(run(queue("stats")).front(), queue_ + ": open, 3 of 64 slots taken");
  ASSERT_EQ(leased.complete(std::uint64_t{7}), Status::ready);
  expect_refused(1, "has failed", queue("result", {"1"}));
  expect_refused(1, "has no result yet", queue("result", {"2"}));
  expect_refused(1, "there was no task 99", queue("result", {"99"}));
  EXPECT_EQ(run(queue("result", {"0", "--json"})).size(), 1U);
  EXPECT_EQ(segment.participants().size(), 1U);
}

TEST_F(QueueCommands, rates_are_told_each_second) {
  const auto pushed = hold(lines(1, 10));
  Program watch(queue("stats", {"--watch", "--json"}));
  Program plain(queue("stats", {"--watch"}));
  ASSERT_TRUE(plain.line());  // both have looked before, or these are not counted
  ASSERT_TRUE(watch.event());
  Fed(queue("push"), lines(1, 20))->join();
  double in_all = 0;
  ASSERT_TRUE(eventually([&] {
    const auto event = watch.event();
    if (!event) return true;
    in_all += (*event)["pushed_per_second"].get<double>();
    return (*event)["pushed"] == 30;
  }));
  EXPECT_GT(in_all, 5);
  EXPECT_NE(plain.line().value_or("").find("pushed"), std::string::npos);
  stop(*pushed);
  EXPECT_EQ(watch.join(), 1);  // it is gone
  EXPECT_EQ(plain.join(), 1);
}

TEST_F(QueueCommands, queues_of_a_programs_own_type_can_be_cared_for_but_not_used) {
  Segment segment = Segment::create(segment_, {.bytes = 1 << 18});
  auto jobs = segment.open<TaskQueue<std::uint64_t>>("x", {.capacity = 64, .max_tries = 1});
  ASSERT_TRUE(jobs.push(5));
  const std::string both =
      queue_ + " is a task queue of uint64 (8 bytes each), and \"heddle queue ";
  expect_refused(2, both + "push\" is for a task queue of bytes", queue("push"), "1\n");
  expect_refused(2, both + "pop\" is for a task queue of bytes", queue("pop"));
  expect_refused(2, both + "work\" is for a task queue of bytes", queue("work", {"--", "true"}));
  ASSERT_EQ(jobs.pop().fail(), Status::ready);
  EXPECT_NE(run(queue("dead")).at(0).find("task 0: 1 try"), std::string::npos);
  EXPECT_EQ(run(queue("dead", {"--retry", "all", "--json"})),
            std::vector<std::string>{R"({"event":"retried","count":1})"});
  EXPECT_EQ(jobs.pop().payload(), 5U);
  run(queue("close"));
  EXPECT_EQ(jobs.push(6).status, Status::closed);
  run(queue("reopen"));
  EXPECT_EQ(jobs.push(6).status, Status::ready);
}

TEST_F(QueueCommands, a_closed_queue_says_so) {
  const auto pushed = hold("1\n", {"--close", "--max-tries", "1"});
  expect_refused(1, "is closed: \"heddle queue reopen " + queue_ + "\" opens it again",
                 queue("push"), "2\n");
  run(work("exit 1"), 1);
  EXPECT_EQ((*pushed)->join(), 1);
  expect_refused(1, "is closed, and all its tasks are done", queue("pop"));
  expect_refused(1, "is closed, so task 0 cannot be tried again", queue("dead", {"--retry", "0"}));
  run(queue("reopen"));
  run(queue("dead", {"--retry", "all"}));
  EXPECT_EQ(run(queue("pop")), std::vector<std::string>{"1"});
}

TEST_F(QueueCommands, a_result_that_is_too_long_fails_the_task) {
  const auto pushed = hold("1\n", {"--results", "4", "--max-tries", "1"});
  Program worker(work("echo 12345", {"--once"}));
  const auto failed = worker.event("failed");
  ASSERT_TRUE(failed);
  EXPECT_EQ((*failed)["reason"], "output above 4 bytes");
  EXPECT_EQ(worker.join(), 1);
  expect_refused(1, "has failed: \"heddle queue dead " + queue_ + "\"", queue("result", {"0"}));
  stop(*pushed);
}

TEST_F(QueueCommands, a_handler_that_cannot_run_costs_no_task) {
  expect_refused(2, "there is no program \"no-such-program\" in PATH",
                 queue("work", {"--", "no-such-program"}));
  const auto pushed = hold("1\n", {"--max-tries", "2"});  // being taken counts as a try
  std::ofstream(file("text")) << "no program";
  for (const std::string& handler : {file("none"), file("text")}) {
    expect_refused(2, "cannot run the handler \"" + handler, queue("work", {"--", handler}));
  }
  EXPECT_EQ(stats()["waiting"], 1);
  EXPECT_EQ(stats()["dead_letters"], 0);
  stop(*pushed);
}

TEST_F(QueueCommands, what_is_missing_or_does_not_fit_is_said) {
  for (const char* command : {"pop", "stats", "dead", "close", "reopen"}) {
    expect_refused(1, "there is no segment \"" + segment_ + "\": \"heddle queue push " + queue_,
                   queue(command));
    expect_refused(2, "names no queue: say SEGMENT/QUEUE", {"queue", command, "demo"});
  }
  expect_refused(1, "there is no segment", queue("work", {"--once", "--", "true"}));
  Segment segment = Segment::create(segment_, {.bytes = 1 << 20});
  expect_refused(1, "it has none", queue("stats"));
  segment.open<TaskQueue<bytes>>("y", {.payload_bytes = 8, .capacity = 64});
  expect_refused(1, "it has \"y\"", queue("pop"));
  const std::string y = segment_ + "/y";
  expect_refused(2, "standard input, line 2: it has 9 bytes, a task of " + y + " has at most 8",
                 {"queue", "push", y}, "12345678\n123456789\n");
  EXPECT_EQ(run({"queue", "pop", y}), std::vector<std::string>{"12345678"});
  expect_refused(2, "is there and has --capacity 64, not 128",
                 {"queue", "push", y, "--capacity", "128"});
  expect_refused(2, "--lane 1 is none of the 1", {"queue", "push", y, "--lane", "1"});
  expect_refused(2, "without delays", {"queue", "push", y, "--delay", "1"});
  expect_refused(2, "keeps no results: make it with --results", {"queue", "result", y, "0"});
  expect_refused(1, "has no task now", {"queue", "pop", y});
}

TEST_F(QueueCommands, bad_options_are_refused_in_one_line) {
  expect_refused(2, "unknown command \"queue frob\": there are push, work", {"queue", "frob"});
  expect_refused(2, "\"heddle queue push --help\"", {"queue", "push"});
  expect_refused(2, "HANDLER is required", queue("work"));
  expect_refused(2, "--workers must be 1 to", queue("work", {"-n", "0", "--", "true"}));
  expect_refused(2, "--backoff must be 0 to 300", queue("work", {"--backoff", "-1", "--", "true"}));
  expect_refused(2, "the capacity must be a power of two", queue("push", {"--capacity", "100"}));
  expect_refused(2, "excludes", queue("push", {"--hold", "--no-hold"}));
  expect_refused(2, "excludes", queue("dead", {"--retry", "1", "--drop", "1"}));
  expect_refused(2, "cannot read", queue("push", {"--file", file("none")}));
  expect_refused(2, "\"-1\" is not a whole number", queue("result", {"-1"}));
}

}  // namespace
}  // namespace heddle
