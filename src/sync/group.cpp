#include "heddle/sync/group.hpp"

#include <algorithm>
#include <string>

#include "heddle/sync/collective.hpp"

namespace heddle {

std::uint32_t Group::places_for(const Options& options) {
  return options.places != 0 ? options.places : std::min(2 * options.size, most_members);
}

std::size_t Group::exchange_at(std::uint32_t places) {
  return (sizeof(Header) + places * sizeof(Place) + page_bytes - 1) / page_bytes * page_bytes;
}

std::size_t Group::bytes(const Options& options) {
  const auto refuse = [](const std::string& what) {
    throw Error(Errc::invalid_argument, "group: " + what);
  };
  if (options.size == 0 || options.size > most_members) {
    refuse("the size is 1 to " + std::to_string(most_members) + ", not " +
           std::to_string(options.size));
  }
  const std::uint32_t places = places_for(options);
  if (places < options.size || places > most_members) {
    refuse("it has " + std::to_string(options.size) + " to " + std::to_string(most_members) +
           " places, not " + std::to_string(places));
  }
  if (options.exchange_bytes % cache_line != 0 || options.exchange_bytes > std::size_t{1} << 40) {
    refuse("exchange_bytes is a multiple of " + std::to_string(cache_line) + ", not " +
           std::to_string(options.exchange_bytes));
  }
  std::size_t least = least_exchange_bytes;
  while (cells_of(least).large / places < least_part) least += cache_line;
  if (options.exchange_bytes < least) {
    refuse(std::to_string(places) + " places need an exchange_bytes of " + std::to_string(least) +
           " or more");
  }
  return exchange_at(places) + places * options.exchange_bytes;
}

void Group::format(std::span<std::byte> memory, const Options& options) {
  auto& header = *reinterpret_cast<Header*>(memory.data());
  header.size = options.size;
  header.places = places_for(options);
  header.exchange_bytes = options.exchange_bytes;
  // Zeroes are right for all else: epoch 0, broken, without members.
}

std::string Group::difference(std::span<std::byte> memory, const Options& options) {
  Group group;
  if (!group.attach(memory)) return {};  // damaged: whoever attaches to it is told
  struct Row {
    const char* what;
    std::size_t has, wanted;
  };
  for (const Row& row : {Row{"size", group.size_, options.size},
                         Row{"places", group.place_count_, places_for(options)},
                         Row{"exchange_bytes", group.exchange_bytes_, options.exchange_bytes}}) {
    if (row.has == row.wanted) continue;
    return std::string("it has ") + row.what + " " + std::to_string(row.has) + ", not " +
           std::to_string(row.wanted);
  }
  return {};
}

bool Group::attach(std::span<std::byte> memory) noexcept {
  if (memory.size() < sizeof(Header)) return false;
  header_ = reinterpret_cast<Header*>(memory.data());
  size_ = header_->size;
  place_count_ = header_->places;
  exchange_bytes_ = header_->exchange_bytes;
  if (size_ == 0 || size_ > place_count_ || place_count_ > most_members ||
      exchange_bytes_ < least_exchange_bytes || exchange_bytes_ % cache_line != 0 ||
      exchange_bytes_ > memory.size()) {
    return false;
  }
  cells_ = cells_of(exchange_bytes_);
  if (cells_.large / place_count_ < least_part) return false;
  places_ = reinterpret_cast<Place*>(memory.data() + sizeof(Header));
  exchange_ = memory.data() + exchange_at(place_count_);
  return exchange_at(place_count_) + place_count_ * exchange_bytes_ <= memory.size();
}

Group::Group(std::span<std::byte> memory, Peers& peers) : peers_(&peers) {
  if (!attach(memory)) throw Error(Errc::corrupt, "a group's header is damaged; make it anew");
}

// Takes a place that is nobody's, or a dead one's that is no member of a running epoch: its number + 1,
// or 0 when there is none.
std::uint64_t Group::claim() noexcept {
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    Word& its = places_[i].word;
    for (;;) {
      std::uint64_t word = its.load(acquire("GROUP.reuse"));  // <- GROUP.gone
      if (is_there(word)) break;
      // After the word: whoever was dead when an epoch was formed with him is seen in it.
      const std::uint64_t state = look();
      if (break_without(i, word, state)) continue;
      // In no epoch yet: Member::ask.
      const std::uint64_t none = (epoch_of(state) + epochs - 1) % epochs;
      const std::uint64_t mine = pack_place(none, generation_of(word) + 1, peers_->self());
      // A release, as every claim is (at `Dead`). -> GROUP.scan
      if (its.compare_exchange(word, mine, release("GROUP.claim"))) return i + 1;
    }
  }
  return 0;
}

// Begins the next epoch if all that it needs have asked for it. Anyone may, at any time.
void Group::try_form() noexcept {
  std::uint64_t state = look();
  fence(seq_cst("GROUP.before_scan"));  // the caller's change, then the places
  const std::uint64_t next = after(epoch_of(state));
  const bool is_first = members_of(state) == 0;
  std::uint64_t asked = 0;
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    const std::uint64_t word =
        places_[i].word.load(acquire("GROUP.scan"));  // <- GROUP.want, .claim
    if (!is_there(word)) continue;
    if (epoch_of(word) == next) {
      asked |= std::uint64_t{1} << i;
      if (is_first && static_cast<std::uint32_t>(std::popcount(asked)) == size_) break;
    } else if (epoch_of(word) == epoch_of(state) && (members_of(state) >> i & 1) != 0) {
      return;  // GROUP-2
    }
  }
  if (static_cast<std::uint32_t>(std::popcount(asked)) < (is_first ? size_ : 1)) return;
  // GROUP-1. Passes on what the scan has acquired. -> GROUP.state
  if (header_->state.compare_exchange(state, pack_state(next, Phase::running, asked),
                                      release("GROUP.form"))) {
    header_->changed.notify_all();
  }
}

void Group::break_epoch(std::uint64_t state, std::uint32_t place) noexcept {
  // The first one that is found stands for all. In `died` it is before in `state`. A slow one does not
  // put an old epoch over a newer: that had begun before it was written there.
  std::uint64_t died = header_->died.load(acquire("GROUP.died"));
  while (epoch_of(died) != epoch_of(state) && look() == state) {
    if (header_->died.compare_exchange(died, epoch_of(state) << 50 | (place + 1),
                                       release("GROUP.name"))) {  // -> GROUP.died
      break;
    }
    died = header_->died.load(acquire("GROUP.died"));
  }
  const std::uint64_t broken = pack_state(epoch_of(state), Phase::broken, members_of(state));
  if (header_->state.compare_exchange(state, broken, release("GROUP.broken"))) {
    header_->changed.notify_all();
  }
}

// If the running epoch counts on a place: breaks it, when the place still is as `word` says, which is out
// of every epoch; else somebody has claimed it meanwhile, and may live in that very epoch.
bool Group::break_without(std::uint32_t place, std::uint64_t word, std::uint64_t state) noexcept {
  if (!is_running(state) || (members_of(state) >> place & 1) == 0) return false;
  if (places_[place].word.load(relaxed) == word) break_epoch(state, place);
  return true;
}

// Breaks the running epoch if a member is gone, and looks after those that may be.
void Group::probe(std::uint64_t state) noexcept {
  for (std::uint32_t i = 0; i < place_count_; ++i) {
    if ((members_of(state) >> i & 1) == 0) continue;
    std::uint64_t word = places_[i].word.load(acquire("GROUP.reuse"));
    if (is_there(word)) peers_->recover_if_dead(owner_of(word));
    word = places_[i].word.load(relaxed);
    if (!is_there(word) || epoch_of(word) != epoch_of(state)) break_epoch(state, i);
  }
}

Group::Member Group::join(Deadline deadline) {
  if (!peers_->present()) {
    throw Error(Errc::closed,
                "this group handle belongs to the parent process; open the segment in this one");
  }
  std::uint64_t claimed = claim();
  if (claimed == 0) {
    for (std::uint32_t i = 0; i < place_count_; ++i) {
      peers_->recover_if_dead(owner_of(places_[i].word.load(relaxed)));
    }
    claimed = claim();
  }
  if (claimed == 0) {
    throw Error(Errc::too_many, "all " + std::to_string(place_count_) +
                                    " places of the group have living owners; make it with more");
  }
  Member member;
  member.group_ = *this;
  member.place_ = static_cast<std::uint32_t>(claimed - 1);
  const GroupOutcome outcome = member.wait_for_epoch(deadline);
  if (outcome.status == Status::timeout) {
    throw Error(Errc::timeout,
                "the group's epoch did not begin in time: before the first one " +
                    std::to_string(size_) +
                    " members must join, later all living members must call rebuild");
  }
  return member;
}

void Group::repair(std::span<std::byte> memory, const Dead& dead) noexcept {
  Group group;
  if (!group.attach(memory)) return;
  for (std::uint32_t i = 0; i < group.place_count_; ++i) {
    Word& its = group.places_[i].word;
    for (;;) {
      std::uint64_t word = its.load(acquire("GROUP.repair"));  // <- GROUP.claim
      if (!dead.owns(owner_of(word).bits())) break;
      if (!dead.still()) return;
      // Passes on what the dead had done. -> GROUP.scan, .reuse
      if (!is_gone(word) && !its.compare_exchange(word, word | gone_bit, release("GROUP.gone"))) {
        continue;
      }
      group.break_without(i, word | gone_bit, group.look());
      break;
    }
  }
  group.try_form();  // it may have been the last one that had not asked
  group.header_->changed.wake_regardless();
}

// --- a member of epochs

Group::Member& Group::Member::operator=(Member&& other) noexcept {
  if (this == &other) return *this;
  leave();
  *this = std::as_const(other);
  other.group_.peers_ = nullptr;
  return *this;
}

void Group::Member::enter(std::uint64_t state) noexcept {
  // It may be broken already: to us it begins, and the first call says so. GROUP-4
  state_ = pack_state(epoch_of(state), Phase::running, members_of(state));
  size_ = 0;
  for (std::uint32_t i = 0; i < group_.place_count_; ++i) {
    if ((members_of(state) >> i & 1) == 0) continue;
    if (i == place_) rank_ = size_;
    ranks_[size_++] = static_cast<std::uint8_t>(i);
  }
  called_ = chunks_ = 0;
}

// Says that we are in no epoch before `next`, and want that one.
void Group::Member::ask(std::uint64_t next) noexcept {
  Place& mine = group_.places_[place_];
  // Epochs count round: what stands here since the last one of that number must not count in it.
  for (Word* said :
       {&mine.calls[0].number, &mine.calls[1].number, &mine.filled, &mine.reduced, &mine.stopped}) {
    if (epoch_of(said->load(relaxed)) == next) said->store(0, relaxed);
  }
  const std::uint64_t word = mine.word.load(relaxed);
  mine.word.store(pack_place(next, generation_of(word), owner_of(word)),
                  release("GROUP.want"));  // -> GROUP.scan, .out
  group_.header_->changed.notify_all();    // who waits for a step of ours need not any more
}

// Waits until an epoch has begun of which this is a member.
GroupOutcome Group::Member::wait_for_epoch(Deadline deadline) noexcept {
  Word& mine = group_.places_[place_].word;
  std::uint64_t state = state_;
  group_.try_form();
  const auto begun = [&] {
    state = group_.look();
    const std::uint64_t word = mine.load(relaxed);
    const std::uint64_t now = epoch_of(state);
    if (epoch_of(word) == now && (members_of(state) >> place_ & 1) != 0) return true;
    // Epochs began without us, who came too late for them: the next one, then.
    if (epoch_of(word) != after(now)) {
      ask(after(now));
      group_.try_form();
    }
    return false;
  };
  const auto probe = [&] {
    for (std::uint32_t i = 0; i < group_.place_count_; ++i) {
      const std::uint64_t word = group_.places_[i].word.load(relaxed);
      if (is_there(word)) group_.peers_->recover_if_dead(owner_of(word));
    }
    group_.try_form();
    return Status::ready;
  };
  const Status status =
      wait_for(group_.header_->changed, deadline, strategy_, begun, probe, &patience_);
  if (status != Status::ready) return {status};
  enter(state);
  return {Status::ready};
}

GroupOutcome Group::Member::rebuild(Deadline deadline) noexcept {
  if (!is_member()) return {Status::closed};
  const std::uint64_t word = group_.places_[place_].word.load(relaxed);
  if (epoch_of(word) == epoch()) {  // else it was called before
    end_all({Status::peer_died});
    group_.break_epoch(state_, place_);  // those who wait for us in it wait in vain
    ask(after(epoch()));
  }
  return wait_for_epoch(deadline);
}

void Group::Member::leave() noexcept {
  if (is_member()) {
    Word& mine = group_.places_[place_].word;
    const std::uint64_t left = pack_place(0, generation_of(mine.load(relaxed)), nobody);
    mine.store(left, release("GROUP.leave"));  // -> GROUP.scan
    group_.break_without(place_, left, group_.look());
    group_.try_form();
    group_.header_->changed.notify_all();
  }
  group_.peers_ = nullptr;
}

GroupOutcome Group::Member::peer_died() const noexcept {
  const std::uint64_t died = group_.header_->died.load(relaxed);  // behind GROUP.state
  const std::uint64_t place = (died & members_mask) - 1;
  for (std::uint32_t rank = 0; rank < size_; ++rank) {
    if (epoch_of(died) == epoch() && ranks_[rank] == place) return {Status::peer_died, rank};
  }
  return {Status::peer_died};
}

// Whether one that has not done its part of the present call never will. GROUP-3
bool Group::Member::is_lost() const noexcept {
  for (std::uint32_t rank = 0; rank < size_; ++rank) {
    const Place& its = place_of(rank);
    const std::uint64_t word = its.word.load(acquire("GROUP.out"));  // <- GROUP.gone, .leave, .want
    const std::uint64_t stopped = its.stopped.load(acquire("GROUP.stopped"));  // <- GROUP.stop
    const bool is_out = !is_there(word) || epoch_of(word) != epoch();
    // After these, so what it says here is its last word.
    if ((is_out || has_reached(stopped, epoch(), 1, 0)) && !has_done_its_part(its)) return true;
  }
  return false;
}

// Says that we do no more in this epoch.
GroupOutcome Group::Member::stop() noexcept {
  group_.places_[place_].stopped.store(pack_count(epoch(), 1),
                                       release("GROUP.stop"));  // -> GROUP.stopped
  group_.header_->changed.notify_all();
  const GroupOutcome outcome = peer_died();
  end_all(outcome);
  return outcome;
}

}  // namespace heddle
