// The fuzzer without libFuzzer: every input that once found a mistake, then random ones. With
// HEDDLE_FUZZ=SECONDS in the environment it goes on for so long, from another seed each time.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace heddle {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr const char* corpus_folder = HEDDLE_TESTS_DIR "/fuzz/corpus";

const Bytes* running = nullptr;

// Keeps what was being run when the program died.
extern "C" void save_and_die(int signal) {
  const int file = open("fuzz-crash", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  constexpr char text[] = "died, or went on for ever, with the input that is in ./fuzz-crash now\n";
  if (write(file, running->data(), running->size()) >= 0) {
    static_cast<void>(!write(2, text, sizeof text - 1));
  }
  ::signal(signal, SIG_DFL);
  raise(signal);
}

void run(const Bytes& input) {
  running = &input;
  // Of the processor's time, so that a busy machine is no mistake. No input needs a thousandth.
  constexpr itimerval limit{{}, {20, 0}};
  setitimer(ITIMER_PROF, &limit, nullptr);
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

std::vector<Bytes> corpus() {
  std::vector<Bytes> inputs;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  return inputs;
}

class DamagedSegment : public testing::Test {
 protected:
  DamagedSegment() {
    for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGPROF}) {
      ::signal(signal, save_and_die);
    }
  }
};

TEST_F(DamagedSegment, harms_nobody_in_the_ways_that_once_did) {
  const std::vector<Bytes> inputs = corpus();
  EXPECT_FALSE(inputs.empty()) << "nothing in " << corpus_folder;
  for (const Bytes& input : inputs) run(input);
}

TEST_F(DamagedSegment, harms_nobody_in_random_ways) {
  const char* seconds = std::getenv("HEDDLE_FUZZ");
  std::mt19937_64 random(seconds == nullptr ? 1 : std::random_device()());
  const auto below = [&](std::uint64_t n) { return random() % n; };
  const auto byte = [&] { return static_cast<std::uint8_t>(below(256)); };
  const std::vector<Bytes> known = corpus();

  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(seconds == nullptr ? 0 : std::atoi(seconds));
  std::size_t count = 0;
  while (count < 5000 || std::chrono::steady_clock::now() < end) {
    Bytes input(1 + below(200));
    std::generate(input.begin(), input.end(), byte);
    if (!known.empty() && below(4) == 0) {
      input = known[below(known.size())];
      for (std::uint64_t changes = 1 + below(8); changes-- > 0 && !input.empty();) {
        input[below(input.size())] = byte();
      }
    }
    run(input);
    ++count;
  }
  RecordProperty("executions", static_cast<int>(count));
}

}  // namespace
}  // namespace heddle
