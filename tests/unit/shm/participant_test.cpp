#include "heddle/shm/participant.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "support/block.hpp"

namespace heddle {
namespace {

class Participants : public testing::Test {
 protected:
  static std::uint64_t alive(std::uint64_t t) {
    return ParticipantWord::make(t, ParticipantState::alive);
  }
  static std::uint64_t dead(std::uint64_t t) {
    return ParticipantWord::make(t, ParticipantState::dead);
  }

  static constexpr std::size_t size = 4;
  test::Block memory_{size * sizeof(ParticipantEntry)};
  ParticipantTable table_{{reinterpret_cast<ParticipantEntry*>(memory_.span().data()), size}};
};

TEST_F(Participants, take_the_first_free_place) {
  EXPECT_EQ(table_.join(7), Owner::at(0));
  EXPECT_EQ(table_.join(8), Owner::at(1));
  EXPECT_EQ(table_.look(0), alive(7));
  EXPECT_EQ(table_.look(1), alive(8));
}

TEST_F(Participants, find_no_place_in_a_full_table_and_change_nothing) {
  for (std::uint64_t t = 1; t <= size; ++t) ASSERT_TRUE(table_.join(t));
  EXPECT_EQ(table_.join(5), nobody);
  for (std::uint32_t i = 0; i < size; ++i) EXPECT_EQ(table_.look(i), alive(i + 1));
}

TEST_F(Participants, a_dead_place_is_not_taken_before_it_is_repaired) {  // PART-3
  for (std::uint64_t t = 1; t <= size; ++t) ASSERT_TRUE(table_.join(t));
  ASSERT_TRUE(table_.mark_dead(2, alive(3)));
  EXPECT_EQ(table_.join(5), nobody);
  table_.set_free(2, dead(3));
  EXPECT_EQ(table_.join(5), Owner::at(2));
}

TEST_F(Participants, the_second_to_mark_a_death_learns_that_it_is_marked) {
  table_.join(1);
  EXPECT_TRUE(table_.mark_dead(0, alive(1)));
  EXPECT_TRUE(table_.mark_dead(0, alive(1)));
  EXPECT_TRUE(table_.mark_dead(0, dead(1)));
  EXPECT_EQ(table_.look(0), dead(1));
}

TEST_F(Participants, a_late_mark_does_not_hit_the_newcomer) {  // PART-2
  table_.join(1);
  table_.mark_dead(0, alive(1));
  table_.set_free(0, dead(1));
  EXPECT_FALSE(table_.mark_dead(0, alive(1)));
  EXPECT_EQ(table_.look(0), 0U);
  ASSERT_EQ(table_.join(2), Owner::at(0));
  EXPECT_FALSE(table_.mark_dead(0, alive(1)));
  EXPECT_EQ(table_.look(0), alive(2));
}

TEST_F(Participants, a_late_freeing_does_not_hit_the_newcomer_alive_or_dead) {  // PART-3
  table_.join(1);
  table_.mark_dead(0, alive(1));
  table_.set_free(0, dead(1));
  table_.join(2);
  table_.set_free(0, dead(1));
  EXPECT_EQ(table_.look(0), alive(2));
  table_.mark_dead(0, alive(2));
  table_.set_free(0, dead(1));
  EXPECT_EQ(table_.look(0), dead(2));
}

TEST_F(Participants, a_dead_one_is_still_dead_only_until_its_place_is_free) {
  table_.join(1);
  table_.mark_dead(0, alive(1));
  const Dead first = table_.dead(0, dead(1));
  EXPECT_TRUE(first.still());
  EXPECT_TRUE(first.owns(Owner::at(0).bits()));
  EXPECT_FALSE(first.owns(nobody.bits()));
  table_.set_free(0, dead(1));
  EXPECT_FALSE(first.still());
  table_.join(2);
  EXPECT_FALSE(first.still());
  table_.mark_dead(0, alive(2));
  EXPECT_FALSE(first.still());
  EXPECT_TRUE(table_.dead(0, dead(2)).still());
}

TEST_F(Participants, that_join_at_once_get_a_place_each) {
  for (std::uint64_t round = 0; round < 2000; ++round) {
    std::atomic<int> start = 0;
    std::array<Owner, 2> places;
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        for (++start; start < 2;) yield();
        places[i] = table_.join(round * 2 + i + 1);
      });
    }
    for (auto& thread : threads) thread.join();
    ASSERT_TRUE(places[0] && places[1] && places[0] != places[1]) << "round " << round;
    for (std::uint32_t i = 0; i < 2; ++i) {
      const std::uint64_t t = ParticipantWord::incarnation(table_.look(i));
      table_.mark_dead(i, alive(t));
      table_.set_free(i, dead(t));
    }
  }
}

// Two recover whatever they have seen, now or long ago; two others come and go. Nobody who is in
// is ever thrown out by the recovery of another.
TEST_F(Participants, that_come_and_go_are_not_hit_by_late_recoverers) {  // PART-2 PART-3
  std::atomic<std::uint64_t> incarnations = 0;
  std::atomic<int> guests = 2;
  std::atomic<int> thrown_out = 0;
  std::vector<std::thread> threads;
  for (int g = 0; g < 2; ++g) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50'000; ++round) {
        const std::uint64_t t = ++incarnations;
        const Owner place = table_.join(t);
        if (!place) continue;
        if (table_.look(place.index()) != alive(t)) ++thrown_out;
        if (!table_.mark_dead(place.index(), alive(t))) ++thrown_out;
        if (round % 2 == 0) table_.set_free(place.index(), dead(t));  // or leaves it to the others
      }
      --guests;
    });
  }
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&] {
      std::uint64_t seen[size]{};
      while (guests > 0) {
        for (std::uint32_t i = 0; i < size; ++i) {
          table_.set_free(i, seen[i]);
          const std::uint64_t word = table_.look(i);
          if (ParticipantWord::state(word) == ParticipantState::dead) seen[i] = word;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(thrown_out, 0);
}

TEST(ParticipantWord, holds_every_incarnation_up_to_the_last) {
  const std::uint64_t last = ParticipantWord::last_incarnation;
  const std::uint64_t word = ParticipantWord::make(last, ParticipantState::dead);
  EXPECT_EQ(ParticipantWord::incarnation(word), last);
  EXPECT_EQ(ParticipantWord::state(word), ParticipantState::dead);
}

TEST(Owner, bits_tell_every_place_from_nobody) {
  EXPECT_FALSE(nobody);
  for (std::uint32_t i = 0; i < max_participants; ++i) {
    const Owner owner = Owner::at(i);
    ASSERT_TRUE(owner);
    ASSERT_LT(owner.bits(), 1024U);
    ASSERT_EQ(Owner(owner.bits()).index(), i);
  }
}

}  // namespace
}  // namespace heddle
