#include "collective_table.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace heddle {
namespace {

using Json = nlohmann::ordered_json;

// The longest buffer that a rank calls with, per second. The slowest rank's time: it holds up all.
double bytes_per_second(const CollectivePlan& plan, const MeasuredRow& measured) {
  const auto longest = buffers_of(plan, bench_root, measured.row.count).longest();
  return static_cast<double>(longest * plan.element()) * 1e9 / measured.max_ns;
}

std::string microseconds(double ns) {
  const double value = ns / 1e3;
  return fmt::format("{:9.{}f}", value, value < 1000 ? 2 : value < 10'000 ? 1 : 0);
}

}  // namespace

std::string readable_size(std::size_t bytes) {
  const char* unit = "B";
  for (const char* larger : {"KiB", "MiB", "GiB"}) {
    if (bytes == 0 || bytes % 1024 != 0) break;
    bytes /= 1024;
    unit = larger;
  }
  return fmt::format("{} {}", bytes, unit);
}

std::string CollectiveTable::title() const {
  std::string text(name_of(plan_.what));
  if (plan_.what != Collective::barrier) text += fmt::format(" of {}", name_of(plan_.type));
  if (reduces(plan_.what)) text += fmt::format(", {}", name_of(plan_.reduction));
  return text + fmt::format(", {} rank{}", plan_.ranks, plan_.ranks == 1 ? "" : "s");
}

void CollectiveTable::begin() {
  const bool is_barrier = plan_.what == Collective::barrier;
  if (json_) {
    const Json event{{"event", "begin"},
                     {"op", name_of(plan_.what)},
                     {"type", is_barrier ? Json(nullptr) : Json(name_of(plan_.type))},
                     {"reduction", reduces(plan_.what) ? Json(name_of(plan_.reduction)) : nullptr},
                     {"ranks", plan_.ranks},
                     {"rows", rows_of(plan_).size()}};
    return output_.write(event.dump() + "\n");
  }
  std::string text = title() + ": microseconds of a call, of the fastest to the slowest rank\n";
  if (is_barrier) return output_.write(text + "      min      avg      max\n");
  std::string memories(9, ' ');
  std::string columns = fmt::format("{:>9}", "size");
  for (const BenchMemory memory : {BenchMemory::shared, BenchMemory::its_own}) {
    if (!(memory == BenchMemory::shared ? plan_.shared : plan_.its_own)) continue;
    memories += fmt::format("{:>35}", name_of(memory));
    columns += fmt::format("{:>9}{:>9}{:>9}{:>8}", "min", "avg", "max", "GB/s");
  }
  output_.write(text + memories + "\n" + columns + "\n");
}

void CollectiveTable::joined(const RankReport& rank) {
  if (!json_) return;
  output_.write(Json{{"event", "rank"}, {"rank", rank.rank}, {"pid", rank.pid}}.dump() + "\n");
}

void CollectiveTable::row(const MeasuredRow& measured) {
  ++rows_;
  compared_ += measured.compared;
  const bool is_barrier = plan_.what == Collective::barrier;
  const std::size_t bytes = measured.row.count * plan_.element();
  if (json_) {
    Json event{{"event", "row"},
               {"bytes", bytes},
               {"memory", is_barrier ? Json(nullptr) : Json(name_of(measured.row.memory))},
               {"min_us", measured.min_ns / 1e3},
               {"avg_us", measured.avg_ns / 1e3},
               {"max_us", measured.max_ns / 1e3},
               {"bytes_per_second", nullptr},
               {"calls", measured.calls},
               {"compared", measured.compared}};
    if (!is_barrier) event["bytes_per_second"] = bytes_per_second(plan_, measured);
    return output_.write(event.dump() + "\n");
  }
  if (line_.empty() && !is_barrier) line_ = fmt::format("{:>9}", readable_size(bytes));
  for (const double ns : {measured.min_ns, measured.avg_ns, measured.max_ns}) {
    line_ += microseconds(ns);
  }
  if (!is_barrier) line_ += fmt::format("{:8.2f}", bytes_per_second(plan_, measured) / 1e9);
  const bool is_first = plan_.shared && plan_.its_own && measured.row.memory == BenchMemory::shared;
  if (is_first) return;
  output_.write(line_ + "\n");
  line_.clear();
}

void CollectiveTable::end(double seconds) {
  if (json_) {
    const Json event{
        {"event", "end"}, {"rows", rows_}, {"compared", compared_}, {"seconds", seconds}};
    return output_.write(event.dump() + "\n");
  }
  if (plan_.what == Collective::barrier) return;
  output_.write(fmt::format(
      "every result was right: {} elements compared with plain loops, bit by bit\n", compared_));
}

}  // namespace heddle
