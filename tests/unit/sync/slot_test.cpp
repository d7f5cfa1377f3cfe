#include "heddle/sync/slot.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <barrier>
#include <cstring>
#include <numeric>
#include <optional>
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

// A value that is torn unless all its words agree.
struct Sample {
  explicit Sample(std::uint64_t number = 0) { words.fill(number); }
  std::uint64_t number() const { return words[0]; }
  bool whole() const {
    for (const std::uint64_t word : words) {
      if (word != words[0]) return false;
    }
    return true;
  }
  std::array<std::uint64_t, 32> words;
};

TEST(Slot, is_empty_before_the_first_publication) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  int value = 7;
  EXPECT_EQ(slot.pull(value).status, Status::empty);
  EXPECT_EQ(slot.reader().pull().reading().status, Status::empty);
  EXPECT_EQ(value, 7);
  EXPECT_EQ(slot.version(), 0U);
}

TEST(Slot, gives_the_newest_value_with_its_version_and_time) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  const std::int64_t before = monotonic_ns();
  for (int i = 1; i <= 100; ++i) {
    ASSERT_EQ(publisher.publish(i * 10), Status::ready);
    int value = 0;
    const Reading reading = slot.pull(value);
    ASSERT_TRUE(reading);
    EXPECT_EQ(value, i * 10);
    EXPECT_EQ(reading.version, static_cast<Version>(i));
    EXPECT_GE(reading.published_at, before);
    EXPECT_GE(reading.age_ns().value(), 0);
  }
}

TEST(Slot, without_times_a_reading_says_that_it_has_none) {
  Fixture<int> f({.timed = false});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  int value = 0;
  const Reading reading = slot.pull(value);
  ASSERT_TRUE(reading);
  EXPECT_EQ(value, 1);
  EXPECT_EQ(reading.published_at, 0);
  EXPECT_FALSE(reading.age_ns());
  EXPECT_FALSE(slot.reader().pull().reading().age_ns());
}

// Its publisher stands still in the middle of a copy, as it were: latest names a buffer that has been
// claimed again. Every attempt to copy it fails.
TEST(Slot, a_reading_says_how_often_it_was_begun_again) {
  Fixture<int> f({.views = 0, .publishers = 1, .buffers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  int value = 0;
  EXPECT_EQ(slot.pull(value).retries, 0U);
  // header | one publisher's word | two metas, each of which begins with its word
  const auto add_to_generations = [&](std::uint64_t number) {
    for (std::size_t buffer = 0; buffer < 2; ++buffer) {
      std::byte* const at = f.block.span().data() + 128 + 64 + buffer * 64;
      std::uint64_t word = 0;
      std::memcpy(&word, at, 8);
      word += number << 16;
      std::memcpy(at, &word, 8);
    }
  };
  add_to_generations(1);
  const Reading overtaken = slot.pull(value);
  EXPECT_EQ(overtaken.status, Status::busy);
  EXPECT_EQ(overtaken.retries, 10'000U);
  add_to_generations(UINT64_MAX);
  EXPECT_EQ(slot.pull(value).status, Status::ready);
  EXPECT_EQ(slot.pull(value).retries, 0U);
}

TEST(Slot, arrays_of_any_length_come_back_whole) {
  for (const std::size_t count : {1U, 2U, 3U, 17U, 1000U, 5000U}) {
    Fixture<float[]> f({.count = count});
    FakePeers self(f.table, 0);
    Slot<float[]> slot = f.open(self);
    ASSERT_EQ(slot.count(), count);
    auto publisher = slot.publisher();
    std::vector<float> sent(count);
    std::iota(sent.begin(), sent.end(), 1.0F);
    ASSERT_EQ(publisher.publish(sent), Status::ready);
    std::vector<float> got(count);
    ASSERT_TRUE(slot.pull(got));
    EXPECT_EQ(got, sent);
    auto reader = slot.reader();
    const auto view = reader.pull();
    ASSERT_TRUE(view);
    EXPECT_TRUE(std::equal(sent.begin(), sent.end(), view.values().begin(), view.values().end()));
  }
}

TEST(Slot, an_array_of_another_length_is_refused_and_nothing_changes) {
  Fixture<float[]> f({.count = 4});
  FakePeers self(f.table, 0);
  Slot<float[]> slot = f.open(self);
  auto publisher = slot.publisher();
  std::vector<float> five(5);
  EXPECT_EQ(publisher.publish(five), Status::invalid);
  EXPECT_EQ(slot.pull(five).status, Status::invalid);
  EXPECT_EQ(slot.pull_fresh(five, Deadline::now()).status, Status::invalid);
  EXPECT_EQ(slot.version(), 0U);
}

template <class Element>
void pull_every_part() {
  constexpr std::size_t count = 21;
  Fixture<Element[]> f({.count = count});
  FakePeers self(f.table, 0);
  Slot<Element[]> slot = f.open(self);
  std::vector<Element> sent(count);
  std::iota(sent.begin(), sent.end(), Element{1});
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(sent), Status::ready);
  for (std::size_t first = 0; first <= count; ++first) {
    for (std::size_t size = 0; size <= count - first; ++size) {
      std::vector<Element> got(size + 1, Element{99});  // and one that must stay as it is
      const Reading reading = slot.pull(first, std::span(got).first(size));
      ASSERT_TRUE(reading);
      EXPECT_EQ(reading.version, 1U);
      EXPECT_TRUE(std::equal(got.begin(), got.end() - 1, sent.begin() + first)) << first;
      EXPECT_EQ(got.back(), Element{99});
    }
  }
}

TEST(Slot, any_part_of_an_array_can_be_pulled) {
  pull_every_part<std::uint8_t>();
  pull_every_part<std::uint16_t>();
  pull_every_part<float>();
  pull_every_part<double>();
  struct Three {
    explicit Three(int n = 0) : bytes{static_cast<std::uint8_t>(n), 1, 2} {}
    bool operator==(const Three&) const = default;
    void operator++() { ++bytes[0]; }
    std::array<std::uint8_t, 3> bytes;
  };
  pull_every_part<Three>();
}

TEST(Slot, a_part_past_the_end_is_refused) {
  Fixture<float[]> f({.count = 4});
  FakePeers self(f.table, 0);
  Slot<float[]> slot = f.open(self);
  auto publisher = slot.publisher();
  std::vector<float> values(4, 1.0F);
  EXPECT_EQ(slot.pull(1, std::span(values).first(2)).status, Status::empty);
  ASSERT_EQ(publisher.publish(values), Status::ready);
  EXPECT_EQ(slot.pull(1, values).status, Status::invalid);
  EXPECT_EQ(slot.pull(5, std::span(values).first(0)).status, Status::invalid);
  EXPECT_EQ(slot.pull(SIZE_MAX, std::span(values).first(2)).status, Status::invalid);
}

TEST(Slot, a_loan_is_seen_when_it_is_committed_and_not_before) {
  Fixture<float[]> f({.count = 3});
  FakePeers self(f.table, 0);
  Slot<float[]> slot = f.open(self);
  auto publisher = slot.publisher();
  std::vector<float> got(3);
  {
    auto loan = publisher.loan();
    ASSERT_TRUE(loan);
    EXPECT_EQ(loan.status(), Status::ready);
    ASSERT_EQ(loan.values().size(), 3U);
    std::iota(loan.values().begin(), loan.values().end(), 1.0F);
    EXPECT_EQ(slot.pull(got).status, Status::empty);
    auto moved = std::move(loan);
    EXPECT_FALSE(loan);  // NOLINT(bugprone-use-after-move)
    EXPECT_EQ(moved.commit(), Status::ready);
    EXPECT_FALSE(moved);
    EXPECT_EQ(moved.commit(), Status::closed);  // once
  }
  const Reading reading = slot.pull(got);
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading.version, 1U);
  EXPECT_EQ(got, (std::vector<float>{1, 2, 3}));
}

TEST(Slot, an_abandoned_loan_is_never_seen_and_its_buffer_comes_free) {
  Fixture<int> f({.views = 0, .publishers = 1});  // 2 buffers
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  int value = 0;
  for (int i = 0; i < 5; ++i) {
    auto loan = publisher.loan();
    ASSERT_TRUE(loan);
    *loan = 77;
    EXPECT_TRUE(slot.pull(value));
    EXPECT_EQ(value, 1);
  }
  EXPECT_EQ(publisher.publish(2), Status::ready);
  const Reading reading = slot.pull(value);
  EXPECT_EQ(reading.version, 2U);
  EXPECT_EQ(value, 2);
}

TEST(Slot, a_publisher_has_one_buffer_at_a_time) {
  Fixture<int> f({.views = 2, .publishers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  auto other = slot.publisher();
  {
    auto loan = publisher.loan();
    EXPECT_EQ(publisher.loan().status(), Status::busy);
    EXPECT_EQ(publisher.loan().commit(), Status::busy);
    EXPECT_EQ(publisher.publish(1), Status::busy);
    EXPECT_EQ(other.publish(1), Status::ready);
  }
  EXPECT_EQ(publisher.publish(2), Status::ready);
}

TEST(Slot, a_dead_publishers_loan_is_given_back_unseen) {
  Fixture<int> f({.views = 0, .publishers = 2, .buffers = 2});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(victim);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  auto its_publisher = theirs.publisher();
  auto loan = its_publisher.loan();
  ASSERT_TRUE(loan);
  *loan = 77;
  EXPECT_EQ(publisher.publish(2), Status::busy);
  f.table.kill(victim.self());
  EXPECT_EQ(publisher.publish(2), Status::ready);
  int value = 0;
  EXPECT_EQ(slot.pull(value).version, 2U);
  EXPECT_EQ(value, 2);
  victim.forked();
}

TEST(Slot, a_value_is_published_only_upon_the_expected_version) {
  Fixture<int> f({.views = 0, .publishers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto one = slot.publisher();
  auto two = slot.publisher();
  EXPECT_EQ(one.compare_and_publish(1, 7), Status::overtaken);  // a version that is not there yet
  EXPECT_EQ(one.compare_and_publish(0, 10), Status::ready);
  EXPECT_EQ(two.compare_and_publish(0, 20), Status::overtaken);
  EXPECT_EQ(two.compare_and_publish(1, 20), Status::ready);
  auto loan = one.loan();
  *loan = 30;
  EXPECT_EQ(loan.compare_and_commit(1), Status::overtaken);
  EXPECT_FALSE(loan);
  int value = 0;
  EXPECT_EQ(slot.pull(value).version, 2U);
  EXPECT_EQ(value, 20);
  auto another = one.loan();
  *another = 30;
  EXPECT_EQ(another.compare_and_commit(2), Status::ready);
  EXPECT_EQ(slot.pull(value).version, 3U);
  EXPECT_EQ(value, 30);
}

TEST(Slot, read_modify_write_loses_no_change) {
  constexpr std::uint64_t changes = 20'000;
  Fixture<Sample> f({.views = 0, .publishers = 2});
  std::barrier together(2);
  const auto change = [&](std::uint32_t index) {
    FakePeers self(f.table, index);
    Slot<Sample> slot = f.open(self);
    auto publisher = slot.publisher();
    together.arrive_and_wait();
    for (std::uint64_t done = 0; done < changes;) {
      Sample sample;
      const Reading reading = slot.pull(sample);
      const Sample next(reading ? sample.number() + 1 : 1);
      if (publisher.compare_and_publish(reading.version, next) == Status::ready) ++done;
    }
  };
  std::thread other(change, 1);
  change(0);
  other.join();
  FakePeers self(f.table, 0);
  Sample sample;
  EXPECT_EQ(f.open(self).pull(sample).version, 2 * changes);
  EXPECT_EQ(sample.number(), 2 * changes);
}

TEST(Slot, a_viewed_value_stays_while_others_are_published) {  // SLOT-3
  Fixture<Sample> f({.views = 1, .publishers = 1});            // 3 buffers
  FakePeers self(f.table, 0);
  Slot<Sample> slot = f.open(self);
  auto publisher = slot.publisher();
  auto reader = slot.reader();
  ASSERT_EQ(publisher.publish(Sample(1)), Status::ready);
  const auto view = reader.pull();
  ASSERT_TRUE(view);
  for (std::uint64_t i = 2; i <= 50; ++i) {
    ASSERT_EQ(publisher.publish(Sample(i)), Status::ready);
    EXPECT_EQ(view->number(), 1U);
    EXPECT_TRUE(view->whole());
  }
  Sample newest;
  ASSERT_TRUE(slot.pull(newest));
  EXPECT_EQ(newest.number(), 50U);
}

TEST(Slot, a_reader_has_one_view_at_a_time) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  auto reader = slot.reader();
  {
    const auto view = reader.pull();
    ASSERT_TRUE(view);
    EXPECT_EQ(reader.pull().reading().status, Status::busy);
    EXPECT_EQ(*view, 1);
  }
  EXPECT_TRUE(reader.pull());
}

TEST(Slot, a_publisher_that_finds_every_buffer_pinned_is_told_busy) {
  Fixture<int> f({.views = 2, .publishers = 1, .buffers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  auto a = slot.reader();
  auto b = slot.reader();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  auto first = a.pull();
  ASSERT_EQ(publisher.publish(2), Status::ready);
  auto second = b.pull();
  EXPECT_EQ(publisher.publish(3), Status::busy);
  EXPECT_EQ(*first, 1);
  EXPECT_EQ(*second, 2);
  { const auto gone = std::move(first); }
  EXPECT_EQ(publisher.publish(3), Status::ready);
}

TEST(Slot, a_publisher_may_wait_for_a_buffer) {
  Fixture<int> f({.views = 2, .publishers = 1, .buffers = 2});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  Slot<int> theirs = f.open(victim);
  auto a = slot.reader();
  auto b = theirs.reader();
  ASSERT_EQ(publisher.publish(1, Deadline::now()), Status::ready);
  std::optional<Slot<int>::View> first(a.pull());
  ASSERT_EQ(publisher.publish(2, Deadline::never()), Status::ready);
  const auto second = b.pull();
  EXPECT_EQ(publisher.publish(3, Deadline::now()), Status::timeout);
  EXPECT_EQ(publisher.publish(3, Deadline::after(std::chrono::milliseconds(3))), Status::timeout);
  EXPECT_EQ(publisher.loan(Deadline::now()).status(), Status::timeout);
  {
    std::thread reading([&] { first.reset(); });
    EXPECT_EQ(publisher.publish(3, Deadline::never()), Status::ready);
    reading.join();
  }
  first.emplace(a.pull());
  EXPECT_EQ(publisher.publish(4), Status::busy);
  f.table.kill(victim.self());
  EXPECT_EQ(publisher.publish(4, Deadline::never()), Status::ready);
  EXPECT_EQ(slot.version(), 4U);
  victim.forked();
}

TEST(Slot, a_publisher_is_woken_by_an_abandoned_loan) {
  Fixture<int> f({.views = 0, .publishers = 2, .buffers = 2});
  FakePeers self(f.table, 0);
  FakePeers other(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(other);
  auto publisher = slot.publisher();
  auto its_publisher = theirs.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  std::optional<Slot<int>::Loan> loan(its_publisher.loan());
  std::thread abandoning([&] { loan.reset(); });
  EXPECT_EQ(publisher.publish(2, Deadline::never()), Status::ready);
  abandoning.join();
}

TEST(Slot, says_who_holds_its_buffers) {
  Fixture<int> f({.views = 2, .publishers = 1, .buffers = 3});
  FakePeers self(f.table, 0);
  FakePeers other(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(other);
  auto publisher = slot.publisher();
  auto reader = theirs.reader();
  EXPECT_TRUE(slot.holders().empty());
  ASSERT_EQ(publisher.publish(1), Status::ready);
  ASSERT_EQ(publisher.publish(2), Status::ready);
  {
    const auto view = reader.pull();
    ASSERT_EQ(publisher.publish(3), Status::ready);
    const auto loan = publisher.loan();
    const auto holders = slot.holders();
    ASSERT_EQ(holders.size(), 2U);
    EXPECT_EQ(holders[0].owner, other.self());
    EXPECT_EQ(holders[0].what, SlotHolder::What::view);
    EXPECT_EQ(holders[0].version, 2U);
    EXPECT_EQ(holders[0].published_at, view.reading().published_at);
    EXPECT_GE(holders[0].open_ns().value(), 0);
    EXPECT_EQ(holders[1].owner, self.self());
    EXPECT_EQ(holders[1].what, SlotHolder::What::publication);
    EXPECT_FALSE(holders[1].open_ns());
  }
  EXPECT_TRUE(slot.holders().empty());
}

TEST(Slot, a_dead_readers_pin_is_found_and_given_back) {
  Fixture<int> f({.views = 1, .publishers = 1, .buffers = 2});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  Slot<int> theirs = f.open(victim);
  auto reader = theirs.reader();
  auto view = reader.pull();
  ASSERT_TRUE(view);
  ASSERT_EQ(publisher.publish(2), Status::ready);
  ASSERT_EQ(publisher.publish(3), Status::busy);
  f.table.kill(victim.self());
  EXPECT_EQ(publisher.publish(3), Status::ready);
  EXPECT_NO_THROW(slot.reader());  // and its place among the views
  victim.forked();                 // the dead do not run destructors
}

TEST(Slot, a_full_table_names_its_size_and_makes_room_when_one_dies) {
  Fixture<int> f({.views = 1, .publishers = 1});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(victim);
  auto reader = theirs.reader();
  auto publisher = theirs.publisher();
  try {
    auto another = slot.reader();
    FAIL() << "there was no room";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::too_many);
    EXPECT_NE(std::string(error.what()).find("all 1 views"), std::string::npos);
  }
  EXPECT_THROW(slot.publisher(), Error);
  f.table.kill(victim.self());
  auto another = slot.reader();
  auto successor = slot.publisher();
  victim.forked();
}

TEST(Slot, waiters_are_told_when_the_last_publisher_has_died) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(victim);
  auto publisher = theirs.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  f.table.kill(victim.self());
  EXPECT_EQ(slot.wait_newer(1, Deadline::never()), Status::peer_died);
  int value = 0;
  EXPECT_TRUE(slot.pull(value));  // the last value is still served
  EXPECT_EQ(value, 1);
  auto successor = slot.publisher();
  EXPECT_EQ(slot.wait_newer(1, Deadline::after(std::chrono::milliseconds(5))), Status::timeout);
  victim.forked();
}

TEST(Slot, a_sleeping_waiter_is_woken_by_a_publication) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  FakePeers other(f.table, 1);
  Slot<int> slot = f.open(self);
  std::thread publishing([&] {
    Slot<int> theirs = f.open(other);
    auto publisher = theirs.publisher();
    for (int i = 1; i <= 200; ++i) {
      EXPECT_EQ(publisher.publish(i), Status::ready);
      while (theirs.version() < static_cast<Version>(i)) yield();
    }
  });
  for (Version seen = 0; seen < 200; seen = slot.version()) {
    ASSERT_EQ(slot.wait_newer(seen, Deadline::after(std::chrono::seconds(20)), WaitStrategy::sleep),
              Status::ready);
  }
  publishing.join();
}

TEST(Slot, a_request_is_seen_and_answered_by_what_is_handed_over_after_it) {
  Fixture<int> f({.views = 0, .publishers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  auto other = slot.publisher();
  EXPECT_FALSE(publisher.requested());
  ASSERT_EQ(publisher.publish(1), Status::ready);
  EXPECT_EQ(publisher.wait_for_request(Deadline::now()), Status::timeout);
  auto early = other.loan();
  *early = 2;
  int value = 0;
  EXPECT_EQ(slot.pull_fresh(value, Deadline::now()).status, Status::timeout);  // 1 is not fresh
  EXPECT_TRUE(publisher.requested());
  EXPECT_EQ(publisher.wait_for_request(Deadline::never()), Status::ready);
  EXPECT_EQ(early.commit(), Status::ready);
  EXPECT_TRUE(publisher.requested());  // 2 was loaned before
  EXPECT_EQ(publisher.publish(3), Status::ready);
  EXPECT_FALSE(publisher.requested());
  EXPECT_FALSE(other.requested());
}

TEST(Slot, an_answer_that_is_overtaken_by_an_older_value_leaves_the_request_open) {  // SLOT-4
  Fixture<int> f({.views = 0, .publishers = 2});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  auto other = slot.publisher();
  auto early = other.loan();
  *early = 1;
  int value = 0;
  EXPECT_EQ(slot.pull_fresh(value, Deadline::now()).status, Status::timeout);
  EXPECT_EQ(publisher.publish(2), Status::ready);
  EXPECT_FALSE(publisher.requested());
  EXPECT_EQ(early.commit(), Status::ready);
  EXPECT_TRUE(publisher.requested());
}

TEST(Slot, fresh_values_are_made_on_demand) {
  constexpr int rounds = 300;
  Fixture<int[]> f({.count = 3});
  std::atomic<int> done = 0;
  std::thread publishing([&] {
    FakePeers self(f.table, 2);
    Slot<int[]> slot = f.open(self);
    auto publisher = slot.publisher();
    std::array<int, 3> made{};
    while (done < 2) {
      ++made[0];
      // Bounded only for the end.
      const Deadline deadline = Deadline::after(std::chrono::milliseconds(20));
      if (publisher.wait_for_request(deadline, WaitStrategy::sleep) != Status::ready) continue;
      EXPECT_EQ(publisher.publish(made), Status::ready);
    }
  });
  const auto asking = [&](std::uint32_t index) {
    FakePeers self(f.table, index);
    Slot<int[]> slot = f.open(self);
    std::array<int, 3> got{};
    for (int i = 0; i < rounds; ++i) {
      const Version before = slot.version();
      const Reading reading = slot.pull_fresh(got, Deadline::never(), WaitStrategy::sleep);
      ASSERT_TRUE(reading);
      EXPECT_GT(reading.version, before);
    }
    ++done;
  };
  std::thread other(asking, 1);
  asking(0);
  other.join();
  publishing.join();
}

TEST(Slot, who_asks_is_told_of_the_last_publishers_death) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  Slot<int> theirs = f.open(victim);
  auto its_publisher = theirs.publisher();
  ASSERT_EQ(its_publisher.publish(1), Status::ready);
  f.table.kill(victim.self());
  int value = 0;
  EXPECT_EQ(slot.pull_fresh(value, Deadline::never()).status, Status::peer_died);
  auto successor = slot.publisher();
  EXPECT_TRUE(successor.requested());  // it still is open
  victim.forked();
}

TEST(Slot, waiting_ends_at_the_deadline) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  EXPECT_EQ(slot.wait_newer(0, Deadline::now()), Status::timeout);
  EXPECT_EQ(slot.wait_newer(0, Deadline::after(std::chrono::milliseconds(3))), Status::timeout);
}

TEST(Slot, readers_never_return_a_torn_or_an_older_value) {  // SLOT-2
  constexpr int publications = 60'000;
  Fixture<Sample> f({.views = 2, .publishers = 2});
  std::atomic<int> publishing = 2;
  std::atomic<int> wrong = 0;
  std::atomic<std::uint64_t> reads = 0;
  std::barrier together(4);
  const auto publish = [&](std::uint32_t index) {
    FakePeers self(f.table, index);
    Slot<Sample> slot = f.open(self);
    auto publisher = slot.publisher();
    together.arrive_and_wait();
    for (int i = 0; i < publications; ++i) {
      // The value tells its publisher and its number there.
      const Sample sample(std::uint64_t{index} << 32 | static_cast<std::uint64_t>(i));
      if (publisher.publish(sample) != Status::ready) ++wrong;
    }
    --publishing;
  };
  const auto copying = [&] {
    FakePeers self(f.table, 2);
    Slot<Sample> slot = f.open(self);
    together.arrive_and_wait();
    std::array<std::uint64_t, 2> newest{};
    Version last = 0;
    Sample sample;
    for (bool last_time = false; !last_time;) {
      last_time = publishing == 0;  // and then once more: there is a value to read by now
      const Reading reading = slot.pull(sample);
      if (!reading) continue;
      ++reads;
      const std::uint64_t number = sample.number() & 0xffffffff;
      std::uint64_t& seen = newest[sample.number() >> 32];
      if (!sample.whole() || reading.version < last || number < seen) ++wrong;
      seen = number;
      last = reading.version;
    }
  };
  const auto viewing = [&] {
    FakePeers self(f.table, 3);
    Slot<Sample> slot = f.open(self);
    auto reader = slot.reader();
    together.arrive_and_wait();
    for (bool last_time = false; !last_time;) {
      last_time = publishing == 0;
      const auto view = reader.pull();
      if (!view) continue;
      ++reads;
      const std::uint64_t number = view->number();
      if (!view->whole()) ++wrong;
      yield();
      if (!view->whole() || view->number() != number) ++wrong;
    }
  };
  std::vector<std::thread> threads;
  threads.emplace_back(publish, 0);
  threads.emplace_back(publish, 1);
  threads.emplace_back(copying);
  threads.emplace_back(viewing);
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(reads, 0U);
  FakePeers self(f.table, 0);
  EXPECT_EQ(f.open(self).version(), 2U * publications);  // none was lost, none counted twice
}

TEST(Slot, a_late_recoverer_does_not_take_a_newcomers_pin) {
  Fixture<int> f({.views = 1, .publishers = 1});
  FakePeers self(f.table, 0);
  FakePeers victim(f.table, 1);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  {
    Slot<int> theirs = f.open(victim);
    auto reader = theirs.reader();
    auto view = reader.pull();
    f.table.kill(victim.self());
    victim.forked();
  }
  const Dead late = f.table.dead_of(victim.self());
  ASSERT_TRUE(self.recover_if_dead(victim.self()));
  f.table.rejoin(victim.self());
  FakePeers newcomer(f.table, 1);
  Slot<int> theirs = f.open(newcomer);
  auto reader = theirs.reader();
  const auto view = reader.pull();
  SlotCore::repair(f.block.span(), late);
  EXPECT_THROW(slot.reader(), Error);  // the one pin is still the newcomer's
}

TEST(Slot, a_forked_child_gets_closed) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  Slot<int> slot = f.open(self);
  auto publisher = slot.publisher();
  auto reader = slot.reader();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  auto loan = publisher.loan();
  self.forked();
  EXPECT_EQ(loan.commit(), Status::closed);
  EXPECT_EQ(publisher.loan().status(), Status::closed);
  EXPECT_EQ(publisher.publish(2, Deadline::never()), Status::closed);
  EXPECT_EQ(publisher.publish(2), Status::closed);
  EXPECT_EQ(publisher.compare_and_publish(1, 2), Status::closed);
  EXPECT_EQ(publisher.compare_and_publish(0, 2), Status::closed);
  EXPECT_EQ(reader.pull().reading().status, Status::closed);
  EXPECT_EQ(slot.wait_newer(0, Deadline::never()), Status::closed);
  EXPECT_EQ(publisher.wait_for_request(Deadline::never()), Status::closed);
  int value = 0;
  EXPECT_EQ(slot.pull_fresh(value, Deadline::never()).status, Status::closed);
  EXPECT_EQ(slot.version(), 1U);
}

TEST(Slot, impossible_options_are_refused) {
  EXPECT_THROW(Slot<int>::bytes({.publishers = 0}), Error);
  EXPECT_THROW(Slot<int>::bytes({.buffers = 1}), Error);
  EXPECT_THROW(Slot<int>::bytes({.buffers = 70'000}), Error);
  EXPECT_THROW(Slot<float[]>::bytes({.count = 0}), Error);
  EXPECT_THROW(Slot<float[]>::bytes({.count = SIZE_MAX}), Error);
}

TEST(Slot, says_in_what_it_differs_from_other_options) {
  using Floats = Slot<float[]>;
  const Floats::Options options{.count = 4, .views = 2, .publishers = 3};
  Fixture<float[]> f(options);
  const auto difference = [&](Floats::Options other) {
    return Floats::difference(f.block.span(), other);
  };
  EXPECT_EQ(difference(options), "");
  EXPECT_EQ(difference({.count = 4, .views = 2, .publishers = 3, .buffers = 6}), "");
  EXPECT_EQ(difference({.count = 4, .views = 2, .publishers = 3, .timed = false}), "");
  EXPECT_EQ(difference({.count = 3, .views = 2, .publishers = 3}), "it has 4 elements, not 3");
  EXPECT_EQ(difference({.count = 4, .views = 3, .publishers = 2}), "it has 2 views, not 3");
  EXPECT_EQ(difference({.count = 4, .views = 2, .publishers = 2}), "it has 3 publishers, not 2");
  EXPECT_EQ(difference({.count = 4, .views = 2, .publishers = 3, .buffers = 7}),
            "it has 6 buffers, not 7");
  // Of the same size, each: the directory sees no difference.
  ASSERT_EQ(Floats::bytes({.count = 3, .views = 2, .publishers = 3}), Floats::bytes(options));
  ASSERT_EQ(Floats::bytes({.count = 4, .views = 3, .publishers = 2}), Floats::bytes(options));
  const std::uint64_t damaged = 0;
  std::memcpy(f.block.span().data(), &damaged, sizeof damaged);
  EXPECT_EQ(difference(options), "");  // attaching tells
}

TEST(Slot, a_damaged_header_is_refused) {
  Fixture<int> f({});
  FakePeers self(f.table, 0);
  for (std::size_t at = 0; at < 24; at += 4) {  // each field in turn
    std::uint32_t saved = 0;
    std::memcpy(&saved, f.block.span().data() + at, 4);
    const std::uint32_t damaged = 0x7fffffff;
    std::memcpy(f.block.span().data() + at, &damaged, 4);
    EXPECT_THROW(f.open(self), Error) << at;
    std::memcpy(f.block.span().data() + at, &saved, 4);
  }
  EXPECT_THROW(Slot<int>(f.block.span().first(100), self), Error);
  EXPECT_NO_THROW(f.open(self));
}

// As docs/slot.md has it.
std::size_t footprint(std::size_t value, std::size_t publishers, std::size_t views,
                      std::size_t buffers) {
  const std::size_t unit = value >= 4096 ? 4096 : 64;
  const auto round = [&](std::size_t bytes) { return (bytes + unit - 1) / unit * unit; };
  return round(128 + 64 * (publishers + views + buffers)) + buffers * round(value);
}

TEST(Slot, its_footprint_is_what_the_formula_says) {
  for (const std::size_t count : {1, 7, 8, 9, 511, 512, 513, 100'000}) {
    for (const std::uint32_t views : {0, 1, 40}) {
      for (const std::uint32_t publishers : {1, 3}) {
        for (const std::uint32_t buffers : {0, 2, 60}) {
          const Slot<double[]>::Options options{
              .count = count, .views = views, .publishers = publishers, .buffers = buffers};
          EXPECT_EQ(Slot<double[]>::bytes(options),
                    footprint(8 * count, publishers, views,
                              buffers != 0 ? buffers : views + publishers + 1));
        }
      }
    }
  }
  EXPECT_EQ(Slot<std::uint64_t>::bytes({}), 2'560U);
  EXPECT_EQ(Slot<std::byte[]>::bytes({.count = 1024}), 15'040U);
  EXPECT_EQ(Slot<std::byte[]>::bytes({.count = 4096}), 57'344U);
  EXPECT_EQ(Slot<std::byte[]>::bytes({.count = 1 << 20}), 13'635'584U);
}

TEST(Slot, the_hot_path_allocates_nothing) {
  Fixture<Sample> f({});
  FakePeers self(f.table, 0);
  Slot<Sample> slot = f.open(self);
  auto publisher = slot.publisher();
  auto reader = slot.reader();
  Sample sample(3);
  const long before = test::allocations;
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(publisher.publish(sample), Status::ready);
    EXPECT_TRUE(slot.pull(sample));
    EXPECT_TRUE(reader.pull());
    EXPECT_EQ(slot.wait_newer(0, Deadline::never()), Status::ready);
  }
  EXPECT_EQ(test::allocations, before);
}

}  // namespace
}  // namespace heddle
