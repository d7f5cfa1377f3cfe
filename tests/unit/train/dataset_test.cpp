#include "heddle/train/dataset.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <functional>
#include <numeric>
#include <set>
#include <string>

#include "heddle/base/error.hpp"
#include "heddle/train/random.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string path = (fs::temp_directory_path() / "heddle-dataset-XXXXXX").string();
    if (!mkdtemp(path.data())) throw std::runtime_error("no folder for the test");
    path_ = path;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// A good file of two training samples and one test sample, three pixels, four classes.
struct Image {
  std::string bytes = std::string("HDLDIGIT") + number(1, 4) + number(2, 4) + number(1, 4) +
                      number(3, 4) + number(4, 4) + std::string("\x00\x08\x10\x03", 4) +
                      std::string("\x01\x02\x03\x00", 4) + std::string("\x10\x10\x10\x02", 4);

  static std::string number(std::uint64_t value, int size) {
    std::string text;
    for (int i = 0; i < size; ++i) text += static_cast<char>(value >> (8 * i) & 255U);
    return text;
  }
  std::string with_checksum() const {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return bytes + number(hash, 8);
  }
};

void write(const fs::path& file, const std::string& bytes) {
  fs::create_directories(file.parent_path());
  std::ofstream(file, std::ios::binary) << bytes;
}

// Expects that `call` throws `code`, with a message of one line that holds all of `parts`.
void expect_error(Errc code, const std::vector<std::string>& parts,
                  const std::function<void()>& call) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown, wanted: " << parts.back();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks: " << part;
    }
  }
}

TEST(Dataset, a_good_file_is_read_as_it_is) {
  const Folder folder;
  const fs::path file = folder.path() / "digits.bin";
  write(file, Image().with_checksum());
  const SplitData data = read_digits(file);
  ASSERT_EQ(data.train.samples, 2U);
  ASSERT_EQ(data.test.samples, 1U);
  EXPECT_EQ(data.train.features, 3U);
  EXPECT_EQ(data.train.classes, 4U);
  EXPECT_EQ(data.train.labels, (std::vector<std::uint32_t>{3, 0}));
  EXPECT_EQ(data.test.labels, (std::vector<std::uint32_t>{2}));
  const auto row = data.train.row(0);
  EXPECT_EQ(std::vector(row.begin(), row.end()), (std::vector{0.0F, 0.5F, 1.0F}));
  const auto test = data.test.row(0);
  EXPECT_EQ(std::vector(test.begin(), test.end()), (std::vector{1.0F, 1.0F, 1.0F}));
}

TEST(Dataset, every_row_begins_at_64_bytes) {  // DATA-1
  for (const std::size_t features : {1U, 16U, 17U, 64U}) {
    const Dataset data(3, features, 2);
    for (std::size_t sample = 0; sample < data.samples; ++sample) {
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data.row(sample).data()) % 64, 0U);
      EXPECT_EQ(data.row(sample).size(), features);
    }
  }
}

TEST(Dataset, a_bad_file_is_refused_with_its_name_and_what_is_wrong) {  // DATA-2, DATA-3
  const Folder folder;
  const fs::path file = folder.path() / "digits.bin";
  const auto refused = [&](const std::string& bytes, const std::string& why) {
    write(file, bytes);
    expect_error(Errc::bad_data, {file.string(), "HEDDLE_DATA_DIR", why},
                 [&] { read_digits(file); });
  };
  const auto changed = [](std::size_t at, const std::string& bytes) {
    Image image;
    image.bytes.replace(at, bytes.size(), bytes);
    return image.with_checksum();
  };
  const std::string good = Image().with_checksum();

  refused("", "too short (0 bytes)");
  refused(good.substr(0, 35), "too short (35 bytes)");
  refused(good.substr(0, good.size() - 1), "has 47 bytes where its header states 48");
  refused(good + "x", "has 49 bytes where its header states 48");
  refused(changed(0, "hdldigit"), "does not begin with HDLDIGIT");
  refused(changed(8, Image::number(2, 4)), "has format 2, this program reads format 1");
  refused(changed(12, Image::number(0, 4)), "impossible sizes");
  refused(changed(12, Image::number(0xffffffff, 4)), "has 48 bytes where its header states");
  refused(changed(20, Image::number(0xffffffff, 4)), "impossible sizes");
  refused(changed(24, Image::number(1, 4)), "impossible sizes");
  refused(changed(31, "\x04"), "has a label of 4 with only 4 classes");
  refused(changed(28, "\x11"), "has a pixel of 17, above 16");
  for (std::size_t at = 28; at < good.size(); ++at) {
    std::string damaged = good;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    refused(damaged, "is damaged");
  }
}

TEST(Dataset, what_is_no_file_is_refused_with_its_name) {
  const Folder folder;
  const fs::path missing = folder.path() / "none" / "digits.bin";
  expect_error(Errc::not_found, {missing.string(), "HEDDLE_DATA_DIR"},
               [&] { read_digits(missing); });
  expect_error(Errc::bad_data, {folder.path().string(), "not a regular file"},
               [&] { read_digits(folder.path()); });
}

TEST(Dataset, the_embedded_digits_are_all_there) {
  const SplitData data = load_digits();
  EXPECT_EQ(data.train.samples, 1437U);
  EXPECT_EQ(data.test.samples, 360U);
  for (const Dataset* part : {&data.train, &data.test}) {
    ASSERT_EQ(part->features, 64U);
    ASSERT_EQ(part->classes, 10U);
    for (std::size_t sample = 0; sample < part->samples; ++sample) {
      ASSERT_LT(part->labels[sample], 10U);
      for (const float value : part->row(sample)) ASSERT_TRUE(value >= 0 && value <= 1);
    }
  }
  for (std::uint32_t label = 0; label < 10; ++label) {  // stratified
    EXPECT_EQ(std::count(data.test.labels.begin(), data.test.labels.end(), label), 36);
  }
}

TEST(Dataset, the_environment_says_where_the_data_are_and_nothing_else_is_tried) {
  const Folder folder;
  setenv("HEDDLE_DATA_DIR", folder.path().c_str(), 1);
  expect_error(Errc::not_found, {(folder.path() / "digits.bin").string()}, [] { load_digits(); });
  write(folder.path() / "digits.bin", Image().with_checksum());
  EXPECT_EQ(load_digits().train.samples, 2U);
  unsetenv("HEDDLE_DATA_DIR");
}

// Runs this program again from a folder that looks installed, beside damaged data: it must meet them.
TEST(Dataset, an_installed_program_finds_the_data_beside_it) {
  const Folder folder;
  const fs::path program = folder.path() / "bin" / "program";
  const fs::path data = folder.path() / "share" / "heddle" / "digits.bin";
  fs::create_directories(program.parent_path());
  fs::copy_file("/proc/self/exe", program);
  write(data, "nothing");
  const std::string command =
      program.string() + " --gtest_filter=Dataset.the_embedded_digits_are_all_there 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string output;
  for (int c = 0; (c = fgetc(pipe)) != EOF;) output += static_cast<char>(c);
  EXPECT_NE(pclose(pipe), 0);
  EXPECT_NE(output.find(data.string()), std::string::npos) << output;
}

TEST(Random, the_reference_numbers_of_splitmix64) {
  Random zero(0);
  EXPECT_EQ(zero.next(), 0xe220a8397b1dcdafU);
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317U);
  EXPECT_EQ(random.next(), 3203168211198807973U);
}

TEST(Random, draws_below_a_bound_are_even) {
  Random random(1);
  std::array<int, 7> seen{};
  for (int i = 0; i < 70'000; ++i) ++seen.at(random.below(7));
  for (const int count : seen) EXPECT_NEAR(count, 10'000, 500);  // over 5 standard deviations

  // Just above 2^31 a plain multiplication would give every other number twice as often.
  constexpr std::uint32_t bound = 0xC0000000;
  int lower_two_thirds = 0;
  int multiples_of_three = 0;
  for (int i = 0; i < 30'000; ++i) {
    const std::uint32_t draw = random.below(bound);
    lower_two_thirds += draw < 0x80000000;
    multiples_of_three += draw % 3 == 0;
  }
  EXPECT_NEAR(lower_two_thirds, 20'000, 450);
  EXPECT_NEAR(multiples_of_three, 10'000, 450);
}

TEST(Permutation, holds_every_sample_once) {
  for (const std::size_t size : {0U, 1U, 2U, 3U, 360U, 1437U}) {
    std::vector<std::uint32_t> order(size);
    permutation(7, 3, order);
    std::vector<std::uint32_t> sorted = order;
    std::sort(sorted.begin(), sorted.end());
    std::vector<std::uint32_t> all(size);
    std::iota(all.begin(), all.end(), 0U);
    EXPECT_EQ(sorted, all);
  }
}

// The numbers were computed by an own program in Python.
TEST(Permutation, is_the_same_on_every_machine) {
  std::array<std::uint32_t, 10> order{};
  permutation(7, 0, order);
  EXPECT_EQ(order, (std::array<std::uint32_t, 10>{6, 2, 0, 8, 9, 3, 4, 5, 7, 1}));
  permutation(7, 1, order);
  EXPECT_EQ(order, (std::array<std::uint32_t, 10>{5, 2, 1, 3, 0, 9, 4, 7, 6, 8}));
}

TEST(Permutation, differs_by_seed_and_epoch) {
  std::set<std::vector<std::uint32_t>> orders;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (std::uint64_t epoch = 0; epoch < 10; ++epoch) {
      std::vector<std::uint32_t> order(100);
      permutation(seed, epoch, order);
      orders.insert(order);
    }
  }
  EXPECT_EQ(orders.size(), 100U);
}

TEST(Permutation, every_order_is_as_likely_as_any_other) {
  std::array<int, 24> seen{};
  for (std::uint64_t epoch = 0; epoch < 24'000; ++epoch) {
    std::array<std::uint32_t, 4> order{};
    permutation(1, epoch, order);
    const std::size_t rank =
        order[0] * 6 + (order[1] - (order[1] > order[0])) * 2 + (order[2] > order[3]);
    ++seen.at(rank);
  }
  for (const int count : seen) EXPECT_NEAR(count, 1000, 160);  // 5 standard deviations
}

}  // namespace
}  // namespace heddle
