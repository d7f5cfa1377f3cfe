#pragma once

#include <CLI/CLI.hpp>
#include <initializer_list>

namespace heddle {

/// CLI11 alone reads 010 as 8, -1 as a very large number, and "nan" as a number.
void check_whole(CLI::App& command, std::initializer_list<const char*> options);
void check_decimal(CLI::App& command, std::initializer_list<const char*> options);

}  // namespace heddle
