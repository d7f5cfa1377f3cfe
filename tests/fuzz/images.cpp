#include "fuzz/images.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>
#include <string_view>

#include "heddle/run/event_ring.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"

namespace heddle::fuzz {
namespace {

constexpr std::uint32_t participants = 6;
constexpr std::uint32_t objects = 12;
constexpr std::size_t weights = 1100;
constexpr std::uint32_t queue_capacity = 64;

struct Objects {
  explicit Objects(Segment& segment)
      : job(segment.open<Slot<Job>>(job_slot, {.views = 2, .publishers = 2})),
        weights(segment.open<Slot<Weights>>(weights_slot,
                                            {.count = fuzz::weights, .views = 1, .publishers = 1})),
        queue(segment.open<TaskQueue<Job>>(job_queue, {.capacity = queue_capacity})),
        near(segment.open<Barrier>(near_barrier, {.parties = 2, .max_parties = 4})),
        far(segment.open<Barrier>(far_barrier, {.parties = 2, .max_parties = 9})),
        board(segment.open<Board>(item_board, {.items = 3})),
        events(segment.open<EventRing>(event_ring, {})),
        // Fills the rest of the segment, up to the guard page behind it.
        buffer(segment.open<SharedBuffer<std::uint64_t>>(plain_buffer, {page_bytes / 8})) {}
  Slot<Job> job;
  Slot<Weights> weights;
  TaskQueue<Job> queue;
  Barrier near, far;
  Board board;
  EventRing events;
  SharedBuffer<std::uint64_t> buffer;
};

Segment new_segment() {
  return Segment::anonymous(
      {.bytes = 22 * page_bytes, .participants = participants, .objects = objects});
}

std::vector<std::uint32_t> some_weights() {
  std::vector<std::uint32_t> values(weights);
  std::iota(values.begin(), values.end(), 1);
  return values;
}

Image image_of(Segment& segment) {
  Image image{std::vector<std::byte>(segment.bytes()), {}, {}};
  if (pread(segment.fd(), image.bytes.data(), image.bytes.size(), 0) !=
      static_cast<ssize_t>(image.bytes.size())) {
    std::abort();
  }
  const std::size_t directory = page_bytes + participants * sizeof(ParticipantEntry);
  image.regions = {{0, sizeof(SegmentHeader)},
                   {page_bytes, directory - page_bytes},
                   {directory, objects * sizeof(DirectoryEntry)}};
  std::vector<DirectoryEntry> entries(objects);
  std::memcpy(static_cast<void*>(entries.data()), image.bytes.data() + directory,
              objects * sizeof(DirectoryEntry));
  for (const DirectoryEntry& entry : entries) {
    if (entry.bytes == 0) continue;
    image.regions.push_back({entry.offset, entry.bytes});
    if (entry.name == std::string_view(event_ring)) image.events = image.regions.back();
  }
  return image;
}

// Everything was used, and nothing is held.
Image idle() {
  Segment segment = new_segment();
  Objects all(segment);
  auto publisher = all.job.publisher();
  static_cast<void>(publisher.publish(Job::of(1)));
  static_cast<void>(publisher.publish(Job::of(2)));
  static_cast<void>(all.weights.publisher().publish(some_weights()));
  for (std::uint64_t number = 0; number < 100; ++number) {
    static_cast<void>(all.queue.try_push(Job::of(number)));
    if (number % 4 != 0) static_cast<void>(all.queue.try_pop().complete());
  }
  all.events.push({WorkerEvent::Kind::progress, 0, 1, 1, 0.5});
  return image_of(segment);
}

// A process that dies while it copies a value into the slot: from a page that it may not read.
void die_in_publish(int fd) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    Segment segment = Segment::adopt(fd);
    auto publisher = segment.find<Slot<Job>>(job_slot).publisher();
    void* page = mmap(nullptr, page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static_cast<void>(publisher.publish(*static_cast<const Job*>(page)));
    std::abort();
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV) {
    std::abort();
  }
}

// Everybody is in the middle of something, in every object and in the directory; the near barrier
// is broken.
Image held() {
  Segment segment = new_segment();
  Segment other = Segment::adopt(segment.fd());
  Objects all(segment);
  die_in_publish(segment.fd());
  auto publisher = all.job.publisher();
  static_cast<void>(publisher.publish(Job::of(1)));
  auto weights_publisher = all.weights.publisher();
  static_cast<void>(weights_publisher.publish(some_weights()));
  auto reader = all.job.reader();
  const auto view = reader.pull();
  auto weights_reader = all.weights.reader();
  const auto weights_view = weights_reader.pull();

  const std::span<std::byte> memory = segment.directory().find(
      job_queue, ObjectKind::task_queue, TaskQueue<Job>::element(), other.peers(), Deadline::now());
  LeaseRing ring(memory, *LeaseRingShape::of(memory), other.peers());
  std::array<LeaseRing::Reservation, 2> filling;
  static_cast<void>(all.queue.try_push(Job::of(1)));
  static_cast<void>(all.queue.try_push(Job::of(2)));
  static_cast<void>(ring.try_reserve(filling[0]));
  static_cast<void>(all.queue.try_push(Job::of(3)));
  const Task<Job> leased = all.queue.try_pop();
  static_cast<void>(all.queue.try_pop().fail());  // returned
  const Task<Job> goes_past_filling = all.queue.try_pop();
  static_cast<void>(ring.try_reserve(filling[1]));

  Barrier::Party party = all.near.join();
  Segment third = Segment::adopt(segment.fd());
  Barrier::Party dying = third.find<Barrier>(near_barrier).join();
  static_cast<void>(party.arrive());
  Barrier::Party far_party = all.far.join();
  Barrier::Party other_far_party = other.find<Barrier>(far_barrier).join();
  static_cast<void>(far_party.arrive());

  std::uint32_t item = 0;
  static_cast<void>(all.board.take(1, item, Deadline::now()));
  all.board.finish(item);
  static_cast<void>(all.board.take(1, item, Deadline::now()));

  std::optional<Image> image;
  const Directory::Spec spec{ObjectKind::buffer, element_type<std::byte>(), 64};
  segment.directory().find_or_create(half_made, spec, segment.peers(), Deadline::now(),
                                     [&](std::span<std::byte>) { image = image_of(segment); });
  return *image;
}

// No room anywhere: all views, publishers, places and items are taken; the queue is full, and closed.
Image full() {
  Segment segment = new_segment();
  Objects all(segment);
  std::vector<Slot<Job>::Publisher> publishers;
  std::vector<Slot<Job>::Reader> readers;
  std::vector<Slot<Job>::View> views;
  readers.reserve(2);
  for (int i = 0; i < 2; ++i) {
    publishers.push_back(all.job.publisher());
    static_cast<void>(publishers.back().publish(Job::of(1)));
    readers.push_back(all.job.reader());
    views.push_back(readers.back().pull());
  }
  const auto weights_publisher = all.weights.publisher();
  const auto weights_reader = all.weights.reader();
  std::vector<Task<Job>> leased;
  while (all.queue.try_push(Job::of(1)) == Status::ready) {
    if (leased.size() < 5) leased.push_back(all.queue.try_pop());
  }
  static_cast<void>(all.queue.close());
  std::vector<Barrier::Party> parties;
  for (int i = 0; i < 4; ++i) parties.push_back(all.near.join());
  for (int i = 0; i < 9; ++i) parties.push_back(all.far.join());
  for (std::uint32_t item = 0; all.board.take(1, item, Deadline::now()) == Status::ready;) {
  }
  return image_of(segment);
}

}  // namespace

std::span<const Image> good_images() {
  static const std::array<Image, 3> images{idle(), held(), full()};
  return images;
}

}  // namespace heddle::fuzz
