#include "option_checks.hpp"

#include <charconv>
#include <cstdint>
#include <string>

namespace heddle {
namespace {

std::string whole(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool plain = text.size() == 1 || text[0] != '0';
  if (error == std::errc() && end == text.data() + text.size() && plain) return "";
  return "\"" + text + "\" is not a whole number, or is too large";
}

std::string decimal(const std::string& text) {
  if (text.find_first_not_of("0123456789+-.eE") == text.npos) return "";
  return "\"" + text + "\" is not a decimal number";
}

}  // namespace

void check_whole(CLI::App& command, std::initializer_list<const char*> options) {
  for (const char* option : options) command.get_option(option)->check(CLI::Validator(whole, ""));
}

void check_decimal(CLI::App& command, std::initializer_list<const char*> options) {
  for (const char* option : options) command.get_option(option)->check(CLI::Validator(decimal, ""));
}

}  // namespace heddle
