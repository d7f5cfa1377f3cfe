#pragma once

// The directory: names of objects, each made exactly once, by one creator, whoever dies.
//
// Who may call    any participant
// Progress        lock-free, but for the names being made just now: their seekers wait for the
//                 creator (deadline; a dead one is recovered, a stopped one blocks its name alone)
// State           entry.word {tag:30, generation:16, state:2, owner:16}
//                 FREE -> CLAIMED(tag, owner) -> READY,  CLAIMED -> ORPHAN(tag) -> CLAIMED
//                 An entry is never FREE again and never changes its tag.
// Invariants      DIR-1  a name is READY in at most one entry
//                 DIR-2  READY is final, and its fields are complete
// Why DIR-1       Creators of one name walk the same entries. None passes one with the name's tag
//                 that is CLAIMED (it waits) or ORPHAN (it takes it over in place), and none passes
//                 FREE; what it passes, others' names or tags, never changes back.
// Edges           DIR.ready -> DIR.look      the fields, and the object that `format` made
//                 DIR.claim -> DIR.repair    (claims are releases: the argument is at `Dead`)
//                 DIR.orphan -> DIR.look     what the dead had written, before it is written anew
// On death        CLAIMED(dead) -> ORPHAN.  The memory it had taken, if any, stays unused.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/layout.hpp"
#include "heddle/shm/object.hpp"
#include "heddle/shm/recovery.hpp"

namespace heddle {

class Directory {
 public:
  static constexpr std::size_t max_name = sizeof(DirectoryEntry::name) - 1;

  /// What is asked for, or recorded.
  struct Spec {
    ObjectKind kind;
    ElementType element;
    std::size_t bytes;
  };

  /// `memory` is the whole segment, `header` and `entries` are in it.
  Directory(std::span<std::byte> memory, std::size_t heap_offset, SegmentHeader& header,
            std::span<DirectoryEntry> entries)
      : memory_(memory), heap_offset_(heap_offset), header_(header), entries_(entries) {}

  /// The object of this name, made now by `format(memory)` if there is none. `difference(memory)` says
  /// how one that stands there is not what is asked for; nothing: it is. Throws Error{type_mismatch,
  /// timeout, too_many, no_space, invalid_argument, corrupt, closed}.
  template <class Format, class Difference>
  std::span<std::byte> find_or_create(std::string_view name, const Spec& spec, Peers& peers,
                                      Deadline deadline, Format&& format, Difference&& difference) {
    if (spec.bytes == 0) throw Error(Errc::invalid_argument, "an object needs at least one byte");
    bool claimed = false;
    DirectoryEntry& entry = seek(name, &spec, peers, deadline, claimed);
    if (!claimed) {
      const std::span<std::byte> object = checked(entry, name, spec.kind, spec.element);
      check_options(name, difference(object), object.size(), spec.bytes);
      return object;
    }
    try {
      entry.kind = spec.kind;
      entry.element = spec.element;
      entry.bytes = spec.bytes;
      const std::uint64_t offset = allocate(name, spec.bytes);
      entry.offset = offset;
      std::fill(std::begin(entry.name), std::end(entry.name), '\0');
      std::copy(name.begin(), name.end(), entry.name);
      const auto object = memory_.subspan(offset, spec.bytes);
      format(object);
      finish(entry, State::ready);  // DIR-2
      return object;
    } catch (...) {
      finish(entry, State::orphan);
      throw;
    }
  }

  /// Of an object for which its size says all.
  template <class Format>
  std::span<std::byte> find_or_create(std::string_view name, const Spec& spec, Peers& peers,
                                      Deadline deadline, Format&& format) {
    return find_or_create(name, spec, peers, deadline, std::forward<Format>(format),
                          [](std::span<std::byte>) { return std::string(); });
  }

  /// The object of this name; Error{not_found} when there is none.
  std::span<std::byte> find(std::string_view name, ObjectKind kind, const ElementType& element,
                            Peers& peers, Deadline deadline);

  /// Calls visit(name, spec, memory) for every finished object.
  template <class Visit>
  void for_each(Visit&& visit) const {
    for (DirectoryEntry& entry : entries_) {
      if (state_of(entry.word.load(acquire("DIR.look"))) != State::ready) continue;  // <- DIR.ready
      const std::span<std::byte> object = object_at(entry);
      if (object.empty()) continue;  // damaged
      visit(name_of(entry), Spec{entry.kind, entry.element, object.size()}, object);
    }
  }

  /// Repairs the entries, then every object, of the dead.
  void repair(const Dead& dead) noexcept;

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  enum class State : std::uint64_t { free = 0, claimed = 1, ready = 2, orphan = 3 };
  static constexpr std::uint64_t pack(std::uint64_t tag, std::uint64_t generation, State state,
                                      Owner owner) {
    return tag << 34 | (generation & 0xffff) << 18 | static_cast<std::uint64_t>(state) << 16 |
           owner.bits();
  }
  static constexpr std::uint64_t tag_of(std::uint64_t word) { return word >> 34; }
  static constexpr std::uint64_t generation_of(std::uint64_t word) { return word >> 18 & 0xffff; }
  static constexpr State state_of(std::uint64_t word) { return static_cast<State>(word >> 16 & 3); }
  static constexpr Owner owner_of(std::uint64_t word) { return Owner(word & 0xffff); }
  static std::string_view name_of(const DirectoryEntry& entry) {
    const char* end = std::find(entry.name, entry.name + max_name, '\0');
    return std::string_view(entry.name, static_cast<std::size_t>(end - entry.name));
  }
  static constexpr std::uint64_t hash(std::string_view name) {  // FNV-1a
    std::uint64_t value = 0xcbf29ce484222325;
    for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return value;
  }

  DirectoryEntry& seek(std::string_view name, const Spec* create, Peers& peers, Deadline deadline,
                       bool& claimed);
  void await_creator(DirectoryEntry& entry, std::string_view name, Peers& peers, Deadline deadline);
  void finish(DirectoryEntry& entry, State state) noexcept;
  std::uint64_t allocate(std::string_view name, std::size_t bytes);
  std::span<std::byte> object_at(const DirectoryEntry& entry) const noexcept;
  std::span<std::byte> checked(const DirectoryEntry& entry, std::string_view name, ObjectKind kind,
                               const ElementType& element) const;
  static void check_options(std::string_view name, std::string difference, std::size_t bytes,
                            std::size_t wanted);

  std::span<std::byte> memory_;
  std::size_t heap_offset_;  // a checked copy
  SegmentHeader& header_;
  std::span<DirectoryEntry> entries_;
};

}  // namespace heddle
