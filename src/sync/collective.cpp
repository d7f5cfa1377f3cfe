#include "heddle/sync/collective.hpp"

#include <algorithm>

#include "heddle/base/copy.hpp"

namespace heddle {
namespace {

constexpr std::size_t most_bytes = std::size_t{1} << 44;  // of all parts together

bool has_root(Collective what) {
  return what == Collective::reduce || what == Collective::gather || what == Collective::scatter ||
         what == Collective::broadcast;
}

bool can_be_shared(Collective what) {
  return what == Collective::allreduce || what == Collective::broadcast ||
         what == Collective::all_gather;
}

// {collective:8, reduction:8, type:8, root:16, shared:1}
std::uint64_t pack_call(const CollectiveCall& call) {
  return static_cast<std::uint64_t>(call.what) | static_cast<std::uint64_t>(call.reduction) << 8 |
         static_cast<std::uint64_t>(call.type) << 16 | std::uint64_t{call.root} << 24;
}
constexpr std::uint64_t shared_bit = std::uint64_t{1} << 40;

}  // namespace

// --- tasks: what was begun, and is done one after the other

GroupOutcome Group::Member::begin(const CollectiveCall& call) noexcept {
  const GroupOutcome begun = enqueue(without_handle, call);
  wake();
  return begun;
}

Group::Member::Started Group::Member::start(const CollectiveCall& call) noexcept {
  std::size_t task = 0;
  while (task < most_started && tasks_[task].state != Task::State::free) ++task;
  if (task == most_started) return {this, task, {Status::busy}};
  const GroupOutcome begun = enqueue(task, call);
  if (begun) go_on_at_once();  // not in a forked child
  return {this, task, begun};
}

// The present task is over; the next one begins.
void Group::Member::end(const GroupOutcome& outcome) noexcept {
  Task& its = tasks_[present_];
  its.outcome = outcome;
  its.state = its.state == Task::State::abandoned ? Task::State::free : Task::State::over;
  present_ = none;
  if (its.number != last_task_) begin_next();
}

void Group::Member::begin_next() noexcept {
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    const Task& its = tasks_[i];
    const bool is_due = its.state == Task::State::waits || its.state == Task::State::abandoned;
    if (is_due && (present_ == none || its.number < tasks_[present_].number)) present_ = i;
  }
  if (present_ == none) return;
  if (is_broken()) {
    stop();  // GROUP-4
  } else {
    call_ = tasks_[present_].call;
    begin_present();
  }
}

void Group::Member::end_all(const GroupOutcome& outcome) noexcept {
  present_ = none;
  for (Task& its : tasks_) {
    if (its.state == Task::State::waits) {
      its.outcome = outcome;
      its.state = Task::State::over;
    } else if (its.state == Task::State::abandoned) {
      its.state = Task::State::free;
    }
  }
}

void Group::Member::abandon(std::size_t task) noexcept {
  Task& its = tasks_[task];
  its.state = its.state == Task::State::waits ? Task::State::abandoned : Task::State::free;
}

GroupOutcome Group::Member::tell(std::size_t task) noexcept {
  tasks_[task].state = Task::State::free;
  return tasks_[task].outcome;
}

GroupOutcome Group::Member::test(std::size_t task) noexcept {
  if (!is_member()) return {Status::closed};
  const Task& its = tasks_[task];
  if (its.state == Task::State::free) return {Status::invalid};
  go_on_at_once();
  if (its.state == Task::State::over) return tell(task);
  if (patience_.may_look()) group_.probe(state_);  // perhaps nobody waits
  if (is_broken() && is_lost()) {
    stop();
    return tell(task);
  }
  return {Status::empty, missing()};
}

GroupOutcome Group::Member::wait(std::size_t task, Deadline deadline) noexcept {
  constexpr int looks = 32;  // a tenth of a microsecond: one that is on its way is here by then
  if (!is_member()) return {Status::closed};
  const Task& its = tasks_[task];
  if (its.state == Task::State::free) return {Status::invalid};
  Next now = Next::wait;
  bool lost = false;
  const auto passed = [&] {
    now = next();
    return now != Next::wait || (lost = is_broken() && is_lost());
  };
  const auto probe = [&] {
    if (patience_.may_look()) group_.probe(state_);
    return Status::ready;
  };
  while (its.state != Task::State::over) {
    now = Next::wait;
    for (int i = 0; i < looks; ++i) {
      now = next();
      if (now != Next::wait) break;
      pause();
    }
    if (now == Next::wait) {
      wake();
      const Status status =
          wait_for(group_.header_->changed, deadline, strategy_, passed, probe, &patience_);
      if (status != Status::ready) return {status, missing()};
    }
    if (lost) {
      stop();
    } else {
      go_on(now);
    }
  }
  wake();
  return tell(task);
}

// Does what can be done without waiting.
void Group::Member::go_on_at_once() noexcept {
  while (present_ != none) {
    const Next now = next();
    if (now == Next::wait) break;
    go_on(now);
  }
  wake();
}

// Others may sleep until they see what we have said. It is not done at once: as long as it takes for
// that to leave this core, so long a fence would keep us from looking at what they say.
void Group::Member::wake() noexcept {
  if (!owes_wake_) return;
  owes_wake_ = false;
  group_.header_->changed.notify_all();
}

// --- the present call

bool Group::Member::is_valid(const CollectiveCall& call) const noexcept {
  const bool reduces = call.what == Collective::allreduce || call.what == Collective::reduce ||
                       call.what == Collective::reduce_scatter;
  return call.what != Collective::refused && (!has_root(call.what) || call.root < size_) &&
         (!reduces || call.type != NumberType::bytes) && call.count <= most_bytes / size_;
}

std::size_t Group::Member::bytes_of_all() const noexcept {
  return call_.count * element_ * (call_.what == Collective::all_gather ? size_ : 1);
}

void Group::Member::begin_present() noexcept {
  if (!is_valid(call_)) call_ = refused;
  element_ = size_of(call_.type);
  longest_ = call_.count;
  agreed_ = false;
  seen_ = 0;
  ++called_;
  first_ = filled_ = reduced_ = gathered_ = ++chunks_;

  const bool has_parts = call_.what == Collective::reduce_scatter ||
                         call_.what == Collective::scatter || call_.what == Collective::all_to_all;
  const std::size_t parts = has_parts ? size_ : 1;
  const std::size_t bytes = longest_ * parts * element_;
  const Cells& cells = group_.cells_;
  if (call_.what != Collective::all_gather_v && bytes <= cells.small) {
    plan_ = Plan::whole;
    store_ = bytes <= Call::tiny_bytes ? Store::tiny : Store::small;
    chunk_ = longest_;
    fill(first_);
  } else {
    plan_ = Plan::unknown;
    store_ = Store::ring;
    chunk_ = cells.large / parts / least_part * least_part / element_;
  }
  announce();
}

// What the others compare when all have called: COLL-3.
void Group::Member::announce() noexcept {
  Call& its = group_.places_[place_].calls[called_ & 1];
  what_ = pack_call(call_);
  is_shared_ = false;
  if (plan_ == Plan::unknown && can_be_shared(call_.what)) {
    const auto segment = group_.peers_->mapping();
    const auto* buffer = static_cast<const std::byte*>(call_.out);
    const std::size_t ours =
        call_.what == Collective::all_gather ? rank_ * call_.count * element_ : 0;
    is_shared_ = !segment.empty() && buffer >= segment.data() &&
                 buffer + bytes_of_all() <= segment.data() + segment.size() &&
                 call_.in == buffer + ours &&
                 static_cast<std::size_t>(buffer - segment.data()) % element_ == 0;
    if (is_shared_) its.offset.store(static_cast<std::uint64_t>(buffer - segment.data()), relaxed);
  }
  its.what.store(is_shared_ ? what_ | shared_bit : what_, relaxed);
  its.count.store(call_.count, relaxed);
  its.number.store(pack_count(epoch(), called_), release("GROUP.arrive"));  // -> GROUP.arrived
  owes_wake_ = true;
}

bool Group::Member::all_have_called() noexcept {
  for (; seen_ < size_; ++seen_) {
    if (seen_ == rank_) continue;  // our own line is on its way to the others
    // <- GROUP.arrive. It is no later one: for that, we had to have called this one.
    const std::uint64_t its =
        place_of(seen_).calls[called_ & 1].number.load(acquire("GROUP.arrived"));
    if (!has_reached(its, epoch(), called_, 0)) return false;
  }
  return true;
}

// Whether all have called the same; then it is clear how to do it.
bool Group::Member::agree() noexcept {
  const auto segment = group_.peers_->mapping();
  bool all_shared = is_shared_;
  counts_[rank_] = call_.count;
  shared_[rank_] = static_cast<std::byte*>(call_.out);
  for (std::uint32_t rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    const Call& its = place_of(rank).calls[called_ & 1];
    const std::uint64_t what = its.what.load(relaxed);
    const std::uint64_t count = its.count.load(relaxed);
    if ((what & ~shared_bit) != what_) return false;
    if (call_.what == Collective::all_gather_v) {
      if (count > most_bytes / size_) return false;  // rule 9 of shared memory
      counts_[rank] = count;
      longest_ = std::max<std::size_t>(longest_, count);
    } else if (count != call_.count) {
      return false;
    }
    all_shared = all_shared && (what & shared_bit) != 0;
    if (!all_shared) continue;
    // It is another process's word that the buffer lies there: rule 9.
    const std::uint64_t offset = its.offset.load(relaxed);
    if (bytes_of_all() > segment.size() || offset > segment.size() - bytes_of_all() ||
        offset % element_ != 0) {
      return false;
    }
    shared_[rank] = segment.data() + offset;
  }
  if (plan_ == Plan::unknown) {
    plan_ = all_shared                                         ? Plan::shared
            : call_.what == Collective::allreduce && size_ > 2 ? Plan::striped
                                                               : Plan::staged;
    chunks_ += plan_ == Plan::shared ? 1 : (longest_ + chunk_ - 1) / chunk_;
  }
  return true;
}

bool Group::Member::all_have(Word Place::*done, std::uint64_t count) noexcept {
  for (std::uint32_t rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    // <- GROUP.fill, .reduce
    const std::uint64_t its = (place_of(rank).*done).load(acquire("GROUP.done"));
    if (!has_reached(its, epoch(), count, group_.cells_.count)) return false;
  }
  return true;
}

bool Group::Member::has_done_its_part(const Place& its) const noexcept {
  const auto has = [&](const Word& word, std::uint64_t count) {
    // <- GROUP.arrive, .fill, .reduce
    return has_reached(word.load(acquire("GROUP.done")), epoch(), count, 0);
  };
  if (!has(its.calls[called_ & 1].number, called_)) return false;
  if (!agreed_ || plan_ == Plan::whole) return true;
  return has(plan_ == Plan::staged ? its.filled : its.reduced, chunks_);
}

// Who has not done what we wait for.
std::uint32_t Group::Member::missing() const noexcept {
  if (!agreed_) return seen_;
  const bool for_reduced = gathered_ < reduced_;
  for (std::uint32_t rank = 0; rank < size_; ++rank) {
    const Place& its = place_of(rank);
    const Word& word = for_reduced ? its.reduced : its.filled;
    const std::uint64_t count = (for_reduced ? gathered_ : reduced_) + 1;
    if (!has_reached(word.load(relaxed), epoch(), count, group_.cells_.count)) return rank;
  }
  return GroupOutcome::nobody_in_particular;
}

// What can be done now.
Group::Member::Next Group::Member::next() noexcept {
  if (!agreed_) return all_have_called() ? Next::agree : Next::wait;
  if (gathered_ == chunks_) return Next::end;
  if (gathered_ < reduced_ && all_have(&Place::reduced, gathered_ + 1)) return Next::gather;
  if (reduced_ < filled_ && all_have(&Place::filled, reduced_ + 1)) return Next::reduce;
  if (filled_ < chunks_ && filled_ - gathered_ < group_.cells_.count / 2)
    return Next::fill;  // COLL-2
  return Next::wait;
}

void Group::Member::go_on(Next now) noexcept {
  Place& mine = group_.places_[place_];
  const auto say_reduced = [&] {
    mine.reduced.store(pack_count(epoch(), reduced_), release("GROUP.reduce"));  // -> GROUP.done
    owes_wake_ = true;
  };
  switch (now) {
    case Next::wait:
      return;
    case Next::agree:
      if (!agree()) {
        const bool ours = call_.what == Collective::refused;
        end({ours ? Status::invalid : Status::mismatch});
        return;
      }
      agreed_ = true;
      result_ = {call_.what == Collective::refused ? Status::invalid : Status::ready};
      if (call_.what == Collective::all_gather_v) {
        std::size_t sum = 0;
        for (std::uint32_t q = 0; q < size_; ++q) {
          call_.counts[q] = counts_[q] / call_.unit;
          sum += counts_[q];
        }
        if (sum > call_.out_count) result_ = {Status::invalid};  // but the others want our part
      }
      if (plan_ == Plan::whole) {
        // All have drained what they shared of it: it may come back while we drain.
        prefetch_for_writing(&mine.calls[(called_ + 1) & 1]);
        drain(first_);
        end(result_);
      } else if (plan_ == Plan::shared) {
        use_shared();
        filled_ = reduced_ = chunks_;
        say_reduced();
      }
      return;
    case Next::gather:
      ++gathered_;
      if (plan_ == Plan::striped) gather_stripes(gathered_);
      return;
    case Next::reduce:
      ++reduced_;
      if (plan_ == Plan::striped) {
        reduce_stripe(reduced_);
        say_reduced();
      } else {
        drain(reduced_);
        gathered_ = reduced_;
      }
      return;
    case Next::fill:
      ++filled_;
      fill(filled_);
      mine.filled.store(pack_count(epoch(), filled_), release("GROUP.fill"));  // -> GROUP.done
      owes_wake_ = true;
      return;
    case Next::end:
      end(result_);
      return;
  }
}

}  // namespace heddle
