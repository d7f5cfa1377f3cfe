#include "heddle/sync/collective.hpp"

#include <algorithm>

#include "heddle/base/copy.hpp"

namespace heddle {
namespace {

constexpr std::size_t most_bytes = std::size_t{1} << 44;        // of all parts together
constexpr std::size_t most_chunk_bytes = std::size_t{1} << 18;  // two of each rank fit into a cache

const std::byte* at(const void* base, std::size_t bytes) {
  return static_cast<const std::byte*>(base) + bytes;
}
std::byte* at(void* base, std::size_t bytes) { return static_cast<std::byte*>(base) + bytes; }

// Not by memcpy: glibc's has `rep movsb`, which is several times slower where memory is not aligned.
void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (to != from) copy_plain(to, from, bytes);
}

bool has_root(Collective what) {
  return what == Collective::reduce || what == Collective::gather || what == Collective::scatter ||
         what == Collective::broadcast;
}

// Whether an area is divided among the ranks.
bool has_parts(Collective what) {
  return what == Collective::reduce_scatter || what == Collective::scatter ||
         what == Collective::all_to_all;
}

bool can_be_shared(Collective what) {
  return what == Collective::allreduce || what == Collective::broadcast ||
         what == Collective::all_gather;
}

}  // namespace

// {collective:8, reduction:8, type:8, root:16, shared:1}
static std::uint64_t pack_call(const CollectiveCall& call) {
  return static_cast<std::uint64_t>(call.what) | static_cast<std::uint64_t>(call.reduction) << 8 |
         static_cast<std::uint64_t>(call.type) << 16 | std::uint64_t{call.root} << 24;
}
static constexpr std::uint64_t shared_bit = std::uint64_t{1} << 40;

bool Group::Member::is_valid(const CollectiveCall& call) const noexcept {
  const bool reduces = call.what == Collective::allreduce || call.what == Collective::reduce ||
                       call.what == Collective::reduce_scatter;
  return (!has_root(call.what) || call.root < size_) &&
         (!reduces || call.type != NumberType::bytes) && call.count <= most_bytes / size_;
}

std::size_t Group::Member::bytes_of_all() const noexcept {
  return call_.count * element_ * (call_.what == Collective::all_gather ? size_ : 1);
}

bool Group::Member::is_small() const noexcept {
  return call_.what != Collective::all_gather_v && longest_ <= chunk_ &&
         longest_ * element_ * (has_parts(call_.what) ? size_ : 1) <= small_bytes;
}

std::byte* Group::Member::area(std::uint32_t rank) const noexcept {
  const std::size_t half = group_.exchange_bytes_ / 2;
  return group_.exchange_ + ranks_[rank] * group_.exchange_bytes_ + (chunks_ & 1) * half;
}

GroupOutcome Group::Member::start(const CollectiveCall& call) noexcept {
  if (!is_member()) return {Status::closed};
  if (active_) return {Status::busy};
  if (is_broken()) return stop();
  call_ = call;
  const bool valid = call.what != Collective::refused && is_valid(call);
  if (!valid) call_ = {.what = Collective::refused};
  element_ = size_of(call_.type);
  longest_ = call_.count;
  const std::size_t parts = has_parts(call_.what) ? size_ : 1;
  const std::size_t part_bytes =
      std::min(group_.exchange_bytes_ / 2, most_chunk_bytes) / parts / 64 * 64;
  chunk_ = part_bytes / element_;
  plan_ = is_small() ? Plan::whole : Plan::unknown;
  round_ = 0;
  rounds_ = 1;
  ++chunks_;
  active_ = true;
  announce();
  if (plan_ == Plan::whole) fill();
  arrive();
  return {Status::ready};
}

// What the others compare in the first round: COLL-3.
void Group::Member::announce() noexcept {
  Call& its = group_.places_[place_].calls[calls_++ & 1];
  std::uint64_t what = pack_call(call_);
  const auto segment = group_.peers_->mapping();
  const std::size_t bytes = bytes_of_all();
  const auto* buffer = static_cast<const std::byte*>(call_.out);
  if (plan_ == Plan::unknown && can_be_shared(call_.what) && !segment.empty() &&
      buffer >= segment.data() && buffer + bytes <= segment.data() + segment.size() &&
      call_.in ==
          buffer + (call_.what == Collective::all_gather ? rank_ * call_.count * element_ : 0)) {
    what |= shared_bit;
    its.offset.store(static_cast<std::uint64_t>(buffer - segment.data()), relaxed);
  }
  its.what.store(what, relaxed);
  its.count.store(call_.count, relaxed);
}

// Whether all have called the same; then it is clear how to do it.
bool Group::Member::agree() noexcept {
  const std::uint64_t parity = (calls_ - 1) & 1;
  const std::uint64_t mine = pack_call(call_);
  const auto segment = group_.peers_->mapping();
  bool all_shared = plan_ == Plan::unknown;
  for (std::uint32_t rank = 0; rank < size_; ++rank) {
    const Call& its = place_of(rank).calls[parity];
    const std::uint64_t what = its.what.load(relaxed);
    counts_[rank] = its.count.load(relaxed);
    if (counts_[rank] > most_bytes / size_) return false;  // rule 9 of shared memory
    if ((what & ~shared_bit) != mine) return false;
    if (call_.what == Collective::all_gather_v) {
      longest_ = std::max(longest_, counts_[rank]);
    } else if (counts_[rank] != call_.count) {
      return false;
    }
    const std::uint64_t offset = its.offset.load(relaxed);
    all_shared = all_shared && (what & shared_bit) != 0;
    if (!all_shared) continue;
    // It is another process's word that the buffer lies there: rule 9.
    if (bytes_of_all() > segment.size() || offset > segment.size() - bytes_of_all()) return false;
    shared_[rank] = segment.data() + offset;
  }
  if (plan_ != Plan::unknown) return true;
  plan_ = all_shared                                         ? Plan::shared
          : call_.what == Collective::allreduce && size_ > 2 ? Plan::striped
                                                             : Plan::staged;
  if (plan_ == Plan::shared) {
    rounds_ = 2;
    return true;
  }
  const std::size_t chunks = (longest_ + chunk_ - 1) / chunk_;
  rounds_ = 1 + chunks * (plan_ == Plan::striped ? 2 : 1);
  return true;
}

// The elements of each part that the present round moves.
Group::Member::Piece Group::Member::piece() const noexcept {
  std::size_t number = 0;
  if (plan_ == Plan::staged) number = round_ - 1;
  if (plan_ == Plan::striped) number = (round_ - 1) / 2;
  const std::size_t from = std::min(number * chunk_, longest_);
  return {from, std::min(chunk_, longest_ - from)};
}

void Group::Member::fill() noexcept {
  if (plan_ == Plan::shared || (plan_ == Plan::striped && round_ % 2 == 0)) return;
  if (round_ != 0) ++chunks_;  // COLL-2
  std::byte* const mine = area(rank_);
  const Piece now = piece();
  const std::size_t size = now.count * element_;
  const std::size_t from = now.at * element_;
  switch (call_.what) {
    case Collective::refused:
    case Collective::barrier:
      return;
    case Collective::broadcast:
      if (rank_ == call_.root) copy_bytes(mine, at(call_.in, from), size);
      return;
    case Collective::all_gather_v: {
      const std::size_t left = call_.count - std::min(call_.count, now.at);
      copy_bytes(mine, at(call_.in, std::min(now.at, call_.count)), std::min(left, now.count));
      return;
    }
    case Collective::scatter:
      if (rank_ != call_.root) return;
      [[fallthrough]];
    case Collective::all_to_all:
    case Collective::reduce_scatter:
      for (std::uint32_t q = 0; q < size_; ++q) {
        copy_bytes(mine + q * chunk_ * element_, at(call_.in, q * call_.count * element_ + from),
                   size);
      }
      return;
    case Collective::allreduce:
    case Collective::reduce:
    case Collective::all_gather:
    case Collective::gather:
      copy_bytes(mine, at(call_.in, from), size);
      return;
  }
}

void Group::Member::drain() noexcept {
  const Piece now = piece();
  const std::size_t size = now.count * element_;
  const std::size_t to = now.at * element_;
  std::array<const void*, most_members> areas;
  for (std::uint32_t q = 0; q < size_; ++q) areas[q] = area(q);
  const std::span all(areas.data(), size_);
  switch (call_.what) {
    case Collective::refused:
    case Collective::barrier:
      return;
    case Collective::broadcast:
      if (rank_ != call_.root) copy_bytes(at(call_.out, to), areas[call_.root], size);
      return;
    case Collective::scatter:
      copy_bytes(at(call_.out, to), at(areas[call_.root], rank_ * chunk_ * element_), size);
      return;
    case Collective::all_to_all:
      for (std::uint32_t q = 0; q < size_; ++q) {
        copy_bytes(at(call_.out, q * call_.count * element_ + to),
                   at(areas[q], rank_ * chunk_ * element_), size);
      }
      return;
    case Collective::gather:
      if (rank_ != call_.root) return;
      [[fallthrough]];
    case Collective::all_gather:
      for (std::uint32_t q = 0; q < size_; ++q) {
        copy_bytes(at(call_.out, q * call_.count * element_ + to), areas[q], size);
      }
      return;
    case Collective::all_gather_v: {
      if (result_.status == Status::invalid) return;
      std::size_t part = 0;
      for (std::uint32_t q = 0; q < size_; ++q) {
        const std::size_t left = counts_[q] - std::min(counts_[q], now.at);
        copy_bytes(at(call_.out, part + std::min(now.at, counts_[q])), areas[q],
                   std::min(left, now.count));
        part += counts_[q];
      }
      return;
    }
    case Collective::reduce_scatter:
      for (const void*& its : all) its = at(its, rank_ * chunk_ * element_);
      heddle::reduce(call_.type, call_.reduction, at(call_.out, to), all, now.count);
      return;
    case Collective::reduce:
      if (rank_ != call_.root) return;
      heddle::reduce(call_.type, call_.reduction, at(call_.out, to), all, now.count);
      return;
    case Collective::allreduce:
      if (plan_ != Plan::striped) {
        heddle::reduce(call_.type, call_.reduction, at(call_.out, to), all, now.count);
        return;
      }
      const auto stripe = [&](std::uint32_t q) {
        const std::size_t unit = 64 / element_;
        const std::size_t units = (now.count + unit - 1) / unit;
        const std::size_t begin = std::min(now.count, units * q / size_ * unit);
        return Piece{begin, std::min(now.count, units * (q + 1) / size_ * unit) - begin};
      };
      if (round_ % 2 == 1) {  // our stripe of all, into our own area
        const Piece ours = stripe(rank_);
        for (const void*& its : all) its = at(its, ours.at * element_);
        heddle::reduce(call_.type, call_.reduction, area(rank_) + ours.at * element_, all,
                       ours.count);
      } else {
        for (std::uint32_t q = 0; q < size_; ++q) {
          const Piece theirs = stripe(q);
          copy_bytes(at(call_.out, to + theirs.at * element_), at(areas[q], theirs.at * element_),
                     theirs.count * element_);
        }
      }
      return;
  }
}

// Round 0: all buffers are what their owners have called with. Round 1: all are done.
void Group::Member::drain_shared() noexcept {
  if (round_ != 0) return;
  switch (call_.what) {
    case Collective::broadcast:
      if (rank_ != call_.root) copy_bytes(call_.out, shared_[call_.root], bytes_of_all());
      return;
    case Collective::all_gather:
      for (std::uint32_t q = 0; q < size_; ++q) {
        const std::size_t part = q * call_.count * element_;
        if (q != rank_) copy_bytes(at(call_.out, part), shared_[q] + part, call_.count * element_);
      }
      return;
    default:
      break;
  }
  // Our stripe, block by block: into our own buffer, and from the cache into the others.
  constexpr std::size_t block = 8192;
  const std::size_t unit = 64 / element_;
  const std::size_t units = (call_.count + unit - 1) / unit;
  const std::size_t end = std::min(call_.count, units * (rank_ + 1) / size_ * unit) * element_;
  std::array<const void*, most_members> inputs;
  for (std::size_t from = units * rank_ / size_ * unit * element_; from < end; from += block) {
    const std::size_t size = std::min(block, end - from);
    for (std::uint32_t q = 0; q < size_; ++q) inputs[q] = shared_[q] + from;
    std::byte* const ours = shared_[rank_] + from;
    heddle::reduce(call_.type, call_.reduction, ours, std::span(inputs.data(), size_),
                   size / element_);
    for (std::uint32_t q = 0; q < size_; ++q) copy_bytes(shared_[q] + from, ours, size);
  }
}

// All have arrived. True when it was the last round.
bool Group::Member::finish_round() noexcept {
  if (round_ == 0) {
    const bool was_unknown = plan_ == Plan::unknown;
    if (!agree()) {
      result_ = {call_.what == Collective::refused ? Status::invalid : Status::mismatch};
      return true;
    }
    result_ = {call_.what == Collective::refused ? Status::invalid : Status::ready};
    if (call_.what == Collective::all_gather_v) {
      std::size_t sum = 0;
      for (std::uint32_t q = 0; q < size_; ++q) {
        call_.counts[q] = counts_[q] / call_.unit;
        sum += counts_[q];
      }
      if (sum > call_.out_count) result_ = {Status::invalid};  // but the others want our part
    }
    if (was_unknown && plan_ != Plan::shared) {
      if (++round_ == rounds_) return true;
      fill();
      arrive();
      return false;
    }
  }
  plan_ == Plan::shared ? drain_shared() : drain();
  if (++round_ == rounds_) return true;
  fill();
  arrive();
  return false;
}

GroupOutcome Group::Member::test() noexcept {
  if (!is_member()) return {Status::closed};
  if (!active_) return {Status::invalid};
  while (all_arrived()) {
    if (finish_round()) return over(result_);
  }
  if (patience_.may_look()) group_.probe(state_);  // perhaps nobody waits
  if (is_broken() && is_lost()) return stop();
  return {Status::empty, missing()};
}

GroupOutcome Group::Member::wait(Deadline deadline) noexcept {
  if (!is_member()) return {Status::closed};
  if (!active_) return {Status::invalid};
  for (;;) {
    bool broken = false;
    const auto passed = [&] { return all_arrived() || (broken = is_broken() && is_lost()); };
    const auto probe = [&] {
      if (patience_.may_look()) group_.probe(state_);
      return Status::ready;
    };
    const Status status =
        wait_for(group_.header_->changed, deadline, strategy_, passed, probe, &patience_);
    if (status != Status::ready) return {status, missing()};
    if (broken) return stop();
    if (finish_round()) return over(result_);
  }
}

}  // namespace heddle
