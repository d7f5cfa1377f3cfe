#pragma once

// Slot: the newest complete value of one variable, for any number of processes.
//
//   auto slot = segment.open<heddle::Slot<float[]>>("weights", {.count = 4810});
//   auto publisher = slot.publisher();          auto reader = slot.reader();
//   publisher.publish(weights);                 if (auto view = reader.pull()) use(view.values());
//
// Slot<T> holds one trivially copyable T, Slot<T[]> an array of a fixed number of elements. The
// value is there as long as the segment is, also after the death of whoever published it.
// A Slot may be used by any thread of the process; each Publisher, Reader and View by one thread at
// a time. The Segment outlives them. The protocol, and what a death leaves: slot_core.hpp.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "heddle/shm/object.hpp"
#include "heddle/sync/slot_core.hpp"

namespace heddle {

namespace detail {

struct SlotOptions {
  std::uint32_t views = 8;       ///< readers that pin at a time
  std::uint32_t publishers = 4;  ///< registered at a time
  std::uint32_t buffers = 0;     ///< 0: views + publishers + 1, so that publish never is busy
  bool timed = true;  ///< records when each value was published (28 ns); its maker decides
};
struct SlotArrayOptions {
  std::size_t count = 1;  ///< elements
  std::uint32_t views = 8;
  std::uint32_t publishers = 4;
  std::uint32_t buffers = 0;
  bool timed = true;
};

}  // namespace detail

template <class T>
class Slot {
  static constexpr bool is_array = std::is_array_v<T>;

 public:
  using Element = std::remove_extent_t<T>;
  using Options = std::conditional_t<is_array, detail::SlotArrayOptions, detail::SlotOptions>;
  static_assert(!std::is_bounded_array_v<T>,
                "Slot<T[]> has its number of elements in its options: {.count = n}");
  static_assert(
      std::is_trivially_copyable_v<Element>,
      "a slot copies bytes between processes: T is trivially copyable (no std::string, no "
      "std::vector, no virtual functions; an array inside T or Slot<T[]> for many)");
  static_assert(!std::is_pointer_v<Element>, "a pointer means nothing in another process");
  static_assert(alignof(Element) <= cache_line, "a value begins at a cache line, or at a page");

  static constexpr ObjectKind kind = ObjectKind::slot;
  static constexpr ElementType element() { return element_type<Element>(); }
  static std::size_t bytes(const Options& options) { return SlotCore::bytes(shape(options)); }
  static void format(std::span<std::byte> memory, const Options& options) {
    SlotCore::format(memory, shape(options));
  }
  /// Whoever opens a slot that stands there gets the count, views, publishers and buffers that it
  /// asks for, or an error that names both. `timed` is as its maker chose.
  static std::string difference(std::span<std::byte> memory, const Options& options) {
    return SlotCore::difference(memory, shape(options), sizeof(Element));
  }

  Slot(std::span<std::byte> memory, Peers& peers)
      : core_(memory, peers, sizeof(Element), is_array) {}

  /// Elements of the value: 1 for a Slot<T>.
  std::size_t count() const noexcept { return core_.shape().value_bytes / sizeof(Element); }

  /// The number of the newest value, 0 before the first. One load; wait-free.
  Version version() const noexcept { return core_.version(); }

  /// Copies the newest value out. ready, empty (nothing published yet) or busy (publishers overtook
  /// every attempt: more buffers help). Wait-free; writes nothing to the segment.
  Reading pull(Element& value) const noexcept requires(!is_array) { return core_.pull(&value); }
  /// As above; `values` has count() elements (others: `invalid`, nothing is copied).
  Reading pull(std::span<Element> values) const noexcept requires is_array {
    if (values.size() != count()) return {Status::invalid};
    return core_.pull(values.data());
  }
  /// Copies a part of the newest value out: values.size() elements from number `first` on, all of
  /// one version. Past the end: `invalid`, nothing is copied. Otherwise as above.
  Reading pull(std::size_t first, std::span<Element> values) const noexcept requires is_array {
    if (first > count() || values.size() > count() - first) return {Status::invalid};
    return core_.pull(values.data(), first * sizeof(Element), values.size_bytes());
  }

  /// Waits until there is a version above `than`. ready, timeout, peer_died when a publisher has
  /// died and none is left (the last value is still served), closed in a forked child. Blocking.
  Status wait_newer(Version than, Deadline deadline,
                    WaitStrategy strategy = WaitStrategy::adaptive) noexcept {
    return core_.wait_newer(than, deadline, strategy);
  }

  /// Asks for a fresh value and waits for it: one that a publisher hands over, or takes a loan for,
  /// after this call. Publishers see the request (`requested`); who publishes anyway answers it too.
  /// Several that ask are answered by one value. ready; timeout and peer_died as wait_newer, also
  /// with an older value there; closed in a forked child; else `value` may be overwritten in part. A
  /// deadline that has passed leaves the request behind. Blocking.
  Reading pull_fresh(Element& value, Deadline deadline,
                     WaitStrategy strategy = WaitStrategy::adaptive) noexcept requires(!is_array) {
    return core_.pull_fresh(&value, deadline, strategy);
  }
  Reading pull_fresh(std::span<Element> values, Deadline deadline,
                     WaitStrategy strategy = WaitStrategy::adaptive) noexcept requires is_array {
    if (values.size() != count()) return {Status::invalid};
    return core_.pull_fresh(values.data(), deadline, strategy);
  }

  class Reader;
  class Loan;

  /// Has one buffer at a time. Stays where it is while its loan is open.
  class Publisher {
   public:
    Publisher(Publisher&& other) noexcept
        : core_(other.core_), place_(std::exchange(other.place_, no_place)) {}
    Publisher& operator=(Publisher&& other) noexcept {
      std::swap(core_, other.core_);
      std::swap(place_, other.place_);
      return *this;
    }
    ~Publisher() {
      if (place_ != no_place) core_.unregister_publisher(place_);
    }

    /// Makes a copy of the value the newest one. ready; busy when every buffer is pinned or being
    /// written by the living (cannot be with the default number of buffers), and while this
    /// publisher's loan is open; closed in a forked child. Lock-free; no system call but to wake
    /// sleepers. Killed at any step: readers have the old value or the new one.
    Status publish(const Element& value) noexcept requires(!is_array) {
      return has_loan_ ? Status::busy : core_.publish(&value);
    }
    /// As above; `values` has count() elements (others: `invalid`, nothing is published).
    Status publish(std::span<const Element> values) noexcept requires is_array {
      if (values.size() * sizeof(Element) != core_.shape().value_bytes) return Status::invalid;
      return has_loan_ ? Status::busy : core_.publish(values.data());
    }

    /// As publish, but where that is busy it waits for a buffer: ready, timeout, closed; and busy only
    /// for this publisher's own loan. slot.holders() says who has them all. Blocking; a publication
    /// wakes it at once, a reader that lets go is seen within 10 ms.
    Status publish(const Element& value, Deadline deadline) noexcept requires(!is_array) {
      return has_loan_ ? Status::busy : core_.publish(&value, deadline);
    }
    Status publish(std::span<const Element> values, Deadline deadline) noexcept requires is_array {
      if (values.size() * sizeof(Element) != core_.shape().value_bytes) return Status::invalid;
      return has_loan_ ? Status::busy : core_.publish(values.data(), deadline);
    }

    /// Publishes only if the newest version still is `expected` (0: none yet), as of the value that
    /// this one was made from: read, modify, compare_and_publish, and again if it was overtaken. Then
    /// nothing is published; no other publication is lost. Otherwise as publish. Lock-free.
    Status compare_and_publish(Version expected, const Element& value) noexcept
        requires(!is_array) {
      return has_loan_ ? Status::busy : core_.compare_and_publish(expected, &value);
    }
    Status compare_and_publish(Version expected,
                               std::span<const Element> values) noexcept requires is_array {
      if (values.size() * sizeof(Element) != core_.shape().value_bytes) return Status::invalid;
      return has_loan_ ? Status::busy : core_.compare_and_publish(expected, values.data());
    }

    /// A buffer to fill in place, without a copy; test it before use: busy or closed, as publish.
    /// Lock-free.
    Loan loan() noexcept {
      return Loan(*this, has_loan_ ? SlotCore::Claim{.status = Status::busy} : core_.claim());
    }
    /// Waits for a buffer, as publish with a deadline does.
    Loan loan(Deadline deadline) noexcept {
      return Loan(*this,
                  has_loan_ ? SlotCore::Claim{.status = Status::busy} : core_.claim(deadline));
    }

    /// Whether somebody has asked for a value and the newest does not answer. For publishers on
    /// demand: a few loads from lines that publishing uses; no store. Also true for a request whose
    /// asker has gone, or which came while the newest value was on its way.
    bool requested() const noexcept { return core_.requested(); }
    /// Waits for a request. ready, timeout, closed. Then take the value, and publish it: what the
    /// asker did before it asked is seen. Blocking.
    Status wait_for_request(Deadline deadline,
                            WaitStrategy strategy = WaitStrategy::adaptive) noexcept {
      return core_.wait_for_request(deadline, strategy);
    }

   private:
    friend Slot;
    friend Loan;
    explicit Publisher(const SlotCore& core) : core_(core), place_(core_.register_publisher()) {}
    SlotCore core_;
    std::uint32_t place_;
    bool has_loan_ = false;
  };

  /// A buffer that its publisher fills in place and commits: the value is written once. Readers see
  /// nothing of it before, and nothing at all if it is destroyed without commit, or its process
  /// killed. What stands in it at first is an older value, or parts of several: write all of it.
  /// (Readers by copy race with these writes, and discard what they have read: slot_core.hpp, "A
  /// loan". Where that must not be, for ThreadSanitizer, pull by views or publish copies.)
  class Loan {
   public:
    Loan(Loan&& other) noexcept
        : publisher_(std::exchange(other.publisher_, nullptr)), claim_(other.claim_) {}
    Loan& operator=(Loan&& other) noexcept {
      std::swap(publisher_, other.publisher_);
      std::swap(claim_, other.claim_);
      return *this;
    }
    ~Loan() {
      if (publisher_ == nullptr) return;
      publisher_->core_.abandon(claim_);
      publisher_->has_loan_ = false;
    }

    /// Whether there is a buffer: not if it was busy or closed, and no more after the commit.
    explicit operator bool() const noexcept { return publisher_ != nullptr; }
    Status status() const noexcept { return claim_.status; }
    Element& operator*() const noexcept { return *elements(); }
    Element* operator->() const noexcept { return elements(); }
    std::span<Element> values() const noexcept {
      return {elements(), publisher_->core_.shape().value_bytes / sizeof(Element)};
    }

    /// Makes what was written the newest value, and ends the loan. ready; without a buffer: why
    /// there is none, which after a commit is closed. Lock-free; killed in it: published or not.
    Status commit() noexcept { return compare_and_commit(SlotCore::any_version); }
    /// The same if the newest version is `expected`; otherwise overtaken, and the loan is abandoned.
    Status compare_and_commit(Version expected) noexcept {
      if (publisher_ == nullptr) return claim_.status;
      claim_.status = Status::closed;
      publisher_->has_loan_ = false;
      return std::exchange(publisher_, nullptr)->core_.commit(claim_, expected);
    }

   private:
    friend Publisher;
    Loan(Publisher& publisher, const SlotCore::Claim& claim) noexcept : claim_(claim) {
      if (claim.status != Status::ready) return;
      publisher.has_loan_ = true;
      publisher_ = &publisher;
    }
    Element* elements() const noexcept {
      return reinterpret_cast<Element*>(publisher_->core_.bytes_of(claim_));
    }

    Publisher* publisher_ = nullptr;
    SlotCore::Claim claim_;
  };

  /// The newest value, in place: it is not overwritten until the view is destroyed.
  class View {
   public:
    View(View&& other) noexcept
        : core_(std::exchange(other.core_, nullptr)),
          pin_(other.pin_),
          value_(other.value_),
          reading_(other.reading_) {}
    View& operator=(View&& other) noexcept {
      std::swap(core_, other.core_);
      std::swap(pin_, other.pin_);
      std::swap(value_, other.value_);
      std::swap(reading_, other.reading_);
      return *this;
    }
    ~View() {
      if (core_ != nullptr && reading_) core_->unpin(pin_);
    }

    explicit operator bool() const noexcept { return static_cast<bool>(reading_); }
    const Reading& reading() const noexcept { return reading_; }
    const Element& operator*() const noexcept { return *elements(); }
    const Element* operator->() const noexcept { return elements(); }
    std::span<const Element> values() const noexcept {
      return {elements(), core_->shape().value_bytes / sizeof(Element)};
    }

   private:
    friend Reader;
    View(SlotCore& core, std::uint32_t pin)
        : core_(&core), pin_(pin), reading_(core.pin_latest(pin, value_)) {}
    const Element* elements() const noexcept { return reinterpret_cast<const Element*>(value_); }

    SlotCore* core_;
    std::uint32_t pin_;
    const std::byte* value_ = nullptr;
    Reading reading_;
  };

  /// Owns one pin. Stays where it is while its view is open.
  class Reader {
   public:
    Reader(Reader&& other) noexcept
        : core_(other.core_), pin_(std::exchange(other.pin_, no_place)) {}
    Reader& operator=(Reader&& other) noexcept {
      std::swap(core_, other.core_);
      std::swap(pin_, other.pin_);
      return *this;
    }
    ~Reader() {
      if (pin_ != no_place) core_.release_pin(pin_);
    }

    /// A view of the newest value; test it before use: empty, or busy when this reader's last view
    /// is still open. Lock-free. A stopped reader keeps its buffer; publishers go on with the others.
    View pull() noexcept { return View(core_, pin_); }

   private:
    friend Slot;
    explicit Reader(const SlotCore& core) : core_(core), pin_(core_.claim_pin()) {}
    SlotCore core_;
    std::uint32_t pin_;
  };

  /// Who has buffers now: open views, publications and loans; dead ones too, until somebody recovers
  /// them. For messages ("busy": why?), as in docs/slot.md; it may be over when it is told.
  std::vector<SlotHolder> holders() const { return core_.holders(); }

  /// Registers. Throws Error{too_many}.
  Publisher publisher() { return Publisher(core_); }
  /// Takes a pin. Throws Error{too_many}.
  Reader reader() { return Reader(core_); }

  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept {
    SlotCore::repair(memory, dead);
  }

 private:
  static constexpr std::uint32_t no_place = UINT32_MAX;
  static SlotCore::Shape shape(const Options& options) {
    std::size_t count = 1;
    if constexpr (is_array) count = options.count;
    if (count > (std::size_t{1} << 40) / sizeof(Element)) {
      throw Error(Errc::invalid_argument,
                  "a slot cannot have " + std::to_string(count) + " elements");
    }
    const std::uint32_t buffers =
        options.buffers != 0 ? options.buffers : options.views + options.publishers + 1;
    return {count * sizeof(Element), buffers, options.views, options.publishers, options.timed};
  }

  SlotCore core_;
};

}  // namespace heddle
