#pragma once

// A group in a segment that may be damaged, used by two members in one thread.

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "fuzz/images.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/collective.hpp"

namespace heddle::fuzz {

/// A participant that lets another come while it waits: members join by waiting for each other.
class LetsIn final : public Peers {
 public:
  explicit LetsIn(Segment& segment)
      : Peers(segment.peers().self(), &here_), peers_(segment.peers()) {
    mapping_ = peers_.mapping();
  }
  bool recover_if_dead(Owner other) noexcept override {
    if (const auto call = std::exchange(next, nullptr)) call();
    return peers_.recover_if_dead(other);
  }
  std::function<void()> next;

 private:
  std::uint32_t here_ = 1;
  Peers& peers_;
};

class GroupUse {
 public:
  static constexpr unsigned choices = 10;

  template <class Input>
  void use(Segment& segment, unsigned choice, Input& input) {
    if (!second_) second_.emplace(Segment::adopt(segment.fd()));
    for (std::size_t i = 0; i < sides_.size(); ++i) {
      if (!sides_[i].group) sides_[i].open(i == 0 ? segment : *second_, input.deadline());
    }
    Side& side = sides_[input.byte() % 2];
    switch (choice) {
      case 0:
        side.member = side.group->join(input.deadline());
        break;
      case 1:
        join_both(input.deadline());
        break;
      case 2: {
        const unsigned kind = input.byte();
        side.call(kind, input.deadline());
        break;
      }
      case 3:
        static_cast<void>(
            side.member.allreduce(std::span(side.data), Reduction::sum, Deadline::now()));
        break;
      case 4:
        static_cast<void>(side.member.test());
        break;
      case 5:
        static_cast<void>(side.member.wait(input.deadline()));
        break;
      case 6:
        static_cast<void>(side.member.rebuild(input.deadline()));
        break;
      case 7: {
        const unsigned kind = input.byte();
        for (Side& each : sides_) each.call(kind, Deadline::now());
        for (int rounds = 0; rounds < 20; ++rounds) {
          for (Side& each : sides_) static_cast<void>(each.member.test());
        }
        break;
      }
      case 8:
        for (int times = 0; times < 2; ++times) {
          for (Side& each : sides_) static_cast<void>(each.member.rebuild(Deadline::now()));
        }
        break;
      default:
        side.member.leave();
        break;
    }
  }

 private:
  struct Side {
    std::optional<LetsIn> peers;
    std::optional<Group> group;
    std::optional<SharedBuffer<std::uint64_t>> buffer;
    // A call that has not ended still uses them.
    std::vector<float> data = std::vector<float>(3000, 1.0F);
    std::vector<float> more = std::vector<float>(3000);
    std::array<std::size_t, Group::most_members> counts{};
    Group::Member member;

    void open(Segment& segment, Deadline deadline) {
      const std::span<std::byte> memory = segment.directory().find(
          small_group, Group::kind, Group::element(), segment.peers(), deadline);
      if (!peers) peers.emplace(segment);
      buffer.emplace(segment.find<SharedBuffer<std::uint64_t>>(plain_buffer, {}));
      group.emplace(memory, *peers);
    }

    void call(unsigned kind, Deadline deadline) {
      const std::size_t size = member.size();
      const std::size_t part = kind < 128 ? 5 : 600;  // in one round, or in several
      const auto some = [](std::vector<float>& of, std::size_t count) {
        return std::span(of).first(std::min(count, of.size()));
      };
      const std::span<const float> in = some(data, part), all = some(data, part * size);
      switch (kind % 11) {
        case 0:
          static_cast<void>(member.barrier(deadline));
          break;
        case 1:
          static_cast<void>(member.allreduce(some(data, part), Reduction::mean, deadline));
          break;
        case 2:  // where it lies, if the other one does the same
          static_cast<void>(member.allreduce(
              std::span(reinterpret_cast<std::int64_t*>(buffer->span().data()), buffer->size()),
              Reduction::max, deadline));
          break;
        case 3:
          static_cast<void>(member.reduce(in, some(more, part), 0, Reduction::sum, deadline));
          break;
        case 4:
          static_cast<void>(member.reduce_scatter(all, some(more, part), Reduction::min, deadline));
          break;
        case 5:
          static_cast<void>(member.all_gather(in, some(more, part * size), deadline));
          break;
        case 6:
          static_cast<void>(
              member.all_gather_v(in, std::span(more), std::span(counts).first(size), deadline));
          break;
        case 7:
          static_cast<void>(member.gather(in, some(more, part * size), 0, deadline));
          break;
        case 8:
          static_cast<void>(member.scatter(all, some(more, part), 0, deadline));
          break;
        case 9:
          static_cast<void>(member.broadcast(some(data, part), 0, deadline));
          break;
        default:
          if (size != 0) {
            static_cast<void>(member.all_to_all(all, some(more, part * size), deadline));
          }
          break;
      }
    }
  };

  void join_both(Deadline deadline) {
    for (Side& each : sides_) each.member.leave();
    Side& first = sides_[0];
    Side& second = sides_[1];
    first.peers->next = [&] {
      try {
        second.member = second.group->join(Deadline::now());
      } catch (const Error&) {
      }
    };
    first.member = first.group->join(deadline);
    if (second.member.is_member()) return;
    // It was not the group's first epoch, and has begun without the second.
    second.peers->next = [&] { static_cast<void>(first.member.rebuild(Deadline::now())); };
    second.member = second.group->join(Deadline::now());
  }

  std::optional<Segment> second_;
  std::array<Side, 2> sides_;
};

}  // namespace heddle::fuzz
