// The copies between private and shared memory, beside memcpy, which may not race. One process, the
// same two places again and again: what fits into a cache is there.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cstring>
#include <vector>

#include "heddle/base/copy.hpp"
#include "suites.hpp"

namespace heddle::bench {
namespace {

using Copy = void (*)(void* to, const void* from, std::size_t bytes);

void plain(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

enum class Way { in, out };

class Copying final : public Contender {
 public:
  Copying(Copy copy, Way way, std::size_t bytes) : copy_(copy), way_(way), bytes_(bytes) {}

  int processes() const override { return 1; }

  void work(Member& member) override {
    void* const shared = map_shared(bytes_);
    std::vector<std::byte> privately(bytes_, std::byte{1});
    void* const to = way_ == Way::in ? shared : privately.data();
    const void* const from = way_ == Way::in ? privately.data() : shared;
    std::memset(shared, 2, bytes_);
    copy_(to, from, bytes_);
    if (std::memcmp(to, from, bytes_) != 0) member.fail("the copy is not what was copied");

    constexpr std::size_t batch_bytes = std::size_t{1} << 18U;  // the clock is read after each
    const std::size_t batch = std::max<std::size_t>(1, batch_bytes / bytes_);
    member.start();
    std::size_t copies = 0;
    const std::uint64_t start = ticks_before();
    while (!member.over()) {
      for (std::size_t i = 0; i < batch; ++i) {
        copy_(to, from, bytes_);
        benchmark::ClobberMemory();
      }
      copies += batch;
    }
    const double time = nanoseconds(static_cast<double>(ticks_after() - start));
    *gigabytes_per_second_ = static_cast<double>(copies * bytes_) / time;
    member.stop();
  }

  Sample result() override { return {*gigabytes_per_second_, {}}; }

 private:
  Copy copy_;
  Way way_;
  std::size_t bytes_;
  Shared<double> gigabytes_per_second_;
};

}  // namespace

std::vector<Entry> copy_suite() {
  struct Size {
    const char* name;
    std::size_t bytes;
  };
  constexpr Size sizes[] = {{"64B", 64},          {"1KiB", 1U << 10U}, {"4KiB", 1U << 12U},
                            {"64KiB", 1U << 16U}, {"1MiB", 1U << 20U}, {"16MiB", 1U << 24U},
                            {"64MiB", 1U << 26U}};
  struct Implementation {
    const char* name;
    Copy in;
    Copy out;
  };
  const Implementation implementations[] = {{"memcpy", plain, plain},
                                            {"heddle", copy_in, copy_out},
                                            {"words", words::copy_in, words::copy_out}};
  std::vector<Entry> entries;
  for (const auto& [size, bytes] : sizes) {
    for (const Way way : {Way::in, Way::out}) {
      const auto name = fmt::format("copy/{}/{}", way == Way::in ? "in" : "out", size);
      for (const auto& [impl, in, out] : implementations) {
        Label label{"copy", name, impl, "throughput", "GB/s"};
        if (in != plain) {
          label.against_case = name;
          label.against_impl = "memcpy";
        }
        const Copy copy = way == Way::in ? in : out;
        entries.push_back(
            {label, [=, bytes = bytes] { return std::make_unique<Copying>(copy, way, bytes); }});
      }
    }
  }
  return entries;
}

}  // namespace heddle::bench
