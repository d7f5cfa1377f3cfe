#pragma once

// Group: processes with ranks that take steps together, for collectives (collective.hpp).
//
//   auto group = segment.open<heddle::Group>("trainers", {.size = 4});
//   auto member = group.join();                        // rank 0 .. 3, when all four have joined
//   if (member.allreduce(gradients).status == Status::peer_died) member.rebuild();
//
// Who may call    join: any participant.  A Member: one thread at a time; a process may hold several
// Progress        arrive, break: lock-free.  join, rebuild, wait: blocking, for living members only, to
//                 their deadline
// State           state    {epoch:14, phase:2, members:48}   who makes up the present epoch, by place
//                 died     {epoch:14, place + 1}             whose death ended it
//                 place    {wants:14, generation:39, gone:1, owner:10}   one for each possible member
//                 number, filled, reduced   {epoch:14, count:50}   of each place: what its member has
//                                          called, and has done of it (collective.hpp)
//                 stopped  {epoch:14, 1}   of each place: its member does no more in this epoch
//
//   An epoch is a set of members that does not change. Their ranks are the order of their places.
//   state e           -> e + 1, running, M'  anyone who sees that each living member of e wants e + 1:
//                                            M' is everyone who does (the first `size` of them, at first)
//   e, running        -> e, broken           anyone who sees a member that is out of it
//   place             nobody, or gone and no member of a running epoch -> a newcomer, wants none
//                     wants another -> wants e + 1  its owner: to join, or to rebuild
//                     gone set                recovery.   -> nobody: its owner leaves
//
//   A member is out of epoch e when its place is nobody's, gone, or wants another epoch.
//
// Invariants      GROUP-1  the members of an epoch are decided by one CAS, which everybody reads
//                 GROUP-2  an epoch ends only when each of its living members has asked for the next
//                          one: so nobody of the next one writes what one of this one may still read
//                 GROUP-3  a call ends well for all survivors or for none: well when all have done their
//                          part of it, badly when one that has not is stopped or out of the epoch, and
//                          so never will. Who has heard of it badly stops
//                 GROUP-4  a broken epoch stays broken, and nobody begins anything in it
// Edges           GROUP.arrive -> .arrived, .fill and .reduce -> .done   what a member did before it
//                          said so, before what the others do who have seen it
//                 GROUP.stop -> .stopped   what it has said it had done, before that it does no more
//                 GROUP.want, .claim -> GROUP.scan -> GROUP.form -> GROUP.state   the same of an epoch
//                 want, fence -> scan | want, fence -> scan: of two last ones, one sees both
// On death        of a member: the epoch is broken, by whoever waits for it or recovers it. Before it
//                 has formed what it was about to form: anyone else does.  In join: its place is gone
// Not for         more than 48 members; processes that come and go at every step: that is a Barrier
// Source          epochs of fixed membership: Chockler, Keidar, Vitenberg 2001, "Group communication
//                 specifications"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "heddle/base/atomic.hpp"
#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/layout.hpp"
#include "heddle/shm/object.hpp"
#include "heddle/shm/peers.hpp"

namespace heddle {

class Group {
 public:
  static constexpr std::uint32_t most_members = 48;

  struct Options {
    std::uint32_t size = 0;  ///< the first epoch begins when so many have joined
    std::uint32_t places =
        0;  ///< 0: twice as many, at most 48. A dead member's is free after the epoch
    /// Of each place, for what is not shared: a multiple of 64.
    std::size_t exchange_bytes = std::size_t{2} << 20;
  };

  class Member;

  static constexpr ObjectKind kind = ObjectKind::group;
  static constexpr ElementType element() { return {}; }
  static std::size_t bytes(const Options& options);
  static void format(std::span<std::byte> memory, const Options& options);
  /// How it was made otherwise, as in "it has size 4, not 3".
  static std::string difference(std::span<std::byte> memory, const Options& options);
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept;
  Group(std::span<std::byte> memory, Peers& peers);

  /// Becomes a member of the next epoch: of the first one when `size` have joined, of a later one when
  /// the members have called rebuild. Throws Error: too_many when each place has a living owner;
  /// timeout, and has left again; closed in a forked child.
  Member join(Deadline deadline = Deadline::never());

  std::uint32_t size() const noexcept { return size_; }
  std::size_t exchange_bytes() const noexcept { return exchange_bytes_; }

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  using Word = Atomic<std::uint64_t>;

  enum class Phase : std::uint64_t { broken = 0, running = 1 };
  static constexpr std::uint64_t epochs = 1U << 14;
  static constexpr std::uint64_t members_mask = (std::uint64_t{1} << most_members) - 1;
  static constexpr std::uint64_t pack_state(std::uint64_t epoch, Phase phase,
                                            std::uint64_t members) {
    return epoch << 50 | static_cast<std::uint64_t>(phase) << 48 | members;
  }
  static constexpr std::uint64_t epoch_of(std::uint64_t word) { return word >> 50; }
  static constexpr bool is_running(std::uint64_t state) {
    return (state >> 48 & 3) == static_cast<std::uint64_t>(Phase::running);
  }
  static constexpr std::uint64_t members_of(std::uint64_t state) { return state & members_mask; }
  static constexpr std::uint64_t after(std::uint64_t epoch) { return (epoch + 1) % epochs; }

  static constexpr std::uint64_t gone_bit = 1U << 10;
  static constexpr std::uint64_t pack_place(std::uint64_t wants, std::uint64_t generation,
                                            Owner owner) {
    return wants << 50 | (generation << 11 & ((std::uint64_t{1} << 50) - 1)) | owner.bits();
  }
  static constexpr std::uint64_t generation_of(std::uint64_t place) { return place << 14 >> 25; }
  static constexpr Owner owner_of(std::uint64_t place) { return Owner(place & 1023); }
  static constexpr bool is_gone(std::uint64_t place) { return (place & gone_bit) != 0; }
  static constexpr bool is_there(std::uint64_t place) { return owner_of(place) && !is_gone(place); }
  // What a member says that it has done: so many, in this epoch.
  static constexpr std::uint64_t pack_count(std::uint64_t epoch, std::uint64_t count) {
    return epoch << 50 | count;
  }
  /// At most `ahead` more: what says more is damaged, and is not believed.
  static constexpr bool has_reached(std::uint64_t word, std::uint64_t epoch, std::uint64_t count,
                                    std::uint64_t ahead) {
    return epoch_of(word) == epoch && (word & count_mask) - count <= ahead;
  }
  static constexpr std::uint64_t count_mask = (std::uint64_t{1} << 50) - 1;

  /// What a member says of a collective that it takes part in; what it brings, if that is tiny. One
  /// line holds all that the others need of it.
  struct Call {
    static constexpr std::size_t tiny_bytes = 32;
    Word number;
    Word what;    ///< collective, reduction, type, root, whether it is shared
    Word count;   ///< elements
    Word offset;  ///< of its buffer in the segment, if it is shared
    std::byte tiny[tiny_bytes];
  };
  struct Place {
    Word word;
    std::uint64_t reserved_0[7];
    // A line that the others look at while one call goes on.
    Word filled;
    Word reduced;
    Word stopped;
    std::uint64_t reserved_1[5];
    Call calls[2];  ///< even and odd ones
  };
  struct Header {
    std::uint32_t size;  // these three never change
    std::uint32_t places;
    std::uint64_t exchange_bytes;
    std::uint64_t reserved_0[6];
    Word state;
    Word died;
    Event changed;
    std::uint32_t reserved_1[11];
  };
  static_assert(sizeof(Header) == 128 && offsetof(Header, state) == 64);
  static_assert(sizeof(Call) == 64 && sizeof(Place) == 256 && offsetof(Place, filled) == 64);

  static std::uint32_t places_for(const Options& options);
  static std::size_t exchange_at(std::uint32_t places);

  /// How an exchange area is divided: a small cell for even calls, one for odd ones, and a ring of
  /// cells. The ring is larger than a core's own cache: by the time that a cell is written again, the
  /// others' caches have let go of it, and nobody has to take it away from them.
  struct Cells {
    std::size_t small = 0, large = 0;  ///< bytes
    std::size_t count = 0;             ///< of large ones
  };
  static constexpr std::size_t least_exchange_bytes = 512;
  static constexpr std::size_t least_part = 16;  ///< of a cell, for each rank
  static constexpr Cells cells_of(std::size_t exchange_bytes) {
    constexpr std::size_t most = std::size_t{1} << 17;
    const std::size_t small = std::min<std::size_t>(exchange_bytes / 8, 4096) / 64 * 64;
    const std::size_t ring = exchange_bytes - 2 * small;
    const std::size_t large = std::min(ring / 4 / 64 * 64, most);
    return {.small = small, .large = large, .count = ring / large};
  }

  Group() = default;
  bool attach(std::span<std::byte> memory) noexcept;
  std::uint64_t look() const noexcept {
    return header_->state.load(acquire("GROUP.state"));  // <- GROUP.form
  }
  std::uint64_t claim() noexcept;
  void try_form() noexcept;
  void break_epoch(std::uint64_t state, std::uint32_t place) noexcept;
  bool break_without(std::uint32_t place, std::uint64_t word, std::uint64_t state) noexcept;
  void probe(std::uint64_t state) noexcept;

  Peers* peers_ = nullptr;
  Header* header_ = nullptr;
  // Private, since checked on attaching.
  Place* places_ = nullptr;
  std::byte* exchange_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint32_t place_count_ = 0;
  std::size_t exchange_bytes_ = 0;
  Cells cells_;
};

/// How a step, a collective or a rebuild ended.
struct GroupOutcome {
  static constexpr std::uint32_t nobody_in_particular = ~0U;
  Status status = Status::closed;
  std::uint32_t rank =
      nobody_in_particular;  ///< who died (peer_died), or one who is missing (timeout)

  explicit operator bool() const noexcept { return status == Status::ready; }
};

}  // namespace heddle
