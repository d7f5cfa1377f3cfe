#include "heddle/sync/replica.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
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
