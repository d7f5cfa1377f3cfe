#pragma once

// What the environment asks of a test.

#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>

namespace heddle::test {

/// The number that the variable `name` gives; nothing when it is not set. Throws when it gives
/// something else than `what`, from `least` to `most`.
inline std::optional<std::uint64_t> number_from_environment(const char* name, const char* what,
                                                            std::uint64_t least,
                                                            std::uint64_t most) {
  const char* given = std::getenv(name);
  if (given == nullptr) return std::nullopt;
  const std::string text = given;
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < least || number > most) {
    throw std::invalid_argument(std::string(name) + "=" + text + ": give " + what + " from " +
                                std::to_string(least) + " to " + std::to_string(most));
  }
  return number;
}

}  // namespace heddle::test
