#include "bench_collective.hpp"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <thread>
#include <vector>

#include "collective_plan.hpp"
#include "collective_rank.hpp"
#include "collective_table.hpp"
#include "heddle/base/error.hpp"
#include "heddle/run/supervisor.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/task_queue.hpp"
#include "status_line.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using Reports = TaskQueue<RankReport>;

constexpr auto look = 20ms;    // at what the ranks have told; deaths and signals are seen at once
constexpr auto grace = 500ms;  // ranks that wait in a collective do not hear that they are to leave
constexpr std::size_t slack = std::size_t{1} << 20;

// Without a name: nothing is left of it when all processes have ended, in whatever way.
Segment make_segment(const CollectivePlan& plan, const BenchCollectiveOptions& options) {
  const Group::Options group{
      .size = plan.ranks, .places = plan.ranks, .exchange_bytes = options.exchange_bytes};
  const std::size_t buffers = buffer_bytes_of_all(plan);
  const std::size_t bytes = Group::bytes(group) + Reports::bytes({}) +
                            Supervisor::segment_bytes(plan.ranks) + slack +
                            (plan.shared ? buffers : 0);
  try {
    // Private memory that is not there would show as a killed rank. This looks, and gives it back.
    if (plan.its_own) static_cast<void>(Segment::anonymous({.bytes = bytes + buffers}));
    Segment segment = Segment::anonymous({.bytes = bytes});
    segment.open<SharedBuffer<CollectivePlan>>("plan", {})[0] = plan;
    static_cast<void>(segment.open<Reports>("reports", {}));
    static_cast<void>(segment.open<Group>("group", group));
    if (!plan.shared) return segment;
    with_number(plan.type, [&](auto number) {
      using Buffer = SharedBuffer<decltype(number)>;
      for (std::uint32_t rank = 0; rank < plan.ranks; ++rank) {
        const auto its = buffers_of(plan, rank, plan.max_bytes / plan.element());
        if (its.in != 0) segment.open<Buffer>(in_buffer_name(rank), {.count = its.in});
        if (its.out != 0) segment.open<Buffer>(out_buffer_name(rank), {.count = its.out});
      }
    });
    return segment;
  } catch (const Error& error) {
    if (error.code() != Errc::no_space) throw;
    throw Error(Errc::no_space, fmt::format("{}; --max-bytes is {}, for each of {} ranks",
                                            error.what(), plan.max_bytes, plan.ranks));
  }
}

Supervisor::Options ranks_of(const CollectivePlan& plan) {
  Supervisor::Options options;
  options.command = {std::filesystem::read_symlink("/proc/self/exe"), "bench", "rank"};
  options.workers = plan.ranks;
  options.max_restarts = 0;
  options.grace = grace;
  options.pin = plan.ranks <= std::thread::hardware_concurrency();
  return options;
}

class CollectiveBench {
 public:
  CollectiveBench(const CollectivePlan& plan, const BenchCollectiveOptions& options,
                  StopSignals& signals)
      : plan_(plan),
        options_(options),
        rows_(rows_of(plan)),
        output_("-", signals),
        table_(plan, options.json, output_),
        segment_(make_segment(plan, options)),
        reports_(segment_.find<Reports>("reports")),
        supervisor_(segment_, ranks_of(plan)) {}

  int run() {
    const std::int64_t begin = monotonic_ns();
    table_.begin();
    while (supervisor_.state() == Supervisor::State::running) {
      const auto happenings = supervisor_.poll(Deadline::after(look));
      take_reports();  // first: one may say why its rank has ended
      for (const auto& happening : happenings) judge(happening);
      if (status_.is_due()) show();
    }
    take_reports();
    status_.clear();
    if (done_ != rows_.size()) throw Error(Errc::system, "the ranks ended too early: " + lost_);
    table_.end(static_cast<double>(monotonic_ns() - begin) / 1e9);
    return 0;
  }

 private:
  std::string describe(std::uint64_t row) const {
    std::string text(name_of(plan_.what));
    if (row >= rows_.size() || plan_.what == Collective::barrier) return text;
    return text + fmt::format(" of {}, {}", readable_size(rows_[row].count * plan_.element()),
                              name_of(rows_[row].memory));
  }

  // The row alone, for who wants to see it again.
  std::string command(std::uint64_t row) const {
    std::string text =
        fmt::format("heddle bench collective -n {} --op {}", plan_.ranks, name_of(plan_.what));
    if (plan_.what != Collective::barrier) {
      const std::size_t bytes = rows_[row].count * plan_.element();
      text += fmt::format(" --type {} --memory {} --min-bytes {} --max-bytes {}",
                          name_of(plan_.type), name_of(rows_[row].memory), bytes, bytes);
    }
    if (reduces(plan_.what)) text += fmt::format(" --reduction {}", name_of(plan_.reduction));
    return text + fmt::format(" --exchange-bytes {}", options_.exchange_bytes);
  }

  void show() {
    if (done_ == rows_.size()) return;
    status_.draw(fmt::format("{}: {} of {}", describe(done_), done_ + 1, rows_.size()));
  }

  void take_reports() {
    while (auto task = reports_.try_pop()) {
      take(task.payload());
      static_cast<void>(task.complete());
    }
  }

  void take(const RankReport& report) {
    switch (report.kind) {
      case RankReport::Kind::joined:
        ranks_[report.pid] = report.rank;
        status_.clear();
        return table_.joined(report);
      case RankReport::Kind::measured:
        return measured(report);
      case RankReport::Kind::lost:  // whose death it was is seen here, too
        lost_ = fmt::format("rank {} was told that another died", report.rank);
        return;
      case RankReport::Kind::failed:
        throw Error(Errc::system,
                    fmt::format("{}: rank {}: {}; again with \"{}\"", describe(report.row),
                                report.rank, report.text.data(), command(report.row)));
    }
  }

  // Ranks that are ahead tell of later rows: each waits for its last rank.
  void measured(const RankReport& report) {
    auto& reports = pending_[report.row];
    reports.push_back(report);
    if (reports.size() < plan_.ranks) return;
    MeasuredRow all{.row = rows_[report.row], .min_ns = report.median_ns, .calls = report.calls};
    for (const RankReport& each : reports) {
      all.min_ns = std::min(all.min_ns, each.median_ns);
      all.max_ns = std::max(all.max_ns, each.median_ns);
      all.avg_ns += each.median_ns / plan_.ranks;
      all.compared += each.compared;
    }
    pending_.erase(report.row);
    ++done_;
    status_.clear();
    table_.row(all);
  }

  void judge(const Supervisor::Happening& happening) {
    using Kind = Supervisor::Happening::Kind;
    if (happening.kind == Kind::interrupted) throw Stopped{happening.signal};
    if (happening.kind == Kind::gave_up) throw Error(Errc::system, happening.text);
    if (happening.kind != Kind::died) return;
    const auto known = ranks_.find(static_cast<std::uint64_t>(happening.pid));
    const std::string who =
        known == ranks_.end() ? "a rank that had not begun" : fmt::format("rank {}", known->second);
    const std::string how = happening.signal == 0
                                ? fmt::format("exited with code {}", happening.code)
                                : fmt::format("was killed by signal {} ({})", happening.signal,
                                              strsignal(happening.signal));
    throw Error(Errc::system,
                fmt::format("{} (process {}) {} at {}: a measurement needs all ranks; "
                            "start it again",
                            who, happening.pid, how, describe(done_)));
  }

  const CollectivePlan& plan_;
  const BenchCollectiveOptions& options_;
  const std::vector<CollectiveRow> rows_;
  Output output_;
  StatusLine status_;
  CollectiveTable table_;
  Segment segment_;
  Reports reports_;
  Supervisor supervisor_;
  std::map<std::uint64_t, std::uint32_t> ranks_;              // by process
  std::map<std::uint64_t, std::vector<RankReport>> pending_;  // by row
  std::size_t done_ = 0;
  std::string lost_ = "nobody has said why";
};

}  // namespace

int bench_collective(const BenchCollectiveOptions& options) {
  const CollectivePlan plan = plan_from(options);
  return run_until_stopped(
      [&](StopSignals& signals) { return CollectiveBench(plan, options, signals).run(); });
}

}  // namespace heddle
