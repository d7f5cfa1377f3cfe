#include <fmt/format.h>

#include <array>

#include "heddle_slot.hpp"
#include "one_way.hpp"
#include "suites.hpp"

namespace heddle::bench {
namespace {

/// The floor: one cache line that one core writes and another reads. Its last word says that the
/// others are there.
class CoreToCore {
 public:
  static constexpr std::size_t values = 7;
  struct alignas(64) Line {
    std::array<Atomic<std::uint64_t>, values + 1> words;
  };

  explicit CoreToCore(std::size_t /*bytes*/) {}
  void reset() { line_.reset(); }

  class Writer {
   public:
    explicit Writer(CoreToCore& channel) : line_(*channel.line_) {}
    void publish(std::span<const std::uint64_t> value) {
      for (std::size_t i = 0; i < values; ++i) line_.words[i].store(value[i], relaxed);
      line_.words[values].store(++number_, release("BENCH.line"));
    }

   private:
    Line& line_;
    std::uint64_t number_ = 0;
  };

  class Reader {
   public:
    explicit Reader(CoreToCore& channel) : line_(*channel.line_) {}
    bool poll() {
      if (line_.words[values].load(acquire("BENCH.line")) == number_) return false;
      for (std::size_t i = 0; i < values; ++i) value_[i] = line_.words[i].load(relaxed);
      ++number_;
      return true;
    }
    std::span<const std::uint64_t> value() const { return value_; }
    void release() {}

   private:
    Line& line_;
    std::array<std::uint64_t, values> value_{};
    std::uint64_t number_ = 0;
  };

 private:
  Shared<Line> line_;
};

template <class Channel>
Entry one_way(Label label, std::size_t bytes) {
  return {std::move(label), [bytes] { return std::make_unique<OneWay<Channel>>(bytes); }};
}

}  // namespace

std::vector<Entry> slot_suite() {
  std::vector<Entry> entries;
  entries.push_back(one_way<CoreToCore>(
      {"slot", "slot/core_to_core/64B", "hardware", "latency", "ns"}, CoreToCore::values * 8));

  struct Size {
    const char* name;
    std::size_t bytes;
  };
  for (const auto& [name, bytes] : {Size{"64B", 64}, Size{"4KiB", 4096}, Size{"1MiB", 1U << 20U}}) {
    Label label{"slot", fmt::format("slot/one_way/{}", name), "heddle", "latency", "ns"};
    if (bytes == 64) {
      label.against_case = "slot/core_to_core/64B";
      label.against_impl = "hardware";
    }
    entries.push_back(one_way<HeddleSlot>(label, bytes));
    label.impl = "heddle_view";
    entries.push_back(one_way<HeddleSlotByView>(label, bytes));
  }
  return entries;
}

}  // namespace heddle::bench
