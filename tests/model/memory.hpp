#pragma once

// Weak memory: C++20 atomics as an operational machine of views.
//
// Each location keeps the history of its stores. A view says, for each location, which store is the
// oldest that may still be read; it is what vector clocks are for races. Each process has a view
// `now`; each store carries the view that an acquiring reader of it gets:
//   load     reads any store not older than the view says (coherence and happens-before in one), then
//            raises the view to it; acquire joins the store's view, relaxed keeps that for a fence
//   store    release carries the whole view, relaxed that of the last release fence; a
//            read-modify-write reads the newest store and passes its view on (release sequences)
//   fence    acquire: joins what relaxed loads have kept.  release: what relaxed stores will carry
//   seq_cst  fences join one global view, both ways, but for what is plain, which nothing but
//            happens-before orders. A seq_cst load also reads nothing older than what a seq_cst
//            access or a thread at a seq_cst fence has seen; a later fence knows the seq_cst
//            accesses before it. That is [atomics.order] 4, with the order S taken to be the
//            order of execution
//   plain    must be ordered by views with every other access that conflicts: else a data race
// Exact for C++20 but for two things, which make it explore too little: modification order and S
// follow the order of execution (no 2+2W), and no load reads a store that comes later (no load
// buffering). The first store of a location is what memory holds when it is first touched.
// Source: Kang et al. 2017, "A promising semantics for relaxed-memory concurrency", without promises.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "model/machine.hpp"

namespace heddle::model {

inline constexpr std::size_t most_processes = 6;
inline constexpr std::size_t most_ids = 8192;  // locations, and marks of plain reads
inline constexpr std::size_t arena_bytes = 32768;

constexpr bool acquires(Strength s) {
  return s == Strength::acquire || s == Strength::acq_rel || s == Strength::seq_cst;
}
constexpr bool releases(Strength s) {
  return s == Strength::release || s == Strength::acq_rel || s == Strength::seq_cst;
}

class Memory {
 public:
  /// Of ids: as long as the greatest that is not 0, about.
  class View {
   public:
    std::uint16_t operator[](std::size_t id) const { return id < at_.size() ? at_[id] : 0; }
    std::size_t size() const { return at_.size(); }
    void clear() { at_.clear(); }
    void set(std::size_t id, std::uint16_t index) {
      if (id >= at_.size()) at_.resize(id + 1);
      at_[id] = index;
    }
    void raise(std::size_t id, std::uint16_t index) {
      if ((*this)[id] < index) set(id, index);
    }
    void join(const View& other) {
      if (at_.size() < other.at_.size()) at_.resize(other.at_.size());
      for (std::size_t i = 0; i < other.at_.size(); ++i) at_[i] = std::max(at_[i], other.at_[i]);
    }

   private:
    std::vector<std::uint16_t> at_;
  };
  struct Store {
    std::uint64_t value;
    View view;
    bool plain;  // the value is in memory only
  };
  struct Location {
    std::byte* address;
    std::size_t bytes;
    std::uint16_t id;
    std::uint16_t last;  // index of the newest store
    std::vector<Store> stores;
    std::array<std::uint16_t, most_processes> reader_id;  // of its mark; 0: never read plainly
    std::array<std::uint16_t, most_processes> reads;
  };

  /// Forgets all stores. The arena's bytes stay as they are.
  void reset() {
    for (std::size_t i = 0; i < locations_used_; ++i) ids_[slot_of(locations_[i].address)] = 0;
    locations_used_ = 0;
    next_id_ = 1;
    for (Process& process : processes_) {
      for (View* view : {&process.now, &process.kept, &process.released}) view->clear();
      process.tick_id = new_id();
      plain_[process.tick_id] = true;
    }
    sc_fence_.clear();
    sc_access_.clear();
  }

  std::byte* arena() { return arena_; }
  bool holds(const void* address) const {
    const auto* byte = static_cast<const std::byte*>(address);
    return byte >= arena_ && byte < arena_ + arena_bytes;
  }

  Location& at(const void* address, std::size_t bytes) {
    auto* byte = arena_ + (static_cast<const std::byte*>(address) - arena_);
    std::uint16_t& number = ids_[slot_of(byte)];
    if (number == 0) {
      if (locations_used_ == most_ids) --locations_used_;  // is_full() stops the run
      if (locations_used_ == locations_.size()) locations_.emplace_back();
      Location& fresh = locations_[locations_used_++];
      number = static_cast<std::uint16_t>(locations_used_);
      fresh.address = byte;
      fresh.bytes = bytes;
      fresh.id = new_id();
      plain_[fresh.id] = false;
      fresh.last = 0;
      if (fresh.stores.empty()) fresh.stores.emplace_back();
      fresh.stores[0].value = native(byte, bytes);
      fresh.stores[0].plain = false;
      fresh.stores[0].view.clear();
      fresh.reader_id = {};
      fresh.reads = {};
    }
    return locations_[number - 1U];
  }

  /// The oldest store that `process` may read here.
  std::uint16_t oldest(std::size_t process, const Location& at, Strength strength) const {
    std::uint16_t floor = processes_[process].now[at.id];
    if (strength == Strength::seq_cst) {
      floor = std::max({floor, sc_access_[at.id], sc_fence_[at.id]});
    }
    return floor;
  }
  std::uint64_t value(const Location& at, std::uint16_t index) const {
    const Store& store = at.stores[index];
    return store.plain ? native(at.address, at.bytes) : store.value;
  }

  void read(std::size_t process, const Location& at, std::uint16_t index, Strength strength) {
    Process& p = processes_[process];
    p.now.raise(at.id, index);
    (acquires(strength) ? p.now : p.kept).join(at.stores[index].view);
    if (strength == Strength::seq_cst) sc_access_.raise(at.id, index);
  }

  /// `continues`: a read-modify-write, which has read the newest store.
  void write(std::size_t process, Location& at, std::uint64_t value, Strength strength,
             bool continues, bool plain = false) {
    Process& p = processes_[process];
    ++at.last;
    if (at.stores.size() <= at.last) at.stores.emplace_back();
    Store& store = at.stores[at.last];
    store.value = value;
    store.plain = plain;
    plain_[at.id] = plain;
    p.now.set(at.id, at.last);
    if (plain) {
      store.view.clear();  // whoever reads it, in order, knows all that it could carry
    } else {
      store.view = releases(strength) ? p.now : p.released;
    }
    store.view.raise(at.id, at.last);
    if (continues) store.view.join(at.stores[at.last - 1U].view);
    if (strength == Strength::seq_cst) sc_access_.raise(at.id, at.last);
    if (!plain) std::memcpy(at.address, &value, at.bytes);  // for plain readers, and at the end
  }

  void fence(std::size_t process, Strength strength) {
    Process& p = processes_[process];
    if (acquires(strength)) p.now.join(p.kept);
    if (strength == Strength::seq_cst) {
      for (std::size_t i = 0; i < sc_fence_.size(); ++i) {
        if (!plain_[i]) p.now.raise(i, sc_fence_[i]);
      }
      p.now.join(sc_access_);
      sc_fence_.join(p.now);
    }
    if (releases(strength)) p.released = p.now;
  }

  /// `process` learns all that `other` knew (LIVE-1, the start and the end).
  void learn(std::size_t process, std::size_t other) {
    processes_[process].now.join(processes_[other].now);
  }

  /// Whether `process` knows the newest store here and, for a writer, all plain reads.
  bool ordered(std::size_t process, const Location& at, bool with_reads) const {
    const View& now = processes_[process].now;
    if (now[at.id] != at.last) return false;
    return !with_reads || !races_with_reader(process, at);
  }
  bool races_with_reader(std::size_t process, const Location& at) const {
    const View& now = processes_[process].now;
    for (std::size_t reader = 0; reader < most_processes; ++reader) {
      if (reader != process && at.reader_id[reader] != 0 &&
          now[at.reader_id[reader]] != at.reads[reader]) {
        return true;
      }
    }
    return false;
  }
  void mark_plain_read(std::size_t process, Location& at) {
    if (at.reader_id[process] == 0) at.reader_id[process] = new_id();
    plain_[at.reader_id[process]] = true;
    processes_[process].now.set(at.reader_id[process], ++at.reads[process]);
  }
  bool is_full() const { return next_id_ >= most_ids; }

  /// A moment of this process's own, which others know of when it happened before what they do.
  std::uint16_t tick(std::size_t process) {
    Process& p = processes_[process];
    const auto next = static_cast<std::uint16_t>(p.now[p.tick_id] + 1);
    p.now.set(p.tick_id, next);
    return next;
  }
  std::uint16_t known_tick(std::size_t process, std::size_t other) const {
    return processes_[process].now[processes_[other].tick_id];
  }

 private:
  struct Process {
    std::uint16_t tick_id = 0;
    View now;
    View kept;      // of relaxed loads, for an acquire fence
    View released;  // at the last release fence
  };

  static std::uint64_t native(const std::byte* address, std::size_t bytes) {
    std::uint64_t value = 0;
    std::memcpy(&value, address, bytes);
    return value;
  }
  std::uint16_t new_id() { return next_id_ < most_ids ? next_id_++ : most_ids - 1; }
  std::size_t slot_of(const std::byte* address) const {
    return static_cast<std::size_t>(address - arena_) / 4;
  }

  alignas(4096) std::byte arena_[arena_bytes]{};
  std::array<std::uint16_t, arena_bytes / 4> ids_{};
  std::deque<Location> locations_;  // where one is, it stays
  std::size_t locations_used_ = 0;
  std::uint16_t next_id_ = 1;
  std::array<Process, most_processes> processes_{};
  View sc_fence_, sc_access_;
  std::array<bool, most_ids> plain_{};  // ids of plain accesses, which only happens-before orders
};

}  // namespace heddle::model
