#include "heddle/shm/layout.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "heddle/run/event_ring.hpp"
#include "heddle/shm/directory.hpp"
#include "heddle/shm/participant.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/collective.hpp"
#include "heddle/sync/lease_word.hpp"
#include "heddle/sync/slot_core.hpp"
#include "heddle/train/asp.hpp"
#include "heddle/train/plan.hpp"
#include "heddle/train/policy.hpp"

// FOR_EACH(macro, a, b, c) is macro(a) macro(b) macro(c), for up to 27 of them: the preprocessor
// expands a macro in its own result only when it is rescanned, as often as EXPAND nests.
#define EXPAND(...) EXPAND_9(EXPAND_9(EXPAND_9(__VA_ARGS__)))
#define EXPAND_9(...) EXPAND_3(EXPAND_3(EXPAND_3(__VA_ARGS__)))
#define EXPAND_3(...) EXPAND_1(EXPAND_1(EXPAND_1(__VA_ARGS__)))
#define EXPAND_1(...) __VA_ARGS__
#define NOTHING ()
#define FOR_EACH(macro, ...) EXPAND(FIRST_OF(macro, __VA_ARGS__))
#define FIRST_OF(macro, one, ...) macro(one) __VA_OPT__(REST_OF NOTHING(macro, __VA_ARGS__))
#define REST_OF() FIRST_OF

namespace heddle {

// All that stands in a segment, as text: layout.golden has what other programs' segments look like.
// A friend of the classes whose structs are private.
struct LayoutOf {
  std::ostringstream text;

  template <class Member>
  void add_member(std::size_t offset, const char* name) {
    text << "  " << offset << "+" << sizeof(Member) << " " << name << "\n";
  }

  // Bits of a word, or a number that is stored.
  template <class Number>
  void add(const char* name, Number number) {
    text << "  " << name << " = " << std::hex << std::showbase << static_cast<std::uint64_t>(number)
         << std::dec << "\n";
  }

// The structured bindings are one for each member, or do not compile; offsetof then sees whether
// each has the name that its place has in the list.
#define ADD_STRUCT(Struct, ...)                                                                 \
  {                                                                                             \
    static const Struct object{};                                                               \
    [[maybe_unused]] const auto& [__VA_ARGS__] = object;                                        \
    text << #Struct ": " << sizeof(Struct) << " bytes, aligned to " << alignof(Struct) << "\n"; \
    using Type = Struct;                                                                        \
    FOR_EACH(ADD_MEMBER, __VA_ARGS__)                                                           \
  }
#define ADD_MEMBER(member) add_member<decltype(Type::member)>(offsetof(Type, member), #member);
#define ADD(number) add(#number, number)

  static constexpr std::uint64_t bits(int count) { return (std::uint64_t{1} << count) - 1; }
  const Owner ten{bits(10)};

  LayoutOf() {
    text << "layout_version " << layout_version << "\n";
    ADD(segment_magic);
    ADD(page_bytes);
    ADD(cache_line);
    ADD(max_participants);
    ADD_STRUCT(SegmentHeader, magic, version, participants, objects, creator_pid, total_bytes,
               heap_offset, created_at, pid_namespace, boot_id, uuid, name, incarnations, heap_used,
               directory_changed);
    ADD(sizeof(Event));

    ADD_STRUCT(ParticipantEntry, word, pid, program);
    ADD(ParticipantWord::make(bits(48), ParticipantState::free));
    ADD(ParticipantState::free);
    ADD(ParticipantState::alive);
    ADD(ParticipantState::dead);

    ADD_STRUCT(DirectoryEntry, word, kind, element, offset, bytes, name);
    ADD_STRUCT(ElementType, size, alignment, name);
    ADD(Directory::pack(bits(30), 0, Directory::State::free, nobody));
    ADD(Directory::pack(0, bits(16), Directory::State::free, nobody));
    ADD(Directory::pack(0, 0, Directory::State::free, Owner(bits(16))));
    ADD(Directory::pack(0, 0, Directory::State::claimed, nobody));
    ADD(Directory::pack(0, 0, Directory::State::ready, nobody));
    ADD(Directory::pack(0, 0, Directory::State::orphan, nobody));
    ADD(Directory::hash("weights"));
    ADD(ObjectKind::buffer);
    ADD(ObjectKind::slot);
    ADD(ObjectKind::task_queue);
    ADD(ObjectKind::barrier);
    ADD(ObjectKind::board);
    ADD(ObjectKind::group);

    ADD_STRUCT(SlotCore::Header, value_bytes, buffers, views, publishers, timed, latest, published,
               requested, asked);
    ADD_STRUCT(SlotCore::OwnedWord, word);
    ADD_STRUCT(SlotCore::Meta, word, complete, version, published_at, asked);
    ADD(SlotCore::pack_latest(bits(48), 0));
    ADD(SlotCore::pack_latest(0, bits(16)));
    ADD(SlotCore::pack_word(bits(48), nobody));
    ADD(SlotCore::pack_word(0, ten));
    ADD(SlotCore::pack_pin(ten, 0, 0));
    ADD(SlotCore::pack_pin(nobody, bits(32), 0));
    ADD(SlotCore::pack_pin(nobody, 0, bits(16)));
    ADD(SlotCore::pack_publisher(bits(46), SlotCore::PublisherState::none, nobody));
    ADD(SlotCore::pack_publisher(0, SlotCore::PublisherState::registered, nobody));
    ADD(SlotCore::pack_publisher(0, SlotCore::PublisherState::died, nobody));
    ADD(SlotCore::pack_publisher(0, SlotCore::PublisherState::none, ten));
    ADD(SlotCore::bytes({100, 4, 3, 2}));
    ADD(SlotCore::bytes({5000, 4, 3, 2}));

    ADD_STRUCT(LeaseRingHeader, capacity, payload_bytes, payload_alignment, phase, not_empty,
               not_full, returned, lease_timeout_ms, max_tries, notes, lanes, results, result_bytes,
               reserved_0, tail, reserved_1, head, reserved_2, abandoned, skipped, recovered,
               expired, died, results_expired, reserved_3);
    ADD_STRUCT(LeaseSlot, word, ticket);
    ADD_STRUCT(LeaseNote, due, pushed_at, leased_at, worker, reason_grant, reason);
    ADD(LeaseStamp(std::int64_t{1} << 60, LeaseWord(0, 0, nobody, LeaseState::free), 0).bits());
    ADD(LeaseStamp(0, LeaseWord(0, bits(11), nobody, LeaseState::free), 0).bits());
    ADD(LeaseStamp(0, LeaseWord(0, 0, nobody, LeaseState::free), bits(13)).bits());
    ADD(LeaseWord(bits(40), 0, nobody, LeaseState::free).bits());
    ADD(LeaseWord(0, bits(11), nobody, LeaseState::free).bits());
    ADD(LeaseWord(0, 0, ten, LeaseState::free).bits());
    ADD(LeaseState::free);
    ADD(LeaseState::filling);
    ADD(LeaseState::queued);
    ADD(LeaseState::leased);
    ADD(LeaseState::abandoned);
    ADD(LeaseState::requeue);
    ADD(LeaseState::ending);
    ADD(LeaseState::dead);
    ADD(LeasePhase::open);
    ADD(LeasePhase::closed);
    ADD(LeasePhase::drained);
    ADD((LeaseRingShape{64, 100, 8}.payload_at()));
    ADD((LeaseRingShape{64, 100, 64}.payload_at()));
    ADD((LeaseRingShape{64, 100, 8}.bytes()));
    ADD((LeaseRingShape{64, 100, 64}.bytes()));
    ADD((LeaseRingShape{64, 100, 8, true}.bytes()));

    ADD_STRUCT(ResultTable::Entry, word, event, length);
    ADD(ResultTable::pack(bits(40), 0, nobody, ResultTable::State::none));
    ADD(ResultTable::pack(0, bits(11), nobody, ResultTable::State::none));
    ADD(ResultTable::pack(0, 0, ten, ResultTable::State::none));
    ADD(ResultTable::State::writing);
    ADD(ResultTable::State::ready);
    ADD(ResultTable::State::read);
    ADD(ResultTable::State::failed);
    ADD(ResultTable::bytes(64, 20));

    ADD_STRUCT(Barrier::Shared, max_parties, parties, on_death, used, changed, outcome,
               near_places);
    ADD(Barrier::outcome_word(bits(54), nobody));
    ADD(Barrier::outcome_word(0, ten));
    ADD(Barrier::place_word(bits(53), nobody));
    ADD(Barrier::place_word(0, ten));
    ADD(Barrier::gone_bit);
    ADD(Barrier::gathering);
    ADD(Barrier::OnDeath::report);
    ADD(Barrier::OnDeath::shrink);
    ADD(Barrier::bytes({.parties = 2, .max_parties = 7}));
    ADD(Barrier::bytes({.parties = 2, .max_parties = 8}));
    ADD(Barrier::branch_places);
    ADD(Barrier::bytes({.parties = 2, .max_parties = 32}));
    ADD(Barrier::bytes({.parties = 2, .max_parties = 33}));

    ADD_STRUCT(Board::Header, items, changed);
    ADD_STRUCT(Board::Item, word);
    ADD(Board::pack(bits(40), 0, nobody));
    ADD(Board::pack(0, bits(14), nobody));
    ADD(Board::pack(0, 0, ten));
    ADD(Board::bytes({.items = 3}));

    ADD_STRUCT(Group::Header, size, places, exchange_bytes, reserved_0, state, died, changed,
               reserved_1);
    ADD_STRUCT(Group::Place, word, reserved_0, filled, reduced, stopped, reserved_1, calls);
    ADD_STRUCT(Group::Call, number, what, count, offset, tiny);
    ADD(Group::pack_state(bits(14), Group::Phase::broken, 0));
    ADD(Group::pack_state(0, Group::Phase::running, 0));
    ADD(Group::pack_state(0, Group::Phase::broken, bits(48)));
    ADD(Group::pack_place(bits(14), 0, nobody));
    ADD(Group::pack_place(0, bits(39), nobody));
    ADD(Group::pack_place(0, 0, ten));
    ADD(Group::gone_bit);
    ADD(Group::pack_count(bits(14), 0));
    ADD(Group::pack_count(0, bits(50)));
    ADD(Group::cells_of(page_bytes).small);
    ADD(Group::cells_of(page_bytes).large);
    ADD(Group::cells_of(page_bytes).count);
    ADD(Group::cells_of(std::size_t{2} << 20).large);
    ADD(Group::bytes({.size = 2, .places = 3, .exchange_bytes = page_bytes}));
    ADD(Group::bytes({.size = 40, .exchange_bytes = 2 * page_bytes}));
    ADD(Collective::refused);
    ADD(Collective::barrier);
    ADD(Collective::allreduce);
    ADD(Collective::reduce);
    ADD(Collective::reduce_scatter);
    ADD(Collective::all_gather);
    ADD(Collective::all_gather_v);
    ADD(Collective::gather);
    ADD(Collective::scatter);
    ADD(Collective::broadcast);
    ADD(Collective::all_to_all);
    ADD(Reduction::sum);
    ADD(Reduction::mean);
    ADD(Reduction::min);
    ADD(Reduction::max);
    ADD(Reduction::product);
    ADD(NumberType::float32);
    ADD(NumberType::float64);
    ADD(NumberType::int32);
    ADD(NumberType::int64);
    ADD(NumberType::bfloat16);
    ADD(NumberType::float16);
    ADD(NumberType::bytes);

    ADD_STRUCT(WorkerEvent, kind, epoch, step, samples, loss_sum);
    ADD(WorkerEvent::Kind::progress);
    ADD(WorkerEvent::Kind::epoch_done);
    ADD(sizeof(EventRing::Ring));
    ADD(alignof(EventRing::Ring));

    ADD_STRUCT(TrainPlan, model, sync, workers, epochs, batch, microbatches, learning_rate,
               momentum, samples, features, classes, seed, target_accuracy);
    ADD(Sync::bsp);
    ADD(Sync::asp);
    ADD_STRUCT(TrainControl, judged_epoch, last_epoch, judged);
    ADD_STRUCT(Asp::Shard, epoch, index);
  }
#undef ADD_STRUCT
#undef ADD_MEMBER
#undef ADD
};

namespace {

constexpr const char* golden_file = HEDDLE_TESTS_DIR "/unit/shm/layout.golden";

// HEDDLE_WRITE_LAYOUT in the environment writes it anew, for a new version alone.
TEST(Layout, is_the_golden_one_of_its_version) {
  const std::string layout = LayoutOf().text.str();
  std::ifstream file(golden_file);
  const std::string golden{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::uint32_t golden_version = 0;
  std::istringstream(golden).ignore(64, ' ') >> golden_version;

  if (std::getenv("HEDDLE_WRITE_LAYOUT") != nullptr && layout_version > golden_version) {
    ASSERT_TRUE(std::ofstream(golden_file) << layout) << "cannot write " << golden_file;
    return;
  }
  std::istringstream now(layout), then(golden);
  std::string line, golden_line;
  while (std::getline(now, line) && std::getline(then, golden_line) && line == golden_line) {
  }
  EXPECT_TRUE(layout == golden)
      << "now:    " << line << "\ngolden: " << golden_line << "\n"
      << "What stands in a segment has changed, and programs of both layouts would take each "
         "other's segments for their own. Take the change back, or else\n"
         "  1. raise layout_version in include/heddle/shm/layout.hpp above "
      << golden_version
      << ",\n"
         "  2. write the new layout down: HEDDLE_WRITE_LAYOUT=1 heddle_unit_tests "
         "--gtest_filter='Layout.*'";
}

}  // namespace
}  // namespace heddle
