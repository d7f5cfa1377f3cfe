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
#include <vector>

#include "model/machine.hpp"

namespace heddle::model {

inline constexpr std::size_t most_processes = 6;
inline constexpr std::size_t most_ids = 384;  // locations, and marks of plain reads
inline constexpr std::size_t arena_bytes = 32768;

constexpr bool acquires(Strength s) {
  return s == Strength::acquire || s == Strength::acq_rel || s == Strength::seq_cst;
}
constexpr bool releases(Strength s) {
  return s == Strength::release || s == Strength::acq_rel || s == Strength::seq_cst;
}

class Memory {
 public:
  struct View {
    std::array<std::uint16_t, most_ids> at{};
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
      process = {};
      process.tick_id = new_id();
      plain_[process.tick_id] = true;
    }
    sc_fence_ = {};
    sc_access_ = {};
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
      clear(fresh.stores[0].view);
      fresh.reader_id = {};
      fresh.reads = {};
    }
    return locations_[number - 1U];
  }

  /// The oldest store that `process` may read here.
  std::uint16_t oldest(std::size_t process, const Location& at, Strength strength) const {
    std::uint16_t floor = processes_[process].now.at[at.id];
    if (strength == Strength::seq_cst) {
      floor = std::max({floor, sc_access_.at[at.id], sc_fence_.at[at.id]});
    }
    return floor;
  }
  std::uint64_t value(const Location& at, std::uint16_t index) const {
    const Store& store = at.stores[index];
    return store.plain ? native(at.address, at.bytes) : store.value;
  }

  void read(std::size_t process, const Location& at, std::uint16_t index, Strength strength) {
    Process& p = processes_[process];
    raise(p.now, at.id, index);
    join(acquires(strength) ? p.now : p.kept, at.stores[index].view);
    if (strength == Strength::seq_cst) raise(sc_access_, at.id, index);
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
    p.now.at[at.id] = at.last;
    copy(store.view, releases(strength) ? p.now : p.released);
    raise(store.view, at.id, at.last);
    if (continues) join(store.view, at.stores[at.last - 1U].view);
    if (strength == Strength::seq_cst) raise(sc_access_, at.id, at.last);
    if (!plain) std::memcpy(at.address, &value, at.bytes);  // for plain readers, and at the end
  }

  void fence(std::size_t process, Strength strength) {
    Process& p = processes_[process];
    if (acquires(strength)) join(p.now, p.kept);
    if (strength == Strength::seq_cst) {
      for (std::size_t i = 0; i < next_id_; ++i) {
        if (!plain_[i]) p.now.at[i] = std::max(p.now.at[i], sc_fence_.at[i]);
      }
      join(p.now, sc_access_);
      join(sc_fence_, p.now);
    }
    if (releases(strength)) copy(p.released, p.now);
  }

  /// `process` learns all that `other` knew (LIVE-1, the start and the end).
  void learn(std::size_t process, std::size_t other) {
    join(processes_[process].now, processes_[other].now);
  }

  /// Whether `process` knows the newest store here and, for a writer, all plain reads.
  bool ordered(std::size_t process, const Location& at, bool with_reads) const {
    const View& now = processes_[process].now;
    if (now.at[at.id] != at.last) return false;
    return !with_reads || !races_with_reader(process, at);
  }
  bool races_with_reader(std::size_t process, const Location& at) const {
    const View& now = processes_[process].now;
    for (std::size_t reader = 0; reader < most_processes; ++reader) {
      if (reader != process && at.reader_id[reader] != 0 &&
          now.at[at.reader_id[reader]] != at.reads[reader]) {
        return true;
      }
    }
    return false;
  }
  void mark_plain_read(std::size_t process, Location& at) {
    if (at.reader_id[process] == 0) at.reader_id[process] = new_id();
    plain_[at.reader_id[process]] = true;
    processes_[process].now.at[at.reader_id[process]] = ++at.reads[process];
  }
  bool is_full() const { return next_id_ >= most_ids; }

  /// A moment of this process's own, which others know of when it happened before what they do.
  std::uint16_t tick(std::size_t process) {
    Process& p = processes_[process];
    return ++p.now.at[p.tick_id];
  }
  std::uint16_t known_tick(std::size_t process, std::size_t other) const {
    return processes_[process].now.at[processes_[other].tick_id];
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
  static void raise(View& view, std::uint16_t id, std::uint16_t index) {
    view.at[id] = std::max(view.at[id], index);
  }
  void join(View& to, const View& from) const {
    for (std::size_t i = 0; i < next_id_; ++i) to.at[i] = std::max(to.at[i], from.at[i]);
  }
  // A view in a store that is used again may hold ids of an earlier run: all are set.
  static void copy(View& to, const View& from) { to = from; }
  static void clear(View& view) { view = {}; }
  std::uint16_t new_id() { return next_id_ < most_ids ? next_id_++ : most_ids - 1; }
  std::size_t slot_of(const std::byte* address) const {
    return static_cast<std::size_t>(address - arena_) / 4;
  }

  alignas(4096) std::byte arena_[arena_bytes]{};
  std::array<std::uint16_t, arena_bytes / 4> ids_{};
  std::vector<Location> locations_ = std::vector<Location>(most_ids);
  std::size_t locations_used_ = 0;
  std::uint16_t next_id_ = 1;
  std::array<Process, most_processes> processes_{};
  View sc_fence_, sc_access_;
  std::array<bool, most_ids> plain_{};  // ids of plain accesses, which only happens-before orders
};

}  // namespace heddle::model
