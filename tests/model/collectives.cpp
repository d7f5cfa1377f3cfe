// Collectives of more than one round: chunk by chunk through the areas, and in buffers that are shared. All
// data is plain memory: who writes what another still reads, or before it may, is a race.

#include <algorithm>
#include <cstdint>

#include "model/group_world.hpp"

namespace heddle::model {
namespace {

// One more than goes through a cell.
constexpr std::size_t count = 8 + 1;
using Numbers = std::span<std::int64_t>;

enum class What { allreduce, broadcast, all_gather };

// What a rank has in its buffer before and after a call of an epoch.
struct Rank {
  std::uint32_t rank, size;
  Numbers all;
  Numbers own(What what) const {
    return what == What::all_gather ? all.subspan(rank * count, count) : all;
  }
  static std::int64_t number(std::int64_t call, std::uint32_t rank) { return call * 10 + rank + 1; }

  void fill(What what, std::int64_t call) const {
    std::ranges::fill(own(what), number(call, rank));
  }
  void look(What what, std::int64_t call) const {
    std::int64_t sum = 0;
    for (std::uint32_t q = 0; q < size; ++q) sum += number(call, q);
    for (std::size_t i = 0; i < all.size(); i += count - 1) {  // the first and the last of a part
      const std::int64_t expected =
          what == What::allreduce
              ? sum
              : number(call, what == What::broadcast ? 0 : static_cast<std::uint32_t>(i / count));
      check(all[i] == expected, "COLL-1: not what was called for");
    }
  }
};

GroupOutcome call(Group::Member& member, What what, const Rank& mine) {
  const Numbers own = mine.own(what);
  switch (what) {
    case What::broadcast:
      return member.broadcast(own, 0);
    case What::all_gather:
      return member.all_gather(std::span<const std::int64_t>(own), mine.all);
    case What::allreduce:
      break;
  }
  return member.allreduce(own);
}

// `ranks` members make a call, or two, one after the other; each fills its buffer anew as soon as it may.
// Rank 0 may die, if `mortal`: who has heard of it rebuilds, fills its buffer, and makes one call more.
void calls(Run& run, std::uint32_t ranks, std::int64_t calls_each, What what, bool shared,
           bool mortal) {
  auto& world = run.ghost<GroupWorld>(run, group_of(ranks), ranks);
  const std::size_t length = count * (what == What::all_gather ? ranks : 1);
  const std::span<std::byte> memory =
      shared ? run.memory("buffers", ranks * length * sizeof(std::int64_t))
             : std::span<std::byte>();
  auto& owned = run.ghost<std::vector<std::int64_t>>();
  owned.resize(shared ? 0 : ranks * length);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, ranks, founders);
  for (std::uint32_t i = 0; i < ranks; ++i) {
    founders[i]->shares(memory);
    std::int64_t* const all =
        shared ? reinterpret_cast<std::int64_t*>(memory.data()) : owned.data();
    run.process(member_names[i], mortal && i == 0,
                [&world, &founders, i, calls_each, what, member = members[i],
                 buffer = Numbers(all + i * length, length)] {
                  founders[i]->has_begun = true;
                  for (std::int64_t number = 0; number < calls_each; ++number) {
                    Rank mine{member->rank(), member->size(), buffer};
                    mine.all = buffer.first(what == What::all_gather ? count * mine.size : count);
                    mine.fill(what, number);
                    const std::uint64_t epoch = member->epoch();
                    const GroupOutcome outcome = call(*member, what, mine);
                    tell(world, epoch, static_cast<std::size_t>(number), outcome.status);
                    if (outcome) {
                      mine.look(what, number);
                      continue;
                    }
                    check(outcome.status == Status::peer_died, "a call ends well, or with a death");
                    check(member->rebuild().status == Status::ready, "rebuild ends");
                    number = calls_each - 2;  // one more
                  }
                  member->leave();
                });
  }
}

}  // namespace

std::vector<Scenario> collective_scenarios() {
  using enum What;
  const auto awake = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale, .inner_timeouts = false};
  };
  const auto deaths = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .deaths = 1, .stale = stale};
  };
  return {
      {"group/staged", awake(1, 1), [](Run& run) { calls(run, 2, 2, allreduce, false, false); }},
      {"group/staged_broadcast", awake(1, 1),
       [](Run& run) { calls(run, 2, 2, broadcast, false, false); }},
      {"group/staged_death", deaths(0, 1),
       [](Run& run) { calls(run, 2, 2, allreduce, false, true); }},
      {"group/striped", awake(0, 0), [](Run& run) { calls(run, 3, 1, allreduce, false, false); }},
      {"group/striped_death", deaths(0, 0),
       [](Run& run) { calls(run, 3, 1, allreduce, false, true); }},
      {"group/shared", awake(1, 1), [](Run& run) { calls(run, 2, 2, allreduce, true, false); }},
      {"group/shared_broadcast", awake(1, 1),
       [](Run& run) { calls(run, 2, 2, broadcast, true, false); }},
      {"group/shared_all_gather", awake(1, 1),
       [](Run& run) { calls(run, 2, 2, all_gather, true, false); }},
      {"group/shared_death", deaths(0, 1),
       [](Run& run) { calls(run, 3, 1, allreduce, true, true); }},
  };
}

}  // namespace heddle::model
