// Kill storms: many processes at work in one segment, one of them killed every few milliseconds and
// started again, and at the end everything is accounted for.
//
// Environment: HEDDLE_STORM=120       seconds that each storm lasts
//              HEDDLE_STORM_SEED=5    whom it kills and when; it prints its own
//
// What a killed process had done is known from a ledger, in which each writes before and after.

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <optional>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/shm/segment_file.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/environment.hpp"
#include "support/job.hpp"
#include "support/ledger.hpp"
#include "support/process.hpp"
#include "support/ring_of.hpp"
#include "support/sample.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::eventually;
using test::fill;
using test::Job;
using test::Ledger;
using test::Line;
using test::number_from_environment;
using test::Process;
using test::ring_of;
using test::Sample;

using Count = std::atomic<std::uint64_t>;
using Queue = TaskQueue<Job>;
using Mail = TaskQueue<bytes>;
using Values = Slot<Sample>;

Deadline long_enough() { return Deadline::after(test::patience); }

// In the middle of everything, so that most deaths are there. Up to some microseconds.
void linger(std::uint64_t number) {
  for (std::uint64_t i = number * 7 % 64; i != 0; --i) heddle::pause();
}

// Now and then, so that those who are killed and started get a core.
void rest() { std::this_thread::sleep_for(100us); }

// The first to write decides, and zero is nothing. Whether `mine` is what all have written.
template <class T>
bool agree(std::atomic<T>& all, T mine) {
  T before = 0;
  return all.compare_exchange_strong(before, mine) || before == mine;
}

enum class Role : std::size_t {
  producer,
  consumer,
  asker,
  answerer,
  publisher,
  copier,
  viewer,
  party,
  maker,
  guest
};
constexpr std::array role_names = {"producer", "consumer", "asker", "answerer", "publisher",
                                   "copier",   "viewer",   "party", "maker",    "guest"};
using PerRole = std::array<Count, role_names.size()>;

enum class Phase : int { running, ending, sources_ending };

// What all processes of a storm write to.
struct Common {
  std::atomic<Phase> phase;
  PerRole done;  // tasks, pushes, publications, pulls, epochs, objects, visits
  Count tasks, letters, values, published, newest, names, made;
  Count answers_read, answers_gone;
  std::array<Count, 64> held;  // by process: the task that it works on, plus 1
  std::atomic<bool> complained;
  std::array<char, 1024> complaint;
};

struct TaskRecord {
  enum Push : std::uint8_t { unknown, pushed, taken_back };
  std::atomic<std::uint8_t> push;
  std::atomic<std::uint8_t> done;     // how often somebody has done it
  std::atomic<std::uint8_t> ended;    // how often somebody was told that it is complete
  std::atomic<std::uint8_t> excused;  // how often somebody was killed who had it
};

// What an asker sends, and what the answer has to be: bytes of a length and a content that follow from the
// number. The longest are 64 and 24.
struct Letter {
  static Letter question(std::uint64_t number) { return of(number, 8 + number % 57, 31); }
  static Letter answer(std::uint64_t number) { return of(number, 8 + number % 17, 77); }
  static Letter of(std::uint64_t number, std::size_t length, std::uint64_t salt) {
    Letter letter{{}, length};
    std::memcpy(letter.room.data(), &number, sizeof number);
    for (std::size_t i = sizeof number; i < length; ++i) {
      letter.room[i] = static_cast<std::byte>(number * salt + i);
    }
    return letter;
  }
  std::span<const std::byte> bytes() const { return std::span(room).first(length); }
  bool is(std::span<const std::byte> other) const {
    return std::equal(bytes().begin(), bytes().end(), other.begin(), other.end());
  }
  std::array<std::byte, 64> room;
  std::size_t length;
};

// Whoever passes notes how many had arrived by then: were it fewer than in the end, it would have
// passed early.
struct EpochRecord {
  std::atomic<std::uint32_t> arrived;
  std::atomic<std::uint32_t> seen;     // by those who passed: 0, or the same for all
  std::atomic<std::uint32_t> outcome;  // likewise
  static std::uint32_t as_number(const Barrier::Outcome& outcome) {
    return 1 + static_cast<std::uint32_t>(outcome.status) * 2048 +
           static_cast<std::uint32_t>(outcome.died.bits());
  }
  static Status status(std::uint32_t number) { return static_cast<Status>((number - 1) / 2048); }
};

// An object that is made slowly, and says who has made it.
struct Made {
  struct Options {
    std::uint64_t name;
    std::uint64_t making;  // drawn: no two are the same
  };
  static constexpr ObjectKind kind = ObjectKind::buffer;
  static constexpr ElementType element() { return element_type<std::uint64_t>(); }
  static std::size_t bytes(const Options& /*options*/) { return 8 * sizeof(std::uint64_t); }
  static void format(std::span<std::byte> memory, const Options& options) {
    auto* words = reinterpret_cast<std::uint64_t*>(memory.data());
    for (std::uint64_t i = 0; i < 8; ++i) {
      words[i] = options.making * 8 + i;
      rest();
    }
    words[0] = options.name;
  }
  Made(std::span<std::byte> memory, Peers& /*peers*/)
      : words(reinterpret_cast<const std::uint64_t*>(memory.data())) {}
  std::uint64_t making() const { return words[1] / 8; }
  bool whole(std::uint64_t name) const {
    for (std::uint64_t i = 1; i < 8; ++i) {
      if (words[i] != making() * 8 + i) return false;
    }
    return words[0] == name;
  }
  const std::uint64_t* words;
};

class Storm : public testing::Test {
 protected:
  // ---- what it asks of the environment, and the room that this takes
  static constexpr std::uint64_t longest = 600;
  const std::uint64_t asked_ =
      number_from_environment("HEDDLE_STORM", "the seconds of each storm", 1, longest).value_or(0);
  const std::uint64_t seed_ =
      number_from_environment("HEDDLE_STORM_SEED", "a number", 0, UINT64_MAX)
          .value_or(std::random_device{}());
  std::chrono::seconds usually(std::uint64_t usual) const {
    return std::chrono::seconds(asked_ != 0 ? asked_ : usual);
  }

  void SetUp() override {
    const std::uint64_t room = 4 * std::max<std::uint64_t>(asked_, 4);  // seconds
    tasks_.emplace(room * 2'000'000);
    letters_.emplace(room * 2'000'000);
    values_.emplace(room * 1'000'000);
    versions_.emplace(room * 1'000'000);
    epochs_.emplace(room * 2'000'000);
    objects_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(room * 256, 16384));
    makings_.emplace(objects_);
  }

  // ---- the roles. Each goes on until it is told to stop, or killed.

  bool goes_on(Phase until) const { return common_->phase < until; }
  void done(Role role) const { common_->done[static_cast<std::size_t>(role)].fetch_add(1); }
  // The first complaint of all processes ends the storm.
  void complain(const std::string& text) const {
    if (common_->complained.exchange(true)) return;
    text.copy(common_->complaint.data(), common_->complaint.size() - 1);
  }
  void expect(bool holds, const char* text, std::uint64_t number = 0) const {
    if (holds) return;
    complain(std::string(text) + " (" + std::to_string(number) + ")");
    _exit(1);
  }

  void produce(Segment& own) const {
    LeaseRing ring = ring_of<Job>(own, "queue");
    while (goes_on(Phase::sources_ending)) {
      const std::uint64_t number = common_->tasks.fetch_add(1);
      TaskRecord& record = (*tasks_)[number];
      LeaseRing::Reservation slot;
      expect(ring.reserve(slot, long_enough()) == Status::ready, "no room for a task", number);
      const Job job = Job::of(number);
      fill(slot, job, sizeof(Job) / 2);
      linger(number);
      if (number % 32 == 7) {
        record.push = TaskRecord::taken_back;
        expect(slot.cancel() == Status::ready, "a push could not be taken back", number);
        continue;
      }
      fill(slot, job);
      expect(slot.commit() == Status::ready, "a push was lost by a living producer", number);
      record.push = TaskRecord::pushed;
      done(Role::producer);
      if (number % 32 == 0) rest();
    }
  }

  void consume(Segment& own, std::size_t me) const {
    auto queue = own.find<Queue>("queue");
    for (;;) {
      Task<Job> task = queue.pop(long_enough());
      if (task.status() == Status::closed) return;
      expect(static_cast<bool>(task), "a consumer waited in vain");
      const std::uint64_t number = task.payload().number;
      expect(task.payload().whole(), "a torn task", number);
      expect(number < common_->tasks, "a task that nobody has pushed", number);
      TaskRecord& record = (*tasks_)[number];
      common_->held[me] = number + 1;
      for (std::uint64_t i = 0; i < 4; ++i) linger(number + i);
      if (number % 32 == 3 && task.tries() == 1) {
        expect(task.fail() == Status::ready, "a lease was lost by a living consumer", number);
      } else {
        ++record.done;
        linger(number / 64);
        expect(task.payload().whole(), "a leased task was overwritten", number);
        expect(task.complete() == Status::ready, "a lease was lost by a living consumer", number);
        ++record.ended;
        done(Role::consumer);
      }
      common_->held[me] = 0;
    }
  }

  // Sends questions, in place or not, at once or later, and takes some back; reads every other answer.
  void ask(Segment& own) const {
    auto mail = own.find<Mail>("mail");
    while (goes_on(Phase::sources_ending)) {
      const std::uint64_t number = common_->letters.fetch_add(1);
      TaskRecord& record = (*letters_)[number];
      const Letter question = Letter::question(number);
      const PushOptions how{.lane = number % 4 == 0 ? 0U : 1U,
                            .delay = number % 64 == 5 ? std::chrono::nanoseconds(1ms) : 0ns};
      Pushed pushed;
      if (number % 2 == 0) {
        pushed = mail.push(question.bytes(), long_enough(), how);
      } else {
        Reservation<bytes> slot = mail.reserve(long_enough(), how);
        expect(static_cast<bool>(slot), "no room for a letter", number);
        std::copy(question.bytes().begin(), question.bytes().end(), slot.payload().begin());
        linger(number);
        if (number % 32 == 7) {
          record.push = TaskRecord::taken_back;
          slot.abandon();
          continue;
        }
        pushed = slot.commit(question.length);
      }
      expect(static_cast<bool>(pushed), "a letter was lost by a living asker", number);
      record.push = TaskRecord::pushed;
      done(Role::asker);
      if (number / 2 % 2 == 0) read_answer(mail, pushed.id, number);
      if (number % 32 == 0) rest();
    }
  }
  void read_answer(Mail& mail, TaskId id, std::uint64_t number) const {
    std::array<std::byte, 24> room{};
    std::size_t length = 0;
    const Status got = mail.result(id, room, length, long_enough());
    expect(got != Status::timeout, "an asker waited in vain", number);
    expect(got == Status::ready || got == Status::expired, to_string(got), number);
    if (got == Status::expired) {  // by those that came after it
      ++common_->answers_gone;
      return;
    }
    expect(length <= room.size(), "an answer longer than any", number);
    expect(Letter::answer(number).is(std::span(room).first(length)), "a wrong answer", number);
    ++common_->answers_read;
  }

  void answer(Segment& own, std::size_t me) const {
    auto mail = own.find<Mail>("mail");
    for (;;) {
      Task<bytes> task = mail.pop(long_enough());
      if (task.status() == Status::closed) return;
      expect(static_cast<bool>(task), "an answerer waited in vain");
      std::uint64_t number = 0;
      expect(task.payload().size() >= sizeof number, "a letter without a number");
      std::memcpy(&number, task.payload().data(), sizeof number);
      expect(number < common_->letters, "a letter that nobody has sent", number);
      TaskRecord& record = (*letters_)[number];
      common_->held[me] = number + 1;
      // It may have been late by now, and the slot be another's: then no ending of it counts.
      const bool whole = Letter::question(number).is(task.payload());
      for (std::uint64_t i = 0; i < 4; ++i) linger(number + i);
      if (task.tries() == 1 && number % 512 == 9) std::this_thread::sleep_for(15ms);  // is late
      Status ended = Status::ready;
      if (task.tries() == 1 && number % 32 == 3) {
        ended = task.fail("not at the first try", number % 64 == 3 ? 500us : 0us);
      } else if (task.tries() == 1 && number % 32 == 4) {
        ended = task.release();
      } else {
        ++record.done;
        if (number % 16 == 0) static_cast<void>(task.extend());
        ended = task.complete(Letter::answer(number).bytes());
        if (ended == Status::ready) {
          expect(whole, "a torn letter", number);
          ++record.ended;
          done(Role::answerer);
        }
      }
      // Who was not at work for as long as a lease lasts has lost it, and others do it again.
      expect(ended == Status::ready || ended == Status::lost_lease, to_string(ended), number);
      if (ended == Status::lost_lease) ++record.excused;
      common_->held[me] = 0;
    }
  }

  void publish(Segment& own) const {
    auto slot = own.find<Values>("values");
    auto publisher = slot.publisher();
    while (goes_on(Phase::sources_ending)) {
      const std::uint64_t number = common_->values.fetch_add(1) + 1;
      const Status status = publish_somehow(slot, publisher, number);
      if (status == Status::overtaken) {
        give_up(number);
      } else {
        expect(status == Status::ready, "a buffer is lost", number);
        ++common_->published;
        done(Role::publisher);
      }
      linger(number);
      if (number % 32 == 0) rest();
      if (number % 32 == 16) {
        static_cast<void>(publisher.wait_for_request(Deadline::after(100us)));
      }
    }
  }

  // As a copy or in place, upon any version or upon one; `overtaken` also if it has changed its mind.
  Status publish_somehow(Values& slot, Values::Publisher& publisher, std::uint64_t number) const {
    const bool in_place = number % 2 == 0;
    const bool conditional = number % 3 == 0;
    const Version before = slot.version();
    Status status = Status::ready;
    if (in_place) {
      auto loan = publisher.loan();
      if (!loan) return loan.status();
      loan->words[0] = number;
      linger(number);
      loan->fill(number);
      if (number % 16 == 2) return Status::overtaken;
      status = conditional ? loan.compare_and_commit(before) : loan.commit();
    } else {
      Sample sample;
      sample.fill(number);
      linger(number);
      status =
          conditional ? publisher.compare_and_publish(before, sample) : publisher.publish(sample);
    }
    if (conditional && status == Status::ready) {
      expect(agree((*versions_)[number], before + 1), "published upon another version", number);
    }
    return status;
  }

  // A value that nobody may ever see.
  void give_up(std::uint64_t number) const {
    expect(agree((*versions_)[number], UINT64_MAX), "a value was given up, and seen", number);
  }

  // `newest` was the newest version that anybody had seen before this pull.
  void check(const Reading& reading, const Sample& sample, Version newest) const {
    expect(reading.status == Status::ready, "no value", newest);
    expect(sample.whole(), "a torn value", reading.version);
    expect(reading.version >= newest, "an older version after a newer one", reading.version);
    const std::uint64_t number = sample.words[0];
    expect(number != 0 && number <= common_->values, "a value that nobody has published", number);
    expect(agree((*values_)[reading.version], number), "a version of two values", reading.version);
    expect(agree((*versions_)[number], reading.version), "a value of two versions", number);
    for (newest = common_->newest;
         newest < reading.version &&
         !common_->newest.compare_exchange_weak(newest, reading.version);) {
    }
  }

  void copy(Segment& own) const {
    auto slot = own.find<Values>("values");
    Sample sample;
    Version last = 0;
    for (std::uint64_t turn = 0; goes_on(Phase::ending); ++turn) {
      const bool asks = turn % 4 == 0;
      if (!asks) {
        // peer_died: the publishers are dead, and others not yet there
        const Status told = slot.wait_newer(last, long_enough());
        expect(told == Status::ready || told == Status::peer_died, "no newer version came", last);
      }
      const Version newest = common_->newest;
      const Version before = slot.version();
      const Reading reading = asks ? slot.pull_fresh(sample, long_enough()) : slot.pull(sample);
      if (asks && reading.status == Status::peer_died) continue;
      if (reading.status == Status::empty && newest == 0) continue;
      check(reading, sample, newest);
      expect(!asks || reading.version > before, "an answer from before the question", before);
      last = reading.version;
      done(Role::copier);
    }
  }

  void view(Segment& own) const {
    auto slot = own.find<Values>("values");
    auto reader = slot.reader();
    while (goes_on(Phase::ending)) {
      const Version newest = common_->newest;
      const auto view = reader.pull();
      if (view.reading().status == Status::empty && newest == 0) continue;
      check(view.reading(), *view, newest);
      linger(view.reading().version);
      check(view.reading(), *view, newest);
      const auto holders = slot.holders();
      const bool is_told = std::any_of(holders.begin(), holders.end(), [&](const SlotHolder& one) {
        return one.owner == own.peers().self() && one.what == SlotHolder::What::view &&
               one.version == view.reading().version;
      });
      expect(is_told, "an open view has no holder", view.reading().version);
      done(Role::viewer);
      if (common_->newest % 32 == 0) rest();
    }
  }

  void take_part(Segment& own) const {
    auto party = own.find<Barrier>("barrier").join(long_enough());
    std::uint64_t epoch = party.wait(long_enough()).epoch;  // in which it came
    while (goes_on(Phase::ending)) {
      EpochRecord& record = (*epochs_)[++epoch];
      record.arrived.fetch_add(1);
      const Barrier::Outcome outcome = party.arrive_and_wait(long_enough());
      expect(outcome.status != Status::timeout, "a party waited in vain", epoch);
      expect(outcome.epoch == epoch, "a party is in another epoch than it thinks", epoch);
      expect(agree(record.seen, record.arrived.load()), "a party has passed early", epoch);
      expect(agree(record.outcome, EpochRecord::as_number(outcome)), "two outcomes", epoch);
      done(Role::party);
    }
  }

  // Three makings are for the same name, most often at the same time. When all names are made, it
  // looks at them again.
  void make(Segment& own) const {
    while (goes_on(Phase::ending)) {
      const std::uint64_t name = common_->names.fetch_add(1) / 3 % objects_names();
      const auto made =
          own.open<Made>("made " + std::to_string(name), {name, ++common_->made}, test::patience);
      expect(made.whole(name), "a half-made object", name);
      expect(agree((*makings_)[name], made.making()), "an object was made twice", name);
      done(Role::maker);
      rest();
    }
  }
  std::uint64_t objects_names() const { return objects_ - 8; }

  // Comes, recovers whoever is dead, and goes.
  void visit() const {
    while (goes_on(Phase::ending)) {
      Segment own = Segment::open(name_);
      own.recover_dead();
      expect(!own.participants().empty(), "nobody is there");
      done(Role::guest);
      rest();
    }
  }

  void play(Role role, std::size_t me) const noexcept {
    try {
      if (role == Role::guest) return visit();
      Segment own = Segment::open(name_);
      switch (role) {
        case Role::producer:
          return produce(own);
        case Role::consumer:
          return consume(own, me);
        case Role::asker:
          return ask(own);
        case Role::answerer:
          return answer(own, me);
        case Role::publisher:
          return publish(own);
        case Role::copier:
          return copy(own);
        case Role::viewer:
          return view(own);
        case Role::party:
          return take_part(own);
        case Role::maker:
          return make(own);
        case Role::guest:
          return;
      }
    } catch (const std::exception& error) {
      complain(error.what());
    }
  }

  // ---- the storm

  struct Part {
    Role role;
    Process process;
  };

  Process start(Role role, std::size_t me) const {
    return Process([this, role, me](Line&) { play(role, me); });
  }
  bool plays(Role role) const {
    return std::any_of(cast_.begin(), cast_.end(), [&](const Part& p) { return p.role == role; });
  }
  std::uint64_t killed(Role role) const { return kills_[static_cast<std::size_t>(role)]; }
  std::uint64_t total(Role role) const { return common_->done[static_cast<std::size_t>(role)]; }

  void run(std::chrono::seconds length, const std::vector<Role>& cast,
           const Barrier::Options& barrier = {3, 6, Barrier::OnDeath::report}) {
    const Values::Options slot{.views = 2, .publishers = 2};
    segment_ =
        Segment::create(name_, {.bytes = (std::size_t{2} << 20) + objects_ * std::size_t{1024},
                                .participants = static_cast<std::uint32_t>(2 * cast.size()),
                                .objects = objects_});
    queue_.emplace(segment_->open<Queue>("queue", {64}));
    mail_.emplace(segment_->open<Mail>("mail", {.payload_bytes = 64,
                                                .capacity = 64,
                                                .lanes = 2,
                                                .max_tries = 1000,
                                                .lease_timeout = 2ms,
                                                .result_bytes = 24}));
    slot_.emplace(segment_->open<Values>("values", slot));
    barrier_.emplace(segment_->open<Barrier>("barrier", barrier));
    for (std::size_t i = 0; i < cast.size(); ++i) cast_.push_back({cast[i], start(cast[i], i)});

    const auto began = std::chrono::steady_clock::now();
    rage(length);
    const std::chrono::duration<double> lasted = std::chrono::steady_clock::now() - began;
    end();
    if (common_->complained) ADD_FAILURE() << common_->complaint.data() << "\n" << then_;
    if (HasFailure()) return;
    if (plays(Role::consumer)) account_for(*tasks_, common_->tasks);
    if (plays(Role::answerer)) account_for_letters();
    if (plays(Role::publisher)) account_for_values();
    if (plays(Role::party)) account_for_epochs();
    print(lasted.count());
    nothing_is_left();
  }

  void rage(std::chrono::seconds length) {
    constexpr auto between = 5ms;  // kills, on average. On a busy machine fewer, and for longer
    const auto enough = static_cast<std::uint64_t>(length / (4 * between));
    std::mt19937_64 random(seed_);
    const auto now = [] { return std::chrono::steady_clock::now(); };
    std::array<std::uint64_t, role_names.size()> seen{};
    auto moved = std::vector(role_names.size(), now());
    const auto end = now() + length;
    for (auto next = now(); (now() < end || kills_in_all() < enough) && !common_->complained;) {
      next += std::chrono::microseconds(random() % (2 * (between / 1us)));
      std::this_thread::sleep_until(next);
      const std::size_t i = random() % cast_.size();
      Part& victim = cast_[i];
      victim.process.kill();
      if (victim.process.join() != -SIGKILL) {
        complain(std::string("a ") + role_names[static_cast<std::size_t>(victim.role)] +
                 " ended by itself: " + std::to_string(victim.process.join()));
      }
      ++kills_[static_cast<std::size_t>(victim.role)];
      if (const std::uint64_t held = common_->held[i].exchange(0)) {
        ++(victim.role == Role::answerer ? *letters_ : *tasks_)[held - 1].excused;
      }
      victim.process = start(victim.role, i);

      // Nobody hangs: a role in which nothing was done for so long does.
      for (const Part& part : cast_) {
        const auto role = static_cast<std::size_t>(part.role);
        if (seen[role] != common_->done[role]) moved[role] = now();
        seen[role] = common_->done[role];
        if (now() - moved[role] < test::patience) continue;
        complain(std::string("no ") + role_names[role] + " gets on");
      }
    }
  }

  // Those who wait for others end before them.
  void end() {
    common_->phase = Phase::ending;
    await([](Role role) { return role > Role::publisher; });
    common_->phase = Phase::sources_ending;
    await([](Role role) {
      return role == Role::producer || role == Role::asker || role == Role::publisher;
    });
    EXPECT_EQ(queue_->close(), Status::ready);
    EXPECT_EQ(mail_->close(), Status::ready);
    await([](Role role) { return role == Role::consumer || role == Role::answerer; });
  }
  template <class Which>
  void await(Which&& which) {
    const auto ended = [&](const Part& part) {
      siginfo_t info{};
      const auto id = static_cast<id_t>(part.process.pid());
      return !which(part.role) ||
             (waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0);
    };
    const bool in_time = eventually(
        [&] { return common_->complained || std::all_of(cast_.begin(), cast_.end(), ended); });
    if (!in_time) complain("not all come to their end");
    const bool all = !common_->complained;
    if (!all && then_.empty()) then_ = state();
    for (Part& part : cast_) {
      if (!which(part.role)) continue;
      if (!all) part.process.kill();
      const int code = part.process.join();
      if (code != 0) complain("exit code " + std::to_string(code) + " at the end");
    }
  }

  // For people: who stands where.
  std::string state() const {
    std::ostringstream text;
    for (const Part& part : cast_) {
      if (part.process.pid() < 0) continue;  // has ended
      const std::string of = "/proc/" + std::to_string(part.process.pid());
      std::string where, how;
      std::getline(std::ifstream(of + "/wchan"), where);
      std::getline(std::ifstream(of + "/stat"), how);
      text << "  " << role_names[static_cast<std::size_t>(part.role)] << " "
           << how.substr(0, how.find(") ") + 3) << " in " << where << "\n";
    }
    const LeaseCounts counts = queue_->count();
    text << "  queue: " << counts.filling << " filling, " << counts.waiting << " waiting, "
         << counts.leased << " leased; mail: ";
    const LeaseCounts mail = mail_->count();
    text << mail.filling << " filling, " << mail.waiting << " waiting, " << mail.leased
         << " leased, " << mail.dead << " dead; slot: version " << slot_->version()
         << "; barrier: epoch " << barrier_->epoch() << ", missing";
    std::array<Owner, 16> missing;
    const std::size_t count = std::min(barrier_->missing(missing), missing.size());
    for (std::size_t i = 0; i < count; ++i) {
      text << (missing[i] ? " place " + std::to_string(missing[i].index()) : " one yet to join");
    }
    text << "\n  living:";
    for (const auto& who : segment_->participants()) {
      text << " place " << who.index << " pid " << who.pid << ";";
    }
    return text.str();
  }

  // ---- the account

  std::uint64_t kills_in_all() const {
    std::uint64_t all = 0;
    for (const std::uint64_t kills : kills_) all += kills;
    return all;
  }

  void account_for(const Ledger<TaskRecord>& tasks, std::uint64_t count) {
    std::uint64_t excused = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const TaskRecord& task = tasks[i];
      const unsigned done = task.done;
      if (task.push == TaskRecord::pushed) {
        ASSERT_GE(done, 1U) << "task " << i << " is lost";
      }
      if (task.push == TaskRecord::taken_back) {
        ASSERT_EQ(done, 0U) << "task " << i << " was never pushed";
      }
      ASSERT_LE(done, 1U + task.excused) << "task " << i << " was done again for no reason";
      ASSERT_LE(task.ended, 1U) << "task " << i << " has ended twice";
      excused += task.excused;
      again_ += done > 1 ? 1 : 0;
    }
    EXPECT_LE(excused, &tasks == &*tasks_ ? killed(Role::consumer)
                                          : killed(Role::answerer) + mail_->stats().expired);
  }

  void account_for_letters() {
    account_for(*letters_, common_->letters);
    EXPECT_GT(common_->answers_read, 0U);
    const QueueStats stats = mail_->stats();
    EXPECT_EQ(stats.died, 0U) << "no task needs so many tries";
    EXPECT_GT(stats.expired, 0U) << "nobody was late";
    std::cout << "[    STORM ] answers: " << common_->answers_read << " read, "
              << common_->answers_gone << " gone; leases lost to the clock: " << stats.expired
              << std::endl;
  }

  void account_for_values() {
    const std::uint64_t known = common_->published;
    EXPECT_GE(slot_->version(), known) << "a publication is lost";
    EXPECT_LE(slot_->version(), known + killed(Role::publisher)) << "one was counted twice";
    EXPECT_LE(common_->newest, slot_->version());
  }

  void account_for_epochs() {
    for (std::uint64_t epoch = 1; epoch <= barrier_->epoch(); ++epoch) {
      const EpochRecord& of = (*epochs_)[epoch];
      if (of.outcome == 0) continue;  // nobody has lived to tell
      ASSERT_EQ(of.seen, of.arrived) << "passed early, epoch " << epoch;
      const Status status = EpochRecord::status(of.outcome);
      ASSERT_TRUE(status == Status::ready || status == Status::peer_died) << epoch;
      told_ += status == Status::peer_died ? 1 : 0;
    }
    EXPECT_LE(told_, killed(Role::party)) << "a death is told once";
  }

  // Every place, buffer, pin and slot is there again, and no file.
  void nothing_is_left() {
    segment_->recover_dead();
    EXPECT_EQ(segment_->recover_dead(), 0U);
    EXPECT_EQ(segment_->participants().size(), 1U);
    EXPECT_EQ(barrier_->members(), 0U);
    EXPECT_TRUE(slot_->holders().empty());
    const LeaseCounts left = queue_->count();
    EXPECT_EQ(left.filling + left.waiting + left.leased, 0U);
    const LeaseCounts mail = mail_->count();
    EXPECT_EQ(mail.filling + mail.waiting + mail.leased + mail.dead, 0U);
    if (plays(Role::asker)) {
      EXPECT_EQ(mail_->pop(long_enough()).status(), Status::closed);
      EXPECT_EQ(mail_->reopen(), Status::ready);
      for (std::uint32_t i = 0; i < 128; ++i) {
        EXPECT_TRUE(mail_->try_push({}, {.lane = i % 2})) << "a slot is lost";
      }
    }
    {
      std::vector<Segment> places;
      while (places.size() + 1 < 2 * cast_.size()) places.push_back(Segment::open(name_));
      EXPECT_THROW(Segment::open(name_), Error);
    }
    {
      std::array publishers{slot_->publisher(), slot_->publisher()};
      const Sample sample{};
      std::array readers{slot_->reader(), slot_->reader()};
      EXPECT_EQ(publishers[0].publish(sample), Status::ready);
      const auto first = readers[0].pull();
      EXPECT_EQ(publishers[1].publish(sample), Status::ready);
      const auto second = readers[1].pull();
      for (int i = 0; i < 10; ++i) EXPECT_EQ(publishers[0].publish(sample), Status::ready);
      EXPECT_TRUE(first && second);
    }
    segment_.reset();
    EXPECT_EQ(segment_paths(name_), std::vector<std::string>());
  }

  void print(double seconds) {
    std::cout << "[    STORM ] " << seconds << " s, seed " << seed_ << ": " << kills_in_all()
              << " kills;";
    for (std::size_t role = 0; role < role_names.size(); ++role) {
      if (!plays(static_cast<Role>(role))) continue;
      std::cout << " " << role_names[role] << " " << kills_[role] << " killed, "
                << common_->done[role] << " done;";
      RecordProperty(std::string(role_names[role]) + "_done", std::to_string(common_->done[role]));
      EXPECT_GT(common_->done[role], 0U) << "the " << role_names[role] << "s did nothing";
    }
    std::cout << " tasks done again " << again_ << "; epochs " << barrier_->epoch() << ", broken "
              << told_ << std::endl;
    RecordProperty("kills", std::to_string(kills_in_all()));
  }

  const std::string name_ = "storm-" + std::to_string(getpid());
  Ledger<Common> common_{1};
  std::optional<Ledger<TaskRecord>> tasks_;    // by number
  std::optional<Ledger<TaskRecord>> letters_;  // by number
  std::optional<Ledger<Count>> values_;        // by version: the number of its value
  std::optional<Ledger<Count>> versions_;      // by the number of a value: its version
  std::optional<Ledger<EpochRecord>> epochs_;  // by number
  std::optional<Ledger<Count>> makings_;       // by name: which making is the object's
  std::uint32_t objects_ = 0;

  std::optional<Segment> segment_;
  std::optional<Queue> queue_;
  std::optional<Mail> mail_;
  std::optional<Values> slot_;
  std::optional<Barrier> barrier_;
  std::vector<Part> cast_;
  std::array<std::uint64_t, role_names.size()> kills_{};
  std::string then_;  // the state at the first complaint
  std::uint64_t again_ = 0;
  std::uint64_t told_ = 0;
};

TEST_F(Storm, of_all_mechanisms_at_once_leaves_everything_accounted_for) {
  run(usually(4),
      {Role::producer, Role::producer, Role::consumer, Role::consumer, Role::asker, Role::asker,
       Role::answerer, Role::answerer, Role::publisher, Role::publisher, Role::copier, Role::viewer,
       Role::party, Role::party, Role::party, Role::maker, Role::maker, Role::guest});
}

// The same roles with fewer others beside them, so that each gets on faster.

TEST_F(Storm, on_a_queue_loses_no_task) {  // QUEUE-1 QUEUE-3 QUEUE-4
  run(usually(1), {Role::producer, Role::producer, Role::consumer, Role::consumer, Role::guest});
}

TEST_F(Storm,
       on_a_queue_with_results_loses_no_task_and_gives_no_wrong_answer) {  // RESULT-1 RESULT-2
  run(usually(2), {Role::asker, Role::asker, Role::answerer, Role::answerer, Role::guest});
}

TEST_F(Storm, on_a_slot_tears_no_value) {  // SLOT-1 SLOT-2 SLOT-3
  run(usually(1), {Role::publisher, Role::publisher, Role::copier, Role::viewer});
}

TEST_F(Storm, on_a_barrier_lets_nobody_pass_early) {  // BARRIER-1 BARRIER-2 BARRIER-3
  run(usually(1), {Role::party, Role::party, Role::party});
}

// Newcomers wait until the epoch ends that the dead ones whose places they get have missed.
TEST_F(Storm, on_a_barrier_without_room_for_the_dead_lets_newcomers_in) {  // BARRIER-4
  run(usually(1), {Role::party, Role::party, Role::party}, {3, 3, Barrier::OnDeath::report});
}

}  // namespace
}  // namespace heddle
