#include "heddle/sync/queue_core.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "heddle/shm/layout.hpp"

namespace heddle {
namespace {

std::span<std::byte> lane_of(std::span<std::byte> memory, const QueueShape& shape,
                             std::uint32_t lane) {
  return memory.subspan(lane * shape.lane_bytes(), shape.ring.bytes());
}

std::size_t table_at(const QueueShape& shape) {
  return (shape.ring.bytes() + cache_line - 1) / cache_line * cache_line;
}

}  // namespace

std::size_t QueueShape::lane_bytes() const noexcept {
  const std::size_t end = table_at(*this) + ResultTable::bytes(results, result_bytes);
  return (end + cache_line - 1) / cache_line * cache_line;
}

bool QueueShape::valid() const noexcept {
  return ring.valid() && lanes >= 1 && lanes <= most_lanes && result_bytes <= most_result &&
         (results == 0 ? result_bytes == 0
                       : std::has_single_bit(results) && results <= LeaseRingShape::most_capacity);
}

void QueueShape::check() const {
  const auto refuse = [](const std::string& what) {
    throw Error(Errc::invalid_argument, "task queue: " + what);
  };
  const auto power = [&](const char* what, std::uint32_t value, std::uint32_t least) {
    if (std::has_single_bit(value) && value >= least && value <= LeaseRingShape::most_capacity)
      return;
    refuse(std::string("the ") + what + " must be a power of two from " + std::to_string(least) +
           " to " + std::to_string(LeaseRingShape::most_capacity) + ", not " +
           std::to_string(value));
  };
  const auto at_most = [&](const char* what, std::uint64_t value, std::uint64_t most) {
    if (value <= most) return;
    refuse(std::string(what) + " is at most " + std::to_string(most) + ", not " +
           std::to_string(value));
  };
  power("capacity", ring.capacity, LeaseRingShape::least_capacity);
  at_most("payload_bytes", ring.payload_bytes, LeaseRingShape::most_payload);
  at_most("max_tries", ring.max_tries, LeaseRingShape::most_tries);
  at_most("lease_timeout", ring.lease_timeout_ms, LeaseRingShape::most_timeout_ms);
  if (lanes == 0) refuse("it has at least one lane");
  at_most("lanes", lanes, most_lanes);
  at_most("result_bytes", result_bytes, most_result);
  if (results != 0) power("number of results", results, 1);
  if (!valid()) refuse("these options do not go together");
}

std::optional<QueueShape> QueueShape::of(std::span<const std::byte> memory) noexcept {
  const auto ring = LeaseRingShape::of(memory);
  if (!ring) return std::nullopt;
  const auto& header = *reinterpret_cast<const LeaseRingHeader*>(memory.data());
  const QueueShape shape{*ring, header.lanes, header.results, header.result_bytes};
  if (!shape.valid() || shape.bytes() > memory.size()) return std::nullopt;
  return shape;
}

void QueueCore::format(std::span<std::byte> memory, const QueueShape& shape) noexcept {
  for (std::uint32_t lane = 0; lane < shape.lanes; ++lane) {
    const auto its = lane_of(memory, shape, lane);
    LeaseRing::format(its, shape.ring);
    auto& header = *reinterpret_cast<LeaseRingHeader*>(its.data());
    header.lanes = shape.lanes;
    header.results = shape.results;
    header.result_bytes = shape.result_bytes;
  }
}

QueueCore::QueueCore(std::span<std::byte> memory, const QueueShape& shape, Peers& peers)
    : memory_(memory), shape_(shape), peers_(&peers) {
  rings_.reserve(shape.lanes);
  for (std::uint32_t lane = 0; lane < shape.lanes; ++lane) {
    Event* const first = lane == 0 ? nullptr : &rings_[0].header().not_empty;
    rings_.emplace_back(lane_of(memory, shape, lane), shape.ring, peers, first);
  }
}

ResultTable QueueCore::table_of(std::span<std::byte> memory, const QueueShape& shape,
                                std::uint32_t lane) noexcept {
  const auto ticket_bits =
      static_cast<unsigned>(40 + std::countr_zero(shape.ring.capacity));  // as their cycles
  return {memory.data() + lane * shape.lane_bytes() + table_at(shape), shape.results,
          shape.result_bytes, ticket_bits,
          reinterpret_cast<LeaseRingHeader*>(memory.data())->results_expired};
}

void QueueCore::wait_strategy(WaitStrategy strategy) noexcept {
  strategy_ = strategy;
  for (LeaseRing& ring : rings_) ring.wait_strategy(strategy);
}

void QueueCore::date(const LeaseRing::Reservation& slot, std::chrono::nanoseconds delay) noexcept {
  const std::int64_t now = monotonic_ns();
  slot.date(now, due_after(delay, now));
}

Status QueueCore::try_lease_from_lanes(LeaseRing::Lease& out, std::uint32_t& lane) noexcept {
  if (!peers_->present()) return Status::closed;
  bool all_closed = true;
  std::array<std::uint32_t, QueueShape::most_lanes> phases{};
  for (lane = 0; lane < shape_.lanes; ++lane) {
    const Status got = rings_[lane].try_lease(out);
    if (got == Status::ready) return got;
    all_closed = all_closed && got == Status::closed;
    if (got == Status::closed) phases[lane] = rings_[lane].phase();
  }
  if (!all_closed) return Status::empty;
  // QUEUE-5: each was drained when it was looked at. If none was opened since, all were at once.
  for (std::uint32_t i = 0; i < shape_.lanes; ++i) {
    const bool was_drained = lease_phase(phases[i]) == LeasePhase::drained;
    if (!was_drained || !rings_[i].is_still_in(phases[i])) return Status::empty;
  }
  return Status::closed;
}

Status QueueCore::lease_from_lanes(LeaseRing::Lease& out, std::uint32_t& lane,
                                   Deadline deadline) noexcept {
  Status got = Status::empty;
  const auto find = [&] { return (got = try_lease_from_lanes(out, lane)) != Status::empty; };
  const auto look = [&] {
    for (LeaseRing& ring : rings_) ring.recover_when_idle();
    return Status::ready;
  };
  const Status waited = wait_for(rings_[0].header().not_empty, deadline, strategy_, find, look);
  return waited == Status::ready ? got : waited;
}

Status QueueCore::complete_with(const LeaseRing::Lease& task, ResultTable& results,
                                std::span<const std::byte> result) noexcept {
  if (result.size() > results.result_bytes()) return Status::invalid;
  if (const Status got = task.begin_ending(); got != Status::ready) return got;
  results.put(task.ticket(), task.tries(), task.owner(), result);
  return task.end_done();
}

Status QueueCore::result(TaskId id, std::span<std::byte> result, std::size_t& length,
                         Deadline deadline) noexcept {
  const std::uint64_t ticket = id / shape_.lanes;
  LeaseRing& ring = ring_of(id);
  if (!keeps_results() || !ring.knows(ticket)) return Status::invalid;
  ResultTable table = results_of(static_cast<std::uint32_t>(id % shape_.lanes));
  Status got = Status::empty;
  const auto find = [&] {
    got = table.get(ticket, result, length);
    if (got != Status::empty) return true;
    if (ring.is_dead(ticket)) {
      got = Status::failed;
    } else if (ring.has_ended(ticket)) {  // so its result is there, or was given up: RESULT-3
      got = table.get(ticket, result, length);
      if (got == Status::empty) got = Status::expired;
    }
    return got != Status::empty;
  };
  const auto look = [&] {
    if (peers_->present()) ring.recover_when_idle();
    return Status::ready;
  };
  const bool observes = peers_->observes();
  if (!observes && !peers_->present()) return Status::closed;
  const Status waited = wait_for(table.event(ticket), deadline, strategy_, find, look, nullptr,
                                 observes ? Sleeps::unseen : Sleeps::announced);
  if (waited != Status::ready) return waited;
  if (got == Status::ready && !observes) table.mark_read(ticket);
  return got;
}

// Both come to the first lane last, by which is_closed goes: who dies in between has not yet done it.

Status QueueCore::close() noexcept {
  for (std::size_t lane = rings_.size(); lane-- > 0;) {
    if (const Status got = rings_[lane].close(); got != Status::ready) return got;
  }
  return Status::ready;
}

Status QueueCore::reopen() noexcept {
  for (std::size_t lane = rings_.size(); lane-- > 0;) {
    if (const Status got = rings_[lane].reopen(); got != Status::ready) return got;
  }
  return Status::ready;
}

LeaseCounts QueueCore::count() const noexcept {
  LeaseCounts sum;
  for (const LeaseRing& ring : rings_) {
    const LeaseCounts its = ring.count();
    sum.filling += its.filling;
    sum.waiting += its.waiting;
    sum.leased += its.leased;
    sum.dead += its.dead;
    sum.retried += its.retried;
    if (sum.oldest_ns == 0 || (its.oldest_ns != 0 && its.oldest_ns < sum.oldest_ns)) {
      sum.oldest_ns = its.oldest_ns;
    }
  }
  return sum;
}

QueueStats QueueCore::stats() const noexcept {
  QueueStats stats;
  stats.now = count();
  stats.closed = is_closed();
  for (const LeaseRing& ring : rings_) {
    const LeaseRingHeader& header = ring.header();
    stats.pushed += header.tail.load(relaxed);
    stats.popped += header.head.load(relaxed);
    stats.capacity += ring.capacity();
    stats.abandoned += header.abandoned.load(relaxed);
    stats.skipped += header.skipped.load(relaxed);
    stats.recovered += header.recovered.load(relaxed);
    stats.expired += header.expired.load(relaxed);
    stats.died += header.died.load(relaxed);
    stats.results_expired += header.results_expired.load(relaxed);
  }
  return stats;
}

std::vector<DeadLetter> QueueCore::dead_letters() const {
  std::vector<DeadLetter> letters;
  for (std::uint32_t lane = 0; lane < shape_.lanes; ++lane) {
    for (LeaseReport& its : rings_[lane].dead_letters()) {
      letters.push_back({id(its.ticket, lane), its.tries, its.worker, std::move(its.reason)});
    }
  }
  return letters;
}

Status QueueCore::retry(TaskId id) noexcept {
  LeaseRing::Lease letter;
  const Status got = ring_of(id).hold_letter(letter, id / shape_.lanes);
  if (got != Status::ready) return got;
  // QUEUE-5: after the hold, which a drainer's look at its word has fed.
  if (ring_of(id).is_closed()) {
    static_cast<void>(letter.put_back_letter());
    return Status::closed;
  }
  return letter.retry_letter();
}

Status QueueCore::drop(TaskId id) noexcept {
  LeaseRing::Lease letter;
  const Status got = ring_of(id).hold_letter(letter, id / shape_.lanes);
  if (got != Status::ready) return got;
  if (keeps_results()) {
    ResultTable table = results_of(static_cast<std::uint32_t>(id % shape_.lanes));
    table.fail(letter.ticket(), letter.tries(), letter.owner());
  }
  return letter.drop_letter();
}

void QueueCore::repair(std::span<std::byte> memory, const Dead& dead) noexcept {
  const auto shape = QueueShape::of(memory);
  if (!shape) return;
  // The first lane last: its repair wakes the consumers of all.
  for (std::uint32_t lane = shape->lanes; lane-- > 0;) {
    if (shape->results != 0) table_of(memory, *shape, lane).repair(dead);
    LeaseRing::repair(lane_of(memory, *shape, lane), dead);
  }
}

}  // namespace heddle
