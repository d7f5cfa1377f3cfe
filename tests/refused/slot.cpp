// Does not compile: REFUSED is a type that a slot cannot hold. tests/CMakeLists.txt has them, and the
// reason that the compiler must give for each.

#include "heddle/sync/slot.hpp"

#include <string>

struct alignas(128) Wide {
  int value;
};
struct Polymorphic {
  virtual int number() const { return 1; }
};
using Refused = REFUSED;

std::size_t bytes() { return heddle::Slot<Refused>::bytes({}); }
