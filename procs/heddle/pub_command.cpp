#include "pub_command.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

#include "elements.hpp"
#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "npy.hpp"
#include "open_slot.hpp"
#include "option_checks.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

// A value from one line of text.
SlotValue parse_line(std::string_view line, const ElementForm& form) {
  constexpr std::string_view blanks = " \t\r";
  SlotValue value{form, {}};
  for (;;) {
    line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    if (line.empty()) break;
    const std::string_view word = line.substr(0, line.find_first_of(blanks));
    if (!form.parse(word, value.bytes)) {
      throw Error(Errc::bad_data,
                  fmt::format("\"{}\" is no number of type {}", word.substr(0, 40), form.name));
    }
    line.remove_prefix(word.size());
  }
  if (value.bytes.empty()) throw Error(Errc::bad_data, "there is no number in it");
  return value;
}

class Pub {
 public:
  Pub(const PubOptions& options, StopSignals& signals)
      : options_(options),
        signals_(signals),
        address_(parse_slot_address(options.slot)),
        segment_(open_segment(address_.segment)),
        holds_(options.hold ||
               (!options.no_hold && (!segment_ || segment_->participants().size() == 1))) {
    if (segment_) slot_ = find_slot(segment_->directory(), segment_->peers(), address_);
    count_ = slot_ ? slot_->count() : options.count;
    if (options.count && options.count != count_) {
      throw Error(Errc::type_mismatch, fmt::format("{} has {} elements, not {}", address_.text(),
                                                   *count_, *options.count));
    }
    if (!options.type.empty()) {
      form_ = element_named(options.type);
    } else {
      form_ = slot_ ? slot_->form : element_named(options.bytes ? "bytes" : "f64");
    }
    if (form_.is_struct() && !options.bytes && !options.npy) {
      throw Error(Errc::type_mismatch,
                  fmt::format("{} holds structs of {} bytes: publish them with --bytes",
                              address_.text(), form_.type.size));
    }
  }

  int run() {
    const std::vector<std::string> standard_input{"-"};
    for (const auto& file : options_.files.empty() ? standard_input : options_.files) {
      Input input(file, signals_);
      publish_all(input);
    }
    if (published_ == 0) throw Error(Errc::bad_data, "there is no value in the input");
    if (!holds_) return 0;
    Output("-", signals_)
        .write(fmt::format("published {} value{} to {}; the segment stays until Ctrl-C\n",
                           published_, published_ == 1 ? "" : "s", address_.text()));
    for (;;) wait_for_descriptor(-1, 0, for_ever, signals_);
  }

 private:
  void publish_all(Input& input) {
    for (std::uint64_t number = 1;; ++number) {
      try {
        const std::optional<SlotValue> value = next(input);
        if (!value) return;
        publish(*value);
      } catch (const Error& error) {
        if (error.code() != Errc::bad_data) throw;
        const char* what = options_.npy || options_.bytes ? "value" : "line";
        throw Error(Errc::bad_data,
                    fmt::format("{}, {} {}: {}", input.name(), what, number, error.what()));
      }
    }
  }

  std::optional<SlotValue> next(Input& input) {
    if (options_.npy) return read_npy(input);
    if (options_.bytes) return next_bytes(input);
    const auto line = input.line();
    if (!line) return std::nullopt;
    return parse_line(*line, form_);
  }

  // As many as the slot has; all there are when that is not known yet.
  std::optional<SlotValue> next_bytes(Input& input) {
    const std::size_t size = form_.type.size;
    const std::size_t wanted = count_ && *count_ <= SIZE_MAX / size ? *count_ * size : SIZE_MAX;
    SlotValue value{form_, input.read_bytes(wanted)};
    if (value.bytes.empty()) return std::nullopt;
    if (value.bytes.size() % size != 0 || (count_ && value.bytes.size() != wanted)) {
      throw Error(Errc::bad_data,
                  count_ ? fmt::format("it ends after {} of {} bytes", value.bytes.size(), wanted)
                         : fmt::format("{} bytes are no whole number of {} ({} bytes each)",
                                       value.bytes.size(), form_.name, size));
    }
    return value;
  }

  void publish(const SlotValue& value) {
    check_count(value);
    if (!publisher_) open_for(value);
    check_count(value);  // another may have made the slot just before
    for (std::int64_t left = 0; (left = next_ - monotonic_ns()) > 0;) {
      wait_for_descriptor(-1, 0, left, signals_);
    }
    next_ = std::max(next_, monotonic_ns()) + period_;
    // Of those that are given, buffers may be too few.
    constexpr int tries_in_silence = 1000;  // of a millisecond
    for (int tries = 0; publisher_->publish(value.bytes) == Status::busy; ++tries) {
      if (tries == tries_in_silence) {
        std::fprintf(stderr, "heddle: every buffer of %s is in use: %s\n", address_.text().c_str(),
                     holders_of(*segment_, slot_->slot).c_str());
      }
      wait_for_descriptor(-1, 0, 1'000'000, signals_);
    }
    ++published_;
  }

  void check_count(const SlotValue& value) const {
    if (!count_ || value.count() == *count_) return;
    throw Error(Errc::bad_data, fmt::format("it has {} elements, a value of {} has {}",
                                            value.count(), address_.text(), *count_));
  }

  void open_for(const SlotValue& value) {
    const ByteSlot::Options shape{value.bytes.size(), options_.views, options_.publishers,
                                  options_.buffers};
    const Directory::Spec spec{ObjectKind::slot, value.form.type, ByteSlot::bytes(shape)};
    if (!segment_) {
      segment_ = open_or_create_segment(address_.segment, {.bytes = spec.bytes + options_.room});
    }
    const Deadline deadline = Deadline::after(std::chrono::seconds(5));
    Directory& directory = segment_->directory();
    const auto memory =
        slot_ ? directory.find(address_.slot, spec.kind, spec.element, segment_->peers(), deadline)
              : directory.find_or_create(
                    address_.slot, spec, segment_->peers(), deadline,
                    [&](std::span<std::byte> fresh) { ByteSlot::format(fresh, shape); });
    slot_ = OpenSlot{value.form, ByteSlot(memory, segment_->peers())};
    count_ = slot_->count();
    publisher_ = slot_->slot.publisher();
  }

  const PubOptions& options_;
  StopSignals& signals_;
  const SlotAddress address_;
  std::optional<Segment> segment_;
  const bool holds_;
  std::optional<OpenSlot> slot_;
  ElementForm form_;
  std::optional<std::uint64_t> count_;
  std::optional<ByteSlot::Publisher> publisher_;
  std::uint64_t published_ = 0;
  const std::int64_t period_ = options_.rate ? static_cast<std::int64_t>(1e9 / *options_.rate) : 0;
  std::int64_t next_ = 0;  // when the next value is due
};

}  // namespace

CLI::App* add_pub_command(CLI::App& app, PubOptions& options) {
  CLI::App* pub = app.add_subcommand("pub", "publish values to a slot");
  pub->add_option("SEGMENT/SLOT", options.slot, slot_address_help)->required()->type_name("");
  pub->add_option("FILE", options.files, "what to publish [-, standard input]")->type_name("");
  CLI::Option* type =
      pub->add_option("--type", options.type,
                      "f32 f64 i8 i16 i32 i64 u8 u16 u32 u64 bytes [the slot's; f64 in a new one]");
  CLI::Option* count = pub->add_option("--count", options.count,
                                       "elements of a value [the slot's; those of the first]");
  CLI::Option* bytes = pub->add_flag("--bytes", options.bytes, "the input is raw bytes");
  pub->add_flag("--npy", options.npy, "the input is .npy files, each a value")
      ->excludes(type)
      ->excludes(count)
      ->excludes(bytes);
  pub->add_option("--rate", options.rate, "values a second at most");
  CLI::Option* hold =
      pub->add_flag("--hold", options.hold,
                    "stay until Ctrl-C after the last value [if nobody else was in the segment]");
  pub->add_flag("--no-hold", options.no_hold, "end after the last value")->excludes(hold);
  pub->add_option("--views", options.views, "of a new slot: readers that pin at a time")
      ->capture_default_str();
  pub->add_option("--publishers", options.publishers, "of a new slot: registered at a time")
      ->capture_default_str();
  pub->add_option("--buffers", options.buffers, "of a new slot [views + publishers + 1]");
  pub->add_option("--room", options.room, "bytes for further objects in a new segment")
      ->capture_default_str();
  check_whole(*pub, {"--count", "--views", "--publishers", "--buffers", "--room"});
  check_decimal(*pub, {"--rate"});
  pub->footer(
      "Text has one value a line, its numbers apart by blanks. Segment and slot are made if they\n"
      "are not there. A segment lives as long as a process is in it: so who finds nobody else in\n"
      "it stays after its last value, until Ctrl-C (with --no-hold it ends, and the values go).");
  return pub;
}

int pub_command(const PubOptions& options) {
  if (options.count == 0U) throw Error(Errc::invalid_argument, "--count must be 1 or more");
  if (options.rate && !(*options.rate >= 1e-6 && *options.rate <= 1e9)) {
    throw Error(Errc::invalid_argument, "--rate must be 0.000001 to 1000000000 values a second");
  }
  return run_until_stopped([&](StopSignals& signals) { return Pub(options, signals).run(); });
}

}  // namespace heddle
