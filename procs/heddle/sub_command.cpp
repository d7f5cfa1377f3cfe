#include "sub_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <span>
#include <vector>

#include "elements.hpp"
#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "npy.hpp"
#include "open_slot.hpp"
#include "option_checks.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

constexpr int nothing_read = 1;
constexpr int publisher_died = 3;
constexpr std::int64_t look_again = 20'000'000;  // for what does not wake: a name, a signal

int nothing(const std::string& why) {
  std::fprintf(stderr, "heddle: %s\n", why.c_str());
  return nothing_read;
}

std::string numbers(const SlotValue& value) {
  std::string text;
  value.form.print(value.bytes, " ", false, text);
  return text;
}

std::string abbreviated(const SlotValue& value) {
  constexpr std::size_t at_most = 8;
  const std::size_t count = value.bytes.size() / value.form.printed;
  if (count <= at_most) return numbers(value);
  const std::span<const std::byte> all = value.bytes;
  std::string text;
  value.form.print(all.first((at_most - 2) * value.form.printed), " ", false, text);
  text += " ... ";
  value.form.print(all.last(value.form.printed), " ", false, text);
  return text + fmt::format(" ({} {})", count, value.form.is_struct() ? "bytes" : "elements");
}

std::string json(const SlotValue& value, const Reading& reading, std::uint64_t skipped) {
  const auto age_ns = reading.age_ns();
  std::string text = fmt::format(
      R"({{"event":"value","version":{},"age_ns":{},"skipped":{},"type":"{}","values":[)",
      reading.version, age_ns ? std::to_string(*age_ns) : "null", skipped, value.form.name);
  value.form.print(value.bytes, ",", true, text);
  return text + "]}\n";
}

/// The value in the form that was asked for; as plain text, its numbers alone.
std::string encoded(const PullOptions& options, const SlotValue& value, const Reading& reading,
                    std::uint64_t skipped) {
  if (!options.npy.empty()) return write_npy(value);
  if (options.bytes) {
    return {reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size()};
  }
  if (options.json) return json(value, reading, skipped);
  return numbers(value) + "\n";
}

Reading copy_of(const ByteSlot& slot, SlotValue& value, const SlotAddress& address) {
  const Reading reading = slot.pull(value.bytes);
  if (reading.status == Status::closed) {
    throw Error(Errc::corrupt, address.text() + " is damaged: make the segment anew");
  }
  return reading;
}

// A participant, though it only reads: the segment stays as long as it is in it, so a next publisher
// goes on with the versions of the last; and it is the one who finds that a publisher has died.
class Sub {
 public:
  Sub(const SubOptions& options, StopSignals& signals)
      : options_(options),
        signals_(signals),
        address_(parse_slot_address(options.slot)),
        output_("-", signals) {}

  int run() {
    auto slot = find();
    for (; !slot; slot = find()) {
      if (is_late()) return nothing(address_.text() + " has not come in time");
      output_.pause(look_again);
    }
    SlotValue value{slot->form, std::vector<std::byte>(slot->slot.count())};
    for (std::uint64_t shown = 0; shown < options_.count.value_or(UINT64_MAX);) {
      const auto slice = Deadline::after(std::chrono::nanoseconds(look_again));
      const Status status = slot->slot.wait_newer(seen_, slice, WaitStrategy::sleep);
      if (status == Status::ready && pull(slot->slot, value)) {
        ++shown;
        continue;
      }
      const bool is_dead = status == Status::peer_died;
      if (is_dead && !told_death_) {
        tell_death();
        if (options_.end_on_death) return publisher_died;
      }
      told_death_ = is_dead;
      if (is_late()) return nothing(fmt::format("{} has no newer value in time", address_.text()));
      output_.pause(is_dead ? look_again : 0);
    }
    return 0;
  }

 private:
  std::optional<OpenSlot> find() {
    if (!segment_) segment_ = open_segment(address_.segment);
    if (!segment_) return std::nullopt;
    return find_slot(segment_->directory(), segment_->peers(), address_);
  }

  bool pull(const ByteSlot& slot, SlotValue& value) {
    const Reading reading = copy_of(slot, value, address_);
    if (!reading) return false;  // publishers overtook it
    show(value, reading, seen_ == 0 ? 0 : reading.version - seen_ - 1);
    seen_ = reading.version;
    told_death_ = false;
    deadline_ = next_deadline();
    return true;
  }

  void show(const SlotValue& value, const Reading& reading, std::uint64_t skipped) {
    if (!options_.npy.empty() && options_.npy != "-") {
      const std::string file = fmt::format("{}/{}.npy", options_.npy, reading.version);
      Output(file, signals_).write(write_npy(value));
      output_.write(file + "\n");
    } else if (options_.npy.empty() && !options_.bytes && !options_.json) {
      output_.write(fmt::format("version {} ({}{}): {}\n", reading.version, age(reading.age_ns()),
                                skipped == 0 ? "" : fmt::format(", {} skipped", skipped),
                                abbreviated(value)));
    } else {
      output_.write(encoded(options_, value, reading, skipped));
    }
  }

  void tell_death() {
    if (options_.json) {
      output_.write(fmt::format("{{\"event\":\"died\",\"version\":{}}}\n", seen_));
    } else {
      const std::string left =
          seen_ == 0 ? " and left no value" : fmt::format("; version {} stays", seen_);
      std::fprintf(stderr, "heddle: the publisher of %s died%s\n", address_.text().c_str(),
                   left.c_str());
    }
  }

  Deadline next_deadline() const {
    if (!options_.timeout) return Deadline::never();
    constexpr double longest = 1e9;  // seconds
    return Deadline::after(std::chrono::nanoseconds(
        static_cast<std::int64_t>(std::min(*options_.timeout, longest) * 1e9)));
  }
  bool is_late() const { return deadline_.left(monotonic_ns()) <= 0; }

  const SubOptions& options_;
  StopSignals& signals_;
  const SlotAddress address_;
  Output output_;
  std::optional<Segment> segment_;
  Version seen_ = 0;
  bool told_death_ = false;
  Deadline deadline_ = next_deadline();
};

int pull(const PullOptions& options, StopSignals& signals) {
  const SlotAddress address = parse_slot_address(options.slot);
  auto segment = observe_segment(address.segment);
  if (!segment) return nothing(fmt::format("there is no segment \"{}\"", address.segment));
  remove_if_abandoned(address.segment);  // what is observed stays
  const auto slot = find_slot(segment->directory(), segment->peers(), address);
  if (!slot) {
    return nothing(fmt::format("there is no slot \"{}\" in segment \"{}\"; it has {}", address.slot,
                               address.segment, slot_names(segment->directory())));
  }
  SlotValue value{slot->form, std::vector<std::byte>(slot->slot.count())};
  const Reading reading = copy_of(slot->slot, value, address);
  if (!reading) {
    return nothing(address.text() +
                   (reading.status == Status::empty
                        ? " has no value yet"
                        : " is overwritten faster than it can be read; try again"));
  }
  Output(options.npy.empty() ? "-" : options.npy, signals)
      .write(encoded(options, value, reading, 0));
  return 0;
}

void add_pull_options(CLI::App& command, PullOptions& options) {
  command.add_option("SEGMENT/SLOT", options.slot, slot_address_help)->required()->type_name("");
  CLI::Option* json = command.add_flag("--json", options.json, "print one JSON object a line");
  command.add_flag("--bytes", options.bytes, "write the raw bytes alone")->excludes(json);
}

}  // namespace

CLI::App* add_sub_command(CLI::App& app, SubOptions& options) {
  CLI::App* sub = app.add_subcommand("sub", "print each new value of a slot");
  add_pull_options(*sub, options);
  sub->add_option("--npy", options.npy,
                  "write VERSION.npy files into this folder and print their names; -: all to "
                  "standard output")
      ->excludes("--json")
      ->excludes("--bytes")
      ->type_name("FOLDER");
  sub->add_option("--count", options.count, "end after so many values");
  sub->add_option("--timeout", options.timeout,
                  "seconds to wait for each value, or for the slot to come [for ever]");
  sub->add_flag("--end-on-death", options.end_on_death,
                "end with code 3 when the publisher died [tell, and wait for its successor]");
  check_whole(*sub, {"--count"});
  check_decimal(*sub, {"--timeout"});
  sub->footer(
      "Always the newest value: those that passed unseen meanwhile are counted as skipped.\n"
      "The segment, and its value, stay as long as somebody subscribes.\n"
      "Ends with 0 after --count values, 1 after --timeout, 128 + the signal that ended it.");
  return sub;
}

CLI::App* add_pull_command(CLI::App& app, PullOptions& options) {
  CLI::App* pull = app.add_subcommand("pull", "print the newest value of a slot");
  add_pull_options(*pull, options);
  pull->add_option("--npy", options.npy, "write an .npy file; -: to standard output")
      ->excludes("--json")
      ->excludes("--bytes")
      ->type_name("FILE");
  pull->footer(
      "Ends with 1 when there is none. Takes no place in the segment and leaves no trace; but one\n"
      "in which all were killed goes with the first pull.");
  return pull;
}

int sub_command(const SubOptions& options) {
  return run_until_stopped([&](StopSignals& signals) { return Sub(options, signals).run(); });
}

int pull_command(const PullOptions& options) {
  return run_until_stopped([&](StopSignals& signals) { return pull(options, signals); });
}

}  // namespace heddle
