// One process publishes, another pulls the newest value without a copy. Either may be killed at any
// time: the other goes on.
//
//   ./example_weights publish &       ./example_weights pull

#include <cstdio>
#include <string_view>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"

using Weights = heddle::Slot<float[]>;

namespace {

constexpr std::size_t count = 1000;

int publish() {
  auto segment = heddle::Segment::create("example-weights", {});
  auto slot = segment.open<Weights>("weights", {.count = count});
  auto publisher = slot.publisher();
  std::vector<float> weights(count);
  for (int step = 1; step <= 2'000'000; ++step) {
    weights.assign(count, static_cast<float>(step));
    if (publisher.publish(weights) != heddle::Status::ready) return 1;
  }
  return 0;
}

int pull() {
  auto segment = heddle::Segment::open("example-weights");
  auto slot = segment.open<Weights>("weights", {.count = count});
  auto reader = slot.reader();
  heddle::Version seen = 0;
  while (slot.wait_newer(seen, heddle::Deadline::after(std::chrono::seconds(1))) ==
         heddle::Status::ready) {
    const auto view = reader.pull();  // in place: not overwritten while `view` lives
    if (!view) continue;
    seen = view.reading().version;
    const auto values = view.values();
    if (values.front() != values.back()) return 1;  // torn: never
    if (seen % 100'000 < 10) std::printf("version %lu is %g\n", seen, values.front());
  }
  std::printf("the publisher is gone; the last version was %lu\n", seen);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view role = argc > 1 ? argv[1] : "";
  try {
    if (role == "publish") return publish();
    if (role == "pull") return pull();
  } catch (const heddle::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::fprintf(stderr, "usage: %s publish|pull\n", argv[0]);
  return 2;
}
