#include "collective_rank.hpp"

#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "collective_exchange.hpp"
#include "collective_plan.hpp"
#include "heddle/base/error.hpp"
#include "heddle/run/worker.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/task_queue.hpp"

namespace heddle {
namespace {

constexpr int left_early = 128 + 15;  // as if SIGTERM had ended it
constexpr std::int64_t time_of_row = 100'000'000;
constexpr std::uint64_t least_cycles = 3;
constexpr std::uint64_t most_cycles = 20'000;

struct ToldToLeave {};

// A rank's work on all rows. In cycles: fill the buffers; line up; call, timed, once or some times;
// compare every element. The first cycle is one call, since what is reduced in place again and again
// soon is the same everywhere; the first two are to warm up.
template <Number T>
class RankBench {
 public:
  RankBench(const CollectivePlan& plan, Worker& worker, Group::Member& member)
      : plan_(plan), worker_(worker), member_(member), exchange_(plan, worker.segment(), member) {}

  RankReport measure(const CollectiveRow& row) {
    exchange_.choose(row);
    const std::size_t bytes = row.count * sizeof(T);
    const bool is_small = bytes <= std::size_t{1} << 20;
    // A rank may be done before the others with what does not need all of them: it must not run
    // ahead, and only one call is timed.
    together_ = !needs_all(plan_.what) || !is_small ? 1 : bytes > std::size_t{1} << 16 ? 4 : 16;
    batches_ = is_small ? 1 : 4;
    const std::uint64_t compared = exchange_.compared();
    cycle(1, 1);
    cycle(batches_, together_);
    times_.clear();
    const std::int64_t begin = monotonic_ns();
    for (std::uint64_t done = 0;;) {
      // What the clock says differs between the ranks: one decides for all.
      std::uint64_t next = cycles_after(done, monotonic_ns() - begin);
      require(member_.broadcast(std::span(&next, 1), bench_root), "broadcast");
      if (next == 0) break;
      for (std::uint64_t i = 0; i < next; ++i) cycle(batches_, together_);
      done += next;
    }
    const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
    std::nth_element(times_.begin(), middle, times_.end());
    return {.kind = RankReport::Kind::measured,
            .rank = member_.rank(),
            .calls = times_.size() * together_,
            .median_ns = *middle,
            .compared = exchange_.compared() - compared};
  }

 private:
  // How many to do next, when so many are done in this time. 0: it is enough.
  std::uint64_t cycles_after(std::uint64_t done, std::int64_t elapsed) const {
    if (plan_.iterations != 0) {
      return done != 0 ? 0 : (plan_.iterations - 1) / (batches_ * together_) + 1;
    }
    if (done == 0) return least_cycles;
    return elapsed >= time_of_row || done >= most_cycles ? 0 : done / 4 + 1;
  }

  void cycle(std::uint64_t batches, std::uint64_t together) {
    if (worker_.stop_requested()) throw ToldToLeave{};
    exchange_.fill();
    for (std::uint64_t batch = 0; batch < batches; ++batch) {
      require(member_.barrier(), "barrier");
      const std::int64_t begin = monotonic_ns();
      for (std::uint64_t i = 0; i < together; ++i) exchange_.call();
      const std::int64_t end = monotonic_ns();
      times_.push_back(static_cast<double>(end - begin) / static_cast<double>(together));
    }
    exchange_.check(batches * together);
  }

  const CollectivePlan& plan_;
  Worker& worker_;
  Group::Member& member_;
  CollectiveExchange<T> exchange_;
  std::uint64_t batches_ = 1;   // in a cycle
  std::uint64_t together_ = 1;  // calls in a batch
  std::vector<double> times_;
};

}  // namespace

int bench_rank() {
  Worker worker = Worker::from_environment();
  Segment& segment = worker.segment();
  const CollectivePlan plan = segment.find<SharedBuffer<CollectivePlan>>("plan")[0];
  auto reports = segment.find<TaskQueue<RankReport>>("reports");
  Group::Member member = segment.find<Group>("group").join();
  const auto tell = [&](RankReport report) {
    report.rank = member.rank();
    static_cast<void>(reports.push(report));
  };
  tell({.kind = RankReport::Kind::joined, .pid = static_cast<std::uint64_t>(getpid())});
  const std::vector<CollectiveRow> rows = rows_of(plan);
  std::uint64_t row = 0;
  try {
    with_number(plan.type, [&](auto number) {
      RankBench<decltype(number)> bench(plan, worker, member);
      for (; row < rows.size(); ++row) {
        RankReport report = bench.measure(rows[row]);
        report.row = row;
        tell(report);
      }
    });
  } catch (const PeerDied&) {
    tell({.kind = RankReport::Kind::lost, .row = row});
  } catch (const ToldToLeave&) {
    return left_early;
  } catch (const std::exception& error) {
    RankReport report{.kind = RankReport::Kind::failed, .row = row};
    std::string(error.what()).copy(report.text.data(), report.text.size() - 1);
    tell(report);
  }
  return 0;
}

}  // namespace heddle
