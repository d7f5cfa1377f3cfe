#pragma once

#include <cstdint>
#include <string>

namespace heddle {

/// One line about what goes on, at the end of a terminal: drawn again in place, on standard error, so
/// that standard output is the results' alone. Nothing where that is no terminal.
class StatusLine {
 public:
  StatusLine();
  ~StatusLine() { clear(); }
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  bool is_terminal() const { return is_terminal_; }
  /// Whether it is time to draw again.
  bool is_due() const;
  void draw(const std::string& text);
  /// Before anything else is printed.
  void clear();
  /// A line that stays, on a terminal or not.
  void say(const std::string& text);

 private:
  const bool is_terminal_;
  bool is_drawn_ = false;
  std::int64_t next_ = 0;
};

}  // namespace heddle
