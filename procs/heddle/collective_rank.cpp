#include "collective_rank.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "collective_check.hpp"
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

struct PeerDied {};
struct ToldToLeave {};

/// Memory of this rank's own, aligned to pages as a SharedBuffer is.
template <class T>
class PageBuffer {
 public:
  explicit PageBuffer(std::size_t count)
      : count_(count), memory_(std::aligned_alloc(page_bytes, pages(count * sizeof(T)))) {
    if (memory_ == nullptr) throw Error(Errc::no_space, "there is no memory for a buffer");
  }
  std::span<T> span() const { return {static_cast<T*>(memory_.get()), count_}; }

 private:
  static std::size_t pages(std::size_t bytes) { return (bytes / page_bytes + 1) * page_bytes; }
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::size_t count_;
  std::unique_ptr<void, Free> memory_;
};

// A rank's work on all rows. In cycles: fill the buffers; line up; call, timed, once or some times;
// compare every element. The first cycle is one call, since what is reduced in place again and again
// soon is the same everywhere; the first two are to warm up.
template <Number T>
class RankBench {
 public:
  RankBench(const CollectivePlan& plan, Worker& worker, Group::Member& member)
      : plan_(plan),
        worker_(worker),
        member_(member),
        most_(buffers_of(plan, member.rank(), plan.max_bytes / sizeof(T))),
        own_in_(plan.its_own ? most_.in : 0),
        own_out_(plan.its_own ? most_.out : 0),
        numbers_(plan.ranks, buffers_of(plan, bench_root, plan.max_bytes / sizeof(T)).longest()) {
    if (!plan.shared) return;
    Segment& segment = worker.segment();
    if (most_.in != 0) {
      shared_in_ = segment.find<SharedBuffer<T>>(in_buffer_name(member.rank())).span();
    }
    if (most_.out != 0) {
      shared_out_ = segment.find<SharedBuffer<T>>(out_buffer_name(member.rank())).span();
    }
  }

  RankReport measure(const CollectiveRow& row) {
    choose(row);
    const bool is_small = count_ * sizeof(T) <= std::size_t{1} << 20;
    // A rank may be done before the others with what does not need all of them: it must not run
    // ahead, and only one call is timed.
    together_ = !needs_all(plan_.what) || !is_small          ? 1
                : count_ * sizeof(T) > std::size_t{1} << 16 ? 4
                                                            : 16;
    batches_ = is_small ? 1 : 4;
    times_.clear();
    compared_ = 0;
    cycle(1, 1);
    const std::int64_t begin = monotonic_ns();
    cycle(batches_, together_);
    std::uint64_t cycles = cycles_after(monotonic_ns() - begin);
    require(member_.broadcast(std::span(&cycles, 1), bench_root), "broadcast");
    times_.clear();
    for (; cycles != 0; --cycles) cycle(batches_, together_);
    const auto middle = times_.begin() + static_cast<std::ptrdiff_t>(times_.size() / 2);
    std::nth_element(times_.begin(), middle, times_.end());
    return {.kind = RankReport::Kind::measured,
            .rank = member_.rank(),
            .calls = times_.size() * together_,
            .median_ns = *middle,
            .compared = compared_};
  }

 private:
  void choose(const CollectiveRow& row) {
    const CollectiveBuffers now = buffers_of(plan_, member_.rank(), row.count);
    const bool is_shared = row.memory == BenchMemory::shared;
    in_ = (is_shared ? shared_in_ : own_in_.span()).first(now.in);
    out_ = (is_shared ? shared_out_ : own_out_.span()).first(now.out);
    count_ = row.count;
  }

  std::uint64_t cycles_after(std::int64_t one) const {
    const std::uint64_t calls = batches_ * together_;
    if (plan_.iterations != 0) return (plan_.iterations + calls - 1) / calls;
    const auto fit = static_cast<std::uint64_t>(time_of_row / std::max<std::int64_t>(one, 1));
    return std::clamp(fit, least_cycles, most_cycles);
  }

  void cycle(std::uint64_t batches, std::uint64_t together) {
    if (worker_.stop_requested()) throw ToldToLeave{};
    fill();
    for (std::uint64_t batch = 0; batch < batches; ++batch) {
      require(member_.barrier(), "barrier");
      const std::int64_t begin = monotonic_ns();
      for (std::uint64_t i = 0; i < together; ++i) call();
      const std::int64_t end = monotonic_ns();
      times_.push_back(static_cast<double>(end - begin) / static_cast<double>(together));
    }
    if (reduces(plan_.what)) {
      const bool in_place = plan_.what == Collective::allreduce;
      numbers_.reduce(plan_.reduction, in_place ? batches * together : 1);
    }
    check();
  }

  // What is not brought holds what is never right: -1 in every bit.
  void fill() {
    numbers_.draw(++cycle_);
    const std::uint32_t rank = member_.rank();
    if (plan_.what == Collective::all_gather) {
      std::ranges::fill(std::as_writable_bytes(out_), std::byte{0xff});
      return numbers_.fill(out_.subspan(rank * count_, count_), rank, 0);
    }
    if (plan_.what == Collective::allreduce ||
        (plan_.what == Collective::broadcast && rank == bench_root)) {
      return numbers_.fill(out_, rank, 0);
    }
    numbers_.fill(in_, rank, 0);
    std::ranges::fill(std::as_writable_bytes(out_), std::byte{0xff});
  }

  void call() {
    const std::span<const T> in = in_;
    const auto done = [&] {
      switch (plan_.what) {
        case Collective::allreduce:
          return member_.allreduce(out_, plan_.reduction);
        case Collective::reduce:
          return member_.reduce(in, out_, bench_root, plan_.reduction);
        case Collective::reduce_scatter:
          return member_.reduce_scatter(in, out_, plan_.reduction);
        case Collective::all_gather:
          return member_.all_gather(
              std::span<const T>(out_.subspan(member_.rank() * count_, count_)), out_);
        case Collective::gather:
          return member_.gather(in, out_, bench_root);
        case Collective::scatter:
          return member_.scatter(in, out_, bench_root);
        case Collective::broadcast:
          return member_.broadcast(out_, bench_root);
        case Collective::all_to_all:
          return member_.all_to_all(in, out_);
        default:
          return member_.barrier();
      }
    }();
    require(done, name_of(plan_.what));
  }

  void check() {
    const std::uint32_t rank = member_.rank();
    if (reduces(plan_.what)) {
      const std::size_t from = plan_.what == Collective::reduce_scatter ? rank * count_ : 0;
      expect(0, out_.size(), [&](auto got) { return numbers_.compare_reduced(got, from); });
      return;
    }
    if (plan_.what == Collective::broadcast || plan_.what == Collective::scatter) {
      const std::size_t from = plan_.what == Collective::scatter ? rank * count_ : 0;
      expect(0, out_.size(), [&](auto got) { return numbers_.compare(got, bench_root, from); });
      return;
    }
    const std::size_t from = plan_.what == Collective::all_to_all ? rank * count_ : 0;
    for (std::size_t q = 0; q * count_ < out_.size(); ++q) {
      expect(q * count_, count_, [&](auto got) { return numbers_.compare(got, q, from); });
    }
  }

  template <class Compare>
  void expect(std::size_t at, std::size_t count, Compare&& compare) {
    const std::span<const T> got = out_.subspan(at, count);
    compared_ += count;
    const auto wrong = compare(got);
    if (!wrong) return;
    const auto readable = [](T number) {
      if constexpr (sizeof(T) == 2) {
        return static_cast<float>(number);
      } else {
        return number;
      }
    };
    throw Error(Errc::system, fmt::format("element {} of {} is {}, not {}", at + wrong->at,
                                          out_.size(), readable(got[wrong->at]),
                                          readable(wrong->expected)));
  }

  static void require(const GroupOutcome& outcome, std::string_view what) {
    if (outcome) return;
    if (outcome.status == Status::peer_died) throw PeerDied{};
    throw Error(Errc::system, fmt::format("{} answered \"{}\"", what, to_string(outcome.status)));
  }

  const CollectivePlan& plan_;
  Worker& worker_;
  Group::Member& member_;
  const CollectiveBuffers most_;
  PageBuffer<T> own_in_;
  PageBuffer<T> own_out_;
  std::span<T> shared_in_;
  std::span<T> shared_out_;
  CollectiveNumbers<T> numbers_;

  // Of the present row.
  std::size_t count_ = 0;
  std::span<T> in_;
  std::span<T> out_;
  std::uint64_t batches_ = 1;
  std::uint64_t together_ = 1;
  std::uint64_t cycle_ = 0;
  std::uint64_t compared_ = 0;
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
