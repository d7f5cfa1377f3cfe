#include <heddle/shm/segment.hpp>
#include <heddle/sync/slot.hpp>

int main() {
  heddle::Segment segment = heddle::Segment::anonymous({});
  auto slot = segment.open<heddle::Slot<int>>("answer", {});
  auto publisher = slot.publisher();
  if (publisher.publish(42) != heddle::Status::ready) return 1;
  int value = 0;
  return slot.pull(value) && value == 42 ? 0 : 1;
}
