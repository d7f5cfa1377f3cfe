#pragma once

// The slot that a command line names, whatever its element type is.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "elements.hpp"
#include "heddle/shm/directory.hpp"
#include "heddle/shm/observer.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"

namespace heddle {

/// SEGMENT/SLOT on a command line, and in messages.
struct SlotAddress {
  std::string segment;
  std::string slot;

  std::string text() const { return segment + "/" + slot; }
};
constexpr const char* slot_address_help =
    "the slot, by its segment's name and its own: train-4711/weights";

/// Throws Error{invalid_argument}.
SlotAddress parse_slot_address(const std::string& text);

/// Elements of any type are bytes here; the form is what the directory has recorded of them.
using ByteSlot = Slot<std::byte[]>;
struct OpenSlot {
  ElementForm form;
  ByteSlot slot;

  std::size_t count() const { return slot.count() / form.type.size; }
};

/// Joins the segment of this name; nothing when there is none. Throws what Segment::open does.
std::optional<Segment> open_segment(const std::string& name);
/// Looks into it, and takes no place; nothing when there is none. Throws what Observer::open does.
std::optional<Observer> observe_segment(const std::string& name);
/// Removes the segment of this name if nobody alive is in it.
void remove_if_abandoned(const std::string& name);
/// Joins it, or makes it: others may make it, or leave it, at the same time.
Segment open_or_create_segment(const std::string& name, const Segment::Options& options);
/// Nothing when there is none. Throws Error{type_mismatch} when it is no slot, {corrupt}.
std::optional<OpenSlot> find_slot(Directory& directory, Peers& peers, const SlotAddress& address);
/// The names of a segment's slots, for messages.
std::string slot_names(const Directory& directory);
/// How old something is, and who has the slot's buffers now, for messages.
std::string age(std::optional<std::int64_t> nanoseconds);
std::string holders_of(const Segment& segment, const ByteSlot& slot);

}  // namespace heddle
