// The board: each item of a round is done once, and nobody goes on before all are.

#include "heddle/sync/board.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

constexpr std::uint32_t items = 2;
constexpr std::size_t no_one = 99;

struct World {
  World(Run& run, std::size_t places)
      : participants(run, places),
        memory(run.memory("board", Board::bytes({items}))),
        results(run.shared<std::array<std::array<std::uint64_t, items>, 4>>("results")) {
    Board::format(memory, {items});
    participants.repair_with([this](const Dead& dead) { Board::repair(memory, dead); });
    for (auto& row : holder) row.fill(no_one);
  }
  Participants participants;
  std::span<std::byte> memory;
  std::array<std::array<std::uint64_t, items>, 4>& results;  // plain; one row for each round
  std::array<std::array<std::size_t, items>, 4> holder{};
  std::array<std::array<int, items>, 4> finished{};
};

void work(World& world, Board& board, Round rounds) {
  for (Round round = 1; round <= rounds; ++round) {
    std::uint32_t item = 0;
    for (;;) {
      const Status got = board.take(round, item, Deadline::never(), WaitStrategy::sleep);
      if (got == Status::empty) break;
      check(got == Status::ready, "take for ever ends with an item or the end of the round");
      std::size_t& holder = world.holder[round][item];
      check(holder == no_one || has_ended(holder), "BOARD-1: two work on one item");
      holder = self();
      world.results[round][item] = round * 10 + item;
      board.finish(item);
      holder = no_one;
      check(++world.finished[round][item] == 1, "BOARD-1: an item is done twice");
    }
    for (item = 0; item < items; ++item) {
      check(world.results[round][item] == round * 10 + item, "BOARD-2: a result is there");
    }
  }
}

void worker(Run& run, World& world, std::size_t i, bool mortal, Round rounds) {
  static constexpr std::array names{"worker 0", "worker 1", "worker 2"};
  Peers& peers = run.ghost<ModelPeers>(world.participants, i);
  run.process(names[i], mortal, [&world, &peers, rounds] {
    Board board(world.memory, peers);
    work(world, board, rounds);
  });
}

void two_rounds(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  worker(run, world, 0, false, 2);
  worker(run, world, 1, false, 2);
}

void three(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  for (std::size_t i = 0; i < 3; ++i) worker(run, world, i, false, 1);
}

void deaths(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  worker(run, world, 0, true, 2);
  worker(run, world, 1, false, 2);
}

void two_deaths(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  worker(run, world, 0, true, 1);
  worker(run, world, 1, true, 1);
  worker(run, world, 2, false, 1);
}

// Whoever finishes the last item takes the sleepers' bit and dies before it wakes them: recovery does,
// though no item names the dead any more.
void dead_waker(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  worker(run, world, 0, true, 1);
  worker(run, world, 1, false, 1);
  auto& supervisor = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("supervisor", false, [&supervisor] {
    while (!has_ended(0)) pause();
    supervisor.recover_dead();
  });
}

// A recoverer that wakes late and repairs a newcomer's claim (control/newcomer): another recovers the
// dead meanwhile, a newcomer joins at its index and claims the item. Late before it reads the item,
// the recoverer must find the newcomer in the table; late after that, another generation.
void newcomer(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  worker(run, world, 0, true, 1);
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", true, [&recoverer] { recoverer.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    Board board(world.memory, late);
    work(world, board, 1);
  });
}

}  // namespace

std::vector<Scenario> board_scenarios() {
  return {
      {"board/two_rounds", {.preemptions = 2, .stale = 2, .inner_timeouts = false}, two_rounds},
      {"board/three", {.preemptions = 2, .stale = 1, .inner_timeouts = false}, three},
      {"board/death", {.preemptions = 2, .deaths = 1, .stale = 1}, deaths},
      {"board/two_deaths", {.preemptions = 1, .deaths = 2, .stale = 0}, two_deaths},
      {"board/dead_waker",
       {.preemptions = 1, .deaths = 1, .stale = 2, .inner_timeouts = false},
       dead_waker},
      {"board/newcomer", {.preemptions = 2, .deaths = 2, .stale = 1}, newcomer},
  };
}

}  // namespace heddle::model
