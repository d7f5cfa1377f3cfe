#pragma once

#include <vector>

#include "model/explorer.hpp"

namespace heddle::model {

std::vector<Scenario> control_scenarios();  // known-bad protocols, and what C++ guarantees
std::vector<Scenario> history_scenarios();  // linearizability
std::vector<Scenario> progress_scenarios();
std::vector<Scenario> draft_scenarios();  // and what reviews found in earlier drafts
std::vector<Scenario> slot_scenarios();
std::vector<Scenario> board_scenarios();
std::vector<Scenario> queue_scenarios();
std::vector<Scenario> letter_scenarios();  // the queue's dead letters
std::vector<Scenario> late_scenarios();    // its delays and timeouts
std::vector<Scenario> lane_scenarios();    // its lanes, and its reopening
std::vector<Scenario> result_scenarios();
std::vector<Scenario> barrier_scenarios();
std::vector<Scenario> group_scenarios();
std::vector<Scenario> collective_scenarios();
std::vector<Scenario> epoch_scenarios();  // of the group
std::vector<Scenario> wait_scenarios();
std::vector<Scenario> directory_scenarios();
std::vector<Scenario> participants_scenarios();
std::vector<Scenario> bsp_scenarios();

std::vector<Scenario> all_scenarios();

}  // namespace heddle::model
