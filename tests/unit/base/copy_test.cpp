#include "heddle/base/copy.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <memory>
#include <vector>

namespace heddle {
namespace {

constexpr std::size_t largest = 130;
constexpr std::uint64_t untouched = 0x5a5a5a5a5a5a5a5a;

// Exactly `bytes` of private memory at an odd address, so that a sanitizer sees one byte too many.
class PrivateBuffer {
 public:
  PrivateBuffer(std::size_t bytes, std::size_t misaligned)
      : memory_(new std::byte[bytes + misaligned]), begin_(memory_.get() + misaligned) {
    for (std::size_t i = 0; i < bytes; ++i) begin_[i] = static_cast<std::byte>(i * 7 + 1);
  }
  std::byte* get() { return begin_; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::byte* begin_;
};

class SharedWords {
 public:
  SharedWords() : words_(new SharedWord[count]) {
    for (std::size_t i = 0; i < count; ++i) words_[i].store(untouched, relaxed);
  }
  SharedWord* get() { return words_.get(); }
  std::uint64_t operator[](std::size_t i) const { return words_[i].load(relaxed); }
  static constexpr std::size_t count = word_padded(largest) / 8 + 1;

 private:
  std::unique_ptr<SharedWord[]> words_;
};

TEST(Copy, in_writes_every_byte_and_nothing_beyond_the_padded_size) {
  for (std::size_t bytes = 0; bytes <= largest; ++bytes) {
    for (std::size_t misaligned = 0; misaligned < 8; ++misaligned) {
      SCOPED_TRACE(testing::Message() << bytes << " bytes, misaligned by " << misaligned);
      PrivateBuffer source(bytes, misaligned);
      SharedWords shared;
      copy_in(shared.get(), source.get(), bytes);
      for (std::size_t i = 0; i < SharedWords::count; ++i) {
        std::uint64_t expected = i < word_padded(bytes) / 8 ? 0 : untouched;
        for (std::size_t k = i * 8; k < bytes && k < i * 8 + 8; ++k) {  // zeroes behind the last
          expected |= static_cast<std::uint64_t>(source.get()[k]) << (k % 8 * 8);
        }
        ASSERT_EQ(shared[i], expected) << "word " << i;
      }
    }
  }
}

TEST(Copy, out_gives_back_what_went_in_and_touches_nothing_behind_it) {
  for (std::size_t bytes = 0; bytes <= largest; ++bytes) {
    for (std::size_t misaligned = 0; misaligned < 8; ++misaligned) {
      SCOPED_TRACE(testing::Message() << bytes << " bytes, misaligned by " << misaligned);
      PrivateBuffer source(bytes, misaligned);
      SharedWords shared;
      copy_in(shared.get(), source.get(), bytes);
      std::vector<std::byte> target(misaligned + bytes + 8, std::byte{0x5a});
      copy_out(target.data() + misaligned, shared.get(), bytes);
      ASSERT_EQ(std::memcmp(target.data() + misaligned, source.get(), bytes), 0);
      for (std::size_t i = 0; i < 8; ++i) {
        ASSERT_EQ(target[misaligned + bytes + i], std::byte{0x5a}) << "behind by " << i;
      }
    }
  }
}

TEST(Copy, padded_size_is_the_next_multiple_of_a_word) {
  EXPECT_EQ(word_padded(0), 0U);
  EXPECT_EQ(word_padded(1), 8U);
  EXPECT_EQ(word_padded(8), 8U);
  EXPECT_EQ(word_padded(9), 16U);
}

}  // namespace
}  // namespace heddle
