#include "open_slot.hpp"

#include <fmt/format.h>

#include <span>
#include <string_view>
#include <utility>

#include "heddle/base/error.hpp"
#include "heddle/shm/liveness.hpp"
#include "heddle/shm/segment_file.hpp"

namespace heddle {
namespace {

template <class Opened>
std::optional<Opened> open_if_there(const std::string& name) {
  try {
    return Opened::open(name);
  } catch (const Error& error) {
    if (error.code() != Errc::not_found) throw;
    return std::nullopt;
  }
}

}  // namespace

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
  return open_if_there<Segment>(name);
}

std::optional<Observer> observe_segment(const std::string& name) {
  return open_if_there<Observer>(name);
}

void remove_if_abandoned(const std::string& name) {
  const std::string path = segment_path(name);
  const auto file = open_segment_file(path);
  if (!file || any_token_held(file->get())) return;
  try {
    unlink_if_abandoned(file->get(), path);
  } catch (const Error&) {
    // A stopped joiner or a sticky directory: it stays for the next who comes.
  }
}

Segment open_or_create_segment(const std::string& name, const Segment::Options& options) {
  for (;;) {
    if (auto segment = open_segment(name)) return std::move(*segment);
    try {
      return Segment::create(name, options);
    } catch (const Error& error) {
      if (error.code() != Errc::name_in_use) throw;
    }
  }
}

std::optional<OpenSlot> find_slot(Directory& directory, Peers& peers, const SlotAddress& address) {
  std::optional<OpenSlot> found;
  directory.for_each(
      [&](std::string_view name, const Directory::Spec& spec, std::span<std::byte> memory) {
        if (name != address.slot) return;
        if (spec.kind != ObjectKind::slot) {
          throw Error(Errc::type_mismatch,
                      fmt::format("{} is a {}, not a slot", address.text(), to_string(spec.kind)));
        }
        const ByteSlot slot(memory, peers);
        if (spec.element.size == 0 || slot.count() % spec.element.size != 0) {
          throw Error(Errc::corrupt,
                      fmt::format("slot {} is damaged: make the segment anew", address.text()));
        }
        found = OpenSlot{element_recorded(spec.element), slot};
      });
  return found;
}

std::string slot_names(const Directory& directory) {
  std::string names;
  directory.for_each([&](std::string_view name, const Directory::Spec& spec, std::span<std::byte>) {
    if (spec.kind != ObjectKind::slot) return;
    names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", name);
  });
  return names.empty() ? "none" : names;
}

std::string age(std::optional<std::int64_t> nanoseconds) {
  if (!nanoseconds) return "of unknown age";
  const auto time = static_cast<double>(*nanoseconds);
  if (time < 1e6) return fmt::format("{:.0f} us old", time / 1e3);
  return time < 1e9 ? fmt::format("{:.1f} ms old", time / 1e6)
                    : fmt::format("{:.1f} s old", time / 1e9);
}

std::string holders_of(const Segment& segment, const ByteSlot& slot) {
  std::string text;
  for (const SlotHolder& holder : slot.holders()) {
    const auto process = segment.participant(holder.owner);
    text += text.empty() ? "" : ", ";
    text +=
        process ? fmt::format("process {} ({})", process->pid, process->program) : "a dead process";
    text += holder.what == SlotHolder::What::publication
                ? " publishes"
                : fmt::format(" views version {} ({})", holder.version, age(holder.open_ns()));
  }
  return text;
}

}  // namespace heddle
