#pragma once

// The slot's protocol, on untyped bytes. Programs use Slot<T> (slot.hpp).
//
// Who may call    publish, claim, ask, register, pin: any participant.  pull by copy: anyone who
//                 maps the memory
// Progress        pull by copy: wait-free, up to its bound of attempts; for one to fail, as many
//                 publications must pass in one copy as there are buffers but one, less those that
//                 are pinned or stand half-written.  publish: lock-free; it never waits for a reader.
//                 With buffers >= views + publishers + 1 some buffer is free at any moment; with
//                 fewer, publish is busy, or waits: it is woken by publications, and looks every
//                 10 ms for what readers let go, who wake nobody: unpin is one store
// State           latest          {version:48, buffer:16}      version 0: nothing published yet
//                 meta.word       {generation:48, owner:16}    owner 0: idle
//                 meta.complete   the generation whose bytes are all there
//                 meta.version    the version that these bytes were, or will be, published as
//                 pin             {owner:16, generation:32, buffer+1:16}
//                 publisher       {generation:46, state:2, owner:16}
//                 asked           how many requests for a fresh value there were; askers add one
//                 meta.asked      what asked was before these bytes were handed over
// Steps           publish: claim an idle buffer (generation + 1) that latest does not name and no
//                 pin names; write; version, complete; CAS latest; idle.  An abandoned claim goes
//                 idle without the steps between: to readers it is a half-written one of the dead.
//                 compare_and_publish: the CAS of latest is tried only from the expected version.
//                 A version comes once: a CAS from it replaces the publication that was read
//                 pull: latest names (v, b); complete of b, version of b is v; copy; the generation
//                 of b still is what complete was.
//                 pull_fresh: asked + 1, which is the asker's ticket; pull until meta.asked has come
//                 to it. Several askers are answered by one publication. Nobody notes the answer: a
//                 request is open while asked is above the meta.asked of the newest value
// Invariants      SLOT-1  the buffer that latest names is complete, and is not claimed
//                 SLOT-2  a version, once seen, always denotes the same bytes
//                 SLOT-3  a pinned buffer is not written
//                 SLOT-4  what pull_fresh gives was handed to publish, or loaned, after the request;
//                         and whoever waits for requests does not sleep while one is open
// Why SLOT-1      A claimer reads the word (idle, generation g), then latest. Whoever published this
//                 buffer did so before it made it idle, so latest already shows it; and the claiming
//                 CAS succeeds only if nobody has claimed the buffer since.
// Why SLOT-2      A claim raises the generation before any byte is written. A copy that has read one
//                 byte of a newer claim therefore finds another generation in its second look. A
//                 half-written buffer of the dead is never complete: complete < generation.
// Why SLOT-3      pin, fence, latest again | latest, claim, fence, pins: if the claimer misses the
//                 pin, the reader's second look sees at least the latest that the claimer saw, which
//                 is not this buffer, and lets go.
// Why SLOT-4      A publisher reads asked before it claims, and its value comes with what it read. A
//                 value that was begun before a request may overtake the one that answers it: the
//                 request is open again, and the overtaker sees that in the end (it has replaced the
//                 answer in latest, so it knows of the request) and wakes who waits for requests.
// A loan          is a claim that the caller fills by plain writes. A reader by copy that has an old
//                 latest may read some of them; its second look finds the claim's generation and it
//                 discards them, as after publish. To C++ that read is a data race all the same,
//                 since the writes are not atomic. On x86 and ARM it does no harm: the fence after
//                 the claim orders plain writes too. ThreadSanitizer may report it. Readers by view
//                 never race with a loan (SLOT-3).
// Edges           SLOT.publish  -> SLOT.pull       the bytes, version and complete
//                 SLOT.complete -> SLOT.completed  version, before who reads complete
//                 SLOT.claimed (fence) -> SLOT.recheck (fence)   the seqlock's edge
//                 SLOT.idle     -> SLOT.reuse      latest, before the next claimer reads it
//                 SLOT.unpin    -> SLOT.pins       reads of a view come before the next write
//                 SLOT.claimed (fence) | SLOT.pinned (fence)     one of the two sees the other
//                 SLOT.ask      -> SLOT.asked      what came before the request, before the answer
// On death        publisher, at any step: the word's owner goes; latest decides whether the bytes
//                 count.  Reader with a pin: the pin goes.  Registered publisher: its word says died
//                 publisher that had seen a request: it still is open, for the next publisher; the
//                 asker hears peer_died when none is left.  asker: its request is answered in vain
// Not for         a history of all values: that is a queue
// Source          seqlock: Boehm 2012, "Can seqlocks get along with programming language memory
//                 models?"; pins: Michael 2004, hazard pointers

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "heddle/base/atomic.hpp"
#include "heddle/base/clock.hpp"
#include "heddle/base/copy.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/layout.hpp"
#include "heddle/shm/peers.hpp"

namespace heddle {

/// Counts publications; 0 is "none yet".
using Version = std::uint64_t;

/// What a read gives beside the value.
struct Reading {
  Status status = Status::empty;
  std::uint32_t retries = 0;  ///< times that publishers overtook it, and it began again
  Version version = 0;
  std::int64_t published_at = 0;  ///< CLOCK_MONOTONIC, nanoseconds; 0: the slot records no times

  explicit operator bool() const noexcept { return status == Status::ready; }
  /// Nanoseconds since its publication; nothing if there is no value, or no time is recorded.
  std::optional<std::int64_t> age_ns() const noexcept {
    if (published_at == 0) return std::nullopt;
    return monotonic_ns() - published_at;
  }
};

/// One that has a buffer of a slot, so that publishers cannot. Segment::participant(owner) is its
/// process.
struct SlotHolder {
  enum class What { view, publication };
  Owner owner;
  What what;
  Version version;            ///< that the view shows: those above it came while it was open
  std::int64_t published_at;  ///< of that version: the view was opened after it; 0: not known

  /// Nanoseconds that the view has been open, at most; nothing of a publication, or without times.
  std::optional<std::int64_t> open_ns() const noexcept {
    return Reading{.published_at = published_at}.age_ns();
  }
};

class SlotCore {
 public:
  static constexpr Version any_version = ~Version{0};
  struct Shape {
    std::size_t value_bytes;
    std::uint32_t buffers;
    std::uint32_t views;
    std::uint32_t publishers;
    bool timed = true;
  };

  static std::size_t bytes(const Shape& shape);
  static void format(std::span<std::byte> memory, const Shape& shape);
  /// In words, the first thing in which its shape is not the wanted one; `timed` does not count.
  static std::string difference(std::span<std::byte> memory, const Shape& wanted,
                                std::size_t element_bytes);
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept;

  /// Throws Error{corrupt} if the memory holds no slot of one element (or a whole number of them).
  SlotCore(std::span<std::byte> memory, Peers& peers, std::size_t element_bytes, bool is_array);

  // Reading. `to` has room for value_bytes.
  Reading pull(void* to) const noexcept;
  /// `bytes` of the value, from byte number `at` on.
  Reading pull(void* to, std::size_t at, std::size_t bytes) const noexcept;
  Version version() const noexcept { return version_of(latest().load(acquire("SLOT.pull"))); }
  Status wait_newer(Version than, Deadline deadline, WaitStrategy strategy) noexcept;

  /// Asks for a value that is handed over from now on, and waits for it.
  Reading pull_fresh(void* to, Deadline deadline, WaitStrategy strategy) noexcept;

  // Views: a reader owns one pin, and pins one buffer at a time.
  std::uint32_t claim_pin();  ///< throws Error{too_many}
  void release_pin(std::uint32_t pin) noexcept;
  Reading pin_latest(std::uint32_t pin, const std::byte*& value) noexcept;
  void unpin(std::uint32_t pin) noexcept;

  // Publishing. A claim is a buffer that its claimer alone writes, until it commits or abandons it.
  struct Claim {
    Status status = Status::closed;  ///< ready: there is one
    std::uint32_t buffer = 0;
    std::uint64_t generation = 0;
    std::uint64_t asked = 0;
  };
  std::uint32_t register_publisher();  ///< throws Error{too_many}
  void unregister_publisher(std::uint32_t publisher) noexcept;
  Claim claim() noexcept;                   ///< busy: none is to be had
  Claim claim(Deadline deadline) noexcept;  ///< timeout: there was none. Blocking
  std::byte* bytes_of(const Claim& claim) const noexcept {
    return reinterpret_cast<std::byte*>(value_at(claim.buffer));
  }
  /// overtaken, and abandoned: the newest version is not `expected`.
  Status commit(const Claim& claim, Version expected = any_version) noexcept;
  void abandon(const Claim& claim) noexcept;
  Status publish(const void* value) noexcept;
  Status publish(const void* value, Deadline deadline) noexcept;
  Status compare_and_publish(Version expected, const void* value) noexcept;

  bool requested() const noexcept;
  Status wait_for_request(Deadline deadline, WaitStrategy strategy) noexcept;
  std::vector<SlotHolder> holders() const;

  Peers& peers() const noexcept { return *peers_; }
  const Shape& shape() const noexcept { return shape_; }

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  struct Header {
    std::uint64_t value_bytes;
    std::uint32_t buffers;
    std::uint32_t views;
    std::uint32_t publishers;
    std::uint32_t timed;
    alignas(cache_line) Atomic<std::uint64_t> latest;
    Event published;
    Event requested;
    Atomic<std::uint64_t> asked;
  };
  struct alignas(cache_line) Meta {
    Atomic<std::uint64_t> word;
    Atomic<std::uint64_t> complete;
    Atomic<std::uint64_t> version;
    Atomic<std::uint64_t> published_at;
    Atomic<std::uint64_t> asked;
  };
  struct alignas(cache_line) OwnedWord {
    Atomic<std::uint64_t> word;
  };
  static_assert(is_shared_struct<Header> && sizeof(Header) == 128);
  static_assert(is_shared_struct<Meta> && sizeof(Meta) == 64);

  struct Places;  // where the parts begin
  enum class PublisherState : std::uint64_t { none = 0, registered = 1, died = 2 };

  static constexpr std::uint64_t pack_latest(Version version, std::uint32_t buffer) {
    return version << 16 | buffer;
  }
  static constexpr Version version_of(std::uint64_t latest) { return latest >> 16; }
  static constexpr std::uint32_t buffer_of(std::uint64_t latest) { return latest & 0xffff; }
  static constexpr std::uint64_t pack_word(std::uint64_t generation, Owner owner) {
    return generation << 16 | owner.bits();
  }
  static constexpr std::uint64_t generation_of(std::uint64_t word) { return word >> 16; }
  static constexpr Owner owner_of(std::uint64_t word) { return Owner(word & 0xffff); }
  static constexpr std::uint64_t pack_pin(Owner owner, std::uint64_t generation,
                                          std::uint32_t buffer_plus_1) {
    return owner.bits() << 48 | (generation & 0xffffffff) << 16 | buffer_plus_1;
  }
  static constexpr Owner pin_owner(std::uint64_t pin) { return Owner(pin >> 48); }
  static constexpr std::uint64_t pin_generation(std::uint64_t pin) {
    return pin >> 16 & 0xffffffff;
  }
  static constexpr std::uint32_t pinned_buffer(std::uint64_t pin) { return pin & 0xffff; }
  static constexpr std::uint64_t pack_publisher(std::uint64_t generation, PublisherState state,
                                                Owner owner) {
    return generation << 18 | static_cast<std::uint64_t>(state) << 16 | owner.bits();
  }
  static constexpr PublisherState publisher_state(std::uint64_t word) {
    return static_cast<PublisherState>(word >> 16 & 3);
  }

  SlotCore() = default;
  template <class Copy>
  Reading read(Copy&& copy) const noexcept;
  bool attach(std::span<std::byte> memory) noexcept;
  Atomic<std::uint64_t>& latest() const noexcept { return header_->latest; }
  SharedWord* value_at(std::uint32_t buffer) const noexcept {
    return reinterpret_cast<SharedWord*>(values_ + buffer * stride_);
  }
  bool is_pinned(std::uint32_t buffer) const noexcept;
  bool claim_buffer(Claim& claim) noexcept;
  Status publish(const Claim& claim, const void* value, Version expected) noexcept;
  bool recover_holders() noexcept;
  Status look_at_publishers() noexcept;

  // Checked copies: what stands in the segment may be damaged later.
  Shape shape_{};
  std::size_t stride_ = 0;
  Header* header_ = nullptr;
  OwnedWord* publishers_ = nullptr;
  OwnedWord* pins_ = nullptr;
  Meta* metas_ = nullptr;
  std::byte* values_ = nullptr;
  Peers* peers_ = nullptr;
};

}  // namespace heddle
