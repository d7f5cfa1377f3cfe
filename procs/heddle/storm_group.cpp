#include "storm_group.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "heddle/shm/shared_buffer.hpp"

namespace heddle {
namespace {

constexpr std::uint64_t most_epochs = 1U << 14;  // then they count round; a round has some thousand
constexpr std::size_t most_numbers = 20'000;
// In one round, in some, and where they lie.
constexpr std::array<std::size_t, 4> lengths = {1, 500, most_numbers, most_numbers};

// What a rank adds in a call of an epoch: whole numbers, whose sums are exact.
float number(std::uint64_t epoch, std::uint64_t call, std::uint64_t rank, std::size_t i) {
  return static_cast<float>((epoch * 31 + call * 7 + rank * 13 + i) % 1000);
}

// Raises or lowers it to `value`.
template <class Better>
void improve(std::atomic<std::uint64_t>& word, std::uint64_t value, Better&& better) {
  for (std::uint64_t now = word; better(value, now) && !word.compare_exchange_weak(now, value);) {
  }
}

/// What its members have said of an epoch. Numbers of calls count from 1; 0 says nothing.
struct Epoch {
  std::atomic<std::uint64_t> size;
  std::atomic<std::uint64_t> seated;  // ranks that have come into it
  std::atomic<std::uint64_t> gone;    // and were killed in it, left it, or asked for the next
  std::atomic<std::uint64_t> well;    // the last call that ended well
  std::atomic<std::uint64_t> badly;   // the first that did not, from the end: 2^32 less its number
  std::atomic<std::uint64_t> named;   // the rank that died, plus 1
};

constexpr std::uint64_t from_the_end = std::uint64_t{1} << 32;

}  // namespace

struct StormOnGroup::Ledger {
  std::array<std::atomic<bool>, cast.size()> joining;
  std::array<Count, cast.size()> seat;  // epoch * 64 + rank + 1
  std::array<Epoch, most_epochs> epochs;
  Count newest;
};

StormOnGroup::StormOnGroup(std::mt19937_64& random, bool lies, StormTotals& totals)
    : StormRound(random, cast, std::chrono::milliseconds(4), std::size_t{2} << 20, totals),
      lies_(lies),
      ledger_(make_ledger<Ledger>()) {
  // Two places more than members: who looks for one may miss the one that moves.
  static_cast<void>(segment_.open<Group>(
      "members", {.size = 1, .places = 6, .exchange_bytes = std::size_t{1} << 14}));
  start_all();
}

StormOnGroup::~StormOnGroup() { munmap(ledger_, sizeof(Ledger)); }

void StormOnGroup::was_killed(std::size_t i) {
  ledger_->joining[i] = false;
  goes(i);
}

void StormOnGroup::let_end() {
  await_all(StormRole::member);
  await_all(StormRole::recoverer);
}

// ---- processes

// In those that are killed.
void StormOnGroup::require(bool holds, const char* violated, const Group::Member& member) {
  if (holds) return;
  complain(fmt::format("epoch {}, rank {}: {}", member.epoch(), member.rank(), violated));
  _exit(1);
}

void StormOnGroup::play(std::size_t i) {
  if (cast[i] == StormRole::recoverer) return recover();
  Segment own = Segment::adopt(segment_.fd());
  auto group = own.find<Group>("members");
  auto buffer = own.open<SharedBuffer<float>>("numbers " + std::to_string(i), {most_numbers});
  ledger_->joining[i] = true;
  Group::Member member = group.join(Deadline::after(patience));
  ledger_->joining[i] = false;
  take_part(i, member, buffer.span());
  goes(i);
}

void StormOnGroup::take_part(std::size_t i, Group::Member& member, std::span<float> shared) {
  std::vector<float> own(most_numbers);
  for (;;) {
    enter(i, member);
    for (std::uint64_t call = 1;; ++call) {
      if (course_->ending) return;
      const auto& joining = ledger_->joining;
      const bool somebody_comes =
          std::ranges::any_of(joining, [](auto& one) { return one.load(); });
      if (somebody_comes && call > 8) break;
      const std::size_t kind = call % lengths.size();
      const std::span<float> data = (kind == 3 ? shared : std::span(own)).first(lengths[kind]);
      for (std::size_t n = 0; n < data.size(); ++n) {
        data[n] = number(member.epoch(), call, member.rank(), n);
      }
      if (lies_ && member.epoch() == 20 && member.rank() == 1) data[0] += 1;
      linger(call);
      const GroupOutcome outcome =
          member.allreduce(data, Reduction::sum, Deadline::after(patience));
      if (!tell(member, call, outcome)) break;
      look(member, call, data);
    }
    goes(i);
    require(static_cast<bool>(member.rebuild(Deadline::after(patience))),
            "it was not rebuilt in time", member);
  }
}

// Comes into an epoch.
void StormOnGroup::enter(std::size_t i, const Group::Member& member) {
  require(member.epoch() + 1 < most_epochs, "epochs follow each other too fast", member);
  Epoch& epoch = ledger_->epochs[member.epoch()];
  improve(ledger_->newest, member.epoch(), std::greater());
  std::uint64_t size = 0;
  epoch.size.compare_exchange_strong(size, member.size());
  require(size == 0 || size == member.size(), "GROUP-1: its members are not the same to all",
          member);
  ledger_->seat[i] = member.epoch() * 64 + member.rank() + 1;
  const std::uint64_t bit = std::uint64_t{1} << member.rank();
  require((epoch.seated.fetch_or(bit) & bit) == 0, "GROUP-1: two have one rank", member);
}

void StormOnGroup::look(Group::Member& member, std::uint64_t call, std::span<float> data) {
  for (std::size_t n = 0; n < data.size(); ++n) {
    float sum = 0;
    for (std::uint64_t rank = 0; rank < member.size(); ++rank) {
      sum += number(member.epoch(), call, rank, n);
    }
    require(data[n] == sum, "COLL-1: a sum is not that of all members", member);
  }
  ++course_->done;
}

// What a member has heard of a call. False: of a death.
bool StormOnGroup::tell(const Group::Member& member, std::uint64_t call, GroupOutcome outcome) {
  require(outcome.status == Status::ready || outcome.status == Status::peer_died,
          "a call has waited in vain", member);
  Epoch& epoch = ledger_->epochs[member.epoch()];
  if (outcome) {
    improve(epoch.well, call, std::greater());
  } else {
    improve(epoch.badly, from_the_end - call, std::greater());
    std::uint64_t named = 0;
    epoch.named.compare_exchange_strong(named, outcome.rank + 1);
    require(outcome.rank < member.size(), "nobody is named who died", member);
    require(named == 0 || named == outcome.rank + 1, "two are named as the one who died", member);
  }
  const std::uint64_t badly = epoch.badly;
  require(badly == 0 || epoch.well < from_the_end - badly,
          "GROUP-3: a call was passed by some of the survivors", member);
  return static_cast<bool>(outcome);
}

// It was killed, or it leaves, or asks for the next epoch.
void StormOnGroup::goes(std::size_t i) {
  const std::uint64_t seat = ledger_->seat[i];
  if (seat != 0) ledger_->epochs[(seat - 1) / 64].gone |= std::uint64_t{1} << (seat - 1) % 64;
  ledger_->seat[i] = 0;  // done twice, if it is killed before
}

// ---- the account

void StormOnGroup::add_up() {
  for (std::uint64_t i = 0; i <= ledger_->newest; ++i) {
    const Epoch& epoch = ledger_->epochs[i];
    if (epoch.named == 0) continue;
    // Who was killed before it could say that it had come is not known.
    const std::uint64_t bit = std::uint64_t{1} << (epoch.named - 1);
    if ((epoch.seated & bit) != 0 && (epoch.gone & bit) == 0) {
      return complain(fmt::format("epoch {}: rank {} was named, and lives", i, epoch.named - 1));
    }
  }
  segment_.recover_dead();
  Group::Member last = segment_.find<Group>("members").join(Deadline::after(patience));
  if (last.size() != 1 || !last.barrier(Deadline::after(patience))) {
    return complain("who comes when all are gone is not alone");
  }
  totals_.reductions += course_->done;
  totals_.epochs += ledger_->newest;
}

}  // namespace heddle
