// The slot: publishers, readers by copy and by view, and their deaths.

#include <map>

#include "heddle/sync/slot.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

// Two words that belong together: a torn value is seen.
struct Pair {
  std::uint64_t first, second;
};
constexpr Pair pair_of(std::uint64_t n) { return {n, ~n}; }

using TestSlot = Slot<Pair>;

struct World {
  World(Run& run, const TestSlot::Options& options, std::size_t places)
      : participants(run, places), memory(run.memory("slot", TestSlot::bytes(options))) {
    TestSlot::format(memory, options);
    participants.repair_with([this](const Dead& dead) { TestSlot::repair(memory, dead); });
  }

  /// SLOT-2, and no value from nowhere.
  void saw(Version version, const Pair& value) {
    check(value.second == ~value.first, "SLOT-2: a value is torn");
    check(value.first != 0 && (begun >> value.first & 1) != 0, "a value that nobody published");
    const auto [known, is_new] = values.emplace(version, value.first);
    check(known->second == value.first, "SLOT-2: a version denotes two values");
    static_cast<void>(is_new);
  }

  Participants participants;
  std::span<std::byte> memory;
  std::map<Version, std::uint64_t> values;
  std::uint64_t begun = 0;  // values whose publication has begun, as bits
  std::uint64_t done = 0;   // how many have ended
};

Peers& joined(Run& run, World& world, std::size_t process) {
  return run.ghost<ModelPeers>(world.participants, process);
}

// Is dead from the start, and nobody has recovered it.
Peers& dead(Run& run, World& world) {
  const std::size_t process = run.process("dead", false, [] {});
  drop_token(process);
  return joined(run, world, process);
}

void publish(World& world, TestSlot::Publisher& publisher, TestSlot& slot, std::uint64_t n) {
  world.begun |= std::uint64_t{1} << n;
  const Version before = slot.version();
  const Status status = publisher.publish(pair_of(n));
  check(status == Status::ready, "publish finds a buffer");
  ++world.done;
  check(slot.version() > before, "a publication makes the version rise");
}

void pull(World& world, TestSlot& slot, Version& last) {
  Pair value{};
  const Reading reading = slot.pull(value);
  if (!reading) return check(last == 0 && reading.status == Status::empty, "a value stays there");
  check(reading.version >= last, "versions never fall");
  last = reading.version;
  world.saw(last, value);
}

void check_end(World& world) {
  Participants& all = world.participants;
  all.recover_dead(nobody);
  struct Outside final : Peers {
    explicit Outside(Participants& p) : Peers(nobody, &here), participants(p) {}
    bool recover_if_dead(Owner other) noexcept override {
      return participants.recover_if_dead(nobody, other);
    }
    std::uint32_t here = 1;
    Participants& participants;
  } outside(all);
  TestSlot slot(world.memory, outside);
  Pair value{};
  const Reading reading = slot.pull(value);
  check(reading.version >= world.done, "no publication is lost");
  if (reading.version == 0) return;
  check(static_cast<bool>(reading), "the last value can be read");
  world.saw(reading.version, value);
}

void publisher_process(Run& run, World& world, std::size_t i, bool mortal, int times) {
  Peers& peers = joined(run, world, i);
  run.process(i == 0 ? "publisher 0" : "publisher 1", mortal, [&world, &peers, i, times] {
    TestSlot slot(world.memory, peers);
    auto publisher = slot.publisher();
    for (int n = 1; n <= times; ++n) {
      publish(world, publisher, slot, i * 8 + static_cast<std::uint64_t>(n));
    }
  });
}

// For few buffers: all may be pinned, or held by the dead, when nobody else looks.
void try_publish(World& world, TestSlot::Publisher& publisher, std::uint64_t n) {
  world.begun |= std::uint64_t{1} << n;
  if (publisher.publish(pair_of(n)) == Status::ready) ++world.done;
}

void look(World& world, TestSlot::Reader& reader) {
  auto view = reader.pull();
  if (view) world.saw(view.reading().version, {view->first, view->second});
}

void reader_process(Run& run, World& world, std::size_t i, int times) {
  Peers& peers = joined(run, world, i);
  run.process("reader", false, [&world, &peers, times] {
    TestSlot slot(world.memory, peers);
    Version last = 0;
    for (int n = 0; n < times; ++n) pull(world, slot, last);
  });
}

// Buffers are used again while a reader copies.
void copy(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 2U);
  publisher_process(run, world, 0, false, 3);
  reader_process(run, world, 1, 2);
  run.finally([&world] { check_end(world); });
}

// Four halves of words, of which the two in the middle are pulled: the end of one word and the
// beginning of the next.
void part(Run& run) {
  using Halves = Slot<std::uint32_t[]>;
  const Halves::Options options{.count = 4, .views = 0, .publishers = 1, .buffers = 2};
  auto& participants = run.ghost<Participants>(run, 2U);
  const std::span<std::byte> memory = run.memory("slot", Halves::bytes(options));
  Halves::format(memory, options);
  Peers& first = run.ghost<ModelPeers>(participants, 0U);
  run.process("publisher", false, [memory, &first] {
    Halves slot(memory, first);
    auto publisher = slot.publisher();
    for (std::uint32_t n = 1; n <= 3; ++n) {
      const std::array<std::uint32_t, 4> value{n + 20, n, ~n, n + 30};
      check(publisher.publish(value) == Status::ready, "publish finds a buffer");
    }
  });
  Peers& second = run.ghost<ModelPeers>(participants, 1U);
  run.process("reader", false, [memory, &second] {
    Halves slot(memory, second);
    std::array<std::uint32_t, 2> value{};
    const Reading reading = slot.pull(1, value);
    if (reading)
      check(value[0] == reading.version && value[1] == ~value[0], "SLOT-2: a part is torn");
  });
}

// Two publishers, three buffers, two readers by copy; one publisher may die.
void two_publishers(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 3}, 4U);
  publisher_process(run, world, 0, true, 1);
  publisher_process(run, world, 1, true, 2);
  reader_process(run, world, 2, 2);
  run.finally([&world] { check_end(world); });
}

// All at once: two publishers that may die, two readers by copy, one by view, and three buffers for
// five that may need one.
void all_at_once(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 2, .buffers = 3}, 5U);
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    auto& slot = run.ghost<TestSlot>(world.memory, peers);
    auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
    run.process(i == 0 ? "publisher 0" : "publisher 1", true, [&world, &publisher, i] {
      for (std::uint64_t n = 1; n <= 2; ++n) try_publish(world, publisher, i * 8 + n);
    });
  }
  reader_process(run, world, 2, 2);
  reader_process(run, world, 3, 1);
  Peers& peers = joined(run, world, 4);
  auto& slot = run.ghost<TestSlot>(world.memory, peers);
  auto& reader = run.ghost<TestSlot::Reader>(slot.reader());
  run.process("viewer", true, [&world, &reader] { look(world, reader); });
  run.finally([&world] { check_end(world); });
}

// A reader has an old `latest` and is slow; its buffer comes round again, and the publisher dies in
// the middle of writing it; a recoverer makes it idle. No bytes of it count for the old version.
void half_written(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 3U);
  Peers& first = joined(run, world, 0);
  auto& slot = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
  publish(world, publisher, slot, 1);
  run.process("publisher", true, [&world, &publisher] {
    for (std::uint64_t n = 2; n <= 3; ++n) try_publish(world, publisher, n);
  });
  reader_process(run, world, 1, 1);
  auto& other = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("recoverer", false, [&other] {
    while (!has_ended(0)) pause();
    other.recover_dead();
  });
  run.finally([&world] { check_end(world); });
}

// A view is read plainly: SLOT-3 is that there is no race.
void view(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 3}, 2U);
  publisher_process(run, world, 0, false, 3);
  Peers& peers = joined(run, world, 1);
  run.process("viewer", true, [&world, &peers] {
    TestSlot slot(world.memory, peers);
    auto reader = slot.reader();
    for (int n = 0; n < 2; ++n) {
      auto view = reader.pull();
      if (view) world.saw(view.reading().version, {view->first, view->second});
    }
  });
  run.finally([&world] { check_end(world); });
}

// Loans are filled and views are read plainly: no race, whoever dies in the middle. (Readers by copy
// would race: slot_core.hpp, "A loan".) A second publisher uses what was abandoned or left.
void loan(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 2, .buffers = 3}, 3U);
  static constexpr std::array names{"loaner", "publisher"};
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    auto& slot = run.ghost<TestSlot>(world.memory, peers);
    auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
    run.process(names[i], i == 0, [&world, &publisher, i] {
      for (std::uint64_t n = i * 8 + 1; n <= i * 8 + 2; ++n) {
        auto loan = publisher.loan();
        if (!loan) continue;
        loan->first = n;
        if (n == 1) continue;  // abandoned, half-written
        loan->second = ~n;
        world.begun |= std::uint64_t{1} << n;
        if (loan.commit() == Status::ready) ++world.done;
      }
    });
  }
  Peers& peers = joined(run, world, 2);
  auto& slot = run.ghost<TestSlot>(world.memory, peers);
  auto& reader = run.ghost<TestSlot::Reader>(slot.reader());
  run.process("viewer", false, [&world, &reader] {
    for (int n = 0; n < 2; ++n) look(world, reader);
  });
  run.finally([&world] { check_end(world); });
}

// Whoever recovers a dead publisher may be slow, between its look at the buffer and its exchange. A
// newcomer takes the place of the dead meanwhile, and that buffer: its claim has changed the word.
void recovery(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 3, .buffers = 3}, 2U);
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& publisher_of_first = run.ghost<TestSlot::Publisher>(slot_of_first.publisher());
  run.process("mortal", true,
              [&world, &publisher_of_first] { try_publish(world, publisher_of_first, 1); });
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  auto& slot_of_second = run.ghost<TestSlot>(world.memory, second);
  auto& publisher_of_second = run.ghost<TestSlot::Publisher>(slot_of_second.publisher());
  run.process("recoverer", false, [&world, &second, &publisher_of_second] {
    second.recover_dead();
    try_publish(world, publisher_of_second, 17);
  });
  auto& third = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &third] {
    if (!third.join()) return;
    TestSlot slot(world.memory, third);
    auto publisher = slot.publisher();
    try_publish(world, publisher, 9);
  });
  run.finally([&world] { check_end(world); });
}

// The same a moment earlier: the slow one has not looked yet. What it finds then is the newcomer's
// claim, so it must find as well that the place is no longer that of the dead (`Dead`).
void slow_recoverer(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 3}, 2U);
  dead(run, world);
  auto& slow = run.ghost<ModelPeers>(world.participants, 1U);
  auto& slot = run.ghost<TestSlot>(world.memory, slow);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
  run.process("slow", false, [&world, &slow, &publisher] {
    slow.recover_dead();
    try_publish(world, publisher, 17);
  });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    TestSlot its(world.memory, late);
    auto its_publisher = its.publisher();
    try_publish(world, its_publisher, 9);
  });
  run.finally([&world] { check_end(world); });
}

// A publisher that looks at the pins before its claim is visible misses a pin whose reader misses the
// claim. Here two publish, and one looks at its view: only the second publisher needs the viewer's
// buffer, and it has the news of the first's publication before the first has come to a fence.
void pins_before_the_fence(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 3, .buffers = 2}, 3U);
  static constexpr std::array names{"publisher 0", "publisher 1", "viewer"};
  for (std::size_t i = 0; i < 3; ++i) {
    Peers& peers = joined(run, world, i);
    auto& slot = run.ghost<TestSlot>(world.memory, peers);
    if (i < 2) {
      auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
      if (i == 0) publish(world, publisher, slot, 1);
      run.process(names[i], false,
                  [&world, &publisher, i] { try_publish(world, publisher, i + 2); });
    } else {
      auto& reader = run.ghost<TestSlot::Reader>(slot.reader());
      run.process(names[i], false, [&world, &reader] { look(world, reader); });
    }
  }
  run.finally([&world] { check_end(world); });
}

// A viewer dies; a newcomer takes its place and its pin while a slow recoverer is at it, who then
// publishes: not into the newcomer's view.
void next_viewer(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 2}, 2U);
  Peers& first = dead(run, world);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& slow = run.ghost<ModelPeers>(world.participants, 1U);
  auto& slot_of_slow = run.ghost<TestSlot>(world.memory, slow);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_slow.publisher());
  publish(world, publisher, slot_of_slow, 1);
  auto& reader_of_first = run.ghost<TestSlot::Reader>(slot_of_first.reader());
  static_cast<void>(run.ghost<TestSlot::View>(reader_of_first.pull()).reading());
  run.process("slow", false, [&world, &slow, &publisher] {
    slow.recover_dead();
    for (std::uint64_t n = 2; n <= 3; ++n) try_publish(world, publisher, n);
  });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    TestSlot slot(world.memory, late);
    try {
      auto reader = slot.reader();
      look(world, reader);
    } catch (const Error&) {  // the recoverer is at the pin
    }
  });
  run.finally([&world] { check_end(world); });
}

// Two take the only pin after each other. Whoever writes the buffer that the first has read sees
// only the second's word: the claim of the pin has passed the first one's reads on.
void pin_handed_on(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 2}, 3U);
  Peers& peers = joined(run, world, 0);
  auto& slot = run.ghost<TestSlot>(world.memory, peers);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
  publish(world, publisher, slot, 1);
  run.process("publisher", false, [&world, &publisher] {
    for (std::uint64_t n = 2; n <= 3; ++n) try_publish(world, publisher, n);
  });
  for (std::size_t i = 1; i < 3; ++i) {
    Peers& its_peers = joined(run, world, i);
    run.process(i == 1 ? "viewer 1" : "viewer 2", false, [&world, &its_peers] {
      TestSlot its(world.memory, its_peers);
      try {
        auto reader = its.reader();
        look(world, reader);
      } catch (const Error&) {  // the other has it
      }
    });
  }
  run.finally([&world] { check_end(world); });
}

// A viewer dies with its pin; the publisher needs that buffer.
void dead_viewer(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 2}, 2U);
  Peers& peers = joined(run, world, 0);
  run.process("viewer", true, [&world, &peers] {
    TestSlot slot(world.memory, peers);
    auto reader = slot.reader();
    auto view = reader.pull();
    if (view) world.saw(view.reading().version, {view->first, view->second});
  });
  Peers& other = joined(run, world, 1);
  run.process("publisher", false, [&world, &other] {
    TestSlot slot(world.memory, other);
    auto publisher = slot.publisher();
    for (std::uint64_t n = 1; n <= 3; ++n) {
      world.begun |= std::uint64_t{1} << n;
      while (publisher.publish(pair_of(n)) != Status::ready) pause();  // else: no progress
      ++world.done;
    }
  });
  run.finally([&world] { check_end(world); });
}

// Each of two publishers waits for the one buffer that is not the latest; the first may die with it,
// and abandons it otherwise.
void wait_for_a_buffer(Run& run, bool mortal) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 2}, 2U);
  static constexpr std::array names{"loaner", "publisher"};
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    auto& slot = run.ghost<TestSlot>(world.memory, peers);
    auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
    run.process(names[i], mortal && i == 0, [&world, &publisher, i] {
      if (i == 0) return static_cast<void>(publisher.loan(Deadline::never()).status());
      for (std::uint64_t n = 1; n <= 2; ++n) {
        world.begun |= std::uint64_t{1} << n;
        const Status status = publisher.publish(pair_of(n), Deadline::never());
        check(status == Status::ready, "a wait for ever ends with a buffer");
        ++world.done;
      }
    });
  }
  run.finally([&world] { check_end(world); });
}

// A reader waits for a version; its publisher may die before it.
void wait_newer(Run& run, bool mortal) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 2U);
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_first.publisher());  // registered
  auto& beside = run.shared<std::uint64_t>("beside");                           // plain
  run.process("publisher", mortal, [&world, &slot_of_first, &publisher, &beside] {
    beside = 1;
    publish(world, publisher, slot_of_first, 1);
  });
  Peers& peers = joined(run, world, 1);
  run.process("waiter", false, [&world, &peers, &beside] {
    TestSlot slot(world.memory, peers);
    const Status status = slot.wait_newer(0, Deadline::never(), WaitStrategy::sleep);
    if (status == Status::peer_died) return check(has_ended(0), "nobody is taken for dead");
    check(status == Status::ready, "a wait for ever ends with a value");
    check(beside == 1, "who has waited sees what came before the publication");
    Version last = 0;
    pull(world, slot, last);
    check(last != 0, "what was waited for is there");
  });
  run.finally([&world] { check_end(world); });
}

// The publisher dies when its value is there, but before it has woken the waiter. Whoever recovers it
// does that.
void unheard(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 2}, 3U);
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_first.publisher());
  run.process("publisher", true, [&world, &publisher] { try_publish(world, publisher, 1); });
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  auto& slot_of_second = run.ghost<TestSlot>(world.memory, second);
  auto& successor = run.ghost<TestSlot::Publisher>(slot_of_second.publisher());
  run.process("recoverer", false, [&world, &second, &slot_of_second, &successor] {
    while (!has_ended(0)) pause();
    second.recover_dead();
    if (slot_of_second.version() == 0) publish(world, successor, slot_of_second, 9);
  });
  Peers& third = joined(run, world, 2);
  run.process("waiter", false, [&world, &third] {
    TestSlot slot(world.memory, third);
    const Status status = slot.wait_newer(0, Deadline::never(), WaitStrategy::sleep);
    check(status == Status::ready, "a wait for ever ends with a value");
  });
  run.finally([&world] { check_end(world); });
}

// Another has recovered the publisher; the waiter hears of its death, and has its last value.
void last_value(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 3U);
  Peers& first = joined(run, world, 0);
  auto& slot = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
  run.process("publisher", true, [&world, &publisher] { try_publish(world, publisher, 1); });
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", false, [&second] {
    while (!has_ended(0)) pause();
    second.recover_dead();
  });
  Peers& third = joined(run, world, 2);
  run.process("waiter", false, [&world, &third] {
    TestSlot its(world.memory, third);
    const Status status = its.wait_newer(0, Deadline::never(), WaitStrategy::sleep);
    check(status == Status::ready || world.done == 0, "a value comes before the news of a death");
  });
  run.finally([&world] { check_end(world); });
}

// Asks, and gets a value that was made for it, from what it has left beside. The publisher may die
// before.
void ask(Run& run, bool mortal, bool for_the_first) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 2U);
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_first.publisher());
  if (!for_the_first) publish(world, publisher, slot_of_first, 1);
  auto& beside = run.shared<std::uint64_t>("beside");  // plain
  run.process("publisher", mortal, [&world, &slot_of_first, &publisher, &beside] {
    const Status status = publisher.wait_for_request(Deadline::never(), WaitStrategy::sleep);
    check(status == Status::ready, "a wait for ever ends with a request");
    publish(world, publisher, slot_of_first, beside);
  });
  Peers& peers = joined(run, world, 1);
  run.process("asker", false, [&world, &peers, &beside] {
    TestSlot slot(world.memory, peers);
    beside = 2;
    Pair value{};
    const Reading reading = slot.pull_fresh(value, Deadline::never(), WaitStrategy::sleep);
    if (reading.status == Status::peer_died) return check(has_ended(0), "nobody is taken for dead");
    check(reading && value.first == 2, "SLOT-4: it is the value that was asked for");
    world.saw(reading.version, value);
  });
  run.finally([&world] { check_end(world); });
}

// Answers until `askers` have been, each of which asks once more at its end.
void publish_on_demand(World& world, TestSlot::Publisher& publisher, const std::size_t& answered,
                       std::size_t askers) {
  for (std::uint64_t n = 1; answered < askers; ++n) {
    const Status status = publisher.wait_for_request(Deadline::never(), WaitStrategy::sleep);
    check(status == Status::ready, "a wait for ever ends with a request");
    world.begun |= std::uint64_t{1} << n;
    check(publisher.publish(pair_of(n)) == Status::ready, "publish finds a buffer");
    ++world.done;
  }
}

Pair ask_and_say_so(World& world, TestSlot& slot, std::size_t& answered) {
  Pair value{};
  const Reading reading = slot.pull_fresh(value, Deadline::never(), WaitStrategy::sleep);
  check(reading.status == Status::ready, "a request is answered");
  world.saw(reading.version, value);
  ++answered;
  Pair none{};
  static_cast<void>(slot.pull_fresh(none, Deadline::now()));
  return value;
}

void two_askers(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 3U);
  auto& answered = run.ghost<std::size_t>();
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_first.publisher());
  run.process("publisher", false, [&world, &publisher, &answered] {
    publish_on_demand(world, publisher, answered, 2);
  });
  for (std::size_t i = 1; i < 3; ++i) {
    auto& slot = run.ghost<TestSlot>(world.memory, joined(run, world, i));
    run.process(i == 1 ? "asker 1" : "asker 2", false, [&world, &slot, &answered] {
      static_cast<void>(ask_and_say_so(world, slot, answered));
    });
  }
  run.finally([&world] { check_end(world); });
}

// Another publisher has had its value since before the request, and may overtake the answer with it.
// (It writes its loan word by word: the asker reads by copy.)
void overtaken_answer(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 3}, 3U);
  auto& answered = run.ghost<std::size_t>();
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_first.publisher());
  run.process("on demand", false, [&world, &publisher, &answered] {
    publish_on_demand(world, publisher, answered, 1);
  });
  constexpr std::uint64_t older = 9;
  auto& slot_of_second = run.ghost<TestSlot>(world.memory, joined(run, world, 1));
  auto& early = run.ghost<TestSlot::Publisher>(slot_of_second.publisher());
  auto& loan = run.ghost<TestSlot::Loan>(early.loan());
  run.process("early", false, [&world, &loan] {
    const Pair value = pair_of(older);
    copy_in(reinterpret_cast<SharedWord*>(&*loan), &value, sizeof value);
    world.begun |= std::uint64_t{1} << older;
    check(loan.commit() == Status::ready, "a loan is committed");
    ++world.done;
  });
  auto& slot = run.ghost<TestSlot>(world.memory, joined(run, world, 2));
  run.process("asker", false, [&world, &slot, &answered] {
    const Pair value = ask_and_say_so(world, slot, answered);
    check(value.first != older, "SLOT-4: a value from before the request");
  });
  run.finally([&world] { check_end(world); });
}

// An asker dies when it has taken it on itself to wake the publisher; the next finds nobody asleep.
// Whoever recovers the dead wakes.
void unheard_request(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 1, .buffers = 2}, 4U);
  auto& answered = run.ghost<std::size_t>();
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, joined(run, world, 0));
  run.process("mortal", true, [&slot_of_first] {
    Pair none{};
    static_cast<void>(slot_of_first.pull_fresh(none, Deadline::now()));
  });
  auto& slot_of_second = run.ghost<TestSlot>(world.memory, joined(run, world, 1));
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_second.publisher());
  run.process("publisher", false, [&world, &publisher, &answered] {
    publish_on_demand(world, publisher, answered, 1);
  });
  auto& slot = run.ghost<TestSlot>(world.memory, joined(run, world, 2));
  run.process("asker", false, [&world, &slot, &answered] {
    static_cast<void>(ask_and_say_so(world, slot, answered));
  });
  auto& last = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("recoverer", false, [&last] {
    while (!has_ended(0)) pause();
    last.recover_dead();
  });
  run.finally([&world] { check_end(world); });
}

// Takes the only pin and the only publisher's place, if nobody has them.
void take_places(World& world, Peers& peers, std::array<int, 2>& holders) {
  TestSlot slot(world.memory, peers);
  const auto hold = [&](int& count, const char* claim) {
    check(++count == 1, claim);
    static_cast<void>(slot.version());
    --count;
  };
  try {
    auto reader = slot.reader();
    hold(holders[0], "a pin has one owner");
  } catch (const Error&) {
  }
  try {
    auto publisher = slot.publisher();
    hold(holders[1], "a publisher's place has one owner");
  } catch (const Error&) {
  }
}

void places(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 3}, 2U);
  auto& holders = run.ghost<std::array<int, 2>>();
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    run.process(i == 0 ? "one" : "two", false,
                [&world, &peers, &holders] { take_places(world, peers, holders); });
  }
}

// The same, where a dead process had both; one who recovers it is slow, the other takes its place.
void places_of_the_dead(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 2}, 2U);
  Peers& first = dead(run, world);
  auto& slot = run.ghost<TestSlot>(world.memory, first);
  run.ghost<TestSlot::Reader>(slot.reader());
  run.ghost<TestSlot::Publisher>(slot.publisher());
  auto& holders = run.ghost<std::array<int, 2>>();
  auto& slow = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("slow", false, [&world, &slow, &holders] {
    slow.recover_dead();
    take_places(world, slow, holders);
  });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late, &holders] {
    if (late.join()) take_places(world, late, holders);
  });
}

}  // namespace

std::vector<Scenario> slot_scenarios() {
  return {
      {"slot/copy", {.preemptions = 2, .stale = 2}, copy},
      {"slot/part", {.preemptions = 2, .stale = 2}, part},
      {"slot/two_publishers", {.preemptions = 1, .deaths = 1, .stale = 1}, two_publishers},
      {"slot/all_at_once", {.preemptions = 1, .deaths = 1, .stale = 0}, all_at_once},
      {"slot/half_written", {.preemptions = 2, .deaths = 1, .stale = 1}, half_written},
      {"slot/view", {.preemptions = 2, .deaths = 1, .stale = 2}, view},
      {"slot/loan", {.preemptions = 2, .deaths = 1, .stale = 1}, loan},
      {"slot/recovery", {.preemptions = 2, .deaths = 1, .stale = 1}, recovery},
      {"slot/slow_recoverer", {.preemptions = 2, .stale = 1}, slow_recoverer},
      {"slot/pins_before_the_fence", {.preemptions = 2, .stale = 2}, pins_before_the_fence},
      {"slot/next_viewer", {.preemptions = 2, .stale = 2}, next_viewer},
      {"slot/pin_handed_on", {.preemptions = 1, .stale = 2}, pin_handed_on},
      {"slot/dead_viewer", {.preemptions = 2, .deaths = 1, .stale = 1}, dead_viewer},
      {"slot/wait_newer",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { wait_newer(run, false); }},
      {"slot/wait_for_the_dead",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { wait_newer(run, true); }},
      {"slot/wait_for_a_buffer",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { wait_for_a_buffer(run, false); }},
      {"slot/wait_for_a_buffer_of_the_dead",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { wait_for_a_buffer(run, true); }},
      {"slot/unheard",
       {.preemptions = 2, .deaths = 1, .stale = 1, .inner_timeouts = false},
       unheard},
      {"slot/last_value", {.preemptions = 1, .deaths = 1, .stale = 2}, last_value},
      {"slot/ask",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { ask(run, false, false); }},
      {"slot/ask_for_the_first",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { ask(run, false, true); }},
      {"slot/ask_the_dead",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { ask(run, true, false); }},
      {"slot/two_askers", {.preemptions = 1, .stale = 1, .inner_timeouts = false}, two_askers},
      {"slot/overtaken_answer",
       {.preemptions = 1, .stale = 1, .inner_timeouts = false},
       overtaken_answer},
      {"slot/unheard_request",
       {.preemptions = 0, .deaths = 1, .stale = 1, .inner_timeouts = false},
       unheard_request},
      {"slot/places", {.preemptions = 2, .stale = 1}, places},
      {"slot/places_of_the_dead", {.preemptions = 2, .stale = 1}, places_of_the_dead},
  };
}

}  // namespace heddle::model
