// A synchronous step over two buffers: what a step reads, nobody writes in it. By boards, as Bsp does
// it (train/bsp.hpp), and by a barrier. All data is plain, so that a missing edge is a race.

#include <algorithm>
#include <numeric>

#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

constexpr std::uint64_t steps = 2;

// ---- by boards

constexpr std::uint32_t microbatches = 2;

struct Training {
  Training(Run& run, std::size_t places)
      : participants(run, places),
        gradient_board(run.memory("gradient board", Board::bytes({microbatches + 1}))),
        update_board(run.memory("update board", Board::bytes({1}))),
        data(run.shared<Data>("data")) {
    Board::format(gradient_board, {microbatches + 1});
    Board::format(update_board, {1});
    data.parameter[0] = parameter(0);
    participants.repair_with([this](const Dead& dead) {
      Board::repair(gradient_board, dead);
      Board::repair(update_board, dead);
    });
  }
  static constexpr std::uint64_t gradient(std::uint64_t parameter, std::uint32_t microbatch) {
    return 10 * parameter + microbatch;
  }
  static constexpr std::uint64_t parameter(std::uint64_t step) {  // what it must be
    return step == 0 ? 1 : 21 * parameter(step - 1) + 1;
  }
  struct Data {
    std::array<std::uint64_t, 2> parameter;  // by the step's parity
    std::array<std::uint64_t, microbatches> gradients;
    std::uint64_t published;
  };
  Participants participants;
  std::span<std::byte> gradient_board;
  std::span<std::byte> update_board;
  Data& data;
};

template <class Piece>
void do_all(Board& board, Round round, Piece&& piece) {
  std::uint32_t item = 0;
  for (;;) {
    const Status got = board.take(round, item, Deadline::never(), WaitStrategy::sleep);
    if (got == Status::empty) return;
    check(got == Status::ready, "take for ever ends with an item or the end of the round");
    piece(item);
    board.finish(item);
  }
}

// As Bsp::work. With one buffer it is the known-bad form: an update that was done before its worker
// died, and is done again, is added twice.
template <std::uint64_t buffers>
void work(Training& training, Peers& peers) {
  Board gradient_board(training.gradient_board, peers);
  Board update_board(training.update_board, peers);
  Training::Data& data = training.data;
  for (std::uint64_t step = update_board.rounds_done();; ++step) {
    const std::uint64_t& parameter = data.parameter[step % buffers];
    do_all(gradient_board, step + 1, [&](std::uint32_t item) {
      check(parameter == Training::parameter(step), "BSP-1: a step reads its own parameters");
      if (item == microbatches) {
        if (data.published < step) data.published = step;  // BSP-2
      } else if (step < steps) {
        data.gradients[item] = Training::gradient(parameter, item);
      }
    });
    if (step == steps) return;
    do_all(update_board, step + 1, [&](std::uint32_t) {
      data.parameter[(step + 1) % buffers] =
          std::accumulate(data.gradients.begin(), data.gradients.end(), parameter);
    });
  }
}

template <std::uint64_t buffers>
void by_boards(Run& run, std::size_t mortals) {
  auto& training = run.ghost<Training>(run, 2U);
  static constexpr std::array names{"worker 0", "worker 1"};
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = run.ghost<ModelPeers>(training.participants, i);
    run.process(names[i], i < mortals, [&training, &peers] { work<buffers>(training, peers); });
  }
  run.finally([&training] { check(training.data.published == steps, "BSP-2: all is published"); });
}

// A worker that comes anew, at the place of the one that died, and goes on in the middle.
void successor(Run& run) {
  auto& training = run.ghost<Training>(run, 1U);
  Peers& peers = run.ghost<ModelPeers>(training.participants, 0U);
  run.process("mortal", true, [&training, &peers] { work<2>(training, peers); });
  auto& late = run.ghost<ModelPeers>(training.participants);
  run.process("successor", false, [&training, &late] {
    if (late.join()) work<2>(training, late);
  });
}

// ---- by a barrier

// Each party writes its own part of the next buffer, passes, reads all parts, and swaps. One that
// has died is made up for by the first that lives, and all pass once more.
template <std::uint64_t buffers>
struct Exchange {
  static constexpr std::size_t most = 3;
  Exchange(Run& run, std::uint32_t count)
      : parties(count),
        participants(run, count),
        barrier(run.memory("barrier", Barrier::bytes({.parties = count}))),
        parts(run.shared<std::array<std::array<std::uint64_t, most>, buffers>>("parts")) {
    Barrier::format(barrier, {.parties = count});
    participants.repair_with([this](const Dead& dead) { Barrier::repair(barrier, dead); });
  }

  void take_part(Barrier::Party& party, std::size_t me) {
    std::array<bool, most> died{};
    const auto fill = [&](std::uint64_t step) {
      const auto first = std::find(died.begin(), died.end(), false) - died.begin();
      for (std::size_t i = 0; i < parties; ++i) {
        if (i == me || (died[i] && static_cast<std::size_t>(first) == me)) write(step, i);
      }
    };
    for (std::uint64_t step = 0; step < steps; ++step) {
      fill(step);
      for (;;) {
        const Barrier::Outcome outcome =
            party.arrive_and_wait(Deadline::never(), WaitStrategy::sleep);
        if (!outcome.died) break;
        died[outcome.died.index()] = true;
        fill(step);
      }
      for (std::size_t i = 0; i < parties; ++i) {
        check(parts[(step + 1) % buffers][i] == part(step + 1, i), "all parts of a step are there");
      }
    }
    party.leave();
  }
  void write(std::uint64_t step, std::size_t i) {
    const auto& now = parts[step % buffers];
    parts[(step + 1) % buffers][i] = std::accumulate(now.begin(), now.begin() + parties, i + 1);
  }
  std::uint64_t part(std::uint64_t step, std::size_t i) const {  // what it must be
    if (step == 0) return 0;
    std::uint64_t sum = i + 1;
    for (std::size_t other = 0; other < parties; ++other) sum += part(step - 1, other);
    return sum;
  }

  std::uint32_t parties;
  Participants participants;
  std::span<std::byte> barrier;
  std::array<std::array<std::uint64_t, most>, buffers>& parts;
};

template <std::uint64_t buffers>
void by_barrier(Run& run, std::uint32_t count, std::size_t mortals) {
  auto& exchange = run.ghost<Exchange<buffers>>(run, count);
  static constexpr std::array names{"party 0", "party 1", "party 2"};
  for (std::size_t i = 0; i < count; ++i) {
    Peers& peers = run.ghost<ModelPeers>(exchange.participants, i);
    auto& barrier = run.ghost<Barrier>(exchange.barrier, peers);
    auto& party = run.ghost<Barrier::Party>(barrier.join());
    run.process(names[i], i < mortals, [&exchange, &party, i] { exchange.take_part(party, i); });
  }
}

}  // namespace

std::vector<Scenario> bsp_scenarios() {
  const auto awake = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale, .inner_timeouts = false};
  };
  const auto death = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .deaths = 1, .stale = stale};
  };
  return {
      {"bsp/boards", awake(2, 1), [](Run& run) { by_boards<2>(run, 0); }},
      {"bsp/boards_death", death(2, 0), [](Run& run) { by_boards<2>(run, 1); }},
      {"bsp/successor", death(2, 1), successor},
      {"control/in_place", death(1, 0), [](Run& run) { by_boards<1>(run, 1); }, true},
      {"bsp/barrier", awake(3, 1), [](Run& run) { by_barrier<2>(run, 2, 0); }},
      {"bsp/barrier_death", death(2, 1), [](Run& run) { by_barrier<2>(run, 2, 1); }},
      {"bsp/barrier_three", death(1, 0), [](Run& run) { by_barrier<2>(run, 3, 1); }},
      {"control/one_buffer", awake(1, 0), [](Run& run) { by_barrier<1>(run, 2, 0); }, true},
  };
}

}  // namespace heddle::model
