#pragma once

// Collectives: what the members of a Group do together: each calls the same, in the same order.
//
// Who may call    a Member: one thread at a time
// Progress        blocking, for living members only, to the deadline.  start, test: do what can be done
//                 at once, and do not wait
// How             every collective is a number of rounds: fill one's own exchange area; arrive; when all
//                 have arrived, drain theirs. Buffers that lie in the segment (SharedBuffer), on every
//                 rank, are used where they are: nothing is copied, each rank reduces its stripe of all
//                 of them into all of them
// Small           up to small_bytes from each rank: one round
// Invariants      COLL-1  the result is the same on every rank, in every run, bit by bit: reduce.hpp has
//                         the order, which is that of the ranks
//                 COLL-2  an area's half is filled again only when all have drained it: they have
//                         arrived at a step after that, and the filler has waited for that step
//                 COLL-3  in the first round all ranks read what all ranks have called, so all find the
//                         same: either all go on, or all answer `mismatch`
// Errors          invalid: this rank's arguments cannot work, which it hears when all have come to the call;
//                 the others hear `mismatch`.  mismatch: another collective, reduction, type, root or length on some
//                 rank; nothing was changed.  busy: one that was started is not over
// On death        of a member, at any step: peer_died with its rank, from this call and from all until
//                 rebuild, on every survivor; or ready on all of them, if it had done its part (this one
//                 they know when each of them has come to the call). What a call that ended badly was to
//                 change may be changed in part: keep a copy if it must be done again. Slower survivors may
//                 still write to a shared buffer until rebuild() has returned
// More            docs/collective.md
// After a timeout the call goes on in the next wait(); its buffers must live until then

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "heddle/sync/group.hpp"
#include "heddle/sync/reduce.hpp"

namespace heddle {

/// Stored in shared memory: never renumber.
enum class Collective : std::uint8_t {
  refused = 0,  ///< a rank's arguments could not work
  barrier = 1,
  allreduce = 2,
  reduce = 3,
  reduce_scatter = 4,
  all_gather = 5,
  all_gather_v = 6,
  gather = 7,
  scatter = 8,
  broadcast = 9,
  all_to_all = 10,
};

/// What one rank calls. `in` and `out` may be the same, where that makes sense.
struct CollectiveCall {
  Collective what = Collective::barrier;
  Reduction reduction = Reduction::sum;
  NumberType type = NumberType::bytes;
  std::uint32_t root = 0;
  std::size_t count = 0;  ///< elements: of one rank's part, where parts differ by rank
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t out_count = 0;      ///< all_gather_v: room in `out`
  std::size_t* counts = nullptr;  ///< all_gather_v: each rank's, for its caller
  std::size_t unit = 1;           ///< in these elements
};

/// A member's handle. Leaves when it is destroyed, which breaks the epoch for the others. In a forked
/// child it answers `closed`.
class Group::Member {
 public:
  static constexpr std::size_t small_bytes = std::size_t{1} << 15;

  Member() = default;  ///< of no group: answers `closed`
  Member(const Member&) = delete;
  Member(Member&& other) noexcept { *this = std::move(other); }
  Member& operator=(Member&& other) noexcept;
  ~Member() { leave(); }

  std::uint32_t rank() const noexcept { return rank_; }
  std::uint32_t size() const noexcept { return size_; }
  /// Counts the sets of members, from 1 on, and round after 16,383.
  std::uint64_t epoch() const noexcept { return epoch_of(state_); }

  /// The next epoch: of the members that live, and of those who have joined meanwhile; it begins when
  /// every living member has called this. Ranks keep their order and close up. ready, timeout (call it
  /// again), closed. Whatever was started is over; who waits for the caller in this epoch hears
  /// peer_died.
  GroupOutcome rebuild(Deadline deadline = Deadline::never()) noexcept;
  void leave() noexcept;
  bool is_member() const noexcept { return group_.peers_ != nullptr && group_.peers_->present(); }

  // All ranks pass the same counts, reduction and root.

  GroupOutcome barrier(Deadline deadline = Deadline::never()) noexcept {
    return run({.what = Collective::barrier}, deadline);
  }
  /// data[i] becomes the reduction of all ranks' data[i].
  template <Number T>
  GroupOutcome allreduce(std::span<T> data, Reduction reduction = Reduction::sum,
                         Deadline deadline = Deadline::never()) noexcept {
    return run(allreduce_call(data, reduction), deadline);
  }
  /// The same at the root alone; on the others `out` may be empty.
  template <Number T>
  GroupOutcome reduce(std::span<const T> in, std::span<T> out, std::uint32_t root,
                      Reduction reduction = Reduction::sum,
                      Deadline deadline = Deadline::never()) noexcept {
    if (root == rank_ && out.size() != in.size()) return refuse(deadline);
    return run({.what = Collective::reduce,
                .reduction = reduction,
                .type = number_type<T>(),
                .root = root,
                .count = in.size(),
                .in = in.data(),
                .out = out.data()},
               deadline);
  }
  /// `in` has size() parts as long as `out`; rank r gets the reduction of all parts r.
  template <Number T>
  GroupOutcome reduce_scatter(std::span<const T> in, std::span<T> out,
                              Reduction reduction = Reduction::sum,
                              Deadline deadline = Deadline::never()) noexcept {
    if (in.size() != out.size() * size_) return refuse(deadline);
    return run({.what = Collective::reduce_scatter,
                .reduction = reduction,
                .type = number_type<T>(),
                .count = out.size(),
                .in = in.data(),
                .out = out.data()},
               deadline);
  }
  /// `out` has size() parts as long as `in`: part r becomes that of rank r. In place, when `in` is part
  /// rank() of `out`.
  template <class T>
  GroupOutcome all_gather(std::span<const T> in, std::span<T> out,
                          Deadline deadline = Deadline::never()) noexcept {
    if (out.size() != in.size() * size_) return refuse(deadline);
    return run(bytes_call<T>(Collective::all_gather, 0, in.size(), in.data(), out.data()),
               deadline);
  }
  /// Each rank's part has its own length; `counts` has size() places for them. invalid on a rank whose
  /// `out` is too short for all: nothing is gathered there.
  template <class T>
  GroupOutcome all_gather_v(std::span<const T> in, std::span<T> out, std::span<std::size_t> counts,
                            Deadline deadline = Deadline::never()) noexcept {
    if (counts.size() != size_) return refuse(deadline);
    auto call = bytes_call<T>(Collective::all_gather_v, 0, in.size(), in.data(), out.data());
    call.out_count = out.size_bytes();
    call.counts = counts.data();
    call.unit = sizeof(T);
    for (std::size_t& count : counts) count = 0;
    return run(call, deadline);
  }
  /// The root's `out` has size() parts as long as `in`; on the others it may be empty.
  template <class T>
  GroupOutcome gather(std::span<const T> in, std::span<T> out, std::uint32_t root,
                      Deadline deadline = Deadline::never()) noexcept {
    if (root == rank_ && out.size() != in.size() * size_) return refuse(deadline);
    return run(bytes_call<T>(Collective::gather, root, in.size(), in.data(), out.data()), deadline);
  }
  /// The root's `in` has size() parts as long as `out`; on the others it may be empty.
  template <class T>
  GroupOutcome scatter(std::span<const T> in, std::span<T> out, std::uint32_t root,
                       Deadline deadline = Deadline::never()) noexcept {
    if (root == rank_ && in.size() != out.size() * size_) return refuse(deadline);
    return run(bytes_call<T>(Collective::scatter, root, out.size(), in.data(), out.data()),
               deadline);
  }
  template <class T>
  GroupOutcome broadcast(std::span<T> data, std::uint32_t root,
                         Deadline deadline = Deadline::never()) noexcept {
    return run(bytes_call<T>(Collective::broadcast, root, data.size(), data.data(), data.data()),
               deadline);
  }
  /// Part q of `in` becomes part rank() of rank q's `out`. Not in place.
  template <class T>
  GroupOutcome all_to_all(std::span<const T> in, std::span<T> out,
                          Deadline deadline = Deadline::never()) noexcept {
    if (in.size() != out.size() || in.size() % size_ != 0) return refuse(deadline);
    return run(bytes_call<T>(Collective::all_to_all, 0, in.size() / size_, in.data(), out.data()),
               deadline);
  }

  /// Begins an allreduce, to be gone on with by test() and wait(): one at a time. Its data must live
  /// and be left alone until it is over.
  template <Number T>
  GroupOutcome start_allreduce(std::span<T> data, Reduction reduction = Reduction::sum) noexcept {
    return start(allreduce_call(data, reduction));
  }
  /// The same for any collective; `run` is start and wait.
  GroupOutcome start(const CollectiveCall& call) noexcept;
  /// Does what can be done now. empty: it is not over. Else how it ended, once.
  GroupOutcome test() noexcept;
  GroupOutcome wait(Deadline deadline = Deadline::never()) noexcept;
  GroupOutcome run(const CollectiveCall& call, Deadline deadline) noexcept {
    const GroupOutcome started = start(call);
    return started ? wait(deadline) : started;
  }
  void wait_strategy(WaitStrategy strategy) noexcept { strategy_ = strategy; }

 private:
  friend class Group;
  Member& operator=(const Member&) = default;

  // How the present call is done, which all ranks decide alike.
  enum class Plan : std::uint8_t {
    whole,    ///< one round; all there is goes through the areas
    unknown,  ///< the first round tells
    staged,   ///< chunk by chunk through the areas
    striped,  ///< the same, two rounds a chunk: each rank reduces its stripe
    shared,   ///< the buffers where they are
  };

  template <Number T>
  static CollectiveCall allreduce_call(std::span<T> data, Reduction reduction) noexcept {
    return {.what = Collective::allreduce,
            .reduction = reduction,
            .type = number_type<T>(),
            .count = data.size(),
            .in = data.data(),
            .out = data.data()};
  }
  template <class T>
  static CollectiveCall bytes_call(Collective what, std::uint32_t root, std::size_t count,
                                   const T* in, T* out) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "members exchange bytes between processes");
    return {.what = what, .root = root, .count = count * sizeof(T), .in = in, .out = out};
  }
  GroupOutcome refuse(Deadline deadline) noexcept {
    return run({.what = Collective::refused}, deadline);
  }

  void enter(std::uint64_t state) noexcept;
  void ask(std::uint64_t next) noexcept;
  GroupOutcome wait_for_epoch(Deadline deadline) noexcept;
  GroupOutcome peer_died() const noexcept;
  bool all_arrived() noexcept;
  bool is_broken() const noexcept { return group_.look() != state_; }
  bool is_lost() const noexcept;
  GroupOutcome stop() noexcept;
  void arrive() noexcept;
  std::uint32_t missing() const noexcept;

  bool is_valid(const CollectiveCall& call) const noexcept;
  bool is_small() const noexcept;
  std::size_t bytes_of_all() const noexcept;  ///< what one rank's buffer has
  void announce() noexcept;
  bool agree() noexcept;
  void plan_rounds() noexcept;
  void fill() noexcept;
  void drain() noexcept;
  void drain_shared() noexcept;
  bool finish_round() noexcept;
  GroupOutcome over(GroupOutcome outcome) noexcept {
    active_ = false;
    return outcome;
  }

  struct Piece {
    std::size_t at, count;  // elements
  };
  Piece piece() const noexcept;
  std::byte* area(std::uint32_t rank) const noexcept;
  Place& place_of(std::uint32_t rank) const noexcept { return group_.places_[ranks_[rank]]; }

  Group group_;
  std::uint32_t place_ = 0;
  std::uint32_t rank_ = 0;
  std::uint32_t size_ = 0;
  std::uint64_t state_ = 0;                         ///< of our epoch, running
  std::array<std::uint8_t, most_members> ranks_{};  ///< their places
  WaitStrategy strategy_ = WaitStrategy::adaptive;
  Patience patience_;

  std::uint64_t step_ = 0;   ///< the last that we have arrived at
  std::uint64_t calls_ = 0;  ///< begun in this epoch
  std::uint64_t chunks_ =
      0;  ///< begun in this epoch, by all ranks alike; their parity is the half of the areas
  std::uint32_t arrived_ = 0;  ///< ranks below have arrived at step_

  // The present call.
  bool active_ = false;
  Plan plan_ = Plan::whole;
  CollectiveCall call_;
  std::size_t element_ = 1;  ///< bytes
  std::size_t longest_ = 0;  ///< elements of the longest part
  std::size_t chunk_ = 0;    ///< elements of a part that go in a round
  std::uint64_t round_ = 0;
  std::uint64_t rounds_ = 0;
  std::array<std::size_t, most_members> counts_{};  ///< all_gather_v
  std::array<std::byte*, most_members> shared_{};   ///< their buffers
  GroupOutcome result_;
};

static_assert(SharedObject<Group>);

}  // namespace heddle
