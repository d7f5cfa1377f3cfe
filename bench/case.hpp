#pragma once

// Entries of one case, in the order in which they are added.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "harness.hpp"

namespace heddle::bench {

/// What the implementations of a case are compared by.
struct Quantity {
  const char* metric;
  const char* unit;
};
inline constexpr Quantity latency{"latency", "ns"};

inline void compare(Entry& entry, const std::string& name, const char* impl) {
  entry.label.against_case = name;
  entry.label.against_impl = impl;
}

class Case {
 public:
  Case(std::vector<Entry>& entries, const char* suite, std::string name, Quantity quantity,
       int every = 1)
      : entries_(entries),
        first_(entries.size()),
        label_{suite, std::move(name), "", quantity.metric, quantity.unit},
        every_(every) {}

  /// An implementation of it. What is returned is there until the next one is added.
  template <class Measuring, class... Arguments>
  Entry& add(const char* impl, Arguments... arguments) {
    label_.impl = impl;
    entries_.push_back({label_, [=] { return std::make_unique<Measuring>(arguments...); }});
    entries_.back().every = every_;
    return entries_.back();
  }
  /// Compares all others with this one.
  void compare_with(const char* impl) {
    for (std::size_t i = first_; i < entries_.size(); ++i) {
      if (entries_[i].label.impl != impl) compare(entries_[i], label_.name, impl);
    }
  }
  /// Leaves the case out on a machine with fewer processors.
  void needs_processors(std::size_t count) {
    for (std::size_t i = first_; i < entries_.size(); ++i) {
      entries_[i].processors = std::max(entries_[i].processors, count);
    }
  }

 private:
  std::vector<Entry>& entries_;
  std::size_t first_;
  Label label_;
  int every_;
};

}  // namespace heddle::bench
