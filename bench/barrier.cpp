// One epoch of a barrier, for all its parties: barrier_load.hpp; of many: barrier_crowd.hpp.

#include "heddle/sync/barrier.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <optional>

#include "barrier_crowd.hpp"
#include "barrier_load.hpp"
#include "case.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/collective.hpp"
#include "suites.hpp"

#if HEDDLE_BENCH_PEERS
#include "peers/launched.hpp"
#endif

namespace heddle::bench {
namespace {

class BarrierParty {
 public:
  static void make(Segment& segment, int parties) {
    segment.open<Barrier>("barrier", {.parties = static_cast<std::uint32_t>(parties)});
  }
  explicit BarrierParty(Segment& segment)
      : party_(segment.find<Barrier>("barrier").join(deadline_)) {}

  void pass() {
    const Barrier::Outcome outcome = party_.arrive_and_wait(deadline_);
    ++epoch_;
    if (outcome.status != Status::ready || outcome.epoch != epoch_) {
      throw Failure(fmt::format("got {} with number {} in epoch {}", to_string(outcome.status),
                                outcome.epoch, epoch_));
    }
  }

 private:
  Deadline deadline_ = Deadline::after(std::chrono::seconds(10));
  Barrier::Party party_;
  std::uint64_t epoch_ = 0;
};

class GroupParty {
 public:
  static void make(Segment& segment, int parties) {
    segment.open<Group>("barrier", {.size = static_cast<std::uint32_t>(parties)});
  }
  explicit GroupParty(Segment& segment) : member_(segment.find<Group>("barrier").join(deadline_)) {}

  void pass() {
    const GroupOutcome outcome = member_.barrier(deadline_);
    if (!outcome) throw Failure(fmt::format("got {}", to_string(outcome.status)));
  }

 private:
  Deadline deadline_ = Deadline::after(std::chrono::seconds(10));
  Group::Member member_;
};

template <class Party>
class BarrierContender final : public Contender {
 public:
  explicit BarrierContender(int parties) : parties_(parties) {}

  int processes() const override { return parties_; }

  // A new one for each sample: its first epoch waits until all have joined.
  void prepare() override {
    load_.reset();
    segment_ = Segment::anonymous({.bytes = std::size_t{64} << 20});
    Party::make(*segment_, parties_);
  }

  void work(Member& member) override {
    Segment segment = Segment::adopt(segment_->fd());
    Party party(segment);
    member.start();
    load_->run(rank_of(member), [&] { party.pass(); });
    member.stop();
  }

  Sample result() override { return load_->result(); }

 private:
  int parties_;
  Shared<BarrierLoad> load_;
  std::optional<Segment> segment_;
};

}  // namespace

std::vector<Entry> barrier_suite() {
  std::vector<Entry> entries;
  for (const int parties : {2, 4, 8, 16}) {
    Case here(entries, "barrier", fmt::format("barrier/{}", parties), latency);
    here.add<BarrierContender<BarrierParty>>("heddle", parties);
    here.add<BarrierContender<GroupParty>>("heddle_group", parties);
#if HEDDLE_BENCH_PEERS
    add_peers(here, Operation::barrier, parties);
#endif
    here.compare_with("heddle");
    // Up to eight also say what becomes of parties that share cores.
    if (parties > 8) here.needs_processors(static_cast<std::size_t>(parties));
  }
  for (const int parties : {16, 64, 256, 1024}) {
    // A thousand threads take a while to start: every tenth round.
    Case(entries, "barrier", fmt::format("barrier/threads/{}", parties), latency,
         parties > 100 ? 10 : 2)
        .add<CrowdOfThreads>("heddle", parties);
  }
  for (const int parties : {16, 64, 256, 1024}) {
    Case(entries, "barrier", fmt::format("barrier/arrive/{}", parties), latency, 2)
        .add<Arrivals>("heddle", parties);
  }
  return entries;
}

}  // namespace heddle::bench
