// What a slot can do beside publish and pull. All in one process here; each part may be in another.
//
//   ./example_slot

#include <chrono>
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/replica.hpp"

using heddle::Deadline;
using heddle::Status;
using Weights = heddle::Slot<float[]>;

namespace {

constexpr std::size_t count = 4000;

// The value is written once, where readers will find it.
bool fill_in_place(Weights::Publisher& publisher) {
  auto loan = publisher.loan();
  if (!loan) return false;
  std::iota(loan.values().begin(), loan.values().end(), 1.0F);
  return loan.commit() == Status::ready;
}

// Read, modify, write; once more if another publisher was first.
bool add_one(Weights& slot, Weights::Publisher& publisher) {
  std::vector<float> values(count);
  Status status = Status::overtaken;
  while (status == Status::overtaken) {
    const auto reading = slot.pull(values);
    if (!reading) return false;
    for (float& value : values) value += 1;
    status = publisher.compare_and_publish(reading.version, values);
  }
  return status == Status::ready;
}

bool read_a_part(Weights& slot) {
  std::vector<float> part(10);
  return slot.pull(1000, part) && part[0] == 1002;  // elements 1000 to 1009, of one version
}

// A value that is made when somebody asks for it.
bool read_a_fresh_one(Weights& slot) {
  std::jthread maker([publisher = slot.publisher()]() mutable {
    if (publisher.wait_for_request(Deadline::after(std::chrono::seconds(10))) != Status::ready)
      return;
    (void)publisher.publish(std::vector<float>(count, 7));
  });
  std::vector<float> values(count);
  return slot.pull_fresh(values, Deadline::after(std::chrono::seconds(10))) && values[0] == 7;
}

// A copy of this process's own, which changes only when it is told to.
bool keep_a_copy(Weights& slot, Weights::Publisher& publisher) {
  heddle::Replica own(slot);
  if (own.poll() != Status::ready || own.values()[0] != 7) return false;
  if (publisher.publish(std::vector<float>(count, 8)) != Status::ready) return false;
  return own.values()[0] == 7 && own.behind() == 1 && own.poll() == Status::ready &&
         own.values()[0] == 8;
}

// Two buffers are too few for one reader and one publisher: when both are in use, it asks who has them.
bool say_who_is_in_the_way(heddle::Segment& segment) {
  auto small = segment.open<Weights>("small", {.views = 1, .publishers = 1, .buffers = 2});
  auto publisher = small.publisher();
  auto reader = small.reader();
  const std::vector<float> one(1);
  if (publisher.publish(one) != Status::ready) return false;
  const auto view = reader.pull();
  if (publisher.publish(one) != Status::ready || publisher.publish(one) != Status::busy)
    return false;
  for (const heddle::SlotHolder& holder : small.holders()) {
    const auto who = segment.participant(holder.owner);
    std::printf("process %lu has had version %lu in view for %.6f s at most\n", who ? who->pid : 0,
                holder.version, static_cast<double>(holder.open_ns().value_or(0)) * 1e-9);
  }
  return small.holders().size() == 1;
}

}  // namespace

int main() {
  auto segment = heddle::Segment::anonymous({});
  auto slot = segment.open<Weights>("weights", {.count = count});
  auto publisher = slot.publisher();
  const bool all = fill_in_place(publisher) && add_one(slot, publisher) && read_a_part(slot) &&
                   read_a_fresh_one(slot) && keep_a_copy(slot, publisher) &&
                   say_who_is_in_the_way(segment);
  std::printf("version %lu: %s\n", slot.version(), all ? "all as it should be" : "wrong");
  return all ? 0 : 1;
}
