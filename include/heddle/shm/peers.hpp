#pragma once

// What a mechanism knows of processes: who it is itself, who a word's owner is, and how to ask
// whether that owner lives. Segment implements it with kernel locks; unit tests and the schedule
// explorer implement it without.

#include <cstddef>
#include <cstdint>
#include <span>

#include "heddle/base/atomic.hpp"

namespace heddle {

/// A place in the table of participants, as it stands in an owned word: index + 1; 0 is nobody.
/// Ten bits hold every owner.
class Owner {
 public:
  constexpr Owner() = default;
  constexpr explicit Owner(std::uint64_t word_bits)
      : value_(static_cast<std::uint16_t>(word_bits)) {}
  static constexpr Owner at(std::uint32_t index) { return Owner(index + 1); }

  constexpr std::uint64_t bits() const { return value_; }
  constexpr std::uint32_t index() const { return value_ - 1U; }  ///< not for nobody
  constexpr explicit operator bool() const { return value_ != 0; }
  friend constexpr bool operator==(Owner, Owner) = default;

 private:
  std::uint16_t value_ = 0;
};

inline constexpr std::uint32_t max_participants = 1023;
inline constexpr Owner nobody{};

/// A dead participant whose objects are being repaired.
///
/// Every repair of a word is a loop: (a) load the word, acquire; it names `owner()`. (b) `still()`
/// holds. (c) CAS the word from that value to its repaired one; if it fails, again from (a).
/// A newcomer at the same index claims words only after its place was FREE. So if (a) had read a
/// newcomer's claim, which is a release that follows its joining, (b) would see the newcomer and
/// fail; and if the newcomer's claim comes after (b), it has changed the word's generation and (c)
/// fails. Hence the rule: every claim is a release and changes a generation in its word.
class Dead {
 public:
  Dead(Owner owner, const Atomic<std::uint64_t>& entry, std::uint64_t dead_word)
      : owner_(owner), entry_(entry), dead_word_(dead_word) {}

  Owner owner() const noexcept { return owner_; }
  bool owns(std::uint64_t owner_bits) const noexcept { return owner_.bits() == owner_bits; }
  /// Whether the place is still that of the dead. If not, another has finished a whole pass of repair,
  /// and from here on the caller sees its outcome. <- PART.free
  bool still() const noexcept { return entry_.load(acquire("PART.still")) == dead_word_; }

 private:
  Owner owner_;
  const Atomic<std::uint64_t>& entry_;
  std::uint64_t dead_word_;
};

/// The processes that share a segment, seen from one of them. Outlives every handle made with it.
class Peers {
 public:
  virtual ~Peers() = default;

  /// The calling process, as the owner of words.
  Owner self() const noexcept { return self_; }

  /// False in a forked child, where the parent's handles must not be used: it shares the memory
  /// but not the membership. One load. Every operation that claims a word asks first.
  bool present() const noexcept { return *present_ != 0; }

  /// True for an observer: it is never present, and its mapping cannot be written, not even to say
  /// that it sleeps.
  bool observes() const noexcept { return observes_; }

  /// The segment as it is mapped here; empty where there is none (private memory in tests).
  std::span<std::byte> mapping() const noexcept { return mapping_; }

  /// If `other` is dead: repairs all that it held, in every object of the segment, and returns
  /// true; whoever may have done it, the caller sees it done. False while it lives (a stopped process lives), for nobody and for oneself.
  /// True also when its place is free or does not exist. So a word that names `other`, was read with
  /// acquire before and is the same after, is damaged: who tries again because of it may do so for
  /// ever.
  /// A system call; for the cold path only: before sleeping on, or failing because of, `other`.
  virtual bool recover_if_dead(Owner other) noexcept = 0;

 protected:
  Peers(Owner self, const std::uint32_t* present, bool observes = false)
      : self_(self), present_(present), observes_(observes) {}
  Owner self_;
  const std::uint32_t* present_;
  bool observes_;
  std::span<std::byte> mapping_;
};

}  // namespace heddle
