// What collectives do with the data: fill one's own exchange area, drain all.

#include <algorithm>

#include "heddle/base/clock.hpp"
#include "heddle/base/copy.hpp"
#include "heddle/sync/collective.hpp"

namespace heddle {
namespace {

const std::byte* at(const void* base, std::size_t bytes) {
  return static_cast<const std::byte*>(base) + bytes;
}
std::byte* at(void* base, std::size_t bytes) { return static_cast<std::byte*>(base) + bytes; }

// Not by memcpy: glibc's has `rep movsb`, which is several times slower where memory is not aligned.
void copy_bytes(void* to, const void* from, std::size_t bytes) {
  if (to != from) copy_plain(to, from, bytes);
}

constexpr std::size_t block = 8192;  // stays in the first cache until it is copied, too

}  // namespace

std::byte* Group::Member::area(std::uint32_t rank, std::uint64_t chunk) const noexcept {
  const Cells& cells = group_.cells_;
  std::byte* const its = group_.exchange_ + ranks_[rank] * group_.exchange_bytes_;
  switch (store_) {
    case Store::tiny:
      return place_of(rank).calls[called_ & 1].tiny;
    case Store::small:
      return its + (called_ & 1) * cells.small;
    case Store::ring:
      break;
  }
  return its + 2 * cells.small + chunk % cells.count * cells.large;
}

Group::Member::Piece Group::Member::piece(std::uint64_t chunk) const noexcept {
  const std::uint64_t number = plan_ == Plan::whole ? 0 : chunk - first_ - 1;
  const std::size_t from = std::min(number * chunk_, longest_);
  return {from, std::min(chunk_, longest_ - from)};
}

// What one rank reduces of a piece: whole cache lines.
Group::Member::Piece Group::Member::stripe(std::size_t count, std::uint32_t rank) const noexcept {
  const std::size_t unit = 64 / element_;
  const std::size_t units = (count + unit - 1) / unit;
  const std::size_t begin = std::min(count, units * rank / size_ * unit);
  return {begin, std::min(count, units * (rank + 1) / size_ * unit) - begin};
}

// Into our own area. Lines that another core has read must be taken from it before they are written.
// Between cores that are far from each other this takes ten times as long as to write around the caches,
// between near ones half as long. Nobody can ask the machine which they are: the time tells.
void Group::Member::put(std::byte* mine, const void* from, std::size_t bytes) noexcept {
  constexpr std::size_t measurable = 16384;
  constexpr std::int64_t slow = 4;  // bytes a nanosecond
  if (bytes < measurable) {
    copy_bytes(mine, from, bytes);
  } else if (streamed_ != 0) {
    --streamed_;
    copy_streamed(mine, from, bytes);
  } else {
    const std::int64_t begin = monotonic_ns();
    copy_bytes(mine, from, bytes);
    if (slow * (monotonic_ns() - begin) > static_cast<std::int64_t>(bytes)) streamed_ = 63;
  }
}

void Group::Member::fill(std::uint64_t chunk) noexcept {
  std::byte* const mine = area(rank_, chunk);
  const Piece now = piece(chunk);
  const std::size_t size = now.count * element_;
  const std::size_t from = now.at * element_;
  const bool is_root = rank_ == call_.root;
  switch (call_.what) {
    case Collective::refused:
    case Collective::barrier:
      return;
    case Collective::broadcast:
      if (is_root) put(mine, at(call_.in, from), size);
      return;
    case Collective::reduce:
    case Collective::gather:  // the root has its own
      if (!is_root) put(mine, at(call_.in, from), size);
      return;
    case Collective::all_gather_v: {
      const std::size_t left = call_.count - std::min(call_.count, now.at);
      put(mine, at(call_.in, std::min(now.at, call_.count)), std::min(left, now.count));
      return;
    }
    case Collective::scatter:
      if (!is_root) return;
      [[fallthrough]];
    case Collective::all_to_all:
    case Collective::reduce_scatter:
      for (std::uint32_t q = 0; q < size_; ++q) {
        if (q == rank_) continue;
        put(mine + q * chunk_ * element_, at(call_.in, q * call_.count * element_ + from), size);
      }
      return;
    case Collective::allreduce:
      if (plan_ == Plan::striped) {
        const Piece ours = stripe(now.count, rank_);
        const std::size_t begin = ours.at * element_;
        const std::size_t end = begin + ours.count * element_;
        put(mine, at(call_.in, from), begin);
        put(mine + end, at(call_.in, from + end), size - end);
        return;
      }
      [[fallthrough]];
    case Collective::all_gather:
      put(mine, at(call_.in, from), size);
      return;
  }
}

// Of what every rank brings, its own is taken from where it came from.
void Group::Member::drain(std::uint64_t chunk) noexcept {
  const Piece now = piece(chunk);
  const std::size_t size = now.count * element_;
  const std::size_t to = now.at * element_;
  const std::size_t part = call_.count * element_;  // from one part to the next, in `in` or `out`
  const bool is_root = rank_ == call_.root;
  std::array<const void*, most_members> areas;
  const auto look_at = [&](std::size_t within, std::size_t ours) {
    for (std::uint32_t q = 0; q < size_; ++q) {
      areas[q] = q == rank_ ? at(call_.in, ours + to) : area(q, chunk) + within;
    }
    return std::span<const void* const>(areas.data(), size_);
  };
  switch (call_.what) {
    case Collective::refused:
    case Collective::barrier:
      return;
    case Collective::broadcast:
      if (!is_root) copy_bytes(at(call_.out, to), area(call_.root, chunk), size);
      return;
    case Collective::scatter: {
      const std::byte* const its = is_root ? at(call_.in, rank_ * part + to)
                                           : area(call_.root, chunk) + rank_ * chunk_ * element_;
      copy_bytes(at(call_.out, to), its, size);
      return;
    }
    case Collective::all_to_all: {
      const auto all = look_at(rank_ * chunk_ * element_, rank_ * part);
      for (std::uint32_t q = 0; q < size_; ++q) {
        copy_bytes(at(call_.out, q * part + to), all[q], size);
      }
      return;
    }
    case Collective::gather:
      if (!is_root) return;
      [[fallthrough]];
    case Collective::all_gather: {
      const auto all = look_at(0, 0);
      for (std::uint32_t q = 0; q < size_; ++q) {
        copy_bytes(at(call_.out, q * part + to), all[q], size);
      }
      return;
    }
    case Collective::all_gather_v: {
      if (result_.status == Status::invalid) return;
      std::size_t begin = 0;
      for (std::uint32_t q = 0; q < size_; ++q) {
        const std::size_t from = std::min(now.at, counts_[q]);
        copy_bytes(at(call_.out, begin + from), area(q, chunk),
                   std::min(counts_[q] - from, now.count));
        begin += counts_[q];
      }
      return;
    }
    case Collective::reduce_scatter:
      heddle::reduce(call_.type, call_.reduction, at(call_.out, to),
                     look_at(rank_ * chunk_ * element_, rank_ * part), now.count);
      return;
    case Collective::reduce:
      if (!is_root) return;
      [[fallthrough]];
    case Collective::allreduce:
      heddle::reduce(call_.type, call_.reduction, at(call_.out, to), look_at(0, 0), now.count);
      return;
  }
}

// Our stripe of all, into our own buffer, and block by block from the cache into our own area.
void Group::Member::reduce_stripe(std::uint64_t chunk) noexcept {
  const Piece now = piece(chunk);
  const Piece ours = stripe(now.count, rank_);
  std::array<const void*, most_members> inputs;
  for (std::size_t done = 0; done < ours.count * element_; done += block) {
    const std::size_t size = std::min(block, ours.count * element_ - done);
    const std::size_t from = ours.at * element_ + done;
    for (std::uint32_t q = 0; q < size_; ++q) {
      inputs[q] = q == rank_ ? at(call_.in, now.at * element_ + from) : area(q, chunk) + from;
    }
    std::byte* const out = at(call_.out, now.at * element_ + from);
    heddle::reduce(call_.type, call_.reduction, out, std::span(inputs.data(), size_),
                   size / element_);
    (streamed_ != 0 && size == block ? copy_streamed : copy_plain)(area(rank_, chunk) + from, out,
                                                                   size);
  }
}

void Group::Member::gather_stripes(std::uint64_t chunk) noexcept {
  const Piece now = piece(chunk);
  for (std::uint32_t q = 0; q < size_; ++q) {
    if (q == rank_) continue;
    const Piece theirs = stripe(now.count, q);
    copy_bytes(at(call_.out, (now.at + theirs.at) * element_),
               area(q, chunk) + theirs.at * element_, theirs.count * element_);
  }
}

// All buffers are what their owners have called with.
void Group::Member::use_shared() noexcept {
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
  const Piece ours = stripe(call_.count, rank_);
  std::array<const void*, most_members> inputs;
  const std::size_t end = (ours.at + ours.count) * element_;
  for (std::size_t from = ours.at * element_; from < end; from += block) {
    const std::size_t size = std::min(block, end - from);
    for (std::uint32_t q = 0; q < size_; ++q) inputs[q] = shared_[q] + from;
    std::byte* const out = shared_[rank_] + from;
    heddle::reduce(call_.type, call_.reduction, out, std::span(inputs.data(), size_),
                   size / element_);
    for (std::uint32_t q = 0; q < size_; ++q) copy_bytes(shared_[q] + from, out, size);
  }
}

}  // namespace heddle
