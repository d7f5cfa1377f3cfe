#include "model/mutations.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <tuple>

namespace heddle::model {
namespace {

struct Named {
  const char* name;
  Strength strength;
};
constexpr Named strengths[] = {{"relaxed", Strength::relaxed},
                               {"acquire", Strength::acquire},
                               {"release", Strength::release},
                               {"acq_rel", Strength::acq_rel},
                               {"seq_cst", Strength::seq_cst}};

Strength strength_named(const std::string& name) {
  for (const Named& one : strengths) {
    if (name == one.name) return one.strength;
  }
  throw std::invalid_argument("no memory order is named \"" + name + "\"");
}

std::vector<Strength> weaker(Strength strength) {
  switch (strength) {
    case Strength::seq_cst:
      return {Strength::acq_rel, Strength::acquire, Strength::release};
    case Strength::acq_rel:
      return {Strength::acquire, Strength::release};
    case Strength::acquire:
    case Strength::release:
      return {Strength::relaxed};
    case Strength::relaxed:
      break;
  }
  return {};
}

// What the repairs do; WAKE is their futex_wake. (A tag of the ordinary way too is left out in
// repairs only.)
constexpr const char* repairs[] = {"SLOT.idle",       "BOARD.finish", "BARRIER.gone",
                                   "GROUP.gone",      "QUEUE.repair", "QUEUE.returned",
                                   "RESULT.repaired", "DIR.orphan",   "PART.dead",
                                   "PART.free",       "WAKE"};

}  // namespace

std::vector<Mutation> all_mutations() {
  const std::filesystem::path root = HEDDLE_SOURCE_DIR;
  const std::regex order(
      R"re((fence\(|load\()?(acquire|release|acq_rel|seq_cst)\("([A-Z]+\.[a-z_]+)"\))re");
  std::set<std::tuple<std::string, Strength, Strength, bool>> found;
  for (const char* folder : {"include/heddle/base", "include/heddle/shm", "include/heddle/sync",
                             "src/shm", "src/sync"}) {
    for (const auto& file : std::filesystem::directory_iterator(root / folder)) {
      if (file.path().filename() == "atomic.hpp") continue;  // its comments show a tag
      std::ifstream stream(file.path());
      std::stringstream text;
      text << stream.rdbuf();
      const std::string source = text.str();
      for (std::sregex_iterator at(source.begin(), source.end(), order), end; at != end; ++at) {
        const std::string kind = (*at)[1], tag = (*at)[3];
        const Strength from = strength_named((*at)[2]);
        const bool fence = kind == "fence(", load = kind == "load(";
        if (fence) found.emplace(tag, from, from, true);
        if (fence && from != Strength::seq_cst) continue;
        for (const Strength to : weaker(from)) {
          if (fence && to != Strength::acq_rel) continue;
          if (load && from == Strength::seq_cst && to != Strength::acquire) continue;
          found.emplace(tag, from, to, false);
        }
      }
    }
  }
  for (const char* tag : repairs) found.emplace(tag, Strength::relaxed, Strength::relaxed, true);
  std::vector<Mutation> all;
  for (const auto& [tag, from, to, removes] : found) all.push_back({tag, from, to, removes});
  return all;
}

std::string weakened_to(const Mutation& mutation) {
  if (mutation.removes)
    return mutation.from == Strength::relaxed ? "left out in repair" : "removed";
  for (const Named& one : strengths) {
    if (one.strength == mutation.to) return one.name;
  }
  return "?";
}

std::string order_of(const Mutation& mutation) {
  for (const Named& one : strengths) {
    if (one.strength == mutation.from && one.strength != Strength::relaxed) return one.name;
  }
  return "repair";
}

std::string describe(const Mutation& mutation) {
  return mutation.tag + " " + order_of(mutation) + " -> " + weakened_to(mutation);
}

std::vector<Mutation> mutations_of(const std::string& name) {
  const std::size_t colon = name.find(':');
  const std::string tag = name.substr(0, colon);
  std::vector<Mutation> chosen;
  for (const Mutation& mutation : all_mutations()) {
    if (mutation.tag != tag) continue;
    if (colon == std::string::npos || weakened_to(mutation).starts_with(name.substr(colon + 1))) {
      chosen.push_back(mutation);
    }
  }
  if (chosen.empty()) {
    throw std::invalid_argument("no order \"" + name + "\" to weaken; --mutations tries them all");
  }
  return chosen;
}

Verdict try_mutation(const Mutation& mutation, const std::vector<Scenario>& scenarios,
                     std::uint64_t executions) {
  std::string mechanism = mutation.tag.substr(0, mutation.tag.find('.'));
  std::transform(mechanism.begin(), mechanism.end(), mechanism.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  mechanism.resize(3);  // "bar" of barrier; "dir", "par"
  // The mechanism's own scenarios; what all are built on may show in those of others.
  std::vector<const Scenario*> order;
  const bool shared = mechanism == "wai" || mechanism == "wak" || mechanism == "par";
  for (const bool own : {true, false}) {
    for (const Scenario& scenario : scenarios) {
      if (scenario.must_fail || scenario.name.starts_with("litmus")) continue;
      if (scenario.name.starts_with(mechanism) == own && (own || shared))
        order.push_back(&scenario);
    }
  }
  Verdict verdict{mutation, "", "", 0, 0};
  const auto tried = [&](const Scenario& scenario, const Limits& limits) {
    const Result result = explore(scenario, limits, &mutation);
    verdict.executions += result.executions;
    verdict.seconds += result.seconds;
    if (!result.failed) return false;
    verdict.caught_by = scenario.name;
    verdict.claim = result.claim;
    return true;
  };
  // A little of each scenario before much of one: most are caught within seconds.
  for (const std::uint64_t most : {executions / 100, executions / 10, executions}) {
    for (const Scenario* scenario : order) {
      if (tried(*scenario, {.executions = most})) return verdict;
    }
    for (const Scenario* scenario : order) {
      if (tried(*scenario, {.executions = most, .seed = 1})) return verdict;
    }
  }
  for (const Scenario* scenario : order) {
    Scenario wider = *scenario;
    wider.bounds.preemptions += 2;
    wider.bounds.stale += 2;
    if (tried(wider, {.executions = executions, .seed = 2})) return verdict;
  }
  return verdict;
}

}  // namespace heddle::model
