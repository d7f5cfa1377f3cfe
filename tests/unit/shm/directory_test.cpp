#include "heddle/shm/directory.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <future>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/block.hpp"
#include "support/fake_peers.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::FakePeers;
using test::FakeTable;
using testing::AllOf;
using testing::HasSubstr;
using Memory = std::span<std::byte>;

constexpr auto format_nothing = [](Memory) {};

// As layout.hpp draws it, but in private memory and without participants.
class DirectoryTest : public testing::Test {
 protected:
  static constexpr std::size_t entries = 4;
  static constexpr std::size_t heap = 2 * page_bytes;
  static constexpr std::size_t total = heap + 8 * page_bytes;
  using Spec = Directory::Spec;

  DirectoryTest() { clear(); }
  void clear() {
    std::fill(memory_.span().begin(), memory_.span().end(), std::byte{0});
    header().heap_used.store(heap, relaxed);
  }

  SegmentHeader& header() { return *reinterpret_cast<SegmentHeader*>(memory_.span().data()); }
  std::span<DirectoryEntry> table() {
    return {reinterpret_cast<DirectoryEntry*>(memory_.span().data() + page_bytes), entries};
  }
  std::size_t used_entries() {
    return static_cast<std::size_t>(std::count_if(
        table().begin(), table().end(), [](const auto& e) { return e.word.load(relaxed) != 0; }));
  }
  DirectoryEntry& entry_of(std::string_view name) {
    for (DirectoryEntry& entry : table()) {
      if (entry.name == name) return entry;
    }
    throw std::runtime_error("no such entry");
  }
  Memory make(std::string_view name, std::size_t bytes = 64) {
    return directory_.find_or_create(name, spec(bytes), anna_, soon(), format_nothing);
  }
  static Spec spec(std::size_t bytes = 64) {
    return {ObjectKind::buffer, element_type<float>(), bytes};
  }
  static Deadline soon() { return Deadline::after(test::patience); }

  template <class Call>
  static Error error_of(Call&& call) {
    try {
      call();
    } catch (const Error& error) {
      return error;
    }
    return Error(Errc::system, "nothing was thrown");
  }

  // A process that is killed while it makes an object: a thread that gets no further.
  class Victim {
   public:
    Victim(DirectoryTest& test, FakePeers& peers, std::string name, std::size_t bytes = 64)
        : thread_([this, &test, &peers, name, bytes] {
            try {
              test.directory_.find_or_create(name, spec(bytes), peers, soon(), [&](Memory memory) {
                memory[0] = std::byte{0xdd};
                inside_.set_value();
                end_.get_future().wait();
                throw std::runtime_error("killed");
              });
            } catch (const std::runtime_error&) {
            }
          }) {
      inside_.get_future().wait();
    }
    // What it does then no longer counts: the test is over.
    ~Victim() {
      end_.set_value();
      thread_.join();
    }

   private:
    std::promise<void> inside_;
    std::promise<void> end_;
    std::thread thread_;
  };

  test::Block memory_{total};
  Directory directory_{memory_.span(), heap, header(), table()};
  FakeTable processes_{[this](const Dead& dead) { directory_.repair(dead); }};
  FakePeers anna_{processes_, 0};
  FakePeers bert_{processes_, 1};
  FakePeers carl_{processes_, 2};
};

// Names whose tags are equal and whose walks begin at the same entry, by FNV-1a as written down by
// its authors. Programs that were built apart must agree on it.
std::uint64_t fnv_1a(std::string_view name) {
  std::uint64_t hash = 14695981039346656037U;
  for (const char c : name) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211U;
  }
  return hash;
}
std::pair<std::string, std::string> colliding_names(std::size_t size) {
  std::map<std::uint64_t, std::string> seen;
  for (std::uint64_t i = 0;; ++i) {  // a birthday among 2^30 tags: some 100,000
    const std::string name = std::to_string(i * 0x9e3779b97f4a7c15);
    const std::uint64_t hash = fnv_1a(name);
    const auto [at, first] = seen.emplace((hash >> 34) * size + hash % size, name);
    if (!first) return {at->second, name};
  }
}

TEST_F(DirectoryTest, an_object_is_made_once_and_found_by_all) {  // DIR-1
  int formats = 0;
  const auto format = [&](Memory memory) {
    ++formats;
    memory[3] = std::byte{42};
  };
  const Memory made = directory_.find_or_create("x", spec(), anna_, soon(), format);
  const Memory again = directory_.find_or_create("x", spec(), bert_, soon(), format);
  const Memory found =
      directory_.find("x", ObjectKind::buffer, element_type<float>(), carl_, soon());
  EXPECT_EQ(formats, 1);
  EXPECT_EQ(made.size(), 64U);
  EXPECT_EQ(again.data(), made.data());
  EXPECT_EQ(found.data(), made.data());
  EXPECT_EQ(found.size(), made.size());
  EXPECT_EQ(found[3], std::byte{42});
}

TEST_F(DirectoryTest, what_nobody_has_made_is_not_found) {
  make("x");
  const Error error = error_of(
      [&] { directory_.find("y", ObjectKind::buffer, element_type<float>(), anna_, soon()); });
  EXPECT_EQ(error.code(), Errc::not_found);
  EXPECT_THAT(error.what(), HasSubstr("\"y\""));
}

TEST_F(DirectoryTest, an_entry_carries_the_tag_of_its_name_by_fnv_1a) {
  make("weights");
  const DirectoryEntry& entry = table()[fnv_1a("weights") % entries];
  EXPECT_STREQ(entry.name, "weights");
  EXPECT_EQ(entry.word.load(relaxed) >> 34, fnv_1a("weights") >> 34);
}

TEST_F(DirectoryTest, creators_that_race_for_a_name_make_one_object) {  // DIR-1 DIR-2
  const auto [one, other] = colliding_names(entries);
  for (int round = 0; round < 1000; ++round) {
    clear();
    std::atomic<int> formats = 0;
    std::atomic<int> start = 0;
    const auto run = [&](FakePeers& peers, const std::string& first, const std::string& second) {
      for (++start; start < 2;) yield();
      for (const std::string& name : {first, second}) {
        const Memory object =
            directory_.find_or_create(name, spec(), peers, soon(), [&](Memory memory) {
              ++formats;
              for (std::byte& byte : memory) byte = std::byte{0x11};
            });
        for (const std::byte byte : object) ASSERT_EQ(byte, std::byte{0x11});
      }
    };
    std::thread thread([&, &one = one, &other = other] { run(anna_, one, other); });
    run(bert_, other, one);
    thread.join();
    ASSERT_EQ(formats, 2) << "round " << round;
    ASSERT_EQ(used_entries(), 2U) << "round " << round;
  }
}

TEST_F(DirectoryTest, a_seeker_waits_until_the_creator_has_finished) {  // DIR-2
  std::promise<void> go;
  std::promise<void> inside;
  std::thread creator([&] {
    directory_.find_or_create("x", spec(), anna_, soon(), [&](Memory memory) {
      inside.set_value();
      go.get_future().wait();
      memory[0] = std::byte{42};
    });
  });
  inside.get_future().wait();
  std::optional<std::byte> seen;
  std::thread seeker([&] {
    seen = directory_.find("x", ObjectKind::buffer, element_type<float>(), bert_, soon())[0];
  });
  const auto& sleepers = reinterpret_cast<const Atomic<std::uint32_t>&>(header().directory_changed);
  EXPECT_TRUE(test::eventually([&] { return (sleepers.load(relaxed) & 1) != 0; }));
  go.set_value();
  creator.join();
  seeker.join();
  EXPECT_EQ(seen, std::byte{42});
}

TEST_F(DirectoryTest, a_creator_that_lives_but_does_not_finish_costs_the_deadline) {
  Victim stopped(*this, anna_, "x");
  const Error error = error_of(
      [&] { directory_.find_or_create("x", spec(), bert_, Deadline::after(5ms), format_nothing); });
  EXPECT_EQ(error.code(), Errc::timeout);
  EXPECT_THAT(error.what(), HasSubstr("\"x\""));
  make("y");  // and blocks its own name alone
}

TEST_F(DirectoryTest, the_name_of_a_creator_killed_in_the_middle_is_made_anew_in_place) {  // DIR-1
  Victim victim(*this, anna_, "x");
  const DirectoryEntry& entry = entry_of("x");
  const std::uint64_t claimed = entry.word.load(relaxed);
  processes_.kill(anna_.self());
  bool clean = false;
  const Memory object = directory_.find_or_create("x", spec(), bert_, soon(), [&](Memory memory) {
    clean = std::all_of(memory.begin(), memory.end(),
                        [](std::byte byte) { return byte == std::byte{0}; });
  });
  EXPECT_TRUE(clean) << "the dead one's memory is used again";
  EXPECT_EQ(used_entries(), 1U);
  EXPECT_NE(claimed >> 18 & 0xffff, entry.word.load(relaxed) >> 18 & 0xffff)
      << "a claim changes the generation";
  EXPECT_EQ(directory_.find("x", ObjectKind::buffer, element_type<float>(), carl_, soon()).data(),
            object.data());
}

TEST_F(DirectoryTest, a_name_whose_creator_died_is_not_found_and_not_waited_for) {
  Victim victim(*this, anna_, "x");
  processes_.kill(anna_.self());
  EXPECT_EQ(error_of([&] {
              directory_.find("x", ObjectKind::buffer, element_type<float>(), bert_, soon());
            }).code(),
            Errc::not_found);
}

TEST_F(DirectoryTest, a_creator_that_throws_leaves_the_name_to_the_next) {
  const auto fail = [](Memory) { throw std::runtime_error("no"); };
  EXPECT_THROW(directory_.find_or_create("x", spec(), anna_, soon(), fail), std::runtime_error);
  EXPECT_EQ(error_of([&] {
              directory_.find("x", ObjectKind::buffer, element_type<float>(), bert_, soon());
            }).code(),
            Errc::not_found);
  make("x");
  EXPECT_EQ(used_entries(), 1U);
}

TEST_F(DirectoryTest, a_late_recoverer_does_not_hit_the_newcomer_at_the_same_place) {
  Victim victim(*this, anna_, "x");
  processes_.kill(anna_.self());
  const Dead dead = processes_.dead_of(anna_.self());
  directory_.repair(dead);
  processes_.rejoin(anna_.self());
  FakePeers newcomer(processes_, anna_.self().index());
  directory_.find_or_create("x", spec(), newcomer, soon(), [&](Memory) {
    const std::uint64_t before = entry_of("x").word.load(relaxed);
    directory_.repair(dead);
    EXPECT_EQ(entry_of("x").word.load(relaxed), before);
  });
}

TEST_F(DirectoryTest, several_may_recover_at_once) {
  for (int round = 0; round < 200; ++round) {
    const std::string name = std::to_string(round % 4);
    Victim victim(*this, anna_, name);
    processes_.kill(anna_.self());
    std::vector<std::thread> recoverers;
    for (int i = 0; i < 2; ++i) {
      recoverers.emplace_back([&] { directory_.repair(processes_.dead_of(anna_.self())); });
    }
    for (auto& thread : recoverers) thread.join();
    const std::uint64_t word = entry_of(name).word.load(relaxed);
    ASSERT_EQ(word >> 16 & 3, 3U) << "an orphan";
    ASSERT_EQ(word & 0xffff, nobody.bits());
    processes_.rejoin(anna_.self());
    header().heap_used.store(heap, relaxed);
  }
}

TEST_F(DirectoryTest, names_with_the_same_tag_are_told_apart) {  // DIR-1
  const auto [one, other] = colliding_names(entries);
  ASSERT_EQ(fnv_1a(one) >> 34, fnv_1a(other) >> 34);
  const Memory first = make(one);
  const Memory second = make(other);
  EXPECT_NE(first.data(), second.data());
  EXPECT_EQ(make(one).data(), first.data());
  EXPECT_EQ(make(other).data(), second.data());
}

TEST_F(DirectoryTest,
       an_orphan_of_another_name_with_the_same_tag_is_taken_over_in_place) {  // DIR-1
  const auto [one, other] = colliding_names(entries);
  const auto fail = [](Memory) { throw std::runtime_error("no"); };
  EXPECT_THROW(directory_.find_or_create(one, spec(), anna_, soon(), fail), std::runtime_error);
  const Memory second = make(other);
  EXPECT_EQ(used_entries(), 1U);
  const Memory first = make(one);
  EXPECT_EQ(used_entries(), 2U);
  EXPECT_EQ(make(other).data(), second.data());
  EXPECT_EQ(make(one).data(), first.data());
}

TEST_F(DirectoryTest, a_name_waits_for_one_with_the_same_tag_that_is_being_made) {  // DIR-1
  const auto [one, other] = colliding_names(entries);
  Victim victim(*this, anna_, one);
  EXPECT_EQ(error_of([&, &other = other] {
              directory_.find_or_create(other, spec(), bert_, Deadline::after(5ms), format_nothing);
            }).code(),
            Errc::timeout);
  processes_.kill(anna_.self());
  directory_.find_or_create(other, spec(), bert_, soon(), format_nothing);
  EXPECT_EQ(used_entries(), 1U);
}

TEST_F(DirectoryTest, a_full_directory_says_so_and_still_finds_what_is_in_it) {
  for (std::size_t i = 0; i < entries; ++i) make(std::to_string(i));
  const Error error = error_of([&] { make("one more"); });
  EXPECT_EQ(error.code(), Errc::too_many);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("\"one more\""), HasSubstr("4 entries")));
  for (std::size_t i = 0; i < entries; ++i) make(std::to_string(i));
  EXPECT_EQ(error_of([&] {
              directory_.find("one more", ObjectKind::buffer, element_type<float>(), anna_, soon());
            }).code(),
            Errc::not_found);
}

TEST_F(DirectoryTest, attaching_with_another_kind_element_size_or_other_options_names_both) {
  make("x", 64);
  const auto attach = [&](const Spec& as) {
    return error_of([&] { directory_.find_or_create("x", as, bert_, soon(), format_nothing); });
  };
  const Error kind = attach({ObjectKind::slot, element_type<float>(), 64});
  EXPECT_EQ(kind.code(), Errc::type_mismatch);
  EXPECT_THAT(kind.what(), AllOf(HasSubstr("\"x\""), HasSubstr("buffer"), HasSubstr("slot")));

  const Error element = attach({ObjectKind::buffer, element_type<double>(), 64});
  EXPECT_EQ(element.code(), Errc::type_mismatch);
  EXPECT_THAT(element.what(), AllOf(HasSubstr("float32"), HasSubstr("float64")));

  const Error size = attach(spec(128));
  EXPECT_EQ(size.code(), Errc::type_mismatch);
  EXPECT_THAT(size.what(), AllOf(HasSubstr("64"), HasSubstr("128")));

  const Error options = error_of([&] {
    directory_.find_or_create("x", spec(64), bert_, soon(), format_nothing,
                              [](Memory) { return "it has 4 legs, not 3"; });
  });
  EXPECT_EQ(options.code(), Errc::type_mismatch);
  EXPECT_THAT(options.what(), AllOf(HasSubstr("\"x\""), HasSubstr("it has 4 legs, not 3")));

  const Error found = error_of(
      [&] { directory_.find("x", ObjectKind::barrier, element_type<float>(), bert_, soon()); });
  EXPECT_EQ(found.code(), Errc::type_mismatch);
  EXPECT_THAT(found.what(), AllOf(HasSubstr("buffer"), HasSubstr("barrier")));
}

TEST_F(DirectoryTest, a_request_that_is_too_large_does_not_spoil_the_smaller_ones_after_it) {
  for (const std::size_t bytes :
       {total, std::numeric_limits<std::size_t>::max() - 4000, total - heap + 1}) {
    const Error error = error_of([&] { make("large", bytes); });
    EXPECT_EQ(error.code(), Errc::no_space);
    EXPECT_THAT(error.what(), AllOf(HasSubstr(std::to_string(bytes)),
                                    HasSubstr(std::to_string(total - heap) + " left")));
  }
  EXPECT_EQ(make("small", total - heap).size(), total - heap) << "all that there is";
  EXPECT_EQ(error_of([&] { make("late", 1); }).code(), Errc::no_space);
}

TEST_F(DirectoryTest, objects_do_not_overlap_and_lie_on_cache_lines_and_large_ones_on_pages) {
  const Memory small = make("small", 65);
  const Memory large = make("large", page_bytes);
  const Memory last = make("last", 1);
  const auto offset = [&](Memory memory) { return memory.data() - memory_.span().data(); };
  EXPECT_EQ(offset(small), static_cast<std::ptrdiff_t>(heap));
  EXPECT_EQ(offset(large), static_cast<std::ptrdiff_t>(heap + page_bytes));
  EXPECT_EQ(offset(last), static_cast<std::ptrdiff_t>(heap + 2 * page_bytes));
  EXPECT_EQ(offset(make("next", 1)) - offset(last), static_cast<std::ptrdiff_t>(cache_line));
}

TEST_F(DirectoryTest, a_name_has_1_to_63_characters) {
  const std::string longest(63, 'n');
  EXPECT_EQ(make(longest).data(), make(longest).data());
  for (const std::string& name : {std::string(), std::string(64, 'n'), std::string("a\0b", 3)}) {
    EXPECT_EQ(error_of([&] { make(name); }).code(), Errc::invalid_argument);
  }
  EXPECT_EQ(error_of([&] { make("nothing", 0); }).code(), Errc::invalid_argument);
  EXPECT_EQ(used_entries(), 1U);
}

TEST_F(DirectoryTest, all_finished_objects_are_visited_and_no_others) {
  make("a", 64);
  make("b", 128);
  Victim victim(*this, bert_, "c");
  std::set<std::pair<std::string, std::size_t>> seen;
  directory_.for_each([&](std::string_view name, const Spec& of, Memory memory) {
    EXPECT_EQ(of.bytes, memory.size());
    seen.emplace(name, memory.size());
  });
  EXPECT_EQ(seen, (std::set<std::pair<std::string, std::size_t>>{{"a", 64}, {"b", 128}}));
}

TEST_F(DirectoryTest, damaged_entries_are_refused_and_passed_over) {
  struct Damage {
    std::uint64_t offset, bytes;
  };
  constexpr std::uint64_t huge = std::numeric_limits<std::uint64_t>::max();
  for (const auto& [offset, bytes] :
       {Damage{0, 64}, Damage{heap - 64, 64}, Damage{heap + 8, 64}, Damage{heap, total},
        Damage{heap, huge}, Damage{huge - 63, 64}, Damage{total, 64}, Damage{total + 64, 64},
        Damage{heap, 0}}) {
    SCOPED_TRACE(testing::Message() << "offset " << offset << ", " << bytes << " bytes");
    clear();
    make("x");
    entry_of("x").offset = offset;
    entry_of("x").bytes = bytes;
    const Error attached = error_of([&] { make("x"); });
    EXPECT_EQ(attached.code(), Errc::corrupt);
    EXPECT_THAT(attached.what(), HasSubstr("\"x\""));
    EXPECT_EQ(error_of([&] {
                directory_.find("x", ObjectKind::buffer, element_type<float>(), anna_, soon());
              }).code(),
              Errc::corrupt);
    directory_.for_each([&](std::string_view, const Spec&, Memory) { ADD_FAILURE(); });
    processes_.kill(bert_.self());
    anna_.recover_if_dead(bert_.self());  // looks into no object that is not there
    processes_.rejoin(bert_.self());
  }
}

TEST_F(DirectoryTest, a_damaged_kind_or_name_is_one_that_does_not_fit) {
  make("x");
  entry_of("x").kind = static_cast<ObjectKind>(77);
  EXPECT_THAT(error_of([&] { make("x"); }).what(), HasSubstr("unknown kind"));
  DirectoryEntry& entry = entry_of("x");
  std::fill(std::begin(entry.name), std::end(entry.name), 'y');  // without an end
  std::fill(std::begin(entry.element.name), std::end(entry.element.name), 'z');
  EXPECT_EQ(error_of([&] {
              directory_.find("x", ObjectKind::buffer, element_type<float>(), anna_, soon());
            }).code(),
            Errc::not_found);
  directory_.for_each(
      [&](std::string_view name, const Spec&, Memory) { EXPECT_EQ(name, std::string(63, 'y')); });
}

TEST_F(DirectoryTest, an_entry_claimed_by_nobody_who_exists_is_damaged) {
  Victim victim(*this, anna_, "x");
  DirectoryEntry& entry = entry_of("x");
  const std::uint64_t claimed = entry.word.load(relaxed);
  for (const std::uint64_t owner : {0U, FakeTable::places + 1, 0xffffU}) {
    entry.word.store((claimed & ~std::uint64_t{0xffff}) | owner, relaxed);
    EXPECT_EQ(error_of([&] { make("x"); }).code(), Errc::corrupt);
    EXPECT_EQ(error_of([&] {
                directory_.find("x", ObjectKind::buffer, element_type<float>(), bert_, soon());
              }).code(),
              Errc::corrupt);
  }
}

TEST_F(DirectoryTest, a_damaged_heap_end_gives_no_memory_out_twice) {
  for (const std::uint64_t used : {std::uint64_t{0}, std::uint64_t{heap - 1}}) {
    header().heap_used.store(used, relaxed);
    EXPECT_EQ(error_of([&] { make("x"); }).code(), Errc::corrupt);
  }
  for (const std::uint64_t used :
       {std::uint64_t{total + 1}, std::numeric_limits<std::uint64_t>::max()}) {
    header().heap_used.store(used, relaxed);
    EXPECT_EQ(error_of([&] { make("x"); }).code(), Errc::no_space);
  }
}

TEST_F(DirectoryTest, a_forked_child_is_told_to_open_the_segment_anew) {
  make("x");
  bert_.forked();
  const auto attach = [&](std::string_view name) {
    directory_.find_or_create(name, spec(), bert_, soon(), format_nothing);
  };
  EXPECT_EQ(error_of([&] { attach("x"); }).code(), Errc::closed);
  EXPECT_EQ(error_of([&] { attach("y"); }).code(), Errc::closed);
  EXPECT_EQ(used_entries(), 1U);
}

}  // namespace
}  // namespace heddle
