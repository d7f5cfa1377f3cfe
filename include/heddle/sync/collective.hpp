#pragma once

// Collectives: what the members of a Group do together: each calls the same, in the same order.
//
// Who may call    a Member: one thread at a time
// Progress        blocking, for living members only, to the deadline.  start, test: do what can be done
//                 at once, and do not wait
// State           of each place, counts that only rise in an epoch:
//                 number   the collectives that it has called; with it stands what it calls
//                 filled   the chunks that it has put into its exchange area
//                 reduced  the chunks of which it has reduced its part
// How             call: say what is called; when all have, it is clear that all have called the same,
//                 and how to do it:
//                   whole    what there is came with the call: up to 32 bytes in its very line, up to a
//                            cell in the exchange area.  Drain it
//                   staged   chunk by chunk, each in a cell of the areas' rings: fill one's own; drain it
//                            when all have filled theirs
//                   striped  the same, but each rank reduces a stripe of it, into its own area, and
//                            gathers the others' when they are reduced
//                   shared   buffers that lie in the segment (SharedBuffer), on every rank, are used
//                            where they are: each rank reduces its stripe of all of them into all
//                 A member fills ahead while others are slow, by up to half of the ring
// Invariants      COLL-1  the result is the same on every rank, in every run, bit by bit: reduce.hpp has
//                         the order, which is that of the ranks
//                 COLL-2  a cell is filled again only when all have drained it. Who has filled chunk c
//                         had drained c - h, h being half of the ring; who fills chunk c has seen c - h
//                         filled by all, so c - 2h is drained by all. Of earlier calls than the last, all
//                         is: all have called that one
//                 COLL-3  when all have called, each rank reads what all have called, so all find the
//                         same: either all go on, or all answer `mismatch`
//                 COLL-4  chunks have the same numbers on all ranks: a call has one, and those that are
//                         agreed on; numbers of calls likewise
// Errors          invalid: this rank's arguments cannot work, which it hears when all have come to the call;
//                 the others hear `mismatch`.  mismatch: another collective, reduction, type, root or length on some
//                 rank; nothing was changed.  busy: too many are started; or one has timed out, and is not
//                 waited for
// On death        of a member, at any step: peer_died with its rank, from this call and from all until
//                 rebuild, on every survivor; or ready on all of them, if it had done its part (this one
//                 they know when each of them has come to the call). What a call that ended badly was to
//                 change may be changed in part: keep a copy if it must be done again. Slower survivors may
//                 still write to a shared buffer until rebuild() has returned
// After a timeout the call goes on in the next wait(); its buffers must live until then
// More            docs/collective.md

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
  static constexpr std::size_t most_started = 8;

  class Started;

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

  // All ranks pass the same counts, reduction and root. Each of these has a start_ form, which begins it
  // and returns a handle.

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
    return run(reduce_call(in, out, root, reduction), deadline);
  }
  /// `in` has size() parts as long as `out`; rank r gets the reduction of all parts r.
  template <Number T>
  GroupOutcome reduce_scatter(std::span<const T> in, std::span<T> out,
                              Reduction reduction = Reduction::sum,
                              Deadline deadline = Deadline::never()) noexcept {
    return run(reduce_scatter_call(in, out, reduction), deadline);
  }
  /// `out` has size() parts as long as `in`: part r becomes that of rank r. In place, when `in` is part
  /// rank() of `out`.
  template <class T>
  GroupOutcome all_gather(std::span<const T> in, std::span<T> out,
                          Deadline deadline = Deadline::never()) noexcept {
    return run(all_gather_call(in, out), deadline);
  }
  /// Each rank's part has its own length; `counts` has size() places for them. invalid on a rank whose
  /// `out` is too short for all: nothing is gathered there.
  template <class T>
  GroupOutcome all_gather_v(std::span<const T> in, std::span<T> out, std::span<std::size_t> counts,
                            Deadline deadline = Deadline::never()) noexcept {
    return run(all_gather_v_call(in, out, counts), deadline);
  }
  /// The root's `out` has size() parts as long as `in`; on the others it may be empty.
  template <class T>
  GroupOutcome gather(std::span<const T> in, std::span<T> out, std::uint32_t root,
                      Deadline deadline = Deadline::never()) noexcept {
    return run(gather_call(in, out, root), deadline);
  }
  /// The root's `in` has size() parts as long as `out`; on the others it may be empty.
  template <class T>
  GroupOutcome scatter(std::span<const T> in, std::span<T> out, std::uint32_t root,
                       Deadline deadline = Deadline::never()) noexcept {
    return run(scatter_call(in, out, root), deadline);
  }
  template <class T>
  GroupOutcome broadcast(std::span<T> data, std::uint32_t root,
                         Deadline deadline = Deadline::never()) noexcept {
    return run(broadcast_call(data, root), deadline);
  }
  /// Part q of `in` becomes part rank() of rank q's `out`. Not in place.
  template <class T>
  GroupOutcome all_to_all(std::span<const T> in, std::span<T> out,
                          Deadline deadline = Deadline::never()) noexcept {
    return run(all_to_all_call(in, out), deadline);
  }

  Started start_barrier() noexcept;
  template <Number T>
  Started start_allreduce(std::span<T> data, Reduction reduction = Reduction::sum) noexcept;
  template <Number T>
  Started start_reduce(std::span<const T> in, std::span<T> out, std::uint32_t root,
                       Reduction reduction = Reduction::sum) noexcept;
  template <Number T>
  Started start_reduce_scatter(std::span<const T> in, std::span<T> out,
                               Reduction reduction = Reduction::sum) noexcept;
  template <class T>
  Started start_all_gather(std::span<const T> in, std::span<T> out) noexcept;
  template <class T>
  Started start_all_gather_v(std::span<const T> in, std::span<T> out,
                             std::span<std::size_t> counts) noexcept;
  template <class T>
  Started start_gather(std::span<const T> in, std::span<T> out, std::uint32_t root) noexcept;
  template <class T>
  Started start_scatter(std::span<const T> in, std::span<T> out, std::uint32_t root) noexcept;
  template <class T>
  Started start_broadcast(std::span<T> data, std::uint32_t root) noexcept;
  template <class T>
  Started start_all_to_all(std::span<const T> in, std::span<T> out) noexcept;
  /// Any of them. Up to most_started may be under way or not yet waited for; they are done in the order
  /// of their starts, on all ranks alike.
  Started start(const CollectiveCall& call) noexcept;

  /// The collectives above are begin and wait: one at a time without a handle, after those that are
  /// started. ready: it is under way.  busy: an earlier one timed out.  peer_died, closed.
  GroupOutcome begin(const CollectiveCall& call) noexcept;
  /// Does what can be done now. empty: it is not over. Else how it ended, once.
  GroupOutcome test() noexcept { return test(without_handle); }
  GroupOutcome wait(Deadline deadline = Deadline::never()) noexcept {
    return wait(without_handle, deadline);
  }
  GroupOutcome run(const CollectiveCall& call, Deadline deadline) noexcept {
    const GroupOutcome begun = enqueue(without_handle, call);
    return begun ? wait(without_handle, deadline) : begun;
  }
  void wait_strategy(WaitStrategy strategy) noexcept { strategy_ = strategy; }

 private:
  friend class Group;
  Member& operator=(const Member&) = default;

  template <Number T>
  static CollectiveCall allreduce_call(std::span<T> data, Reduction reduction) noexcept {
    return {.what = Collective::allreduce,
            .reduction = reduction,
            .type = number_type<T>(),
            .count = data.size(),
            .in = data.data(),
            .out = data.data()};
  }
  template <Number T>
  CollectiveCall reduce_call(std::span<const T> in, std::span<T> out, std::uint32_t root,
                             Reduction reduction) const noexcept {
    if (root == rank_ && out.size() != in.size()) return refused;
    return {.what = Collective::reduce,
            .reduction = reduction,
            .type = number_type<T>(),
            .root = root,
            .count = in.size(),
            .in = in.data(),
            .out = out.data()};
  }
  template <Number T>
  CollectiveCall reduce_scatter_call(std::span<const T> in, std::span<T> out,
                                     Reduction reduction) const noexcept {
    if (in.size() != out.size() * size_) return refused;
    return {.what = Collective::reduce_scatter,
            .reduction = reduction,
            .type = number_type<T>(),
            .count = out.size(),
            .in = in.data(),
            .out = out.data()};
  }
  template <class T>
  CollectiveCall all_gather_call(std::span<const T> in, std::span<T> out) const noexcept {
    if (out.size() != in.size() * size_) return refused;
    return bytes_call<T>(Collective::all_gather, 0, in.size(), in.data(), out.data());
  }
  template <class T>
  CollectiveCall all_gather_v_call(std::span<const T> in, std::span<T> out,
                                   std::span<std::size_t> counts) const noexcept {
    if (counts.size() != size_) return refused;
    CollectiveCall call =
        bytes_call<T>(Collective::all_gather_v, 0, in.size(), in.data(), out.data());
    call.out_count = out.size_bytes();
    call.counts = counts.data();
    call.unit = sizeof(T);
    for (std::size_t& count : counts) count = 0;
    return call;
  }
  template <class T>
  CollectiveCall gather_call(std::span<const T> in, std::span<T> out,
                             std::uint32_t root) const noexcept {
    if (root == rank_ && out.size() != in.size() * size_) return refused;
    return bytes_call<T>(Collective::gather, root, in.size(), in.data(), out.data());
  }
  template <class T>
  CollectiveCall scatter_call(std::span<const T> in, std::span<T> out,
                              std::uint32_t root) const noexcept {
    if (root == rank_ && in.size() != out.size() * size_) return refused;
    return bytes_call<T>(Collective::scatter, root, out.size(), in.data(), out.data());
  }
  template <class T>
  static CollectiveCall broadcast_call(std::span<T> data, std::uint32_t root) noexcept {
    return bytes_call<T>(Collective::broadcast, root, data.size(), data.data(), data.data());
  }
  template <class T>
  CollectiveCall all_to_all_call(std::span<const T> in, std::span<T> out) const noexcept {
    if (in.size() != out.size() || in.size() % size_ != 0) return refused;
    return bytes_call<T>(Collective::all_to_all, 0, in.size() / size_, in.data(), out.data());
  }
  template <class T>
  static CollectiveCall bytes_call(Collective what, std::uint32_t root, std::size_t count,
                                   const T* in, T* out) noexcept {
    static_assert(std::is_trivially_copyable_v<T>, "members exchange bytes between processes");
    return {.what = what, .root = root, .count = count * sizeof(T), .in = in, .out = out};
  }
  static constexpr CollectiveCall refused{.what = Collective::refused};

  // Epochs: group.cpp.
  void enter(std::uint64_t state) noexcept;
  void ask(std::uint64_t next) noexcept;
  GroupOutcome wait_for_epoch(Deadline deadline) noexcept;
  GroupOutcome peer_died() const noexcept;
  bool is_broken() const noexcept { return group_.look() != state_; }
  bool is_lost() const noexcept;
  GroupOutcome stop() noexcept;

  // Calls: collective.cpp.

  /// A call that was begun and whose end is not told yet.
  struct Task {
    enum class State : std::uint8_t { free, waits, over, abandoned };
    State state = State::free;
    std::uint64_t number = 0;  ///< they are done in this order
    CollectiveCall call;
    GroupOutcome outcome;
  };
  static constexpr std::size_t without_handle = most_started;
  static constexpr std::size_t none = most_started + 1;

  /// How the present call is done, which all ranks decide alike.
  enum class Plan : std::uint8_t { whole, unknown, staged, striped, shared };
  /// Where what this call brings lies.
  enum class Store : std::uint8_t { tiny, small, ring };
  enum class Next : std::uint8_t { wait, agree, gather, reduce, fill, end };

  GroupOutcome enqueue(std::size_t task, const CollectiveCall& call) noexcept {
    if (!is_member()) return {Status::closed};
    Task& its = tasks_[task];
    if (its.state != Task::State::free) return {Status::busy};
    if (present_ == none && is_broken()) return stop();
    its.state = Task::State::waits;
    its.number = ++last_task_;
    if (present_ != none) {
      its.call = call;
      return {Status::ready};
    }
    present_ = task;
    call_ = call;  // here, where it is put together: a copy of it would wait for the parts
    begin_present();
    return {Status::ready};
  }
  GroupOutcome test(std::size_t task) noexcept;
  GroupOutcome wait(std::size_t task, Deadline deadline) noexcept;
  void abandon(std::size_t task) noexcept;
  GroupOutcome tell(std::size_t task) noexcept;
  void end(const GroupOutcome& outcome) noexcept;
  void end_all(const GroupOutcome& outcome) noexcept;
  void begin_next() noexcept;
  void begin_present() noexcept;
  void wake() noexcept;

  bool is_valid(const CollectiveCall& call) const noexcept;
  std::size_t bytes_of_all() const noexcept;  ///< what one rank's buffer has
  void announce() noexcept;
  bool agree() noexcept;
  Next next() noexcept;
  void go_on(Next next) noexcept;
  void go_on_at_once() noexcept;
  bool all_have_called() noexcept;
  bool all_have(Word Place::*done, std::uint64_t count) noexcept;
  bool has_done_its_part(const Place& its) const noexcept;
  std::uint32_t missing() const noexcept;

  // Data: collective_data.cpp. A chunk by its number in this epoch.

  struct Piece {
    std::size_t at, count;  // elements of each part
  };
  Piece piece(std::uint64_t chunk) const noexcept;
  Piece stripe(std::size_t count, std::uint32_t rank) const noexcept;
  std::byte* area(std::uint32_t rank, std::uint64_t chunk) const noexcept;
  void put(std::byte* mine, const void* from, std::size_t bytes) noexcept;
  void fill(std::uint64_t chunk) noexcept;
  void drain(std::uint64_t chunk) noexcept;
  void reduce_stripe(std::uint64_t chunk) noexcept;
  void gather_stripes(std::uint64_t chunk) noexcept;
  void use_shared() noexcept;
  Place& place_of(std::uint32_t rank) const noexcept { return group_.places_[ranks_[rank]]; }

  Group group_;
  std::uint32_t place_ = 0;
  std::uint32_t rank_ = 0;
  std::uint32_t size_ = 0;
  std::uint64_t state_ = 0;                         ///< of our epoch, running
  std::array<std::uint8_t, most_members> ranks_{};  ///< their places
  WaitStrategy strategy_ = WaitStrategy::adaptive;
  Patience patience_;
  std::uint32_t streamed_ = 0;  ///< chunks to be filled around the caches
  bool owes_wake_ = false;      ///< others may sleep for what we have said

  std::array<Task, most_started + 1> tasks_;
  std::uint64_t last_task_ = 0;
  std::size_t present_ = none;  ///< the task that is under way

  std::uint64_t called_ = 0;  ///< in this epoch, with the present one
  std::uint64_t chunks_ = 0;  ///< in this epoch, as far as agreed on: COLL-4

  // The present call.
  CollectiveCall call_;
  std::uint64_t what_ = 0;  ///< the same in one word
  GroupOutcome result_;
  Plan plan_ = Plan::whole;
  Store store_ = Store::tiny;
  bool is_shared_ = false;  ///< our own buffer lies in the segment
  bool agreed_ = false;
  std::uint32_t seen_ = 0;   ///< ranks below have called
  std::size_t element_ = 1;  ///< bytes
  std::size_t longest_ = 0;  ///< elements of the longest part
  std::size_t chunk_ = 0;    ///< elements of each part that go in a cell
  std::uint64_t first_ = 0;  ///< chunks: the call's own, and those that follow it up to chunks_
  std::uint64_t filled_ = 0;
  std::uint64_t reduced_ = 0;
  std::uint64_t gathered_ = 0;
  std::array<std::size_t, most_members> counts_{};  ///< all_gather_v
  std::array<std::byte*, most_members> shared_{};   ///< their buffers
};

/// A collective that is under way: all go on, in the order of their starts, while one of them is tested
/// or waited for (not in between: there is no thread behind it). Its data must live, and be left alone,
/// until it is over, also when the handle is gone. The member must outlive it and must not be moved.
class [[nodiscard]] Group::Member::Started {
 public:
  Started(Started&& other) noexcept
      : member_(std::exchange(other.member_, nullptr)), task_(other.task_), begun_(other.begun_) {}
  Started& operator=(Started&&) = delete;
  ~Started() {
    if (member_ != nullptr) member_->abandon(task_);
  }

  /// How the start went. ready: it is under way.  busy: wait for another one first.  peer_died, closed.
  const GroupOutcome& begun() const noexcept { return begun_; }
  /// Does what can be done now. empty: it is not over. Else how it ended, once; invalid after that.
  GroupOutcome test() noexcept { return told(member_ ? member_->test(task_) : begun_); }
  GroupOutcome wait(Deadline deadline = Deadline::never()) noexcept {
    return told(member_ ? member_->wait(task_, deadline) : begun_);
  }

 private:
  friend class Member;
  Started(Member* member, std::size_t task, const GroupOutcome& begun)
      : member_(begun ? member : nullptr), task_(task), begun_(begun) {}
  GroupOutcome told(const GroupOutcome& outcome) noexcept {
    if (outcome.status != Status::empty && outcome.status != Status::timeout) {
      member_ = nullptr;
      begun_ = {Status::invalid};
    }
    return outcome;
  }

  Member* member_;  ///< null when there is nothing to wait for
  std::size_t task_;
  GroupOutcome begun_;
};

inline Group::Member::Started Group::Member::start_barrier() noexcept {
  return start({.what = Collective::barrier});
}
template <Number T>
Group::Member::Started Group::Member::start_allreduce(std::span<T> data,
                                                      Reduction reduction) noexcept {
  return start(allreduce_call(data, reduction));
}
template <Number T>
Group::Member::Started Group::Member::start_reduce(std::span<const T> in, std::span<T> out,
                                                   std::uint32_t root,
                                                   Reduction reduction) noexcept {
  return start(reduce_call(in, out, root, reduction));
}
template <Number T>
Group::Member::Started Group::Member::start_reduce_scatter(std::span<const T> in, std::span<T> out,
                                                           Reduction reduction) noexcept {
  return start(reduce_scatter_call(in, out, reduction));
}
template <class T>
Group::Member::Started Group::Member::start_all_gather(std::span<const T> in,
                                                       std::span<T> out) noexcept {
  return start(all_gather_call(in, out));
}
template <class T>
Group::Member::Started Group::Member::start_all_gather_v(std::span<const T> in, std::span<T> out,
                                                         std::span<std::size_t> counts) noexcept {
  return start(all_gather_v_call(in, out, counts));
}
template <class T>
Group::Member::Started Group::Member::start_gather(std::span<const T> in, std::span<T> out,
                                                   std::uint32_t root) noexcept {
  return start(gather_call(in, out, root));
}
template <class T>
Group::Member::Started Group::Member::start_scatter(std::span<const T> in, std::span<T> out,
                                                    std::uint32_t root) noexcept {
  return start(scatter_call(in, out, root));
}
template <class T>
Group::Member::Started Group::Member::start_broadcast(std::span<T> data,
                                                      std::uint32_t root) noexcept {
  return start(broadcast_call(data, root));
}
template <class T>
Group::Member::Started Group::Member::start_all_to_all(std::span<const T> in,
                                                       std::span<T> out) noexcept {
  return start(all_to_all_call(in, out));
}

static_assert(SharedObject<Group>);

}  // namespace heddle
