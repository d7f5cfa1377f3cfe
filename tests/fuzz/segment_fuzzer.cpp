// Opens a damaged segment and does with it all that a participant may do. It may fail, by an Error
// or a Status; it may not crash, hang, throw anything else, or touch memory outside the mapping.
//
// An input is: which good image (or none: then its remaining bytes are the file), damage to it, what
// to do, and damage in between. At its end comes one of everything. Bytes that are missing are 0.
// Where this format changes, make the inputs in corpus/ anew: each shall still find its mistake.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "fuzz/group_use.hpp"
#include "fuzz/images.hpp"
#include "heddle/run/event_ring.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/shm/segment_file.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace heddle::fuzz {
namespace {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
  bool is_empty() const { return rest_.empty(); }
  std::span<const std::uint8_t> rest() const { return rest_; }

  template <class T>
  T take() {
    T value{};
    const std::size_t bytes = std::min(sizeof value, rest_.size());
    std::memcpy(&value, rest_.data(), bytes);
    rest_ = rest_.subspan(bytes);
    return value;
  }
  std::uint8_t byte() { return take<std::uint8_t>(); }

  /// Mostly over already. Once in an input, if it asks for it, long enough for a look at the
  /// holders: that costs as much time as some inputs without.
  Deadline deadline() { return Deadline::after(patience()); }
  std::chrono::nanoseconds patience() {
    if (byte() < 250 || has_waited_) return std::chrono::nanoseconds(0);
    has_waited_ = true;
    return std::chrono::microseconds(1100);
  }

 private:
  std::span<const std::uint8_t> rest_;
  bool has_waited_ = false;
};

// Changes one word of an image. `read` and `write` go to a private copy or to the living file.
template <class Read, class Write>
void damage(const Image& image, Input& input, Read&& read, Write&& write) {
  const Image::Region& region = image.regions[input.byte() % image.regions.size()];
  const std::size_t words = region.bytes / 4 - 1;
  const std::size_t offset = region.offset + input.take<std::uint16_t>() % words * 4;
  std::uint64_t word = read(offset);
  std::size_t bytes = 8;
  switch (input.byte() % 8) {
    case 0:
      word = input.take<std::uint64_t>();
      break;
    case 1:
      word = input.take<std::uint32_t>();
      bytes = 4;
      break;
    case 2:
      word ^= std::uint64_t{1} << input.byte() % 64;
      break;
    case 3:  // an owner, where most words have it
      word = (word & ~std::uint64_t{0x3ff}) | (input.byte() & 15);
      break;
    case 4:  // an owner, where a queue's slot has it, and a state
      word = (word & ~std::uint64_t{0x1fff}) | (input.byte() & 15) << 3 | (input.byte() & 7);
      break;
    case 5:  // an owner, where a pin has it
      word = (word & ~(std::uint64_t{0xffff} << 48)) | std::uint64_t{input.byte()} << 48;
      break;
    case 6:
      word = 0 - std::uint64_t{input.byte()};
      break;
    default:  // what stands somewhere else
      word = read(region.offset + input.take<std::uint16_t>() % words * 4);
      break;
  }
  write(offset, word, bytes);
}

template <class T>
struct SlotUse {
  using Element = typename Slot<T>::Element;
  std::optional<Slot<T>> slot;
  std::optional<typename Slot<T>::Publisher> publisher;
  std::optional<typename Slot<T>::Reader> reader;
  std::optional<typename Slot<T>::View> view;
  std::optional<typename Slot<T>::Loan> loan;

  static constexpr unsigned choices = 19;
  void use(Segment& segment, const char* name, unsigned choice, Input& input) {
    if (!slot) slot.emplace(segment.find<Slot<T>>(name, input.patience()));
    std::vector<Element> values(slot->count());
    const auto value = [&]() -> decltype(auto) {  // as the slot's functions take it
      if constexpr (std::is_array_v<T>) {
        return std::span(values);
      } else {
        return (values[0]);
      }
    };
    switch (choice) {
      case 0:
        static_cast<void>(slot->pull(value()));
        break;
      case 1:
        loan.reset();
        publisher.emplace(slot->publisher());
        break;
      case 2:
      case 3:
        if (publisher) static_cast<void>(publisher->publish(value()));
        break;
      case 4:
        view.reset();
        reader.emplace(slot->reader());
        break;
      case 5:
        if (!reader) break;
        view.reset();
        view.emplace(reader->pull());
        if (*view) std::copy_n(view->values().begin(), values.size(), values.begin());
        break;
      case 6:
        static_cast<void>(slot->wait_newer(slot->version(), input.deadline()));
        break;
      case 7:
        if constexpr (std::is_array_v<T>) {
          const std::size_t first = input.take<std::uint16_t>();
          const std::size_t size = std::min<std::size_t>(input.byte(), values.size());
          static_cast<void>(slot->pull(first, std::span(values).first(size)));
        }
        break;
      case 8:
      case 9:
        if (!publisher) break;
        loan.reset();
        loan.emplace(publisher->loan());
        if (*loan) std::copy(values.begin(), values.end(), loan->values().begin());
        break;
      case 10:
        if (loan) static_cast<void>(loan->commit());
        break;
      case 11:
        if (loan) static_cast<void>(loan->compare_and_commit(slot->version()));
        break;
      case 12:
        loan.reset();
        break;
      case 13:
        if (publisher) static_cast<void>(publisher->compare_and_publish(slot->version(), value()));
        break;
      case 14:
        static_cast<void>(slot->pull_fresh(value(), input.deadline()));
        break;
      case 15:
        if (publisher) static_cast<void>(publisher->wait_for_request(input.deadline()));
        break;
      case 16:
        for (const SlotHolder& holder : slot->holders()) {
          static_cast<void>(segment.participant(holder.owner));
        }
        break;
      case 17:
        view.reset();
        reader.reset();
        break;
      default:
        loan.reset();
        publisher.reset();
        break;
    }
  }
};

struct BarrierUse {
  std::optional<Barrier> barrier;
  Barrier::Party party;

  static constexpr unsigned choices = 5;
  void use(Segment& segment, const char* name, unsigned choice, Input& input) {
    if (!barrier) barrier.emplace(segment.find<Barrier>(name, input.patience()));
    std::array<Owner, 3> owners;
    switch (choice) {
      case 0:
        static_cast<void>(barrier->missing(owners) + barrier->members() + barrier->epoch());
        break;
      case 1:
        party = barrier->join(input.deadline());
        break;
      case 2:
        static_cast<void>(party.arrive_and_wait(input.deadline()));
        break;
      case 3:
        static_cast<void>(party.arrive());
        break;
      default:
        party.leave();
        break;
    }
  }
};

// One participant, and all that it holds.
class Member {
 public:
  explicit Member(Segment segment) : segment_(std::move(segment)) {}

  void use(Input& input) {
    const unsigned kind = static_cast<unsigned>(input.byte() % kinds.size());
    use(kind, input.byte() % kinds[kind].choices, input);
  }
  void use_everything(Input& input) {
    for (unsigned kind = 0; kind < kinds.size(); ++kind) {
      for (unsigned choice = 0; choice < kinds[kind].choices; ++choice) use(kind, choice, input);
    }
  }

 private:
  struct Kind {
    unsigned choices;
    void (*use)(Member&, unsigned choice, Input&);
  };
  static const std::array<Kind, 11> kinds;

  void use(unsigned kind, unsigned choice, Input& input) {
    try {
      kinds[kind].use(*this, choice, input);
    } catch (const Error&) {
      // A clear answer, as a Status is.
    }
  }

  void use_segment(unsigned choice, Input& input) {
    std::size_t bytes = 0;
    switch (choice) {
      case 0:
        static_cast<void>(segment_.recover_dead());
        break;
      case 1:
        segment_.directory().for_each(
            [&](std::string_view name, const Directory::Spec& spec, std::span<std::byte> memory) {
              bytes += name.size() + std::strlen(to_string(spec.kind)) + memory.size();
            });
        break;
      case 2:
        static_cast<void>(segment_.participants());
        break;
      case 3:
        segment_.open<SharedBuffer<std::byte>>(half_made, {64}, input.patience());
        break;
      default:
        segment_.open<SharedBuffer<std::byte>>("new " + std::to_string(input.byte() % 4),
                                               {input.take<std::uint32_t>() + 1UL},
                                               input.patience());
        break;
    }
  }

  void use_queue(unsigned choice, Input& input) {
    if (!queue_) queue_.emplace(segment_.find<TaskQueue<Job>>(job_queue, input.patience()));
    switch (choice) {
      case 0:
        static_cast<void>(queue_->count());
        break;
      case 1:
        static_cast<void>(queue_->try_push(Job::of(1)));
        break;
      case 2:
      case 3:
        task_ = queue_->try_pop();
        break;
      case 4:
        static_cast<void>(task_ && task_.payload().whole() && task_.tries() + task_.id() != 0);
        static_cast<void>(task_.complete());
        break;
      case 5:
        static_cast<void>(task_.fail());
        break;
      case 6:
        static_cast<void>(queue_->push(Job::of(2), input.deadline()));
        break;
      case 7:
        task_ = queue_->pop(input.deadline());
        break;
      case 8:
        for (unsigned more = input.byte(); more-- > 0;) {
          static_cast<void>(queue_->try_push(Job::of(more)));
        }
        break;
      case 9:
        for (unsigned more = input.byte(); more-- > 0;) {
          if (Task<Job> task = queue_->try_pop()) static_cast<void>(task.complete());
        }
        break;
      case 10:
        reserve(input);
        break;
      case 11:
        if (reservation_) static_cast<void>(reservation_->commit());
        reservation_.reset();
        break;
      case 12:
        if (reservation_) static_cast<void>(reservation_->cancel());
        reservation_.reset();
        break;
      default:
        static_cast<void>(queue_->close());
        break;
    }
  }

  void use_bytes_queue(unsigned choice, Input& input) {
    if (!notes_) notes_.emplace(segment_.find<TaskQueue<bytes>>(bytes_queue, input.patience()));
    std::array<std::byte, 64> room{};
    const auto some = [&] { return std::span(room).first(input.byte() % 32); };
    // Where a push may go, and some that it may not.
    const auto how = [&] {
      PushOptions options{.lane = input.byte() % 4U};
      if (const std::uint8_t delay = input.byte(); delay >= 192) {
        options.delay = std::chrono::nanoseconds(input.take<std::int64_t>());
      } else if (delay >= 128) {
        options.delay = std::chrono::microseconds(1);
      }
      return options;
    };
    // One of those that it may have given, or any.
    const auto id = [&]() -> TaskId {
      return input.byte() < 192 ? input.byte() : input.take<std::uint64_t>();
    };
    std::size_t length = 0;
    switch (choice) {
      case 0:
        static_cast<void>(notes_->stats());
        break;
      case 1:
        static_cast<void>(notes_->try_push(some(), how()));
        break;
      case 2: {
        const std::span<const std::byte> value = some();
        const Deadline deadline = input.deadline();
        static_cast<void>(notes_->push(value, deadline, how()));
        break;
      }
      case 3:
      case 4:
        noted_task_ = notes_->try_pop();
        break;
      case 5:
        noted_task_ = notes_->pop(input.deadline());
        break;
      case 6:
        if (noted_task_) {  // all that it says that it has
          for (const std::byte one : noted_task_.payload())
            length += std::to_integer<unsigned>(one);
          static_cast<void>(noted_task_.tries() + noted_task_.id() + length);
        }
        static_cast<void>(noted_task_.complete(some()));
        break;
      case 7:
        static_cast<void>(
            noted_task_.fail(std::string_view("a reason that is longer than there is room")
                                 .substr(input.byte() % 40),
                             how().delay));
        break;
      case 8:
        static_cast<void>(noted_task_.extend());
        break;
      case 9:
        static_cast<void>(noted_task_.release());
        break;
      case 10:
        if (notes_->result(id(), some(), length, input.deadline()) == Status::ready &&
            length > 12) {
          std::abort();  // there never was one so long
        }
        break;
      case 11:
        for (const DeadLetter& letter : notes_->dead_letters()) {
          if (letter.reason.size() > LeaseNote::reason_bytes) std::abort();
          if (input.byte() % 4 == 0) static_cast<void>(notes_->retry(letter.id));
          if (input.byte() % 4 == 0) static_cast<void>(notes_->drop(letter.id));
        }
        break;
      case 12:
        static_cast<void>(notes_->retry(id()));
        break;
      case 13:
        static_cast<void>(notes_->drop(id()));
        break;
      case 14: {
        const Deadline deadline = input.deadline();
        slot_.reset();
        slot_.emplace(notes_->reserve(deadline, how()));
        break;
      }
      case 15:
        if (slot_ && *slot_)
          std::fill(slot_->payload().begin(), slot_->payload().end(), std::byte{7});
        if (slot_) static_cast<void>(slot_->commit(input.byte() % 32));
        break;
      case 16:
        slot_.reset();
        break;
      case 17: {
        std::array<Task<bytes>, 3> tasks;
        static_cast<void>(notes_->pop_n(tasks, input.deadline()));
        break;
      }
      case 18:
        for (unsigned more = input.byte(); more-- > 0;) {
          if (Task<bytes> task = notes_->try_pop()) static_cast<void>(task.complete());
        }
        break;
      case 19:
        static_cast<void>(notes_->close());
        break;
      default:
        static_cast<void>(notes_->reopen());
        break;
    }
  }

  // The first half of a push.
  void reserve(Input& input) {
    const std::span<std::byte> memory =
        segment_.directory().find(job_queue, ObjectKind::task_queue, TaskQueue<Job>::element(),
                                  segment_.peers(), input.deadline());
    const auto shape = LeaseRingShape::of(memory);
    if (!shape) return;
    LeaseRing ring(memory, *shape, segment_.peers());
    LeaseRing::Reservation reservation;
    if (ring.try_reserve(reservation) == Status::ready) reservation_ = reservation;
  }

  void use_board(unsigned choice, Input& input) {
    if (!board_) board_.emplace(segment_.find<Board>(item_board, input.patience()));
    switch (choice) {
      case 0:
        static_cast<void>(board_->is_done(board_->rounds_done()));
        break;
      case 1:
        item_.reset();
        if (std::uint32_t item = 0;
            board_->take(board_->rounds_done() + 1, item, input.deadline()) == Status::ready) {
          item_ = item;
        }
        break;
      default:
        if (item_) board_->finish(*item_);
        item_.reset();
        break;
    }
  }

  void use_events(unsigned choice, Input& input) {
    EventRing ring = segment_.find<EventRing>(event_ring, input.patience());
    WorkerEvent event{};
    static_cast<void>(choice == 0 ? ring.push(event) : ring.pop(event));
  }

  void use_buffer(unsigned choice, Input& input) {
    auto buffer = segment_.find<SharedBuffer<std::uint64_t>>(plain_buffer, input.patience());
    if (buffer.span().empty()) std::abort();  // it has one element at least
    if (choice == 0) buffer[0] += 1;
    std::uint64_t sum = 0;
    for (const std::uint64_t value : buffer.span()) sum += value;
    buffer[buffer.size() - 1] = sum;
  }

  Segment segment_;  // first, since the others need it until they are gone
  SlotUse<Job> job_slot_;
  SlotUse<Weights> weights_slot_;
  std::optional<TaskQueue<Job>> queue_;
  Task<Job> task_;
  std::optional<LeaseRing::Reservation> reservation_;
  std::optional<TaskQueue<bytes>> notes_;
  Task<bytes> noted_task_;
  std::optional<Reservation<bytes>> slot_;  // after notes_, which it needs
  BarrierUse near_, far_;
  std::optional<Board> board_;
  std::optional<std::uint32_t> item_;
  GroupUse group_;
};

const std::array<Member::Kind, 11> Member::kinds{{
    {5, [](Member& m, unsigned choice, Input& input) { m.use_segment(choice, input); }},
    {SlotUse<Job>::choices,
     [](Member& m, unsigned choice, Input& input) {
       m.job_slot_.use(m.segment_, job_slot, choice, input);
     }},
    {SlotUse<Weights>::choices,
     [](Member& m, unsigned choice, Input& input) {
       m.weights_slot_.use(m.segment_, weights_slot, choice, input);
     }},
    {14, [](Member& m, unsigned choice, Input& input) { m.use_queue(choice, input); }},
    {BarrierUse::choices,
     [](Member& m, unsigned choice, Input& input) {
       m.near_.use(m.segment_, near_barrier, choice, input);
     }},
    {BarrierUse::choices, [](Member& m, unsigned choice,
                             Input& input) { m.far_.use(m.segment_, far_barrier, choice, input); }},
    {3, [](Member& m, unsigned choice, Input& input) { m.use_board(choice, input); }},
    {2, [](Member& m, unsigned choice, Input& input) { m.use_events(choice, input); }},
    {2, [](Member& m, unsigned choice, Input& input) { m.use_buffer(choice, input); }},
    {21, [](Member& m, unsigned choice, Input& input) { m.use_bytes_queue(choice, input); }},
    {GroupUse::choices,
     [](Member& m, unsigned choice, Input& input) { m.group_.use(m.segment_, choice, input); }},
}};

FileDescriptor file_of(std::span<const std::byte> bytes) {
  FileDescriptor file(memfd_create("damaged", MFD_CLOEXEC));
  if (write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
  return file;
}

// The whole life of one damaged segment.
void live_in(int fd, const Image& image, Input& input) {
  std::array<std::optional<Member>, 2> members;
  const auto join = [&](std::optional<Member>& member) {
    member.reset();
    try {
      member.emplace(Segment::adopt(fd));
    } catch (const Error&) {
    }
  };
  for (auto& member : members) join(member);
  while (!input.is_empty()) {
    const std::uint8_t what = input.byte();
    auto& member = members[what & 1];
    if (what >= 240) {
      join(member);
    } else if (what >= 160) {
      damage(
          image, input,
          [&](std::size_t offset) {
            std::uint64_t word = 0;
            static_cast<void>(pread(fd, &word, sizeof word, static_cast<off_t>(offset)));
            return word;
          },
          [&](std::size_t offset, std::uint64_t word, std::size_t bytes) {
            // Boost's queue trusts its indices once they were checked (run/event_ring.hpp).
            if (image.events.holds(offset)) return;
            static_cast<void>(pwrite(fd, &word, bytes, static_cast<off_t>(offset)));
          });
    } else if (member) {
      member->use(input);
    }
  }
  for (auto& member : members) {
    if (member) member->use_everything(input);
  }
}

// The same image under a name: found, refused as long as somebody is in it, replaced, cleared away.
void find_by_name(int fd, Input& input) {
  static const std::string name = "fuzz-" + std::to_string(getpid());
  const auto attempt = [](auto&& call) {
    try {
      call();
    } catch (const Error&) {
    }
  };
  unlink(segment_path(name).c_str());  // left by a process of this number that crashed
  const FileDescriptor named = make_segment_file(FileFor::naming, 1);
  const off_t bytes = lseek(fd, 0, SEEK_END);
  std::vector<std::byte> image(static_cast<std::size_t>(bytes));
  static_cast<void>(pread(fd, image.data(), image.size(), 0));
  static_cast<void>(!ftruncate(named.get(), bytes));
  static_cast<void>(pwrite(named.get(), image.data(), image.size(), 0));
  if (!name_segment_file(named.get(), segment_path(name))) std::abort();
  attempt([&] {
    Member member(Segment::open(name));
    attempt([&] { Segment::create(name, {.bytes = 64, .participants = 1, .objects = 1}); });
    member.use(input);
  });
  attempt([&] { Segment::create(name, {.bytes = 64, .participants = 1, .objects = 1}); });
  Segment::clear_abandoned(name);
  unlink(segment_path(name).c_str());  // what is no segment stays
}

}  // namespace

}  // namespace heddle::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace heddle::fuzz;
  using heddle::SegmentHeader;
  Input input(data, size);
  const std::uint8_t which = input.byte();
  const std::span<const Image> images = good_images();
  const Image& image = images[which % images.size()];
  std::vector<std::byte> bytes = image.bytes;
  if (which >= 240) {
    const auto raw = std::as_bytes(input.rest());
    bytes.assign(raw.begin(), raw.end());
    input = Input(nullptr, 0);
  } else {
    for (unsigned words = input.byte() % 16; words > 0; --words) {
      damage(
          image, input,
          [&](std::size_t offset) {
            std::uint64_t word = 0;
            std::memcpy(&word, bytes.data() + offset, 8);
            return word;
          },
          [&](std::size_t offset, std::uint64_t word, std::size_t length) {
            std::memcpy(bytes.data() + offset, &word, length);
          });
    }
    const std::uint8_t size_damage = input.byte();
    if (size_damage >= 192) {  // shorter or longer than the header says, or as it says then
      const std::uint64_t length = bytes.size() * (size_damage % 32) / 24;
      bytes.resize(std::max(length, sizeof(SegmentHeader)));
      if (size_damage < 224) {
        std::memcpy(bytes.data() + offsetof(SegmentHeader, total_bytes), &length, sizeof length);
      }
    }
  }
  const heddle::FileDescriptor file = file_of(bytes);
  if (which % 32 == 31) {
    find_by_name(file.get(), input);
  } else {
    live_in(file.get(), image, input);
  }
  return 0;
}
