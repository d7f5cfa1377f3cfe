// The slot: publishers, readers by copy and by view, and their deaths.

#include <map>
#include <optional>

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

// Two publishers, three buffers, two readers by copy; one publisher may die.
void two_publishers(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 3}, 4U);
  publisher_process(run, world, 0, true, 1);
  publisher_process(run, world, 1, true, 2);
  reader_process(run, world, 2, 2);
  run.finally([&world] { check_end(world); });
}

// As the issue has it.
void two_by_two(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 2, .buffers = 3}, 4U);
  publisher_process(run, world, 0, true, 2);
  publisher_process(run, world, 1, true, 2);
  reader_process(run, world, 2, 2);
  reader_process(run, world, 3, 1);
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

// Whoever recovers a dead publisher may be slow, and a newcomer takes the place of the dead
// meanwhile: its buffer must stay its own.
void recovery(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 0, .publishers = 3, .buffers = 3}, 3U);
  Peers& first = joined(run, world, 0);
  run.process("mortal", true, [&world, &first] {
    TestSlot slot(world.memory, first);
    auto publisher = slot.publisher();
    world.begun |= 1U << 1;
    if (publisher.publish(pair_of(1)) == Status::ready) ++world.done;
  });
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", false, [&world, &second] {
    second.recover_dead();
    TestSlot slot(world.memory, second);
    auto publisher = slot.publisher();
    world.begun |= 1U << 17;
    if (publisher.publish(pair_of(17)) == Status::ready) ++world.done;
  });
  auto& third = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &third] {
    if (!third.join()) return;
    TestSlot slot(world.memory, third);
    auto publisher = slot.publisher();
    world.begun |= 1U << 9 | 1U << 10;
    for (const std::uint64_t n : {9U, 10U}) {
      // Busy only while the mortal one lives and holds the other buffer.
      if (publisher.publish(pair_of(n)) == Status::ready) ++world.done;
    }
  });
  run.finally([&world] { check_end(world); });
}

// A value is there; two publish, and one looks at its view. Only the second publisher needs the
// viewer's buffer, and it has the news of the first's publication before the first has a fence.
void view_of_two(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 3, .buffers = 2}, 3U);
  static constexpr std::array names{"publisher 0", "publisher 1", "viewer"};
  for (std::size_t i = 0; i < 3; ++i) {
    Peers& peers = joined(run, world, i);
    auto& slot = run.ghost<TestSlot>(world.memory, peers);
    if (i < 2) {
      auto& publisher = run.ghost<TestSlot::Publisher>(slot.publisher());
      if (i == 0) publish(world, publisher, slot, 1);
      run.process(names[i], false, [&world, &publisher, i] {
        world.begun |= std::uint64_t{1} << (i + 2);
        if (publisher.publish(pair_of(i + 2)) == Status::ready) ++world.done;
      });
    } else {
      auto& reader = run.ghost<TestSlot::Reader>(slot.reader());
      run.process(names[i], false, [&world, &reader] {
        auto view = reader.pull();
        if (view) world.saw(view.reading().version, {view->first, view->second});
      });
    }
  }
  run.finally([&world] { check_end(world); });
}

// A viewer dies; a newcomer takes its index and its pin while a slow recoverer is at it, who then
// publishes: not into the newcomer's view.
void next_viewer(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 2}, 2U);
  Peers& first = joined(run, world, 0);
  auto& slot_of_first = run.ghost<TestSlot>(world.memory, first);
  auto& reader_of_first = run.ghost<TestSlot::Reader>(slot_of_first.reader());
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  auto& slot_of_second = run.ghost<TestSlot>(world.memory, second);
  auto& publisher = run.ghost<TestSlot::Publisher>(slot_of_second.publisher());
  publish(world, publisher, slot_of_second, 1);
  run.process("viewer", true, [&reader_of_first] { static_cast<void>(reader_of_first.pull()); });
  run.process("recoverer", false, [&world, &second, &publisher] {
    second.recover_dead();
    for (const std::uint64_t n : {2U, 3U}) {
      world.begun |= std::uint64_t{1} << n;
      if (publisher.publish(pair_of(n)) == Status::ready) ++world.done;
    }
  });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    TestSlot slot(world.memory, late);
    try {
      auto reader = slot.reader();
      auto view = reader.pull();
      if (view) world.saw(view.reading().version, {view->first, view->second});
    } catch (const Error&) {  // the recoverer is at the pin
    }
  });
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

// Two readers want the only pin, two publishers the only place.
void places(Run& run) {
  auto& world =
      run.ghost<World>(run, TestSlot::Options{.views = 1, .publishers = 1, .buffers = 3}, 2U);
  auto& holders = run.ghost<std::array<int, 2>>();
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    run.process(i == 0 ? "one" : "two", false, [&world, &peers, &holders] {
      TestSlot slot(world.memory, peers);
      try {
        auto reader = slot.reader();
        check(++holders[0] == 1, "a pin has one owner");
        static_cast<void>(reader.pull());
        --holders[0];
      } catch (const Error&) {
      }
      try {
        auto publisher = slot.publisher();
        check(++holders[1] == 1, "a publisher's place has one owner");
        --holders[1];
      } catch (const Error&) {
      }
    });
  }
}

}  // namespace

std::vector<Scenario> slot_scenarios() {
  return {
      {"slot/copy", {.preemptions = 2, .stale = 2}, copy},
      {"slot/two_publishers", {.preemptions = 1, .deaths = 1, .stale = 1}, two_publishers},
      {"slot/two_by_two", {.preemptions = 1, .deaths = 2, .stale = 1}, two_by_two},
      {"slot/view", {.preemptions = 2, .deaths = 1, .stale = 2}, view},
      {"slot/recovery", {.preemptions = 2, .deaths = 1, .stale = 1}, recovery},
      {"slot/view_of_two", {.preemptions = 2, .stale = 2}, view_of_two},
      {"slot/next_viewer", {.preemptions = 2, .deaths = 1, .stale = 2}, next_viewer},
      {"slot/dead_viewer", {.preemptions = 2, .deaths = 1, .stale = 1}, dead_viewer},
      {"slot/wait_newer",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { wait_newer(run, false); }},
      {"slot/wait_for_the_dead",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { wait_newer(run, true); }},
      {"slot/places", {.preemptions = 2, .stale = 1}, places},
  };
}

}  // namespace heddle::model
