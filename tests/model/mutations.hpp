#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/explorer.hpp"

namespace heddle::model {

/// Every named order of base/, shm/ and sync/, weakened in each way that is left to it, and every
/// step of a repair, left out. Read from the sources, so that none is forgotten.
std::vector<Mutation> all_mutations();
/// Those of one tag, "SLOT.publish", or one of them, "SLOT.publish:acquire" or "SLOT.recheck:removed".
/// Throws std::invalid_argument for an unknown one.
std::vector<Mutation> mutations_of(const std::string& name);
std::string order_of(const Mutation& mutation);
std::string weakened_to(const Mutation& mutation);
std::string describe(const Mutation& mutation);

struct Verdict {
  Mutation mutation;
  std::string caught_by;  ///< empty: by nothing
  std::string claim;
  std::uint64_t executions = 0;
  double seconds = 0;
};

/// Explores the scenarios of the tag's mechanism until one fails: depth first and at random, for a few
/// runs each, then more, up to `executions`; and at random with wider bounds.
Verdict try_mutation(const Mutation& mutation, const std::vector<Scenario>& scenarios,
                     std::uint64_t executions);

}  // namespace heddle::model
