#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/fed.hpp"
#include "support/program.hpp"

namespace heddle {
namespace {

using nlohmann::json;
using test::Fed;
using test::Program;

class SlotCommands : public testing::Test {
 protected:
  void SetUp() override {
    before_ = test::segments();
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    EXPECT_EQ(test::segments(), before_) << "left in /dev/shm";
  }

  // Publishes, and stays: the segment is there from here on.
  std::unique_ptr<Fed> hold(std::string_view text, std::vector<std::string> options = {}) {
    options.insert(options.begin(), {"pub", slot_});
    auto held = std::make_unique<Fed>(std::move(options), text);
    const auto line = (*held)->line();
    EXPECT_TRUE(line) << (*held)->errors();
    EXPECT_NE(line.value_or("").find("the segment stays until Ctrl-C"), std::string::npos);
    return held;
  }
  static void stop(Fed& held) {
    held->send(SIGTERM);
    EXPECT_EQ(held->join(), 128 + SIGTERM);
    EXPECT_EQ(held->errors(), "");
  }
  std::string pull() {
    Program program({"pull", slot_});
    const std::string text = program.line().value_or("nothing");
    EXPECT_EQ(program.join(), 0) << program.errors();
    return text;
  }
  static json next(Program& program) {
    const auto event = program.event();
    EXPECT_TRUE(event) << "it ended, or is silent";
    return event.value_or(json::object());
  }
  json pull_json() {
    Program program({"pull", slot_, "--json"});
    json event = program.event().value_or(json::object());
    EXPECT_EQ(program.join(), 0) << program.errors();
    return event;
  }
  // Ends with this code, one line of complaint, and no other output.
  static void expect_refused(int code, const std::string& words, std::vector<std::string> arguments,
                             std::string_view input = "") {
    if (arguments.size() > 1 && arguments[0] == "pub") arguments.push_back("--no-hold");
    Fed program(std::move(arguments), input);
    EXPECT_EQ(program->line(), std::nullopt);
    EXPECT_EQ(program->join(), code);
    const std::string& error = program->errors();
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_EQ(error.rfind("heddle: ", 0), 0U) << error;
    EXPECT_NE(error.find(words), std::string::npos) << error << "\nlacks: " << words;
  }

  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  static std::string read_file(const std::string& name) {
    std::ifstream stream(name, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  std::string write_file(const std::string& name, std::string_view content) const {
    std::ofstream(file(name), std::ios::binary) << content;
    return file(name);
  }

  const std::string segment_ = "slot-" + std::to_string(getpid());
  const std::string slot_ = segment_ + "/x";
  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("heddle-slot-" + std::to_string(getpid()));
  std::set<std::string> before_;
};

TEST_F(SlotCommands, what_is_published_is_pulled) {
  const auto held = hold("1 2.5\t-3e4\r\n");
  EXPECT_EQ(pull(), "1 2.5 -30000");
  json event = pull_json();
  EXPECT_EQ(event["event"], "value");
  EXPECT_EQ(event["version"], 1);
  EXPECT_EQ(event["type"], "f64");
  EXPECT_EQ(event["values"], json({1, 2.5, -30000}));
  EXPECT_GE(event["age_ns"], 0);
  stop(*held);
}

TEST_F(SlotCommands, every_type_goes_through_text_unchanged) {
  for (const auto& [type, numbers] : std::vector<std::pair<std::string, std::string>>{
           {"f32", "0.1 3.4028235e+38 1e-45 -0"},
           {"f64", "0.1 1.7976931348623157e+308 5e-324 -0"},
           {"i8", "-128 127"},
           {"i16", "-32768 32767"},
           {"i32", "-2147483648 2147483647"},
           {"i64", "-9223372036854775808 9223372036854775807"},
           {"u8", "0 255"},
           {"u16", "0 65535"},
           {"u32", "0 4294967295"},
           {"u64", "0 18446744073709551615"},
           {"bytes", "222 173"}}) {
    const auto held = hold(numbers + "\n", {"--type", type});
    EXPECT_EQ(pull(), numbers) << type;
    EXPECT_EQ(pull_json()["type"], type);
    stop(*held);
  }
}

TEST_F(SlotCommands, programs_and_the_shell_share_a_slot) {
  Segment segment = Segment::create(segment_, {.bytes = 1 << 16});
  auto slot = segment.open<Slot<float[]>>("x", {.count = 3});
  Fed pub({"pub", slot_}, "1 2 0.5\n");  // of the slot's own type
  EXPECT_EQ(pub->line(), std::nullopt);  // it is not alone, so it does not stay
  EXPECT_EQ(pub->join(), 0) << pub->errors();
  std::array<float, 3> values{};
  EXPECT_TRUE(slot.pull(values));
  EXPECT_EQ(values, (std::array<float, 3>{1, 2, 0.5F}));
  auto publisher = slot.publisher();
  EXPECT_EQ(publisher.publish(std::array<float, 3>{4, 5, std::numeric_limits<float>::infinity()}),
            Status::ready);
  EXPECT_EQ(pull(), "4 5 inf");
  EXPECT_EQ(pull_json()["values"], json({4, 5, nullptr}));
}

TEST_F(SlotCommands, a_subscriber_sees_rising_versions_and_the_last) {
  Program sub({"sub", slot_, "--json"});  // before there is a slot
  Fed pub({"pub", slot_});
  for (int i = 1; i <= 1000; ++i) pub.write(std::to_string(i) + "\n");
  std::uint64_t before = 0;
  while (before < 1000) {
    const auto event = sub.event("value");
    ASSERT_TRUE(event) << sub.errors();
    const std::uint64_t version = (*event)["version"];
    EXPECT_GT(version, before);
    EXPECT_EQ((*event)["skipped"], before == 0 ? 0 : version - before - 1);
    EXPECT_EQ((*event)["values"], json({version}));
    before = version;
  }
  sub.send(SIGTERM);
  EXPECT_EQ(sub.join(), 128 + SIGTERM);
  EXPECT_EQ(sub.errors(), "");
  stop(pub);
}

TEST_F(SlotCommands, lines_for_people_say_version_and_age_and_are_short) {
  const auto held = hold("1 2\n", {"--type", "i32"});
  Program sub({"sub", slot_, "--count", "1"});
  const std::string line = sub.line().value_or("nothing");
  EXPECT_EQ(line.rfind("version 1 (", 0), 0U) << line;
  EXPECT_NE(line.find(" old): 1 2"), std::string::npos) << line;
  EXPECT_EQ(sub.join(), 0);
  Fed({"pub", segment_ + "/long"}, "1 2 3 4 5 6 7 8 9 10\n")->join();
  Program abbreviated({"sub", segment_ + "/long", "--count", "1"});
  const std::string longer = abbreviated.line().value_or("nothing");
  EXPECT_NE(longer.find(": 1 2 3 4 5 6 ... 10 (10 elements)"), std::string::npos) << longer;
  EXPECT_EQ(abbreviated.join(), 0);
  stop(*held);
}

TEST_F(SlotCommands, the_value_of_a_killed_publisher_stays_and_its_successor_goes_on) {
  const auto killed = hold("7 8\n");
  Program sub({"sub", slot_, "--json"});
  EXPECT_EQ(next(sub)["version"], 1);
  (*killed)->send(SIGKILL);
  EXPECT_EQ((*killed)->join(), -SIGKILL);
  EXPECT_EQ(next(sub)["event"], "died");
  EXPECT_EQ(pull(), "7 8");
  Program late({"sub", slot_, "--json", "--timeout", "0.2"});
  EXPECT_EQ(next(late)["values"], json({7, 8}));
  EXPECT_EQ(next(late)["event"], "died");
  EXPECT_EQ(late.event(), std::nullopt);  // it is told once
  EXPECT_EQ(late.join(), 1);
  Fed successor({"pub", slot_}, "9 10\n");
  EXPECT_EQ(successor->join(), 0) << successor->errors();
  json event = next(sub);
  EXPECT_EQ(event["version"], 2);
  EXPECT_EQ(event["values"], json({9, 10}));
  sub.send(SIGTERM);
  EXPECT_EQ(sub.join(), 128 + SIGTERM);
}

TEST_F(SlotCommands, who_looks_last_at_what_the_killed_left_removes_it) {
  {
    const auto killed = hold("7 8\n");
    (*killed)->send(SIGKILL);
    (*killed)->join();
  }
  EXPECT_EQ(test::segments().size(), before_.size() + 1);
  const auto held = hold("9 10\n");  // as if the dead were still there
  EXPECT_EQ(pull_json()["version"], 2);
  (*held)->send(SIGKILL);
  (*held)->join();
  EXPECT_EQ(pull(), "9 10");
  EXPECT_EQ(test::segments(), before_);
  expect_refused(1, "no segment", {"pull", slot_});
}

TEST_F(SlotCommands, what_the_killed_left_and_does_not_fit_is_gone_with_its_refusal) {
  {
    const auto killed = hold("7 8\n");
    (*killed)->send(SIGKILL);
    (*killed)->join();
  }
  expect_refused(2, "it has 3 elements, a value of " + slot_ + " has 2", {"pub", slot_}, "1 2 3\n");
  const auto held = hold("1 2 3\n");
  EXPECT_EQ(pull_json()["version"], 1);
  stop(*held);
}

TEST_F(SlotCommands, a_subscriber_can_end_with_its_publisher) {
  const auto killed = hold("1\n");
  Program sub({"sub", slot_, "--end-on-death"});
  ASSERT_TRUE(sub.line());
  (*killed)->send(SIGKILL);
  EXPECT_EQ(sub.join(), 3);
  EXPECT_EQ(sub.errors(), "heddle: the publisher of " + slot_ + " died; version 1 stays\n");
}

TEST_F(SlotCommands, a_publisher_that_leaves_is_not_dead) {
  Program sub({"sub", slot_, "--json", "--end-on-death", "--count", "2"});
  const auto held = hold("1\n");
  ASSERT_TRUE(sub.event("value"));
  stop(*held);
  EXPECT_EQ(Fed({"pub", slot_}, "2\n")->join(), 0);
  EXPECT_EQ(next(sub)["version"], 2);
  EXPECT_EQ(sub.join(), 0) << sub.errors();
}

TEST_F(SlotCommands, signals_end_every_wait) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const auto held = hold("1\n");
    Program waiting_for_a_value({"sub", slot_});
    ASSERT_TRUE(waiting_for_a_value.line());
    Fed waiting_for_input({"pub", slot_, "--hold"});
    waiting_for_input.write("2\n");
    ASSERT_TRUE(waiting_for_a_value.line());
    Fed waiting_for_its_time({"pub", slot_, "--rate", "0.000001"}, "3\n4\n");
    ASSERT_TRUE(waiting_for_a_value.line());
    for (Program* program : {waiting_for_input.operator->(), waiting_for_its_time.operator->(),
                             &waiting_for_a_value}) {
      program->send(signal);
      EXPECT_EQ(program->join(), 128 + signal);
      EXPECT_EQ(program->errors(), "");
    }
    EXPECT_EQ(pull(), "3");
    stop(*held);
    EXPECT_EQ(test::segments(), before_);
  }
}

TEST_F(SlotCommands, a_subscriber_ends_quietly_when_nobody_reads_it) {
  const auto held = hold("1\n");
  Program sub({"sub", slot_});
  ASSERT_TRUE(sub.line());
  sub.stop_reading();  // and no value comes
  EXPECT_EQ(sub.join(), 128 + SIGPIPE);
  EXPECT_EQ(sub.errors(), "");
  stop(*held);
}

TEST_F(SlotCommands, the_first_in_a_segment_stays_and_others_do_as_they_are_told) {
  EXPECT_EQ(Fed({"pub", slot_, "--no-hold"}, "1\n")->join(), 0);
  EXPECT_EQ(test::segments(), before_);
  const auto first = hold("1\n");
  EXPECT_EQ(Fed({"pub", slot_}, "2\n")->join(), 0);
  const auto told = hold("3\n", {"--hold"});
  stop(*first);
  EXPECT_EQ(pull(), "3");
  stop(*told);
}

TEST_F(SlotCommands, nothing_to_read_says_what_is_missing) {
  expect_refused(1, "no segment \"" + segment_ + "\"", {"pull", slot_});
  expect_refused(1, slot_ + " has not come", {"sub", slot_, "--timeout", "0.01"});
  Segment segment = Segment::create(segment_, {.bytes = 1 << 16});
  expect_refused(1, "no slot \"x\" in segment \"" + segment_ + "\"; it has none", {"pull", slot_});
  segment.open<Slot<double>>("y", {});
  expect_refused(1, "it has \"y\"", {"pull", slot_});
  expect_refused(1, "/y has no value yet", {"pull", segment_ + "/y"});
  expect_refused(1, "/y has no newer value", {"sub", segment_ + "/y", "--timeout", "0.01"});
}

TEST_F(SlotCommands, what_is_no_slot_or_of_another_type_is_refused_with_both) {
  struct Quote {
    std::uint32_t bid;
    std::uint32_t ask;
  };
  Segment segment = Segment::create(segment_, {.bytes = 1 << 18});
  segment.open<TaskQueue<std::uint64_t>>("jobs", {.capacity = 64});
  expect_refused(2, "/jobs is a task queue, not a slot", {"pull", segment_ + "/jobs"});
  auto slot = segment.open<Slot<Quote>>("x", {});
  expect_refused(2, "holds structs of 8 bytes: publish them with --bytes", {"pub", slot_}, "1\n");
  expect_refused(2, "is a slot of struct (8 bytes, aligned to 4), not a slot of float32",
                 {"pub", slot_, "--type", "f32"}, "1\n");
  Fed pub({"pub", slot_, "--bytes"}, std::string_view("\1\0\0\0\2\1\0\0", 8));
  EXPECT_EQ(pub->join(), 0) << pub->errors();
  Quote quote{};
  EXPECT_TRUE(slot.pull(quote));
  EXPECT_EQ(quote.bid, 1U);
  EXPECT_EQ(quote.ask, 258U);
  EXPECT_EQ(pull(), "1 0 0 0 2 1 0 0");
  segment.open<Slot<float[]>>("three", {.count = 3});
  expect_refused(2, "three has 3 elements, not 4", {"pub", segment_ + "/three", "--count", "4"});
}

TEST_F(SlotCommands, bad_text_names_its_line_and_publishes_nothing_of_it) {
  const auto held = hold("1 2 3\n", {"--type", "i32"});
  int version = 1;
  for (const auto& [line, words] : std::vector<std::pair<std::string, std::string>>{
           {"7 8", "it has 2 elements, a value of " + slot_ + " has 3"},
           {"7 8 9 10", "it has 4 elements"},
           {"", "there is no number in it"},
           {"  ", "there is no number in it"},
           {"7 x 9", "\"x\" is no number of type i32"},
           {"7 8 9.5", "\"9.5\" is no number of type i32"},
           {"7 8 2147483648", "\"2147483648\" is no number of type i32"},
           {"7,8,9", "\"7,8,9\" is no number of type i32"}}) {
    expect_refused(2, "standard input, line 2: " + words, {"pub", slot_}, "4 5 6\n" + line + "\n");
    json event = pull_json();
    EXPECT_EQ(event["version"], ++version) << line;
    EXPECT_EQ(event["values"], json({4, 5, 6})) << line;
  }
  stop(*held);
  for (const char* word : {"nan", "inf", "-inf", "1e999", "0x10", "one"}) {
    expect_refused(2, "line 1: \"" + std::string(word) + "\" is no number of type f64",
                   {"pub", slot_}, std::string(word) + "\n");
  }
  expect_refused(2, "line 1: it has 2 elements", {"pub", slot_, "--count", "3"}, "1 2\n");
  expect_refused(2, "no value in the input", {"pub", slot_});
}

TEST_F(SlotCommands, bad_options_are_refused_in_one_line) {
  expect_refused(2, "SEGMENT/SLOT is required", {"pub"});
  for (const char* slot : {"demo", "/x", "demo/"}) {
    for (const char* command : {"pub", "sub", "pull"}) {
      expect_refused(2, "names no slot: say SEGMENT/SLOT", {command, slot});
    }
  }
  expect_refused(2, "unknown type \"f16\": there are f32, f64", {"pub", slot_, "--type", "f16"});
  expect_refused(2, "--count", {"pub", slot_, "--count", "0"});
  expect_refused(2, "--rate", {"pub", slot_, "--rate", "0"});
  expect_refused(2, "--rate", {"pub", slot_, "--rate", "nan"});
  expect_refused(2, "excludes --npy", {"pub", slot_, "--npy", "--type", "f32"});
  expect_refused(2, "excludes", {"pull", slot_, "--json", "--bytes"});
  expect_refused(2, "cannot read \"" + file("none") + "\"", {"pub", slot_, file("none")});
  expect_refused(2, "1 to 48", {"pub", std::string(60, 'a') + "/x"}, "1\n");
  expect_refused(2, "buffers", {"pub", slot_, "--buffers", "1"}, "1\n");
}

TEST_F(SlotCommands, few_buffers_do_even_with_pinning_readers) {
  const auto held = hold("1\n", {"--buffers", "2", "--views", "1", "--room", "0"});
  Segment segment = Segment::open(segment_);
  auto reader = segment.find<Slot<double[]>>("x").reader();
  Program sub({"sub", slot_, "--json"});
  ASSERT_TRUE(sub.event());
  Fed pub({"pub", slot_});
  {
    const auto view = reader.pull();
    pub.write("2\n");
    EXPECT_EQ(next(sub)["version"], 2);
    pub.write("3\n");  // it has no buffer as long as the view is open
    Program second({"sub", slot_, "--json", "--timeout", "0.2"});
    EXPECT_EQ(next(second)["version"], 2);
    EXPECT_EQ(second.event(), std::nullopt);
    EXPECT_EQ(second.join(), 1);
    EXPECT_EQ(view.values()[0], 1);
  }
  EXPECT_EQ(next(sub)["version"], 3);
  sub.send(SIGTERM);
  sub.join();
  pub.end();
  EXPECT_EQ(pub->join(), 0) << pub->errors();
  stop(*held);
}

TEST_F(SlotCommands, a_publisher_that_gets_no_buffer_says_who_has_them) {
  const auto held = hold("1\n", {"--buffers", "2", "--views", "1", "--room", "0"});
  Segment segment = Segment::open(segment_);
  auto reader = segment.find<Slot<double[]>>("x").reader();
  Fed pub({"pub", slot_});
  {
    const auto view = reader.pull();
    pub.write("2\n3\n");
    pub.end();
    ASSERT_TRUE(pub->complains());
  }
  EXPECT_EQ(pub->join(), 0);
  EXPECT_EQ(pull(), "3");
  const std::string& error = pub->errors();
  EXPECT_EQ(error.rfind("heddle: every buffer of " + slot_ + " is in use: process " +
                            std::to_string(getpid()) + " (heddle_cli_test) views version 1 (",
                        0),
            0U)
      << error;
  EXPECT_NE(error.find("s old)\n"), std::string::npos) << error;
  stop(*held);
}

TEST_F(SlotCommands, the_weights_of_a_training_can_be_pulled) {
  Program train({"train", "--json", "--epochs", "100000", "--segment", segment_});
  ASSERT_TRUE(train.event("epoch"));
  Program pull({"pull", segment_ + "/weights", "--json"});
  json event = next(pull);
  EXPECT_EQ(event["type"], "f32");
  EXPECT_EQ(event["values"].size(), Segment::open(segment_).find<Slot<float[]>>("weights").count());
  EXPECT_EQ(pull.join(), 0) << pull.errors();
  train.send(SIGTERM);
  train.join();
}

TEST_F(SlotCommands, a_pull_takes_no_place_and_leaves_no_trace) {
  Segment segment = Segment::create(segment_, {.bytes = 1 << 16, .participants = 1});
  auto publisher = segment.open<Slot<double>>("x", {}).publisher();
  ASSERT_EQ(publisher.publish(1.5), Status::ready);
  const std::string before = read_file("/dev/shm/heddle." + segment_);
  ASSERT_GT(before.size(), 1U << 16);
  EXPECT_EQ(pull(), "1.5");
  EXPECT_TRUE(read_file("/dev/shm/heddle." + segment_) == before) << "it has written";
  expect_refused(2, "all 1 places", {"sub", slot_});  // which joins
}

// --- raw bytes and .npy

template <class T>
std::string bytes_of(const std::vector<T>& numbers) {
  return {reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(T)};
}

// As numpy.save writes it.
std::string npy(std::string header, const std::string& numbers, char major = 1) {
  const std::size_t fixed = major == 1 ? 10 : 12;
  while ((fixed + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string file = "\x93NUMPY";
  file += {major, '\0'};
  for (std::size_t i = 0; i < fixed - 8; ++i) {
    file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  }
  return file + header + numbers;
}
std::string f4_header(const std::string& shape) {
  return "{'descr': '<f4', 'fortran_order': False, 'shape': " + shape + ", }";
}

TEST_F(SlotCommands, npy_files_go_through_bit_for_bit) {
  const float nan = std::bit_cast<float>(0x7fa12345);  // with a payload, and signalling
  const std::string floats = bytes_of<float>({1, -0.0F, nan, 1e-45F});
  const std::vector<std::string> files{
      npy(f4_header("(4,)"), floats),
      npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes_of<double>({0.1, 2})),
      npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }",
          bytes_of<std::int64_t>({INT64_MIN})),
      npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", "\n\xff\x01"),
      npy("{'descr': '|V1', 'fortran_order': False, 'shape': (3,), }", "\n\xff\x01")};
  for (const std::string& content : files) {
    const auto held = hold(content, {"--npy"});
    Program pull({"pull", slot_, "--npy", file("out.npy")});
    EXPECT_EQ(pull.join(), 0) << pull.errors();
    EXPECT_EQ(read_file(file("out.npy")), content) << content;
    stop(*held);
  }
}

TEST_F(SlotCommands, npy_arrays_of_any_shape_are_flat_in_a_slot) {
  const std::string numbers = bytes_of<float>({1, 2, 3, 4, 5, 6});
  for (const std::string& content :
       {npy(f4_header("(2, 3)"), numbers), npy(f4_header("(6,)"), numbers, 2),
        npy("{'shape':(6,1,1),'fortran_order':False,'descr':'<f4'}", numbers)}) {
    const auto held = hold(content, {"--npy"});
    Program pull({"pull", slot_, "--npy", file("out.npy")});
    EXPECT_EQ(pull.join(), 0) << pull.errors();
    EXPECT_EQ(read_file(file("out.npy")), npy(f4_header("(6,)"), numbers));
    stop(*held);
  }
  const auto held = hold(npy(f4_header("()"), bytes_of<float>({7})), {"--npy"});
  EXPECT_EQ(pull(), "7");
  stop(*held);
}

TEST_F(SlotCommands, npy_files_follow_each_other_in_a_stream_and_on_the_command_line) {
  const std::string one = npy(f4_header("(1,)"), bytes_of<float>({1}));
  const std::string two = npy(f4_header("(1,)"), bytes_of<float>({2}));
  const auto held = hold(one + two, {"--npy"});
  EXPECT_EQ(pull_json()["version"], 2);
  Fed pub({"pub", slot_, "--npy", write_file("2.npy", two), write_file("1.npy", one), "-"}, two);
  EXPECT_EQ(pub->join(), 0) << pub->errors();
  EXPECT_EQ(pull_json()["version"], 5);
  EXPECT_EQ(pull(), "2");
  Program sub({"sub", slot_, "--npy", folder_.string(), "--count", "1"});
  EXPECT_EQ(sub.line(), file("5.npy"));
  EXPECT_EQ(sub.join(), 0) << sub.errors();
  EXPECT_EQ(read_file(file("5.npy")), two);
  Program stream({"sub", slot_, "--npy", "-", "--count", "1"}, [&] {
    dup2(open(file("stream").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), STDOUT_FILENO);
  });
  EXPECT_EQ(stream.join(), 0) << stream.errors();
  EXPECT_EQ(read_file(file("stream")), two);
  stop(*held);
}

TEST_F(SlotCommands, bad_npy_files_say_what_is_wrong_and_publish_nothing) {
  const std::string good = npy(f4_header("(2,)"), bytes_of<float>({1, 2}));
  const std::string body = bytes_of<float>({1, 2});
  const auto with = [&](const std::string& header) { return npy(header, body); };
  const auto held = hold(good, {"--npy"});
  const std::string longest = std::string("\x93NUMPY\x02\x00", 8) + "\xff\xff\xff\x7f";
  for (const auto& [content, words] : std::vector<std::pair<std::string, std::string>>{
           {"1 2\n", "no .npy file"},
           {"not at all one\n", "no .npy file"},
           {good.substr(0, 5), "no .npy file"},
           {good.substr(0, 9), "ends in its header"},
           {good.substr(0, 60), "ends in its header"},
           {good.substr(0, good.size() - 3), "ends after 5 of 8 bytes"},
           {npy(f4_header("(2,)"), body, 3), "format 3.0, and can be of 1.0 or 2.0"},
           {longest, "header of 2147483647 bytes"},
           {with("{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }"), "\">f4\""},
           {with("{'descr': '<c8', 'fortran_order': False, 'shape': (2,), }"), "\"<c8\""},
           {with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }"), "[('a'"},
           {with("{'descr': '<f4', 'fortran_order': True, 'shape': (2,), }"), "Fortran"},
           {with("{'descr': '<f4', 'fortran_order': False, }"), "lacks"},
           {with("{'descr': '<f4', 'colour': 'red', 'shape': (2,), }"), "\"colour\""},
           {with("{'descr': '<f4"), "its header has"},
           {with("[1, 2]"), "its header has \"[1, 2]"},
           {with(f4_header("(-2,)")), "\"-2\" where a number"},
           {with(f4_header("(two,)")), "\"two\" where a number"},
           {with(f4_header("2")), "its header has \"2, }"},
           {with(f4_header("(0,)")), "no elements"},
           {with(f4_header("(4294967296, 4294967296)")), "too many elements"},
           {with(f4_header("(1099511627776,)")), "ends after 8 of"},
           {npy(f4_header("(3,)"), bytes_of<float>({1, 2, 3})), "it has 3 elements"},
           {"", "no value in the input"}}) {
    expect_refused(2, words, {"pub", slot_, "--npy"}, content);
    EXPECT_EQ(pull_json()["version"], 1) << words;
  }
  expect_refused(2, "standard input, value 2: it is no .npy file", {"pub", slot_, "--npy"},
                 good + "and more");
  EXPECT_EQ(pull_json()["version"], 2);  // the good one before it
  expect_refused(
      2, "is a slot of float32 (4 bytes, aligned to 4), not a slot of float64",
      {"pub", slot_, "--npy"},
      npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes_of<double>({1, 2})));
  stop(*held);
  expect_refused(2, "standard input, value 1: it is no .npy file", {"pub", slot_, "--npy"}, "hm");
}

TEST_F(SlotCommands, raw_bytes_are_cut_into_values_of_the_slots_size) {
  const auto held = hold("\n\xff\x01", {"--bytes"});
  EXPECT_EQ(pull(), "10 255 1");
  Fed pub({"pub", slot_, "--bytes"}, "abcdef");
  EXPECT_EQ(pub->join(), 0) << pub->errors();
  EXPECT_EQ(pull_json()["version"], 3);
  Program pull({"pull", slot_, "--bytes"}, [&] {
    dup2(open(file("raw").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), STDOUT_FILENO);
  });
  EXPECT_EQ(pull.join(), 0) << pull.errors();
  EXPECT_EQ(read_file(file("raw")), "def");
  expect_refused(2, "value 2: it ends after 2 of 3 bytes", {"pub", slot_, "--bytes"}, "abcde");
  stop(*held);
  expect_refused(2, "5 bytes are no whole number of f32",
                 {"pub", slot_, "--bytes", "--type", "f32"}, "abcde");
}

}  // namespace
}  // namespace heddle
