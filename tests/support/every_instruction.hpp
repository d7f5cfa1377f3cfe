#pragma once

// What the tests have in common that kill a process at every instruction of an operation
// (single_step.hpp): a segment with a survivor and a child, and who of the survivors finds the dead.

#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "heddle/shm/segment.hpp"
#include "support/process.hpp"
#include "support/single_step.hpp"
#include "support/traced.hpp"

namespace heddle::test {

/// Who finds the dead: a survivor in whose way it stands, or one that looks for the dead.
enum class Finder { waiter, recover_dead };

class EveryInstructionTest : public testing::TestWithParam<Finder> {
 public:
  static std::string name(const testing::TestParamInfo<Finder>& tested) {
    return tested.param == Finder::waiter ? "by_waiter" : "by_recover_dead";
  }

 protected:
  void SetUp() override {
    if (!SingleStepped::is_possible) GTEST_SKIP() << "single steps are only for x86-64";
    ASSERT_TRUE(Traced::is_allowed()) << Traced::refusal;
  }
};

inline Deadline long_enough() { return Deadline::after(patience / 2); }
/// Long enough to fall asleep and leave a sleeper's bit behind, so that a change has to wake.
inline Deadline a_nap() { return Deadline::after(std::chrono::microseconds(100)); }

/// A segment for this process, the survivor, at place 0, and the child, who dies at place 1.
struct Scene {
  explicit Scene(Finder who, const Segment::Options& options = small)
      : finder(who), segment(Segment::anonymous(options)) {}

  Segment join() const { return Segment::adopt(segment.fd()); }
  void meet() {}
  int watched() const { return segment.fd(); }

  void find_dead() {
    if (finder == Finder::recover_dead) {
      EXPECT_EQ(segment.recover_dead(), 1U);
    }
  }
  /// Whatever was not in anybody's way is found by who looks for it.
  void nobody_else_is_left() {
    EXPECT_LE(segment.recover_dead(), finder == Finder::waiter ? 1U : 0U);
    EXPECT_EQ(segment.recover_dead(), 0U);
    EXPECT_EQ(segment.participants().size(), 1U);
  }

  static constexpr Segment::Options small{.bytes = 8 << 10, .participants = 3, .objects = 8};
  static constexpr Owner the_child = Owner::at(1);

  Finder finder;
  Segment segment;
};

}  // namespace heddle::test
