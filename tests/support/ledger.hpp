#pragma once

// What the processes of a test write down for the test, in memory that none of their deaths takes
// away: what each is about to do, and what it has done.

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace heddle::test {

/// `count` records, zeroes at first, for this process and those that it forks from now on. Takes
/// memory only for what is written.
template <class Record>
class Ledger {
  static_assert(std::is_trivially_destructible_v<Record>);

 public:
  explicit Ledger(std::size_t count) : count_(count) {
    void* memory = mmap(nullptr, count * sizeof(Record), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    records_ = static_cast<Record*>(memory);
  }
  ~Ledger() { munmap(records_, count_ * sizeof(Record)); }
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  std::size_t size() const { return count_; }
  Record& operator[](std::size_t i) const {
    if (i >= count_) {
      throw std::out_of_range("the ledger has only " + std::to_string(count_) + " records");
    }
    return records_[i];
  }
  Record* operator->() const { return records_; }

 private:
  std::size_t count_;
  Record* records_;
};

}  // namespace heddle::test
