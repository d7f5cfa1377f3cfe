#include "heddle/sync/barrier.hpp"

#include <string>

namespace heddle {

std::size_t Barrier::bytes(const Options& options) {
  const std::uint32_t places = places_for(options);
  if (options.parties == 0 || options.parties > places || places > most_places) {
    throw Error(Errc::invalid_argument,
                "a barrier cannot have " + std::to_string(options.parties) +
                    " parties and room for " + std::to_string(places) +
                    ": choose 1 <= parties <= max_parties <= " + std::to_string(most_places));
  }
  return bytes_for(places);
}

void Barrier::format(std::span<std::byte> memory, const Options& options) {
  auto* shared = reinterpret_cast<Shared*>(memory.data());
  shared->max_parties = places_for(options);
  shared->parties = options.parties;
  shared->on_death = options.on_death;
  shared->outcome.store(outcome_word(gathering - 1, nobody), relaxed);
}

std::string Barrier::difference(std::span<std::byte> memory, const Options& options) {
  Barrier barrier;
  if (!barrier.attach(memory)) return {};  // damaged: whoever attaches to it is told
  const auto counts = [](std::uint32_t has, const char* what, std::uint32_t wanted) {
    return "it has " + std::to_string(has) + " " + what + ", not " + std::to_string(wanted);
  };
  if (barrier.parties_ != options.parties) {
    return counts(barrier.parties_, "parties", options.parties);
  }
  if (barrier.max_parties_ != places_for(options)) {
    return counts(barrier.max_parties_, "max_parties", places_for(options));
  }
  if (barrier.on_death_ == options.on_death) return {};
  return options.on_death == OnDeath::report ? "its on_death is shrink, not report"
                                             : "its on_death is report, not shrink";
}

Barrier::Barrier(std::span<std::byte> memory, Peers& peers) : peers_(&peers) {
  if (!attach(memory)) throw Error(Errc::corrupt, "a barrier's header is damaged; make it anew");
}

// False when the header is damaged.
bool Barrier::attach(std::span<std::byte> memory) noexcept {
  if (memory.size() < sizeof(Shared)) return false;
  shared_ = reinterpret_cast<Shared*>(memory.data());
  max_parties_ = shared_->max_parties;
  parties_ = shared_->parties;
  on_death_ = shared_->on_death;
  if (max_parties_ <= few) {
    places_ = shared_->near_places;
    stride_ = 1;
  } else {
    places_ = reinterpret_cast<Word*>(memory.data() + sizeof(Shared));
    stride_ = far_stride;
    if (max_parties_ > most_flat) branches_ = places_ + max_parties_ * far_stride;
  }
  return parties_ >= 1 && parties_ <= max_parties_ && memory.size() >= bytes_for(max_parties_) &&
         (on_death_ == OnDeath::report || on_death_ == OnDeath::shrink) &&
         epoch_of(look()) >= gathering - 1;
}

Barrier::Party Barrier::join(Deadline deadline) {
  if (!peers_->present()) {
    throw Error(Errc::closed,
                "this barrier handle belongs to the parent process; open the segment in this one");
  }
  // A system call for each that is there: so not at every join, but where a dead one would matter.
  const auto ask_all = [&] {
    for (std::uint32_t i = 0; i < max_parties_; ++i) {
      const std::uint64_t word = place(i).load(relaxed);
      if (!is_gone(word)) peers_->recover_if_dead(owner_of(word));
    }
    advance(look());
  };
  if (epoch_of(look()) + 1 == gathering) {
    std::uint32_t left = parties_;
    for (std::uint32_t i = 0; i < parties_; ++i) {
      const std::uint64_t word = place(i).load(relaxed);
      if (owner_of(word) && !is_gone(word)) --left;
    }
    if (left <= 1) ask_all();  // whose place this newcomer takes, instead of the last one
  }

  Party party;
  party.barrier_ = *this;
  std::uint64_t open = 0;
  const auto claimed = [&] {
    const std::uint64_t outcome = look();
    open = epoch_of(outcome) + 1;
    party.place_ = claim(open);
    if (party.place_ == nullptr && open == gathering) {  // all founders are there: then it is over
      open = epoch_of(advance(outcome)) + 1;
      party.place_ = claim(open);
    }
    return party.place_ != nullptr;
  };
  const auto hopeless = [&] {
    ask_all();
    for (std::uint32_t i = 0; i < max_parties_; ++i) {
      if (is_gone(place(i).load(relaxed))) return Status::ready;
    }
    return Status::full;
  };
  const Status status =
      wait_for(shared_->changed, deadline, WaitStrategy::adaptive, claimed, hopeless);
  if (status == Status::full) {
    throw Error(Errc::too_many, "all " + std::to_string(max_parties_) +
                                    " places of the barrier have living owners; make it with a "
                                    "larger max_parties");
  }
  if (status != Status::ready) {
    throw Error(Errc::timeout,
                "no place of the barrier came free in time: a dead member's does when the open "
                "epoch ends, for which a living one is missing");
  }

  // The epoch may have ended before the claim was seen: then some take the newcomer for a member
  // of the next one, and others do not. So it arrives there as well, until none has overlooked it.
  // Nobody can have overlooked a founder: BARRIER-5.
  const bool is_founder = stamp_of(party.place_->load(relaxed)) == 1;
  party.arrived_ = std::max(open, gathering);
  for (;;) {
    fence(seq_cst("BARRIER.after_claim"));  // the claim, then the outcome
    party.outcome_ = look();
    open = epoch_of(party.outcome_) + 1;
    if (open <= party.arrived_ || is_founder) break;
    party.arrived_ = open;
    party.place_->store(place_word(open, peers_->self()), release("BARRIER.arrive"));
  }
  party.target_ = party.arrived_;
  party.probed_ = party.place();
  party.outcome_ =
      advance(party.outcome_, party.place_);  // it may be the last one that had to join
  return party;
}

// As scan, in a barrier for many: a branch whose word says that nobody in it is in the way is not
// looked at. The words save looks and decide nothing: of any that is behind, the places are. So who
// dies between its arrival and its branch's word leaves nothing to be done, and of two last arrivals
// one still sees all, as without branches.
Barrier::Scan Barrier::scan_branches(std::uint64_t open, const Word* mine) noexcept {
  if (open == gathering) return scan(open);  // which counts the places: branches do not
  Scan all;
  const std::uint32_t end = used();
  const std::uint32_t branches = (end + branch_places - 1) / branch_places;
  // Begins with the caller's own branch, whose last arrival thus writes its word, and in it with the
  // caller's place: parties often arrive in the order of their places, and the next one is in the way.
  const auto own = static_cast<std::uint32_t>((mine == nullptr ? 0 : mine - places_) / far_stride);
  std::uint32_t branch = own < end ? own / branch_places : 0;
  for (std::uint32_t n = 0; n < branches; ++n) {
    Word& sum = branches_[branch * far_stride];
    const std::uint64_t summed = sum.load(acquire("BARRIER.summed"));  // <- BARRIER.sum
    Owner died = owner_of(summed);
    if (epoch_of(summed) < open) {
      const std::uint32_t first = branch * branch_places;
      const std::uint32_t last = std::min(first + branch_places, end);
      const std::uint32_t from = first <= own && own < last ? own : first;
      Scan seen;
      if (!pass(open, from, last, seen) || !pass(open, first, from, seen)) return all;
      died = seen.died;
      // BARRIER-6. A store, as it is true for ever: one that is late takes the word back, and costs
      // others a look. Passes on what was acquired from these places. -> BARRIER.summed
      sum.store(outcome_word(open, died), release("BARRIER.sum"));
    }
    if (!all.died) all.died = died;
    branch = branch + 1 < branches ? branch + 1 : 0;
  }
  all.over = true;
  return all;
}

// Claims a place for a newcomer that has seen `open` as the open epoch.
Barrier::Word* Barrier::claim(std::uint64_t open) noexcept {
  const bool gathers = open == gathering;
  for (std::uint32_t i = 0; i < (gathers ? parties_ : max_parties_); ++i) {  // BARRIER-5
    std::uint64_t word = place(i).load(relaxed);
    if (owner_of(word)) {
      const bool is_reported = arrived_of(word) + 1 < open;
      if (!is_gone(word) || !(gathers || is_reported)) continue;
    }
    // BARRIER-4: the word may be newer than `open`.
    const std::uint64_t stamp = gathers ? stamp_of(word) + 1 : std::max(stamp_of(word), open);
    if (gathers && stamp > gathering) continue;

    std::uint32_t used = shared_->used.load(relaxed);
    while (used <= i && !shared_->used.compare_exchange(used, i + 1, relaxed)) {
    }
    // -> BARRIER.scan, .repair. Who reads this claim in its predecessor's stead has that one's work
    // all the same (a read-modify-write goes on the release sequence); who reads the arrivals that
    // follow has it by the fence in join(), which acquires it.
    if (place(i).compare_exchange(word, place_word(stamp, peers_->self()),
                                  release("BARRIER.claim"))) {
      return &place(i);
    }
  }
  return nullptr;
}

// Recovers those in the way that are dead, and does what a dead one may have left undone. Asks after a
// few of them, beginning behind `from`, which moves on. When the living have arrived, the dead are few
// or those who look are many. Before that it helps nobody: two processes of 512 parties each, whose
// waiters asked after everybody, took 14 ms for an epoch instead of 1 to 6.
void Barrier::probe(std::uint32_t& from) noexcept {
  constexpr int most_asked = 8;
  const std::uint64_t open = epoch_of(look()) + 1;
  Owner before = peers_->self();
  int asked = 0;
  for (std::uint32_t n = 0; n < max_parties_ && asked < most_asked; ++n) {
    from = from + 1 < max_parties_ ? from + 1 : 0;
    const std::uint64_t word = place(from).load(relaxed);
    const Owner owner = owner_of(word);
    if (!in_the_way(word, open) || owner == before || owner == peers_->self()) continue;
    peers_->recover_if_dead(owner);
    before = owner;
    ++asked;
  }
  advance(look());
}

void Barrier::repair(std::span<std::byte> memory, const Dead& dead) noexcept {
  Barrier barrier;
  if (!barrier.attach(memory)) return;
  for (std::uint32_t i = 0; i < barrier.max_parties_; ++i) {
    Word& place = barrier.place(i);
    for (;;) {
      std::uint64_t word = place.load(acquire("BARRIER.repair"));  // <- BARRIER.claim, .arrive
      if (!dead.owns(owner_of(word).bits()) || is_gone(word)) break;
      if (!dead.still()) return;
      // Passes on what the dead had done, to those who will pass. -> BARRIER.scan
      if (place.compare_exchange(word, word | gone_bit, release("BARRIER.gone"))) break;
    }
  }
  barrier.advance(barrier.look());
  barrier.shared_->changed.wake_regardless();
}

std::uint32_t Barrier::members() const noexcept {
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < max_parties_; ++i) {
    const std::uint64_t word = place(i).load(relaxed);
    if (owner_of(word) && !is_gone(word)) ++count;
  }
  return count;
}

std::size_t Barrier::missing(std::span<Owner> owners) const noexcept {
  std::size_t count = 0;
  const auto add = [&](Owner owner) {
    if (count < owners.size()) owners[count] = owner;
    ++count;
  };
  const std::uint64_t open = epoch_of(look()) + 1;
  std::uint32_t taken = 0;
  for (std::uint32_t i = 0; i < max_parties_; ++i) {
    const std::uint64_t word = place(i).load(relaxed);
    if (in_the_way(word, open)) add(owner_of(word));
    if (owner_of(word)) ++taken;
  }
  for (; open == gathering && taken < parties_; ++taken) add(nobody);
  return count;
}

}  // namespace heddle
