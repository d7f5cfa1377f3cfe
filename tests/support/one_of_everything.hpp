#pragma once

// A segment with one object of each kind, and a process that has something of each in its hands.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/collective.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/process.hpp"
#include "support/ring_of.hpp"
#include "support/value.hpp"

namespace heddle::test {

/// The owner is at place 0, and has published version 1, pushed task 0 and joined the barrier.
/// Nothing is there twice: what one process holds, another cannot get.
struct OneOfEverything {
  using Values = Slot<Value>;
  using Queue = TaskQueue<Value>;
  static constexpr std::uint32_t capacity = 64;
  static constexpr Values::Options options{.views = 1, .publishers = 2, .buffers = 2};

  OneOfEverything() {
    EXPECT_EQ(publisher.publish(Value::of(1)), Status::ready);
    EXPECT_EQ(queue.push(Value::of(0)), Status::ready);
  }
  static Deadline long_enough() { return Deadline::after(patience / 2); }
  Segment join() const { return Segment::adopt(segment.fd()); }

  /// In another process: joins, and takes a publisher's place, a view, a task, a slot to fill, a
  /// party's place, an item of the board, the group's one place, and the name "new"; then calls publish(publisher).
  /// After that it ends each in the usual way and says how that went.
  template <class Publish>
  std::string hold_all(Publish&& publish) const {
    Segment own = join();
    auto their_slot = own.find<Values>("slot");
    auto their_publisher = their_slot.publisher();
    auto reader = their_slot.reader();
    const auto view = reader.pull();
    auto their_queue = own.find<Queue>("queue");
    Task<Value> task = their_queue.pop();
    LeaseRing ring = ring_of<Value>(own, "queue");
    LeaseRing::Reservation filling;
    if (ring.try_reserve(filling) != Status::ready) _exit(9);
    Barrier::Party party = own.find<Barrier>("barrier").join();
    std::uint32_t item = 0;
    auto their_board = own.find<Board>("board");
    if (their_board.take(1, item, Deadline::now()) != Status::ready) _exit(9);
    Group::Member member = own.find<Group>("group").join(Deadline::now());
    const Directory::Spec spec{Values::kind, Values::element(), Values::bytes(options)};
    own.directory().find_or_create("new", spec, own.peers(), long_enough(), [&](auto object) {
      publish(their_publisher);
      Values::format(object, options);
    });

    fill(filling, Value::of(1));
    std::string told = std::string("commit ") + to_string(filling.commit()) + ", complete " +
                       to_string(task.complete()) + ", view " +
                       (view && view->whole() ? "whole" : "torn");
    their_board.finish(item);
    static_cast<void>(party.wait(long_enough()));  // for the end of the epoch in which it came
    told += std::string(", group ") + to_string(member.barrier(long_enough()).status);
    const Barrier::Outcome outcome = party.arrive_and_wait(long_enough());
    return told + ", epoch " + std::to_string(outcome.epoch) + " " + to_string(outcome.status);
  }

  Segment segment = Segment::anonymous({.bytes = 32 << 10, .participants = 3, .objects = 6});
  Values slot = segment.open<Values>("slot", options);
  Values::Publisher publisher = slot.publisher();
  Queue queue = segment.open<Queue>("queue", {capacity});
  Barrier barrier = segment.open<Barrier>("barrier", {.parties = 1, .max_parties = 2});
  Barrier::Party mine = barrier.join();
  Board board = segment.open<Board>("board", {.items = 1});
  Group group =
      segment.open<Group>("group", {.size = 1, .places = 1, .exchange_bytes = page_bytes});
};

}  // namespace heddle::test
