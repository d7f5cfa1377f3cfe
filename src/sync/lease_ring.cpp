#include "heddle/sync/lease_ring.hpp"

#include <array>
#include <bit>
#include <new>

namespace heddle {
namespace {

constexpr std::uint32_t open_phase = static_cast<std::uint32_t>(LeasePhase::open);
constexpr std::uint32_t closed_phase = static_cast<std::uint32_t>(LeasePhase::closed);
constexpr std::uint32_t drained_phase = static_cast<std::uint32_t>(LeasePhase::drained);

// Says that a task was put where consumers no longer come by. QUEUE-4.
void tell_returned(LeaseRingHeader& ring) noexcept {
  ring.returned.fetch_add(1, release("QUEUE.returned"));
  ring.not_empty.notify_one();
}

}  // namespace

std::optional<LeaseRingShape> LeaseRingShape::of(std::span<const std::byte> memory) noexcept {
  if (memory.size() < sizeof(LeaseRingHeader)) return std::nullopt;
  const auto& header = *reinterpret_cast<const LeaseRingHeader*>(memory.data());
  const LeaseRingShape shape{header.capacity, header.payload_bytes, header.payload_alignment};
  if (!shape.valid() || shape.bytes() > memory.size()) return std::nullopt;
  return shape;
}

void LeaseRing::format(std::span<std::byte> memory, const LeaseRingShape& shape,
                       std::uint64_t first_cycle) noexcept {
  auto& header = *new (memory.data()) LeaseRingHeader{};
  header.capacity = shape.capacity;
  header.payload_bytes = shape.payload_bytes;
  header.payload_alignment = shape.payload_alignment;
  if (first_cycle == 0) return;  // and zeroed slots are FREE in cycle 0
  header.tail.store(first_cycle * shape.capacity, relaxed);
  header.head.store(first_cycle * shape.capacity, relaxed);
  const LeaseWord free(first_cycle, 0, nobody, LeaseState::free);
  for (std::size_t i = 0; i < shape.capacity; ++i) {
    auto* slot = memory.data() + sizeof(LeaseRingHeader) + i * shape.stride();
    reinterpret_cast<LeaseSlot*>(slot)->word.store(free.bits(), relaxed);
  }
}

LeaseRing::LeaseRing(std::span<std::byte> memory, const LeaseRingShape& shape,
                     Peers& peers) noexcept
    : header_(reinterpret_cast<LeaseRingHeader*>(memory.data())),
      slots_(memory.data() + sizeof(LeaseRingHeader)),
      stride_(shape.stride()),
      payload_at_(shape.payload_at()),
      mask_(shape.capacity - 1),
      shift_(static_cast<unsigned>(std::countr_zero(shape.capacity))),
      patience_(100 + static_cast<int>(shape.payload_bytes / 256)),
      peers_(&peers),
      tail_(header_->tail.load(acquire("QUEUE.tail"))),
      head_(header_->head.load(acquire("QUEUE.head"))) {}

// ---- producers

Status LeaseRing::walk_to_free(Reservation& out, std::uint64_t ticket) noexcept {
  in_the_way_ = nobody;
  all_held_ = false;
  std::uint64_t held = 0;
  // The limit only matters in damaged memory, where words can send one to and fro for ever.
  for (std::uint64_t steps = 8 * (mask_ + 1); steps != 0; --steps) {
    LeaseSlot& slot = at(ticket);
    const LeaseWord word(slot.word.load(acquire("QUEUE.passed")));  // QUEUE-7
    const LeaseState state = word.state();
    const std::int64_t ahead = word.ahead_of(cycle_of(ticket));
    const bool unconsumed = state == LeaseState::filling || state == LeaseState::queued;
    if (ahead < 0) {
      if (ahead == -1 && unconsumed) {
        in_the_way_ = word.owner();
        tail_ = ticket;
        return Status::full;
      }
      // Older than the hint was: the load was, or the hint is damaged. A lower ticket never harms.
      ticket += static_cast<std::uint64_t>(ahead) << shift_;
      continue;
    }
    if (ahead == 0 && state == LeaseState::free) {
      if (const Status got = claim(out, slot, word, ticket); got != Status::busy) return got;
      continue;
    }
    if (ahead == 0 && !unconsumed) {
      if (held == mask_ + 1) {
        all_held_ = true;
        break;
      }
      std::uint64_t expected = word.bits();
      if (!slot.word.compare_exchange(expected, word.next_cycle().bits(), relaxed)) continue;
      ++held;
    }
    ticket = later(past(ticket, ahead - 1), header_->tail.load(acquire("QUEUE.tail")));
  }
  tail_ = ticket;
  return Status::full;
}

Status LeaseRing::reserve(Reservation& out, Deadline deadline) noexcept {
  Status got = Status::full;
  const auto find = [&] { return (got = find_free(out)) != Status::full; };
  const Status waited = wait_for(header_->not_full, deadline, strategy_, find, [&] {
    recover_in_the_way();
    return Status::ready;
  });
  return waited == Status::ready ? got : waited;
}

Status LeaseRing::Reservation::commit_late(LeaseWord word) const noexcept {
  while (word.state() == LeaseState::abandoned && word.owner() == filling_.owner()) {
    std::uint64_t expected = word.bits();
    const LeaseWord requeue = word.as(LeaseState::requeue, nobody);
    // -> QUEUE.lease. Of who went past the producer needs nothing, and a drainer hears of the task by
    // `returned`, behind a full fence.
    if (slot_->word.compare_exchange(expected, requeue.bits(), release("QUEUE.commit"))) {
      tell_returned(*ring_);
      return Status::ready;
    }
    word = LeaseWord(expected);
  }
  return Status::lost_lease;
}

Status LeaseRing::Reservation::cancel() const noexcept {
  if (!peers_->present()) return Status::closed;
  LeaseWord word = filling_;
  while (word.owner() == filling_.owner() &&
         (word == filling_ || word.state() == LeaseState::abandoned)) {
    // FILLING c was t's last chance; ABANDONED was counted past already.
    const LeaseWord next = word == filling_ ? word.next_cycle() : word;
    std::uint64_t expected = word.bits();
    if (slot_->word.compare_exchange(expected, next.as(LeaseState::free, nobody).bits(),
                                     seq_cst("QUEUE.free"))) {
      ring_->not_full.notify_all();  // a FILLING may have kept more than one slot from producers
      Lease::ended(*ring_);
      return Status::ready;
    }
    word = LeaseWord(expected);
  }
  return Status::lost_lease;
}

// ---- consumers

Status LeaseRing::walk_to_task(Lease& out, std::uint64_t ticket) noexcept {
  // The limit only matters in damaged memory: cycles that are each ahead of the last lead round.
  for (int jumps = 1000; jumps != 0;) {
    LeaseSlot& slot = at(ticket);
    const LeaseWord word(slot.word.load(acquire("QUEUE.passed")));  // QUEUE-7
    const LeaseState state = word.state();
    const std::int64_t ahead = word.ahead_of(cycle_of(ticket));
    if (ahead < 0) {  // as in walk_to_free
      ticket += static_cast<std::uint64_t>(ahead) << shift_;
      continue;
    }
    if (state == LeaseState::requeue) {
      head_ = ticket;
      if (take_returned(out, slot, word)) return Status::ready;
      continue;
    }
    if (ahead == 0) {
      if (state == LeaseState::queued) {
        if (take(out, slot, word, ticket)) return Status::ready;
        continue;
      }
      if (caught_up()) continue;
      if (state == LeaseState::filling && go_past_filling(slot, word, ticket)) continue;
      break;  // QUEUE-2: nothing was pushed from here on, or is not yet complete
    }
    if (ahead > 2) --jumps;
    ticket = later(past(ticket, ahead - 2), header_->head.load(acquire("QUEUE.head")));
  }
  head_ = ticket;
  if (scan_returned(out)) return Status::ready;
  return is_closed() ? drain(out) : Status::empty;
}

bool LeaseRing::take_returned(Lease& out, LeaseSlot& slot, LeaseWord requeue) noexcept {
  std::uint64_t expected = requeue.bits();
  const LeaseWord leased = requeue.leased_to(peers_->self());
  if (!slot.word.compare_exchange(expected, leased.bits(), acq_rel("QUEUE.lease"))) return false;
  out.ring_ = header_;
  out.peers_ = peers_;
  out.slot_ = &slot;
  out.leased_ = leased;
  out.ticket_ = slot.ticket.load(relaxed);
  return true;
}

// Called where the tasks end. A consumer on the heels of a busy producer takes each slot's line away
// from it several times; it falls back a little, once, and then finds a few tasks at a time (1p1c:
// 81 -> 44 ns a task). One that comes for a single task pays nothing. Whether to look again.
bool LeaseRing::caught_up() noexcept {
  constexpr int breath = 32;  // pauses: about a microsecond
  const bool streaming = streak_ > 1;
  streak_ = 0;
  if (streaming) {
    for (int i = 0; i < breath; ++i) pause();
  }
  return streaming;
}

// Whether the slot must be looked at again. Going past costs everybody a scan when the producer
// returns, so it is only for a producer that has stopped with others' tasks behind it.
bool LeaseRing::go_past_filling(LeaseSlot& slot, LeaseWord filling, std::uint64_t ticket) noexcept {
  const auto changes_within = [&](int pauses) {
    for (int i = 0; i < pauses; ++i) {
      if (slot.word.load(relaxed) != filling.bits()) return true;
      pause();
    }
    return false;
  };
  // A look at later slots takes their lines away from the producers: not at once.
  if (changes_within(10)) return true;
  if (!queued_after(ticket)) return false;
  if (changes_within(patience_)) return true;
  std::uint64_t expected = filling.bits();
  const LeaseWord abandoned = filling.next_cycle().as(LeaseState::abandoned, filling.owner());
  if (slot.word.compare_exchange(expected, abandoned.bits(), seq_cst("QUEUE.abandon")) &&
      header_->not_full.has_sleepers_after_rmw()) {
    opened_way(ticket + 1);
  }
  return true;
}

bool LeaseRing::queued_after(std::uint64_t ticket) const noexcept {
  for (std::uint64_t i = 1; i <= mask_; ++i) {
    const LeaseWord word(at(ticket + i).word.load(relaxed));
    const std::int64_t ahead = word.ahead_of(cycle_of(ticket + i));
    if (ahead > 0) continue;
    if (ahead == 0 && word.state() == LeaseState::filling) continue;
    return ahead == 0 && word.state() == LeaseState::queued;
  }
  return false;
}

// Goes on where the last one has stopped, so that a thousand returned tasks cost one scan.
bool LeaseRing::scan_returned(Lease& out) noexcept {
  for (;;) {
    if (scanned_ == 0) {
      scanning_for_ = header_->returned.load(acquire("QUEUE.returned"));
      if (scanning_for_ == returned_seen_) return false;
    }
    while (scanned_ <= mask_) {
      LeaseSlot& slot = at(scanned_);
      LeaseWord word(slot.word.load(relaxed));
      while (word.state() == LeaseState::requeue) {
        if (take_returned(out, slot, word)) return true;
        word = LeaseWord(slot.word.load(relaxed));
      }
      ++scanned_;
    }
    returned_seen_ = scanning_for_;
    scanned_ = 0;
  }
}

Status LeaseRing::drain(Lease& out) noexcept {
  if (header_->phase.load(acquire("QUEUE.close")) == drained_phase) return Status::closed;
  while (drained_ <= mask_) {
    LeaseSlot& slot = at(drained_);
    const LeaseWord word(slot.word.fetch_or(0, acq_rel("QUEUE.drain")));
    if (word.state() == LeaseState::requeue && take_returned(out, slot, word)) return Status::ready;
    if (word.state() != LeaseState::free) return Status::empty;
    ++drained_;
  }
  std::uint32_t expected = closed_phase;
  header_->phase.compare_exchange(expected, drained_phase, release("QUEUE.close"));
  header_->not_empty.notify_all();
  return Status::closed;
}

Status LeaseRing::lease(Lease& out, Deadline deadline) noexcept {
  Status got = Status::empty;
  const auto find = [&] { return (got = find_task(out)) != Status::empty; };
  const Status waited = wait_for(header_->not_empty, deadline, strategy_, find, [&] {
    recover_when_idle();
    return Status::ready;
  });
  return waited == Status::ready ? got : waited;
}

// As complete and give_back, when the cycle has moved under the lease or the lease is lost. QUEUE-3.
Status LeaseRing::Lease::end_late(LeaseState state) const noexcept {
  for (;;) {
    const LeaseWord word(slot_->word.load(acquire("QUEUE.lease")));
    // The acquire makes the ticket at least as new as the word, and the exchange below says that
    // the word has not changed since.
    if (word.state() != LeaseState::leased || word.owner() != leased_.owner() ||
        word.grant() != leased_.grant() || slot_->ticket.load(relaxed) != ticket_) {
      return Status::lost_lease;
    }
    const bool done = state == LeaseState::free;
    std::uint64_t expected = word.bits();
    const LeaseWord next(word.cycle(), done ? 0 : word.grant(), nobody, state);
    if (slot_->word.compare_exchange(expected, next.bits(), seq_cst("QUEUE.free"))) {
      done ? ended(*ring_) : tell_returned(*ring_);
      return Status::ready;
    }
  }
}

Status LeaseRing::Lease::give_back() const noexcept {
  return peers_->present() ? end_late(LeaseState::requeue) : Status::closed;
}

// ---- both

Status LeaseRing::close() noexcept {
  if (!peers_->present()) return Status::closed;
  std::uint32_t expected = open_phase;
  // What came before it is seen by who hears `closed`. Before it, phase was never written.
  header_->phase.compare_exchange(expected, closed_phase, release("QUEUE.close"));
  header_->not_empty.notify_all();
  header_->not_full.notify_all();
  return Status::ready;
}

// A QUEUED or FILLING was passed that may have kept producers from slots free behind it. QUEUE-6.
void LeaseRing::opened_way(std::uint64_t ticket) noexcept {
  for (std::uint64_t i = 0; i <= mask_; ++i) {
    switch (LeaseWord(at(ticket + i).word.load(seq_cst("QUEUE.way"))).state()) {
      case LeaseState::filling:
      case LeaseState::queued:
        return;
      case LeaseState::free:
        header_->not_full.notify_all();
        return;
      default:
        break;
    }
  }
}

// What made the ring full: one producer in the way, or leases all around.
bool LeaseRing::recover_in_the_way() noexcept {
  if (all_held_) return recover_holders();
  return in_the_way_ && peers_->recover_if_dead(in_the_way_);
}

// Asks after each process that holds a slot; and finds the task whose returner stopped before it
// told so, which no owner's name is on. A large ring is looked through piece by piece. Whether
// there is anything new to find.
bool LeaseRing::recover_holders() noexcept {
  constexpr std::uint64_t piece = 65'536;
  std::array<std::uint64_t, 16> asked{};
  bool found = false;
  const std::uint64_t slots = mask_ < piece ? mask_ + 1 : piece;
  for (std::uint64_t i = 0; i < slots; ++i) {
    const LeaseWord word(at(look_at_++).word.load(relaxed));
    if (word.state() == LeaseState::requeue) {
      returned_seen_ = header_->returned.load(relaxed) - 1;
      found = true;
    }
    const Owner owner = word.owner();
    std::uint64_t& group = asked[owner.bits() / 64];
    const std::uint64_t bit = std::uint64_t{1} << owner.bits() % 64;
    if (!owner || (group & bit) != 0) continue;
    group |= bit;
    found = peers_->recover_if_dead(owner) || found;
  }
  return found;
}

// For callers that never wait long enough to ask while they wait. As often as those who sleep.
bool LeaseRing::recover_when_idle() noexcept {
  const std::int64_t now = monotonic_ns();
  if (now - looked_ < 10'000'000) return false;
  looked_ = now;
  return recover_holders();
}

LeaseCounts LeaseRing::count() const noexcept {
  LeaseCounts counts;
  for (std::uint64_t i = 0; i <= mask_; ++i) {
    switch (LeaseWord(at(i).word.load(relaxed)).state()) {
      case LeaseState::filling:
      case LeaseState::abandoned:
        ++counts.filling;
        break;
      case LeaseState::queued:
      case LeaseState::requeue:
        ++counts.waiting;
        break;
      case LeaseState::leased:
        ++counts.leased;
        break;
      default:
        break;
    }
  }
  return counts;
}

void LeaseRing::repair(std::span<std::byte> memory, const Dead& dead) noexcept {
  const auto shape = LeaseRingShape::of(memory);
  if (!shape) return;
  for (std::size_t i = 0; i < shape->capacity; ++i) {
    auto& slot = *reinterpret_cast<LeaseSlot*>(memory.data() + sizeof(LeaseRingHeader) +
                                               i * shape->stride());
    for (;;) {
      const LeaseWord word(slot.word.load(acquire("QUEUE.repair")));
      if (!dead.owns(word.owner().bits())) break;  // QUEUE-1
      LeaseWord next = word;
      switch (word.state()) {
        case LeaseState::filling:
          next = word.next_cycle().as(LeaseState::free, nobody);
          break;
        case LeaseState::abandoned:
          next = word.as(LeaseState::free, nobody);
          break;
        case LeaseState::leased:
          next = word.as(LeaseState::requeue, nobody);
          break;
        default:
          break;  // damaged: these have no owner
      }
      if (next == word) break;
      if (!dead.still()) return;  // a newcomer: others have finished a whole pass
      std::uint64_t expected = word.bits();
      // -> QUEUE.claim, QUEUE.lease: what the dead wrote and read comes before the slot's next owner.
      if (slot.word.compare_exchange(expected, next.bits(), release("QUEUE.repair"))) break;
    }
  }
  // Whatever was found: the dead may have returned a task and not told, or changed and not woken.
  auto& header = *reinterpret_cast<LeaseRingHeader*>(memory.data());
  header.returned.fetch_add(1, release("QUEUE.returned"));
  header.not_empty.wake_regardless();
  header.not_full.wake_regardless();
}

}  // namespace heddle
