#pragma once

// Heddle's Group under the loads of collective_load.hpp: its members are a team's processes, and what
// they exchange lies in memory of their own, or in the segment where the others use it in place.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "collective_load.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/collective.hpp"

namespace heddle::bench {

enum class Memory { its_own, shared };

/// A segment with a group, and a buffer for each rank if they are shared.
class GroupSegment {
 public:
  GroupSegment(int ranks, Memory memory, std::size_t bytes)
      : ranks_(ranks),
        memory_(memory),
        bytes_(bytes),
        segment_(Segment::anonymous({.bytes = room(ranks, memory, bytes)})) {
    const auto size = static_cast<std::uint32_t>(ranks);
    segment_.open<Group>("group", {.size = size, .places = 2 * size});
    if (memory == Memory::its_own) return;
    for (int rank = 0; rank < ranks; ++rank) {
      segment_.open<SharedBuffer<float>>(buffer_name(rank), {.count = bytes / sizeof(float)});
    }
  }

  /// One that has joined it, in its own process.
  class Joined {
   public:
    explicit Joined(const GroupSegment& there)
        : segment_(Segment::adopt(there.segment_.fd())),
          member_(segment_.find<Group>("group").join(deadline())) {
      choose_buffer(there);
    }

    int rank() const { return static_cast<int>(member_.rank()); }
    Group::Member& member() { return member_; }
    std::span<float> buffer() const { return buffer_; }

    /// Of the present rank, which changes in a rebuild.
    void choose_buffer(const GroupSegment& there) {
      if (there.memory_ == Memory::shared) {
        buffer_ = segment_.find<SharedBuffer<float>>(buffer_name(rank())).span();
      } else if (own_.span().empty()) {
        own_ = Pages<float>(there.bytes_ / sizeof(float));
        buffer_ = own_.span();
      }
    }

    void allreduce(std::span<float> data) {
      check(member_.allreduce(data, Reduction::sum, deadline()));
    }
    void broadcast(std::span<float> data) { check(member_.broadcast(data, 0, deadline())); }
    void all_gather(std::span<float> data) {
      const std::size_t part = data.size() / member_.size();
      check(member_.all_gather(std::span<const float>(data.subspan(member_.rank() * part, part)),
                               data, deadline()));
    }

    static Deadline deadline() { return Deadline::after(std::chrono::seconds(10)); }

   private:
    static void check(const GroupOutcome& outcome) {
      if (!outcome) throw Failure(fmt::format("got {}", to_string(outcome.status)));
    }

    Segment segment_;
    Group::Member member_;
    Pages<float> own_;
    std::span<float> buffer_;
  };

 private:
  static std::string buffer_name(int rank) { return fmt::format("buffer-{}", rank); }
  static std::size_t room(int ranks, Memory memory, std::size_t bytes) {
    constexpr std::size_t mib = std::size_t{1} << 20U;
    const auto count = static_cast<std::size_t>(ranks);
    return mib + Group::bytes({.size = static_cast<std::uint32_t>(ranks)}) +
           (memory == Memory::shared ? count * (bytes + 4096) : 0);
  }

  int ranks_;
  Memory memory_;
  std::size_t bytes_;
  Segment segment_;
};

class GroupContender final : public Contender {
 public:
  GroupContender(Operation operation, int ranks, std::size_t bytes, Memory memory)
      : operation_(operation), ranks_(ranks), bytes_(bytes), memory_(memory) {}

  int processes() const override { return ranks_; }
  void prepare() override {
    load_.reset();
    there_.reset();  // before the next: there may be room for one
    there_.emplace(ranks_, memory_, bytes_);
  }

  void work(Member& member) override {
    GroupSegment::Joined joined(*there_);
    member.start();
    Rank rank = rank_of(member);
    rank.number = joined.rank();
    run_collective(*load_, rank, operation_, joined.buffer(), joined);
    member.stop();
  }

  Sample result() override {
    there_.reset();
    return load_->result(ranks_);
  }

 private:
  Operation operation_;
  int ranks_;
  std::size_t bytes_;
  Memory memory_;
  std::optional<GroupSegment> there_;
  Shared<CallLoad> load_;
};

/// What the machine needs for the traffic of an allreduce in place: each of the processes copies the
/// halves of a buffer onto each other, all at once. As many bytes read and written, in as much memory.
class CopyContender final : public Contender {
 public:
  using Copy = void (*)(void* to, const void* from, std::size_t bytes);

  CopyContender(Copy copy, int ranks, std::size_t bytes)
      : copy_(copy), ranks_(ranks), bytes_(bytes) {}

  int processes() const override { return ranks_; }
  void prepare() override { load_.reset(); }

  void work(Member& member) override {
    const Pages<std::byte> buffer(bytes_);
    const std::span<std::byte> first = buffer.span().first(bytes_ / 2);
    const std::span<std::byte> second = buffer.span().last(bytes_ / 2);
    member.start();
    load_->run(
        rank_of(member), {.count = 4, .timed_together = false},
        [&](std::uint32_t cycle) { std::ranges::fill(first, static_cast<std::byte>(cycle)); },
        [&] {
          copy_(second.data(), first.data(), first.size());
          copy_(first.data(), second.data(), first.size());
        },
        [&](std::uint32_t) {
          if (!std::ranges::equal(first, second)) {
            throw Failure("the copy is not what was copied");
          }
        });
    member.stop();
  }

  Sample result() override { return load_->result(ranks_); }

 private:
  Copy copy_;
  int ranks_;
  std::size_t bytes_;
  Shared<CallLoad> load_;
};

}  // namespace heddle::bench
