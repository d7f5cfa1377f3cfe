#include "status_line.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

#include "heddle/base/clock.hpp"

namespace heddle {
namespace {

constexpr std::int64_t between = 100'000'000;

}  // namespace

StatusLine::StatusLine() : is_terminal_(isatty(STDERR_FILENO) != 0) {}

bool StatusLine::is_due() const { return is_terminal_ && monotonic_ns() >= next_; }

void StatusLine::draw(const std::string& text) {
  if (!is_terminal_) return;
  winsize window{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0) window.ws_col = 80;
  const std::size_t columns = window.ws_col - 1U;  // in the last one some terminals wrap
  std::fprintf(stderr, "\r\x1b[K%s", text.substr(0, columns).c_str());
  is_drawn_ = true;
  next_ = monotonic_ns() + between;
}

void StatusLine::clear() {
  if (is_drawn_) std::fputs("\r\x1b[K", stderr);
  is_drawn_ = false;
  next_ = 0;
}

void StatusLine::say(const std::string& text) {
  clear();
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace heddle
