#pragma once

// Stops a process with SIGSTOP at many places of one operation, lets the others go on, and resumes
// it.
//
//   struct Push {                        // a new one for every stop
//     void child(Line& test) {           // in the process that is stopped
//       ... joins, prepares ...
//       Traced::begin();
//       queue.push(7);                   // the operation
//       Traced::end();
//       test.say("pushed");
//     }
//     void meet() {}                     // in the test, while the child stands before it
//     void others() {}                   // in the test, while the child is stopped in it
//     void after(std::string said) {}    // in the test, when the child has done it
//     int watched() { return fd; }       // the file whose content it can change
//   };
//   stop_everywhere([] { return Push(); });
//
// It is stopped just before and just after each of its changes of the segment, and at some other
// instructions that lie evenly between.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "support/process.hpp"
#include "support/single_step.hpp"
#include "support/traced.hpp"

namespace heddle::test {

/// The child of a new scene is stopped after so many instructions.
template <class Make>
void stop_at(Make make, int instructions) {
  const std::string where = "stopped after " + std::to_string(instructions) + " instructions";
  SCOPED_TRACE(where);
  auto scene = make();
  Traced child([&](Line& test) { scene.child(test); });
  scene.meet();
  child.step(Step::instruction, instructions);
  child.stop();
  const Alarm alarm(where);
  scene.others();
  child.process().resume();
  scene.after(child.process().hear());
  EXPECT_EQ(child.process().join(), 0);
}

/// The numbers of instructions after which to stop.
template <class Make>
std::set<int> places_to_stop(Make make) {
  constexpr int evenly = 12;
  auto scene = make();
  Traced child([&](Line& test) { scene.child(test); });
  scene.meet();
  Watch watch(scene.watched());
  std::set<int> places;
  int length = 0;
  for (; child.step(Step::instruction, 1); ++length) {
    if (watch.changed()) places.insert({length, length + 1});
  }
  for (int i = 0; i <= evenly; ++i) places.insert(length * i / evenly);
  return places;
}

template <class Make>
void stop_everywhere(Make make) {
  const OneCore fast;
  stop_at(make, 0);  // whoever is the first binds symbols, and is longer
  const std::set<int> places = places_to_stop(make);
  for (const int place : places) {
    if (testing::Test::HasFailure()) return;
    stop_at(make, place);
  }
  testing::Test::RecordProperty("stops", static_cast<int>(places.size()));
  std::printf("[    STOPS ] %zu in %d instructions\n", places.size(), *places.rbegin());
}

}  // namespace heddle::test
