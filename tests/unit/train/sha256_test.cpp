#include "heddle/train/sha256.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace heddle {
namespace {

std::string sha256_of(std::string_view text) {
  return sha256_hex(std::as_bytes(std::span(text.data(), text.size())));
}

// The vectors of FIPS 180-4 and of NIST's examples.
TEST(Sha256, the_nist_vectors_have_their_digests) {
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_of(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// Around one block the padding takes one block more or less. Digests by coreutils' sha256sum.
TEST(Sha256, padding_is_right_around_the_end_of_a_block) {
  EXPECT_EQ(sha256_of(std::string(55, 'a')),
            "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
  EXPECT_EQ(sha256_of(std::string(56, 'a')),
            "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
  EXPECT_EQ(sha256_of(std::string(64, 'a')),
            "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
}

TEST(Sha256, cuts_between_updates_do_not_matter) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  const std::string whole = sha256_of(text);
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
    Sha256 sha;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      sha.update(bytes.subspan(at, std::min(piece, bytes.size() - at)));
    }
    std::string hex;
    for (const std::byte byte : sha.finish()) {
      constexpr std::string_view digits = "0123456789abcdef";
      hex += digits[std::to_integer<std::size_t>(byte >> 4)];
      hex += digits[std::to_integer<std::size_t>(byte & std::byte{15})];
    }
    ASSERT_EQ(hex, whole) << "in pieces of " << piece;
  }
}

}  // namespace
}  // namespace heddle
