#include "open_slot.hpp"

#include <fmt/format.h>

#include <span>
#include <string_view>

#include "heddle/base/error.hpp"

namespace heddle {

SlotAddress parse_slot_address(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == text.npos || slash == 0 || slash + 1 == text.size()) {
    throw Error(
        Errc::invalid_argument,
        fmt::format("\"{}\" names no slot: say SEGMENT/SLOT, as in train-4711/weights", text));
  }
  return {text.substr(0, slash), text.substr(slash + 1)};
}

std::optional<Segment> open_segment(const std::string& name) {
  try {
    return Segment::open(name);
  } catch (const Error& error) {
    if (error.code() != Errc::not_found) throw;
    return std::nullopt;
  }
}

std::optional<OpenSlot> find_slot(Segment& segment, const SlotAddress& address) {
  std::optional<OpenSlot> found;
  segment.directory().for_each(
      [&](std::string_view name, const Directory::Spec& spec, std::span<std::byte> memory) {
        if (name != address.slot) return;
        if (spec.kind != ObjectKind::slot) {
          throw Error(Errc::type_mismatch,
                      fmt::format("{} is a {}, not a slot", address.text(), to_string(spec.kind)));
        }
        const ByteSlot slot(memory, segment.peers());
        if (spec.element.size == 0 || slot.count() % spec.element.size != 0) {
          throw Error(Errc::corrupt,
                      fmt::format("slot {} is damaged: make the segment anew", address.text()));
        }
        found = OpenSlot{element_recorded(spec.element), slot};
      });
  return found;
}

std::string slot_names(Segment& segment) {
  std::string names;
  segment.directory().for_each(
      [&](std::string_view name, const Directory::Spec& spec, std::span<std::byte>) {
        if (spec.kind != ObjectKind::slot) return;
        names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", name);
      });
  return names.empty() ? "none" : names;
}

}  // namespace heddle
