#include "bench_command.hpp"

#include "collective_rank.hpp"

namespace heddle {

CLI::App* add_bench_command(CLI::App& app, BenchOptions& options) {
  CLI::App* bench = app.add_subcommand("bench", "measure what several processes do together");
  bench->require_subcommand(1);
  add_bench_collective(*bench, options.collective);
  bench->add_subcommand("rank", "what heddle bench collective starts")
      ->group("");  // not for people
  bench->footer("heddle bench collective -n 4 --op all_gather");
  return bench;
}

int bench_command(const CLI::App& bench, const BenchOptions& options) {
  if (bench.got_subcommand("rank")) return bench_rank();
  return bench_collective(options.collective);
}

}  // namespace heddle
