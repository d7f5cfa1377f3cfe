#pragma once

// A task queue in private memory, with places for three processes that are none (fake_peers.hpp), and
// with what a test must see or change below the queue's face: words, notes, where it begins.

#include <chrono>
#include <cstring>
#include <span>
#include <string_view>

#include "heddle/sync/task_queue.hpp"
#include "support/block.hpp"
#include "support/fake_peers.hpp"

namespace heddle::test {

inline constexpr std::uint64_t last_cycle = LeaseWord::cycle_mask;

template <class T>
struct QueueInMemory {
  using Queue = TaskQueue<T>;
  using Options = typename Queue::Options;

  explicit QueueInMemory(const Options& options, std::uint64_t first_cycle = 0)
      : block(Queue::bytes(options)) {
    Queue::format(block.span(), options);
    shape = *QueueShape::of(block.span());
    if (first_cycle != 0) begin_at(first_cycle);
  }

  Queue open(Peers& peers) { return Queue(block.span(), peers); }
  /// The lane's ring by itself, for half a push, and for a lease that no Task gives back.
  LeaseRing ring(Peers& peers, std::uint32_t lane = 0) {
    Event* const not_empty = lane == 0 ? nullptr : &header().not_empty;
    return LeaseRing(lane_memory(lane), shape.ring, peers, not_empty);
  }

  LeaseRingHeader& header(std::uint32_t lane = 0) {
    return *reinterpret_cast<LeaseRingHeader*>(lane_memory(lane).data());
  }
  LeaseSlot& slot(std::uint64_t index, std::uint32_t lane = 0) {
    return *reinterpret_cast<LeaseSlot*>(lane_memory(lane).data() + sizeof(LeaseRingHeader) +
                                         index * shape.ring.stride());
  }
  LeaseWord word(std::uint64_t index, std::uint32_t lane = 0) {
    return LeaseWord(slot(index, lane).word.load(relaxed));
  }
  LeaseNote& note(std::uint64_t index, std::uint32_t lane = 0) {
    return *reinterpret_cast<LeaseNote*>(&slot(index, lane) + 1);
  }
  bool all_free() {
    for (std::uint32_t lane = 0; lane < shape.lanes; ++lane) {
      for (std::uint64_t i = 0; i < shape.ring.capacity; ++i) {
        if (word(i, lane).state() != LeaseState::free) return false;
      }
    }
    return true;
  }

  /// As if the lease of this slot had begun so much earlier.
  void age_lease(std::uint64_t index, std::chrono::milliseconds by, std::uint32_t lane = 0) {
    Atomic<std::uint64_t>& stamp = note(index, lane).leased_at;
    stamp.store(stamp.load(relaxed) - (static_cast<std::uint64_t>(by.count()) << 24), relaxed);
  }
  /// As if the delay of the task in this slot was over.
  void make_due(std::uint64_t index, std::uint32_t lane = 0) {
    note(index, lane).due.store(1, relaxed);
  }
  void kill(const FakePeers& peers) { table.kill(peers.self()); }

  QueueShape shape;
  Block block;
  FakeTable table{[this](const Dead& dead) { QueueCore::repair(block.span(), dead); }};
  FakePeers me{table, 0}, other{table, 1}, third{table, 2};

 private:
  std::span<std::byte> lane_memory(std::uint32_t lane) {
    return block.span().subspan(lane * shape.lane_bytes(), shape.lane_bytes());
  }
  // As if all cycles below had been gone through, with a result for each task.
  void begin_at(std::uint64_t first_cycle) {
    for (std::uint32_t lane = 0; lane < shape.lanes; ++lane) {
      LeaseRing::format(lane_memory(lane), shape.ring, first_cycle);
      header(lane).lanes = shape.lanes;
      header(lane).results = shape.results;
      header(lane).result_bytes = shape.result_bytes;
      const std::uint64_t first_ticket = first_cycle * shape.ring.capacity;
      const std::size_t stride = shape.results == 0 ? 0 : ResultTable::bytes(1, shape.result_bytes);
      const std::size_t table_at = (shape.ring.bytes() + cache_line - 1) / cache_line * cache_line;
      for (std::uint64_t back = 1; back <= shape.results; ++back) {
        const std::uint64_t ticket = first_ticket - back;
        const std::uint64_t read_in_its_lap = (ticket / shape.results + 1) << 24 | 3;
        std::memcpy(lane_memory(lane).data() + table_at + ticket % shape.results * stride,
                    &read_in_its_lap, sizeof read_in_its_lap);
      }
    }
  }
};

}  // namespace heddle::test
