#pragma once

// What one rank of "heddle bench collective" brings to a call, the call itself, and what must come of it.

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>

#include "collective_check.hpp"
#include "collective_plan.hpp"
#include "heddle/base/error.hpp"
#include "heddle/shm/layout.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"

namespace heddle {

struct PeerDied {};

/// Throws PeerDied, or Error that says how it ended.
inline void require(const GroupOutcome& outcome, std::string_view what) {
  if (outcome) return;
  if (outcome.status == Status::peer_died) throw PeerDied{};
  throw Error(Errc::system, fmt::format("{} answered \"{}\"", what, to_string(outcome.status)));
}

/// Memory of this rank's own, aligned to pages as a SharedBuffer is.
template <class T>
class PageBuffer {
 public:
  explicit PageBuffer(std::size_t count)
      : count_(count), memory_(std::aligned_alloc(page_bytes, pages(count * sizeof(T)))) {
    if (memory_ == nullptr) throw Error(Errc::no_space, "there is no memory for a buffer");
  }
  std::span<T> span() const { return {static_cast<T*>(memory_.get()), count_}; }

 private:
  static std::size_t pages(std::size_t bytes) { return (bytes / page_bytes + 1) * page_bytes; }
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::size_t count_;
  std::unique_ptr<void, Free> memory_;
};

/// Its buffers are there for the largest size.
template <Number T>
class CollectiveExchange {
 public:
  CollectiveExchange(const CollectivePlan& plan, Segment& segment, Group::Member& member)
      : plan_(plan),
        member_(member),
        most_(buffers_of(plan, member.rank(), plan.max_bytes / sizeof(T))),
        own_in_(plan.its_own ? most_.in : 0),
        own_out_(plan.its_own ? most_.out : 0),
        numbers_(plan.ranks, buffers_of(plan, bench_root, plan.max_bytes / sizeof(T)).longest()) {
    if (!plan.shared) return;
    const std::uint32_t rank = member.rank();
    if (most_.in != 0) shared_in_ = segment.find<SharedBuffer<T>>(in_buffer_name(rank)).span();
    if (most_.out != 0) shared_out_ = segment.find<SharedBuffer<T>>(out_buffer_name(rank)).span();
  }

  /// From here on.
  void choose(const CollectiveRow& row) {
    const CollectiveBuffers now = buffers_of(plan_, member_.rank(), row.count);
    const bool is_shared = row.memory == BenchMemory::shared;
    in_ = (is_shared ? shared_in_ : own_in_.span()).first(now.in);
    out_ = (is_shared ? shared_out_ : own_out_.span()).first(now.out);
    count_ = row.count;
  }

  /// Other numbers each time. What the call must bring has every bit set until then.
  void fill() {
    numbers_.draw(++fillings_);
    const std::uint32_t rank = member_.rank();
    if (plan_.what == Collective::all_gather) {
      std::ranges::fill(std::as_writable_bytes(out_), std::byte{0xff});
      return numbers_.fill(out_.subspan(rank * count_, count_), rank, 0);
    }
    if (plan_.what == Collective::allreduce ||
        (plan_.what == Collective::broadcast && rank == bench_root)) {
      return numbers_.fill(out_, rank, 0);
    }
    numbers_.fill(in_, rank, 0);
    std::ranges::fill(std::as_writable_bytes(out_), std::byte{0xff});
  }

  /// Throws PeerDied, Error.
  void call() {
    const std::span<const T> in = in_;
    const auto done = [&] {
      switch (plan_.what) {
        case Collective::allreduce:
          return member_.allreduce(out_, plan_.reduction);
        case Collective::reduce:
          return member_.reduce(in, out_, bench_root, plan_.reduction);
        case Collective::reduce_scatter:
          return member_.reduce_scatter(in, out_, plan_.reduction);
        case Collective::all_gather:
          return member_.all_gather(
              std::span<const T>(out_.subspan(member_.rank() * count_, count_)), out_);
        case Collective::gather:
          return member_.gather(in, out_, bench_root);
        case Collective::scatter:
          return member_.scatter(in, out_, bench_root);
        case Collective::broadcast:
          return member_.broadcast(out_, bench_root);
        case Collective::all_to_all:
          return member_.all_to_all(in, out_);
        default:
          return member_.barrier();
      }
    }();
    require(done, name_of(plan_.what));
  }

  /// After so many calls since fill(). Throws Error at the first element that is wrong.
  void check(std::uint64_t calls) {
    const std::uint32_t rank = member_.rank();
    if (reduces(plan_.what)) {
      const bool in_place = plan_.what == Collective::allreduce;
      numbers_.reduce(plan_.reduction, in_place ? calls : 1);
      const std::size_t from = plan_.what == Collective::reduce_scatter ? rank * count_ : 0;
      expect(0, out_.size(), [&](auto got) { return numbers_.compare_reduced(got, from); });
      return;
    }
    if (plan_.what == Collective::broadcast || plan_.what == Collective::scatter) {
      const std::size_t from = plan_.what == Collective::scatter ? rank * count_ : 0;
      expect(0, out_.size(), [&](auto got) { return numbers_.compare(got, bench_root, from); });
      return;
    }
    const std::size_t from = plan_.what == Collective::all_to_all ? rank * count_ : 0;
    for (std::size_t q = 0; q * count_ < out_.size(); ++q) {
      expect(q * count_, count_, [&](auto got) { return numbers_.compare(got, q, from); });
    }
  }

  /// Elements, from the beginning on.
  std::uint64_t compared() const { return compared_; }

 private:
  template <class Compare>
  void expect(std::size_t at, std::size_t count, Compare&& compare) {
    const std::span<const T> got = out_.subspan(at, count);
    compared_ += count;
    const auto wrong = compare(got);
    if (!wrong) return;
    const auto readable = [](T number) {
      if constexpr (sizeof(T) == 2) {
        return static_cast<float>(number);
      } else {
        return number;
      }
    };
    throw Error(Errc::system,
                fmt::format("element {} of {} is {}, not {}", at + wrong->at, out_.size(),
                            readable(got[wrong->at]), readable(wrong->expected)));
  }

  const CollectivePlan& plan_;
  Group::Member& member_;
  const CollectiveBuffers most_;
  PageBuffer<T> own_in_;
  PageBuffer<T> own_out_;
  std::span<T> shared_in_;
  std::span<T> shared_out_;
  CollectiveNumbers<T> numbers_;
  std::uint64_t fillings_ = 0;
  std::uint64_t compared_ = 0;

  // Of the present row.
  std::size_t count_ = 0;
  std::span<T> in_;
  std::span<T> out_;
};

}  // namespace heddle
