#include "heddle/sync/replica.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <future>
#include <thread>
#include <vector>

#include "support/allocations.hpp"
#include "support/block.hpp"
#include "support/fake_peers.hpp"

namespace heddle {
namespace {

using test::Block;
using test::FakePeers;
using test::FakeTable;

template <class T>
struct Fixture {
  explicit Fixture(const typename Slot<T>::Options& options) : block(Slot<T>::bytes(options)) {
    Slot<T>::format(block.span(), options);
  }
  Slot<T> open(Peers& peers) { return Slot<T>(block.span(), peers); }

  Block block;
  FakeTable table{[this](const Dead& dead) { SlotCore::repair(block.span(), dead); }};
};

TEST(Replica, changes_only_when_it_is_told_to) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  Replica<int> replica(slot);
  EXPECT_FALSE(replica);
  EXPECT_EQ(replica.poll(), Status::empty);
  ASSERT_EQ(publisher.publish(1), Status::ready);
  EXPECT_EQ(replica.behind(), 1U);
  EXPECT_EQ(replica.poll(), Status::ready);
  ASSERT_TRUE(replica);
  EXPECT_EQ(*replica, 1);
  EXPECT_EQ(replica.poll(), Status::empty);
  ASSERT_EQ(publisher.publish(2), Status::ready);
  ASSERT_EQ(publisher.publish(3), Status::ready);
  EXPECT_EQ(*replica, 1);
  EXPECT_EQ(replica.version(), 1U);
  EXPECT_EQ(replica.behind(), 2U);
  EXPECT_EQ(replica.poll(), Status::ready);
  EXPECT_EQ(*replica, 3);
  EXPECT_EQ(replica.reading().version, 3U);
  EXPECT_EQ(replica.behind(), 0U);
}

TEST(Replica, of_an_array_has_all_its_elements_and_polls_without_allocating) {
  Fixture<float[]> f({.count = 1000});
  FakePeers self(f.table, 0);
  Slot<float[]> slot = f.open(self);
  auto publisher = slot.publisher();
  Replica replica(slot);
  EXPECT_EQ(replica.values().size(), 1000U);
  EXPECT_EQ(replica.values().front(), 0.0F);
  std::vector<float> sent(1000);
  const long before = test::allocations;
  for (int i = 1; i <= 10; ++i) {
    sent.assign(1000, static_cast<float>(i));
    ASSERT_EQ(publisher.publish(sent), Status::ready);
    ASSERT_EQ(replica.poll(), Status::ready);
    EXPECT_TRUE(std::equal(sent.begin(), sent.end(), replica.values().begin()));
  }
  EXPECT_EQ(test::allocations, before);
}

TEST(Replica, waits_for_what_is_newer_than_its_own) {
  Fixture<std::array<int, 40>> f({});
  FakePeers self(f.table, 0);
  auto slot = f.open(self);
  Replica replica(slot);
  EXPECT_EQ(replica.wait(Deadline::now()), Status::timeout);
  constexpr int last = 300;
  std::thread publishing([&] {
    FakePeers other(f.table, 1);
    auto theirs = f.open(other);
    auto publisher = theirs.publisher();
    std::array<int, 40> value{};
    for (int i = 1; i <= last; ++i) {
      value.fill(i);
      EXPECT_EQ(publisher.publish(value), Status::ready);
    }
  });
  for (Version before = 0; before < last; before = replica.version()) {
    ASSERT_EQ(replica.wait(Deadline::never(), WaitStrategy::sleep), Status::ready);
    ASSERT_GT(replica.version(), before);
    for (const int one : *replica) ASSERT_EQ(one, static_cast<int>(replica.version()));
  }
  publishing.join();
}

TEST(Replica, keeps_its_value_when_the_publisher_is_dead) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(victim);
  auto publisher = theirs.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  Replica replica(slot);
  ASSERT_EQ(replica.poll(), Status::ready);
  f.table.kill(victim.self());
  EXPECT_EQ(replica.wait(Deadline::never()), Status::peer_died);
  EXPECT_EQ(*replica, 1);
  victim.forked();
}

TEST(Replica, that_is_followed_calls_back_with_rising_versions_up_to_the_last) {
  Fixture<std::array<int, 40>> f({});
  FakePeers self(f.table, 0);
  auto slot = f.open(self);
  constexpr int last = 2000;
  Version before = 0;
  std::promise<void> has_last;
  const auto following = follow(slot, [&](const Replica<std::array<int, 40>>& replica) {
    EXPECT_GT(replica.version(), before);
    before = replica.version();
    for (const int one : *replica) EXPECT_EQ(one, static_cast<int>(replica.version()));
    if (before == last) has_last.set_value();
  });
  FakePeers other(f.table, 1);
  auto theirs = f.open(other);
  auto publisher = theirs.publisher();
  std::array<int, 40> value{};
  for (int i = 1; i <= last; ++i) {
    value.fill(i);
    ASSERT_EQ(publisher.publish(value), Status::ready);
  }
  EXPECT_EQ(has_last.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
}

TEST(Replica, that_is_followed_goes_on_with_the_successor_of_a_dead_publisher) {
  Fixture<int> f({.publishers = 1});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(victim);
  auto publisher = theirs.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  std::array<std::promise<void>, 2> seen;
  const auto following = follow(slot, [&](const Replica<int>& replica) {
    seen.at(static_cast<std::size_t>(*replica) - 1).set_value();
  });
  seen[0].get_future().wait();
  f.table.kill(victim.self());
  ASSERT_EQ(slot.wait_newer(1, Deadline::never()), Status::peer_died);
  auto successor = slot.publisher();
  ASSERT_EQ(successor.publish(2), Status::ready);
  EXPECT_EQ(seen[1].get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  victim.forked();
}

TEST(Replica, that_is_followed_lets_go_promptly_from_a_sleep_that_nobody_ends) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  // header.published: its lowest bit says that somebody sleeps, until the next publication.
  const auto& sleepers = reinterpret_cast<const Atomic<std::uint32_t>&>(f.block.span()[72]);
  const auto before = std::chrono::steady_clock::now();
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(publisher.publish(1), Status::ready);
    const auto following = follow(slot, [](const Replica<int>&) {});
    while ((sleepers.load(relaxed) & 1) == 0) yield();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(5));
}

// Its publisher stands still in the middle of a copy, as it were: latest names a buffer that has been
// claimed again. Every attempt to copy it fails.
TEST(Replica, keeps_its_value_when_a_newer_one_cannot_be_had) {
  Fixture<int> f({.views = 0, .publishers = 1, .buffers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  Replica replica(slot);
  ASSERT_EQ(publisher.publish(1), Status::ready);
  ASSERT_EQ(replica.poll(), Status::ready);
  ASSERT_EQ(publisher.publish(2), Status::ready);
  // header | one publisher's word | two metas, each of which begins with its word
  for (std::size_t buffer = 0; buffer < 2; ++buffer) {
    std::uint64_t word = 0;
    std::byte* const at = f.block.span().data() + 128 + 64 + buffer * 64;
    std::memcpy(&word, at, 8);
    word += std::uint64_t{1} << 16;
    std::memcpy(at, &word, 8);
  }
  EXPECT_EQ(replica.poll(), Status::busy);
  EXPECT_EQ(*replica, 1);
  EXPECT_EQ(replica.version(), 1U);
}

}  // namespace
}  // namespace heddle
