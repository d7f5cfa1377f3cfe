#pragma once

// The floor of every one-way latency: one cache line that one core writes and another reads. Its last
// word says that the others are there.

#include <array>
#include <cstdint>
#include <span>

#include "team.hpp"

namespace heddle::bench {

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

}  // namespace heddle::bench
