#pragma once

// Good images of segments, made by Heddle itself, for the fuzzer to damage.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/job.hpp"

namespace heddle::fuzz {

using test::Job;
using Weights = std::uint32_t[];  // more than a page of them: another layout than a small value's

/// What the objects are called.
inline constexpr const char* job_slot = "job slot";
inline constexpr const char* weights_slot = "weights slot";
inline constexpr const char* job_queue = "queue";
inline constexpr const char* bytes_queue = "bytes queue";    // with all that a queue can have
inline constexpr const char* near_barrier = "near barrier";  // its places are in one cache line
inline constexpr const char* far_barrier = "far barrier";
inline constexpr const char* item_board = "board";
inline constexpr const char* small_group = "group";
inline constexpr const char* event_ring = "events";
inline constexpr const char* plain_buffer = "buffer";
inline constexpr const char* half_made = "half made";

struct Image {
  /// A table or an object: damage names its place as one of these and an offset in it, so that an
  /// input means the same when something else has grown.
  struct Region {
    std::size_t offset;
    std::size_t bytes;
    bool holds(std::size_t at) const { return at >= offset && at < offset + bytes; }
  };
  std::vector<std::byte> bytes;
  std::vector<Region> regions;
  Region events;
};

/// Made at the first call. Whoever is in the table of an image is dead: its locks are on another
/// file.
std::span<const Image> good_images();

}  // namespace heddle::fuzz
