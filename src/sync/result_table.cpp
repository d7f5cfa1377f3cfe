#include "heddle/sync/result_table.hpp"

#include <algorithm>

#include "heddle/base/copy.hpp"

namespace heddle {

bool ResultTable::claim(std::uint64_t ticket, std::uint64_t grant, Owner self) noexcept {
  Entry& entry = at(ticket);
  std::uint64_t word = entry.word.load(relaxed);
  for (;;) {
    const State state = state_of(word);
    const std::int64_t laps = ahead(word, ticket);
    // RESULT-1. (One that has failed and is ended once more: who dropped its letter died over it.)
    if (laps == 0 && state != State::none && state != State::failed) return false;
    if (laps > 0 || state == State::writing) {  // RESULT-3
      expired_->fetch_add(1, relaxed);
      return false;
    }
    // A release, as every claim is (at `Dead`); and what the last one wrote here comes before.
    if (entry.word.compare_exchange(word, pack(lap(ticket), grant, self, State::writing),
                                    acq_rel("RESULT.claim"))) {
      if (state == State::ready) expired_->fetch_add(1, relaxed);
      fence_after_rmw(release("RESULT.claimed"));  // the claim, then the bytes -> RESULT.recheck
      return true;
    }
  }
}

void ResultTable::publish(std::uint64_t ticket, std::uint64_t grant, State state) noexcept {
  Entry& entry = at(ticket);
  entry.word.store(pack(lap(ticket), grant, nobody, state), release("RESULT.ready"));
  entry.event.notify_all();
}

void ResultTable::put(std::uint64_t ticket, std::uint64_t grant, Owner self,
                      std::span<const std::byte> result) noexcept {
  if (!claim(ticket, grant, self)) return;
  Entry& entry = at(ticket);
  entry.length.store(static_cast<std::uint32_t>(result.size()), relaxed);
  copy_in(&entry + 1, result.data(), result.size());
  publish(ticket, grant, State::ready);
}

void ResultTable::fail(std::uint64_t ticket, std::uint64_t grant, Owner self) noexcept {
  if (claim(ticket, grant, self)) publish(ticket, grant, State::failed);
}

Status ResultTable::get(std::uint64_t ticket, std::span<std::byte> result,
                        std::size_t& length) const noexcept {
  const Entry& entry = at(ticket);
  const std::uint64_t word = entry.word.load(acquire("RESULT.get"));  // <- RESULT.ready
  const std::int64_t laps = ahead(word, ticket);
  if (laps > 0) return Status::expired;
  if (laps < 0 || state_of(word) == State::none || state_of(word) == State::writing) {
    return Status::empty;
  }
  if (state_of(word) == State::failed) return Status::failed;
  length = std::min(entry.length.load(relaxed), result_bytes_);
  copy_out(result.data(), &entry + 1, std::min(length, result.size()));
  fence(acquire("RESULT.recheck"));  // <- RESULT.claimed
  // RESULT-2. From ready to read is no change of the bytes.
  return ahead(entry.word.load(relaxed), ticket) == 0 ? Status::ready : Status::expired;
}

void ResultTable::mark_read(std::uint64_t ticket) noexcept {
  std::uint64_t word = at(ticket).word.load(relaxed);
  if (ahead(word, ticket) != 0 || state_of(word) != State::ready) return;
  // When it fails, somebody else has marked it, or has its entry.
  at(ticket).word.compare_exchange(
      word, (word & ~std::uint64_t{7}) | static_cast<std::uint64_t>(State::read), relaxed);
}

void ResultTable::repair(const Dead& dead) noexcept {
  for (std::uint64_t i = 0; i < entries_; ++i) {
    Entry& entry = at(i);
    for (;;) {
      std::uint64_t word = entry.word.load(acquire("RESULT.repair"));  // <- RESULT.claim
      if (state_of(word) != State::writing || !dead.owns(owner_of(word).bits()) || !dead.still()) {
        break;
      }
      const std::uint64_t none = (word & ~std::uint64_t{0x1fff});  // its lap
      if (entry.word.compare_exchange(word, none, release("RESULT.repaired"))) break;
    }
  }
}

}  // namespace heddle
