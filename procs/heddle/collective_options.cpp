#include "collective_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "heddle/base/error.hpp"
#include "heddle/shm/layout.hpp"
#include "option_checks.hpp"

namespace heddle {
namespace {

constexpr std::uint64_t most_bytes = std::uint64_t{1} << 40;
constexpr std::uint64_t usual_min = 4;
constexpr std::uint64_t usual_max = std::uint64_t{64} << 20;
constexpr std::uint64_t usual_memory = std::uint64_t{1} << 30;  // of all ranks' buffers

[[noreturn]] void refuse(const std::string& what) { throw Error(Errc::invalid_argument, what); }

void choose_sizes(CollectivePlan& plan, const BenchCollectiveOptions& options) {
  const std::uint64_t element = plan.element();
  plan.min_bytes = options.min_bytes.value_or(std::max(usual_min, element));
  if (plan.min_bytes == 0 || plan.min_bytes % element != 0) {
    refuse(fmt::format("--min-bytes must be whole elements of {}: a multiple of {}, not {}",
                       name_of(plan.type), element, plan.min_bytes));
  }
  if (std::max(plan.min_bytes, options.max_bytes.value_or(0)) > most_bytes) {
    refuse(fmt::format("--min-bytes and --max-bytes must be at most {}", most_bytes));
  }
  if (options.max_bytes) {
    plan.max_bytes = *options.max_bytes;
    if (plan.max_bytes >= plan.min_bytes) return;
    refuse(
        fmt::format("--max-bytes {} is below --min-bytes {}: give a larger one, or a smaller "
                    "--min-bytes",
                    plan.max_bytes, plan.min_bytes));
  }
  plan.max_bytes = std::max(plan.min_bytes, usual_max);
  const auto memories = std::uint64_t{plan.shared} + std::uint64_t{plan.its_own};
  while (plan.max_bytes / 2 >= plan.min_bytes &&
         memories * buffer_bytes_of_all(plan) > usual_memory) {
    plan.max_bytes /= 2;
  }
}

void choose_memory(CollectivePlan& plan, const std::string& name) {
  plan.shared = name == "shared" || name == "both";
  plan.its_own = name == "private" || name == "both";
  if (!plan.shared && !plan.its_own) {
    refuse("unknown --memory \"" + name + "\": give shared, private or both");
  }
}

}  // namespace

CollectivePlan plan_from(const BenchCollectiveOptions& options) {
  CollectivePlan plan;
  plan.what = parse_collective(options.op);
  plan.ranks = options.ranks.value_or(
      std::clamp(std::thread::hardware_concurrency(), 2U, Group::most_members));
  if (plan.ranks == 0 || plan.ranks > Group::most_members) {
    refuse(fmt::format("--ranks must be 1 to {}, not {}", Group::most_members, plan.ranks));
  }
  if (options.iterations && *options.iterations == 0) {
    refuse("--iterations must be 1 or more; leave it out to have as many as take a moment");
  }
  plan.iterations = options.iterations.value_or(0);
  const bool has_data = options.type || options.memory || options.min_bytes || options.max_bytes;
  if (plan.what == Collective::barrier && has_data) {
    refuse(
        "a barrier moves no data: leave out --type, --memory, --min-bytes and --max-bytes, or "
        "choose "
        "another --op");
  }
  if (options.reduction && !reduces(plan.what)) {
    refuse(fmt::format(
        "{} reduces nothing: leave out --reduction, or choose --op allreduce, reduce or "
        "reduce_scatter",
        options.op));
  }
  plan.type = parse_number_type(options.type.value_or("float32"));
  plan.reduction = parse_reduction(options.reduction.value_or("sum"));
  choose_memory(plan, options.memory.value_or("both"));
  if (plan.what == Collective::barrier) {
    plan.shared = false;
  } else {
    choose_sizes(plan, options);
  }
  const std::uint64_t least = plan.ranks > 32 ? 2 * page_bytes : page_bytes;
  if (options.exchange_bytes < least || options.exchange_bytes % page_bytes != 0 ||
      options.exchange_bytes > most_bytes) {
    refuse(
        fmt::format("--exchange-bytes must be a multiple of {}, at least {} for {} ranks, not {}",
                    page_bytes, least, plan.ranks, options.exchange_bytes));
  }
  return plan;
}

void add_bench_collective(CLI::App& bench, BenchCollectiveOptions& options) {
  CLI::App* command =
      bench.add_subcommand("collective", "how long a collective takes, and whether it is right");
  command->add_option("-n,--ranks", options.ranks, "processes [the number of cores, at least 2]");
  command
      ->add_option("--op", options.op,
                   "allreduce, reduce, reduce_scatter, all_gather, gather, scatter, broadcast, "
                   "all_to_all or barrier")
      ->capture_default_str();
  command->add_option("--type", options.type,
                      "float32, float64, int32, int64, bfloat16 or float16 [float32]");
  command->add_option("--reduction", options.reduction, "sum, mean, min, max or product [sum]");
  command->add_option("--memory", options.memory,
                      "shared (SharedBuffers in the segment), private or both [both]");
  command->add_option("--min-bytes", options.min_bytes, "the first size [4], doubled until ...");
  command->add_option("--max-bytes", options.max_bytes,
                      "... the last [64 MiB; less where all buffers would pass 1 GiB]");
  command->add_option("--iterations", options.iterations,
                      "timed calls of each size, at least [as many as take 0.1 s]");
  command
      ->add_option("--exchange-bytes", options.exchange_bytes,
                   "of the group, for each rank: what is not shared goes through it")
      ->capture_default_str();
  command->add_flag("--json", options.json, "print one JSON object a line");
  check_whole(*command,
              {"--ranks", "--min-bytes", "--max-bytes", "--iterations", "--exchange-bytes"});
  command->footer(
      "The size is that of one rank's part: of what it gathers, scatters or sends to each; else "
      "of its\n"
      "buffer. Latencies are medians: of the fastest rank, on average, of the slowest. GB/s are "
      "the bytes\n"
      "of the longest buffer that a rank calls with, in the slowest rank's time. allreduce, "
      "broadcast and\n"
      "all_gather are in place. Each rank compares each result with a plain loop, bit by bit: ends "
      "with 1\n"
      "when one is wrong, or when a rank dies.");
}

}  // namespace heddle
