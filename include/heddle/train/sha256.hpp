#pragma once

// SHA-256, to name parameters by their bits. Not hardened: do not use it to keep secrets.
// Source          FIPS 180-4

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace heddle {

class Sha256 {
 public:
  /// Adds bytes to the message; cuts between calls do not matter.
  void update(std::span<const std::byte> bytes) noexcept;

  /// The digest of all bytes so far. Call it once, last.
  std::array<std::byte, 32> finish() noexcept;

 private:
  static constexpr std::size_t block_bytes = 64;

  void add_block(const std::byte* block) noexcept;

  // FIPS 180-4, 5.3.3: fractions of the square roots of the first eight primes.
  std::array<std::uint32_t, 8> hash_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, block_bytes> pending_ = {};
  std::size_t pending_size_ = 0;
  std::uint64_t message_bytes_ = 0;
};

/// The digest of `bytes` as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::span<const std::byte> bytes);

}  // namespace heddle
