#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/program.hpp"

namespace heddle::test {

/// A program and its standard input, which the test writes.
class Fed {
 public:
  explicit Fed(std::vector<std::string> arguments) {
    if (pipe2(ends_.data(), O_CLOEXEC) != 0) std::abort();
    program_ =
        std::make_unique<Program>(std::move(arguments), [this] { dup2(ends_[0], STDIN_FILENO); });
  }
  Fed(std::vector<std::string> arguments, std::string_view all) : Fed(std::move(arguments)) {
    write(all);
    end();
  }
  ~Fed() {
    close(ends_[0]);
    end();
  }
  Fed(const Fed&) = delete;
  Fed& operator=(const Fed&) = delete;

  /// Less than a pipe takes at once. Our own read end is open, so nobody dies of SIGPIPE.
  void write(std::string_view text) {
    ASSERT_EQ(::write(ends_[1], text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void end() {
    if (ends_[1] >= 0) close(ends_[1]);
    ends_[1] = -1;
  }
  Program* operator->() { return program_.get(); }

 private:
  std::array<int, 2> ends_{-1, -1};
  std::unique_ptr<Program> program_;
};

}  // namespace heddle::test
