#include "heddle/shm/layout.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

// The layout that other programs' segments have. When one of these fails: count layout_version up,
// and write down the new layout here.

namespace heddle {
namespace {

// "offset+size" of each member. The structured bindings below name all of them, or do not compile.
template <class Struct, class... Members>
std::string map_of(const Struct& object, const Members&... members) {
  std::string map;
  const auto add = [&](const auto& member) {
    const auto offset =
        reinterpret_cast<const std::byte*>(&member) - reinterpret_cast<const std::byte*>(&object);
    map += std::to_string(offset) + "+" + std::to_string(sizeof member) + " ";
  };
  (add(members), ...);
  return map + "of " + std::to_string(sizeof object);
}

TEST(Layout, is_version_1) {
  EXPECT_EQ(layout_version, 1U);
  EXPECT_EQ(segment_magic, 0x31454c4444454821U);
  EXPECT_EQ(page_bytes, 4096U);
  EXPECT_EQ(cache_line, 64U);
  EXPECT_EQ(max_participants, 1023U);
}

TEST(Layout, of_the_header_is_that_of_version_1) {
  static const SegmentHeader header{};
  const auto& [magic, version, participants, objects, creator_pid, total_bytes, heap_offset,
               created_at, pid_namespace, boot_id, uuid, name, incarnations, heap_used,
               directory_changed] = header;
  EXPECT_EQ(
      map_of(header, magic, version, participants, objects, creator_pid, total_bytes, heap_offset,
             created_at, pid_namespace, boot_id, uuid, name, incarnations, heap_used,
             directory_changed),
      "0+8 8+4 12+4 16+4 20+4 24+8 32+8 40+8 48+8 56+16 72+16 88+56 192+8 256+8 320+4 of 384");
}

TEST(Layout, of_a_participant_is_that_of_version_1) {
  static const ParticipantEntry entry{};
  const auto& [word, pid, program] = entry;
  EXPECT_EQ(map_of(entry, word, pid, program), "0+8 8+8 16+32 of 128");
}

TEST(Layout, of_a_directory_entry_is_that_of_version_1) {
  static const DirectoryEntry entry{};
  const auto& [word, kind, element, offset, bytes, name] = entry;
  EXPECT_EQ(map_of(entry, word, kind, element, offset, bytes, name),
            "0+8 8+4 12+32 48+8 56+8 64+64 of 128");
}

TEST(Layout, of_an_element_type_is_that_of_version_1) {
  const ElementType type = element_type<float>();
  const auto& [size, alignment, name] = type;
  EXPECT_EQ(map_of(type, size, alignment, name), "0+4 4+4 8+24 of 32");
  EXPECT_STREQ(name, "float32");
}

TEST(Layout, of_an_event_is_one_futex_word) {
  EXPECT_EQ(sizeof(Event), 4U);
  EXPECT_EQ(alignof(Event), 4U);
}

TEST(Layout, numbers_of_kinds_never_change) {
  EXPECT_EQ(static_cast<int>(ObjectKind::buffer), 1);
  EXPECT_EQ(static_cast<int>(ObjectKind::slot), 2);
  EXPECT_EQ(static_cast<int>(ObjectKind::task_queue), 3);
  EXPECT_EQ(static_cast<int>(ObjectKind::barrier), 4);
  EXPECT_EQ(static_cast<int>(ObjectKind::board), 5);
}

}  // namespace
}  // namespace heddle
