#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"
#include "support/program.hpp"

namespace heddle {
namespace {

using nlohmann::json;
using test::Program;

class Train : public testing::Test {
 protected:
  void SetUp() override { before_ = test::segments(); }
  void TearDown() override { EXPECT_EQ(test::segments(), before_) << "left in /dev/shm"; }

  static std::string name(const char* what) {
    return std::string(what) + "-" + std::to_string(getpid());
  }
  static std::vector<std::string> arguments(std::initializer_list<std::string> more) {
    std::vector<std::string> all{"train", "--json"};
    all.insert(all.end(), more);
    return all;
  }
  static json finish(Program& program) {
    const auto done = program.event("done");
    EXPECT_EQ(program.join(), 0) << program.errors();
    EXPECT_EQ(program.errors(), "");
    return done.value_or(json::object());
  }
  static json run(std::initializer_list<std::string> more) {
    Program program(arguments(more));
    return finish(program);
  }
  static void expect_refused(std::vector<std::string> all, const std::string& words,
                             const std::function<void()>& before = {}) {
    Program program(std::move(all), before);
    EXPECT_EQ(program.line(), std::nullopt);
    EXPECT_EQ(program.join(), 2);
    const std::string& error = program.errors();
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_EQ(error.rfind("heddle: ", 0), 0U) << error;
    EXPECT_NE(error.find(words), std::string::npos) << error;
  }

  std::set<std::string> before_;
};

TEST_F(Train, both_modes_learn_the_digits_with_their_defaults) {
  for (const char* sync : {"bsp", "asp"}) {
    const json done = run({"--sync", sync});
    EXPECT_GE(done["accuracy"], 0.95) << sync;
    EXPECT_EQ(done["sync"], sync);
    EXPECT_EQ(done["epochs"], 300);
    EXPECT_EQ(done["restarts"], 0);
  }
}

TEST_F(Train, bsp_gives_the_same_bits_for_any_number_of_workers) {
  const json one = run({"--seed", "7", "--epochs", "5", "--workers", "1"});
  EXPECT_EQ(one["params_sha256"].get<std::string>().size(), 64U);
  for (const char* workers : {"2", "4", "7"}) {
    const json many = run({"--seed", "7", "--epochs", "5", "--workers", workers});
    EXPECT_EQ(many["params_sha256"], one["params_sha256"]) << workers;
    EXPECT_EQ(many["loss"], one["loss"]) << workers;
  }
  EXPECT_NE(run({"--seed", "8", "--epochs", "5"})["params_sha256"], one["params_sha256"]);
}

// Kills a worker, waits until its successor has started and some epochs have passed, kills another.
json finish_with_kills(Program& program, int kills) {
  std::map<int, int> pids;
  json done = json::object();
  int victim = 0;
  int epochs_since = 0;
  while (const auto event = program.event()) {
    const std::string kind = (*event)["event"];
    if (kind == "worker") {
      pids[(*event)["rank"]] = (*event)["pid"];
      const auto is_victim = [&](const auto& worker) { return worker.second == victim; };
      if (std::none_of(pids.begin(), pids.end(), is_victim)) {  // its place is filled
        victim = 0;
        epochs_since = 0;
      }
    }
    if (kind == "died" && (*event)["pid"] == victim) --kills;
    if (kind == "epoch" && ++epochs_since >= 5 && victim == 0 && kills > 0) {
      victim = pids[kills % static_cast<int>(pids.size())];
      kill(victim, SIGKILL);
    }
    if (kind == "done") done = *event;
  }
  EXPECT_EQ(kills, 0) << "the run was too short";
  EXPECT_EQ(program.join(), 0) << program.errors();
  return done;
}

TEST_F(Train, bsp_gives_the_same_bits_when_workers_are_killed) {
  const json undisturbed = run({"--seed", "7", "--epochs", "600"});
  for (const char* workers : {"1", "2", "4"}) {
    Program program(arguments({"--seed", "7", "--epochs", "600", "--workers", workers}));
    const json done = finish_with_kills(program, 5);
    EXPECT_EQ(done["restarts"], 5) << workers;
    EXPECT_EQ(done["params_sha256"], undisturbed["params_sha256"]) << workers;
  }
}

TEST_F(Train, asp_does_every_shard_when_workers_are_killed) {
  Program program(arguments({"--sync", "asp", "--epochs", "2000"}));
  const json done = finish_with_kills(program, 5);
  EXPECT_EQ(done["restarts"], 5);
  EXPECT_EQ(done["epochs"], 2000);  // an epoch counts when every one of its shards is done
  EXPECT_GE(done["accuracy"], 0.94);
}

TEST_F(Train, every_epoch_is_reported_once_and_in_order) {
  for (const char* sync : {"bsp", "asp"}) {
    Program program(arguments({"--sync", sync, "--epochs", "40"}));
    int expected = 1;
    while (const auto event = program.event("epoch")) {
      EXPECT_EQ((*event)["epoch"], expected++);
      EXPECT_TRUE((*event)["loss"].is_number());
    }
    EXPECT_EQ(expected, 41);
    EXPECT_EQ(program.join(), 0);
  }
}

TEST_F(Train, a_target_ends_the_run_at_the_first_epoch_that_reaches_it) {
  const json one = run({"--target-accuracy", "0.9", "--seed", "7", "--workers", "1"});
  EXPECT_LT(one["epochs"], 300);
  EXPECT_GE(one["accuracy"], 0.9);
  const json two = run({"--target-accuracy", "0.9", "--seed", "7", "--workers", "2"});
  EXPECT_EQ(two["epochs"], one["epochs"]);
  EXPECT_EQ(two["params_sha256"], one["params_sha256"]);
  const json asp = run({"--target-accuracy", "0.9", "--sync", "asp"});
  EXPECT_LT(asp["epochs"], 300);
}

TEST_F(Train, other_models_train) {
  EXPECT_GE(run({"--model", "softmax", "--epochs", "60"})["accuracy"], 0.94);
  EXPECT_GE(run({"--model", "mlp:128,64", "--epochs", "20"})["accuracy"], 0.95);
}

TEST_F(Train, workers_that_are_killed_too_often_end_the_run) {
  Program program(arguments({"--epochs", "100000", "--max-restarts", "2", "--workers", "2"}));
  while (const auto event = program.event("worker")) kill((*event)["pid"], SIGKILL);
  EXPECT_EQ(program.join(), 1);
  EXPECT_NE(program.errors().find("restart"), std::string::npos) << program.errors();
}

TEST_F(Train, ctrl_c_stops_cleanly) {
  for (const int signal : {SIGINT, SIGTERM}) {
    Program program(arguments({"--epochs", "100000", "--segment", name("ctrl-c")}));
    ASSERT_TRUE(program.event("epoch"));
    EXPECT_EQ(test::segments().size(), before_.size() + 1);
    program.send(signal);
    EXPECT_EQ(program.join(), 128 + signal);
    EXPECT_EQ(test::segments(), before_);
  }
}

bool is_gone(int pid) { return kill(pid, 0) != 0; }

TEST_F(Train, killing_the_main_process_ends_its_workers_and_the_next_start_clears_up) {
  std::vector<int> pids;
  {
    Program program(arguments({"--epochs", "100000", "--workers", "3"}));
    for (int i = 0; i < 3; ++i) pids.push_back((*program.event("worker"))["pid"]);
    ASSERT_TRUE(program.event("epoch"));
    program.send(SIGKILL);
    EXPECT_EQ(program.join(), -SIGKILL);
  }
  for (const int pid : pids) {
    // Orphans are reaped by whoever adopts them; a zombie has ended too.
    EXPECT_TRUE(test::eventually([&] {
      std::string state;
      std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
      return is_gone(pid) || (std::getline(status, state) && state.find(") Z ") != state.npos);
    }));
  }
  EXPECT_EQ(test::segments().size(), before_.size() + 1);  // nobody was left to remove it
  run({"--epochs", "1"});
}

TEST_F(Train, a_named_segment_left_by_the_dead_is_taken_over) {
  const std::string segment = name("takeover");
  {
    Program program(arguments({"--epochs", "100000", "--segment", segment}));
    ASSERT_TRUE(program.event("epoch"));
    program.send(SIGKILL);
    program.join();
  }
  EXPECT_TRUE(test::eventually([&] {
    Program again(arguments({"--epochs", "1", "--segment", segment}));
    return again.join() == 0;  // until the old workers are gone
  }));
}

TEST_F(Train, a_reader_that_goes_away_leaves_nothing_behind) {
  Program program({"train", "--epochs", "100000"});
  ASSERT_TRUE(program.line());
  program.stop_reading();
  EXPECT_EQ(program.join(), 1);
  EXPECT_NE(program.errors().find("standard output"), std::string::npos) << program.errors();
}

TEST_F(Train, the_result_is_the_model_that_reached_the_target) {
  for (const char* seed : {"1", "2", "3", "4", "5"}) {
    Program program(arguments(
        {"--sync", "asp", "--workers", "4", "--target-accuracy", "0.93", "--seed", seed}));
    json judged;
    json done;
    while (const auto event = program.event()) {
      if ((*event)["event"] == "epoch") judged = *event;
      if ((*event)["event"] == "done") done = *event;
    }
    EXPECT_EQ(program.join(), 0);
    EXPECT_GE(done["accuracy"], 0.93);
    EXPECT_EQ(done["accuracy"], judged["accuracy"]);
    EXPECT_EQ(done["epochs"], judged["epoch"]);
  }
}

TEST_F(Train, closed_standard_descriptors_do_no_harm) {
  Program program({"train", "--epochs", "2"}, [] {
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
  });
  EXPECT_EQ(program.join(), 0) << program.errors();
}

TEST_F(Train, bad_options_are_refused_in_one_line) {
  expect_refused({"train", "--what"}, "--what");
  expect_refused({"train", "--workers", "0"}, "workers must be 1 to 256, not 0");
  expect_refused({"train", "--workers", "257"}, "workers must be 1 to 256, not 257");
  expect_refused({"train", "--workers", "-1"}, "--workers");
  expect_refused({"train", "--workers", "two"}, "--workers");
  expect_refused({"train", "--epochs", "0"}, "epochs");
  expect_refused({"train", "--batch", "0"}, "batch");
  expect_refused({"train", "--batch", "100000"}, "batch");
  expect_refused({"train", "--microbatches", "0"}, "microbatches");
  expect_refused({"train", "--lr", "0"}, "learning rate");
  expect_refused({"train", "--lr", "nan"}, "--lr");
  expect_refused({"train", "--seed", "-1"}, "--seed");
  expect_refused({"train", "--seed", "99999999999999999999"}, "--seed");
  expect_refused({"train", "--workers", "010"}, "--workers");
  expect_refused({"train", "--target-accuracy", "2"}, "target accuracy");
  expect_refused({"train", "--sync", "maybe"}, "bsp or asp");
  expect_refused({"train", "--sync", "asp", "--momentum", "0.5"}, "momentum");
  expect_refused({"train", "--model", "tree"}, "tree");
  expect_refused({"train", "--model", "mlp:0"}, "mlp:0");
  expect_refused({"train", "--data", "cats"}, "digits");
  expect_refused({"train", "extra"}, "extra");
  expect_refused({"dance"}, "dance");
  expect_refused({}, "subcommand is required");
}

TEST_F(Train, bad_segment_names_are_refused) {
  expect_refused({"train", "--segment", "a/b"}, "a/b");
  expect_refused({"train", "--segment", ".."}, "..");
  expect_refused({"train", "--segment", std::string(200, 'x')}, "1 to 48");
}

TEST_F(Train, a_segment_of_the_living_is_refused_and_says_whose_it_is) {
  const std::string taken = name("taken");
  const Segment segment = Segment::create(taken, {.bytes = 4096});
  expect_refused({"train", "--segment", taken}, "process " + std::to_string(getpid()));
}

TEST_F(Train, files_that_are_no_segments_are_refused_and_left_alone) {
  const std::string path = "/dev/shm/heddle." + name("strange");
  std::ofstream(path) << "these are somebody's own words";
  expect_refused({"train", "--segment", name("strange")}, "not a Heddle segment");
  std::string words;
  std::getline(std::ifstream(path), words);
  EXPECT_EQ(words, "these are somebody's own words");
  std::filesystem::remove(path);
}

TEST_F(Train, a_segment_of_another_layout_is_refused_with_both_versions) {
  const std::string path = "/dev/shm/heddle." + name("layout");
  {
    SegmentHeader header{};
    header.magic = segment_magic;
    header.version = 77;
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(&header), sizeof header);
  }
  expect_refused({"train", "--segment", name("layout")},
                 "layout 77, this program has " + std::to_string(layout_version));
  std::filesystem::remove(path);
}

TEST_F(Train, a_small_dev_shm_is_refused_before_it_kills) {
  const auto shrink = [] {
    if (unshare(CLONE_NEWNS) != 0 ||
        mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=256k") != 0) {
      _exit(99);
    }
  };
  if (Program probe({"--version"}, shrink); probe.join() == 99) {
    GTEST_SKIP() << "mounting needs privileges";
  }
  expect_refused({"train"}, "/dev/shm", shrink);
}

TEST_F(Train, damaged_data_is_refused) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / name("heddle-damaged");
  std::filesystem::create_directory(folder);
  std::ofstream(folder / "digits.bin") << "HDLDIGITbut not really";
  expect_refused({"train"}, (folder / "digits.bin").string(),
                 [&] { setenv("HEDDLE_DATA_DIR", folder.c_str(), 1); });
  std::filesystem::remove_all(folder);
}

TEST_F(Train, a_pipe_gets_plain_lines) {
  Program program({"train", "--epochs", "3", "--workers", "2"});
  std::string all;
  while (const auto line = program.line()) all += *line + "\n";
  EXPECT_EQ(program.join(), 0);
  EXPECT_EQ(all.find('\r'), std::string::npos);
  EXPECT_NE(all.find("training mlp:64 with 2 workers (bsp)"), std::string::npos) << all;
  EXPECT_NE(all.find("accuracy"), std::string::npos) << all;
  EXPECT_NE(all.find("parameters sha256 "), std::string::npos) << all;
}

TEST_F(Train, others_can_pull_the_weights_while_it_trains) {
  const std::string segment = name("weights");
  Program program(arguments({"--epochs", "100000", "--segment", segment}));
  ASSERT_TRUE(program.event("epoch"));
  {
    Segment mapped = Segment::open(segment);
    auto weights = mapped.find<Slot<float[]>>("weights");
    const Version version = weights.version();
    EXPECT_GE(version, 1U);
    EXPECT_EQ(weights.wait_newer(version, Deadline::after(std::chrono::seconds(20))),
              Status::ready);
  }
  program.send(SIGINT);
  program.join();
}

}  // namespace
}  // namespace heddle
