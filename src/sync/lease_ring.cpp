#include "heddle/sync/lease_ring.hpp"

#include <unistd.h>

#include <array>
#include <bit>
#include <new>
#include <utility>

#include "heddle/base/copy.hpp"

namespace heddle {
namespace {

constexpr std::uint32_t in_phase(std::uint32_t word, LeasePhase phase) {
  return (word & ~3U) | static_cast<std::uint32_t>(phase);
}

// Where a task goes whose worker is gone or too late.
LeaseState after_loss(LeaseWord leased, std::uint32_t max_tries) {
  return leased.is_last_of(max_tries) ? LeaseState::dead : LeaseState::requeue;
}

}  // namespace

std::optional<LeaseRingShape> LeaseRingShape::of(std::span<const std::byte> memory) noexcept {
  if (memory.size() < sizeof(LeaseRingHeader)) return std::nullopt;
  const auto& header = *reinterpret_cast<const LeaseRingHeader*>(memory.data());
  const LeaseRingShape shape{header.capacity,   header.payload_bytes, header.payload_alignment,
                             header.notes == 1, header.max_tries,     header.lease_timeout_ms};
  if (header.notes > 1 || !shape.valid() || shape.bytes() > memory.size()) return std::nullopt;
  return shape;
}

void LeaseRing::format(std::span<std::byte> memory, const LeaseRingShape& shape,
                       std::uint64_t first_cycle) noexcept {
  auto& header = *new (memory.data()) LeaseRingHeader{};
  header.capacity = shape.capacity;
  header.payload_bytes = shape.payload_bytes;
  header.payload_alignment = shape.payload_alignment;
  header.notes = shape.notes ? 1 : 0;
  header.max_tries = shape.max_tries;
  header.lease_timeout_ms = shape.lease_timeout_ms;
  header.lanes = 1;
  if (first_cycle == 0) return;  // and zeroed slots are FREE in cycle 0
  header.tail.store(first_cycle * shape.capacity, relaxed);
  header.head.store(first_cycle * shape.capacity, relaxed);
  const LeaseWord free(first_cycle, 0, nobody, LeaseState::free);
  for (std::size_t i = 0; i < shape.capacity; ++i) {
    auto* slot = memory.data() + sizeof(LeaseRingHeader) + i * shape.stride();
    reinterpret_cast<LeaseSlot*>(slot)->word.store(free.bits(), relaxed);
  }
}

LeaseRing::LeaseRing(std::span<std::byte> memory, const LeaseRingShape& shape, Peers& peers,
                     Event* not_empty) noexcept
    : header_(reinterpret_cast<LeaseRingHeader*>(memory.data())),
      slots_(memory.data() + sizeof(LeaseRingHeader)),
      stride_(shape.stride()),
      payload_at_(shape.payload_at()),
      mask_(shape.capacity - 1),
      shift_(static_cast<unsigned>(std::countr_zero(shape.capacity))),
      patience_(100 + static_cast<int>(shape.payload_bytes / 256)),
      peers_(&peers),
      not_empty_(not_empty != nullptr ? not_empty : &header_->not_empty),
      has_notes_(shape.notes),
      max_tries_(shape.max_tries),
      lease_timeout_ms_(static_cast<std::int64_t>(shape.lease_timeout_ms)),
      process_(static_cast<std::uint32_t>(getpid())),
      tail_(header_->tail.load(acquire("QUEUE.tail"))),
      head_(header_->head.load(acquire("QUEUE.head"))) {}

// ---- producers

Status LeaseRing::walk_to_free(Reservation& out, std::uint64_t ticket) noexcept {
  in_the_way_ = nobody;
  all_held_ = false;
  std::uint64_t held = 0;
  const auto end = [&](Status status, std::uint64_t at) {
    if (held != 0) header_->skipped.fetch_add(held, relaxed);
    if (status != Status::ready) tail_ = at;
    return status;
  };
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
        return end(Status::full, ticket);
      }
      // Older than the hint was: the load was, or the hint is damaged. A lower ticket never harms.
      ticket += static_cast<std::uint64_t>(ahead) << shift_;
      continue;
    }
    if (ahead == 0 && state == LeaseState::free) {
      const Status got = claim(out, slot, word, ticket);
      if (got == Status::busy) continue;
      return end(got, tail_);
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
  return end(Status::full, ticket);
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
      Lease::tell_returned(*ring_, *not_empty_);
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
      Lease::tell(*ring_, *not_empty_, LeaseState::free);
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
    if (state == LeaseState::requeue && is_due(slot)) {
      head_ = ticket;
      if (take_at_rest(out, slot, word)) return Status::ready;
      continue;
    }
    if (ahead == 0) {
      if (state == LeaseState::queued) {
        if (!is_due(slot)) {
          park(slot, word, ticket);
        } else if (take(out, slot, word, ticket)) {
          return Status::ready;
        }
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

// A task that no ticket leads to any more: returned, or a dead letter.
bool LeaseRing::take_at_rest(Lease& out, LeaseSlot& slot, LeaseWord word) noexcept {
  std::uint64_t expected = word.bits();
  const LeaseWord leased = word.leased_to(peers_->self());
  if (!slot.word.compare_exchange(expected, leased.bits(), acq_rel("QUEUE.lease"))) return false;
  hand_out(out, slot, leased, slot.ticket.load(relaxed));
  return true;
}

// After a look at the word that acquired it.
bool LeaseRing::is_due(const LeaseSlot& slot) const noexcept {
  if (!has_notes_) return true;
  const auto due = static_cast<std::int64_t>(note(slot).due.load(relaxed));
  return due == 0 || due <= monotonic_ns();
}

// Puts a task that is not due aside, so that others behind it may be had. Those who look for holders
// find it when it is due; so nobody is told.
void LeaseRing::park(LeaseSlot& slot, LeaseWord queued, std::uint64_t ticket) noexcept {
  std::uint64_t expected = queued.bits();
  const LeaseWord parked = queued.next_cycle().as(LeaseState::requeue, nobody);
  if (slot.word.compare_exchange(expected, parked.bits(), seq_cst("QUEUE.park")) &&
      header_->not_full.has_sleepers_after_rmw()) {
    opened_way(ticket + 1);
  }
}

void LeaseRing::sign(Lease& lease) const noexcept {
  lease.max_tries_ = max_tries_;
  lease.shift_ = shift_;
  LeaseNote& its = note(*lease.slot_);
  its.worker.store(process_, relaxed);
  if (lease_timeout_ms_ != 0) its.leased_at.store(lease.stamp().bits(), relaxed);
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
  if (slot.word.compare_exchange(expected, abandoned.bits(), seq_cst("QUEUE.abandon"))) {
    header_->abandoned.fetch_add(1, relaxed);
    if (header_->not_full.has_sleepers_after_rmw()) opened_way(ticket + 1);
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
      for (;;) {
        const LeaseWord word(slot.word.load(acquire("QUEUE.due")));  // when it is due
        if (word.state() != LeaseState::requeue || !is_due(slot)) break;
        if (take_at_rest(out, slot, word)) return true;
      }
      ++scanned_;
    }
    returned_seen_ = scanning_for_;
    scanned_ = 0;
  }
}

Status LeaseRing::drain(Lease& out) noexcept {
  std::uint32_t phase = header_->phase.load(acquire("QUEUE.close"));
  if (lease_phase(phase) == LeasePhase::drained) return Status::closed;
  if (lease_phase(phase) == LeasePhase::open) return Status::empty;  // QUEUE-5: just now
  if (phase != std::exchange(draining_, phase)) drained_ = 0;
  while (drained_ <= mask_) {
    LeaseSlot& slot = at(drained_);
    const LeaseWord word(slot.word.fetch_or(0, acq_rel("QUEUE.drain")));
    const LeaseState state = word.state();
    if (state == LeaseState::requeue && is_due(slot) && take_at_rest(out, slot, word)) {
      return Status::ready;
    }
    const bool at_rest = state == LeaseState::free || (state == LeaseState::dead && !word.owner());
    if (!at_rest) return Status::empty;
    ++drained_;
  }
  const std::uint32_t drained = in_phase(phase, LeasePhase::drained);
  if (!header_->phase.compare_exchange(phase, drained, release("QUEUE.close"))) {
    return phase == drained ? Status::closed : Status::empty;  // reopened
  }
  not_empty_->notify_all();
  return Status::closed;
}

Status LeaseRing::lease(Lease& out, Deadline deadline) noexcept {
  Status got = Status::empty;
  const auto find = [&] { return (got = find_task(out)) != Status::empty; };
  const Status waited = wait_for(*not_empty_, deadline, strategy_, find, [&] {
    recover_when_idle();
    return Status::ready;
  });
  return waited == Status::ready ? got : waited;
}

// Says that a task was put where consumers no longer come by. QUEUE-4.
void LeaseRing::Lease::tell_returned(LeaseRingHeader& ring, Event& not_empty) noexcept {
  ring.returned.fetch_add(1, release("QUEUE.returned"));
  not_empty.notify_one();
}

// Whether `word`, just acquired, is our lease in this state: QUEUE-3. The acquire makes the ticket at
// least as new as the word; an exchange of that word then says that it has not changed since.
bool LeaseRing::Lease::is(LeaseState state, LeaseWord word) const noexcept {
  return word.state() == state && word.owner() == leased_.owner() &&
         word.grant() == leased_.grant() && slot_->ticket.load(relaxed) == ticket_;
}

Status LeaseRing::Lease::change(LeaseState from, LeaseState to) const noexcept {
  if (!peers_->present()) return Status::closed;
  for (;;) {
    const LeaseWord word(slot_->word.load(acquire("QUEUE.lease")));
    if (!is(from, word)) return Status::lost_lease;
    std::uint64_t expected = word.bits();
    LeaseWord next(word.cycle(), 0, nobody, LeaseState::free);
    if (to != LeaseState::free)
      next = word.as(to, to == LeaseState::ending ? word.owner() : nobody);
    if (to != LeaseState::free && from == LeaseState::dead) next = next.not_leased();
    if (slot_->word.compare_exchange(expected, next.bits(), seq_cst("QUEUE.free"))) {
      if (to != LeaseState::ending) tell(*ring_, *not_empty_, to);
      return Status::ready;
    }
  }
}

Status LeaseRing::Lease::fail(std::string_view reason,
                              std::chrono::nanoseconds delay) const noexcept {
  if (!has_note_) return give_back();
  if (const Status got = begin_ending(); got != Status::ready) return got;
  fence_after_rmw(release("QUEUE.ending"));  // QUEUE-8: the word, then its note -> QUEUE.report
  LeaseNote& its = note(*slot_);
  std::array<char, LeaseNote::reason_bytes> text{};
  reason.copy(text.data(), text.size());
  copy_in(its.reason, text.data(), text.size());
  its.reason_grant.store(static_cast<std::uint32_t>(leased_.grant()), relaxed);
  // Who retries a dead letter wants it now.
  const bool is_last = leased_.is_last_of(max_tries_);
  const std::int64_t due = is_last ? 0 : due_after(delay, monotonic_ns());
  its.due.store(static_cast<std::uint64_t>(due), relaxed);
  return end_in_vain(LeaseState::ending);
}

// A try is a try, however it ends: what makes every worker throw would be tried for ever.
Status LeaseRing::Lease::end_in_vain(LeaseState from) const noexcept {
  const LeaseState to = has_note_ ? after_loss(leased_, max_tries_) : LeaseState::requeue;
  const Status got = change(from, to);
  if (got == Status::ready && to == LeaseState::dead) ring_->died.fetch_add(1, relaxed);
  return got;
}

Status LeaseRing::Lease::extend() const noexcept {
  if (!peers_->present()) return Status::closed;
  const LeaseWord word(slot_->word.load(acquire("QUEUE.lease")));
  if (!is(LeaseState::leased, word)) return Status::lost_lease;
  if (has_note_) note(*slot_).leased_at.store(stamp().bits(), relaxed);
  return Status::ready;
}

// Whether the task was taken from a living worker that has had it for too long. One that has lost its
// lease cannot end it; its stamp may come late, and then names another lease.
bool LeaseRing::expire(LeaseSlot& slot, std::int64_t now_ns) noexcept {
  const LeaseWord word(slot.word.load(acquire("QUEUE.lease")));
  if (word.state() != LeaseState::leased) return false;
  const std::uint64_t cycle = slot.ticket.load(relaxed) >> shift_;
  const LeaseStamp now(now_ns, word, cycle);
  Atomic<std::uint64_t>& leased_at = note(slot).leased_at;
  std::uint64_t bits = leased_at.load(relaxed);
  if (!LeaseStamp(bits).same_lease(now)) {
    // Its worker was stopped before it signed: from now on. By a clock that is read after the word:
    // `now_ns` may be older than the lease.
    leased_at.compare_exchange(bits, LeaseStamp(monotonic_ns(), word, cycle).bits(), relaxed);
    return false;
  }
  if (now.ms_since(LeaseStamp(bits)) <= lease_timeout_ms_) return false;  // both were rounded down
  const LeaseState to = after_loss(word, max_tries_);
  std::uint64_t expected = word.bits();
  // -> QUEUE.lease, as if its holder gave it back: what came before this lease.
  if (!slot.word.compare_exchange(expected, word.as(to, nobody).bits(), seq_cst("QUEUE.free"))) {
    return false;
  }
  header_->expired.fetch_add(1, relaxed);
  if (to == LeaseState::dead) header_->died.fetch_add(1, relaxed);
  Lease::tell(*header_, *not_empty_, to);
  return true;
}

// ---- both

Status LeaseRing::close() noexcept {
  if (!peers_->present()) return Status::closed;
  std::uint32_t phase = header_->phase.load(relaxed);
  // What came before it is seen by who hears `closed`.
  while (lease_phase(phase) == LeasePhase::open &&
         !header_->phase.compare_exchange(phase, in_phase(phase, LeasePhase::closed),
                                          release("QUEUE.close"))) {
  }
  not_empty_->notify_all();
  header_->not_full.notify_all();
  return Status::ready;
}

Status LeaseRing::reopen() noexcept {
  if (!peers_->present()) return Status::closed;
  std::uint32_t phase = header_->phase.load(relaxed);
  // Who sees it open knows nothing by that; who has seen it closed finds the number changed.
  while (lease_phase(phase) != LeasePhase::open &&
         !header_->phase.compare_exchange(phase, in_phase(phase + 4, LeasePhase::open), relaxed)) {
  }
  return Status::ready;
}

Status LeaseRing::hold_letter(Lease& out, std::uint64_t ticket) noexcept {
  if (!peers_->present()) return Status::closed;
  LeaseSlot& slot = at(ticket);
  for (bool asked = false;;) {
    const LeaseWord word(slot.word.load(acquire("QUEUE.lease")));
    if (word.state() != LeaseState::dead || slot.ticket.load(relaxed) != ticket) {
      return Status::empty;
    }
    if (word.owner()) {  // once: in damaged memory it could be found dead for ever
      if (std::exchange(asked, true) || !peers_->recover_if_dead(word.owner()))
        return Status::empty;
      continue;
    }
    std::uint64_t expected = word.bits();
    const LeaseWord held = word.leased_to(peers_->self()).as(LeaseState::dead, peers_->self());
    if (!slot.word.compare_exchange(expected, held.bits(), acq_rel("QUEUE.lease"))) continue;
    name(out, slot, held, ticket);  // and leaves the note alone: it is its last worker's
    return Status::ready;
  }
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
  const std::int64_t now = lease_timeout_ms_ != 0 ? monotonic_ns() : 0;
  const std::uint64_t slots = mask_ < piece ? mask_ + 1 : piece;
  for (std::uint64_t i = 0; i < slots; ++i) {
    LeaseSlot& slot = at(look_at_++);
    const LeaseWord word(slot.word.load(acquire("QUEUE.due")));
    if (word.state() == LeaseState::requeue && is_due(slot)) {
      returned_seen_ = header_->returned.load(relaxed) - 1;
      found = true;
    }
    if (now != 0 && word.state() == LeaseState::leased && expire(slot, now)) found = true;
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
    const LeaseSlot& slot = at(i);
    const LeaseWord word(slot.word.load(relaxed));
    switch (word.state()) {
      case LeaseState::free:
        break;
      case LeaseState::filling:
      case LeaseState::abandoned:
        ++counts.filling;
        break;
      case LeaseState::queued:
      case LeaseState::requeue:
        ++counts.waiting;
        counts.retried += word.grant() > 0 ? 1 : 0;
        if (has_notes_) {
          const auto pushed = static_cast<std::int64_t>(note(slot).pushed_at.load(relaxed));
          if (counts.oldest_ns == 0 || pushed < counts.oldest_ns) counts.oldest_ns = pushed;
        }
        break;
      case LeaseState::leased:
      case LeaseState::ending:
        ++counts.leased;
        counts.retried += word.grant() > 1 ? 1 : 0;
        break;
      case LeaseState::dead:
        ++counts.dead;
        break;
    }
  }
  return counts;
}

std::vector<LeaseReport> LeaseRing::dead_letters() const {
  std::vector<LeaseReport> reports;
  for (std::uint64_t i = 0; i <= mask_; ++i) {
    const LeaseSlot& slot = at(i);
    const LeaseWord word(slot.word.load(acquire("QUEUE.lease")));
    if (word.state() != LeaseState::dead || !has_notes_) continue;
    const LeaseNote& its = note(slot);
    const std::uint64_t tries = word.owner() ? word.not_leased().grant() : word.grant();
    LeaseReport report{slot.ticket.load(relaxed), tries, its.worker.load(relaxed), {}};
    if (its.reason_grant.load(relaxed) == tries) {
      std::array<char, LeaseNote::reason_bytes + 1> text{};
      copy_out(text.data(), its.reason, LeaseNote::reason_bytes);
      report.reason = text.data();
    }
    fence(acquire("QUEUE.report"));  // QUEUE-8: what follows is seen changed, if that was
    if (slot.word.load(relaxed) == word.bits()) reports.push_back(std::move(report));
  }
  return reports;
}

bool LeaseRing::is_dead(std::uint64_t ticket) const noexcept {
  const LeaseSlot& slot = at(ticket);
  const LeaseWord word(slot.word.load(acquire("QUEUE.lease")));
  return word.state() == LeaseState::dead && slot.ticket.load(relaxed) == ticket;
}

// Behind the acquire the slot's ticket is no older than that of the task, which was written before the
// push ended: another one is later.
bool LeaseRing::has_ended(std::uint64_t ticket) const noexcept {
  const LeaseSlot& slot = at(ticket);
  const LeaseWord word(slot.word.load(acquire("QUEUE.lease")));
  if (slot.ticket.load(relaxed) != ticket) return true;
  // Whose producer has not written its ticket yet, and may have stopped: its id is not given out.
  const bool unwritten =
      word.state() == LeaseState::filling || word.state() == LeaseState::abandoned;
  const bool refilled = unwritten && word.ahead_of(cycle_of(ticket)) > 0;
  return word.state() == LeaseState::free || refilled;
}

bool LeaseRing::knows(std::uint64_t ticket) const noexcept {
  if (ticket >> shift_ > LeaseWord::cycle_mask) return false;  // tickets wrap where their cycles do
  const LeaseWord word(at(ticket).word.load(relaxed));
  const std::int64_t ahead = word.ahead_of(cycle_of(ticket));
  return ahead > 0 || (ahead == 0 &&
                       (word.state() == LeaseState::filling || word.state() == LeaseState::queued));
}

void LeaseRing::repair(std::span<std::byte> memory, const Dead& dead) noexcept {
  const auto shape = LeaseRingShape::of(memory);
  if (!shape) return;
  auto& header = *reinterpret_cast<LeaseRingHeader*>(memory.data());
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
        case LeaseState::ending:
          next = word.as(after_loss(word, shape->max_tries), nobody);
          break;
        case LeaseState::dead:
          next = word.as(LeaseState::dead, nobody);
          break;
        default:
          break;  // damaged: these have no owner
      }
      if (next == word) break;
      if (!dead.still()) return;  // a newcomer: others have finished a whole pass
      std::uint64_t expected = word.bits();
      // -> QUEUE.claim, QUEUE.lease: what the dead wrote and read comes before the slot's next owner.
      if (slot.word.compare_exchange(expected, next.bits(), release("QUEUE.repair"))) {
        header.recovered.fetch_add(1, relaxed);
        const bool is_new = word.state() != LeaseState::dead;
        if (is_new && next.state() == LeaseState::dead) header.died.fetch_add(1, relaxed);
        break;
      }
    }
  }
  // Whatever was found: the dead may have returned a task and not told, or changed and not woken.
  header.returned.fetch_add(1, release("QUEUE.returned"));
  header.not_empty.wake_regardless();
  header.not_full.wake_regardless();
}

}  // namespace heddle
