#pragma once

// The segment's memory map. Another layout of any struct here, or of any mechanism's, is another
// layout_version.
//
//   0                SegmentHeader                                   one page
//   4096             ParticipantEntry[participants]                  128 bytes each
//   ...              DirectoryEntry[objects]                         128 bytes each
//   heap_offset      objects, bump-allocated, page or 64-byte aligned, never freed
//   total_bytes

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "heddle/base/atomic.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/object.hpp"

namespace heddle {

inline constexpr std::uint64_t segment_magic = 0x31454c4444454821;  // "!HEDDLE1"
inline constexpr std::uint32_t layout_version = 4;
inline constexpr std::size_t page_bytes = 4096;
inline constexpr std::size_t cache_line = 64;

/// Plain members are written before the segment has a name and never again.
struct SegmentHeader {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t participants;  ///< entries in the table
  std::uint32_t objects;       ///< entries in the directory
  std::uint32_t creator_pid;
  std::uint64_t total_bytes;
  std::uint64_t heap_offset;
  std::uint64_t created_at;     ///< CLOCK_REALTIME, nanoseconds
  std::uint64_t pid_namespace;  ///< in which the recorded pids mean something
  std::uint8_t boot_id[16];
  std::uint8_t uuid[16];
  char name[56];  ///< ends with 0; empty for an anonymous segment

  alignas(cache_line) Atomic<std::uint64_t> incarnations;  ///< the last one drawn
  alignas(cache_line) Atomic<std::uint64_t> heap_used;     ///< offset of the first free byte
  alignas(cache_line) Event directory_changed;
};

/// word {incarnation:48, unused:14, state:2}. The rest is for people, written by its participant
/// after it has joined.
struct alignas(128) ParticipantEntry {
  Atomic<std::uint64_t> word;
  Atomic<std::uint64_t> pid;
  Atomic<std::uint64_t> program[4];  ///< the name of its program, 31 characters at most
};

/// word {tag:30, generation:16, state:2, owner:16}. The rest is written by the owner of CLAIMED and
/// fixed from READY on.
struct alignas(cache_line) DirectoryEntry {
  Atomic<std::uint64_t> word;
  ObjectKind kind;
  ElementType element;
  std::uint64_t offset;  ///< from the segment's base
  std::uint64_t bytes;
  char name[64];  ///< ends with 0
};

template <class T>
inline constexpr bool is_shared_struct = std::is_standard_layout_v<T>&&
    std::is_trivially_default_constructible_v<T>&& std::is_trivially_destructible_v<T>;

static_assert(is_shared_struct<SegmentHeader> && sizeof(SegmentHeader) == 384);
static_assert(offsetof(SegmentHeader, version) == 8 && offsetof(SegmentHeader, total_bytes) == 24);
static_assert(offsetof(SegmentHeader, incarnations) == 192);
static_assert(offsetof(SegmentHeader, heap_used) == 256);
static_assert(offsetof(SegmentHeader, directory_changed) == 320);
static_assert(is_shared_struct<ParticipantEntry> && sizeof(ParticipantEntry) == 128);
static_assert(is_shared_struct<DirectoryEntry> && sizeof(DirectoryEntry) == 128);
static_assert(offsetof(DirectoryEntry, offset) == 48 && offsetof(DirectoryEntry, name) == 64);

}  // namespace heddle
