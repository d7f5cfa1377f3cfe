#include "fuzz/images.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>
#include <string_view>

#include "fuzz/group_use.hpp"
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
constexpr TaskQueue<bytes>::Options bytes_options{.payload_bytes = 24,
                                                  .capacity = queue_capacity,
                                                  .lanes = 2,
                                                  .max_tries = 2,
                                                  .lease_timeout = std::chrono::milliseconds(1),
                                                  .delays = true,
                                                  .result_bytes = 12,
                                                  .results = 8};

struct Objects {
  explicit Objects(Segment& segment)
      : job(segment.open<Slot<Job>>(job_slot, {.views = 2, .publishers = 2})),
        weights(segment.open<Slot<Weights>>(weights_slot,
                                            {.count = fuzz::weights, .views = 1, .publishers = 1})),
        queue(segment.open<TaskQueue<Job>>(job_queue, {.capacity = queue_capacity})),
        notes(segment.open<TaskQueue<bytes>>(bytes_queue, bytes_options)),
        near(segment.open<Barrier>(near_barrier, {.parties = 2, .max_parties = 4})),
        far(segment.open<Barrier>(far_barrier, {.parties = 2, .max_parties = 9})),
        board(segment.open<Board>(item_board, {.items = 3})),
        group(segment.open<Group>(small_group,
                                  {.size = 2, .places = 3, .exchange_bytes = page_bytes})),
        events(segment.open<EventRing>(event_ring, {})),
        // Fills the rest of the segment, up to the guard page behind it.
        buffer(segment.open<SharedBuffer<std::uint64_t>>(plain_buffer, {page_bytes / 8})) {}
  Slot<Job> job;
  Slot<Weights> weights;
  TaskQueue<Job> queue;
  TaskQueue<bytes> notes;
  Barrier near, far;
  Board board;
  Group group;
  EventRing events;
  SharedBuffer<std::uint64_t> buffer;
};

Segment new_segment() {
  return Segment::anonymous(
      {.bytes = 30 * page_bytes, .participants = participants, .objects = objects});
}

// Its two first members, and who may come later.
struct GroupOfTwo {
  explicit GroupOfTwo(Segment& segment)
      : first(segment),
        second_segment(Segment::adopt(segment.fd())),
        second(second_segment),
        memory(segment.directory().find(small_group, Group::kind, Group::element(), segment.peers(),
                                        Deadline::now())) {
    first.next = [this] { members[1] = Group(memory, second).join(Deadline::now()); };
    members[0] = Group(memory, first).join(Deadline::now());
  }
  // Both, in turns.
  template <class Call>
  void both(Call&& call) {
    for (int times = 0; times < 2; ++times) {
      for (Group::Member& member : members) call(member);
    }
  }
  LetsIn first;
  Segment second_segment;
  LetsIn second;
  std::span<std::byte> memory;
  std::array<Group::Member, 2> members;
};

std::vector<std::uint32_t> some_weights() {
  std::vector<std::uint32_t> values(weights);
  std::iota(values.begin(), values.end(), 1);
  return values;
}

std::span<const std::byte> some_bytes(std::uint64_t count) {
  static const std::array<std::byte, 24> all{std::byte{1}, std::byte{2}};
  return std::span(all).first(count % 25);
}

// One dead letter, whose number is returned.
TaskId die_twice(TaskQueue<bytes>& queue, std::uint32_t lane) {
  const Pushed pushed = queue.try_push(some_bytes(7), {.lane = lane});
  for (int tries = 0; tries < 2; ++tries) static_cast<void>(queue.try_pop().fail("it is so"));
  return pushed.id;
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
  std::optional<Image::Region> group;  // last: the regions' numbers stand in inputs
  std::vector<DirectoryEntry> entries(objects);
  std::memcpy(static_cast<void*>(entries.data()), image.bytes.data() + directory,
              objects * sizeof(DirectoryEntry));
  for (const DirectoryEntry& entry : entries) {
    if (entry.bytes == 0) continue;
    if (entry.name == std::string_view(small_group)) {
      group = {entry.offset, entry.bytes};
      continue;
    }
    image.regions.push_back({entry.offset, entry.bytes});
    if (entry.name == std::string_view(event_ring)) image.events = image.regions.back();
  }
  if (group) image.regions.push_back(*group);
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
  for (std::uint32_t number = 0; number < 100; ++number) {
    static_cast<void>(all.notes.try_push(some_bytes(number), {.lane = number % 2}));
    if (number % 4 != 0) static_cast<void>(all.notes.try_pop().complete(some_bytes(number % 13)));
  }
  static_cast<void>(all.notes.drop(die_twice(all.notes, 1)));
  static_cast<void>(all.notes.close());
  static_cast<void>(all.notes.reopen());
  {
    GroupOfTwo group(segment);
    std::array<std::vector<float>, 2> data{std::vector<float>(2000), std::vector<float>(2000)};
    for (std::size_t i = 0; i < 2; ++i) {
      static_cast<void>(
          group.members[i].allreduce(std::span(data[i]), Reduction::sum, Deadline::now()));
    }
    for (int rounds = 0; rounds < 5; ++rounds) group.both([](auto& one) { (void)one.test(); });
    group.both([](auto& one) { (void)one.rebuild(Deadline::now()); });
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

  // A push under way, a task that is not due, one that is, one leased, one whose worker writes down its
  // result, one dead letter at rest and one that somebody drops.
  const TaskId held_letter = die_twice(all.notes, 0);
  static_cast<void>(die_twice(all.notes, 1));
  Reservation<bytes> slot = all.notes.reserve(Deadline::now(), {.lane = 1});
  static_cast<void>(all.notes.try_push(some_bytes(3), {.delay = std::chrono::hours(1)}));
  for (std::uint32_t i = 0; i < 4; ++i) {
    static_cast<void>(all.notes.try_push(some_bytes(i), {.lane = i % 2}));
  }
  const Task<bytes> leased_bytes = all.notes.try_pop();
  const std::span<std::byte> notes =
      segment.directory().find(bytes_queue, ObjectKind::task_queue, TaskQueue<bytes>::element(),
                               other.peers(), Deadline::now());
  const QueueShape shape = *QueueShape::of(notes);
  LeaseRing lane(notes.first(shape.lane_bytes()), shape.ring, other.peers());
  LeaseRing::Lease ending, letter;
  if (lane.try_lease(ending) != Status::ready || ending.begin_ending() != Status::ready ||
      lane.hold_letter(letter, held_letter / shape.lanes) != Status::ready) {
    std::abort();
  }

  Barrier::Party party = all.near.join();
  Segment third = Segment::adopt(segment.fd());
  Barrier::Party dying = third.find<Barrier>(near_barrier).join();
  static_cast<void>(party.arrive());
  Barrier::Party far_party = all.far.join();
  Barrier::Party other_far_party = other.find<Barrier>(far_barrier).join();
  static_cast<void>(far_party.arrive());

  GroupOfTwo group(segment);  // one has come to a call, and the other has not
  std::vector<float> data(2000);
  static_cast<void>(group.members[0].allreduce(std::span(data), Reduction::sum, Deadline::now()));

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
  // Dead letters and leases all around in one lane, and delays in the other; no result has been read.
  for (std::uint32_t i = 0; i < queue_capacity / 2; ++i) die_twice(all.notes, 0);
  std::vector<Task<bytes>> leased_bytes;
  while (all.notes.try_push(some_bytes(1)) && leased_bytes.size() < queue_capacity) {
    leased_bytes.push_back(all.notes.try_pop());
  }
  while (all.notes.try_push(some_bytes(2), {.lane = 1, .delay = std::chrono::hours(1)})) {
  }
  static_cast<void>(all.notes.close());
  std::vector<Barrier::Party> parties;
  for (int i = 0; i < 4; ++i) parties.push_back(all.near.join());
  for (int i = 0; i < 9; ++i) parties.push_back(all.far.join());
  for (std::uint32_t item = 0; all.board.take(1, item, Deadline::now()) == Status::ready;) {
  }
  GroupOfTwo group(segment);
  Segment third_segment = Segment::adopt(segment.fd());
  LetsIn third(third_segment);
  third.next = [&] { group.both([](auto& one) { (void)one.rebuild(Deadline::now()); }); };
  const Group::Member last = Group(group.memory, third).join(Deadline::now());
  return image_of(segment);
}

}  // namespace

std::span<const Image> good_images() {
  static const std::array<Image, 3> images{idle(), held(), full()};
  return images;
}

}  // namespace heddle::fuzz
