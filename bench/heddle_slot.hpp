#pragma once

// heddle::Slot, as the one-way benchmarks ask for it.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "heddle/base/clock.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"
#include "one_way.hpp"
#include "team.hpp"

namespace heddle::bench {

class HeddleSlot {
 public:
  using Words = Slot<std::uint64_t[]>;

  explicit HeddleSlot(std::size_t bytes, bool timed = false)
      : segment_(Segment::anonymous({.bytes = 4 * bytes + (std::size_t{1} << 16)})) {
    segment_.open<Words>("value",
                         {.count = bytes / 8, .views = 2, .publishers = 1, .timed = timed});
  }
  void reset() {}

  /// What each process has of it.
  class Handle {
   public:
    explicit Handle(HeddleSlot& shared)
        : segment_(Segment::adopt(shared.segment_.fd())), slot_(segment_.find<Words>("value")) {}

   protected:
    static void expect_ready(const char* what, Status status) {
      if (status != Status::ready)
        throw Failure(std::string(what) + " answered " + to_string(status));
    }
    Segment segment_;
    Words slot_;
  };

  /// Publishes a copy of the value.
  class Writer : protected Handle {
   public:
    explicit Writer(HeddleSlot& shared) : Handle(shared), publisher_(slot_.publisher()) {}
    void publish(std::span<const std::uint64_t> value) {
      expect_ready("publish", publisher_.publish(value));
    }

   private:
    Words::Publisher publisher_;
  };

  /// Copies the value out.
  class Reader : protected Handle {
   public:
    explicit Reader(HeddleSlot& shared)
        : Handle(shared), value_(slot_.count()), seen_(slot_.version()) {}
    bool poll() {
      if (slot_.version() == seen_) return false;
      const Reading reading = slot_.pull(std::span(value_));
      expect_ready("pull", reading.status);
      seen_ = reading.version;
      return true;
    }
    std::span<const std::uint64_t> value() const { return value_; }
    void release() {}

   protected:
    std::vector<std::uint64_t> value_;
    Version seen_;
  };

 protected:
  Segment segment_;
};

/// Records when each value was published, as slots do unless told otherwise.
class HeddleSlotTimed : public HeddleSlot {
 public:
  explicit HeddleSlotTimed(std::size_t bytes) : HeddleSlot(bytes, true) {}
};

class HeddleSlotAsleep : public HeddleSlot {
 public:
  using HeddleSlot::HeddleSlot;

  /// Sleeps until a value is there.
  class Reader : public HeddleSlot::Reader {
   public:
    explicit Reader(HeddleSlotAsleep& shared) : HeddleSlot::Reader(shared) {}
    bool poll() {
      const Deadline deadline = Deadline::after(std::chrono::seconds(10));
      expect_ready("wait_newer", slot_.wait_newer(seen_, deadline, WaitStrategy::sleep));
      return HeddleSlot::Reader::poll();
    }
  };
};

class HeddleSlotByView : public HeddleSlot {
 public:
  using HeddleSlot::HeddleSlot;

  /// Pins the value and reads all of it once where it is.
  class Reader : Handle {
   public:
    explicit Reader(HeddleSlotByView& shared)
        : Handle(shared), reader_(slot_.reader()), seen_(slot_.version()) {}
    bool poll() {
      if (slot_.version() == seen_) return false;
      view_.emplace(reader_.pull());
      expect_ready("pull", view_->reading().status);
      seen_ = view_->reading().version;
      read_once(view_->values());
      return true;
    }
    std::span<const std::uint64_t> value() const { return view_->values(); }
    void release() { view_.reset(); }

   private:
    Words::Reader reader_;
    std::optional<Words::View> view_;
    Version seen_;
  };
};

}  // namespace heddle::bench
