#pragma once

// Board: a fixed set of work items that is done once in every round, by whoever is free.
//
// The synchronous form of handing out work: nobody goes on to round r+1 before all items of round r
// are done, and a dead worker's item is taken by another, so a round needs no particular worker. It
// is barrier and work list in one; each worker passes a round when it has seen every item done.
//
// Who may call    any participant; each handle by one thread at a time
// Progress        claim, finish: lock-free.  take: blocking, with a deadline
// State           one word for each item: {round:40, generation:14, owner:10}
//                 owner 0: `round` is done (so round+1 is open)     owner: at work on `round`
//                 done(r-1) -> claimed(r, owner) -> done(r);  claimed(r, dead) -> done(r-1)
// Invariants      BOARD-1  an item of a round is finished once: its claims exclude each other
//                 BOARD-2  who has seen round r done has seen all that was written for its items
// Edges           BOARD.finish -> BOARD.look    an item's results, to who sees it done
//                 BOARD.finished (fence)        a finish, then the others: of two last ones at
//                                               least one sees the round done, and wakes
// On death        claimed(r, dead) -> done(r-1), by repair(): the item is open again. What was
//                 half written for it is written anew. Every claim raises the generation.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "heddle/base/atomic.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/layout.hpp"
#include "heddle/shm/object.hpp"

namespace heddle {

/// Rounds count from 1; round 0 counts as done.
using Round = std::uint64_t;

class Board {
 public:
  struct Options {
    std::uint32_t items = 1;
  };

  static constexpr ObjectKind kind = ObjectKind::board;
  static constexpr ElementType element() { return {}; }
  static std::size_t bytes(const Options& options) {
    constexpr std::uint32_t most = 1 << 20;
    if (options.items == 0 || options.items > most) {
      throw Error(Errc::invalid_argument, "a board has 1 to " + std::to_string(most) +
                                              " items, not " + std::to_string(options.items));
    }
    return sizeof(Header) + options.items * sizeof(Item);
  }
  static void format(std::span<std::byte> memory, const Options& options) {
    reinterpret_cast<Header*>(memory.data())->items = options.items;
  }

  Board(std::span<std::byte> memory, Peers& peers) : peers_(&peers) {
    if (!attach(memory)) {
      throw Error(Errc::corrupt, "this board's header is damaged: make the segment anew");
    }
  }

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(items_.size()); }

  /// Takes an open item of `round`, waiting while all are taken and some are not done: the worker
  /// at one may die. ready: `item` is claimed, to be done and then finished. empty: the round is
  /// done. timeout; closed in a forked child.
  Status take(Round round, std::uint32_t& item, Deadline deadline,
              WaitStrategy strategy = WaitStrategy::adaptive) noexcept {
    if (!peers_->present()) return Status::closed;
    Status result = Status::empty;
    const Status waited = wait_for(
        header_->changed, deadline, strategy,
        [&] {
          result = claim(round, item);
          return result != Status::timeout;
        },
        [&] {
          if (patience_.may_look()) recover_holders();
          return Status::ready;
        },
        &patience_);
    return waited == Status::ready ? result : waited;
  }

  /// The item that this process has claimed is done.
  void finish(std::uint32_t item) noexcept {
    Atomic<std::uint64_t>& shared = items_[item].word;
    const std::uint64_t word = shared.load(relaxed);  // ours: nobody else changes it
    shared.store(pack(round_of(word), generation_of(word), nobody),
                 release("BOARD.finish"));  // -> BOARD.look
    fence(seq_cst("BOARD.finished"));
    if (is_done(round_of(word))) header_->changed.notify_all();
  }

  /// Whether every item of `round` is done.
  bool is_done(Round round) const noexcept {
    for (const Item& item : items_) {
      if (done_round(item.word.load(acquire("BOARD.look"))) < round) return false;  // BOARD-2
    }
    return true;
  }

  /// The newest round of which every item is done.
  Round rounds_done() const noexcept {
    Round least = UINT64_MAX;
    for (const Item& item : items_) {
      const Round done = done_round(item.word.load(acquire("BOARD.look")));  // <- BOARD.finish
      if (done < least) least = done;
    }
    return least;
  }

  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept {
    Board board;
    if (!board.attach(memory)) return;
    for (Item& item : board.items_) {
      for (;;) {
        std::uint64_t word = item.word.load(acquire("BOARD.repair"));  // <- BOARD.claim
        if (!dead.owns(owner_of(word).bits()) || !dead.still()) break;
        const std::uint64_t open = pack(round_of(word) - 1, generation_of(word), nobody);
        if (item.word.compare_exchange(word, open, release("BOARD.finish"))) break;
      }
    }
    board.header_->changed.wake_regardless();
  }

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  struct Header {
    std::uint32_t items;
    alignas(cache_line) Event changed;
  };
  struct alignas(cache_line) Item {
    Atomic<std::uint64_t> word;
  };
  static_assert(is_shared_struct<Header> && sizeof(Header) == 128);

  static constexpr std::uint64_t pack(Round round, std::uint64_t generation, Owner owner) {
    return round << 24 | (generation & 0x3fff) << 10 | owner.bits();
  }
  static constexpr Round round_of(std::uint64_t word) { return word >> 24; }
  static constexpr std::uint64_t generation_of(std::uint64_t word) { return word >> 10 & 0x3fff; }
  static constexpr Owner owner_of(std::uint64_t word) { return Owner(word & 0x3ff); }
  static constexpr Round done_round(std::uint64_t word) {
    return owner_of(word) ? round_of(word) - 1 : round_of(word);
  }

  Board() = default;
  bool attach(std::span<std::byte> memory) noexcept {
    if (memory.size() < sizeof(Header)) return false;
    header_ = reinterpret_cast<Header*>(memory.data());
    const std::uint32_t items = header_->items;
    if (items == 0 || items > (memory.size() - sizeof(Header)) / sizeof(Item)) return false;
    items_ = {reinterpret_cast<Item*>(memory.data() + sizeof(Header)), items};
    return true;
  }

  // ready: claimed.  empty: the round is done.  timeout: neither, for now.
  Status claim(Round round, std::uint32_t& item) noexcept {
    bool all_done = true;
    const std::uint32_t first = peers_->self().index();  // workers begin at different items
    for (std::uint32_t step = 0; step < size(); ++step) {
      item = (first + step) % size();
      std::uint64_t word = items_[item].word.load(acquire("BOARD.look"));  // <- BOARD.finish
      if (done_round(word) >= round) continue;
      all_done = false;
      if (owner_of(word) || round_of(word) != round - 1) continue;
      const std::uint64_t mine = pack(round, generation_of(word) + 1, peers_->self());
      // BOARD-1. -> BOARD.repair. What was done here before, the look above has acquired: no value of
      // the word comes twice.
      if (items_[item].word.compare_exchange(word, mine, release("BOARD.claim"))) {
        return Status::ready;
      }
    }
    return all_done ? Status::empty : Status::timeout;
  }

  void recover_holders() noexcept {
    for (const Item& item : items_) {
      peers_->recover_if_dead(owner_of(item.word.load(relaxed)));
    }
  }

  Header* header_ = nullptr;
  std::span<Item> items_;
  Peers* peers_ = nullptr;
  Patience patience_;  // of this handle, not of the board
};

}  // namespace heddle
