#include "clock.hpp"

#include <fstream>
#include <numeric>
#include <string>
#include <thread>

namespace heddle::bench {

void calibrate_ticks() {
  tick_clock = {};
#if defined(__x86_64__)
  std::string source;
  std::ifstream("/sys/devices/system/clocksource/clocksource0/current_clocksource") >> source;
  if (source != "tsc") return;

  const std::int64_t ns = monotonic_ns();
  const std::uint64_t ticks = __rdtsc();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const auto ns_passed = static_cast<double>(monotonic_ns() - ns);
  tick_clock = {true, ns_passed / static_cast<double>(__rdtsc() - ticks), 0};

  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t before = __rdtsc();
    tick_clock.step = std::gcd(tick_clock.step, __rdtsc() - before);
  }
#endif
}

}  // namespace heddle::bench
