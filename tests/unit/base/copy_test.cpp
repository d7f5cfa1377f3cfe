#include "heddle/base/copy.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace heddle {
namespace {

// Memory with a page behind it, and one before it, that nobody may touch.
class Guarded {
 public:
  explicit Guarded(std::size_t bytes) : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    bytes_ = (bytes + page_ - 1) / page_ * page_;
    void* map = mmap(nullptr, bytes_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::runtime_error("no memory for a test");
    begin_ = static_cast<std::byte*>(map) + page_;
    if (mprotect(begin_, bytes_, PROT_READ | PROT_WRITE) != 0) {
      throw std::runtime_error("no access to a test's memory");
    }
  }
  ~Guarded() { munmap(begin_ - page_, bytes_ + 2 * page_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::byte* begin() const { return begin_; }
  std::byte* end() const { return begin_ + bytes_; }
  void fill(std::byte with) const { std::fill(begin(), end(), with); }

 private:
  std::size_t page_;
  std::size_t bytes_;
  std::byte* begin_;
};

constexpr std::byte untouched{0x5a};

// One of the ways to copy, by itself: also those that copy_in and copy_out do not choose here.
struct Implementation {
  const char* name;
  void (*in)(void* shared, const void* from, std::size_t bytes);
  void (*out)(void* to, const void* shared, std::size_t bytes);
  std::size_t least;  // bytes
  std::size_t most;
  std::size_t alignment;  // of the shared side
};

std::ostream& operator<<(std::ostream& out, const Implementation& implementation) {
  return out << implementation.name;
}

constexpr std::size_t any = SIZE_MAX;

#if defined(__x86_64__)
template <void part(std::byte*, const std::byte*, std::size_t)>
Implementation part_of_fast(const char* name, std::size_t least, std::size_t most) {
  const auto copy = [](void* to, const void* from, std::size_t bytes) {
    part(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
  };
  return {name, copy, copy, least, most, 1};
}
#endif

std::vector<Implementation> implementations() {
  std::vector<Implementation> all{{"chosen", copy_in, copy_out, 0, any, 4},
                                  {"words", words::copy_in, words::copy_out, 0, any, 4}};
#if defined(__x86_64__)
  all.push_back({"fast", fast::copy, fast::copy, 0, any, 1});
  all.push_back(part_of_fast<fast::few>("few", 0, 64));
  all.push_back(part_of_fast<fast::by_sse2>("by_sse2", 64, any));
  if (fast::has_avx()) all.push_back(part_of_fast<fast::by_avx>("by_avx", 64, any));
  all.push_back(part_of_fast<fast::streamed>("streamed", 128, any));
#endif
  return all;
}

// A value so large that it is streamed, unless the caches are huge.
std::size_t streamed_bytes() {
#if defined(__x86_64__)
  if (fast::streamed_from() <= std::size_t{1} << 26U) return fast::streamed_from();
#endif
  return std::size_t{1} << 22U;
}

class Copy : public testing::TestWithParam<Implementation> {
 protected:
  bool takes(std::size_t bytes) const {
    return GetParam().least <= bytes && bytes <= GetParam().most;
  }
};

// What is copied, of a byte for each place that differs from its neighbours'.
void fill_with_pattern(std::byte* begin, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) begin[i] = static_cast<std::byte>(i * 7 + i / 256 + 1);
}

bool all_untouched(const std::byte* begin, const std::byte* end) {
  return std::all_of(begin, end, [](std::byte byte) { return byte == untouched; });
}

// Copies in and out with the two sides so far from 64 byte alignment, and looks at all around.
void copy_both_ways(const Implementation& implementation, const Guarded& shared,
                    const Guarded& target, const std::byte* source, std::size_t bytes,
                    std::size_t shared_offset, std::size_t private_offset) {
  shared.fill(untouched);
  std::byte* const at = shared.begin() + 64 + shared_offset;
  implementation.in(at, source + private_offset, bytes);
  ASSERT_TRUE(std::equal(at, at + bytes, source + private_offset));
  ASSERT_TRUE(all_untouched(shared.begin(), at));
  const std::size_t rest = (4 - bytes % 4) % 4;
  for (std::size_t i = 0; i < rest; ++i) {
    ASSERT_TRUE(at[bytes + i] == untouched || at[bytes + i] == std::byte{0});
  }
  ASSERT_TRUE(all_untouched(at + bytes + rest, shared.end()));

  target.fill(untouched);
  std::byte* const to = target.begin() + 64 + private_offset;
  implementation.out(to, at, bytes);
  ASSERT_TRUE(std::equal(to, to + bytes, source + private_offset));
  ASSERT_TRUE(all_untouched(target.begin(), to));
  ASSERT_TRUE(all_untouched(to + bytes, target.end()));
}

TEST_P(Copy, moves_every_byte_and_touches_no_other_at_any_size_and_alignment) {
  constexpr std::size_t most = 600;
  const Guarded shared(most + 256), target(most + 256);
  std::vector<std::byte> source(most + 64);
  fill_with_pattern(source.data(), source.size());
  for (std::size_t bytes = 0; bytes <= most; ++bytes) {
    if (!takes(bytes)) continue;
    for (std::size_t i = 0; i < 16; ++i) {
      for (const std::size_t shared_offset : {0, 4, 8, 1, 63}) {
        if (shared_offset % GetParam().alignment != 0) continue;
        // 0 to 15, in the four quarters of a line in turn.
        const std::size_t private_offset = i + 16 * (bytes % 4);
        SCOPED_TRACE(testing::Message() << bytes << " bytes, shared side off by " << shared_offset
                                        << ", private side by " << private_offset);
        ASSERT_NO_FATAL_FAILURE(copy_both_ways(GetParam(), shared, target, source.data(), bytes,
                                               shared_offset, private_offset));
      }
    }
  }
}

TEST_P(Copy, touches_no_page_behind_or_before_either_side) {
  const Guarded shared(1), privately(1);
  for (std::size_t bytes = 0; bytes <= 600; ++bytes) {
    if (!takes(bytes)) continue;
    const std::size_t padded = (bytes + 3) / 4 * 4;
    fill_with_pattern(privately.begin(), 4096);
    GetParam().in(shared.end() - padded, privately.end() - bytes, bytes);
    GetParam().out(privately.end() - bytes, shared.end() - padded, bytes);
    GetParam().in(shared.begin(), privately.begin(), bytes);
    GetParam().out(privately.begin(), shared.begin(), bytes);
  }
}

// Around pages and caches, and where streaming begins.
std::vector<std::size_t> large_sizes() {
  std::vector<std::size_t> sizes;
  for (const std::size_t limit :
       {std::size_t{4096}, std::size_t{1} << 16U, std::size_t{1} << 20U, streamed_bytes()}) {
    for (const std::size_t bytes : {limit - 1, limit, limit + 1, limit + 68})
      sizes.push_back(bytes);
  }
  return sizes;
}

TEST_P(Copy, moves_large_values) {
  const std::vector<std::size_t> sizes = large_sizes();
  const std::size_t most = *std::ranges::max_element(sizes);
  const Guarded shared(most + 256), target(most + 256);
  std::vector<std::byte> source(most + 64);
  fill_with_pattern(source.data(), source.size());
  for (const std::size_t bytes : sizes) {
    if (!takes(bytes)) continue;
    SCOPED_TRACE(testing::Message() << bytes << " bytes");
    ASSERT_NO_FATAL_FAILURE(copy_both_ways(GetParam(), shared, target, source.data(), bytes, 4, 5));
  }
}

// A seqlock of one value: the caller's part of the contract, and no stronger than that.
class Seqlock {
 public:
  Seqlock(const Implementation& implementation, std::size_t bytes)
      : implementation_(implementation), bytes_(bytes), memory_(bytes) {
    generation_.store(0, relaxed);
  }

  void publish(const void* value) {
    const std::uint64_t before = generation_.load(relaxed);
    generation_.store(before + 1, relaxed);
    fence(release("COPY.new"));
    implementation_.in(memory_.begin(), value, bytes_);
    generation_.store(before + 2, release("COPY.complete"));
  }

  /// The number of the publication whose value was taken; 0: none was.
  std::uint64_t pull(void* value) const {
    const std::uint64_t before = generation_.load(acquire("COPY.complete"));
    if (before % 2 != 0) return 0;
    implementation_.out(value, memory_.begin(), bytes_);
    fence(acquire("COPY.new"));
    return generation_.load(relaxed) == before ? before / 2 : 0;
  }

 private:
  const Implementation& implementation_;
  std::size_t bytes_;
  Guarded memory_;
  alignas(64) Atomic<std::uint64_t> generation_;
};

// The writer publishes without a look at the reader, and only now and then waits for it.
void expect_whole_values(const Implementation& implementation, std::size_t bytes,
                         std::uint32_t publications) {
  Seqlock seqlock(implementation, bytes);
  Atomic<std::uint64_t> taken;
  taken.store(0, relaxed);
  std::jthread writer([&] {
    std::vector<std::uint32_t> value(bytes / 4);
    for (std::uint32_t number = 1; number <= publications; ++number) {
      std::ranges::fill(value, number);
      seqlock.publish(value.data());
      while (number % 256 == 0 && taken.load(relaxed) < number) yield();
    }
  });
  std::vector<std::uint32_t> value(bytes / 4);
  bool whole = true;
  for (std::uint64_t number = 0; number < publications;) {
    const std::uint64_t pulled = seqlock.pull(value.data());
    if (pulled == 0) {
      yield();
      continue;
    }
    number = pulled;
    whole = whole && std::ranges::all_of(value, [&](std::uint32_t word) { return word == number; });
    taken.store(number, relaxed);
  }
  EXPECT_TRUE(whole) << "a value of " << bytes << " bytes was torn";
}

TEST_P(Copy, a_reader_takes_no_torn_value) {
  struct Race {
    std::size_t bytes;
    std::uint32_t publications;
  };
  for (const Race& race : {Race{8, 40'000}, Race{44, 40'000}, Race{256, 40'000}, Race{4100, 8'000},
                           Race{65540, 500}, Race{1U << 20U, 40}, Race{streamed_bytes(), 3}}) {
    if (takes(race.bytes)) expect_whole_values(GetParam(), race.bytes, race.publications);
  }
}

// As in a training whose workers all write where they please: no generation, nothing is thrown away.
TEST_P(Copy, elements_come_out_whole) {
  for (const std::size_t bytes : {64U, 136U, 4096U}) {
    if (!takes(bytes)) continue;
    const Guarded shared(bytes + 8);
    Atomic<std::uint32_t> over;
    over.store(0, relaxed);
    std::jthread writer([&] {
      std::vector<std::uint64_t> value(bytes / 8);
      while (over.load(relaxed) == 0) {
        std::ranges::fill(value, ~value[0]);
        GetParam().in(shared.begin() + 8, value.data(), bytes);
      }
    });
    std::vector<std::uint64_t> value(bytes / 8);
    bool whole = true;
    for (int changes = 0; changes < 200;) {
      const std::uint64_t before = value[0];
      GetParam().out(value.data(), shared.begin() + 8, bytes);
      if (value[0] == before) yield();  // the writer may not be running
      changes += value[0] != before;
      whole = whole && std::ranges::all_of(
                           value, [](std::uint64_t word) { return word == 0 || word + 1 == 0; });
    }
    over.store(1, relaxed);
    EXPECT_TRUE(whole) << "an element among " << bytes << " bytes was torn";
  }
}

INSTANTIATE_TEST_SUITE_P(Implementations, Copy, testing::ValuesIn(implementations()),
                         [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace heddle
