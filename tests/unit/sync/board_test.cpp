#include "heddle/sync/board.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "support/block.hpp"
#include "support/fake_peers.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using test::FakePeers;
using test::FakeTable;

class BoardTest : public testing::Test {
 protected:
  static constexpr std::uint32_t items = 5;

  BoardTest() { Board::format(memory(), {items}); }

  std::span<std::byte> memory() { return block_.span(); }
  static std::uint32_t take(Board& board, Round round) {
    std::uint32_t item = 0;
    EXPECT_EQ(board.take(round, item, Deadline::now()), Status::ready);
    return item;
  }
  static void finish_round(Board& board, Round round) {
    std::uint32_t item = 0;
    while (board.take(round, item, Deadline::now()) == Status::ready) board.finish(item);
  }

  test::Block block_{Board::bytes({items})};
  FakeTable table_{[this](const Dead& dead) { Board::repair(memory(), dead); }};
};

TEST_F(BoardTest, every_item_of_a_round_is_taken_once) {  // BOARD-1
  FakePeers self(table_, 0);
  Board board(memory(), self);
  std::vector<int> taken(items);
  for (std::uint32_t i = 0; i < items; ++i) ++taken[take(board, 1)];
  EXPECT_EQ(taken, std::vector<int>(items, 1));
  std::uint32_t item = 0;
  EXPECT_EQ(board.take(1, item, Deadline::now()), Status::timeout);
}

TEST_F(BoardTest, a_round_is_done_when_its_last_item_is_finished) {
  FakePeers self(table_, 0);
  Board board(memory(), self);
  for (std::uint32_t i = 0; i < items; ++i) {
    EXPECT_FALSE(board.is_done(1));
    EXPECT_EQ(board.rounds_done(), 0U);
    board.finish(take(board, 1));
  }
  EXPECT_TRUE(board.is_done(1));
  EXPECT_EQ(board.rounds_done(), 1U);
  std::uint32_t item = 0;
  EXPECT_EQ(board.take(1, item, Deadline::now()), Status::empty);
}

TEST_F(BoardTest, a_round_that_is_not_open_yet_cannot_be_taken) {
  FakePeers self(table_, 0);
  Board board(memory(), self);
  std::uint32_t item = 0;
  EXPECT_EQ(board.take(2, item, Deadline::now()), Status::timeout);
}

TEST_F(BoardTest, a_worker_that_comes_late_finds_old_rounds_done) {
  FakePeers self(table_, 0);
  FakePeers late(table_, 1);
  Board board(memory(), self);
  Board other(memory(), late);
  for (Round round = 1; round <= 10; ++round) finish_round(board, round);
  std::uint32_t item = 0;
  EXPECT_EQ(other.take(3, item, Deadline::now()), Status::empty);
  EXPECT_EQ(other.rounds_done(), 10U);
}

TEST_F(BoardTest, a_dead_workers_item_is_taken_by_another_while_it_waits) {
  FakePeers self(table_, 0);
  FakePeers victim(table_, 1);
  Board board(memory(), self);
  Board dying(memory(), victim);
  const std::uint32_t lost = take(dying, 1);
  for (std::uint32_t i = 1; i < items; ++i) board.finish(take(board, 1));
  table_.kill(victim.self());
  std::uint32_t item = items;
  // Nobody tells it: it looks at the holder while it waits.
  ASSERT_EQ(board.take(1, item, Deadline::after(std::chrono::seconds(10))), Status::ready);
  EXPECT_EQ(item, lost);
  board.finish(item);
  EXPECT_TRUE(board.is_done(1));
}

TEST_F(BoardTest, who_only_polls_finds_the_dead_too) {
  FakePeers self(table_, 0);
  FakePeers victim(table_, 1);
  Board board(memory(), self);
  Board dying(memory(), victim);
  const std::uint32_t lost = take(dying, 1);
  for (std::uint32_t i = 1; i < items; ++i) board.finish(take(board, 1));
  table_.kill(victim.self());
  std::uint32_t item = items;
  ASSERT_TRUE(
      test::eventually([&] { return board.take(1, item, Deadline::now()) == Status::ready; }));
  EXPECT_EQ(item, lost);
}

TEST_F(BoardTest, what_the_dead_had_finished_stays_finished) {
  FakePeers self(table_, 0);
  FakePeers victim(table_, 1);
  Board board(memory(), self);
  Board dying(memory(), victim);
  finish_round(dying, 1);
  table_.kill(victim.self());
  EXPECT_TRUE(self.recover_if_dead(victim.self()));
  EXPECT_TRUE(board.is_done(1));
}

TEST_F(BoardTest, a_late_recoverer_does_not_take_a_newcomers_claim) {
  FakePeers self(table_, 0);
  FakePeers victim(table_, 1);
  Board dying(memory(), victim);
  take(dying, 1);
  table_.kill(victim.self());
  const Dead late = table_.dead_of(victim.self());
  EXPECT_TRUE(self.recover_if_dead(victim.self()));
  table_.rejoin(victim.self());
  Board newcomer(memory(), victim);
  const std::uint32_t item = take(newcomer, 1);
  Board::repair(memory(), late);  // wakes up now, with what it believed then
  std::uint32_t again = 0;
  Board board(memory(), self);
  for (std::uint32_t i = 1; i < items; ++i) {
    EXPECT_EQ(board.take(1, again, Deadline::now()), Status::ready);
    EXPECT_NE(again, item);
  }
  EXPECT_EQ(board.take(1, again, Deadline::now()), Status::timeout);
}

TEST_F(BoardTest, workers_pass_a_round_only_when_all_its_results_are_there) {  // BOARD-2
  // Two boards in turn, as a trainer uses them: results are written on one, read on the other.
  constexpr Round rounds = 2000;
  constexpr std::uint32_t workers = 3;
  const test::Block second(Board::bytes({items}));
  Board::format(second.span(), {items});
  std::vector<std::uint64_t> results(items);  // plain: the boards alone order the accesses
  std::atomic<int> wrong = 0;
  const auto work = [&](std::uint32_t index) {
    FakePeers self(table_, index);
    Board writing(memory(), self);
    Board reading(second.span(), self);
    for (Round round = 1; round <= rounds; ++round) {
      std::uint32_t item = 0;
      while (writing.take(round, item, Deadline::never()) == Status::ready) {
        results[item] = round;
        writing.finish(item);
      }
      while (reading.take(round, item, Deadline::never()) == Status::ready) {
        for (const std::uint64_t result : results) wrong += result != round;
        reading.finish(item);
      }
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < workers; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(BoardTest, a_forked_child_gets_closed) {
  FakePeers self(table_, 0);
  Board board(memory(), self);
  self.forked();
  std::uint32_t item = 0;
  EXPECT_EQ(board.take(1, item, Deadline::never()), Status::closed);
}

TEST_F(BoardTest, a_damaged_header_is_refused) {
  FakePeers self(table_, 0);
  const std::uint32_t many = items + 1;
  std::memcpy(memory().data(), &many, sizeof many);
  EXPECT_THROW(Board(memory(), self), Error);
  EXPECT_THROW(Board(memory().first(64), self), Error);
}

}  // namespace
}  // namespace heddle
